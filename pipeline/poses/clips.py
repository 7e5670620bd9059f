"""Clip: one recording seen by one camera, without gaps; how clips are written to a folder and read back.

A split is a folder with `pixels.npy`, `joints_camera_m.npy`, `confidence.npy` (where the detector gives one) and
`scored.npy` (where not every frame is to be scored), all clips end to end, and `clips.json`, one entry per clip in the
same order. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import map_array, new_folder, read_json

SPLITS = ("train", "validation", "test")
ARRAYS = ("pixels", "joints_camera_m", "confidence", "scored")  # of a clip, each in a file of the split
DESCRIPTION = ("take", "subset", "subject", "action", "rate_hz", "first_frame")  # what clips.json says in plain values


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one take in one camera.

    `pixels` are the 2D keypoints, `joints_camera_m` the true joints in the camera frame; their layouts may differ.
    `confidence` is the detector's, 0 to 1, or None. `first_frame` counts from the start of the take at `rate_hz` (None
    where nobody published it). `scored` marks the frames to be scored, the others being context; None: all of them.
    Where the action changes inside the clip, `activities` lists (first frame, action) of each stretch.
    """

    take: str
    subset: str
    subject: str
    action: str
    camera: Camera
    rate_hz: float | None
    first_frame: int
    pixels: Float32[np.ndarray, "F J_in 2"]
    joints_camera_m: Float32[np.ndarray, "F J_out 3"]
    confidence: Float32[np.ndarray, "F J_in"] | None = None
    scored: Bool[np.ndarray, " F"] | None = None
    activities: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def name(self) -> str:
        """Unique in its split."""
        return f"{self.take}/{self.camera.name}/{self.first_frame}"

    @property
    def frames_per_action(self) -> dict[str, Bool[np.ndarray, " F"]]:
        """Each action of the clip and which frames show it."""
        stretches = self.activities or ((0, self.action),)
        starts = [start for start, _ in stretches]
        number = np.searchsorted(starts, np.arange(len(self)), side="right") - 1
        actions = np.array([action for _, action in stretches])[number]
        return {action: actions == action for _, action in stretches}


@dataclass(frozen=True)
class Dropped:
    """Frames of the raw data that are in no clip, and why."""

    take: str
    camera: str
    frames: int
    reason: str


@dataclass(frozen=True)
class Prepared:
    """What a source makes of its raw files. `target` says in words what the true joints are.

    `pck_joints` are those that the dataset's own PCK and AUC count, empty if it has none. `differences` names what is
    not as the dataset is known to be, a line each; `excluded_takes` are whole takes of the test split left out.
    `filmed` gives the clips instead of `splits` where they need not be in memory together, each with its split; only
    then is `dropped` known.
    """

    in_skeleton: Skeleton
    out_skeleton: Skeleton
    target: str
    splits: dict[str, list[Clip]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    dropped: list[Dropped] = field(default_factory=list)
    pck_joints: tuple[int, ...] = ()
    differences: list[str] = field(default_factory=list)
    excluded_takes: list[str] = field(default_factory=list)
    filmed: Iterator[tuple[str, Clip]] | None = None

    def clips(self) -> Iterator[tuple[str, Clip]]:
        """Each clip and its split; to be asked for once."""
        return self.filmed or ((split, clip) for split, clips in self.splits.items() for clip in clips)


def check_clip(clip: Clip) -> None:
    """Raises UserError if the arrays differ in length, are empty or not finite, or the activities are not in order."""
    arrays = {"pixels": clip.pixels, "joints_camera_m": clip.joints_camera_m}
    if clip.confidence is not None:
        arrays["confidence"] = clip.confidence
    marks = {} if clip.scored is None else {"scored": clip.scored}
    lengths = {name: len(array) for name, array in (arrays | marks).items()}
    if len(set(lengths.values())) != 1 or len(clip) == 0:
        raise UserError(f"clip {clip.name}: expected arrays of one length over 0, found {lengths}")
    for name, array in arrays.items():
        finite = np.isfinite(array).reshape(len(array), -1).all(1)
        if not finite.all():
            frame = int(np.flatnonzero(~finite)[0])
            raise UserError(
                f"clip {clip.name}: {name}: expected finite numbers, found NaN or infinity in frame {frame}"
            )
    starts = [start for start, _ in clip.activities]
    if starts and (starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= len(clip)):
        raise UserError(f"clip {clip.name}: activities: expected starts from 0 up, below {len(clip)}, found {starts}")


def write_split(folder: Path, clips: Iterable[Clip], *, may_be_empty: bool = False) -> None:
    """Write `clips` into the new folder `folder`, one after the other. Raises what `split_writer` does."""
    with split_writer(folder, may_be_empty=may_be_empty) as write:
        for clip in clips:
            write(clip)


@contextmanager
def split_writer(folder: Path, *, may_be_empty: bool = False) -> Iterator[Callable[[Clip], None]]:
    """A function that writes a clip into the new folder `folder`, whole or not at all, and keeps nothing in memory.

    Raises UserError if there is no clip (unless the split `may_be_empty`), a clip is bad, two have one name, or they do
    not share their layouts.
    """
    if folder.exists():
        raise FileExistsError(folder)
    entries: dict[str, str] = {}
    layouts: set[tuple[int, int, bool, bool]] = set()
    with new_folder(folder) as partial, ExitStack() as files:
        arrays: dict[str, Callable[[np.ndarray], None]] = {}

        def write(clip: Clip) -> None:
            check_clip(clip)
            if clip.name in entries:
                raise UserError(f"{folder}: expected clips of different names, found '{clip.name}' twice")
            of_clip = (
                clip.pixels.shape[1],
                clip.joints_camera_m.shape[1],
                clip.confidence is None,
                clip.scored is None,
            )
            layouts.add(of_clip)
            if len(layouts) > 1:
                raise UserError(f"{folder}: expected one joint layout in all clips, found {sorted(layouts)}")
            for name in ARRAYS:
                if (array := getattr(clip, name)) is None:
                    continue
                if name not in arrays:
                    arrays[name] = files.enter_context(_end_to_end(partial / f"{name}.npy", array))
                arrays[name](array)
            entries[clip.name] = json.dumps(_entry_from_clip(clip))

        yield write
        if not entries and not may_be_empty:
            raise UserError(f"{folder}: expected at least one clip, found none")
        (partial / "clips.json").write_text("[\n" + ",\n".join(entries.values()) + "\n]\n", encoding="utf-8")


@contextmanager
def _end_to_end(path: Path, first: np.ndarray) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds an array to a file, which is in the end what np.save writes of all, byte for byte.

    They are like `first` but for its length; the last dimension is always innermost.
    """
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    frames = 0
    with path.open("wb") as file:

        def write(array: np.ndarray) -> None:
            nonlocal frames
            frames += len(array)
            file.write(np.ascontiguousarray(array).data)

        np.lib.format.write_array_header_1_0(file, header | {"shape": (0, *first.shape[1:])})
        start = file.tell()
        yield write
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (frames, *first.shape[1:])})
        assert file.tell() == start, "numpy leaves room in the header for any length"


def read_split(folder: Path) -> list[Clip]:
    """The clips of a split, none if it was written empty; their arrays are views of memory-mapped files.

    Raises UserError if a file is missing, damaged or does not fit the others.
    """
    table = folder / "clips.json"
    entries = read_json(table, "the list of clips")
    try:
        lengths = [int(entry["frames"]) for entry in entries]
        cameras = [_camera_from_dict(entry["camera"]) for entry in entries]
        described = [{key: entry[key] for key in DESCRIPTION} for entry in entries]
        activities = [tuple((int(start), str(name)) for start, name in e.get("activities", ())) for e in entries]
    except BAD_VALUE as error:
        raise UserError(f"{table}: expected the list of clips, found {reason(error)}") from error
    if not entries:
        return []
    frames = sum(lengths)
    pixels = _read_array(folder / "pixels.npy", frames, ndim=3)
    joints_camera_m = _read_array(folder / "joints_camera_m.npy", frames, ndim=3)
    confidence = None
    if (folder / "confidence.npy").exists():
        confidence = _read_array(folder / "confidence.npy", frames, ndim=2)
    scored = None
    if (folder / "scored.npy").exists():
        scored = _read_array(folder / "scored.npy", frames, ndim=1, dtype="bool")
    clips = []
    first = 0
    for values, length, camera, stretches in zip(described, lengths, cameras, activities, strict=True):
        part = slice(first, first + length)
        clip = Clip(
            **values,
            camera=camera,
            pixels=pixels[part],
            joints_camera_m=joints_camera_m[part],
            confidence=None if confidence is None else confidence[part],
            scored=None if scored is None else scored[part],
            activities=stretches,
        )
        check_clip(clip)
        clips.append(clip)
        first += length
    return clips


def _read_array(path: Path, frames: int, *, ndim: int, dtype: str = "float32") -> np.ndarray:
    array = map_array(path)
    if array.dtype != dtype or array.ndim != ndim or len(array) != frames:
        expected = f"{dtype} with {frames} frames in {ndim} dimensions"
        raise UserError(f"{path}: expected {expected}, found {array.dtype} {array.shape}")
    return array


def _entry_from_clip(clip: Clip) -> dict[str, Any]:
    camera = clip.camera
    return {
        **{key: getattr(clip, key) for key in DESCRIPTION},
        **({"activities": clip.activities} if clip.activities else {}),
        "frames": len(clip),
        "camera": {
            "name": camera.name,
            "width_px": camera.width_px,
            "height_px": camera.height_px,
            "focal_px": camera.focal_px,
            "centre_px": camera.centre_px,
            "radial": camera.radial,
            "tangential": camera.tangential,
            "camera_from_world": {
                "rotation": camera.camera_from_world.rotation.tolist(),
                "translation_m": camera.camera_from_world.translation_m.tolist(),
            },
        },
    }


def _camera_from_dict(entry: dict[str, Any]) -> Camera:
    pose = entry["camera_from_world"]
    return Camera(
        name=entry["name"],
        width_px=entry["width_px"],
        height_px=entry["height_px"],
        focal_px=None if entry["focal_px"] is None else tuple(entry["focal_px"]),
        centre_px=None if entry["centre_px"] is None else tuple(entry["centre_px"]),
        radial=tuple(entry["radial"]),
        tangential=tuple(entry["tangential"]),
        camera_from_world=RigidTransform(np.array(pose["rotation"]), np.array(pose["translation_m"])),
    )
