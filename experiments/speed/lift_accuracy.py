"""How well lifting does on held-out clips of the embedded data: poses, the root's path, the upright fit, each layout.

Every fifth test clip of the row of the shipped checkpoint is lifted as a user would: keypoints with confidence, the
lens known or assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.speed.lift_speed import read_test_clips
from pipeline.lift.body.smoothing import FILTERS
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.lifter import DEPTH_SIGMA_S, SHIPPED, Lifter
from pipeline.lift.people import Lifted, LiftOptions, Recording, Track
from pipeline.lift.scene.root_path import fit_root_path
from pipeline.poses.clips import Clip
from pipeline.poses.frames import resample
from pipeline.poses.geometry import project, rays_from_pixels
from pipeline.poses.skeleton import H36M_17

SHORTEST_CLIP = 41  # frames
EVERY, FIRST = 5, 1
RATES_HZ = (15.0, 25.0, 60.0)
LATENCIES = (0, 1, 3, 6, 13)
STREAMED_FRAMES = 150
EAR_M, NOSE_M = 0.075, 0.1  # from the middle between the ears: half a head's width, and the nose before it
HEAD_BEYOND_EARS = 1.2  # the head joint lies so far from the chest, as a multiple of the ears' distance
SAME = {"Pelvis": "Hip", "MidHip": "Hip", "Neck": "Thorax", "HeadTop": "Head"}  # names of other layouts
Errors = dict[str, float]


def measure_lift_accuracy() -> dict[str, object]:
    """Returns the errors of lifting. Raises UserError if the row of the shipped checkpoint is not prepared."""
    clips = [clip for clip in read_test_clips() if len(clip) >= SHORTEST_CLIP][FIRST::EVERY]
    lifter = Lifter.load()
    known = lift_all(lifter, clips)
    assumed = lift_all(lifter, clips, known_lens=False)
    unfiltered = [without_depth_filter(lifted) for lifted in known]
    return {
        "how": "python -m experiments bench --only lift_accuracy; every fifth test clip of the row, simulated detector",
        "checkpoint": str(SHIPPED),
        "clips": len(clips),
        "frames": sum(map(len, clips)),
        "poses": {"known_lens": pose_errors(known, clips), "assumed_lens": pose_errors(assumed, clips)},
        "root_path": {
            "known_lens": path_errors(known, clips),
            "assumed_lens": path_errors(assumed, clips),
            f"known_lens_without_the_{DEPTH_SIGMA_S}_s_filter_of_depth": path_errors(unfiltered, clips),
        },
        "upright": upright_errors(known, clips),
        "smoothing": {method: pose_errors(lift_all(lifter, clips, smooth=method), clips) for method in FILTERS},
        "layouts": {layout: layout_errors(lifter, layout, clips, known) for layout in LAYOUTS},
        "streaming": streaming_errors(replace(lifter, stride=1), clips[::4]),  # a frame at a time is slow
        "rates": {f"{rate_hz:g}_hz": rate_errors(lifter, clips, rate_hz) for rate_hz in RATES_HZ},
    }


def lift_all(lifter: Lifter, clips: Sequence[Clip], *, smooth: str | None = None, **options: Any) -> list[Lifted]:
    """Returns the clips lifted; the options are those of `recording_of`."""
    return [lifter.lift(recording_of(clip, **options), LiftOptions(smooth=smooth)) for clip in clips]


def recording_of(clip: Clip, *, layout: str = "h36m17", known_lens: bool = True, rate_hz: float = 30.0) -> Recording:
    """Returns the clip as a keypoint file would hold it; points of `layout` that are not of its body are not seen."""
    points = layout_points(clip)
    unseen = np.tile([np.nan, np.nan, 0.0], (len(clip), 1))
    keypoints = np.stack([points.get(name, unseen) for name in LAYOUTS[layout].joints], axis=1)
    if rate_hz != 30.0:
        keypoints = resample(keypoints, rate_hz=30.0, wanted_hz=rate_hz)
    track = Track("0", layout, 0, keypoints[..., :2], keypoints[..., 2])
    return Recording(clip.name, len(keypoints), (track,), rate_hz, size_px(clip), clip.camera if known_lens else None)


def size_px(clip: Clip) -> tuple[int, int]:
    """Returns width and height of the clip's image."""
    return clip.camera.width_px, clip.camera.height_px


def layout_points(clip: Clip) -> dict[str, Float[np.ndarray, "F 3"]]:
    """Returns pixels and confidence by the name that layouts have for the point of the body.

    The capture has no face: nose and ears are placed on its head by the proportions of pipeline.lift.layouts, with
    the error and confidence of the detected head.
    """
    assert clip.confidence is not None
    keypoints = np.concatenate([clip.pixels, clip.confidence[..., None]], axis=-1).astype(float)
    points = dict(zip(H36M_17.joints, np.moveaxis(keypoints, 1, 0), strict=True))
    points |= {name: points[same] for name, same in SAME.items()}
    joints_m = dict(zip(H36M_17.joints, np.moveaxis(clip.joints_camera_m.astype(float), 1, 0), strict=True))
    across = unit(joints_m["LShoulder"] - joints_m["RShoulder"])
    chest_m = (joints_m["LShoulder"] + joints_m["RShoulder"]) / 2
    between_ears_m = chest_m + (joints_m["Head"] - chest_m) / HEAD_BEYOND_EARS
    forward = unit(np.cross(across, joints_m["Head"] - chest_m))
    error_px = points["Head"][:, :2] - project(joints_m["Head"], clip.camera)
    for name, offset_m in {"LEar": EAR_M * across, "REar": -EAR_M * across, "Nose": NOSE_M * forward}.items():
        pixels = project(between_ears_m + offset_m, clip.camera) + error_px
        points[name] = np.concatenate([pixels, points["Head"][:, 2:]], axis=-1)
    return points


def unit(vectors: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    """Returns vectors of length 1 in the same directions."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def true_pose_m(clip: Clip) -> Float[np.ndarray, "F 17 3"]:
    """Returns the true joints relative to the root."""
    return np.asarray(clip.joints_camera_m - clip.joints_camera_m[:, :1], dtype=float)


def pose_errors(lifted: Sequence[Lifted], clips: Sequence[Clip]) -> Errors:
    """Returns the mean error of joints and of their motion from frame to frame, over the frames of all clips."""
    off_m = [one.people[0].joints_camera_m - true_pose_m(clip) for one, clip in zip(lifted, clips, strict=True)]
    return {
        "mpjpe_mm": mean_length_mm(off_m),
        "mpjve_mm_per_frame": mean_length_mm([np.diff(values_m, axis=0) for values_m in off_m]),
    }


def path_errors(lifted: Sequence[Lifted], clips: Sequence[Clip]) -> Errors:
    """Returns the mean errors of the root's path in the camera frame."""
    pairs = [(one.people[0].root_camera_m, clip.joints_camera_m[:, 0]) for one, clip in zip(lifted, clips, strict=True)]
    off_m = [found_m - true_m for found_m, true_m in pairs]
    share = np.concatenate([np.abs(found_m[:, 2] / true_m[:, 2] - 1) for found_m, true_m in pairs])
    return {
        "mean_error_mm": mean_length_mm(off_m),
        "mean_error_across_mm": mean_length_mm([values_m[:, :2] for values_m in off_m]),
        "mean_error_depth_mm": mean_length_mm([values_m[:, 2:] for values_m in off_m]),
        "median_depth_error_percent": round(float(100 * np.median(share)), 2),
        "motion_error_mm_per_frame": mean_length_mm([np.diff(values_m, axis=0) for values_m in off_m]),
    }


def mean_length_mm(vectors_m: Sequence[Float[np.ndarray, "_F *_J _C"]]) -> float:
    """Returns the mean length of the vectors of all clips, to a tenth of a millimetre."""
    return round(1000 * float(np.concatenate([np.linalg.norm(v, axis=-1).ravel() for v in vectors_m]).mean()), 1)


def without_depth_filter(lifted: Lifted) -> Lifted:
    """Returns the same with the root's path as it was fitted, frame by frame."""
    person = lifted.people[0]
    rays = rays_from_pixels(person.pixels, lifted.camera)
    root_m = fit_root_path(person.joints_camera_m, rays, person.confidence)
    return replace(lifted, people=(replace(person, root_camera_m=root_m),))


def upright_errors(lifted: Sequence[Lifted], clips: Sequence[Clip]) -> dict[str, Errors]:
    """Returns the angle between the true up and the fitted, and between it and a level camera's, in degrees."""
    up = np.stack([clip.camera.camera_from_world.rotation[:, 2] for clip in clips])
    candidates = {"fitted": [one.world_from_camera.rotation[2] for one in lifted], "level_camera": [0.0, -1.0, 0.0]}
    errors = {}
    for name, found in candidates.items():
        angles_deg = np.degrees(np.arccos(np.clip((np.asarray(found) * up).sum(-1), -1, 1)))
        statistics = {"mean_deg": np.mean(angles_deg), "median_deg": np.median(angles_deg), "max_deg": angles_deg.max()}
        errors[name] = {key: round(float(angle_deg), 2) for key, angle_deg in statistics.items()}
    return errors


def layout_errors(lifter: Lifter, layout: str, clips: Sequence[Clip], lifted: Sequence[Lifted]) -> Errors:
    """Returns the mean distance to the poses lifted from Human3.6M's layout, over all joints, and the error.

    Points of the layout that the clips do not have and nothing is derived from (eyes, hands, toes) are not seen.
    """
    others = lift_all(lifter, clips, layout=layout)
    pairs = zip(others, lifted, strict=True)
    off_m = [other.people[0].joints_camera_m - one.people[0].joints_camera_m for other, one in pairs]
    return {"from_h36m17_mm": mean_length_mm(off_m), "mpjpe_mm": pose_errors(others, clips)["mpjpe_mm"]}


def streaming_errors(lifter: Lifter, clips: Sequence[Clip]) -> dict[str, Errors]:
    """Returns for each latency the mean error of streamed poses, beside that of the same frames lifted whole."""
    arrays = ("pixels", "confidence", "joints_camera_m")
    starts = [replace(clip, **{name: getattr(clip, name)[:STREAMED_FRAMES] for name in arrays}) for clip in clips]
    errors = {"whole": {"mpjpe_mm": pose_errors(lift_all(lifter, starts), starts)["mpjpe_mm"]}}
    for latency in LATENCIES:
        off_m = [stream_clip(lifter, clip, latency) - true_pose_m(clip) for clip in starts]
        errors[f"latency_{latency}"] = {"mpjpe_mm": mean_length_mm(off_m)}
    return errors


def stream_clip(lifter: Lifter, clip: Clip, latency: int) -> Float[np.ndarray, "F 17 3"]:
    """Returns the poses of the clip lifted frame by frame."""
    stream = lifter.stream(layout="h36m17", image_size=size_px(clip), camera=clip.camera, latency=latency)
    (track,) = recording_of(clip).tracks
    frames = np.concatenate([track.pixels, track.confidence[..., None]], axis=-1)
    return np.array([pose_m for frame in frames if (pose_m := stream.push(frame)) is not None] + stream.finish())


def rate_errors(lifter: Lifter, clips: Sequence[Clip], rate_hz: float) -> Errors:
    """Returns the mean error at another rate: keypoints and truth resampled, linear between frames."""
    off_m = []
    for clip, lifted in zip(clips, lift_all(lifter, clips, rate_hz=rate_hz), strict=True):
        poses_m = lifted.people[0].joints_camera_m
        off_m.append(poses_m - resample(true_pose_m(clip), rate_hz=30.0, wanted_hz=rate_hz))
    return {"mpjpe_mm": mean_length_mm(off_m)}
