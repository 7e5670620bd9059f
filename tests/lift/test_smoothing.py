"""Smoothing keeps what is slow, takes away what is fast, and leaves gaps alone."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.lift.body.smoothing import FILTERS, smooth_motion

RATE_HZ = 30.0


@pytest.mark.parametrize("method", FILTERS)
def test_a_still_person_stays_where_he_is(method):
    still_m = np.full((10, 3, 3), 1.5)
    np.testing.assert_allclose(smooth_motion(still_m, method=method, rate_hz=RATE_HZ), still_m)


@pytest.mark.parametrize("method", FILTERS)
def test_jitter_is_at_least_halved(method):
    jitter_m = np.random.default_rng(0).normal(0, 0.01, (100, 3))
    smooth_m = smooth_motion(jitter_m, method=method, rate_hz=RATE_HZ)
    assert np.diff(smooth_m, axis=0).std() < 0.5 * np.diff(jitter_m, axis=0).std()


def test_savgol_keeps_a_throw_as_it_is():
    time_s = np.arange(20)[:, None] / RATE_HZ
    throw_m = 3 * time_s - 4.9 * time_s**2
    np.testing.assert_allclose(smooth_motion(throw_m, method="savgol", rate_hz=RATE_HZ), throw_m, atol=1e-12)


@pytest.mark.parametrize("method", FILTERS)
def test_runs_between_gaps_are_smoothed_each_by_itself(method):
    values_m = np.random.default_rng(1).normal(0, 1, (21, 2))
    values_m[10] = np.nan
    smooth_m = smooth_motion(values_m, method=method, rate_hz=RATE_HZ)
    assert np.isnan(smooth_m[10]).all()
    np.testing.assert_allclose(smooth_m[11:], smooth_motion(values_m[11:], method=method, rate_hz=RATE_HZ))


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("method", FILTERS)
def test_a_few_frames_can_be_smoothed(method, frames):
    assert np.isfinite(
        smooth_motion(np.random.default_rng(2).normal(size=(frames, 3)), method=method, rate_hz=200.0)
    ).all()
