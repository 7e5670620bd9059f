"""Prepares MPI-INF-3DHP (Mehta et al. 2017): 17 joints with the root first, eight cameras for training, six test takes.

The frames that the dataset marks as valid are scored; all frames are context. mpi_inf_3dhp_files.py says which files
can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.poses.clips import Clip
from pipeline.poses.skeleton import MPI_INF_3DHP_17
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed import mpi_inf_3dhp_files as files
from pipeline.prepare_data.licensed.raw_arrays import check_in_image
from pipeline.prepare_data.prepared import Prepared
from pipeline.system.errors import UserError

TARGETS = {
    "univ_annot3": "univ_annot3: scaled to the height of the universal skeleton, relative to the pelvis",
    "annot3": "annot3: in true size, relative to the pelvis",
}
SCENES = {  # GS: green screen
    "TS1": "GS", "TS2": "GS", "TS3": "noGS", "TS4": "noGS", "TS5": "Outdoor", "TS6": "Outdoor",
}  # fmt: skip
# Human3.6M's order among the dataset's 17 joints, which begin with the head top and have the pelvis at 14.
H36M_ORDER = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
PCK_JOINTS = tuple(place for place, joint in enumerate(H36M_ORDER) if joint < 14)  # without pelvis, spine and head


def prepare(folder: Path, *, keypoints: str, target: str, validation_takes: Collection[str]) -> Prepared:
    """Returns the train sequences, less `validation_takes`, in the field's eight cameras, and the six test sequences.

    `target` is a key of TARGETS; archives have no annot3, for which the release is needed. Raises UserError if
    `keypoints` are not the dataset's own, a file is missing, damaged or of another dataset, or a validation take is not
    a train sequence.
    """
    licensed.check_known([keypoints], files.KEYPOINTS, where="keypoints of mpi_inf_3dhp", expected="one of")
    expected = "train sequences such as 'S8 Seq2'"
    licensed.check_validation_takes(validation_takes, files.TRAIN_TAKES, dataset="mpi_inf_3dhp", expected=expected)
    prepared = Prepared(
        in_skeleton=MPI_INF_3DHP_17, out_skeleton=MPI_INF_3DHP_17, target=TARGETS[target], pck_joints=PCK_JOINTS
    )
    for recording in files.read_test(folder, target):
        take = recording.take
        prepared.splits["test"].append(_clip(recording, subset=SCENES[take], subject=take, action=files.UNLABELLED))
    for recording in files.read_train(folder, target):
        subject, sequence = recording.take.split()
        split = "validation" if recording.take in validation_takes else "train"
        prepared.splits[split].append(_clip(recording, subset="train", subject=subject, action=sequence))
    prepared.differences.extend(_differences(prepared))
    return prepared


def _clip(recording: files.Recording, *, subset: str, subject: str, action: str) -> Clip:
    """Returns the recording as a clip, its joints in Human3.6M's order and in metres.

    Raises UserError if keypoints and poses have different lengths or the keypoints to be scored are no pixels.
    """
    pixels, joints_camera_mm, scored = recording.pixels, recording.joints_camera_mm, recording.scored
    if len(pixels) != len(joints_camera_mm):
        found = f"{len(pixels)} and {len(joints_camera_mm)}"
        raise UserError(f"{recording.where}: expected keypoints and poses of as many frames, found {found}")
    check_in_image(pixels if scored is None else pixels[scored], recording.camera, where=recording.where)
    order = list(H36M_ORDER)
    return Clip(
        take=recording.take,
        subset=subset,
        subject=subject,
        action=action,
        camera=recording.camera,
        rate_hz=recording.rate_hz,
        first_frame=0,
        pixels=np.ascontiguousarray(pixels[:, order]),
        joints_camera_m=joints_camera_mm[:, order] / np.float32(1000),
        scored=scored,
        activities=recording.activities,
    )


def _differences(prepared: Prepared) -> Iterator[str]:
    """Yields the sequences that do not have the frames or the frame rate that they are known to have."""
    train_clips = prepared.splits["train"] + prepared.splits["validation"]
    for take, (frames, rate_hz) in files.TRAIN_TAKES.items():
        clips = [clip for clip in train_clips if clip.take == take]
        lengths = sorted({len(clip) for clip in clips})
        if lengths != [frames]:
            yield f"{take}: expected {frames} frames in each camera, found {', '.join(map(str, lengths))}"
        if {clip.rate_hz for clip in clips} != {float(rate_hz)}:
            yield f"{take}: expected {rate_hz} frames per second, found {clips[0].rate_hz:g}"
    for clip in prepared.splits["test"]:
        assert clip.scored is not None
        frames, valid, _ = files.TEST_TAKES[clip.take]
        if (len(clip), int(clip.scored.sum())) != (frames, valid):
            found = f"{len(clip)} and {int(clip.scored.sum())}"
            yield f"{clip.take}: expected {frames} frames and {valid} valid ones, found {found}"
    total = sum(len(clip) for clip in train_clips)
    if total != files.TRAIN_FRAMES:
        yield f"train sequences: expected {files.TRAIN_FRAMES} frames in all, found {total}"


def _check(folder: Path) -> list[str]:
    """Returns what is not as known of the scaled poses, which every form of the dataset has."""
    return prepare(folder, keypoints="gt", target="univ_annot3", validation_takes=()).differences


RAW_DATASET = replace(licensed.raw_dataset("mpi_inf_3dhp", _check), find=files.find_all)
