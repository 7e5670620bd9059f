"""Human3.6M (Ionescu et al. 2014) as the field evaluates it: 17 joints, four cameras, S1 S5 S6 S7 S8 against S9 S11.

All frames at 50 Hz, none left out but those of the corrupt take; the corresponding keypoints are cut to the motion's
length. An action is all takes of its name. Which files can be read: human36m_files.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from pipeline.clips import Clip, Dropped, Prepared
from pipeline.errors import UserError
from pipeline.geometry import Camera, project
from pipeline.raw_arrays import check_in_image
from pipeline.skeleton import H36M_17
from pipeline.sources.human36m_files import (
    ACTIONS,
    CAMERAS,
    CORRUPT,
    LABELLED,
    UNLABELLED,
    Keypoints,
    Poses,
    action_of,
    in_order,
    read_keypoints,
    read_poses,
    seen_by_cameras,
)

RATE_HZ = 50.0
TEST_SUBJECTS = ("S9", "S11")
KNOWN_FRAMES = {"train": 1_559_752, "test": 543_344}  # summed over cameras
TAKES_PER_ACTION = 2  # of each subject; the corrupt one is not counted
TARGET = "17 of the 32 joints of the motion capture (D3 positions), in the camera frame"
SAME_PROJECTION_PX = 0.05  # float32 leaves 0.001
SAME_PERSON_PX = 200.0  # half a person
NO_VIDEO = "corrupt take: its video is damaged, nobody evaluates it"
BEYOND_END = "keypoints beyond the end of the motion"
WITHOUT_POSES = "keypoints without poses: none were published of this subject"
WITHOUT_MOTION = "keypoints of a take that is not among the poses"


def prepare(folder: Path, *, keypoints: str, validation_takes: Collection[str]) -> Prepared:
    """Every take in four cameras; `validation_takes` such as "S8 Walking 1" leave the train split.

    Keypoints "gt" are projected where no file has them. Raises UserError if a file is missing, damaged or of another
    dataset, a take has no keypoints or fewer than poses, they do not belong to the motion, or a validation take is not
    a take of the train split.
    """
    poses = read_poses(folder)
    seen = read_keypoints(folder, keypoints)
    prepared = Prepared(H36M_17 if seen is None else seen.skeleton, H36M_17, target=TARGET)
    unused = set(validation_takes)
    for subject, take, joints_world_m in in_order(poses):
        name = f"{subject} {take}"
        if (subject, take) == CORRUPT:
            prepared.dropped.extend(Dropped(name, camera, len(joints_world_m), NO_VIDEO) for camera in CAMERAS)
            if seen is not None:
                seen.takes.get(subject, {}).pop(take, None)
            continue
        split = "test" if subject in TEST_SUBJECTS else "validation" if name in unused else "train"
        if split == "validation":
            unused.discard(name)
        pixels = [None] * len(CAMERAS) if seen is None else seen.pop(subject, take)
        for (camera, joints_camera_m), own in zip(seen_by_cameras(subject, joints_world_m), pixels, strict=True):
            where = f"{seen.path if seen else folder}: {name}, camera {camera.name}"
            clip = _clip(name, subject, camera, joints_camera_m, own, exact=keypoints == "gt", where=where)
            prepared.splits[split].append(clip)
            if own is not None and len(own) > len(clip):
                prepared.dropped.append(Dropped(name, camera.name, len(own) - len(clip), BEYOND_END))
    if unused:
        raise UserError(f"datasets.h36m.validation_takes: expected takes of the train split, found '{min(unused)}'")
    if seen is not None:
        prepared.dropped.extend(_without_poses(seen))
    prepared.excluded_takes.append(" ".join(CORRUPT))
    prepared.differences.extend(_differences(poses, prepared))
    return prepared


def _clip(
    take: str,
    subject: str,
    camera: Camera,
    joints_camera_m: Float64[np.ndarray, "F 17 3"],
    pixels: Float32[np.ndarray, "G J 2"] | None,
    *,
    exact: bool,
    where: str,
) -> Clip:
    projected_px = project(joints_camera_m, camera)
    if pixels is None:
        pixels = projected_px.astype(np.float32)
    else:
        _check_same(pixels, projected_px, camera, exact=exact, where=where)
    return Clip(
        take=take,
        subset="Human3.6M",
        subject=subject,
        action=action_of(take.partition(" ")[2]),
        camera=camera,
        rate_hz=RATE_HZ,
        first_frame=0,
        pixels=pixels[: len(joints_camera_m)],
        joints_camera_m=joints_camera_m.astype(np.float32),
    )


def _check_same(
    pixels: Float32[np.ndarray, "G J 2"],
    projected_px: Float64[np.ndarray, "F 17 2"],
    camera: Camera,
    *,
    exact: bool,
    where: str,
) -> None:
    """Raises UserError if the keypoints cannot be of this motion in this camera, or are not `exact` though they should.

    Keypoints may go on after the motion has ended.
    """
    frames = len(projected_px)
    if len(pixels) < frames:
        raise UserError(f"{where}: expected keypoints of all {frames} frames of the motion, found {len(pixels)}")
    pixels = pixels[:frames]
    check_in_image(pixels, camera, where=where)
    if exact:
        off_px = float(np.abs(pixels - projected_px).max())
        if off_px > SAME_PROJECTION_PX:
            expected = f"the projection of the poses within {SAME_PROJECTION_PX} pixels"
            raise UserError(f"{where}: expected {expected}, found keypoints {off_px:.2f} pixels off")
    else:
        off_px = float(np.median(np.linalg.norm(pixels.mean(1) - projected_px.mean(1), axis=-1)))
        if off_px > SAME_PERSON_PX:
            expected = f"keypoints within {SAME_PERSON_PX:g} pixels of the projected person"
            raise UserError(f"{where}: expected {expected}, found their middle {off_px:.0f} pixels off in the median")


def _without_poses(seen: Keypoints) -> Iterator[Dropped]:
    """What is left of the keypoints when all poses have theirs."""
    for subject in (*LABELLED, *UNLABELLED):
        for take in sorted(seen.takes.get(subject, {})):
            arrays = seen.takes[subject][take]
            reason = WITHOUT_MOTION if subject in LABELLED else WITHOUT_POSES
            lengths = [len(array) if isinstance(array, np.ndarray) else 0 for array in arrays]
            cameras = [CAMERAS[index] if index < len(CAMERAS) else str(index) for index in range(len(lengths))]
            for camera, frames in zip(cameras, lengths, strict=True):
                yield Dropped(f"{subject} {take}", camera, frames, reason)


def missing_takes(poses: Poses) -> Iterator[str]:
    """What is not there of the dataset, subject by subject and action by action, and what should not be."""
    for subject in LABELLED:
        takes = [take for take in poses.get(subject, {}) if (subject, take) != CORRUPT]
        whole = len(ACTIONS) * TAKES_PER_ACTION - (subject == CORRUPT[0])
        if not takes:
            yield f"{subject}: expected {whole} takes, found none"
            continue
        for action in ACTIONS:
            own = sorted(take for take in takes if action_of(take) == action)
            known = TAKES_PER_ACTION - ((subject, action) == CORRUPT)
            if len(own) != known:
                yield f"{subject}: expected {known} takes of {action}, found {len(own)} ({', '.join(own) or 'none'})"


def _differences(poses: Poses, prepared: Prepared) -> Iterator[str]:
    yield from missing_takes(poses)
    clips = {"train": prepared.splits["train"] + prepared.splits["validation"], "test": prepared.splits["test"]}
    for split, known in KNOWN_FRAMES.items():
        frames = sum(len(clip) for clip in clips[split])
        if frames != known:
            takes = len({clip.take for clip in clips[split]})
            yield f"{split} subjects: expected {known} frames over all cameras, found {frames} in {takes} takes"
    yield from sorted({f"{d.take}: {d.reason}" for d in prepared.dropped if d.reason == WITHOUT_MOTION})
