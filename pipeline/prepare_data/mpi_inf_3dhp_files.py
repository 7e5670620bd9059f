"""MPI-INF-3DHP's files -> recordings in the dataset's order of 17 joints, and back to archives.

As released: S<1-8>/Seq<1-2>/annot.mat with camera.calibration, and TS<1-6>/annot_data.mat. Archives, as P-STMO makes
them: data_train_3dhp.npz and data_test_3dhp.npz, which have the scaled poses (univ_annot3) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float32

from pipeline.poses.geometry import Camera
from pipeline.prepare_data.raw_arrays import numbers, read_hdf5_mat, read_mat
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError, reason
from pipeline.system.files import new_folder

TRAIN_ARCHIVE, TEST_ARCHIVE = "data_train_3dhp.npz", "data_test_3dhp.npz"
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # of 14: those that the authors of methods train on
ALL_CAMERAS = 14
TRAIN_SIZE_PX = (2048, 2048)

# Frames and frames per second of each train sequence.
TRAIN_TAKES: dict[str, tuple[int, int]] = {
    "S1 Seq1": (6416, 25), "S1 Seq2": (12430, 50), "S2 Seq1": (6502, 25), "S2 Seq2": (6081, 25),
    "S3 Seq1": (12488, 50), "S3 Seq2": (12283, 50), "S4 Seq1": (6171, 25), "S4 Seq2": (6675, 25),
    "S5 Seq1": (12820, 50), "S5 Seq2": (12312, 50), "S6 Seq1": (6188, 25), "S6 Seq2": (6145, 25),
    "S7 Seq1": (6239, 25), "S7 Seq2": (6320, 25), "S8 Seq1": (6468, 25), "S8 Seq2": (6054, 25),
}  # fmt: skip
TRAIN_FRAMES = 1_052_736  # of all of them in the eight cameras
# Frames, valid frames and image size of each test sequence.
TEST_TAKES: dict[str, tuple[int, int, tuple[int, int]]] = {
    "TS1": (6151, 603, (2048, 2048)),
    "TS2": (6080, 540, (2048, 2048)),
    "TS3": (5838, 505, (2048, 2048)),
    "TS4": (6007, 553, (2048, 2048)),
    "TS5": (320, 276, (1920, 1080)),
    "TS6": (492, 452, (1920, 1080)),
}
UNLABELLED = "unlabelled"
ACTIVITIES = (  # by number; 0 is none of the dataset's
    UNLABELLED, "Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports",
    "Miscellaneous",
)  # fmt: skip
RELEVANT = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)  # the 17 joints among the 28 of train files


@dataclass(frozen=True)
class Recording:
    """A sequence in one camera, joints in the dataset's order, poses in the camera frame. `where` names the file.

    `rate_hz` is None and `scored` marks the valid frames in the test set; `activities` are as in a Clip.
    """

    take: str
    camera: Camera
    rate_hz: float | None
    pixels: Float32[np.ndarray, "F 17 2"]
    joints_camera_mm: Float32[np.ndarray, "G 17 3"]
    where: str
    scored: Bool[np.ndarray, " H"] | None = None
    activities: tuple[tuple[int, str], ...] = ()


def read_train(folder: Path, target: str) -> Iterator[Recording]:
    """The train sequences, from the release where it is, else from the archive.

    Raises UserError if a file is missing, damaged or of another dataset.
    """
    released = {take: find(folder, f"{take.replace(' ', '/')}/annot.mat") for take in TRAIN_TAKES}
    if any(released.values()):
        for take, path in released.items():
            if path is None:
                raise UserError(f"{folder}: expected {take.replace(' ', '/')}/annot.mat, found no such file")
            yield from _released_train(path, take, target)
    else:
        yield from _archived_train(_archive(folder, TRAIN_ARCHIVE, target, "S1/Seq1/annot.mat"))


def read_test(folder: Path, target: str) -> Iterator[Recording]:
    """The test sequences, likewise."""
    released = {take: find(folder, f"{take}/annot_data.mat") for take in TEST_TAKES}
    if any(released.values()):
        for take, path in released.items():
            if path is None:
                raise UserError(f"{folder}: expected {take}/annot_data.mat, found no such file")
            yield _released_test(path, take, target)
    else:
        yield from _archived_test(_archive(folder, TEST_ARCHIVE, target, "TS1/annot_data.mat"))


def find(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder or at most two folders deeper, as the owner's scripts leave it, or None.

    Raises UserError if there are two.
    """
    found = find_all(folder, name)
    if len(found) > 1:
        raise UserError(f"{folder}: expected one {name}, found {found[0]} and {found[1]}")
    return found[0] if found else None


def find_all(folder: Path, pattern: str) -> list[Path]:
    """The files of that pattern in the folder or at most two folders deeper."""
    return [path for deeper in ("", "*/", "*/*/") for path in sorted(folder.glob(deeper + pattern)) if path.is_file()]


def write_archives(folder: Path, out: Path, *, keypoints: Sequence[str]) -> None:
    """Write what is in `folder` as archives into `out`, as other people's code reads them. `keypoints` can be gt alone.

    Raises UserError as the readers do.
    """
    check_keypoints(keypoints)
    train: dict[str, list[Any]] = {take: [{}, rate_hz] for take, (_, rate_hz) in TRAIN_TAKES.items()}
    for own in read_train(folder, "univ_annot3"):
        train[own.take][0][own.camera.name] = {"data_2d": own.pixels, "data_3d": own.joints_camera_mm}
        if own.rate_hz is not None:
            train[own.take][1] = own.rate_hz
    test = {
        own.take: {"data_2d": own.pixels, "data_3d": own.joints_camera_mm, "valid": np.asarray(own.scored, np.float32)}
        for own in read_test(folder, "univ_annot3")
    }
    with new_folder(out) as partial:
        np.savez_compressed(partial / TRAIN_ARCHIVE, data=train)  # type: ignore[arg-type]
        np.savez_compressed(partial / TEST_ARCHIVE, data=test)  # type: ignore[arg-type]


def check_keypoints(keypoints: Sequence[str]) -> None:
    """Raises UserError for others than the dataset's own annotations."""
    for name in keypoints:
        if name != "gt":
            raise UserError(f"keypoints: expected gt for dataset mpi_inf_3dhp, found '{name}'")


def _archive(folder: Path, name: str, target: str, released: str) -> dict[str, tuple[Any, str]]:
    """The content of each sequence of an archive, and what to call it."""
    path = folder / name
    if target != "univ_annot3":
        raise UserError(f"{folder}: expected {released} and the others for the target {target}, found none of them")
    if not path.is_file():
        raise UserError(f"{folder}: expected {name} or {released} and the others, found neither")
    content = read_object_npz(path).get("data")
    wanted = list(TRAIN_TAKES if name == TRAIN_ARCHIVE else TEST_TAKES)
    if not isinstance(content, dict) or set(content) != set(wanted):
        names = [str(key) for key in content] if isinstance(content, dict) else []
        wrong = sorted(set(names) - set(wanted)) or sorted(set(wanted) - set(names))
        problem = "found no such sequence" if wrong[0] in wanted else "which is unknown"
        raise UserError(f"{path}: expected the sequences {', '.join(wanted)} in 'data'; '{wrong[0]}': {problem}")
    return {take: (content[take], f"{path}: {take}") for take in wanted}


def _released_train(path: Path, take: str, target: str) -> Iterator[Recording]:
    variables = read_mat(path, ("annot2", target, "cameras"))
    cells = []
    for name, width in (("annot2", 56), (target, 84)):
        cell = variables[name]
        if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size != ALL_CAMERAS:
            raise UserError(f"{path}: {name}: expected a cell for each of {ALL_CAMERAS} cameras, found {cell.shape}")
        cells.append((name, rearrange(cell, "... -> (...)"), width))
    order = np.asarray(variables["cameras"]).ravel().tolist()
    if sorted(order) != list(range(ALL_CAMERAS)):
        raise UserError(f"{path}: cameras: expected 0 to {ALL_CAMERAS - 1}, found {order}")
    lenses = _read_lenses(path.with_name("camera.calibration"))
    for camera in CAMERAS:
        arrays = []
        for name, cell, width in cells:
            flat = numbers(cell[order.index(camera)], (None, width), where=f"{path}: {name}: camera {camera}")
            arrays.append(rearrange(flat, "f (j c) -> f j c", j=28)[:, list(RELEVANT)])
        pixels, joints_mm = arrays
        rate_hz = float(TRAIN_TAKES[take][1])
        yield Recording(take, lenses[camera], rate_hz, pixels, joints_mm, f"{path}: camera {camera}")


def _archived_train(takes: dict[str, tuple[Any, str]]) -> Iterator[Recording]:
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
            own = f"{where}: camera {camera}"
            pixels, joints_mm = _archived_arrays(cameras[str(camera)], own)
            yield Recording(take, Camera(str(camera), *TRAIN_SIZE_PX), float(rate), pixels, joints_mm, own)


def _archived_arrays(content: object, where: str) -> list[Float32[np.ndarray, "_ 17 _"]]:
    arrays = []
    for name, channels in (("data_2d", 2), ("data_3d", 3)):
        if not isinstance(content, dict) or name not in content:
            found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise UserError(f"{where}: expected '{name}', found {found}")
        arrays.append(numbers(content[name], (None, 17, channels), where=f"{where}: {name}"))
    return arrays


def _released_test(path: Path, take: str, target: str) -> Recording:
    variables = read_hdf5_mat(path, ("annot2", target, "valid_frame", "activity_annotation"))
    pixels, joints_mm = (
        rearrange(numbers(variables[name], (None, 1, 17, channels), where=f"{path}: {name}"), "f 1 j c -> f j c")
        for name, channels in (("annot2", 2), (target, 3))
    )
    scored = _valid_frames(variables["valid_frame"], len(pixels), where=f"{path}: valid_frame")
    activity = numbers(variables["activity_annotation"], (len(pixels), 1), where=f"{path}: activity_annotation")[:, 0]
    bad = np.flatnonzero(~np.isin(activity, range(len(ACTIVITIES))) | (scored & (activity == 0)))
    if len(bad):
        where = f"{path}: activity_annotation: frame {bad[0]}"
        raise UserError(f"{where}: expected 1 to {len(ACTIVITIES) - 1}, found {activity[bad[0]]:g}")
    starts = [0, *(np.flatnonzero(np.diff(activity)) + 1).tolist()]
    activities = tuple((start, ACTIVITIES[int(activity[start])]) for start in starts)
    camera = Camera("0", *TEST_TAKES[take][2])
    return Recording(take, camera, None, pixels, joints_mm, str(path), scored=scored, activities=activities)


def _archived_test(takes: dict[str, tuple[Any, str]]) -> Iterator[Recording]:
    for take, (content, where) in takes.items():
        pixels, joints_mm = _archived_arrays(content, where)
        if "valid" not in content:
            raise UserError(f"{where}: expected 'valid', the mark of the frames to score, found {', '.join(content)}")
        scored = _valid_frames(content["valid"], len(pixels), where=f"{where}: valid")
        yield Recording(take, Camera("0", *TEST_TAKES[take][2]), None, pixels, joints_mm, where, scored=scored)


def _valid_frames(value: object, frames: int, *, where: str) -> Bool[np.ndarray, " F"]:
    flat = value[:, 0] if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 1 else value
    if isinstance(flat, np.ndarray) and flat.dtype == bool:
        flat = flat.astype(np.uint8)
    marks = numbers(flat, (frames,), where=where)
    if not np.isin(marks, (0, 1)).all() or not marks.any():
        raise UserError(f"{where}: expected 0 and 1, at least one 1, found {np.unique(marks)[:5].tolist()}")
    return marks == 1


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
        raise UserError(f"{path}: expected a camera calibration, found {reason(error)}") from error
    missing = sorted(set(CAMERAS) - set(lenses))
    if missing:
        raise UserError(f"{path}: expected the cameras {', '.join(map(str, CAMERAS))}, found no camera {missing[0]}")
    return lenses
