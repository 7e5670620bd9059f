"""MPI-INF-3DHP (Mehta et al. 2017), 17 joints: its recordings -> clips with the root first, valid test frames marked.

The frames that the dataset marks as valid are scored; all frames are context.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from pipeline.poses.clips import Clip
from pipeline.poses.skeleton import MPI_INF_3DHP_17
from pipeline.prepare_data.mpi_inf_3dhp_files import (
    TEST_ARCHIVE,
    TEST_TAKES,
    TRAIN_ARCHIVE,
    TRAIN_FRAMES,
    TRAIN_TAKES,
    UNLABELLED,
    Recording,
    check_keypoints,
    find_all,
    read_test,
    read_train,
)
from pipeline.prepare_data.prepared import Prepared
from pipeline.prepare_data.raw_arrays import check_in_image
from pipeline.prepare_data.raw_files import Need, RawDataset, RawFiles
from pipeline.system.errors import UserError

TARGETS = {
    "univ_annot3": "univ_annot3: scaled to the height of the universal skeleton, relative to the pelvis",
    "annot3": "annot3: in true size, relative to the pelvis",
}
SCENES = {
    "TS1": "GS",
    "TS2": "GS",
    "TS3": "noGS",
    "TS4": "noGS",
    "TS5": "Outdoor",
    "TS6": "Outdoor",
}  # GS: green screen

# Human3.6M's order among the dataset's 17 joints, which begin with the head top and have the pelvis at 14.
H36M_ORDER = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
PCK_JOINTS = tuple(place for place, joint in enumerate(H36M_ORDER) if joint < 14)  # without pelvis, spine and head


def prepare(folder: Path, *, keypoints: str, target: str, validation_takes: Collection[str]) -> Prepared:
    """All train sequences, less `validation_takes`, in the eight cameras of the field, and the six test sequences.

    Raises UserError if `keypoints` are not the dataset's own, a file is missing, damaged or of another dataset, or a
    validation take is not a train sequence. Archives have no annot3: for that, the release is needed.
    """
    check_keypoints([keypoints])
    unknown = sorted(set(validation_takes) - set(TRAIN_TAKES))
    if unknown:
        expected = "expected train sequences such as 'S8 Seq2'"
        raise UserError(f"datasets.mpi_inf_3dhp.validation_takes: {expected}, found '{unknown[0]}'")
    prepared = Prepared(
        in_skeleton=MPI_INF_3DHP_17, out_skeleton=MPI_INF_3DHP_17, target=TARGETS[target], pck_joints=PCK_JOINTS
    )
    for own in read_test(folder, target):
        prepared.splits["test"].append(_clip(own, subset=SCENES[own.take], subject=own.take, action=UNLABELLED))
    for own in read_train(folder, target):
        subject, sequence = own.take.split()
        split = "validation" if own.take in validation_takes else "train"
        prepared.splits[split].append(_clip(own, subset="train", subject=subject, action=sequence))
    prepared.differences.extend(_differences(prepared))
    return prepared


def _clip(own: Recording, *, subset: str, subject: str, action: str) -> Clip:
    if len(own.pixels) != len(own.joints_camera_mm):
        found = f"{len(own.pixels)} and {len(own.joints_camera_mm)}"
        raise UserError(f"{own.where}: expected keypoints and poses of as many frames, found {found}")
    check_in_image(own.pixels if own.scored is None else own.pixels[own.scored], own.camera, where=own.where)
    order = list(H36M_ORDER)
    return Clip(
        take=own.take,
        subset=subset,
        subject=subject,
        action=action,
        camera=own.camera,
        rate_hz=own.rate_hz,
        first_frame=0,
        pixels=np.ascontiguousarray(own.pixels[:, order]),
        joints_camera_m=own.joints_camera_mm[:, order] / np.float32(1000),
        scored=own.scored,
        activities=own.activities,
    )


def _differences(prepared: Prepared) -> Iterator[str]:
    """Sequences that have not the frames they are known to have."""
    train_clips = prepared.splits["train"] + prepared.splits["validation"]
    for take, (frames, rate_hz) in TRAIN_TAKES.items():
        own = [clip for clip in train_clips if clip.take == take]
        lengths = sorted({len(clip) for clip in own})
        if lengths != [frames]:
            yield f"{take}: expected {frames} frames in each camera, found {', '.join(map(str, lengths))}"
        if {clip.rate_hz for clip in own} != {float(rate_hz)}:
            yield f"{take}: expected {rate_hz} frames per second, found {own[0].rate_hz:g}"
    for clip in prepared.splits["test"]:
        assert clip.scored is not None
        frames, valid, _ = TEST_TAKES[clip.take]
        if (len(clip), int(clip.scored.sum())) != (frames, valid):
            found = f"{len(clip)} and {int(clip.scored.sum())}"
            yield f"{clip.take}: expected {frames} frames and {valid} valid ones, found {found}"
    total = sum(len(clip) for clip in train_clips)
    if total != TRAIN_FRAMES:
        yield f"train sequences: expected {TRAIN_FRAMES} frames in all, found {total}"


def _check(folder: Path) -> list[str]:
    return prepare(folder, keypoints="gt", target="univ_annot3", validation_takes=()).differences


_OWNER = "vcai.mpi-inf.mpg.de/3dhp-dataset/: mpi_inf_3dhp.zip, whose get_dataset.sh and get_testset.sh fetch the rest"
_TERMS = "the licence that comes with the owner's download"
_ARCHIVES = (
    "nobody: made from the release, here by `poselift export mpi_inf_3dhp`; github.com/paTRICK-swk/P-STMO links some"
)
RAW_DATASET = RawDataset(
    title="MPI-INF-3DHP",
    folder="mpi_inf_3dhp",
    page="docs/datasets/mpi_inf_3dhp.md",
    needs=(
        Need(
            "train sequences",
            "every row",
            (
                RawFiles("S[1-8]/Seq[12]/annot.mat", "poses and keypoints of 14 cameras", _OWNER, _TERMS, expected=16),
                RawFiles(TRAIN_ARCHIVE, "the same of 8 cameras, scaled poses alone", _ARCHIVES, _TERMS),
            ),
            any_one=True,
        ),
        Need(
            "test sequences",
            "every row",
            (
                RawFiles("TS[1-6]/annot_data.mat", "poses, keypoints, valid frames, activities", _OWNER, _TERMS, 6),
                RawFiles(TEST_ARCHIVE, "the same without activities, scaled poses alone", _ARCHIVES, _TERMS),
            ),
            any_one=True,
        ),
        Need(
            "lenses",
            "nothing yet but clips.json",
            (RawFiles("S[1-8]/Seq[12]/camera.calibration", "beside annot.mat", _OWNER, _TERMS, expected=16),),
            optional=True,
        ),
    ),
    check=_check,
    find=find_all,
)
