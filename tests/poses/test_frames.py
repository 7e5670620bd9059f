"""Frames in time: runs partition them, straight lines survive interpolation, gaps are filled from what is around."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.poses.frames import find_runs, interpolate, interpolate_gaps, resample, split_runs


@given(st.lists(st.integers(0, 2), max_size=30))
def test_runs_put_together_are_the_frames_and_neighbours_differ(values):
    runs = [values[run] for run in split_runs(np.array(values, dtype=int))]
    assert [value for run in runs for value in run] == values
    assert all(len(set(run)) == 1 for run in runs)
    assert all(run[0] != following[0] for run, following in pairwise(runs))


def test_marked_runs_are_those_of_true():
    assert find_runs(np.array([True, True, False, True])) == [slice(0, 2), slice(3, 4)]
    assert find_runs(np.zeros(3, dtype=bool)) == []


def test_values_between_frames_are_linear_and_hold_at_the_ends():
    values, times = np.array([[0.0], [1.0], [4.0]]), np.array([-1, 0, 0.5, 1.75, 2, 9])
    np.testing.assert_allclose(interpolate(values, times), [[0], [0], [0.5], [3.25], [4], [4]])


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("frames", [1, 2, 60, 61, 97])
def test_a_rate_that_divides_takes_every_kth_frame_exactly(divisor, frames):
    joints_m = np.random.default_rng(0).normal(size=(frames, 17, 3))
    slower_m = resample(joints_m, rate_hz=60.0, wanted_hz=60.0 / divisor)
    np.testing.assert_array_equal(slower_m, joints_m[::divisor])


@settings(deadline=None)
@given(wanted_hz=st.floats(5, 240), frames=st.integers(1, 300))
def test_steady_motion_is_resampled_onto_its_line(wanted_hz, frames):
    def move(seconds):
        return 1 + seconds[:, None, None] * np.linspace(-1, 1, 17)[:, None] * [1, 2, 3]

    resampled_m = resample(move(np.arange(frames) / 60), rate_hz=60.0, wanted_hz=wanted_hz)
    seconds = np.arange(len(resampled_m)) / wanted_hz
    np.testing.assert_allclose(resampled_m, move(seconds), atol=1e-7)
    last_s = (frames - 1) / 60
    assert seconds[-1] <= last_s + 1e-9 < seconds[-1] + 1 / wanted_hz + 1e-8


@given(st.lists(st.booleans(), min_size=2, max_size=20).filter(lambda missing: not all(missing)))
def test_gaps_in_steady_motion_lie_on_its_line_and_ends_are_held(missing_frames):
    missing = np.array(missing_frames)[:, None]
    frames = np.arange(float(len(missing)))
    known = frames[~missing[:, 0]]
    line = frames[:, None, None] * [3.0, -1.0] + 2
    filled = interpolate_gaps(np.where(missing[..., None], np.nan, line), missing)
    held = np.clip(frames, known[0], known[-1])[:, None, None] * [3.0, -1.0] + 2
    np.testing.assert_allclose(filled, held, atol=1e-9)


def test_what_is_known_stays_and_a_joint_never_known_is_left_alone():
    values = np.random.default_rng(0).normal(size=(6, 2, 3))
    missing = np.zeros((6, 2), dtype=bool)
    missing[2:4, 0] = missing[:, 1] = True
    filled = interpolate_gaps(values, missing)
    np.testing.assert_array_equal(filled[~missing], values[~missing])
    np.testing.assert_array_equal(filled[:, 1], values[:, 1])
