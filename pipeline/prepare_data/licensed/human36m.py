"""Prepares Human3.6M (Ionescu et al. 2014) as the field evaluates it: 17 joints, S1 S5 S6 S7 S8 against S9 S11.

Every frame at 50 Hz in each of the four cameras becomes part of a clip, except for the corrupt take. An action consists
of all takes of its name. human36m_files.py says which files can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed import human36m_files as files
from pipeline.prepare_data.prepared import Dropped, Prepared
from pipeline.system.errors import UserError

RATE_HZ = 50.0
TEST_SUBJECTS = ("S9", "S11")
KNOWN_FRAMES = {"train": 1_559_752, "test": 543_344}  # summed over cameras
TAKES_PER_ACTION = 2  # of each subject; the corrupt take does not count
TARGET = "17 of the 32 joints of the motion capture (D3 positions), in the camera frame"
SAME_PROJECTION_PX = 0.05  # archives computed in float32 differ by 0.001 pixels
SAME_PERSON_PX = 200.0  # about half a person's height in the image
NO_VIDEO = "corrupt take: its video is damaged, nobody evaluates it"
BEYOND_END = "keypoints beyond the end of the motion"
WITHOUT_POSES = "keypoints without poses: none were published of this subject"
WITHOUT_MOTION = "keypoints of a take that is not among the poses"


def prepare(folder: Path, *, keypoints: str, validation_takes: Collection[str]) -> Prepared:
    """Returns every take in four cameras; `validation_takes` such as "S8 Walking 1" leave the train split.

    Keypoints "gt" are projected where no file has them. Raises UserError if a file is missing, damaged or of another
    dataset, a take has no keypoints or fewer than poses, they do not belong to the motion, or a validation take is not
    a take of the train split.
    """
    poses, detections = files.read_poses(folder), files.read_keypoints(folder, keypoints)
    train_takes = [f"{s} {t}" for s, t, _ in files.in_order(poses) if s not in TEST_SUBJECTS]
    licensed.check_validation_takes(validation_takes, train_takes, dataset="h36m", expected="takes of the train split")
    prepared = Prepared(H36M_17 if detections is None else detections.skeleton, H36M_17, target=TARGET)
    prepared.excluded_takes.append(" ".join(files.CORRUPT))
    for subject, take, joints_world_m in files.in_order(poses):
        name = f"{subject} {take}"
        if (subject, take) == files.CORRUPT:
            frames = [len(joints_world_m)] * len(files.CAMERAS)
            prepared.dropped.extend(licensed.drop_frames(name, files.CAMERAS, frames, NO_VIDEO))
            if detections is not None:
                detections.takes.get(subject, {}).pop(take, None)
            continue
        split = "test" if subject in TEST_SUBJECTS else "validation" if name in validation_takes else "train"
        clips, beyond_end = _clips(subject, take, joints_world_m, detections, exact=keypoints == "gt")
        prepared.splits[split].extend(clips)
        prepared.dropped.extend(beyond_end)
    if detections is not None:
        prepared.dropped.extend(_without_poses(detections))
    prepared.differences.extend(_differences(poses, prepared))
    return prepared


def _clips(
    subject: str,
    take: str,
    joints_world_m: Float32[np.ndarray, "F 32 3"],
    detections: files.Keypoints | None,
    *,
    exact: bool,
) -> tuple[list[Clip], list[Dropped]]:
    """Returns the clip of a take in each camera, and the frames of its keypoints after the end of the motion.

    Without detections, keypoints are exact projections. Raises UserError if keypoints cannot be those of this motion.
    """
    name, frames, cameras = f"{subject} {take}", len(joints_world_m), files.cameras_of(subject)
    if detections is None:
        pixels = files.project_take(subject, joints_world_m)
    else:
        pixels = detections.pop(subject, take)
        licensed.check_keypoints(pixels, cameras, frames=frames, where=f"{detections.path}: {name}")
    action = files.action_of(take)
    describe = partial(
        Clip, take=name, subset="Human3.6M", subject=subject, action=action, rate_hz=RATE_HZ, first_frame=0
    )
    clips = licensed.make_clips(describe, cameras, joints_world_m[:, files.KEPT_JOINTS], pixels)
    if detections is not None:
        for clip in clips:
            _check_projection(clip, exact=exact, where=f"{detections.path}: {name}: camera {clip.camera.name}")
    return clips, licensed.drop_frames(name, files.CAMERAS, [len(array) - frames for array in pixels], BEYOND_END)


def _check_projection(clip: Clip, *, exact: bool, where: str) -> None:
    """Raises UserError if keypoints are not near the projected motion, or, where `exact`, not the projection itself."""
    projected_px = project(clip.joints_camera_m.astype(np.float64), clip.camera)
    if exact:
        off_px = float(np.abs(clip.pixels - projected_px).max())
        if off_px > SAME_PROJECTION_PX:
            expected = f"the projection of the poses within {SAME_PROJECTION_PX} pixels"
            raise UserError(f"{where}: expected {expected}, found keypoints {off_px:.2f} pixels off")
    else:
        off_px = float(np.median(np.linalg.norm(clip.pixels.mean(1) - projected_px.mean(1), axis=-1)))
        if off_px > SAME_PERSON_PX:
            expected = f"keypoints within {SAME_PERSON_PX:g} pixels of the projected person"
            raise UserError(f"{where}: expected {expected}, found their middle {off_px:.0f} pixels off in the median")


def _without_poses(detections: files.Keypoints) -> Iterator[Dropped]:
    """Yields the keypoints that are left when all poses have theirs."""
    for subject in (*files.LABELLED, *files.UNLABELLED):
        reason = WITHOUT_MOTION if subject in files.LABELLED else WITHOUT_POSES
        for take, arrays in sorted(detections.takes.get(subject, {}).items()):
            frames = [len(array) if isinstance(array, np.ndarray) else 0 for array in arrays]
            cameras = [*files.CAMERAS, *map(str, range(len(files.CAMERAS), len(frames)))][: len(frames)]
            yield from licensed.drop_frames(f"{subject} {take}", cameras, frames, reason)


def missing_takes(poses: files.Poses) -> Iterator[str]:
    """Yields what is missing of the dataset and what should not be there, subject by subject and action by action."""
    for subject in files.LABELLED:
        by_action: dict[str, list[str]] = {action: [] for action in files.ACTIONS}
        for take in sorted(poses.get(subject, {})):
            if (subject, take) != files.CORRUPT:
                by_action[files.action_of(take)].append(take)
        known = {action: TAKES_PER_ACTION - ((subject, action) == files.CORRUPT) for action in files.ACTIONS}
        total, found = sum(known.values()), sum(map(len, by_action.values()))
        wrong = [
            f"{action} {len(takes)} of {known[action]}" + (f" ({', '.join(takes)})" if takes else "")
            for action, takes in by_action.items()
            if len(takes) != known[action]
        ]
        if not found:
            yield f"{subject}: expected {total} takes, found none"
        elif wrong:
            yield f"{subject}: expected {total} takes, found {found}: {'; '.join(wrong)}"


def _differences(poses: files.Poses, prepared: Prepared) -> Iterator[str]:
    """Yields what is not as the dataset is known to be: takes, frames of a split, keypoints of unknown takes."""
    yield from missing_takes(poses)
    clips = {"train": prepared.splits["train"] + prepared.splits["validation"], "test": prepared.splits["test"]}
    for split, known in KNOWN_FRAMES.items():
        frames = sum(len(clip) for clip in clips[split])
        if frames != known:
            takes = len({clip.take for clip in clips[split]})
            yield f"{split} subjects: expected {known} frames over all cameras, found {frames} in {takes} takes"
    yield from sorted({f"{d.take}: {d.reason}" for d in prepared.dropped if d.reason == WITHOUT_MOTION})


def _check(folder: Path) -> list[str]:
    """Returns what is not as known of the poses and of every kind of keypoints that is there."""
    return licensed.find_differences(partial(prepare, folder, validation_takes=()), files.known_keypoints(folder))


RAW_DATASET = replace(licensed.raw_dataset("h36m", _check), find=files.find_files)
