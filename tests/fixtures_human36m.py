"""A tiny Human3.6M in the formats that people have: the archives of VideoPose3D, the official CDF files, their
conversion to MATLAB's format, and the HDF5 tree of 3d-pose-baseline.

All that is irregular in them is here: numbers of takes that begin with none, 1 or 2, official names beside those of the
archives, the corrupt take, keypoints that go on after the motion, unlabelled subjects, underscores in file names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from cdflib import cdfwrite
from synthetic_walker import walk_m

from pipeline.geometry import project
from pipeline.human36m_cameras import cameras_of

RATE_HZ = 50.0
# Subject -> take as in the archives -> frames.
TAKES: dict[str, dict[str, int]] = {
    "S1": {"Walking": 24, "Walking 1": 20, "Photo": 18, "Sitting 2": 12},
    "S8": {"WalkDog 1": 21, "Photo 1": 15, "SittingDown": 16},
    "S9": {"Walking 1": 22, "SittingDown 1": 14, "Sitting": 15},
    "S11": {"Directions": 10, "Directions 1": 19, "Walking": 17, "WalkDog": 1},
}
CORRUPT = ("S11", "Directions")
TRAIN_FRAMES = 4 * (24 + 20 + 18 + 12 + 21 + 15 + 16)
TEST_FRAMES = 4 * (22 + 14 + 15 + 19 + 17 + 1)
OFFICIAL = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
H36M_FROM = (
    "pelvis", "RHip", "RKnee", "RFoot", "LHip", "LKnee", "LFoot", "spine", "thorax", "head", "head_top", "LShoulder",
    "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist",
)  # fmt: skip
COCO_FROM = (
    "head", "head", "head", "head", "head", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip",
    "RHip", "LKnee", "RKnee", "LFoot", "RFoot",
)  # fmt: skip
MPII_FROM = (
    "RFoot", "RKnee", "RHip", "LHip", "LKnee", "LFoot", "pelvis", "spine", "thorax", "head_top", "RWrist", "RElbow",
    "RShoulder", "LShoulder", "LElbow", "LWrist",
)  # fmt: skip
RAW_OF_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
RAW_PARENTS = (-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14, 12, 16, 17, 18, 19, 20, 19, 22, 12, 24, 25, 26,
               27, 28, 27, 30)  # fmt: skip
H36M_METADATA = {"num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}
COCO_METADATA = {
    "layout_name": "coco",
    "num_joints": 17,
    "keypoints_symmetry": [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]],
}
MPII_METADATA = {"num_joints": 16, "keypoints_symmetry": [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]]}


def points_m(subject: str, take: str, frames: int) -> dict[str, np.ndarray]:
    """A walk of its own for each take."""
    return walk_m(frames, rate_hz=RATE_HZ, phase=sum(map(ord, subject + take)) % 63 / 10)


def pose_mm(subject: str, take: str) -> np.ndarray:
    """(F 32 3) in the world, float32 as stored; the joints that nobody uses repeat their parents."""
    points = points_m(subject, take, TAKES[subject][take])
    pose = np.zeros((TAKES[subject][take], 32, 3))
    for joint, parent in enumerate(RAW_PARENTS):
        known = H36M_FROM[RAW_OF_17.index(joint)] if joint in RAW_OF_17 else None
        pose[:, joint] = pose[:, parent] if known is None else 1000 * points[known]
    return pose.astype(np.float32)


def seen_px(
    subject: str, take: str, names: tuple[str, ...], *, noise_px: float = 3.0, more: int = 0
) -> list[np.ndarray]:
    """What a detector sees in the four cameras (F J 2), `more` frames beyond the motion's end."""
    points = points_m(subject, take, TAKES[subject][take] + more)
    joints_m = np.stack([points[name] for name in names], axis=1)
    random = np.random.default_rng(len(names) + TAKES[subject][take])
    seen = []
    for camera in cameras_of(subject):
        pixels = project(camera.camera_from_world.apply(joints_m), camera)
        seen.append((pixels + random.normal(scale=noise_px, size=pixels.shape)).astype(np.float32))
    return seen


def write_archives(folder: Path) -> None:
    """data_3d_h36m.npz with every kind of keypoints beside it; the corrupt take is in none of them."""
    folder.mkdir(parents=True, exist_ok=True)
    takes = {s: [take for take in own if (s, take) != CORRUPT] for s, own in TAKES.items()}
    poses = {s: {take: pose_mm(s, take) / 1000 for take in own} for s, own in takes.items()}
    _save(folder / "data_3d_h36m.npz", positions_3d=poses)
    exact = {s: {take: _exact_px(s, take) for take in own} for s, own in takes.items()}
    _save(folder / "data_2d_h36m_gt.npz", positions_2d=exact, metadata=H36M_METADATA)
    for name in ("cpn_ft_h36m_dbb", "detectron_ft_h36m"):
        seen: dict[str, Any] = {s: {take: seen_px(s, take, H36M_FROM) for take in own} for s, own in takes.items()}
        seen["S1"]["Walking"] = seen_px("S1", "Walking", H36M_FROM, more=2)
        for subject in ("S2", "S3", "S4"):
            seen[subject] = {"Walking": [array[:9] for array in seen["S1"]["Walking"]]}
        _save(folder / f"data_2d_h36m_{name}.npz", positions_2d=seen, metadata={"layout_name": "h36m", **H36M_METADATA})
    coco = {s: {take: seen_px(s, take, COCO_FROM) for take in own} for s, own in takes.items()}
    _save(folder / "data_2d_h36m_detectron_pt_coco.npz", positions_2d=coco, metadata=COCO_METADATA)
    mpii = {s: {take: seen_px(s, take, MPII_FROM) for take in own} for s, own in takes.items()}
    _save(folder / "data_2d_h36m_sh_pt_mpii.npz", positions_2d=mpii, metadata=MPII_METADATA)


def _exact_px(subject: str, take: str) -> list[np.ndarray]:
    """As the archives have them: all of it computed in float32."""
    pose_m = (pose_mm(subject, take) / 1000)[:, RAW_OF_17]
    seen = []
    for camera in cameras_of(subject):
        rotation = camera.camera_from_world.rotation.astype(np.float32)
        joints_m = pose_m @ rotation.T + camera.camera_from_world.translation_m.astype(np.float32)
        seen.append(project(joints_m, camera).astype(np.float32))
    return seen


def _save(path: Path, **content: Any) -> None:
    np.savez_compressed(path, **content)


def official_name(take: str) -> str:
    """The take as the dataset's own files are called."""
    action, _, number = take.partition(" ")
    return " ".join(part for part in (OFFICIAL.get(action, action), number) if part)


def write_cdf(folder: Path) -> None:
    """The official files: variable Pose (1 F 96), the corrupt take among them."""
    for subject, takes in TAKES.items():
        target = folder / subject / "MyPoseFeatures" / "D3_Positions"
        target.mkdir(parents=True, exist_ok=True)
        for take, frames in takes.items():
            cdf = cdfwrite.CDF(str(target / f"{official_name(take)}.cdf"))
            cdf.write_var(
                {
                    "Variable": "Pose",
                    "Data_Type": 44,  # CDF_FLOAT
                    "Num_Elements": 1,
                    "Rec_Vary": True,
                    "Dim_Sizes": [frames, 96],
                },
                var_data=pose_mm(subject, take).reshape(1, frames, 96),
            )
            cdf.close()


def write_cdf_mat(folder: Path) -> None:
    """What MATLAB makes of them: a cell `data` with (F, 96)."""
    for subject, takes in TAKES.items():
        target = folder / "pose" / subject / "MyPoseFeatures" / "D3_Positions"
        target.mkdir(parents=True, exist_ok=True)
        for take, frames in takes.items():
            cell = np.empty((1, 1), dtype=object)
            cell[0, 0] = pose_mm(subject, take).reshape(frames, 96)
            scipy.io.savemat(target / f"{official_name(take)}.cdf.mat", {"data": cell})


def write_h5(folder: Path) -> None:
    """The tree of 3d-pose-baseline: 3D_positions (96 F) and the hourglass network's `poses` (F 16 2) per camera."""
    for subject, takes in TAKES.items():
        target = folder / "h36m" / subject / "MyPoses" / "3D_positions"
        detected = folder / "h36m" / subject / "StackedHourglass"
        target.mkdir(parents=True, exist_ok=True)
        detected.mkdir(parents=True, exist_ok=True)
        for take, frames in takes.items():
            with h5py.File(target / f"{take}.h5", "w") as file:
                file["3D_positions"] = pose_mm(subject, take).reshape(frames, 96).T
            seen = seen_px(subject, take, MPII_FROM)
            for camera, pixels in zip(cameras_of(subject), seen, strict=True):
                if (subject, take) == CORRUPT and camera.name == "54138969":
                    continue  # 119 files instead of 120
                with h5py.File(detected / f"{take.replace(' ', '_')}.{camera.name}.h5", "w") as file:
                    file["poses"] = pixels
