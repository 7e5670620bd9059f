"""MPI-INF-3DHP (Mehta et al. 2017) as released or as P-STMO's archives hold it: files -> clips of 17 joints.

As released: S<1-8>/Seq<1-2>/annot.mat with camera.calibration, and TS<1-6>/annot_data.mat. Archives:
data_train_3dhp.npz and data_test_3dhp.npz. Joints are given an order with the root first (see H36M_ORDER). The test
frames that the dataset marks as valid are scored; all of them are context.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float32

from pipeline.clips import Clip, Prepared
from pipeline.errors import UserError
from pipeline.geometry import Camera
from pipeline.raw_arrays import check_in_image, numbers, read_hdf5_mat, read_mat
from pipeline.skeleton import MPI_INF_3DHP_17
from pipeline.untrusted import read_object_npz

KEYPOINTS = ("gt",)
TRAIN_ARCHIVE, TEST_ARCHIVE = "data_train_3dhp.npz", "data_test_3dhp.npz"
TARGETS = {
    "univ_annot3": "univ_annot3: scaled to the height of the universal skeleton, relative to the pelvis",
    "annot3": "annot3: in true size, relative to the pelvis",
}
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # of 14: those that the authors of methods train on
ALL_CAMERAS = 14
TRAIN_SIZE_PX = (2048, 2048)

# Frames and frames per second of Seq1 and Seq2.
TRAIN_TAKES: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "S1": ((6416, 25), (12430, 50)),
    "S2": ((6502, 25), (6081, 25)),
    "S3": ((12488, 50), (12283, 50)),
    "S4": ((6171, 25), (6675, 25)),
    "S5": ((12820, 50), (12312, 50)),
    "S6": ((6188, 25), (6145, 25)),
    "S7": ((6239, 25), (6320, 25)),
    "S8": ((6468, 25), (6054, 25)),
}
KNOWN_TAKES = {
    f"{subject} Seq{number}": known for subject, takes in TRAIN_TAKES.items() for number, known in enumerate(takes, 1)
}
TRAIN_FRAMES = 1_052_736  # of all of them in the eight cameras
# Of each test sequence: frames, valid frames, scene, image size. GS: green screen.
TEST_TAKES: dict[str, tuple[int, int, str, tuple[int, int]]] = {
    "TS1": (6151, 603, "GS", (2048, 2048)),
    "TS2": (6080, 540, "GS", (2048, 2048)),
    "TS3": (5838, 505, "noGS", (2048, 2048)),
    "TS4": (6007, 553, "noGS", (2048, 2048)),
    "TS5": (320, 276, "Outdoor", (1920, 1080)),
    "TS6": (492, 452, "Outdoor", (1920, 1080)),
}
UNLABELLED = "unlabelled"
ACTIVITIES = (  # by number; 0 is none of the dataset's
    UNLABELLED, "Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports",
    "Miscellaneous",
)  # fmt: skip

# The 17 evaluated joints, head top first, among the 28 released ones; then in Human3.6M's order among those 17.
RELEVANT = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
H36M_ORDER = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
PCK_JOINTS = tuple(place for place, joint in enumerate(H36M_ORDER) if joint < 14)  # without pelvis, spine and head


def prepare(folder: Path, *, keypoints: str, target: str, validation_takes: Collection[str]) -> Prepared:
    """All sequences in the eight cameras that others train on, and the six test sequences.

    Raises UserError if `keypoints` are not the exact ones, a file is missing, damaged or of another dataset, or a
    validation take is not a train sequence. Archives have no annot3: for that, the release is needed.
    """
    if keypoints not in KEYPOINTS:
        expected = f"expected {', '.join(KEYPOINTS)} for dataset mpi_inf_3dhp"
        raise UserError(f"keypoints: {expected}, found '{keypoints}'")
    unknown = sorted(set(validation_takes) - set(KNOWN_TAKES))
    if unknown:
        expected = "expected train sequences such as 'S8 Seq2'"
        raise UserError(f"datasets.mpi_inf_3dhp.validation_takes: {expected}, found '{unknown[0]}'")
    prepared = Prepared(
        in_skeleton=MPI_INF_3DHP_17, out_skeleton=MPI_INF_3DHP_17, target=TARGETS[target], pck_joints=PCK_JOINTS
    )
    prepared.splits["test"].extend(_test_clips(folder, target))
    for clip in _train_clips(folder, target):
        prepared.splits["validation" if clip.take in validation_takes else "train"].append(clip)
    prepared.differences.extend(_differences(prepared))
    return prepared


def _differences(prepared: Prepared) -> Iterator[str]:
    """Sequences that have not the frames they are known to have."""
    train_clips = prepared.splits["train"] + prepared.splits["validation"]
    for take, (frames, rate_hz) in KNOWN_TAKES.items():
        own = [clip for clip in train_clips if clip.take == take]
        lengths = sorted({len(clip) for clip in own})
        if lengths != [frames]:
            yield f"{take}: expected {frames} frames in each camera, found {', '.join(map(str, lengths))}"
        if {clip.rate_hz for clip in own} != {float(rate_hz)}:
            yield f"{take}: expected {rate_hz} frames per second, found {own[0].rate_hz:g}"
    for clip in prepared.splits["test"]:
        assert clip.scored is not None
        frames, valid, *_ = TEST_TAKES[clip.take]
        if (len(clip), int(clip.scored.sum())) != (frames, valid):
            found = f"{len(clip)} and {int(clip.scored.sum())}"
            yield f"{clip.take}: expected {frames} frames and {valid} valid ones, found {found}"
    total = sum(len(clip) for clip in train_clips)
    if total != TRAIN_FRAMES:
        yield f"train sequences: expected {TRAIN_FRAMES} frames in all, found {total}"


def _train_clips(folder: Path, target: str) -> Iterator[Clip]:
    """Of the release where it is, else of the archive."""
    released = {take: find(folder, f"{take.replace(' ', '/')}/annot.mat") for take in KNOWN_TAKES}
    if any(released.values()):
        for take, path in released.items():
            if path is None:
                raise UserError(f"{folder}: expected {take.replace(' ', '/')}/annot.mat, found no such file")
            yield from _released_train_clips(path, take, target)
    else:
        yield from _archived_train_clips(_archive(folder, TRAIN_ARCHIVE, target, "S1/Seq1/annot.mat"))


def _test_clips(folder: Path, target: str) -> Iterator[Clip]:
    """Of the release where it is, else of the archive."""
    released = {take: find(folder, f"{take}/annot_data.mat") for take in TEST_TAKES}
    if any(released.values()):
        for take, path in released.items():
            if path is None:
                raise UserError(f"{folder}: expected {take}/annot_data.mat, found no such file")
            yield _released_test_clip(path, take, target)
    else:
        yield from _archived_test_clips(_archive(folder, TEST_ARCHIVE, target, "TS1/annot_data.mat"))


def find(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder or in one folder in it (mpi_inf_3dhp_test_set/TS1/...), or None.

    Raises UserError if there are two.
    """
    found = [path for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: expected one {name}, found {found[0]} and {found[1]}")
    return found[0] if found else None


def _archive(folder: Path, name: str, target: str, released: str) -> dict[Any, Any]:
    path = folder / name
    if target != "univ_annot3":
        raise UserError(f"{folder}: expected {released} and the others for the target {target}, found none of them")
    if not path.is_file():
        raise UserError(f"{folder}: expected {name} or {released} and the others, found neither")
    content = read_object_npz(path).get("data")
    wanted = KNOWN_TAKES if name == TRAIN_ARCHIVE else TEST_TAKES
    if not isinstance(content, dict) or set(content) != set(wanted):
        names = [str(key) for key in content] if isinstance(content, dict) else []
        wrong = sorted(set(names) - set(wanted)) or sorted(set(wanted) - set(names))
        problem = "found no such sequence" if wrong[0] in wanted else "which is unknown"
        raise UserError(f"{path}: expected the sequences {', '.join(wanted)} in 'data'; '{wrong[0]}': {problem}")
    return {take: (content[take], f"{path}: {take}") for take in wanted}


def _released_train_clips(path: Path, take: str, target: str) -> Iterator[Clip]:
    variables = read_mat(path, ("annot2", target, "cameras"))
    cells = {}
    for name, width in (("annot2", 56), (target, 84)):
        cell = variables[name]
        if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size != ALL_CAMERAS:
            raise UserError(f"{path}: {name}: expected a cell for each of {ALL_CAMERAS} cameras, found {cell.shape}")
        cells[name] = (rearrange(cell, "... -> (...)"), width)
    order = np.asarray(variables["cameras"]).ravel().tolist()
    if sorted(order) != list(range(ALL_CAMERAS)):
        raise UserError(f"{path}: cameras: expected 0 to {ALL_CAMERAS - 1}, found {order}")
    lenses = _read_lenses(path.with_name("camera.calibration"))
    for camera in CAMERAS:
        arrays = []
        for name, (cell, width) in cells.items():
            where = f"{path}: {name}: camera {camera}"
            flat = numbers(cell[order.index(camera)], (None, width), where=where)
            joints = rearrange(flat, "f (j c) -> f j c", j=28)
            arrays.append(joints[:, list(RELEVANT)])
        yield _clip(
            take,
            lenses[camera],
            *arrays,
            where=f"{path}: camera {camera}",
            subset="train",
            subject=take.split()[0],
            action=take.split()[1],
            rate_hz=float(KNOWN_TAKES[take][1]),
        )


def _archived_train_clips(takes: dict[Any, Any]) -> Iterator[Clip]:
    for take, (content, where) in takes.items():
        if not isinstance(content, (list, tuple, np.ndarray)) or len(content) != 2 or not isinstance(content[0], dict):
            raise UserError(f"{where}: expected [cameras, frames per second], found {type(content).__name__}")
        cameras = {str(name): arrays for name, arrays in content[0].items()}
        rate = content[1]
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)) or not rate > 0:
            raise UserError(f"{where}: expected frames per second, found {rate!r}")
        if set(cameras) != {str(camera) for camera in CAMERAS}:
            expected, found = ", ".join(map(str, CAMERAS)), ", ".join(cameras)
            raise UserError(f"{where}: expected the cameras {expected}, found {found}")
        for camera in CAMERAS:
            arrays = _archived_arrays(cameras[str(camera)], f"{where}: camera {camera}")
            yield _clip(
                take,
                Camera(str(camera), *TRAIN_SIZE_PX),
                *arrays,
                where=f"{where}: camera {camera}",
                subset="train",
                subject=take.split()[0],
                action=take.split()[1],
                rate_hz=float(rate),
            )


def _archived_arrays(content: object, where: str) -> list[Float32[np.ndarray, "_ 17 _"]]:
    arrays = []
    for name, channels in (("data_2d", 2), ("data_3d", 3)):
        if not isinstance(content, dict) or name not in content:
            found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise UserError(f"{where}: expected '{name}', found {found}")
        arrays.append(numbers(content[name], (None, 17, channels), where=f"{where}: {name}"))
    return arrays


def _released_test_clip(path: Path, take: str, target: str) -> Clip:
    variables = read_hdf5_mat(path, ("annot2", target, "valid_frame", "activity_annotation"))
    arrays = [
        rearrange(numbers(variables[name], (None, 1, 17, channels), where=f"{path}: {name}"), "f 1 j c -> f j c")
        for name, channels in (("annot2", 2), (target, 3))
    ]
    frames = len(arrays[0])
    scored = _valid_frames(variables["valid_frame"], frames, where=f"{path}: valid_frame")
    activity = numbers(variables["activity_annotation"], (frames, 1), where=f"{path}: activity_annotation")[:, 0]
    bad = np.flatnonzero(~np.isin(activity, range(len(ACTIVITIES))) | (scored & (activity == 0)))
    if len(bad):
        where = f"{path}: activity_annotation: frame {bad[0]}"
        raise UserError(f"{where}: expected 1 to {len(ACTIVITIES) - 1}, found {activity[bad[0]]:g}")
    starts = [0, *(np.flatnonzero(np.diff(activity)) + 1).tolist()]
    activities = tuple((start, ACTIVITIES[int(activity[start])]) for start in starts)
    return _test_clip(take, arrays, scored, str(path), activities=activities)


def _archived_test_clips(takes: dict[Any, Any]) -> Iterator[Clip]:
    for take, (content, where) in takes.items():
        arrays = _archived_arrays(content, where)
        if "valid" not in content:
            raise UserError(f"{where}: expected 'valid', the mark of the frames to score, found {', '.join(content)}")
        scored = _valid_frames(content["valid"], len(arrays[0]), where=f"{where}: valid")
        yield _test_clip(take, arrays, scored, where)


def _valid_frames(value: object, frames: int, *, where: str) -> Bool[np.ndarray, " F"]:
    flat = value[:, 0] if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 1 else value
    if isinstance(flat, np.ndarray) and flat.dtype == bool:
        flat = flat.astype(np.uint8)
    marks = numbers(flat, (frames,), where=where)
    if not np.isin(marks, (0, 1)).all() or not marks.any():
        raise UserError(f"{where}: expected 0 and 1, at least one 1, found {np.unique(marks)[:5].tolist()}")
    return marks == 1


def _test_clip(
    take: str,
    arrays: list[Float32[np.ndarray, "_ 17 _"]],
    scored: Bool[np.ndarray, " F"],
    where: str,
    *,
    activities: tuple[tuple[int, str], ...] = (),
) -> Clip:
    _, _, scene, size_px = TEST_TAKES[take]
    clip = _clip(
        take,
        Camera("0", *size_px),
        *arrays,
        where=where,
        subset=scene,
        subject=take,
        action=UNLABELLED,
        rate_hz=None,
        checked=scored,
    )
    return replace(clip, scored=scored, activities=activities)


def _clip(
    take: str,
    camera: Camera,
    pixels: Float32[np.ndarray, "F 17 2"],
    joints_camera_mm: Float32[np.ndarray, "G 17 3"],
    *,
    where: str,
    subset: str,
    subject: str,
    action: str,
    rate_hz: float | None,
    checked: Bool[np.ndarray, " F"] | slice = slice(None),
) -> Clip:
    """Arrays in the dataset's order of 17 -> a clip in ours. Keypoints are looked at in the frames `checked` alone."""
    if len(pixels) != len(joints_camera_mm):
        found = f"{len(pixels)} and {len(joints_camera_mm)}"
        raise UserError(f"{where}: expected keypoints and poses of as many frames, found {found}")
    check_in_image(pixels[checked], camera, where=where)
    order = list(H36M_ORDER)
    return Clip(
        take=take,
        subset=subset,
        subject=subject,
        action=action,
        camera=camera,
        rate_hz=rate_hz,
        first_frame=0,
        pixels=np.ascontiguousarray(pixels[:, order]),
        joints_camera_m=joints_camera_mm[:, order] / np.float32(1000),
    )


def _read_lenses(path: Path) -> dict[int, Camera]:
    """The cameras of a calibration file by number. Without the file their lenses are unknown.

    Raises UserError if the file is damaged or of images of another size.
    """
    if not path.is_file():
        return {camera: Camera(str(camera), *TRAIN_SIZE_PX) for camera in CAMERAS}
    entries: list[dict[str, list[str]]] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            key, *values = line.split() or [""]
            if key == "name":
                entries.append({})
            if key:
                entries[-1][key] = values
        lenses = {}
        for entry in entries:
            name, size = int(entry["name"][0]), tuple(int(value) for value in entry["size"])
            if size != TRAIN_SIZE_PX:
                raise UserError(f"{path}: camera {name}: expected images of {TRAIN_SIZE_PX} pixels, found {size}")
            fx, _, cx, _, _, fy, cy, *_ = (float(value) for value in entry["intrinsic"])
            lenses[name] = Camera(str(name), *TRAIN_SIZE_PX, focal_px=(fx, fy), centre_px=(cx, cy))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: expected a camera calibration, found {type(error).__name__}: {error}") from error
    missing = sorted(set(CAMERAS) - set(lenses))
    if missing:
        raise UserError(f"{path}: expected the cameras {', '.join(map(str, CAMERAS))}, found no camera {missing[0]}")
    return lenses
