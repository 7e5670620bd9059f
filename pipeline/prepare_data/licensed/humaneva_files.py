"""Reads HumanEva-I's files as poses and keypoints by recording and chunk, and writes VideoPose3D's archives of them.

The archives are data_3d_humaneva15.npz and data_2d_humaneva15_<keypoints>.npz. converted_15j/{Train,Validate}/S?/ is
what VideoPose3D's MATLAB script makes of the official release: <Action>_1.mat with `poses_3d` (T 15 3, mm, NaN where
the capture failed) and `poses_2d` (3 T 15 2, pixels). A chunk is a run of frames without NaN; runs with NaN are
numbered too, so the numbers have gaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pipeline.poses.frames import split_runs
from pipeline.poses.skeleton import COCO_17, H36M_17, HUMANEVA_15, Skeleton
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed.raw_arrays import numbers, numbers_or_nan, read_mat
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder

POSES, KEYPOINT_PREFIX, CONVERTED = "data_3d_humaneva15.npz", "data_2d_humaneva15_", "converted_15j"
ACTIONS = ("Walking", "Jog", "ThrowCatch", "Gestures", "Box")
SPLITS = {"Train": "train", "Validate": "test"}  # a part of the release -> the split that it is here
RECORDINGS = tuple(f"{part}/{subject}" for part in SPLITS for subject in ("S1", "S2", "S3"))
NOT_RELEASED = ("S3", "ThrowCatch")  # damaged
CHUNK = re.compile(rf"({'|'.join(ACTIONS)}) 1 chunk([0-9]+)")
LAYOUTS = {"humaneva15": HUMANEVA_15, "coco": COCO_17, "h36m": H36M_17}
CAMERAS = ("C1", "C2", "C3")

Poses = dict[str, dict[str, Float32[np.ndarray, "F 15 3"]]]  # "Train/S1" -> "Box 1 chunk0" -> metres in the world
Keypoints = dict[str, dict[str, licensed.CameraKeypoints]]  # also "Unlabeled/...": without poses


def read_files(folder: Path, keypoints: str) -> tuple[Poses, Keypoints, Skeleton]:
    """Reads poses and keypoints from the archives, or from converted_15j where no archive has them, and their layout.

    converted_15j has exact keypoints alone. Raises UserError if a file is missing, damaged or of another dataset.
    """
    archive, converted = folder / f"{KEYPOINT_PREFIX}{keypoints}.npz", folder / CONVERTED
    if (folder / POSES).is_file():
        poses = _read_poses(folder / POSES)
    elif converted.is_dir():
        poses, exact = _read_converted(converted)
        if keypoints == "gt" and not archive.is_file():
            return poses, exact, HUMANEVA_15
    else:
        raise UserError(f"{folder}: expected {POSES} or {CONVERTED}, found neither")
    if not archive.is_file():
        found = ", ".join(known_keypoints(folder)) or "none"
        raise UserError(f"{archive}: expected the keypoints '{keypoints}', found no such file (there are: {found})")
    return poses, *_read_keypoints(archive)


def known_keypoints(folder: Path) -> list[str]:
    """Returns the names of the keypoints that can be read from the folder."""
    converted = ["gt"] if not (folder / POSES).is_file() and (folder / CONVERTED).is_dir() else []
    return sorted({*licensed.archived_keypoints(folder, KEYPOINT_PREFIX), *converted})


def _read_poses(path: Path) -> Poses:
    chunks = licensed.takes_of_archive(read_object_npz(path), "positions_3d", path=path)
    if not set(RECORDINGS) <= set(chunks):
        found = ", ".join(map(str, chunks)) or "nothing (the conversion found no file)"
        raise UserError(f"{path}: expected the recordings {', '.join(RECORDINGS)}, found {found}")
    licensed.check_known(chunks, RECORDINGS, where=str(path), expected="the recordings")
    poses: Poses = {}
    for recording in RECORDINGS:
        _check_chunks(chunks[recording], where=f"{path}: {recording}")
        poses[recording] = {
            chunk: numbers(array, (None, 15, 3), where=f"{path}: {recording} {chunk}")
            for chunk, array in chunks[recording].items()
        }
    return poses


def _read_keypoints(path: Path) -> tuple[Keypoints, Skeleton]:
    content = read_object_npz(path)
    skeleton = licensed.layout_of(content.get("metadata"), LAYOUTS, where=str(path))
    joints = len(skeleton.joints)
    keypoints: Keypoints = {}
    for recording, chunks in licensed.takes_of_archive(content, "positions_2d", path=path).items():
        labelled = recording in RECORDINGS
        if labelled:
            _check_chunks(chunks, where=f"{path}: {recording}")
        elif not re.fullmatch(r"Unlabeled/((Train|Validate)/)?S[1-4]", str(recording)):
            licensed.check_known([recording], RECORDINGS, where=str(path), expected="the recordings")
        read = numbers if labelled else _unlabelled_keypoints
        keypoints[recording] = {
            chunk: [
                read(array, (None, joints, 2), where=where)
                for where, array in licensed.arrays_by_camera(arrays, CAMERAS, where=f"{path}: {recording} {chunk}")
            ]
            for chunk, arrays in chunks.items()
        }
    return keypoints, skeleton


def _unlabelled_keypoints(array: object, shape: tuple[None, int, int], *, where: str) -> Float32[np.ndarray, "F J 2"]:
    """Returns keypoints of which only the length matters; a camera without video may have None, or no frames."""
    if array is None or (isinstance(array, np.ndarray) and array.shape == (0, *shape[1:])):
        return np.zeros((0, *shape[1:]), dtype=np.float32)
    return numbers_or_nan(array, shape, where=where)


def _check_chunks(chunks: Sequence[str] | dict[str, object], *, where: str) -> None:
    for chunk in chunks:
        if not CHUNK.fullmatch(chunk):
            expected = f"chunks such as 'Walking 1 chunk0' of {', '.join(ACTIONS)}"
            raise UserError(f"{where}: expected {expected}, found '{chunk}'")


def _read_converted(folder: Path) -> tuple[Poses, Keypoints]:
    """Reads the chunks of converted_15j and names them as the archives do."""
    poses: Poses = {recording: {} for recording in RECORDINGS}
    keypoints: Keypoints = {recording: {} for recording in RECORDINGS}
    for recording in RECORDINGS:
        paths = sorted((folder / recording).glob("*.mat"))
        if not paths:
            raise UserError(f"{folder / recording}: expected one file per action, such as Walking_1.mat, found none")
        for path in paths:
            for chunk, joints_mm, pixels in _read_chunks(path):
                if np.isfinite(joints_mm).all():
                    poses[recording][chunk] = joints_mm / np.float32(1000)
                    keypoints[recording][chunk] = list(pixels)
                else:
                    keypoints.setdefault(f"Unlabeled/{recording}", {})[chunk] = list(pixels)
    return poses, keypoints


def _read_chunks(path: Path) -> Iterator[tuple[str, Float32[np.ndarray, "F 15 3"], Float32[np.ndarray, "3 F 15 2"]]]:
    """Yields the name, the joints in mm and the pixels in three cameras of each run of frames with or without NaN."""
    if path.stem not in {f"{action}_1" for action in ACTIONS}:
        raise UserError(f"{path}: expected trial 1 of {', '.join(ACTIONS)}, such as Walking_1.mat, found it")
    variables = read_mat(path, ("poses_3d", "poses_2d"))
    joints_mm = numbers_or_nan(variables["poses_3d"], (None, 15, 3), where=f"{path}: poses_3d")
    pixels = numbers_or_nan(variables["poses_2d"], (3, len(joints_mm), 15, 2), where=f"{path}: poses_2d")
    valid = np.isfinite(joints_mm).all((1, 2))
    differs = np.flatnonzero(valid != np.isfinite(pixels).all((0, 2, 3)))
    if len(differs):
        raise UserError(f"{path}: expected NaN in poses_3d and poses_2d alike, found one alone in frame {differs[0]}")
    for number, run in enumerate(split_runs(valid)):
        yield f"{path.stem.replace('_', ' ')} chunk{number}", joints_mm[run], pixels[:, run]


def write_archives(folder: Path, out: Path, *, keypoints: Sequence[str]) -> None:
    """Writes the poses and the keypoints of those names as archives into `out`, as other people's code reads them.

    Archives of exact keypoints have the frames with motion capture alone. Raises UserError as the readers do.
    """
    with new_folder(out) as partial:
        for name in keypoints:
            poses, pixels, skeleton = read_files(folder, name)
            chosen = {key: chunks for key, chunks in pixels.items() if key in RECORDINGS or name != "gt"}
            path = partial / f"{KEYPOINT_PREFIX}{name}.npz"
            licensed.write_npz(path, positions_2d=chosen, metadata=licensed.metadata_of(skeleton, LAYOUTS))
        licensed.write_npz(partial / POSES, positions_3d=poses)
