"""How errors are distributed: counts of frames and of joints between fixed edges, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.poses.metrics import joint_errors_mm

EDGES_MM = tuple(5.0 * step for step in range(51))  # 0, 5, ..., 250; an error at the last edge or above is `beyond`
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def error_distribution(
    predicted_m: Float[np.ndarray, "F J 3"], target_m: Float[np.ndarray, "F J 3"], joints: Sequence[str]
) -> dict[str, Any]:
    """Distribution over all frames alike of the MPJPE of a frame, and of the error of each joint; in mm.

    Each has `counts` between the neighbours of EDGES_MM (lower edge included), `beyond` and the `quantiles`.
    """
    errors_mm = joint_errors_mm(predicted_m, target_m)
    return {
        "frame_mpjpe_mm": _distribution(errors_mm.mean(1)),
        "joint_error_mm": {name: _distribution(errors_mm[:, joint]) for joint, name in enumerate(joints)},
    }


def _distribution(errors_mm: Float[np.ndarray, " F"]) -> dict[str, Any]:
    place = np.searchsorted(EDGES_MM, errors_mm, side="right") - 1
    counts = np.bincount(place, minlength=len(EDGES_MM)).tolist()
    return {
        "counts": counts[:-1],
        "beyond": counts[-1],
        "quantiles": {f"{q:g}": round(float(np.quantile(errors_mm, q)), 4) for q in QUANTILES},
    }
