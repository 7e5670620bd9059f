"""Frames of videos as phones write them: every one of them, at its time, upright and in colours of screens."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.lift.video.frames import describe_video, read_frames
from pipeline.system.errors import UserError
from tests.fixtures.videos import HEIGHT_PX, SQUARE_PX, WIDTH_PX, write_video

HLG = ["-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le", "-crf", "4"]
HLG += ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "arib-std-b67", "-tag:v", "hvc1"]


def square_of(picture):
    """Left, top, right and bottom of the bright square."""
    rows, columns = np.nonzero(picture.astype(int).mean(-1) > 130)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("rate_hz", [24, 29.97, 50, 120, 240])
def test_frames_of_any_rate_are_at_their_times(tmp_path, rate_hz):
    times_s = np.arange(12) / rate_hz
    found_s = [frame.time_s for frame in read_frames(write_video(tmp_path / "a.mp4", times_s))]
    np.testing.assert_allclose(found_s, times_s, atol=1 / 1200)  # half a tick


def test_a_variable_rate_is_read_frame_by_frame(tmp_path):
    times_s = np.cumsum([2.5, 1 / 30, 1 / 15, 1 / 30, 1 / 24, 0.5, 1 / 60])  # from where the camera was started
    frames = list(read_frames(write_video(tmp_path / "a.mov", times_s)))
    np.testing.assert_allclose([frame.time_s for frame in frames], times_s - times_s[0], atol=1 / 600)
    lefts = [square_of(frame.picture)[0] for frame in frames]
    np.testing.assert_allclose(lefts, 2 * np.arange(len(times_s)), atol=1)  # none twice, none left out


@pytest.mark.parametrize("turned_deg", [90, -90, 180])
def test_a_video_of_a_turned_phone_is_upright(tmp_path, turned_deg):
    (frame, *_) = read_frames(write_video(tmp_path / "a.mp4", [0, 0.04], turned_deg=turned_deg))
    left, top, right, bottom = square_of(np.rot90(frame.picture, -turned_deg // 90))
    assert frame.picture.shape[:2] == ((HEIGHT_PX, WIDTH_PX) if turned_deg == 180 else (WIDTH_PX, HEIGHT_PX))
    np.testing.assert_allclose([left, top, right, bottom], [0, 8, SQUARE_PX, 8 + SQUARE_PX], atol=1)


def test_high_dynamic_range_is_mapped_to_that_of_screens(tmp_path):
    path = write_video(tmp_path / "a.mov", [0, 0.04, 0.08], output=HLG)
    assert describe_video(path).is_hdr
    frames = list(read_frames(path))
    assert len(frames) == 3
    np.testing.assert_allclose(square_of(frames[0].picture), [0, 8, SQUARE_PX, 8 + SQUARE_PX], atol=1)
    square, around = frames[0].picture[12, 4], frames[0].picture[40, 80]
    assert (square > 200).all()
    assert (around < 80).all()


def test_the_header_tells_length_rate_and_tags(tmp_path):
    tag = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
    tagged = ["-movflags", "use_metadata_tags", "-metadata", f"{tag}=26"]
    about = describe_video(write_video(tmp_path / "a.mov", np.arange(30) / 30, output=tagged))
    assert about.tags[tag] == "26"
    assert about.duration_s == pytest.approx(1, abs=0.05)
    assert about.nominal_rate_hz == pytest.approx(30, abs=2)
    assert not about.is_hdr


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x00\x18ftypmp42", b"a,b\n1,2\n"])
def test_what_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4: expected a video, found: \S"):
        next(read_frames(tmp_path / "a.mp4"))


def test_a_file_cut_off_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", np.arange(60) / 30)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UserError, match=r"a\.mkv: expected a video"):
        list(read_frames(path))


def test_a_playlist_reads_no_other_file(tmp_path):
    write_video(tmp_path / "b.mp4", [0, 0.04])
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1\nhttp://127.0.0.1:9/b.mp4\n#EXT-X-ENDLIST\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected a video"):
        list(read_frames(tmp_path / "a.mp4"))
