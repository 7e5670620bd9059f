"""Clip: one recording seen by one camera, without gaps; how clips are written to a folder and read back.

A split is a folder with `pixels.npy`, `joints_camera_m.npy`, `confidence.npy` (where the detector gives one) and
`scored.npy` (where not every frame is to be scored), all clips end to end, and `clips.json`, one entry per clip in the
same order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from pipeline.poses.geometry import Camera, RigidTransform
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


def write_split(folder: Path, clips: Sequence[Clip], *, may_be_empty: bool = False) -> None:
    """Writes `clips` into the new folder `folder`, whole or not at all.

    Raises UserError if there is no clip (unless the split `may_be_empty`), a clip is bad, two have one name, or they do
    not share their layouts. Raises FileExistsError if the folder is there.
    """
    if folder.exists():
        raise FileExistsError(folder)
    for clip in clips:
        check_clip(clip)
    times = Counter(clip.name for clip in clips)
    if duplicates := sorted(name for name, count in times.items() if count > 1):
        raise UserError(f"{folder}: expected clips of different names, found '{duplicates[0]}' twice")
    layouts = {
        (clip.pixels.shape[1], clip.joints_camera_m.shape[1], clip.confidence is None, clip.scored is None)
        for clip in clips
    }
    if len(layouts) > 1:
        raise UserError(f"{folder}: expected one joint layout in all clips, found {sorted(layouts)}")
    if not clips and not may_be_empty:
        raise UserError(f"{folder}: expected at least one clip, found none")
    with new_folder(folder) as partial:
        for name in ARRAYS:
            arrays = [getattr(clip, name) for clip in clips if getattr(clip, name) is not None]
            if arrays:
                np.save(partial / f"{name}.npy", np.concatenate(arrays))
        entries = ",\n".join(json.dumps(_entry_from_clip(clip)) for clip in clips)
        (partial / "clips.json").write_text(f"[\n{entries}\n]\n", encoding="utf-8")


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
    pixels = read_frames(folder / "pixels.npy", frames, ndim=3)
    joints_camera_m = read_frames(folder / "joints_camera_m.npy", frames, ndim=3)
    confidence = None
    if (folder / "confidence.npy").exists():
        confidence = read_frames(folder / "confidence.npy", frames, ndim=2)
    scored = None
    if (folder / "scored.npy").exists():
        scored = read_frames(folder / "scored.npy", frames, ndim=1, dtype="bool")
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


def read_frames(path: Path, frames: int, *, ndim: int, dtype: str = "float32") -> np.ndarray:
    """Maps an array of so many frames from a file. Raises UserError if it is missing, damaged or of another shape."""
    array = map_array(path)
    if array.dtype != dtype or array.ndim != ndim or len(array) != frames:
        expected = f"{dtype} with {frames} frames in {ndim} dimensions"
        raise UserError(f"{path}: expected {expected}, found {array.dtype} {array.shape}")
    return array


def _entry_from_clip(clip: Clip) -> dict[str, object]:
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
