"""Smooths poses over time, by the filters of libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from OneEuroFilter import OneEuroFilter
from scipy.signal import savgol_filter

from pipeline.poses.frames import find_runs

# The filter follows slow motion below this frequency; its bandwidth grows with speed (Casiez et al. 2012).
ONE_EURO_CUTOFF_HZ = 3.0
ONE_EURO_BETA = 6.0  # in Hz per (m / s)
SAVGOL_SECONDS, SAVGOL_ORDER = 0.3, 2


def one_euro(values_m: Float[np.ndarray, "F C"], *, rate_hz: float) -> Float[np.ndarray, "F C"]:
    """Returns the values after the one-euro filter, which looks back only: it lags a little, and could run live."""
    smoothed_m = np.empty_like(values_m)
    for channel in range(values_m.shape[1]):
        smooth = OneEuroFilter(freq=rate_hz, mincutoff=ONE_EURO_CUTOFF_HZ, beta=ONE_EURO_BETA)
        smoothed_m[:, channel] = [smooth(value, frame / rate_hz) for frame, value in enumerate(values_m[:, channel])]
    return smoothed_m


def savgol(values_m: Float[np.ndarray, "F C"], *, rate_hz: float) -> Float[np.ndarray, "F C"]:
    """Returns the values after a Savitzky-Golay filter: parabolas fitted to 0.3 s around each frame; no lag.

    With fewer frames than that the window is the longest odd one; too few for a parabola are left as they are.
    """
    window = 2 * round(SAVGOL_SECONDS * rate_hz / 2) + 1
    window = min(window, len(values_m) - 1 + len(values_m) % 2)
    return savgol_filter(values_m, window, SAVGOL_ORDER, axis=0) if window > SAVGOL_ORDER else values_m


FILTERS: dict[str, Callable[..., Float[np.ndarray, "F C"]]] = {"one-euro": one_euro, "savgol": savgol}


def smooth_motion(values_m: Float[np.ndarray, "F *S"], *, method: str, rate_hz: float) -> Float[np.ndarray, "F *S"]:
    """Returns positions in metres smoothed over time by one of FILTERS; each run of frames without NaN by itself."""
    flat_m = values_m.reshape(len(values_m), -1).copy()
    for run in find_runs(np.isfinite(flat_m).all(1)):
        flat_m[run] = FILTERS[method](flat_m[run], rate_hz=rate_hz)
    return flat_m.reshape(values_m.shape)
