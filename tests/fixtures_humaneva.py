"""A tiny HumanEva-I in the formats that people have: VideoPose3D's archives, and converted_15j/ of their MATLAB script.

All that is irregular in them is here: chunk numbers with gaps, a recording that begins invalid, a chunk of one frame,
keypoints without poses, unlabelled stretches, subject S4, cameras without video, and no ThrowCatch of S3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
from synthetic_walker import walk_m

from pipeline.geometry import Camera, project
from pipeline.humaneva_files import NOT_RELEASED, RECORDINGS
from pipeline.sources.humaneva import cameras_of

RATE_HZ = 60.0
JOINTS = (
    "pelvis", "thorax", "LShoulder", "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist", "LHip", "LKnee", "LFoot",
    "RHip", "RKnee", "RFoot", "head",
)  # fmt: skip
# Lengths of the runs of each recording, invalid ones negative. Validate lacks chunk 0 of Jog, Box ends with one frame.
RUNS = {"Walking": (12, -2, 9), "Jog": (-3, 10), "ThrowCatch": (4,), "Gestures": (5, -1, 4, -1, 3), "Box": (8, -1, 1)}
COCO_FROM = (
    "head", "head", "head", "head", "head", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip",
    "RHip", "LKnee", "RKnee", "LFoot", "RFoot",
)  # fmt: skip
GT_METADATA = {
    "layout_name": "humaneva15",
    "num_joints": 15,
    "keypoints_symmetry": [[2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13]],
}
COCO_METADATA = {
    "layout_name": "coco",
    "num_joints": 17,
    "keypoints_symmetry": [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]],
}


def lens(camera: Camera) -> Camera:
    """The camera with a lens, which HumanEva's archives do not have: something must have taken the pictures."""
    return Camera(
        camera.name,
        640,
        480,
        focal_px=(430.0, 430.0),
        centre_px=(320.0, 240.0),
        camera_from_world=camera.camera_from_world,
    )


def recordings(
    *, seed: int = 0, runs_of: dict[tuple[str, str], tuple[int, ...]] | None = None
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Of every recording and action: poses (T 15 3) in metres, their pixels (3 T 15 2), detections (3 T 17 2).

    Poses and pixels are NaN in invalid runs; the detector saw these frames too. `runs_of` gives single recordings and
    actions other runs.
    """
    random = np.random.default_rng(seed)
    result: dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for recording in RECORDINGS:
        subject = recording.split("/")[1]
        result[recording] = {}
        for action, runs in RUNS.items():
            if (subject, action) in NOT_RELEASED:
                continue
            runs = (runs_of or {}).get((recording, action), runs)
            points = walk_m(sum(map(abs, runs)), rate_hz=RATE_HZ, phase=random.uniform(0, 6))
            joints_m = np.stack([points[name] for name in JOINTS], axis=1)
            coco_m = np.stack([points[name] for name in COCO_FROM], axis=1)
            cameras = [lens(camera) for camera in cameras_of(subject)]
            pixels = np.stack([project(c.camera_from_world.apply(joints_m), c) for c in cameras])
            detected = np.stack([project(c.camera_from_world.apply(coco_m), c) for c in cameras])
            detected += random.normal(scale=3.0, size=detected.shape)
            invalid = np.repeat([length < 0 for length in runs], np.abs(runs))
            joints_m[invalid, 3] = np.nan  # one marker was lost
            pixels[:, invalid, 3] = np.nan
            result[recording][action] = (joints_m, pixels, detected)
    return result


def write_archives(folder: Path) -> None:
    """data_3d_humaneva15.npz with exact and detected keypoints beside it."""
    poses: dict = {recording: {} for recording in RECORDINGS}
    exact: dict = {recording: {} for recording in RECORDINGS}
    detected: dict = {recording: {} for recording in RECORDINGS}
    for recording, actions in recordings().items():
        for action, (joints_m, pixels, seen) in actions.items():
            start = 0
            for number, length in enumerate(RUNS[action]):
                part, chunk = slice(start, start + abs(length)), f"{action} 1 chunk{number}"
                start += abs(length)
                if length < 0:
                    unlabelled = detected.setdefault(f"Unlabeled/{recording}", {})
                    unlabelled[chunk] = list(seen[:, part].astype(np.float32))
                    continue
                joints_mm = (1000 * joints_m[part]).astype(np.float32)
                poses[recording][chunk] = joints_mm / 1000
                exact[recording][chunk] = list(pixels[:, part].astype(np.float32))
                detected[recording][chunk] = list(seen[:, part].astype(np.float32))
    # Seen in public archives: keypoints of a chunk whose poses are not there (which crashed the code they came with).
    detected["Train/S1"]["Box 1 chunk4"] = [array.copy() for array in detected["Train/S1"]["Box 1 chunk0"]]
    some = detected["Train/S1"]["Walking 1 chunk0"]
    detected["Unlabeled/S4"] = {"Walking 1": [some[0], None, some[2]]}
    detected["Unlabeled/S1"] = {"Walking 2": some}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "data_3d_humaneva15.npz", positions_3d=poses)  # type: ignore[arg-type]
    np.savez_compressed(folder / "data_2d_humaneva15_gt.npz", positions_2d=exact, metadata=GT_METADATA)  # type: ignore[arg-type]
    np.savez_compressed(
        folder / "data_2d_humaneva15_detectron_pt_coco.npz",
        positions_2d=detected,
        metadata=COCO_METADATA,  # type: ignore[arg-type]
    )


def write_converted(folder: Path, *, runs_of: dict[tuple[str, str], tuple[int, ...]] | None = None) -> None:
    """converted_15j/{Train,Validate}/S?/<Action>_1.mat, the same recordings; only exact keypoints."""
    for recording, actions in recordings(runs_of=runs_of).items():
        target = folder / "converted_15j" / recording
        target.mkdir(parents=True, exist_ok=True)
        for action, (joints_m, pixels, _) in actions.items():
            scipy.io.savemat(target / f"{action}_1.mat", {"poses_3d": 1000 * joints_m, "poses_2d": pixels})
