"""Reads keypoints of any detector: recognises the format, reads the file, folder or video, and follows its people."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.lift.formats.arrays import read_npz
from pipeline.lift.formats.camera import read_camera
from pipeline.lift.formats.coco import is_coco, read_coco
from pipeline.lift.formats.detectors import (
    is_mmpose,
    is_openpose,
    is_ultralytics,
    read_mmpose,
    read_openpose,
    read_ultralytics,
)
from pipeline.lift.formats.hdf5 import read_hdf5
from pipeline.lift.formats.shares import is_mediapipe, looks_like_labels, read_mediapipe, read_ultralytics_labels
from pipeline.lift.formats.tables import read_table
from pipeline.lift.formats.video import read_video
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Detection, Detections, InputOptions, Recording
from pipeline.lift.reading.entries import describe
from pipeline.lift.reading.files import JSON_ENDINGS, Sample, first_entry, list_files
from pipeline.lift.reading.keypoints import UNITS, settle_keypoints
from pipeline.lift.reading.times import count_frames, resample_track
from pipeline.lift.reading.tracks import follow_people
from pipeline.lift.video.frames import VIDEO_ENDINGS
from pipeline.system.errors import BAD_VALUE, UserError

KNOWN = "keypoints of a tool that docs/keypoint_formats.md lists (--format states which)"
TABLES = (".csv", ".tsv", ".npz", ".h5", ".slp")  # which hold a whole recording each
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Format:
    """A kind of keypoint file: its reader, and whether a file looks like it."""

    read: Callable[[Path, InputOptions], Detections]
    recognise: Callable[[Sample], bool]


# By the name that --format takes. The first that recognises an input, or the first file of a folder that any does,
# reads it.
FORMATS = {
    "npz": Format(read_npz, lambda sample: sample.kind == "npz"),
    "hdf5": Format(read_hdf5, lambda sample: sample.kind == "hdf5"),
    "video": Format(read_video, lambda sample: sample.kind == "video"),
    "ultralytics-labels": Format(read_ultralytics_labels, lambda sample: looks_like_labels(sample.lines)),
    "csv": Format(read_table, lambda sample: sample.kind == "table"),
    "openpose": Format(read_openpose, lambda sample: is_openpose(sample.content)),
    "alphapose": Format(read_coco, lambda sample: is_coco(sample.content) and sample.entry_has("idx", "box")),
    "coco": Format(read_coco, lambda sample: is_coco(sample.content)),
    "mmpose": Format(read_mmpose, lambda sample: is_mmpose(sample.content)),
    "ultralytics": Format(read_ultralytics, lambda sample: is_ultralytics(sample.content)),
    "mediapipe": Format(read_mediapipe, lambda sample: is_mediapipe(sample.content)),
}


def read_recording(path: Path | str, options: InputOptions = InputOptions()) -> Recording:
    """Reads the people of a video, or of a keypoint file or folder, in one of FORMATS.

    What `options` states goes before what the file says. Raises UserError if the input is of no known format, cut off,
    of another layout, or has confidences that are none, or an option names what does not exist.
    """
    path = Path(path)
    for what, stated, known in (
        ("format", options.format, FORMATS), ("layout", options.layout, LAYOUTS), ("units", options.units, UNITS)
    ):  # fmt: skip
        if stated is not None and stated not in known:
            raise UserError(f"{what}: expected one of {', '.join(known)}, found '{stated}'")
    if not path.exists():
        raise UserError(f"{path}: expected a keypoint file, a folder of them or a video, found none")
    name = options.format or recognise_format(path)
    try:
        detections = FORMATS[name].read(path, options)
    except (StopIteration, OSError, *BAD_VALUE) as error:
        found = "values of another kind; --format states another format"
        raise UserError(f"{path}: expected keypoints as {name} has them, found {found}") from error
    detections, reading = settle_keypoints(detections, options, path)
    rate_hz = detections.rate_hz if options.rate_hz is None else options.rate_hz
    ordered = order_frames(detections.frames, path)
    tracks, notes = follow_people(ordered, layout=str(detections.layout), rate_hz=rate_hz)
    if not tracks and (count := sum(map(len, detections.frames.values()))):
        found = f"none: of {count} detections no joint has a confidence over 0"
        raise UserError(f"{path}: expected at least one person, {found}")
    size_px = detections.image_size_px
    camera = detections.camera if options.camera_file is None else read_camera(options.camera_file, size_px)
    source = os.fsencode(path).decode("utf-8", "backslashreplace")
    known_by = "stated" if options.format else "recognised by its content"
    frames = max(detections.frames, default=-1) - min(detections.frames, default=0) + 1
    if detections.times_s is not None and rate_hz is not None:
        tracks = tuple(even for track in tracks if (even := resample_track(track, detections.times_s, rate_hz)))
        frames = count_frames(detections.times_s, rate_hz)
    chosen = () if options.video is None else (f"video: {options.video}, stated",)
    reading = (f"format: {name}, {known_by}", *chosen, *reading, *notes)
    return Recording(source, frames, tracks, rate_hz, size_px, camera, reading)


def order_frames(frames: Mapping[int, list[Detection]], path: Path) -> list[list[Detection]]:
    """Returns the frames from the first number to the last; a number that is missing is a frame with nobody in it.

    Raises UserError if most numbers are missing: then they do not number frames.
    """
    if not frames:
        return []
    first, last = min(frames), max(frames)
    if last - first > 1000 + 100 * len(frames):
        found = f"{first} to {last} for {len(frames)}"
        raise UserError(f"{path}: frames: expected numbers that follow each other, found {found}; number them anew")
    return [frames.get(number, []) for number in range(first, last + 1)]


def recognise_format(path: Path) -> str:
    """Returns the name of the format that a file or folder looks like. Raises UserError if it is none of FORMATS."""
    for file in list_files(path, (*JSON_ENDINGS, ".txt")) if path.is_dir() else [path]:
        sample = Sample(file)
        for name, format in FORMATS.items():
            if format.recognise(sample) and not (path.is_dir() and name == "csv"):
                return name
    if path.is_dir():
        raise UserError(f"{path}: expected files of a detector's keypoints, found {_describe_folder(path)}")
    raise UserError(f"{path}: expected {KNOWN}, found {_describe_content(Sample(path).content)}")


def _describe_content(content: object) -> str:
    """Returns in words what is in a JSON file that no format recognises: its entries, and what is in the first."""
    entry = first_entry(content)
    if not isinstance(entry, dict) or not entry:
        return f"{describe(content)} without names" if content else describe(content)
    key, first = next(((key, value) for key, value in entry.items() if isinstance(value, (list, dict)) and value),
                      ("", None))  # fmt: skip
    within = first_entry(first if isinstance(first, list) else list(first.values()) if first else None)
    return f"{describe(entry)}" + (f", where '{key}' has {describe(within)}" if isinstance(within, dict) else "")


def _describe_folder(folder: Path) -> str:
    """Returns in words what is in a folder that no format recognises, and what to do about it."""
    inside = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    folders = [item.name for item in inside if item.is_dir()]
    if folders:
        return f"the folders {', '.join(folders[:8])}: lift one of them"
    if alone := [item.name for item in inside if item.suffix.lower() in (*VIDEO_ENDINGS, *TABLES)]:
        return f"{', '.join(alone[:8])}: lift one of them"
    if any(item.suffix.lower() in PICTURES for item in inside):
        return "pictures: run a 2D detector on them first"
    return f"{len(inside)} other files, such as {inside[0].name}" if inside else "an empty folder"
