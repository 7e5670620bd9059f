"""HumanEva-I (Sigal et al. 2010), 15 joints: its poses and keypoints -> clips. "Validate" is the test split.

A take is a chunk: a run of frames in which the capture did not fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pipeline.poses.clips import Clip, Dropped, Prepared
from pipeline.poses.geometry import Camera
from pipeline.poses.skeleton import HUMANEVA_15
from pipeline.prepare_data.humaneva_files import (
    ACTIONS,
    CAMERAS,
    CONVERTED,
    FOLDERS,
    NOT_RELEASED,
    POSES,
    RECORDINGS,
    Keypoints,
    Poses,
    known_keypoints,
    read_files,
)
from pipeline.prepare_data.raw_arrays import check_in_image
from pipeline.prepare_data.raw_files import Need, RawDataset, RawFiles
from pipeline.prepare_data.takes import place_cameras
from pipeline.system.errors import UserError

RATE_HZ = 60.0
WIDTH_PX, HEIGHT_PX = 640, 480
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
# The archives do not say what lenses the cameras have.
LENSES = tuple(Camera(name, WIDTH_PX, HEIGHT_PX) for name in CAMERAS)

UNLABELLED = "keypoints of frames without motion capture"
WITHOUT_POSES = "keypoints of a chunk that is not among the poses"
WITHOUT_KEYPOINTS = "poses of a chunk that is not among the keypoints"
NOT_TRAINED_ON = "action not among datasets.humaneva.train_actions"
BEYOND_END = "keypoints beyond the end of the poses"


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
    poses, pixels, in_skeleton = read_files(folder, keypoints)
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
    """Returns C1, C2 and C3 as they stood for `subject`; positions in metres."""
    return place_cameras("humaneva", subject, LENSES)


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


def _check(folder: Path) -> list[str]:
    """What is not as known of the poses and of every kind of keypoints that is there."""
    lines: list[str] = []
    for keypoints in known_keypoints(folder):
        actions = ("Walking", "Jog", "Box")  # those of the published tables
        own = prepare(folder, keypoints=keypoints, train_actions=actions, scored_actions=actions, validation_takes=())
        lines += [line for line in own.differences if line not in lines]
    return lines


_OWNER = "humaneva.is.tue.mpg.de, after registration: HumanEva-I, Release_Code_v1_1_beta, Critical_Update_OFS_files"
_TERMS = "the terms that the owner shows on registration"
_EXPORTED = "nobody: made from converted_15j, here by `poselift export humaneva`"
RAW_DATASET = RawDataset(
    title="HumanEva-I",
    folder="humaneva",
    page="docs/datasets/humaneva.md",
    needs=(
        Need(
            "poses",
            "every row",
            (
                RawFiles(POSES, "poses of all chunks in one file", _EXPORTED, _TERMS),
                RawFiles(
                    f"{CONVERTED}/*/S[123]/*_1.mat",
                    "poses and exact keypoints, a file per action",
                    f"{_OWNER}; ConvertHumanEva.m of github.com/facebookresearch/VideoPose3D makes them in MATLAB",
                    _TERMS,
                    expected=28,
                ),
            ),
            any_one=True,
        ),
        Need(
            "keypoints gt",
            "rows humaneva-gt-*",
            (
                RawFiles("data_2d_humaneva15_gt.npz", "exact projections", _EXPORTED, _TERMS),
                RawFiles(f"{CONVERTED}/*/S[123]/*_1.mat", "has them too", _OWNER, _TERMS, expected=28),
            ),
            any_one=True,
            optional=True,
        ),
        Need(
            "keypoints detectron_pt_coco",
            "rows humaneva-detectron_pt_coco-*",
            (
                RawFiles(
                    "data_2d_humaneva15_detectron_pt_coco.npz",
                    "Mask R-CNN trained on COCO, 17 keypoints",
                    "dl.fbaipublicfiles.com/video-pose-3d/, linked in DATASETS.md of "
                    "github.com/facebookresearch/VideoPose3D",
                    "the linking repository is under CC BY-NC 4.0; made from HumanEva's videos, whose terms hold too",
                ),
            ),
            optional=True,
        ),
    ),
    check=_check,
)
