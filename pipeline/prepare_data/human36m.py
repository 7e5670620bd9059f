"""Human3.6M (Ionescu et al. 2014) as the field evaluates it: 17 joints, four cameras, S1 S5 S6 S7 S8 against S9 S11.

All frames at 50 Hz, none left out but those of the corrupt take; the corresponding keypoints are cut to the motion's
length. An action is all takes of its name. Which files can be read: human36m_files.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera, project
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data.human36m_files import (
    ACTIONS,
    ARCHIVE,
    CAMERAS,
    CORRUPT,
    HOURGLASS,
    LABELLED,
    POSE_FORMATS,
    UNLABELLED,
    Keypoints,
    Poses,
    action_of,
    files,
    in_order,
    read_keypoints,
    read_poses,
    seen_by_cameras,
)
from pipeline.prepare_data.prepared import Dropped, Prepared
from pipeline.prepare_data.raw_arrays import check_in_image
from pipeline.prepare_data.raw_files import Need, RawDataset, RawFiles
from pipeline.system.errors import UserError

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
        wrong = []
        for action in ACTIONS:
            own = sorted(take for take in takes if action_of(take) == action)
            known = TAKES_PER_ACTION - ((subject, action) == CORRUPT)
            if len(own) != known:
                wrong.append(f"{action} {len(own)} of {known}" + (f" ({', '.join(own)})" if own else ""))
        if not takes:
            yield f"{subject}: expected {whole} takes, found none"
        elif wrong:
            yield f"{subject}: expected {whole} takes, found {len(takes)}: {'; '.join(wrong)}"


def _differences(poses: Poses, prepared: Prepared) -> Iterator[str]:
    yield from missing_takes(poses)
    clips = {"train": prepared.splits["train"] + prepared.splits["validation"], "test": prepared.splits["test"]}
    for split, known in KNOWN_FRAMES.items():
        frames = sum(len(clip) for clip in clips[split])
        if frames != known:
            takes = len({clip.take for clip in clips[split]})
            yield f"{split} subjects: expected {known} frames over all cameras, found {frames} in {takes} takes"
    yield from sorted({f"{d.take}: {d.reason}" for d in prepared.dropped if d.reason == WITHOUT_MOTION})


def known_keypoints(folder: Path) -> list[str]:
    """Names of the keypoints that can be read from the folder; "gt" always can."""
    archives = [path.stem.removeprefix("data_2d_h36m_") for path in sorted(folder.glob("data_2d_h36m_*.npz"))]
    folders = [name for name, own in HOURGLASS.items() if files(folder, f"S*/{own}/*.h5")]
    return list(dict.fromkeys(["gt", *archives, *folders]))


def _check(folder: Path) -> list[str]:
    """What is not as known of the poses and of every kind of keypoints that is there."""
    lines: list[str] = []
    for keypoints in known_keypoints(folder):
        differences = prepare(folder, keypoints=keypoints, validation_takes=()).differences
        lines += [line for line in differences if line not in lines]
    return lines


_OFFICIAL = (
    "vision.imar.ro/human3.6m, after registration: Poses, D3 Positions (Poses_D3_Positions_S*.tgz, to be unpacked)"
)
_OFFICIAL_TERMS = "the dataset's licence agreement: academic use, no redistribution"
_DETECTIONS = "dl.fbaipublicfiles.com/video-pose-3d/, linked in DATASETS.md of github.com/facebookresearch/VideoPose3D"
_DETECTION_TERMS = "the linking repository is under CC BY-NC 4.0; made from Human3.6M's videos, whose licence holds too"
_MARTINEZ = "github.com/una-dinosauria/3d-pose-baseline"
_POSES = {
    "the archive": RawFiles(
        pattern=ARCHIVE,
        content="poses of all takes in one file",
        origin="nobody: it is made from the official files, here by `poselift export h36m`",
        terms=_OFFICIAL_TERMS,
    ),
    "CDF files": RawFiles(
        pattern=POSE_FORMATS["CDF files"][0],
        content="the official files, 30 takes of each of 7 subjects",
        origin=_OFFICIAL,
        terms=_OFFICIAL_TERMS,
        expected=210,
    ),
    "CDF files converted to MATLAB's": RawFiles(
        pattern=POSE_FORMATS["CDF files converted to MATLAB's"][0],
        content="the official files converted by MATLAB",
        origin="nobody: convert_cdf_to_mat.m of VideoPose3D makes them from the official files",
        terms=_OFFICIAL_TERMS,
        expected=210,
    ),
    "HDF5 files": RawFiles(
        pattern=POSE_FORMATS["HDF5 files"][0],
        content="h36m.zip of Martinez et al. 2017, unpacked",
        origin=f"{_MARTINEZ}, where the link is dead since May 2020",
        terms=_OFFICIAL_TERMS,
        expected=210,
    ),
}
RAW_DATASET = RawDataset(
    title="Human3.6M",
    folder="h36m",
    page="docs/datasets/human36m.md",
    needs=(
        Need("poses", "every row", tuple(_POSES[kind] for kind in POSE_FORMATS), any_one=True),
        Need(
            "keypoints gt",
            "rows h36m-gt-*; projected from the poses where the file is missing",
            (
                RawFiles(
                    "data_2d_h36m_gt.npz",
                    "exact projections",
                    "nobody: made with data_3d_h36m.npz by `poselift export h36m`",
                    _OFFICIAL_TERMS,
                ),
            ),
            optional=True,
        ),
        *(
            Need(
                f"keypoints {name}",
                f"rows h36m-{name}-*",
                (RawFiles(f"data_2d_h36m_{name}.npz", content, _DETECTIONS, _DETECTION_TERMS),),
                optional=True,
            )
            for name, content in {
                "cpn_ft_h36m_dbb": "cascaded pyramid network, the keypoints of most published results",
                "detectron_ft_h36m": "Mask R-CNN fine-tuned on Human3.6M",
            }.items()
        ),
        *(
            Need(
                f"keypoints {name}",
                f"rows h36m-{name}-*",
                (
                    RawFiles(f"data_2d_h36m_{name}.npz", "stacked hourglass network", f"nobody: {made}", terms),
                    RawFiles(f"S*/{HOURGLASS[name]}/*.h5", "the same as folders", origin, terms, expected=839),
                ),
                any_one=True,
                optional=True,
            )
            for name, made, origin, terms in (
                (
                    "sh_pt_mpii",
                    "made from the folders by `poselift export h36m`",
                    f"h36m.zip of {_MARTINEZ}, where the link is dead since May 2020",
                    _OFFICIAL_TERMS,
                ),
                (
                    "sh_ft_h36m",
                    "made from the folders by `poselift export h36m`",
                    f"stacked_hourglass_fined_tuned_240.tar.gz, linked in {_MARTINEZ}",
                    _OFFICIAL_TERMS,
                ),
            )
        ),
    ),
    check=_check,
    find=files,
)
