"""The files in which people have Human3.6M (Ionescu et al. 2014): poses in four formats, keypoints in two, and back.

Poses, the first of these that is there: data_3d_h36m.npz (Pavllo et al. 2019); the official CDF files and their
conversion to .cdf.mat, S*/MyPoseFeatures/D3_Positions/; the tree of Martinez et al. 2017, S*/MyPoses/3D_positions/*.h5.
Keypoints: data_2d_h36m_<keypoints>.npz, or the stacked hourglass folders of that tree. The folders S* may lie in
data/raw/h36m itself or in a folder h36m or pose of it. Names of takes differ per subject and are never made up.
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

from pipeline.mocap.lenses import LENSES, PLACEMENTS, cameras_of
from pipeline.poses.geometry import Camera, project
from pipeline.poses.skeleton import COCO_17, H36M_17, MPII_16, Skeleton
from pipeline.prepare_data.raw_arrays import numbers, read_cdf, read_hdf5_mat, read_mat
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder

log = logging.getLogger(__name__)

ARCHIVE = "data_3d_h36m.npz"
LABELLED = tuple(PLACEMENTS)  # subjects with published motion and cameras
UNLABELLED = ("S2", "S3", "S4")  # of them only the videos were published
CAMERAS = tuple(lens.name for lens in LENSES)
ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether",
)  # fmt: skip
RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # official name -> the one in all archives
KEPT_JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)  # of 32: those of H36M_17
CORRUPT = ("S11", "Directions")  # its video is damaged, so that nobody uses it
LAYOUTS = {"h36m": H36M_17, "coco": COCO_17, "mpii": MPII_16}
HOURGLASS = {"sh_pt_mpii": "StackedHourglass", "sh_ft_h36m": "StackedHourglassFineTuned240"}
ROOM_M = 20.0  # no joint is further from the world's origin

Poses = dict[str, dict[str, Float32[np.ndarray, "F 32 3"]]]  # subject -> take ("Walking 1") -> metres in the world
Pixels = list[Float32[np.ndarray, "F J 2"]]  # one per camera, in the order of CAMERAS


@dataclass(frozen=True)
class Keypoints:
    """2D keypoints of every take and camera; `takes` maps subject -> take -> one array per camera."""

    path: Path
    skeleton: Skeleton
    takes: dict[str, dict[str, Any]]

    def pop(self, subject: str, take: str) -> Pixels:
        """The keypoints of one take, checked, which are then no longer held here.

        Raises UserError if the take is missing, or has not one array of finite numbers for each camera.
        """
        where = f"{self.path}: {subject} {take}"
        if take not in self.takes.get(subject, {}):
            raise UserError(f"{where}: expected keypoints since there are poses, found no such take")
        arrays = self.takes[subject].pop(take)
        if not isinstance(arrays, (list, np.ndarray)) or len(arrays) != len(CAMERAS):
            found = f"{len(arrays)}" if isinstance(arrays, (list, np.ndarray)) else type(arrays).__name__
            raise UserError(f"{where}: expected keypoints in {len(CAMERAS)} cameras, found {found}")
        shape = (None, len(self.skeleton.joints), 2)
        return [
            numbers(array, shape, where=f"{where}, camera {camera}")
            for array, camera in zip(arrays, CAMERAS, strict=True)
        ]


def read_poses(folder: Path) -> Poses:
    """Every take of every labelled subject in metres, whatever the format, the corrupt take included if it is there.

    Raises UserError if no poses are there, a file is damaged or of another dataset, an action is unknown, or a take is
    not of 32 joints with finite numbers in metres (in official files: millimetres).
    """
    for kind, (pattern, read) in POSE_FORMATS.items():
        if pattern == ARCHIVE and (folder / ARCHIVE).exists():
            return _read_pose_archive(folder / ARCHIVE)
        if paths := files(folder, pattern):
            log.info("reading the poses of %d takes from %s", len(paths), kind)
            return _read_pose_files(paths, read)
    patterns = ", ".join(pattern for pattern, _ in POSE_FORMATS.values())
    raise UserError(f"{folder}: expected the poses of Human3.6M as one of {patterns}; found none of them")


def files(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern that begins with the subject's folder, in a fixed order."""
    for root in (folder, folder / "h36m", folder / "pose"):
        if found := sorted(root.glob(pattern)):
            return found
    return []


def _read_pose_archive(path: Path) -> Poses:
    takes = _subjects(read_object_npz(path), "positions_3d", path)
    poses: Poses = {}
    for subject in takes:
        if subject not in LABELLED:
            raise UserError(f"{path}: expected subjects of {', '.join(LABELLED)}, found '{subject}'")
        for take, value in takes[subject].items():
            poses.setdefault(subject, {})[take] = _checked_pose(value, take, where=f"{path}: {subject} {take}")
    return poses


def _read_pose_files(paths: list[Path], read: Callable[[Path], Any]) -> Poses:
    poses: Poses = {}
    for path in paths:
        subject = path.parents[2].name
        if subject not in LABELLED:
            raise UserError(f"{path}: expected a folder of {', '.join(LABELLED)}, found '{subject}'")
        take = take_name(path.name.split(".")[0])
        if take in poses.setdefault(subject, {}):
            raise UserError(f"{path}: expected one file for each take, found a second of '{take}'")
        poses[subject][take] = _checked_pose(read(path), take, where=str(path))
    return poses


def take_name(file_name: str) -> str:
    """The name that a take has in the archives: "TakingPhoto 1" and "Photo_1" are "Photo 1"."""
    action, _, number = file_name.replace("_", " ").partition(" ")
    return " ".join(part for part in (RENAMED.get(action, action), number) if part)


def action_of(take: str) -> str:
    """The action that a take shows: its name without the number."""
    return take.split(" ")[0]


def _checked_pose(value: object, take: str, *, where: str) -> Float32[np.ndarray, "F 32 3"]:
    if action_of(take) not in ACTIONS:
        raise UserError(f"{where}: expected an action of {', '.join(ACTIONS)}, found '{action_of(take)}'")
    joints_world_m = numbers(value, (None, 32, 3), where=where)
    furthest_m = float(np.abs(joints_world_m).max())
    if furthest_m > ROOM_M:
        raise UserError(f"{where}: expected joints within {ROOM_M:g} m of the origin, found one at {furthest_m:.4g} m")
    return joints_world_m


def _read_cdf(path: Path) -> np.ndarray:
    pose_mm = read_cdf(path, "Pose")
    if pose_mm.ndim < 2 or pose_mm.shape[-1] != 96:
        raise UserError(f"{path}: 'Pose': expected rows of 96 numbers, found {pose_mm.shape}")
    return rearrange(pose_mm, "... (j c) -> (...) j c", c=3) / 1000


def _read_cdf_mat(path: Path) -> Any:
    cell = read_mat(path, ["data"])["data"]
    pose_mm = cell[0, 0] if isinstance(cell, np.ndarray) and cell.shape == (1, 1) else cell
    if not isinstance(pose_mm, np.ndarray) or pose_mm.dtype.kind not in "fiu" or pose_mm.shape[-1:] != (96,):
        found = f"{pose_mm.dtype} {pose_mm.shape}" if isinstance(pose_mm, np.ndarray) else type(pose_mm).__name__
        raise UserError(f"{path}: 'data': expected rows of 96 numbers, found {found}")
    return rearrange(pose_mm, "... (j c) -> (...) j c", c=3) / 1000


def _read_h5(path: Path) -> Any:
    pose_mm = read_hdf5_mat(path, ["3D_positions"])["3D_positions"]
    if pose_mm.ndim != 2 or len(pose_mm) != 96:
        raise UserError(f"{path}: '3D_positions': expected 96 rows of numbers, found {pose_mm.shape}")
    return rearrange(pose_mm, "(j c) f -> f j c", c=3) / 1000


POSE_FORMATS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "the archive": (ARCHIVE, _read_pose_archive),
    "CDF files": ("S*/MyPoseFeatures/D3_Positions/*.cdf", _read_cdf),
    "CDF files converted to MATLAB's": ("S*/MyPoseFeatures/D3_Positions/*.cdf.mat", _read_cdf_mat),
    "HDF5 files": ("S*/MyPoses/3D_positions/*.h5", _read_h5),
}


def read_keypoints(folder: Path, keypoints: str) -> Keypoints | None:
    """The keypoints of that name from their file or folder; None for "gt" where no file has them.

    Raises UserError if there are none of that name, a file is damaged or of another dataset, or its layout is unknown.
    """
    path = folder / f"data_2d_h36m_{keypoints}.npz"
    if path.exists():
        return _read_keypoint_archive(path)
    if keypoints in HOURGLASS and (paths := files(folder, f"S*/{HOURGLASS[keypoints]}/*.h5")):
        return _read_hourglass(paths)
    if keypoints == "gt":
        return None
    known = [found.stem.removeprefix("data_2d_h36m_") for found in sorted(folder.glob("data_2d_h36m_*.npz"))]
    raise UserError(f"{path}: expected keypoints, found no such file; there are {', '.join(['gt', *known])}")


def _read_keypoint_archive(path: Path) -> Keypoints:
    content = read_object_npz(path)
    takes = _subjects(content, "positions_2d", path)
    for subject in takes:
        if subject not in (*LABELLED, *UNLABELLED):
            raise UserError(f"{path}: expected subjects of {', '.join((*LABELLED, *UNLABELLED))}, found '{subject}'")
    return Keypoints(path, layout_of(content.get("metadata"), where=str(path)), takes)


def layout_of(metadata: object, *, where: str) -> Skeleton:
    """The layout that an archive's metadata mean by name, or, if they give none, by which joints are left and right.

    Raises UserError if it is unknown, or the name does not fit the rest.
    """
    if not isinstance(metadata, dict) or "num_joints" not in metadata or "keypoints_symmetry" not in metadata:
        raise UserError(f"{where}: 'metadata': expected num_joints and keypoints_symmetry, found {_some(metadata)}")
    try:
        left, right = (sorted(int(joint) for joint in side) for side in metadata["keypoints_symmetry"])
        joints = int(metadata["num_joints"])
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: 'keypoints_symmetry': expected two lists of joints, found {error}") from error
    name = metadata.get("layout_name")
    for known, skeleton in LAYOUTS.items():
        fits = (joints, left, right) == (len(skeleton.joints), sorted(skeleton.left), sorted(skeleton.right))
        if fits and name in (None, known):
            return skeleton
    found = f"{joints} joints, left {left}, right {right}" + ("" if name is None else f" called '{str(name)[:40]}'")
    raise UserError(f"{where}: expected the keypoint layout {', '.join(LAYOUTS)}, found {found}")


def _read_hourglass(paths: list[Path]) -> Keypoints:
    """Files <action>_<number>.<camera>.h5 with `poses` (F 16 2)."""
    takes: dict[str, dict[str, Any]] = {}
    for path in paths:
        subject, (name, _, camera) = path.parents[1].name, path.stem.rpartition(".")
        if subject not in LABELLED or camera not in CAMERAS:
            found = f"subject '{subject}', camera '{camera}'"
            expected = f"subjects of {', '.join(LABELLED)} and cameras of {', '.join(CAMERAS)}"
            raise UserError(f"{path}: expected {expected}, found {found}")
        take = take_name(name)
        if (subject, take) == CORRUPT:  # one of its four files is missing
            continue
        arrays = takes.setdefault(subject, {}).setdefault(take, [None] * len(CAMERAS))
        arrays[CAMERAS.index(camera)] = read_hdf5_mat(path, ["poses"])["poses"]
    for subject, own in takes.items():
        for take, arrays in own.items():
            for camera, array in zip(CAMERAS, arrays, strict=True):
                if array is None:
                    raise UserError(f"{paths[0].parents[2]}: {subject} {take}: expected camera {camera}, found no file")
    return Keypoints(paths[0].parents[2], MPII_16, takes)


def _subjects(content: dict[str, Any], key: str, path: Path) -> dict[str, dict[str, Any]]:
    takes = content.get(key)
    if not isinstance(takes, dict) or not all(isinstance(own, dict) and isinstance(s, str) for s, own in takes.items()):
        raise UserError(f"{path}: expected '{key}' by subject and take, found {', '.join(content)}")
    for subject, own in takes.items():
        for take in own:
            if not isinstance(take, str):
                raise UserError(f"{path}: {subject}: expected names of takes, found {take!r}")
    return takes


def _some(values: object) -> str:
    if isinstance(values, dict) and values:
        return ", ".join(str(key)[:30] for key in list(values)[:40])
    return "none"


def write_archives(folder: Path, out: Path, *, keypoints: list[str]) -> None:
    """Write the poses in `folder` and keypoints of those names as data_3d_h36m.npz and data_2d_h36m_*.npz into `out`.

    The arrays are those that the readers above give, so that other people's code can run on them: the corrupt take is
    left out, "gt" is projected if no file has it, and keypoints longer than the motion stay as long as they are. Raises
    UserError as the readers do.
    """
    poses = {
        subject: {take: array for take, array in own.items() if (subject, take) != CORRUPT}
        for subject, own in read_poses(folder).items()
    }
    with new_folder(out) as partial:
        np.savez_compressed(partial / ARCHIVE, positions_3d=poses)  # type: ignore[arg-type]
        for name in keypoints:
            seen = read_keypoints(folder, name)
            skeleton = H36M_17 if seen is None else seen.skeleton
            takes: dict[str, dict[str, Pixels]] = {subject: {} for subject in poses}
            for subject, take, joints_world_m in in_order(poses):
                takes[subject][take] = projected(subject, joints_world_m) if seen is None else seen.pop(subject, take)
            layout = next(layout for layout, known in LAYOUTS.items() if known is skeleton)
            metadata: dict[str, Any] = {} if layout == "h36m" and name == "gt" else {"layout_name": layout}
            metadata |= {
                "num_joints": len(skeleton.joints),
                "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)],
            }
            path = partial / f"data_2d_h36m_{name}.npz"
            np.savez_compressed(path, positions_2d=takes, metadata=metadata)  # type: ignore[arg-type]


def seen_by_cameras(
    subject: str, joints_world_m: Float32[np.ndarray, "F 32 3"]
) -> Iterator[tuple[Camera, Float64[np.ndarray, "F 17 3"]]]:
    """Each of the subject's cameras with the 17 joints in its frame."""
    kept_m = joints_world_m[:, KEPT_JOINTS].astype(np.float64)
    for camera in cameras_of(subject):
        yield camera, camera.camera_from_world.apply(kept_m)


def projected(subject: str, joints_world_m: Float32[np.ndarray, "F 32 3"]) -> Pixels:
    """Where the subject's cameras see the 17 joints, in pixels: the keypoints "gt"."""
    seen = seen_by_cameras(subject, joints_world_m)
    return [project(joints_camera_m, camera).astype(np.float32) for camera, joints_camera_m in seen]


def in_order(poses: Poses) -> Iterator[tuple[str, str, Float32[np.ndarray, "F 32 3"]]]:
    """Subject, take and poses in an order that does not depend on the format."""
    for subject in LABELLED:
        for take in sorted(poses.get(subject, {})):
            yield subject, take, poses[subject][take]
