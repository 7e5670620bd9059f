"""Videos without their detector, and people in frames that a phone took at uneven times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.lift.formats import read_recording, video
from pipeline.lift.people import InputOptions
from pipeline.lift.reading.times import count_frames, find_rate, resample_track
from pipeline.lift.video import mediapipe_model
from pipeline.system.errors import UserError
from tests.fixtures.lifting import track_of
from tests.fixtures.videos import HEIGHT_PX, WIDTH_PX, write_video

FOCAL_TAG = ["-movflags", "use_metadata_tags", "-metadata", f"{video.FOCAL_TAG}=26"]


def moving_at(times_s):
    """Returns a track of joints that move evenly, and where they are at a time."""
    slope, start = np.linspace(-90, 120, 34).reshape(17, 2), np.linspace(100, 900, 34).reshape(17, 2)

    def at(time_s):
        return start + np.asarray(time_s)[..., None, None] * slope

    return track_of(np.concatenate([at(times_s), np.ones((len(times_s), 17, 1))], axis=-1)), at


def square_detector(frames, detector, model):
    """Stands for a detector: one person, whose first landmark is in the middle of the bright square."""
    for frame in frames:
        rows, columns = np.nonzero(frame.picture.astype(int).mean(-1) > 130)
        around = np.array([[12 * np.sin(n) * (n > 0), 7 * np.cos(n) * (n > 0), 0.9] for n in range(33)])
        yield frame, [around + np.array([columns.mean() + 0.5, rows.mean() + 0.5, 0])]


@pytest.fixture
def without_mediapipe(monkeypatch):
    monkeypatch.setattr(video, "detect_people", square_detector)
    monkeypatch.setattr(video, "refuse_missing_detector", lambda *_: Path("model"))


def test_all_that_is_missing_is_said_at_once_before_torch_is_loaded(tmp_path):
    """In a process in which mediapipe and torch cannot be imported."""
    (tmp_path / "walk.MP4").touch()
    script = "import sys; sys.modules.update(mediapipe=None, torch=None); from pipeline.__main__ import main; main()"
    call = [sys.executable, "-c", script, "lift", "walk.MP4", "--out", "x", "--checkpoint", "gone"]
    result = subprocess.run(call, cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd())}, capture_output=True, check=False)
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(
        "poselift: walk.MP4: expected a detector for videos, found missing: the package mediapipe and"
    )
    assert "the detector's model data/detectors/pose_landmarker_full.task and the checkpoint gone; make video" in line


@pytest.mark.parametrize("rate_hz", [24.0, 30000 / 1001, 50.0, 240.0])
@pytest.mark.parametrize("ticks_hz", [1000, 2400, 90000])
def test_the_rate_of_even_frames_is_known_in_any_unit_of_time(rate_hz, ticks_hz):
    times_s = np.round(np.arange(500) / rate_hz * ticks_hz) / ticks_hz
    found_hz, is_constant = find_rate(times_s, nominal_hz=None)
    assert is_constant
    assert found_hz == pytest.approx(rate_hz, rel=1e-3)


def test_people_at_uneven_times_are_where_they_were_at_even_ones():
    """What moves evenly is interpolated exactly, at 30 Hz in the light, 15 in the dark, and with lost frames."""
    times_s = np.cumsum([0, *[1 / 30] * 20, *[1 / 15] * 6, *[1 / 24] * 5, 0.4, *[1 / 30] * 9])
    track, at = moving_at(times_s)
    rate_hz, is_constant = find_rate(times_s, nominal_hz=24.7)
    assert (round(rate_hz, 6), is_constant) == (30.0, False)
    even = resample_track(track, times_s, rate_hz)
    assert len(even) == count_frames(times_s, rate_hz) == int(times_s[-1] * 30) + 1
    wanted_s = np.arange(len(even)) / 30
    seen = np.isfinite(even.pixels).all((1, 2))
    np.testing.assert_allclose(even.pixels[seen], at(wanted_s[seen]), atol=0.1 / 30 * 90)
    np.testing.assert_array_equal(seen, even.confidence[:, 0] > 0)
    hole = (wanted_s > times_s[31] + 1e-3) & (wanted_s < times_s[32] - 1e-3)
    np.testing.assert_array_equal(seen, ~hole)  # in 0.4 s without a frame nobody was seen


def test_somebody_who_was_not_seen_for_a_frame_is_not_made_up():
    times_s = np.arange(20) / 25 + 0.004 * (-1) ** np.arange(20)
    track, _ = moving_at(times_s)
    track.pixels[7], track.confidence[7] = np.nan, 0
    even = resample_track(track, times_s - times_s[0], 25.0)
    assert np.isnan(even.pixels[6:9]).all(2).any()
    assert (even.confidence[np.isnan(even.pixels[..., 0])] == 0).all()


def test_a_video_of_variable_rate_is_read_at_its_own_speed(tmp_path, without_mediapipe):
    """The square moves 2 px in each frame of the file, so that it is slower where frames are farther apart."""
    times_s = np.cumsum([0, *[1 / 30] * 14, *[1 / 15] * 10])
    recording = read_recording(write_video(tmp_path / "a.mov", times_s), InputOptions())
    (track,) = recording.tracks
    assert recording.rate_hz == pytest.approx(30)
    assert recording.frames == len(track) == 15 + 20
    assert recording.image_size_px == (WIDTH_PX, HEIGHT_PX)
    expected = 8 + np.interp(np.arange(35) / 30, times_s, 2 * np.arange(25))
    np.testing.assert_allclose(track.pixels[:, 0, 0], expected, atol=0.6)
    assert any("15 to 30 Hz by the frames' time stamps" in line for line in recording.reading)


def test_a_stated_rate_goes_before_time_stamps(tmp_path, without_mediapipe):
    path = write_video(tmp_path / "slow.mp4", np.arange(12) / 30)
    recording = read_recording(path, InputOptions(rate_hz=240.0))
    assert (recording.rate_hz, recording.frames) == (240.0, 12)
    assert "rate: 240 Hz, stated; time stamps not used" in recording.reading


def test_the_focal_length_in_the_file_is_used(tmp_path, without_mediapipe):
    """26 mm in 35 mm film have a field of view of 79.5 degrees over the diagonal."""
    path = write_video(tmp_path / "a.mov", np.arange(12) / 30, output=FOCAL_TAG)
    camera = read_recording(path, InputOptions()).camera
    half_px = np.hypot(WIDTH_PX, HEIGHT_PX) / 2
    assert 2 * np.degrees(np.arctan(half_px / camera.focal_px[0])) == pytest.approx(79.5, abs=0.1)
    assert camera.centre_px == (WIDTH_PX / 2, HEIGHT_PX / 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("--image-size", InputOptions(image_size_px=(96, 64))), ("--units", InputOptions(units="shares")),
        ("--y-up", InputOptions(y_up=True)), ("--layout", InputOptions(layout="coco17")),
        ("--highest-score", InputOptions(highest_score=2.0)), ("--video", InputOptions(video="a")),
    ],
)  # fmt: skip
def test_what_a_video_tells_itself_is_refused(tmp_path, name, options):
    with pytest.raises(UserError, match=rf"a\.mp4: {name}: expected none"):
        read_recording(write_video(tmp_path / "a.mp4", [0, 0.04]), options)


def test_the_model_is_not_fetched_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(mediapipe_model, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"a\.task: expected the package mediapipe .* make video"):
        mediapipe_model.make_detector_model(tmp_path / "a.task")
    assert not any(tmp_path.iterdir())
