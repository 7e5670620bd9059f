"""What is done with frames in time, whatever they hold: finding runs, interpolating, resampling, filling gaps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Shaped


def split_runs(values: Shaped[np.ndarray, " F"]) -> list[slice]:
    """Returns the runs of consecutive frames with equal values, in order; together they are all frames."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    return [slice(start, stop) for start, stop in pairwise([0, *edges.tolist(), len(values)]) if start < stop]


def find_runs(marked: Bool[np.ndarray, " F"]) -> list[slice]:
    """Returns the runs of consecutive marked frames, in order."""
    return [run for run in split_runs(marked) if marked[run.start]]


def interpolate(values: Float[np.ndarray, "F *S"], times: Float[np.ndarray, " G"]) -> Float[np.ndarray, "G *S"]:
    """Returns the values at `times`, which count in frames, linear between frames.

    Before the first and after the last frame they are those of that frame. A time within 1e-9 of a frame takes its
    values exactly.
    """
    before = np.clip(np.floor(times + 1e-9).astype(int), 0, len(values) - 1)
    after = np.minimum(before + 1, len(values) - 1)
    share = np.clip(times - before, 0, 1).reshape(-1, *(1,) * (values.ndim - 1))
    return (1 - share) * values[before] + share * values[after]


def resample(values: Float[np.ndarray, "F *S"], *, rate_hz: float, wanted_hz: float) -> Float[np.ndarray, "G *S"]:
    """Returns the values at another rate, from the first frame to at most the last, linear between frames.

    Where `wanted_hz` divides `rate_hz` these are every k-th frame, unchanged.
    """
    times = np.arange(0, (len(values) - 1) * wanted_hz / rate_hz + 1e-9) * rate_hz / wanted_hz
    return interpolate(values, times)


def interpolate_gaps(
    values: Float[np.ndarray, "F J C"], missing: Bool[np.ndarray, "F J"]
) -> Float[np.ndarray, "F J C"]:
    """Returns the values with the missing ones of each joint interpolated over time.

    A gap is filled linearly between the frames around it; before the first and after the last known frame that frame's
    values are held. A joint that is missing in every frame keeps its values.
    """
    filled = values.copy()
    frames = np.arange(len(values))
    for joint in np.flatnonzero(missing.any(0) & ~missing.all(0)):
        known = ~missing[:, joint]
        for channel in range(values.shape[2]):
            filled[~known, joint, channel] = np.interp(frames[~known], frames[known], values[known, joint, channel])
    return filled
