"""Whom MediaPipe follows in a video, with a stand-in for the package, which is optional."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.lift.video import mediapipe_detector
from pipeline.lift.video.frames import VideoFrame

MARKS = [SimpleNamespace(x=0.5, y=0.25, visibility=0.9)] * 32 + [SimpleNamespace(x=0.5, y=1.1, visibility=0.8)]


class Landmarker:
    """Finds as many people as the picture is bright, but at most those that it was made for, as MediaPipe does."""

    def __init__(self, people, is_video):
        self.people, self.is_video, self.times_ms, self.is_closed = people, is_video, [], False

    def detect(self, picture):
        return SimpleNamespace(pose_landmarks=[MARKS] * min(self.people, int(picture[0, 0, 0])))

    def detect_for_video(self, picture, time_ms):
        assert time_ms > max(self.times_ms, default=-1)  # which MediaPipe asks for
        self.times_ms.append(time_ms)
        return self.detect(picture)

    def close(self):
        self.is_closed = True


@pytest.fixture
def made(monkeypatch):
    """The landmarkers that are made."""
    landmarkers = []

    def make(model, *, people, is_video):
        landmarkers.append(Landmarker(people, is_video))
        return landmarkers[-1]

    package = SimpleNamespace(Image=lambda image_format, data: data, ImageFormat=SimpleNamespace(SRGB=0))
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    monkeypatch.setattr(mediapipe_detector, "_make_landmarker", make)
    return landmarkers


def detected(people, rate_hz):
    """How many are found in each frame of a video with so many people in its frames, and their landmarks."""
    frames = [VideoFrame(n / rate_hz, np.full((40, 20, 3), count, np.uint8)) for n, count in enumerate(people)]
    found = [marks for _, marks in mediapipe_detector.detect_people(frames, Path("model"))]
    return [len(marks) for marks in found], [one for marks in found for one in marks]


@pytest.mark.parametrize("rate_hz", [30, 1200])
def test_who_comes_into_the_picture_is_found_within_a_fifth_of_a_second(made, rate_hz):
    people = [0] * rate_hz + [1] * rate_hz + [3] * rate_hz + [2] * rate_hz + [3] * rate_hz
    counts, _ = detected(people, rate_hz)
    late = np.flatnonzero(np.array(counts) != people)
    assert counts[:rate_hz] == [0] * rate_hz
    assert ((late >= 2 * rate_hz) & (late <= 2.2 * rate_hz + 1)).all()  # the one is looked for in every frame
    assert [one.people for one in made if one.is_video] == [1, 3]  # nobody who came back had to wait
    assert all(one.is_closed for one in made)


def test_landmarks_are_pixels(made):
    _, (marks, *_) = detected([1, 1], 30)
    np.testing.assert_allclose(marks, [[10, 10, 0.9]] * 32 + [[10, 44, 0.8]])
