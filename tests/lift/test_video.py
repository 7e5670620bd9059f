"""What a detector finds in a video becomes people; without the detector a line says what to install."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pipeline.lift.formats.video import detect_in_video, recording_of
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import EMPTY, FRAMES, walkers
from tests.fixtures.lifting import SIZE


def test_people_found_in_each_frame_are_followed_through_the_video():
    people = walkers("mediapipe33")
    frames = [[] if f == EMPTY else [people[n][f] for n in ((0, 1) if f % 2 else (1, 0))] for f in range(FRAMES)]
    recording = recording_of("walk.mp4", frames, rate_hz=25.0, size_px=SIZE)
    assert (recording.frames, recording.rate_hz, recording.image_size_px) == (FRAMES, 25.0, SIZE)
    seen = np.arange(FRAMES) != EMPTY
    found = sorted((track.pixels[seen] for track in recording.tracks), key=lambda pixels: pixels[..., 0].mean())
    for pixels, person in zip(found, people, strict=True):
        np.testing.assert_array_equal(pixels, person[seen, :, :2])


def test_a_video_with_nobody_in_it_is_refused():
    with pytest.raises(UserError, match=r"empty\.mp4: expected a person, found none in 3 frames"):
        recording_of("empty.mp4", [[], [], []], rate_hz=30.0, size_px=SIZE)


def test_without_the_detector_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(UserError, match=r"walk\.mp4: expected the optional detector .* pip install \.\[video\]"):
        detect_in_video(tmp_path / "walk.mp4", detector_model=None)
