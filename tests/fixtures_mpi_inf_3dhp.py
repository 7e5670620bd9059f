"""A tiny MPI-INF-3DHP in the formats that people have: as released, and P-STMO's archives of it.

What is irregular is here: cells of 14 cameras of which eight are used, 28 joints in train files and 17 in test files,
MATLAB files of two versions, the test set two folders deeper, images of another size in TS5 and TS6, valid frames
that do not follow one another, activities that change within a sequence, two frame rates, and float64 throughout.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from synthetic_walker import walk_m

from pipeline.geometry import Camera, camera_from_world_looking_at, project
from pipeline.mpi_inf_3dhp_files import ALL_CAMERAS, CAMERAS, RELEVANT, TEST_TAKES, TRAIN_TAKES

TRAIN_FRAMES, TEST_FRAMES = 10, 14
UNIVERSAL_SCALE = 0.92  # of the poses about the pelvis
NAMES_28 = (
    "thorax", "neck", "thorax", "spine", "pelvis", "neck", "head", "head_top", "LShoulder", "LShoulder", "LElbow",
    "LWrist", "LWrist", "RShoulder", "RShoulder", "RElbow", "RWrist", "RWrist", "LHip", "LKnee", "LFoot", "LFoot",
    "LFoot", "RHip", "RKnee", "RFoot", "RFoot", "RFoot",
)  # fmt: skip


def camera(number: int, *, size_px: tuple[int, int] = (2048, 2048)) -> Camera:
    """The camera of that number, on a circle of 4 m; focal length and centre as its calibration file says."""
    angle = 0.7 * number
    position_m = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.3])
    width_px, height_px = size_px
    return Camera(
        str(number),
        width_px,
        height_px,
        focal_px=(1490.0 + number if width_px == 2048 else 1000.0,) * 2,
        centre_px=(width_px / 2 + number, height_px / 2),
        camera_from_world=camera_from_world_looking_at(position_m, np.array([0.0, 0.0, 1.0])),
    )


def seen(frames: int, *, phase: float, by: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """28 joints: pixels (F 28 2), and in the camera frame in mm (F 28 3) in true size and scaled."""
    points = walk_m(frames, rate_hz=25.0, phase=phase)
    joints_world_m = np.stack([points[name] for name in NAMES_28], axis=1)
    joints_m = by.camera_from_world.apply(joints_world_m)
    pelvis_m = joints_m[:, 4:5]
    return project(joints_m, by), 1000 * joints_m, 1000 * (pelvis_m + UNIVERSAL_SCALE * (joints_m - pelvis_m))


def valid_frames(take: str) -> np.ndarray:
    """Every third frame, from another one on in each sequence."""
    return ((np.arange(TEST_FRAMES) + int(take[2])) % 3 == 0).astype(np.uint8)


def activity(take: str) -> np.ndarray:
    """Three stretches; frames that are not valid may have none."""
    number = int(take[2])
    stretches = [number, number % 7 + 1, (number + 2) % 7 + 1]
    result = np.repeat(stretches, [5, 5, TEST_FRAMES - 10])
    result[0] = result[0] if valid_frames(take)[0] else 0
    return result


def write_release(folder: Path) -> None:
    """S?/Seq?/annot.mat with camera.calibration, and annot_data.mat of TS? where the owner's script leaves it."""
    for phase, take in enumerate(TRAIN_TAKES):
        target = folder / take.replace(" ", "/")
        target.mkdir(parents=True)
        cells = {name: np.empty((ALL_CAMERAS, 1), dtype=object) for name in ("annot2", "annot3", "univ_annot3")}
        for number in range(ALL_CAMERAS):
            for cell, joints in zip(cells.values(), seen(TRAIN_FRAMES, phase=phase, by=camera(number)), strict=True):
                cell[number, 0] = joints.reshape(TRAIN_FRAMES, -1)
        others = {"cameras": np.arange(ALL_CAMERAS, dtype=np.uint8)[None], "frames": np.arange(TRAIN_FRAMES)[:, None]}
        scipy.io.savemat(target / "annot.mat", cells | others)
        (target / "camera.calibration").write_text(calibration(), encoding="utf-8")
    for phase, (take, (_, _, size_px)) in enumerate(TEST_TAKES.items()):
        target = folder / "mpi_inf_3dhp_test_set" / "mpi_inf_3dhp_test_set" / take
        target.mkdir(parents=True)
        pixels, true_mm, universal_mm = seen(TEST_FRAMES, phase=20.5 + phase, by=camera(0, size_px=size_px))
        with h5py.File(target / "annot_data.mat", "w", userblock_size=512) as file:
            for name, joints in {"annot2": pixels, "annot3": true_mm, "univ_annot3": universal_mm}.items():
                file[name] = joints[:, None, list(RELEVANT)]
            file["valid_frame"] = valid_frames(take)[:, None]
            file["activity_annotation"] = activity(take)[:, None].astype(np.float64)
            file["bb_crop"] = np.zeros((TEST_FRAMES, 34))
        with (target / "annot_data.mat").open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def calibration() -> str:
    """camera.calibration of all cameras, in mm."""
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number in range(ALL_CAMERAS):
        own = camera(number)
        assert own.focal_px is not None
        assert own.centre_px is not None
        pose = own.camera_from_world
        extrinsic = np.eye(4)
        extrinsic[:3] = np.column_stack([pose.rotation, 1000 * pose.translation_m])
        intrinsic = np.eye(4)
        intrinsic[0, 0], intrinsic[1, 1] = own.focal_px
        intrinsic[:2, 2] = own.centre_px
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            "  size        2048 2048",
            "  animated    0",
            "  intrinsic   " + " ".join(f"{value:.7g}" for value in intrinsic.ravel()) + " ",
            "  extrinsic   " + " ".join(f"{value:.7g}" for value in extrinsic.ravel()) + " ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"


def train_archive() -> dict:
    """What data_train_3dhp.npz holds."""
    data: dict = {}
    for phase, (take, (_, rate_hz)) in enumerate(TRAIN_TAKES.items()):
        cameras = {}
        for number in CAMERAS:
            pixels, _, universal_mm = seen(TRAIN_FRAMES, phase=phase, by=camera(number))
            cameras[str(number)] = {"data_2d": pixels[:, list(RELEVANT)], "data_3d": universal_mm[:, list(RELEVANT)]}
        data[take] = [cameras, rate_hz]
    return data


def evaluation_archive() -> dict:
    """What data_test_3dhp.npz holds."""
    data: dict = {}
    for phase, (take, (_, _, size_px)) in enumerate(TEST_TAKES.items()):
        pixels, _, universal_mm = seen(TEST_FRAMES, phase=20.5 + phase, by=camera(0, size_px=size_px))
        data[take] = {
            "data_2d": pixels[:, list(RELEVANT)],
            "data_3d": universal_mm[:, list(RELEVANT)],
            "valid": valid_frames(take).astype(np.float64),
        }
    return data


def write_archives(folder: Path) -> None:
    """data_train_3dhp.npz and data_test_3dhp.npz, the same sequences with the scaled poses."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "data_train_3dhp.npz", data=train_archive())  # type: ignore[arg-type]
    np.savez_compressed(folder / "data_test_3dhp.npz", data=evaluation_archive())  # type: ignore[arg-type]
