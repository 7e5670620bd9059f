"""Keypoint files to recordings: npz with a named layout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.keypoint_layouts import LAYOUTS
from pipeline.people import Recording, Track


def read_recording(
    path: Path,
    *,
    format: str | None,
    layout: str | None = None,
    image_size_px: tuple[int, int] | None = None,
    rate_hz: float | None = None,
) -> Recording:
    """The people of an npz file: `pixels` (people, frames, joints, 2), `confidence` likewise, NaN where not seen.

    `layout`, `rate_hz` and `image_size` may be in it or be stated. Raises UserError if it is something else.
    """
    if format not in (None, "npz"):
        raise UserError(f"format: expected npz, found '{format}'")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: expected an npz file, found {type(error).__name__}: {error}") from error
    name = layout or str(content.get("layout", "none"))
    if name not in LAYOUTS:
        raise UserError(f"{path}: layout: expected one of {', '.join(LAYOUTS)}, found '{name}'")
    pixels, joints = content.get("pixels"), len(LAYOUTS[name].joints)
    if pixels is None or pixels.ndim != 4 or pixels.shape[2:] != (joints, 2):
        found = "none" if pixels is None else str(pixels.shape)
        raise UserError(f"{path}: pixels: expected (people, frames, {joints}, 2) for '{name}', found {found}")
    seen = np.isfinite(pixels).all(-1)
    confidence = np.where(seen, np.nan_to_num(content.get("confidence", np.ones(seen.shape))), 0.0).astype(float)
    tracks = tuple(Track(str(n), name, 0, pixels[n].astype(float), confidence[n]) for n in range(len(pixels)))
    if image_size_px is None and "image_size" in content:
        width, height = (int(side) for side in content["image_size"])
        image_size_px = width, height
    if rate_hz is None and "rate_hz" in content:
        rate_hz = float(content["rate_hz"])
    return Recording(str(path), pixels.shape[1], tracks, rate_hz, image_size_px)
