"""Live lifting: as good as lifting the whole recording once it may look ahead far enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.lifter import Lifter
from pipeline.system.errors import UserError
from tests.fixtures.lifting import SIZE, walker_keypoints, write_small_checkpoint

ATOL_M = 1e-5  # float32, through some tens of layers
WINDOW = 9
HALF = WINDOW // 2


@pytest.fixture(scope="module", params=["rayformer", "poseformer", "linear"])
def lifter(request, tmp_path_factory):
    folder = write_small_checkpoint(tmp_path_factory.mktemp("stream") / "run0", request.param)
    return replace(Lifter.load(folder, stride=1), passes=0)  # a stream sees people in the camera's own view


def stream_all(lifter, keypoints, **options):
    stream = lifter.stream(layout="h36m17", image_size=SIZE, **options)
    poses_m = [pose_m for frame in keypoints if (pose_m := stream.push(frame)) is not None]
    return np.array(poses_m + stream.finish())


@pytest.mark.parametrize("latency", [HALF, HALF + 3])
def test_with_half_a_window_of_latency_a_stream_equals_the_whole_recording(lifter, latency):
    keypoints = walker_keypoints(25)
    whole_m = lifter(keypoints, layout="h36m17", image_size=SIZE)
    np.testing.assert_allclose(stream_all(lifter, keypoints, latency=latency), whole_m, atol=ATOL_M)


@pytest.mark.parametrize("frames", [1, 2, HALF])
def test_a_stream_shorter_than_its_latency_equals_the_whole_recording(lifter, frames):
    keypoints = walker_keypoints(frames)
    whole_m = lifter(keypoints, layout="h36m17", image_size=SIZE)
    np.testing.assert_allclose(stream_all(lifter, keypoints, latency=HALF), whole_m, atol=ATOL_M)


def test_a_causal_stream_gives_a_pose_at_once_that_no_later_frame_changes(lifter):
    keypoints = walker_keypoints(20)
    stream = lifter.stream(layout="h36m17", image_size=SIZE)
    poses_m = np.array([stream.push(frame) for frame in keypoints])
    assert stream.finish() == []
    other = keypoints.copy()
    other[12:] = walker_keypoints(8, start=2.0)
    np.testing.assert_array_equal(stream_all(lifter, other)[:12], poses_m[:12])
    assert np.abs(stream_all(lifter, other)[12:] - poses_m[12:]).max() > 1e-3


def test_frames_whose_poses_nobody_wants_count_for_those_after_them(lifter):
    keypoints = walker_keypoints(20)
    stream = lifter.stream(layout="h36m17", image_size=SIZE)
    for frame in keypoints[:-1]:
        stream.add(frame)
    np.testing.assert_array_equal(stream.push(keypoints[-1]), stream_all(lifter, keypoints)[-1])


def test_a_pose_comes_as_many_frames_late_as_stated(lifter):
    stream = lifter.stream(layout="h36m17", image_size=SIZE, latency=3)
    given = [stream.push(frame) is not None for frame in walker_keypoints(6)]
    assert given == [False, False, False, True, True, True]
    assert len(stream.finish()) == 3


def test_a_finished_stream_begins_anew(lifter):
    keypoints = walker_keypoints(12)
    stream = lifter.stream(layout="h36m17", image_size=SIZE, latency=2)
    once, again = (
        [pose_m for frame in keypoints if (pose_m := stream.push(frame)) is not None] + stream.finish()
        for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


def test_at_twice_the_rate_a_stream_sees_every_other_frame(lifter):
    keypoints = walker_keypoints(40)
    twice = np.repeat(keypoints, 2, axis=0)
    poses_m = stream_all(lifter, twice, rate_hz=60.0, latency=2 * HALF)
    whole_m = lifter(keypoints, layout="h36m17", image_size=SIZE)
    np.testing.assert_allclose(poses_m[::2][:-HALF], whole_m[:-HALF], atol=ATOL_M)


def test_a_joint_not_seen_for_a_moment_stays_where_it_was(lifter):
    still = np.repeat(walker_keypoints(1), 12, axis=0)
    gap = still.copy()
    gap[5:7, 13, :2] = np.nan
    weak = still.copy()
    weak[5:7, 13, 2] = 0.0
    poses_m, given_m = stream_all(lifter, gap), stream_all(lifter, still)
    assert np.isfinite(poses_m).all()
    np.testing.assert_array_equal(poses_m[:5], given_m[:5])
    np.testing.assert_array_equal(poses_m, stream_all(lifter, weak))


def test_a_person_who_is_gone_too_long_has_no_pose_and_windows_do_not_reach_over_the_gap(lifter):
    keypoints = walker_keypoints(40)
    keypoints[10:25] = np.nan
    poses_m = stream_all(lifter, keypoints, latency=HALF)
    held = int(lifter.settings.max_gap_s * lifter.rate_hz)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(poses_m).all((1, 2))), np.arange(10 + held, 25))
    np.testing.assert_allclose(poses_m[25:], stream_all(lifter, keypoints[25:], latency=HALF), atol=ATOL_M)


def test_impossible_streams_are_refused(lifter):
    with pytest.raises(UserError, match="latency: expected frames from 0, found -1"):
        lifter.stream(layout="h36m17", image_size=SIZE, latency=-1)
    for rate_hz in (-5.0, 0.0):
        with pytest.raises(UserError, match=f"rate: expected Hz over 0, found {rate_hz:g}"):
            lifter.stream(layout="h36m17", image_size=SIZE, rate_hz=rate_hz)
    with pytest.raises(UserError, match=r"keypoints: expected an array of shape \(frames, 17, 2 or 3\)"):
        lifter.stream(layout="h36m17", image_size=SIZE).push(np.zeros((16, 2)))
