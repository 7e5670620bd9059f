"""Prepares HumanEva-I (Sigal et al. 2010): 15 joints, three cameras, "Train" against "Validate" as the test split.

A take is a chunk: a run of frames in which the capture did not fail. humaneva_files.py says which files can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sized
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera
from pipeline.poses.skeleton import HUMANEVA_15
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed.humaneva_files import (
    ACTIONS,
    CAMERAS,
    NOT_RELEASED,
    RECORDINGS,
    SPLITS,
    Keypoints,
    Poses,
    known_keypoints,
    read_files,
)
from pipeline.prepare_data.prepared import Dropped, Prepared
from pipeline.system.errors import UserError

RATE_HZ = 60.0
LENSES = tuple(Camera(name, width_px=640, height_px=480) for name in CAMERAS)  # the archives do not describe the lenses
# The frames [start, end) of trial 1 that are Train; Validate has those before them, from FIRST_FRAME on. Source: the
# code of Pavllo et al. 2019.
FIRST_FRAME = 5
TRAIN_FRAMES: dict[str, dict[str, tuple[int, int]]] = {
    "S1": {"Walking": (590, 1203), "Jog": (367, 740), "ThrowCatch": (473, 945), "Gestures": (395, 801),
           "Box": (385, 789)},
    "S2": {"Walking": (438, 876), "Jog": (398, 795), "ThrowCatch": (550, 1128), "Gestures": (500, 901),
           "Box": (382, 734)},
    "S3": {"Walking": (448, 939), "Jog": (401, 842), "ThrowCatch": (493, 1027), "Gestures": (533, 1102),
           "Box": (512, 1021)},
}  # fmt: skip
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
    """Returns in three cameras the chunks of Train that show `train_actions` and all chunks of Validate.

    `validation_takes` such as "Train/S1 Box 1 chunk0" leave the train split. Raises UserError if an action is unknown,
    a file is missing, damaged or of another dataset, a validation take is not a chunk of Train that is trained on, or
    a subject has no frame of an action to be trained on or scored.
    """
    licensed.check_known(train_actions, ACTIONS, where="datasets.humaneva.train_actions", expected="actions of")
    licensed.check_known(scored_actions, ACTIONS, where="datasets.humaneva.actions", expected="actions of")
    poses, pixels, in_skeleton = read_files(folder, keypoints)
    reasons = _reasons_to_drop(poses, pixels, train_actions)
    train_takes = {f"{r} {c}" for (r, c), reason in reasons.items() if reason is None and r.startswith("Train/")}
    expected = "chunks of Train that are trained on"
    licensed.check_validation_takes(validation_takes, train_takes, dataset="humaneva", expected=expected)
    prepared = Prepared(in_skeleton=in_skeleton, out_skeleton=HUMANEVA_15, target="15 joints of the motion capture")
    for (recording, chunk), reason in reasons.items():
        take = f"{recording} {chunk}"
        if reason is None:
            split = "validation" if take in validation_takes else SPLITS[recording.split("/")[0]]
            clips = _clips(take, poses[recording][chunk], pixels[recording][chunk], where=f"{folder}: {keypoints}")
            prepared.splits[split].extend(clips)
        with_pose = len(poses.get(recording, {}).get(chunk, ()))
        with_pixels = [len(array) for array in pixels.get(recording, {}).get(chunk, ())]
        prepared.dropped.extend(_dropped(take, with_pose, with_pixels, reason))
    _check_complete(prepared, {"train": train_actions, "test": scored_actions}, where=str(folder))
    prepared.differences.extend(_differences(poses, pixels))
    return prepared


def cameras_of(subject: str) -> tuple[Camera, ...]:
    """Returns C1, C2 and C3 as they stood for `subject`; positions in metres."""
    return licensed.place_cameras("humaneva", subject, LENSES)


def published_frames(recording: str, action: str) -> int:
    """Returns how many frames a recording such as "Train/S1" has of the action, valid or not, in each camera."""
    part, subject = recording.split("/")
    start, end = TRAIN_FRAMES[subject][action]
    return end - start if part == "Train" else start - FIRST_FRAME


def _reasons_to_drop(
    poses: Poses, pixels: Keypoints, train_actions: Collection[str]
) -> dict[tuple[str, str], str | None]:
    """Returns why each chunk is left out, None where it is used, in the order of recordings, actions and numbers."""
    reasons: dict[tuple[str, str], str | None] = {}
    for recording in RECORDINGS:
        with_poses, with_pixels = poses[recording].keys(), pixels.get(recording, {}).keys()
        for chunk in sorted(with_poses | with_pixels, key=_action_and_number):
            trained_on = recording.startswith("Validate/") or chunk.split()[0] in train_actions
            if chunk not in with_poses:
                reasons[recording, chunk] = WITHOUT_POSES
            elif chunk not in with_pixels:
                reasons[recording, chunk] = WITHOUT_KEYPOINTS
            else:
                reasons[recording, chunk] = None if trained_on else NOT_TRAINED_ON
    for recording in sorted(pixels.keys() - {*RECORDINGS}):
        reasons |= dict.fromkeys(((recording, chunk) for chunk in pixels[recording]), UNLABELLED)
    return reasons


def _action_and_number(chunk: str) -> tuple[int, int]:
    action, _, number = chunk.split()
    return ACTIONS.index(action), int(number.removeprefix("chunk"))


def _clips(
    take: str, joints_world_m: Float32[np.ndarray, "F 15 3"], pixels: licensed.CameraKeypoints, *, where: str
) -> list[Clip]:
    """Returns the clip of a chunk in each camera. Raises UserError if keypoints end too early or are no pixels."""
    recording, action, *_ = take.split()
    subject = recording.split("/")[1]
    licensed.check_keypoints(pixels, cameras_of(subject), frames=len(joints_world_m), where=f"{where}: {take}")
    describe = partial(
        Clip, take=take, subset="HumanEva-I", subject=subject, action=action, rate_hz=RATE_HZ, first_frame=0
    )
    return licensed.make_clips(describe, cameras_of(subject), joints_world_m, pixels)


def _dropped(take: str, with_pose: int, with_pixels: list[int], reason: str | None) -> list[Dropped]:
    """Returns the frames of a chunk that are in no clip: all for `reason` or, if there is none, those beyond the end.

    The numbers of frames are those that have a pose and those that have keypoints in each camera.
    """
    if reason is None:
        return licensed.drop_frames(take, CAMERAS, [frames - with_pose for frames in with_pixels], BEYOND_END)
    return licensed.drop_frames(take, CAMERAS, with_pixels or [with_pose] * len(CAMERAS), reason)


def _check_complete(prepared: Prepared, needed: Mapping[str, Collection[str]], *, where: str) -> None:
    """Raises UserError if a recording has no clip of an action that its split needs, unless it was not released."""
    there = {(clip.take.split()[0], clip.action) for clips in prepared.splits.values() for clip in clips}
    for recording in RECORDINGS:
        part, subject = recording.split("/")
        for action in sorted(needed[SPLITS[part]]):
            if (recording, action) not in there and (subject, action) != NOT_RELEASED:
                expected = f"at least one chunk of '{action}' with poses and keypoints"
                raise UserError(f"{where}: {recording}: expected {expected}, found none")


def _differences(poses: Poses, pixels: Keypoints) -> Iterator[str]:
    """Yields the recordings and actions that do not have the frames of the release.

    Archives of exact keypoints do not say how long the invalid runs are; then there may be fewer frames, but not more.
    """
    whole = any(recording.startswith("Unlabeled/") for recording in pixels)
    for recording, action in product(RECORDINGS, ACTIONS):
        labelled = _frames_of(action, poses[recording])
        invalid = {chunk: arrays[0] for chunk, arrays in pixels.get(f"Unlabeled/{recording}", {}).items()}
        found, known = labelled + _frames_of(action, invalid), published_frames(recording, action)
        if not labelled and (recording.split("/")[1], action) == NOT_RELEASED:
            continue
        if not labelled or found > known or (whole and found < known):
            expected = f"{known} frames" if whole else f"1 to {known} valid frames"
            yield f"{recording} {action}: expected {expected} in each camera, found {found}"


def _frames_of(action: str, chunks: Mapping[str, Sized]) -> int:
    return sum(len(array) for chunk, array in chunks.items() if chunk.startswith(f"{action} "))


def _check(folder: Path) -> list[str]:
    """Returns what is not as known of the poses and of every kind of keypoints that is there."""
    actions = ("Walking", "Jog", "Box")  # those of the published tables
    prepare_all = partial(prepare, folder, train_actions=actions, scored_actions=actions, validation_takes=())
    return licensed.find_differences(prepare_all, known_keypoints(folder))


RAW_DATASET = licensed.raw_dataset("humaneva", _check)
