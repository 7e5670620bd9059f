"""Reads MPI-INF-3DHP's files as recordings in the dataset's order of 17 joints, and writes P-STMO's archives of them.

The release has S<1-8>/Seq<1-2>/annot.mat with camera.calibration, and TS<1-6>/annot_data.mat. P-STMO's archives are
data_train_3dhp.npz and data_test_3dhp.npz, which have the scaled poses (univ_annot3) alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float32

from pipeline.poses.frames import split_runs
from pipeline.poses.geometry import Camera
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed.raw_arrays import numbers, read_hdf5_mat, read_mat
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError, reason
from pipeline.system.files import new_folder

TRAIN_ARCHIVE, TEST_ARCHIVE = "data_train_3dhp.npz", "data_test_3dhp.npz"
KEYPOINTS = ("gt",)  # nobody published detections
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # those of the 14 that the field trains on
ALL_CAMERAS = 14
TRAIN_SIZE_PX = (2048, 2048)

# Number of frames and frames per second of each train sequence.
TRAIN_TAKES: dict[str, tuple[int, int]] = {
    "S1 Seq1": (6416, 25), "S1 Seq2": (12430, 50), "S2 Seq1": (6502, 25), "S2 Seq2": (6081, 25),
    "S3 Seq1": (12488, 50), "S3 Seq2": (12283, 50), "S4 Seq1": (6171, 25), "S4 Seq2": (6675, 25),
    "S5 Seq1": (12820, 50), "S5 Seq2": (12312, 50), "S6 Seq1": (6188, 25), "S6 Seq2": (6145, 25),
    "S7 Seq1": (6239, 25), "S7 Seq2": (6320, 25), "S8 Seq1": (6468, 25), "S8 Seq2": (6054, 25),
}  # fmt: skip
TRAIN_FRAMES = 1_052_736  # all of them in the eight cameras
# Number of frames, number of valid frames and image size (pixels) of each test sequence.
TEST_TAKES: dict[str, tuple[int, int, tuple[int, int]]] = {
    "TS1": (6151, 603, (2048, 2048)), "TS2": (6080, 540, (2048, 2048)), "TS3": (5838, 505, (2048, 2048)),
    "TS4": (6007, 553, (2048, 2048)), "TS5": (320, 276, (1920, 1080)), "TS6": (492, 452, (1920, 1080)),
}  # fmt: skip
UNLABELLED = "unlabelled"
ACTIVITIES = (  # by the dataset's number; 0 marks frames without an activity
    UNLABELLED, "Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports",
    "Miscellaneous",
)  # fmt: skip
RELEVANT = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)  # the 17 joints among the 28 of train files


@dataclass(frozen=True)
class Recording:
    """A sequence in one camera, joints in the dataset's order, poses in the camera frame. `where` names the file.

    In the train set `rate_hz` is known. In the test set `scored` marks the valid frames, and `activities` are as in a
    Clip; archives have none.
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
    """Reads the train sequences in each camera from the release or, where none of it is there, from the archive.

    `target` is "univ_annot3" (scaled to the universal skeleton) or "annot3" (true size). Raises UserError if a file is
    missing, damaged or of another dataset, or if archives have not the target.
    """
    names = {take: f"{take.replace(' ', '/')}/annot.mat" for take in TRAIN_TAKES}
    paths = _released(folder, names)
    for take, path in paths.items():
        yield from _read_train_mat(path, take, target)
    if not paths:
        for take, content, where in _read_archive(folder / TRAIN_ARCHIVE, target, names):
            yield from _read_archived_train(content, take, where=where)


def read_test(folder: Path, target: str) -> Iterator[Recording]:
    """Reads the test sequences likewise, each in its one camera."""
    names = {take: f"{take}/annot_data.mat" for take in TEST_TAKES}
    paths = _released(folder, names)
    for take, path in paths.items():
        yield _read_test_mat(path, take, target)
    if not paths:
        for take, content, where in _read_archive(folder / TEST_ARCHIVE, target, names):
            yield _read_archived_test(content, take, where=where)


def _released(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Returns the released file of each take, or nothing if there is none of them.

    Raises UserError if only some are there, or if there are two of one.
    """
    found = {take: find_all(folder, name) for take, name in names.items()}
    if not any(found.values()):
        return {}
    for take, paths in found.items():
        if not paths:
            raise UserError(f"{folder}: expected {names[take]}, found no such file")
        if len(paths) > 1:
            raise UserError(f"{folder}: expected one {names[take]}, found {paths[0]} and {paths[1]}")
    return {take: paths[0] for take, paths in found.items()}


def find_all(folder: Path, pattern: str) -> list[Path]:
    """Returns the files of that pattern in the folder or at most two deeper, where the owner's scripts leave them."""
    return [path for deeper in ("", "*/", "*/*/") for path in sorted(folder.glob(deeper + pattern)) if path.is_file()]


def write_archives(folder: Path, out: Path, *, keypoints: Sequence[str]) -> None:
    """Writes what is in `folder` as archives into `out`, as other people's code reads them.

    Raises UserError as the readers do, and for keypoints other than "gt".
    """
    licensed.check_known(keypoints, KEYPOINTS, where="keypoints of mpi_inf_3dhp", expected="one of")
    cameras: dict[str, dict[str, dict[str, np.ndarray]]] = {take: {} for take in TRAIN_TAKES}
    rates_hz: dict[str, float] = {take: rate_hz for take, (_, rate_hz) in TRAIN_TAKES.items()}
    for recording in read_train(folder, "univ_annot3"):
        cameras[recording.take][recording.camera.name] = _archived(recording)
        if recording.rate_hz is not None:
            rates_hz[recording.take] = recording.rate_hz
    train = {take: [cameras[take], rates_hz[take]] for take in TRAIN_TAKES}
    test = {
        recording.take: _archived(recording) | {"valid": np.asarray(recording.scored, np.float32)}
        for recording in read_test(folder, "univ_annot3")
    }
    with new_folder(out) as partial:
        licensed.write_npz(partial / TRAIN_ARCHIVE, data=train)
        licensed.write_npz(partial / TEST_ARCHIVE, data=test)


def _archived(recording: Recording) -> dict[str, np.ndarray]:
    return {"data_2d": recording.pixels, "data_3d": recording.joints_camera_mm}


def _read_archive(path: Path, target: str, names: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    """Yields each take of an archive, its content and its name for messages; `names` are the released files'."""
    released = f"{next(iter(names.values()))} and the others"
    if target != "univ_annot3":
        raise UserError(f"{path.parent}: expected {released} for the target {target}, found none of them")
    if not path.is_file():
        raise UserError(f"{path.parent}: expected {path.name} or {released}, found neither")
    content = read_object_npz(path).get("data")
    takes = content if isinstance(content, dict) else {}
    if wrong := sorted(map(str, takes.keys() ^ names.keys())):
        problem = "missing" if wrong[0] in names else "unknown"
        raise UserError(f"{path}: expected the sequences {', '.join(names)} in 'data'; '{wrong[0]}' is {problem}")
    yield from ((take, takes[take], f"{path}: {take}") for take in names)


def _read_train_mat(path: Path, take: str, target: str) -> Iterator[Recording]:
    variables = read_mat(path, ("annot2", target, "cameras"))
    cells = {}
    for name in ("annot2", target):
        cell = variables[name]
        if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size != ALL_CAMERAS:
            raise UserError(f"{path}: {name}: expected a cell for each of {ALL_CAMERAS} cameras, found {cell.shape}")
        cells[name] = rearrange(cell, "... -> (...)")
    order = np.asarray(variables["cameras"]).ravel().tolist()
    if sorted(order) != list(range(ALL_CAMERAS)):
        raise UserError(f"{path}: cameras: expected 0 to {ALL_CAMERAS - 1}, found {order}")
    lenses = _read_lenses(path.with_name("camera.calibration"))

    def read(name: str, camera: int, channels: int) -> Float32[np.ndarray, "F 17 _"]:
        where = f"{path}: {name}: camera {camera}"
        flat = numbers(cells[name][order.index(camera)], (None, 28 * channels), where=where)
        return rearrange(flat, "f (j c) -> f j c", c=channels)[:, list(RELEVANT)]

    for camera in CAMERAS:
        pixels, joints_camera_mm = read("annot2", camera, 2), read(target, camera, 3)
        rate_hz = float(TRAIN_TAKES[take][1])
        yield Recording(take, lenses[camera], rate_hz, pixels, joints_camera_mm, f"{path}: camera {camera}")


def _read_archived_train(content: object, take: str, *, where: str) -> Iterator[Recording]:
    if not isinstance(content, (list, tuple, np.ndarray)) or len(content) != 2 or not isinstance(content[0], dict):
        raise UserError(f"{where}: expected [cameras, frames per second], found {type(content).__name__}")
    cameras, rate_hz = {str(name): arrays for name, arrays in content[0].items()}, content[1]
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, (int, float, np.integer, np.floating)) or not rate_hz > 0:
        raise UserError(f"{where}: expected frames per second, found {rate_hz!r}")
    if set(cameras) != {str(camera) for camera in CAMERAS}:
        expected, found = ", ".join(map(str, CAMERAS)), ", ".join(cameras)
        raise UserError(f"{where}: expected the cameras {expected}, found {found}")
    for camera in map(str, CAMERAS):
        in_camera = f"{where}: camera {camera}"
        pixels, joints_camera_mm = _archived_arrays(cameras[camera], where=in_camera)
        yield Recording(take, Camera(camera, *TRAIN_SIZE_PX), float(rate_hz), pixels, joints_camera_mm, in_camera)


def _archived_arrays(content: object, *, where: str) -> list[Float32[np.ndarray, "_ 17 _"]]:
    return [
        numbers(_member(content, name, where=where), (None, 17, channels), where=f"{where}: {name}")
        for name, channels in (("data_2d", 2), ("data_3d", 3))
    ]


def _member(content: object, name: str, *, where: str) -> object:
    if not isinstance(content, dict) or name not in content:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{where}: expected '{name}', found {found}")
    return content[name]


def _read_test_mat(path: Path, take: str, target: str) -> Recording:
    variables = read_hdf5_mat(path, ("annot2", target, "valid_frame", "activity_annotation"))
    pixels, joints_camera_mm = (
        rearrange(numbers(variables[name], (None, 1, 17, channels), where=f"{path}: {name}"), "f 1 j c -> f j c")
        for name, channels in (("annot2", 2), (target, 3))
    )
    scored = _valid_frames(variables["valid_frame"], len(pixels), where=f"{path}: valid_frame")
    activities = _activities(variables["activity_annotation"], scored, where=f"{path}: activity_annotation")
    camera = Camera("0", *TEST_TAKES[take][2])
    return Recording(take, camera, None, pixels, joints_camera_mm, str(path), scored=scored, activities=activities)


def _activities(value: object, scored: Bool[np.ndarray, " F"], *, where: str) -> tuple[tuple[int, str], ...]:
    """Returns the first frame and the name of each run of frames with the same activity, as a Clip has them.

    Raises UserError for an unknown number, and for a frame to be scored that has no activity.
    """
    numbered = numbers(value, (len(scored), 1), where=where)[:, 0]
    bad = np.flatnonzero(~np.isin(numbered, range(len(ACTIVITIES))) | (scored & (numbered == 0)))
    if len(bad):
        expected, found = f"1 to {len(ACTIVITIES) - 1}", f"{numbered[bad[0]]:g}"
        raise UserError(f"{where}: frame {bad[0]}: expected {expected}, found {found}")
    return tuple((run.start, ACTIVITIES[int(numbered[run.start])]) for run in split_runs(numbered))


def _read_archived_test(content: object, take: str, *, where: str) -> Recording:
    pixels, joints_camera_mm = _archived_arrays(content, where=where)
    scored = _valid_frames(_member(content, "valid", where=where), len(pixels), where=f"{where}: valid")
    return Recording(take, Camera("0", *TEST_TAKES[take][2]), None, pixels, joints_camera_mm, where, scored=scored)


def _valid_frames(value: object, frames: int, *, where: str) -> Bool[np.ndarray, " F"]:
    """Returns which frames are marked with 1. Raises UserError if there are other marks than 0 and 1, or no 1."""
    flat = value[:, 0] if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 1 else value
    if isinstance(flat, np.ndarray) and flat.dtype == bool:
        flat = flat.astype(np.uint8)
    marks = numbers(flat, (frames,), where=where)
    if not np.isin(marks, (0, 1)).all() or not marks.any():
        raise UserError(f"{where}: expected 0 and 1, at least one 1, found {np.unique(marks)[:5].tolist()}")
    return marks == 1


def _read_lenses(path: Path) -> dict[int, Camera]:
    """Reads the cameras of a calibration file by number; without the file their lenses are unknown.

    Raises UserError if the file is damaged, lacks a camera or is about images of another size.
    """
    if not path.is_file():
        return {camera: Camera(str(camera), *TRAIN_SIZE_PX) for camera in CAMERAS}
    lenses: dict[int, Camera] = {}
    try:
        # After a title the file has one entry per camera, which begins with its name; a line is a key and its values.
        for entry in re.split(r"^\s*name\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name, *lines = entry.splitlines()
            number, values = int(name), {key: rest for key, *rest in (line.split() for line in lines if line.strip())}
            size = tuple(int(value) for value in values["size"])
            if size != TRAIN_SIZE_PX:
                raise UserError(f"{path}: camera {number}: expected images of {TRAIN_SIZE_PX} pixels, found {size}")
            fx, _, cx, _, _, fy, cy, *_ = (float(value) for value in values["intrinsic"])
            lenses[number] = Camera(str(number), *TRAIN_SIZE_PX, focal_px=(fx, fy), centre_px=(cx, cy))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: expected a camera calibration, found {reason(error)}") from error
    missing = sorted(set(CAMERAS) - set(lenses))
    if missing:
        raise UserError(f"{path}: expected the cameras {', '.join(map(str, CAMERAS))}, found no camera {missing[0]}")
    return lenses
