"""Errors are counted in the bin where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluate_5runs.distributions import EDGES_MM, error_distribution


def test_a_known_shift_lies_in_its_bin():
    target_m = np.zeros((3, 2, 3))
    predicted_m = target_m.copy()
    predicted_m[:, 1, 0] = (0.010, 0.0149, 0.600)  # at a lower edge, within the bin, beyond the last edge
    errors = error_distribution(predicted_m, target_m, ("root", "hand"))
    hand, frames = errors.joint_error_mm["hand"], errors.frame_mpjpe_mm
    assert (hand.counts[2], hand.beyond, sum(hand.counts)) == (2, 1, 2)
    assert (frames.counts[1], frames.beyond) == (2, 1)  # half of the hand's error: the root has none
    assert hand.quantiles["0.5"] == pytest.approx(14.9, abs=1e-3)
    assert len(hand.counts) == len(EDGES_MM) - 1
