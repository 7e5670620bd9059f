"""Live lifting: what a camera would give is lifted as a stream is, and a browser is told of it."""

from __future__ import annotations

import json
import time
import urllib.request
from threading import Thread

import numpy as np
import pytest

from pipeline.lift.command import live
from pipeline.lift.lifter import Lifter
from pipeline.lift.live import LiveFrame, _in_real_time, lift_live, play_file, summarize_latencies
from pipeline.lift.live_page import LivePage
from pipeline.lift.people import InputOptions
from pipeline.lift.video.frames import VideoFrame
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from tests.fixtures.lifting import SIZE, walker_keypoints, write_small_checkpoint


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return Lifter.load(write_small_checkpoint(tmp_path_factory.mktemp("live") / "run0"))


def published(keypoints, times_s, lifter):
    """What is published of frames at these times, and the latencies."""
    events, latencies = [], []
    frames = (
        LiveFrame(float(time_s), one, "h36m17", SIZE, 0.0) for one, time_s in zip(keypoints, times_s, strict=True)
    )
    lift_live(frames, lifter, events.append, latencies)
    return events, latencies


def bones_m(joints_m):
    return [np.linalg.norm(joints_m[a] - joints_m[b]) for a, b in H36M_17.bones]


def test_live_poses_are_the_streams_upright_on_the_ground(lifter):
    keypoints = walker_keypoints(12)
    events, latencies = published(keypoints, np.arange(12) / 30, lifter)
    stream = lifter.stream(layout="h36m17", image_size=SIZE)
    assert [list(frame) for frame in latencies] == [["capture", "detect", "lift", "total"]] * 12
    lowest_m = 0.0
    for event, frame in zip(events, keypoints, strict=True):
        pose_m, shown_m = stream.push(frame), np.reshape(event["joints"], (17, 3))
        np.testing.assert_allclose(shown_m[:, 0] - shown_m[0, 0], pose_m[:, 0], atol=1e-3)
        np.testing.assert_allclose(shown_m[:, 2] - shown_m[0, 2], -pose_m[:, 1], atol=1e-3)
        np.testing.assert_allclose(np.reshape(event["pixels"], (17, 2)), frame[:, :2], atol=0.06)
        lowest_m = max(lowest_m, pose_m[:, 1].max())
        assert shown_m[0, 2] == pytest.approx(lowest_m, abs=1e-3)  # as high as the lowest joint was under it


def test_a_camera_of_another_rate_gives_the_poses_of_the_models_rate(lifter):
    keypoints = walker_keypoints(10)
    steady, _ = published(keypoints, np.arange(10) / 30, lifter)
    twice = np.repeat(keypoints, 2, axis=0)[:-1]
    twice[1::2] = (keypoints[:-1] + keypoints[1:]) / 2  # what a camera twice as fast sees of even motion
    fast, _ = published(twice, np.arange(19) / 60, lifter)
    assert [event["joints"] for event in fast] == [event["joints"] for event in steady]
    slow, _ = published(keypoints[::3], np.arange(4) / 10, lifter)
    assert [event["time_s"] for event in slow] == [0, 0.1, 0.2, 0.3]


def test_where_nobody_is_nobody_is_shown(lifter):
    keypoints = np.tile([np.nan, np.nan, 0.0], (3, 17, 1))
    events, _ = published(keypoints, np.arange(3) / 30, lifter)
    assert {value for event in events for value in event["joints"] + event["pixels"]} == {None}


def test_a_browser_is_told_of_every_frame_until_the_last():
    page = LivePage((H36M_17, H36M_17), title="a <walker>", port=0)
    with urllib.request.urlopen(page.url, timeout=10) as answer:
        html = answer.read().decode()
    assert "a &lt;walker&gt;" in html
    assert "<walker>" not in html
    with urllib.request.urlopen(f"{page.url}/events", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.readline() == b": hello\n"
        for number in range(3):
            page.publish({"number": number})
        closing = Thread(target=page.close)
        closing.start()
        said = answer.read().decode()
        closing.join()
    numbers = [json.loads(line[6:])["number"] for line in said.splitlines() if line.startswith('data: {"number')]
    assert numbers == [0, 1, 2]
    assert said.endswith("event: end\ndata: {}\n\n")


def test_a_keypoint_file_stands_for_a_camera(tmp_path, lifter):
    keypoints = walker_keypoints(6)
    np.savez(tmp_path / "walk.npz", keypoints=keypoints, layout="h36m17", image_size=[1000, 1000], rate_hz=30.0)
    frames = list(play_file(tmp_path / "walk.npz", InputOptions()))
    numbers = [round(30 * frame.time_s) for frame in frames]  # a busy machine is late for some
    assert numbers == sorted(set(numbers))
    for number, frame in zip(numbers, frames, strict=True):
        np.testing.assert_allclose(frame.keypoints, keypoints[number], atol=1e-4)
    np.savez(tmp_path / "walk.npz", keypoints=keypoints, layout="h36m17", image_size=[1000, 1000])
    with pytest.raises(UserError, match=r"walk\.npz: expected --rate-hz, which the file does not tell, found none"):
        next(play_file(tmp_path / "walk.npz", InputOptions()))


def test_a_video_that_is_read_slower_than_it_was_taken_is_shown_all_the_same(monkeypatch):
    monkeypatch.setattr("pipeline.lift.live.LONGEST_WAIT_S", 0.1)

    def slow():
        for number in range(60):
            time.sleep(0.01)  # ten times as long as between frames
            yield VideoFrame(number / 1000, np.zeros((2, 2, 3), np.uint8))

    shown = [round(1000 * frame.time_s) for frame, _, _ in _in_real_time(slow())]
    assert shown[0] == 0
    assert len(shown) > 3
    assert shown == sorted(set(shown))


def test_latencies_are_told_as_median_and_95th_percentile():
    frames = [{"capture": 0.0, "detect": 0.02, "lift": 0.001 * number, "total": 0.1} for number in range(101)]
    lines = summarize_latencies(frames).splitlines()
    assert lines[0] == "101 frames; latency in ms: median, 95th percentile"
    assert [line.split() for line in lines[1:]] == [
        ["capture", "0.0", "0.0"], ["detect", "20.0", "20.0"], ["lift", "50.0", "95.0"], ["total", "100.0", "100.0"]
    ]  # fmt: skip


@pytest.mark.parametrize(("source", "camera", "found"), [(None, None, "neither"), ("a.npz", 0, "both")])
def test_a_file_or_a_camera_is_asked_for(tmp_path, source, camera, found):
    path = None if source is None else tmp_path / source
    with pytest.raises(UserError, match=f"live: expected a file or --camera 0, found {found}"):
        live(path, camera)


def test_a_port_that_is_taken_is_refused():
    page = LivePage((H36M_17, H36M_17), title="a", port=0)
    port = int(page.url.rpartition(":")[2])
    with pytest.raises(UserError, match=f"--port: expected a free port, found {port} taken"):
        LivePage((H36M_17, H36M_17), title="b", port=port)
    page.close()
