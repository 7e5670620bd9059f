"""Reads the files in which people have Human3.6M (Ionescu et al. 2014), and writes VideoPose3D's archives of them.

Poses come from the first of these that is there: data_3d_h36m.npz (Pavllo et al. 2019); the official CDF files or their
conversion to .cdf.mat, S*/MyPoseFeatures/D3_Positions/; the tree of Martinez et al. 2017, S*/MyPoses/3D_positions/*.h5.
Keypoints come from data_2d_h36m_<keypoints>.npz or from the stacked hourglass folders of that tree. The folders S* may
lie in data/raw/h36m itself or in its folder h36m or pose. The numbers in the names of takes differ between subjects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float32, Float64

from pipeline.mocap.lenses import LENSES
from pipeline.poses.geometry import Camera, project
from pipeline.poses.skeleton import COCO_17, H36M_17, MPII_16, Skeleton
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed.raw_arrays import numbers, read_cdf, read_hdf5_mat, read_mat
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder

log = logging.getLogger(__name__)

ARCHIVE, KEYPOINT_PREFIX = "data_3d_h36m.npz", "data_2d_h36m_"
LABELLED = tuple(licensed.PLACEMENTS["h36m"])  # subjects whose motion and cameras were published
UNLABELLED = ("S2", "S3", "S4")  # subjects of whom only the videos were published
CAMERAS = tuple(lens.name for lens in LENSES)
ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether",
)  # fmt: skip
RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # official name -> the one in all archives
KEPT_JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)  # those of H36M_17 among the 32
CORRUPT = ("S11", "Directions")  # nobody uses this take because its video is damaged
LAYOUTS = {"h36m": H36M_17, "coco": COCO_17, "mpii": MPII_16}
HOURGLASS = {"sh_pt_mpii": "StackedHourglass", "sh_ft_h36m": "StackedHourglassFineTuned240"}
ROOM_M = 20.0  # no joint can be further from the world's origin, which lies in the middle of a room; finds millimetres

Poses = dict[str, dict[str, Float32[np.ndarray, "F 32 3"]]]  # subject -> take ("Walking 1") -> metres in the world


@dataclass(frozen=True)
class Keypoints:
    """2D keypoints as a file has them; `takes` maps subject -> take -> one array for each camera, not yet checked."""

    path: Path
    skeleton: Skeleton
    takes: dict[str, dict[str, Any]]

    def pop(self, subject: str, take: str) -> licensed.CameraKeypoints:
        """Returns the keypoints of a take in each camera and forgets them, so that all are never in memory twice.

        Raises UserError if the take is missing, or does not have an array of finite numbers for each camera.
        """
        where = f"{self.path}: {subject} {take}"
        if take not in self.takes.get(subject, {}):
            raise UserError(f"{where}: expected keypoints since there are poses, found no such take")
        shape = (None, len(self.skeleton.joints), 2)
        arrays = licensed.arrays_by_camera(self.takes[subject].pop(take), CAMERAS, where=where)
        return [numbers(array, shape, where=camera) for camera, array in arrays]


def read_poses(folder: Path) -> Poses:
    """Reads every take of every labelled subject from whatever format is there, the corrupt take included.

    Raises UserError if no poses are there, a file is damaged or of another dataset, an action is unknown, or a take is
    not of 32 joints with finite numbers in metres (in official files: millimetres).
    """
    if (folder / ARCHIVE).exists():
        return _read_pose_archive(folder / ARCHIVE)
    for kind, (pattern, read) in POSE_FILES.items():
        if paths := find_files(folder, pattern):
            log.info("reading the poses of %d takes from %s", len(paths), kind)
            return _read_pose_files(paths, read)
    patterns = ", ".join([ARCHIVE, *(pattern for pattern, _ in POSE_FILES.values())])
    raise UserError(f"{folder}: expected the poses of Human3.6M as one of {patterns}; found none of them")


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Returns the files of a pattern that begins with the subject's folder, sorted."""
    for root in (folder, folder / "h36m", folder / "pose"):
        if found := sorted(root.glob(pattern)):
            return found
    return []


def _read_pose_archive(path: Path) -> Poses:
    takes = licensed.takes_of_archive(read_object_npz(path), "positions_3d", path=path)
    licensed.check_known(takes, LABELLED, where=str(path), expected="subjects of")
    return {
        subject: {name: _checked_pose(pose, name, where=f"{path}: {subject} {name}") for name, pose in poses.items()}
        for subject, poses in takes.items()
    }


def _read_pose_files(paths: list[Path], read: Callable[[Path], np.ndarray]) -> Poses:
    poses: Poses = {}
    for path in paths:
        subject = path.parents[2].name
        licensed.check_known([subject], LABELLED, where=str(path), expected="a folder of")
        take = take_name(path.name.split(".")[0])
        if take in poses.setdefault(subject, {}):
            raise UserError(f"{path}: expected one file for each take, found a second of '{take}'")
        poses[subject][take] = _checked_pose(read(path), take, where=str(path))
    return poses


def take_name(file_name: str) -> str:
    """Returns the name that a take has in the archives: "TakingPhoto 1" and "Photo_1" are "Photo 1"."""
    action, _, number = file_name.replace("_", " ").partition(" ")
    return " ".join(part for part in (RENAMED.get(action, action), number) if part)


def action_of(take: str) -> str:
    """Returns the action that a take shows: its name without the number."""
    return take.split(" ")[0]


def _checked_pose(pose: object, take: str, *, where: str) -> Float32[np.ndarray, "F 32 3"]:
    licensed.check_known([action_of(take)], ACTIONS, where=where, expected="an action of")
    joints_world_m = numbers(pose, (None, 32, 3), where=where)
    furthest_m = float(np.abs(joints_world_m).max())
    if furthest_m > ROOM_M:
        raise UserError(f"{where}: expected joints within {ROOM_M:g} m of the origin, found one at {furthest_m:.4g} m")
    return joints_world_m


def _read_cdf(path: Path) -> np.ndarray:
    return _joints_m(read_cdf(path, "Pose"), where=f"{path}: 'Pose'")


def _read_cdf_mat(path: Path) -> np.ndarray:
    cell = read_mat(path, ["data"])["data"]
    is_cell = isinstance(cell, np.ndarray) and cell.shape == (1, 1)
    return _joints_m(cell[0, 0] if is_cell else cell, where=f"{path}: 'data'")


def _joints_m(pose_mm: object, *, where: str) -> np.ndarray:
    """Returns rows of 96 numbers in millimetres, with other dimensions of size 1 around them, as (F 32 3) in metres."""
    if not isinstance(pose_mm, np.ndarray) or pose_mm.dtype.kind not in "fiu" or pose_mm.shape[-1:] != (96,):
        found = f"{pose_mm.dtype} {pose_mm.shape}" if isinstance(pose_mm, np.ndarray) else type(pose_mm).__name__
        raise UserError(f"{where}: expected rows of 96 numbers, found {found}")
    return rearrange(pose_mm, "... (j c) -> (...) j c", c=3) / 1000


def _read_h5(path: Path) -> np.ndarray:
    pose_mm = read_hdf5_mat(path, ["3D_positions"])["3D_positions"]
    if pose_mm.ndim != 2 or len(pose_mm) != 96:
        raise UserError(f"{path}: '3D_positions': expected 96 rows of numbers, found {pose_mm.shape}")
    return rearrange(pose_mm, "(j c) f -> f j c", c=3) / 1000


# Kind -> the pattern of its files and how one of them is read as (F 32 3) in metres in the world.
POSE_FILES: dict[str, tuple[str, Callable[[Path], np.ndarray]]] = {
    "CDF files": ("S*/MyPoseFeatures/D3_Positions/*.cdf", _read_cdf),
    "CDF files converted to MATLAB's": ("S*/MyPoseFeatures/D3_Positions/*.cdf.mat", _read_cdf_mat),
    "HDF5 files": ("S*/MyPoses/3D_positions/*.h5", _read_h5),
}


def read_keypoints(folder: Path, keypoints: str) -> Keypoints | None:
    """Reads the keypoints of that name from their archive or folder; returns None for "gt" where no file has them.

    Raises UserError if there are none of that name, a file is damaged or of another dataset, or its layout is unknown.
    """
    path = folder / f"{KEYPOINT_PREFIX}{keypoints}.npz"
    if path.exists():
        return _read_keypoint_archive(path)
    if keypoints in HOURGLASS and (paths := find_files(folder, f"S*/{HOURGLASS[keypoints]}/*.h5")):
        return _read_hourglass(paths)
    if keypoints == "gt":
        return None
    known = ", ".join(["gt", *licensed.archived_keypoints(folder, KEYPOINT_PREFIX)])
    raise UserError(f"{path}: expected keypoints, found no such file; there are {known}")


def known_keypoints(folder: Path) -> list[str]:
    """Returns the names of the keypoints that can be read from the folder; "gt" always can."""
    in_folders = [name for name, detector in HOURGLASS.items() if find_files(folder, f"S*/{detector}/*.h5")]
    return list(dict.fromkeys(["gt", *licensed.archived_keypoints(folder, KEYPOINT_PREFIX), *in_folders]))


def _read_keypoint_archive(path: Path) -> Keypoints:
    content = read_object_npz(path)
    takes = licensed.takes_of_archive(content, "positions_2d", path=path)
    licensed.check_known(takes, (*LABELLED, *UNLABELLED), where=str(path), expected="subjects of")
    return Keypoints(path, licensed.layout_of(content.get("metadata"), LAYOUTS, where=str(path)), takes)


def _read_hourglass(paths: list[Path]) -> Keypoints:
    """Reads files <action>_<number>.<camera>.h5 with `poses` (F 16 2), less those of the corrupt take.

    Of its four files one is missing in the published tree.
    """
    folder, takes = paths[0].parents[2], dict[str, dict[str, list[np.ndarray | None]]]()
    for path in paths:
        subject, (name, _, camera) = path.parents[1].name, path.stem.rpartition(".")
        if subject not in LABELLED or camera not in CAMERAS:
            found = f"subject '{subject}', camera '{camera}'"
            expected = f"subjects of {', '.join(LABELLED)} and cameras of {', '.join(CAMERAS)}"
            raise UserError(f"{path}: expected {expected}, found {found}")
        take = take_name(name)
        if (subject, take) != CORRUPT:
            arrays = takes.setdefault(subject, {}).setdefault(take, [None] * len(CAMERAS))
            arrays[CAMERAS.index(camera)] = read_hdf5_mat(path, ["poses"])["poses"]
    for subject in takes:
        for take, arrays in takes[subject].items():
            for camera, array in zip(CAMERAS, arrays, strict=True):
                if array is None:
                    raise UserError(f"{folder}: {subject} {take}: expected camera {camera}, found no file")
    return Keypoints(folder, MPII_16, takes)


def write_archives(folder: Path, out: Path, *, keypoints: list[str]) -> None:
    """Writes the poses in `folder` and keypoints of those names as data_3d_h36m.npz and data_2d_h36m_*.npz into `out`.

    The arrays are those that the readers above give, so that other people's code can run on them: the corrupt take is
    left out, "gt" is projected if no file has it, and keypoints longer than the motion stay as long as they are. Raises
    UserError as the readers do.
    """
    poses = {
        subject: {take: array for take, array in takes.items() if (subject, take) != CORRUPT}
        for subject, takes in read_poses(folder).items()
    }
    with new_folder(out) as partial:
        licensed.write_npz(partial / ARCHIVE, positions_3d=poses)
        for name in keypoints:
            keypoints_read = read_keypoints(folder, name)
            takes: dict[str, dict[str, licensed.CameraKeypoints]] = {subject: {} for subject in poses}
            for subject, take, joints_world_m in in_order(poses):
                takes[subject][take] = (
                    project_take(subject, joints_world_m)
                    if keypoints_read is None
                    else keypoints_read.pop(subject, take)
                )
            metadata = licensed.metadata_of(H36M_17 if keypoints_read is None else keypoints_read.skeleton, LAYOUTS)
            if name == "gt" and metadata["layout_name"] == "h36m":
                del metadata["layout_name"]  # VideoPose3D's archive of exact keypoints has none either
            licensed.write_npz(partial / f"{KEYPOINT_PREFIX}{name}.npz", positions_2d=takes, metadata=metadata)


def cameras_of(subject: str) -> tuple[Camera, ...]:
    """Returns the four cameras as they stood for `subject`, in the order of `CAMERAS`; positions in metres.

    Raises UserError for a subject whose cameras were not published.
    """
    return licensed.place_cameras("h36m", subject, LENSES)


def project_take(subject: str, joints_world_m: Float32[np.ndarray, "F 32 3"]) -> licensed.CameraKeypoints:
    """Returns where each of the subject's cameras sees the 17 joints, in pixels: the keypoints "gt"."""
    kept_m: Float64[np.ndarray, "F 17 3"] = joints_world_m[:, KEPT_JOINTS].astype(np.float64)
    cameras = cameras_of(subject)
    return [project(camera.camera_from_world.apply(kept_m), camera).astype(np.float32) for camera in cameras]


def in_order(poses: Poses) -> Iterator[tuple[str, str, Float32[np.ndarray, "F 32 3"]]]:
    """Yields subject, take and poses (metres in the world) in an order that does not depend on the format."""
    for subject in LABELLED:
        for take in sorted(poses.get(subject, {})):
            yield subject, take, poses[subject][take]
