"""HumanEva-I's files -> poses and keypoints by recording and chunk, and back to archives.

Archives, as VideoPose3D makes them: data_3d_humaneva15.npz and data_2d_humaneva15_<keypoints>.npz.
converted_15j/{Train,Validate}/S?/ is what its MATLAB script makes of the official release: <Action>_1.mat with
`poses_3d` (T 15 3, mm, NaN where the capture failed) and `poses_2d` (3 T 15 2, pixels). A chunk is a run of frames
without NaN; runs with NaN are numbered too, so the numbers have gaps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pipeline.poses.skeleton import COCO_17, H36M_17, HUMANEVA_15, Skeleton
from pipeline.prepare_data.raw_arrays import numbers, numbers_or_nan, read_mat, stretches_of
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder

POSES, CONVERTED = "data_3d_humaneva15.npz", "converted_15j"
SUBJECTS = ("S1", "S2", "S3")
ACTIONS = ("Walking", "Jog", "ThrowCatch", "Gestures", "Box")
FOLDERS = {"Train": "train", "Validate": "test"}  # as the release calls them, and what they are here
RECORDINGS = tuple(f"{folder}/{subject}" for folder in FOLDERS for subject in SUBJECTS)
NOT_RELEASED = {("S3", "ThrowCatch")}  # damaged
TAKE = re.compile(rf"({'|'.join(ACTIONS)}) 1 chunk([0-9]+)")
LAYOUTS = {"humaneva15": HUMANEVA_15, "coco": COCO_17, "h36m": H36M_17}
CAMERAS = ("C1", "C2", "C3")

Poses = dict[str, dict[str, Float32[np.ndarray, "F 15 3"]]]  # "Train/S1" -> "Box 1 chunk0" -> metres in the world
Keypoints = dict[str, dict[str, list[Float32[np.ndarray, "F J 2"]]]]  # the same -> one array per camera


def read_files(folder: Path, keypoints: str) -> tuple[Poses, Keypoints, Skeleton]:
    """The archives where they are, else converted_15j; exact keypoints are in either."""
    archive = folder / f"data_2d_humaneva15_{keypoints}.npz"
    converted = folder / CONVERTED
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
    pixels, in_skeleton = _read_keypoints(archive)
    return poses, pixels, in_skeleton


def known_keypoints(folder: Path) -> list[str]:
    """Names of the keypoints that can be read from the folder."""
    archives = [path.stem.removeprefix("data_2d_humaneva15_") for path in folder.glob("data_2d_humaneva15_*.npz")]
    converted = ["gt"] if not (folder / POSES).is_file() and (folder / CONVERTED).is_dir() else []
    return sorted({*archives, *converted})


def _read_poses(path: Path) -> Poses:
    positions = _member(read_object_npz(path), "positions_3d", path)
    poses: Poses = {}
    for recording in RECORDINGS:
        if not isinstance(positions.get(recording), dict):
            found = ", ".join(map(str, positions)) or "nothing (the conversion found no file)"
            raise UserError(f"{path}: expected the recordings {', '.join(RECORDINGS)}, found {found}")
        poses[recording] = {
            _checked_chunk(chunk, f"{path}: {recording}"): numbers(
                array, (None, 15, 3), where=f"{path}: {recording} {chunk}"
            )
            for chunk, array in positions[recording].items()
        }
    unknown = sorted(set(map(str, positions)) - set(RECORDINGS))
    if unknown:
        raise UserError(f"{path}: expected the recordings {', '.join(RECORDINGS)}, found '{unknown[0]}'")
    return poses


def _read_keypoints(path: Path) -> tuple[Keypoints, Skeleton]:
    members = read_object_npz(path)
    skeleton = _layout(_member(members, "metadata", path), path)
    joints = len(skeleton.joints)
    pixels: Keypoints = {}
    for recording, chunks in _member(members, "positions_2d", path).items():
        labelled = recording in RECORDINGS
        if not labelled and not re.fullmatch(r"Unlabeled/((Train|Validate)/)?S[1-4]", str(recording)):
            raise UserError(f"{path}: expected the recordings {', '.join(RECORDINGS)}, found '{recording}'")
        if not isinstance(chunks, dict):
            raise UserError(f"{path}: {recording}: expected chunks by name, found {type(chunks).__name__}")
        pixels[recording] = {}
        for chunk, seen in chunks.items():
            where = f"{path}: {recording} {chunk}"
            if labelled:
                _checked_chunk(chunk, f"{path}: {recording}")
            if not isinstance(seen, (list, tuple, np.ndarray)) or len(seen) != len(CAMERAS):
                found = len(seen) if isinstance(seen, (list, tuple, np.ndarray)) else type(seen).__name__
                raise UserError(f"{where}: expected keypoints in {len(CAMERAS)} cameras, found {found}")
            pixels[recording][chunk] = [
                numbers(array, (None, joints, 2), where=f"{where}: {camera}")
                if labelled
                else _unlabelled_keypoints(array, joints, where=f"{where}: {camera}")
                for camera, array in zip(CAMERAS, seen, strict=True)
            ]
    return pixels, skeleton


def _unlabelled_keypoints(array: object, joints: int, *, where: str) -> Float32[np.ndarray, "F J 2"]:
    """Unused but for their length: a camera without video has None, a chunk at the end may be empty."""
    if array is None or (isinstance(array, np.ndarray) and array.shape == (0, joints, 2)):
        return np.zeros((0, joints, 2), dtype=np.float32)
    return numbers_or_nan(array, (None, joints, 2), where=where)


def _layout(metadata: dict[Any, Any], path: Path) -> Skeleton:
    name = metadata.get("layout_name")
    if not isinstance(name, str) or name not in LAYOUTS:
        raise UserError(f"{path}: expected the keypoint layout {', '.join(LAYOUTS)}, found {name!r}")
    skeleton = LAYOUTS[name]
    for key, value in _described(skeleton).items():
        found = metadata.get(key)
        if key == "keypoints_symmetry" and isinstance(found, (list, tuple)):
            found = [list(side) if isinstance(side, (list, tuple)) else side for side in found]
        if found != value:
            raise UserError(f"{path}: metadata: {key}: expected {value} for the layout '{name}', found {found}")
    return skeleton


def _described(skeleton: Skeleton) -> dict[str, Any]:
    return {"num_joints": len(skeleton.joints), "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)]}


def _layout_name(skeleton: Skeleton) -> str:
    return next(name for name, known in LAYOUTS.items() if known == skeleton)


def _member(members: dict[str, Any], name: str, path: Path) -> dict[Any, Any]:
    if not isinstance(members.get(name), dict):
        raise UserError(f"{path}: expected '{name}' with names and arrays, found {', '.join(members)}")
    return members[name]


def _checked_chunk(chunk: object, where: str) -> str:
    if not isinstance(chunk, str) or not TAKE.fullmatch(chunk):
        raise UserError(f"{where}: expected chunks such as 'Walking 1 chunk0' of {', '.join(ACTIONS)}, found '{chunk}'")
    return chunk


def _read_converted(folder: Path) -> tuple[Poses, Keypoints]:
    """The chunks of converted_15j, as the archives name them."""
    poses: Poses = {recording: {} for recording in RECORDINGS}
    pixels: Keypoints = {recording: {} for recording in RECORDINGS}
    for recording in RECORDINGS:
        paths = sorted((folder / recording).glob("*.mat"))
        if not paths:
            raise UserError(f"{folder / recording}: expected one file per action, such as Walking_1.mat, found none")
        for path in paths:
            if path.stem not in {f"{action}_1" for action in ACTIONS}:
                raise UserError(f"{path}: expected trial 1 of {', '.join(ACTIONS)}, such as Walking_1.mat, found it")
            variables = read_mat(path, ("poses_3d", "poses_2d"))
            joints_mm = numbers_or_nan(variables["poses_3d"], (None, 15, 3), where=f"{path}: poses_3d")
            seen = numbers_or_nan(variables["poses_2d"], (3, len(joints_mm), 15, 2), where=f"{path}: poses_2d")
            valid = np.isfinite(joints_mm).all((1, 2))
            projected = np.isfinite(seen).all((0, 2, 3))
            if (valid != projected).any():
                frame = int(np.flatnonzero(valid != projected)[0])
                raise UserError(
                    f"{path}: expected NaN in poses_3d and poses_2d alike, found one alone in frame {frame}"
                )
            for number, (start, end, is_valid) in enumerate(stretches_of(valid)):
                name = f"{path.stem.replace('_', ' ')} chunk{number}"
                if is_valid:
                    poses[recording][name] = joints_mm[start:end] / np.float32(1000)
                    pixels[recording][name] = list(seen[:, start:end])
                else:
                    unlabelled = pixels.setdefault(f"Unlabeled/{recording}", {})
                    unlabelled[name] = list(seen[:, start:end])
    return poses, pixels


def write_archives(folder: Path, out: Path, *, keypoints: Sequence[str]) -> None:
    """Write the poses and the keypoints of those names as archives into `out`, as other people's code reads them.

    Raises UserError as the readers do.
    """
    with new_folder(out) as partial:
        for name in keypoints:
            poses, pixels, skeleton = read_files(folder, name)
            metadata = {"layout_name": _layout_name(skeleton), **_described(skeleton)}
            # Of exact keypoints the archives have the labelled ones alone.
            chosen = {key: chunks for key, chunks in pixels.items() if key in RECORDINGS or name != "gt"}
            archive = partial / f"data_2d_humaneva15_{name}.npz"
            np.savez_compressed(archive, positions_2d=chosen, metadata=metadata)  # type: ignore[arg-type]
        np.savez_compressed(partial / POSES, positions_3d=poses)  # type: ignore[arg-type]
