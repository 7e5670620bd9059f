"""Keypoint files of any detector to recordings: which format it is, who reads it, what must hold of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.lift.formats import arrays, detectors
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Recording
from pipeline.lift.tracks import Found, tracks_of
from pipeline.system.errors import BAD_VALUE, UserError, reason

FORMATS = ("npz", "csv", *detectors.READERS, "ultralytics-labels", "mediapipe")
# Scores above 1, which OpenPose has up to about 1.1, count as 1; far above it they are something else.
HIGHEST_SCORE = 2.0


def read_recording(
    path: Path,
    *,
    format: str | None,
    layout: str | None = None,
    image_size_px: tuple[int, int] | None = None,
    rate_hz: float | None = None,
) -> Recording:
    """The people of a file or folder in one of FORMATS, or in the one that it looks like.

    `layout`, `rate_hz` and `image_size_px` go before what the file says. Raises UserError if it is none of them, cut
    off, of another layout, or has confidences that are none.
    """
    if format is not None and format not in FORMATS:
        raise UserError(f"format: expected one of {', '.join(FORMATS)}, found '{format}'")
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout: expected one of {', '.join(LAYOUTS)}, found '{layout}'")
    if not path.exists():
        raise UserError(f"{path}: expected a keypoint file or folder, found none")
    try:
        found = _read(path, format or _recognised(path), layout, image_size_px)
    except (StopIteration, OSError, *BAD_VALUE) as error:
        expected = f"keypoints as {format} has them" if format else "the keypoints of a detector"
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error
    found = _checked(found, layout, path)
    tracks = tracks_of(found, source=str(path))
    size = image_size_px or found.image_size_px
    return Recording(str(path), len(found.frames), tracks, rate_hz or found.rate_hz, size, found.camera)


def _recognised(path: Path) -> str:
    return path.suffix[1:] if path.suffix in (".npz", ".csv") else detectors.recognised(path)


def _read(path: Path, name: str, layout: str | None, image_size_px: tuple[int, int] | None) -> Found:
    if name == "npz":
        return arrays.read_npz(path, layout)
    if name == "csv":
        return arrays.read_csv(path, layout)
    if name == "mediapipe":
        return detectors.read_mediapipe(path, image_size_px)
    if name == "ultralytics-labels":
        return detectors.read_ultralytics_labels(path, image_size_px)
    return detectors.READERS[name](path)


def _checked(found: Found, layout: str | None, path: Path) -> Found:
    """With the layout as stated, if people have as many joints. Raises UserError if they have not."""
    name = layout or found.layout
    if name not in LAYOUTS:
        raise UserError(f"{path}: layout: expected one of {', '.join(LAYOUTS)} (--layout), found '{name}'")
    joints = len(LAYOUTS[name].joints)
    for number, frame in enumerate(found.frames):
        for one in frame:
            if one.keypoints.shape != (joints, 3):
                there = one.keypoints.shape[0]
                raise UserError(f"{path}: frame {number}: expected {joints} joints of layout '{name}', found {there}")
            scores = one.keypoints[:, 2][np.isfinite(one.keypoints[:, 2])]
            if len(scores) and (scores.min() < 0 or scores.max() > HIGHEST_SCORE):
                span = f"{scores.min():g} to {scores.max():g}"
                raise UserError(f"{path}: frame {number}: expected confidences from 0 to 1, found {span}")
    return replace(found, layout=name)
