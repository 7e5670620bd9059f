"""HumanEva-I (Sigal et al. 2010) as VideoPose3D's archives or converted_15j hold it: files -> clips of 15 joints.

Archives: data_3d_humaneva15.npz and data_2d_humaneva15_<keypoints>.npz. converted_15j/{Train,Validate}/S?/ is what
their MATLAB script makes of the official release: <Action>_1.mat with `poses_3d` (T 15 3, mm, NaN where the capture
failed) and `poses_2d` (3 T 15 2, pixels). "Validate" is the test split. A take is a chunk, a run of frames without NaN;
runs with NaN are numbered too, so the numbers have gaps.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pipeline.clips import Clip, Dropped, Prepared
from pipeline.errors import UserError
from pipeline.geometry import Camera, RigidTransform, rotation_from_quaternion
from pipeline.raw_arrays import check_in_image, numbers, numbers_or_nan, read_mat, stretches_of
from pipeline.skeleton import COCO_17, H36M_17, HUMANEVA_15, Skeleton
from pipeline.untrusted import read_object_npz

POSES, CONVERTED = "data_3d_humaneva15.npz", "converted_15j"
RATE_HZ = 60.0
WIDTH_PX, HEIGHT_PX = 640, 480
SUBJECTS = ("S1", "S2", "S3")
ACTIONS = ("Walking", "Jog", "ThrowCatch", "Gestures", "Box")
FOLDERS = {"Train": "train", "Validate": "test"}  # as the release calls them, and what they are here
RECORDINGS = tuple(f"{folder}/{subject}" for folder in FOLDERS for subject in SUBJECTS)
NOT_RELEASED = {("S3", "ThrowCatch")}  # damaged
TAKE = re.compile(rf"({'|'.join(ACTIONS)}) 1 chunk([0-9]+)")
LAYOUTS = {"humaneva15": HUMANEVA_15, "coco": COCO_17, "h36m": H36M_17}

# Frames of Train, [start, end), in trial 1; Validate has those before, from 5 on. Pavllo et al. 2019, as their code.
FIRST_FRAME = 5
TRAIN_FRAMES: dict[str, dict[str, tuple[int, int]]] = {
    "S1": {
        "Walking": (590, 1203),
        "Jog": (367, 740),
        "ThrowCatch": (473, 945),
        "Gestures": (395, 801),
        "Box": (385, 789),
    },
    "S2": {
        "Walking": (438, 876),
        "Jog": (398, 795),
        "ThrowCatch": (550, 1128),
        "Gestures": (500, 901),
        "Box": (382, 734),
    },
    "S3": {
        "Walking": (448, 939),
        "Jog": (401, 842),
        "ThrowCatch": (493, 1027),
        "Gestures": (533, 1102),
        "Box": (512, 1021),
    },
}

# Per subject, cameras C1, C2, C3: world_from_camera as unit quaternion (w, x, y, z) and the camera's position in mm.
# Their lenses were not published with the archives.
CAMERAS = ("C1", "C2", "C3")
_PLACED_AS_S1 = (
    ((0.424207, -0.4983646, -0.5802981, 0.4847012), (4062.227, 663.2477, 1528.397)),
    ((0.6503354, -0.7481602, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
    ((0.0664734, -0.0690535, 0.7416416, -0.6639132), (-797.67377, 3916.3174, 1433.6602)),
)
PLACEMENTS = {
    "S1": _PLACED_AS_S1,
    "S2": (
        ((0.4214752, -0.4961493, -0.5838273, 0.4851187), (4112.9121, 626.4929, 1545.2988)),
        ((0.6501393, -0.7476588, -0.0954617, 0.0959808), (923.574, -3877.9243, 1504.5518)),
        ((0.0699353, -0.0712403, 0.7421637, -0.662742), (-781.4915, 3838.8853, 1444.9929)),
    ),
    "S3": _PLACED_AS_S1,
}

UNLABELLED = "keypoints of frames without motion capture"
WITHOUT_POSES = "keypoints of a chunk that is not among the poses"
WITHOUT_KEYPOINTS = "poses of a chunk that is not among the keypoints"
NOT_TRAINED_ON = "action not among datasets.humaneva.train_actions"
BEYOND_END = "keypoints beyond the end of the poses"

Poses = dict[
    str, dict[str, Float32[np.ndarray, "F 15 3"]]
]  # recording ("Train/S1") -> chunk ("Box 1 chunk0") -> metres
Keypoints = dict[str, dict[str, list[Float32[np.ndarray, "F J 2"]]]]  # the same -> one array per camera


def prepare(
    folder: Path,
    *,
    keypoints: str,
    train_actions: Collection[str],
    scored_actions: Collection[str],
    validation_takes: Collection[str],
) -> Prepared:
    """In three cameras the chunks of Train that show `train_actions`, less `validation_takes`, and all of Validate.

    Raises UserError if an action is unknown, a file is missing, damaged or of another dataset, a validation take is not
    a chunk of Train, or a subject has no frame of an action to be trained on or scored.
    """
    needed: dict[str, set[str]] = {"Train": set(train_actions), "Validate": set(scored_actions)}
    for name, actions in (("train_actions", train_actions), ("actions", scored_actions)):
        unknown = sorted(set(actions) - set(ACTIONS))
        if unknown:
            expected = f"expected actions of {', '.join(ACTIONS)}"
            raise UserError(f"datasets.humaneva.{name}: {expected}, found '{unknown[0]}'")
    poses, pixels, in_skeleton = _read(folder, keypoints)
    prepared = Prepared(in_skeleton=in_skeleton, out_skeleton=HUMANEVA_15, target="15 joints of the motion capture")
    unused = set(validation_takes)
    for recording in RECORDINGS:
        part, subject = recording.split("/")
        for chunk in sorted(poses[recording].keys() | pixels.get(recording, {}).keys(), key=_place):
            take, action = f"{recording} {chunk}", chunk.split()[0]
            joints_world_m, seen = poses[recording].get(chunk), pixels.get(recording, {}).get(chunk)
            if joints_world_m is None:
                prepared.dropped.extend(_left_out(take, pixels[recording][chunk], WITHOUT_POSES))
                continue
            if seen is None:
                prepared.dropped.extend(_left_out(take, [joints_world_m] * len(CAMERAS), WITHOUT_KEYPOINTS))
                continue
            if part == "Train" and action not in train_actions:
                prepared.dropped.extend(_left_out(take, seen, NOT_TRAINED_ON))
                continue
            split = FOLDERS[part]
            if part == "Train" and take in unused:
                split = "validation"
                unused.remove(take)
            for camera, array in zip(cameras_of(subject), seen, strict=True):
                clip = _clip(take, subject, action, camera, array, joints_world_m, where=f"{folder}: {keypoints}")
                prepared.splits[split].append(clip)
                prepared.dropped.append(Dropped(take, camera.name, len(array) - len(clip), BEYOND_END))
        _check_complete(recording, needed[part], prepared, where=str(folder))
    if unused:
        raise UserError(
            f"datasets.humaneva.validation_takes: expected chunks of Train that are trained on, found '{min(unused)}'"
        )
    for recording in sorted(pixels.keys() - set(RECORDINGS)):
        for chunk, seen in pixels[recording].items():
            prepared.dropped.extend(_left_out(f"{recording} {chunk}", seen, UNLABELLED))
    prepared.differences.extend(_differences(poses, pixels))
    return prepared


def cameras_of(subject: str) -> tuple[Camera, ...]:
    """C1, C2 and C3 as they stood for `subject`; positions in metres."""
    cameras = []
    for name, (quaternion, position_mm) in zip(CAMERAS, PLACEMENTS[subject], strict=True):
        world_from_camera = RigidTransform(rotation_from_quaternion(np.array(quaternion)), np.array(position_mm) / 1000)
        cameras.append(Camera(name, WIDTH_PX, HEIGHT_PX, camera_from_world=world_from_camera.inverse()))
    return tuple(cameras)


def published_frames(recording: str, action: str) -> int:
    """How many frames "Train/S1" or the like has of the action, valid or not, in each camera."""
    part, subject = recording.split("/")
    start, end = TRAIN_FRAMES[subject][action]
    return end - start if part == "Train" else start - FIRST_FRAME


def _left_out(take: str, arrays: Sequence[Float32[np.ndarray, "_ _ _"]], reason: str) -> list[Dropped]:
    return [Dropped(take, camera, len(array), reason) for camera, array in zip(CAMERAS, arrays, strict=True)]


def _clip(
    take: str,
    subject: str,
    action: str,
    camera: Camera,
    pixels: Float32[np.ndarray, "F J 2"],
    joints_world_m: Float32[np.ndarray, "G 15 3"],
    *,
    where: str,
) -> Clip:
    where = f"{where}: {take}: {camera.name}"
    if len(pixels) < len(joints_world_m):
        raise UserError(f"{where}: expected keypoints of {len(joints_world_m)} frames or more, found {len(pixels)}")
    check_in_image(pixels, camera, where=where)
    return Clip(
        take=take,
        subset="HumanEva-I",
        subject=subject,
        action=action,
        camera=camera,
        rate_hz=RATE_HZ,
        first_frame=0,
        pixels=pixels[: len(joints_world_m)],
        joints_camera_m=camera.camera_from_world.apply(joints_world_m.astype(np.float64)).astype(np.float32),
    )


def _place(chunk: str) -> tuple[int, int]:
    """Where a chunk stands in the order of actions and chunk numbers."""
    action, _, number = chunk.split()
    return ACTIONS.index(action), int(number.removeprefix("chunk"))


def _check_complete(recording: str, needed: set[str], prepared: Prepared, *, where: str) -> None:
    subject = recording.split("/")[1]
    clips = [clip for clips in prepared.splits.values() for clip in clips if clip.take.startswith(f"{recording} ")]
    for action in sorted(needed - {clip.action for clip in clips}):
        if (subject, action) not in NOT_RELEASED:
            raise UserError(
                f"{where}: {recording}: expected at least one chunk of '{action}' with poses and keypoints, found none"
            )


def _differences(poses: Poses, pixels: Keypoints) -> Iterator[str]:
    """Where the frames are not those that the release has; the valid ones alone cannot be more."""
    for recording in RECORDINGS:
        subject = recording.split("/")[1]
        for action in ACTIONS:
            labelled = sum(len(a) for chunk, a in poses[recording].items() if chunk.startswith(f"{action} "))
            known = published_frames(recording, action)
            unlabelled = sum(
                len(seen[0])
                for chunk, seen in pixels.get(f"Unlabeled/{recording}", {}).items()
                if chunk.startswith(f"{action} ")
            )
            # Archives of exact keypoints do not say how long the invalid runs are.
            whole = any(name.startswith("Unlabeled/") for name in pixels)
            if (subject, action) in NOT_RELEASED and not labelled:
                continue
            if labelled + unlabelled > known or labelled == 0 or (whole and labelled + unlabelled != known):
                expected = f"{known} frames" if whole else f"1 to {known} valid frames"
                yield f"{recording} {action}: expected {expected} in each camera, found {labelled + unlabelled}"


def _read(folder: Path, keypoints: str) -> tuple[Poses, Keypoints, Skeleton]:
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
        known = sorted(
            path.stem.removeprefix("data_2d_humaneva15_") for path in folder.glob("data_2d_humaneva15_*.npz")
        )
        found = ", ".join(known) or "none"
        raise UserError(f"{archive}: expected the keypoints '{keypoints}', found no such file (there are: {found})")
    pixels, in_skeleton = _read_keypoints(archive)
    return poses, pixels, in_skeleton


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
    if name not in LAYOUTS:
        raise UserError(f"{path}: expected the keypoint layout {', '.join(LAYOUTS)}, found {name!r}")
    skeleton = LAYOUTS[name]
    expected = {"num_joints": len(skeleton.joints), "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)]}
    for key, value in expected.items():
        found = metadata.get(key)
        if key == "keypoints_symmetry" and isinstance(found, (list, tuple)):
            found = [list(side) if isinstance(side, (list, tuple)) else side for side in found]
        if found != value:
            raise UserError(f"{path}: metadata: {key}: expected {value} for the layout '{name}', found {found}")
    return skeleton


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
