"""How well lifting does on held-out clips of the embedded data: poses, the root's path, the upright fit, each layout.

Writes reports/benchmarks/lift_accuracy.json and prints it: `python -m experiments.speed.lift_accuracy`. Every fifth
test clip of the row of the shipped checkpoint is lifted as a user would: keypoints with confidence, the lens known or
assumed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.lifter import DEPTH_SIGMA_S, SHIPPED, Lifter
from pipeline.lift.people import Lifted, LiftOptions, Recording, Track
from pipeline.lift.root_path import fit_root_path
from pipeline.lift.smoothing import FILTERS
from pipeline.poses.clips import Clip, read_split
from pipeline.poses.frames import interpolate
from pipeline.poses.geometry import project, rays_from_pixels
from pipeline.poses.skeleton import H36M_17
from pipeline.system.files import write_json

PREPARED = Path("data/prepared") / SHIPPED.parent.name
REPORT = Path("reports/benchmarks/lift_accuracy.json")
SHORTEST, EACH, FIRST = (
    41,
    5,
    1,
)  # the constants of pipeline.lift.upright were chosen on every fifth clip from another first
RATES_HZ = (15.0, 25.0, 60.0)
LATENCIES = (0, 1, 3, 6, 13)
STREAMED_FRAMES = 150
EAR_M, NOSE_M = 0.075, 0.1  # from the middle between the ears: half a head's width, and the nose before it
SAME = {"Pelvis": "Hip", "MidHip": "Hip", "Neck": "Thorax", "HeadTop": "Head"}  # names of other layouts
ARRAYS = ("pixels", "confidence", "joints_camera_m")


def recording_of(clip: Clip, *, layout: str = "h36m17", known_lens: bool = True, rate_hz: float = 30.0) -> Recording:
    """The clip as a keypoint file would hold it; points of `layout` that are not of its body are not seen."""
    points = points_of(clip)
    unseen = np.tile([np.nan, np.nan, 0.0], (len(clip), 1))
    chosen = np.stack([points.get(name, unseen) for name in LAYOUTS[layout].joints], axis=1)
    if rate_hz != 30.0:
        chosen = interpolate(chosen, np.arange(int((len(clip) - 1) * rate_hz / 30) + 1) * 30 / rate_hz)
    track = Track("0", layout, 0, chosen[..., :2], chosen[..., 2])
    size = (clip.camera.width_px, clip.camera.height_px)
    return Recording(clip.name, len(chosen), (track,), rate_hz, size, clip.camera if known_lens else None)


def points_of(clip: Clip) -> dict[str, Float[np.ndarray, "F 3"]]:
    """Pixels and confidence by the name that layouts have for the point of the body.

    The capture has no face: nose and ears are placed on its head by the proportions of pipeline.lift.layouts, with
    the error and confidence of the detected head.
    """
    assert clip.confidence is not None
    keypoints = np.concatenate([clip.pixels, clip.confidence[..., None]], axis=-1).astype(float)
    points = dict(zip(H36M_17.joints, np.moveaxis(keypoints, 1, 0), strict=True))
    points |= {name: points[own] for name, own in SAME.items()}
    joints_m = dict(zip(H36M_17.joints, np.moveaxis(clip.joints_camera_m.astype(float), 1, 0), strict=True))
    across = joints_m["LShoulder"] - joints_m["RShoulder"]
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    chest_m = (joints_m["LShoulder"] + joints_m["RShoulder"]) / 2
    between_ears_m = chest_m + (joints_m["Head"] - chest_m) / 1.2
    forward = np.cross(across, joints_m["Head"] - chest_m)
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    face_m = {"LEar": EAR_M * across, "REar": -EAR_M * across, "Nose": NOSE_M * forward}
    error_px = points["Head"][:, :2] - project(joints_m["Head"], clip.camera)
    for name, offset_m in face_m.items():
        pixels = project(between_ears_m + offset_m, clip.camera) + error_px
        points[name] = np.concatenate([pixels, points["Head"][:, 2:]], axis=-1)
    return points


def truth_m(clip: Clip) -> Float[np.ndarray, "F 17 3"]:
    """The true joints relative to the root."""
    return np.asarray(clip.joints_camera_m - clip.joints_camera_m[:, :1], dtype=float)


def pose_errors(lifted: list[Lifted], clips: list[Clip]) -> dict[str, float]:
    """Mean joint error, and that of joints' motion from frame to frame, in mm, over the frames of all clips."""
    off = [one.people[0].joints_camera_m - truth_m(clip) for one, clip in zip(lifted, clips, strict=True)]
    position = np.concatenate([np.linalg.norm(values, axis=-1).mean(1) for values in off])
    motion = np.concatenate([np.linalg.norm(np.diff(values, axis=0), axis=-1).mean(1) for values in off])
    return {"mpjpe_mm": mm(position.mean()), "mpjve_mm_per_frame": mm(motion.mean())}


def path_errors(lifted: list[Lifted], clips: list[Clip]) -> dict[str, float]:
    """Of the root's path in the camera frame."""
    paths = [(one.people[0].root_camera_m, clip.joints_camera_m[:, 0]) for one, clip in zip(lifted, clips, strict=True)]
    off_m = np.concatenate([found - true for found, true in paths])
    share = np.concatenate([np.abs(found[:, 2] / true[:, 2] - 1) for found, true in paths])
    motion_m = np.concatenate([np.linalg.norm(np.diff(found - true, axis=0), axis=1) for found, true in paths])
    return {
        "mean_error_mm": mm(np.linalg.norm(off_m, axis=1).mean()),
        "mean_error_across_mm": mm(np.linalg.norm(off_m[:, :2], axis=1).mean()),
        "mean_error_depth_mm": mm(np.abs(off_m[:, 2]).mean()),
        "median_depth_error_percent": round(float(100 * np.median(share)), 2),
        "motion_error_mm_per_frame": mm(motion_m.mean()),
    }


def without_depth_filter(lifted: Lifted) -> Lifted:
    """The same with the root's path as it was fitted, frame by frame."""
    person = lifted.people[0]
    rays = rays_from_pixels(person.pixels, lifted.camera)
    root_m = fit_root_path(person.joints_camera_m, rays, person.confidence)
    return replace(lifted, people=(replace(person, root_camera_m=root_m),))


def upright_errors(lifted: list[Lifted], clips: list[Clip]) -> dict[str, Any]:
    """Angle between the true up and the fitted, and between it and a level camera's, in degrees."""
    ups = [clip.camera.camera_from_world.rotation[:, 2] for clip in clips]
    fitted = [angle_deg(one.world_from_camera.rotation[2], up) for one, up in zip(lifted, ups, strict=True)]
    level = [angle_deg(np.array([0.0, -1.0, 0.0]), up) for up in ups]
    return {
        name: {"mean_deg": round(np.mean(v), 2), "median_deg": round(np.median(v), 2), "max_deg": round(np.max(v), 2)}
        for name, v in (("fitted", fitted), ("level_camera", level))
    }


def layout_differences(lifter: Lifter, clips: list[Clip], lifted: list[Lifted]) -> dict[str, dict[str, Any]]:
    """For each layout: mean distance to the poses lifted from Human3.6M's, over all joints, and the error to the truth.

    Points of the layout that the clips do not have and nothing is derived from (eyes, hands, toes) are not seen.
    """
    table = {}
    for layout in LAYOUTS:
        others = [lifter.lift(recording_of(clip, layout=layout)) for clip in clips]
        pairs = [
            (a.people[0].joints_camera_m, b.people[0].joints_camera_m) for a, b in zip(others, lifted, strict=True)
        ]
        distance = np.concatenate([np.linalg.norm(a - b, axis=-1) for a, b in pairs])
        names = set(LAYOUTS[layout].joints)
        table[layout] = {
            "from_h36m17_mm": mm(np.nanmean(distance)),
            "mpjpe_mm": pose_errors(others, clips)["mpjpe_mm"],
            "lifted_percent": round(float(100 * np.isfinite(distance).mean()), 1),
            "not_in_layout": [name for name in H36M_17.joints if name not in names],
        }
    return table


def streaming_errors(lifter: Lifter, clips: list[Clip]) -> dict[str, dict[str, float]]:
    """For each latency the mean joint error of streamed poses, beside that of the same frames lifted whole."""
    pieces = [replace(clip, **{n: getattr(clip, n)[:STREAMED_FRAMES] for n in ARRAYS}) for clip in clips]
    whole = pose_errors([lifter.lift(recording_of(piece)) for piece in pieces], pieces)["mpjpe_mm"]
    table = {"whole": {"mpjpe_mm": whole}}
    for latency in LATENCIES:
        errors = []
        for piece in pieces:
            size = (piece.camera.width_px, piece.camera.height_px)
            stream = lifter.stream(layout="h36m17", image_size=size, camera=piece.camera, latency=latency)
            track = recording_of(piece).tracks[0]
            frames = np.concatenate([track.pixels, track.confidence[..., None]], axis=-1)
            poses_m = [pose_m for frame in frames if (pose_m := stream.push(frame)) is not None] + stream.finish()
            errors.append(np.linalg.norm(np.array(poses_m) - truth_m(piece), axis=-1).mean(1))
        table[f"latency_{latency}"] = {"mpjpe_mm": mm(np.concatenate(errors).mean())}
    return table


def rate_errors(lifter: Lifter, clips: list[Clip]) -> dict[str, dict[str, float]]:
    """The mean joint error at other rates: keypoints and truth resampled, linear between frames."""
    table = {}
    for rate_hz in RATES_HZ:
        errors = []
        for clip in clips:
            poses_m = lifter.lift(recording_of(clip, rate_hz=rate_hz)).people[0].joints_camera_m
            true_m = interpolate(truth_m(clip), np.arange(len(poses_m)) * 30 / rate_hz)
            errors.append(np.linalg.norm(poses_m - true_m, axis=-1).mean(1))
        table[f"{rate_hz:g}_hz"] = {"mpjpe_mm": mm(np.concatenate(errors).mean())}
    return table


def angle_deg(one: Float[np.ndarray, "3"], other: Float[np.ndarray, "3"]) -> float:
    """Between two unit vectors."""
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def mm(metres: float) -> float:
    """Millimetres to a tenth."""
    return round(float(metres) * 1000, 1)


def main() -> None:
    clips = [clip for clip in read_split(PREPARED / "test") if len(clip) >= SHORTEST][FIRST::EACH]
    lifter = Lifter.load()
    known = [lifter.lift(recording_of(clip)) for clip in clips]
    assumed = [lifter.lift(recording_of(clip, known_lens=False)) for clip in clips]
    jumpy = [without_depth_filter(one) for one in known]
    some = clips[::4]
    result = {
        "how": "python -m experiments.speed.lift_accuracy; every fifth test clip of the row, simulated detector",
        "checkpoint": str(SHIPPED),
        "clips": len(clips),
        "frames": sum(map(len, clips)),
        "poses": {"known_lens": pose_errors(known, clips), "assumed_lens": pose_errors(assumed, clips)},
        "root_path": {
            "known_lens": path_errors(known, clips),
            "assumed_lens": path_errors(assumed, clips),
            f"known_lens_without_the_{DEPTH_SIGMA_S}_s_filter_of_depth": path_errors(jumpy, clips),
        },
        "upright": upright_errors(known, clips),
        "smoothing": {
            method: pose_errors([lifter.lift(recording_of(clip), LiftOptions(smooth=method)) for clip in clips], clips)
            for method in FILTERS
        },
        "layouts": layout_differences(lifter, clips, known),
        "streaming": streaming_errors(replace(lifter, stride=1), some),
        "rates": rate_errors(lifter, clips),
    }
    write_json(REPORT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
