"""Counts errors between fixed edges and takes their quantiles, of whole frames and of each joint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pipeline.poses.metrics import joint_errors_mm
from pipeline.poses.row_metrics import Distribution, ErrorDistribution

EDGES_MM = tuple(5.0 * step for step in range(51))  # 0, 5, ..., 250
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def error_distribution(
    predicted_m: Float[np.ndarray, "F J 3"], target_m: Float[np.ndarray, "F J 3"], joints: Sequence[str]
) -> ErrorDistribution:
    """Returns how the MPJPE of a frame and the error of each joint are distributed, all frames counting alike."""
    errors_mm = joint_errors_mm(predicted_m, target_m)
    return ErrorDistribution(
        frame_mpjpe_mm=_distribution(errors_mm.mean(1)),
        joint_error_mm={name: _distribution(errors_mm[:, joint]) for joint, name in enumerate(joints)},
    )


def _distribution(errors_mm: Float[np.ndarray, " F"]) -> Distribution:
    bins = np.searchsorted(EDGES_MM, errors_mm, side="right") - 1  # an error at an edge lies in the bin above it
    *counts, beyond = np.bincount(bins, minlength=len(EDGES_MM)).tolist()
    quantiles = {f"{q:g}": round(float(np.quantile(errors_mm, q)), 4) for q in QUANTILES}
    return Distribution(counts=tuple(counts), beyond=beyond, quantiles=quantiles)
