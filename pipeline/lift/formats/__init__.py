"""Reads keypoints of any detector: recognises the format, reads the file, folder or video, and follows its people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.lift.formats.arrays import read_csv, read_npz
from pipeline.lift.formats.camera import read_camera
from pipeline.lift.formats.detectors import read_coco, read_mmpose, read_openpose, read_ultralytics
from pipeline.lift.formats.sample import Sample
from pipeline.lift.formats.shares import LANDMARK_KEYS, read_mediapipe, read_ultralytics_labels
from pipeline.lift.formats.video import read_video
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Detection, Detections, InputOptions, Recording
from pipeline.lift.reading.tracks import follow_people
from pipeline.system.errors import BAD_VALUE, UserError, reason

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
# Scores above 1, which OpenPose has up to about 1.1, count as 1; far above it they are something else.
HIGHEST_SCORE = 2.0


@dataclass(frozen=True)
class Format:
    """A kind of keypoint file: the name that --format takes, its reader, and whether a sample looks like it."""

    name: str
    read: Callable[[Path, InputOptions], Detections]
    recognise: Callable[[Sample], bool]


# The first format that recognises an input reads it.
FORMATS = {
    format.name: format
    for format in (
        Format("npz", read_npz, lambda s: s.path.suffix == ".npz"),
        Format("csv", read_csv, lambda s: s.path.suffix == ".csv"),
        Format("video", read_video, lambda s: s.path.suffix.lower() in VIDEO_SUFFIXES),
        Format("openpose", read_openpose, lambda s: s.has_file("_keypoints.json") or s.has("people")),
        Format("alphapose", read_coco, lambda s: s.entry_has("image_id") and s.entry_has("idx", "box")),
        Format("coco", read_coco, lambda s: s.entry_has("image_id") or s.has("annotations")),
        Format("mmpose", read_mmpose, lambda s: s.has("instance_info") or s.entry_has("instances", "keypoint_scores")),
        Format("ultralytics", read_ultralytics, lambda s: s.has_file(".json") or s.entry_has_object("keypoints")),
        Format("ultralytics-labels", read_ultralytics_labels, lambda s: s.has_file(".txt")),
        Format("mediapipe", read_mediapipe, lambda s: s.entry_has("x", "frames", *LANDMARK_KEYS)),
    )
}


def read_recording(path: Path, options: InputOptions) -> Recording:
    """Reads the people of a video, or of a keypoint file or folder, in one of FORMATS.

    What `options` states goes before what the file says. Raises UserError if the input is of no known format, cut off,
    of another layout, or has confidences that are none, or an option names what does not exist.
    """
    for what, stated, known in (("format", options.format, FORMATS), ("layout", options.layout, LAYOUTS)):
        if stated is not None and stated not in known:
            raise UserError(f"{what}: expected one of {', '.join(known)}, found '{stated}'")
    if not path.exists():
        raise UserError(f"{path}: expected a keypoint file, a folder of them or a video, found none")
    try:
        detections = FORMATS[options.format or recognise_format(path)].read(path, options)
        frames = order_frames(detections.frames)
    except (StopIteration, OSError, *BAD_VALUE) as error:
        expected = f"keypoints as {options.format} has them" if options.format else "the keypoints of a detector"
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error
    layout = options.layout or detections.layout
    check_people(frames, layout, path)
    tracks = follow_people(frames, layout=layout, source=str(path))
    rate_hz = detections.rate_hz if options.rate_hz is None else options.rate_hz
    size_px = options.image_size_px or detections.image_size_px
    camera = detections.camera if options.camera_file is None else read_camera(options.camera_file, size_px)
    return Recording(str(path), len(frames), tracks, rate_hz, size_px, camera)


def order_frames(frames: Mapping[int, list[Detection]]) -> list[list[Detection]]:
    """Returns the frames from the first number to the last; a number that is missing is a frame with nobody in it.

    Raises UserError if most numbers are missing: then they do not number frames.
    """
    if not frames:
        return []
    first, last = min(frames), max(frames)
    if last - first > 1000 + 100 * len(frames):
        raise UserError(f"frames: expected numbers that follow each other, found {first} to {last} for {len(frames)}")
    return [frames.get(number, []) for number in range(first, last + 1)]


def recognise_format(path: Path) -> str:
    """Returns the name of the format that a file or folder looks like. Raises UserError if it is none of FORMATS."""
    sample = Sample(path)
    for name, format in FORMATS.items():
        if format.recognise(sample):
            return name
    if path.is_dir():
        found = f"{len(sample.names)} other files" if sample.names else "an empty folder"
        raise UserError(f"{path}: expected files of OpenPose or Ultralytics, found {found}")
    entry = sample.entry
    found = f"an object with {', '.join(list(entry)[:5])}" if isinstance(entry, dict) and entry else repr(entry)[:60]
    raise UserError(f"{path}: expected the JSON of a detector that is known (or --format), found {found}")


def check_people(frames: Sequence[Sequence[Detection]], layout: str, path: Path) -> None:
    """Raises UserError if the layout is unknown, or a person has other joints or confidences that cannot be."""
    if layout not in LAYOUTS:
        raise UserError(f"{path}: layout: expected one of {', '.join(LAYOUTS)} (--layout), found '{layout}'")
    joints = len(LAYOUTS[layout].joints)
    for number, frame in enumerate(frames):
        for detection in frame:
            if detection.keypoints.shape != (joints, 3):
                expected, found = f"{joints} joints of layout '{layout}'", detection.keypoints.shape[0]
                raise UserError(f"{path}: frame {number}: expected {expected}, found {found}")
            scores = detection.keypoints[:, 2][np.isfinite(detection.keypoints[:, 2])]
            if len(scores) and (scores.min() < 0 or scores.max() > HIGHEST_SCORE):
                span = f"{scores.min():g} to {scores.max():g}"
                raise UserError(f"{path}: frame {number}: expected confidences from 0 to 1, found {span}")
