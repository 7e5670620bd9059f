"""Brings people whose frames were taken at uneven times to a constant rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipeline.lift.people import Track
from pipeline.poses.frames import interpolate

EVEN = 0.25  # of an interval: how far frames may lie from their places at a constant rate
LONGEST_STEP = 2.5  # intervals between two frames that are interpolated; between others nobody was seen
AT_A_FRAME = 0.1  # of an interval: so near to a frame a time is the frame's

Times = Float[np.ndarray, " F"]  # in seconds after the first frame, increasing


def find_rate(times_s: Times, *, nominal_hz: float | None) -> tuple[float, bool] | None:
    """Returns the rate of frames in Hz and whether it is constant, or None of a single frame.

    If frames lie where a constant rate puts them, it is `nominal_hz` or else their number over their time. Otherwise it
    is one over the median interval.
    """
    if len(times_s) < 2:
        return None
    mean_hz = float((len(times_s) - 1) / times_s[-1])
    for rate_hz in (nominal_hz, mean_hz):
        if rate_hz and np.abs(times_s * rate_hz - np.arange(len(times_s))).max() < EVEN:
            return rate_hz, True
    return round(float(1 / np.median(np.diff(times_s))), 6), False


def count_frames(times_s: Times, rate_hz: float) -> int:
    """Returns how many frames of a constant rate lie between the first frame and the last."""
    return int(times_s[-1] * rate_hz + AT_A_FRAME) + 1


def resample_track(track: Track, times_s: Times, rate_hz: float) -> Track | None:
    """Returns a person at a constant rate, frame n at n / `rate_hz` seconds, interpolated linearly between frames.

    A joint is seen where it was in the frames before and after, if these are at most LONGEST_STEP intervals apart, or
    in the frame at that time. None is somebody who is between two of the new frames alone.
    """
    own = times_s[track.first_frame : track.first_frame + len(track)] * rate_hz  # in frames of the constant rate
    first, last = int(np.ceil(own[0] - AT_A_FRAME)), int(np.floor(own[-1] + AT_A_FRAME))
    if last < first:
        return None
    wanted = np.clip(np.arange(first, last + 1), own[0], own[-1])
    places = np.interp(wanted, own, np.arange(len(own)))
    nearest = np.round(places).astype(int)
    is_hole = own[np.ceil(places).astype(int)] - own[places.astype(int)] > LONGEST_STEP
    is_frame = np.abs(own[nearest] - wanted) <= np.where(is_hole, AT_A_FRAME, 1e-6)
    pixels, confidence = interpolate(track.pixels, places), interpolate(track.confidence, places)
    pixels[is_frame], confidence[is_frame] = track.pixels[nearest[is_frame]], track.confidence[nearest[is_frame]]
    seen = np.isfinite(pixels).all(-1) & (is_frame | ~is_hole)[:, None]
    return replace(track, first_frame=first, pixels=pixels, confidence=confidence).keep(seen)
