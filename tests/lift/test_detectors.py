"""The detectors for videos: which there are, what is missing of them, and what all of them have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.lift.formats import read_recording
from pipeline.lift.people import InputOptions
from pipeline.lift.video import detectors
from pipeline.lift.video.detectors import detect_people, refuse_missing_detector
from pipeline.lift.video.frames import VideoFrame
from pipeline.system.errors import UserError
from tests.fixtures.videos import write_video

FRAMES = [VideoFrame(n / 30, np.zeros((40, 20, 3), np.uint8)) for n in range(3)]
PERSON = np.array([[5, 30, 0.9], [-1, 30, 0.8], [5, 41, 0.7], [20, 40, 0.6]])


@pytest.fixture
def use_detector(monkeypatch):
    """Makes `people` what the detector ultralytics finds in every frame."""

    def use(people):
        def found(frames, model):
            for frame in frames:
                yield frame, [person.copy() for person in people]

        detector = replace(detectors.DETECTORS["ultralytics"], detect=found)
        monkeypatch.setitem(detectors.DETECTORS, "ultralytics", detector)
        monkeypatch.setattr(detectors, "find_spec", lambda package: True)

    return use


def test_what_is_beyond_the_edge_is_not_seen(use_detector):
    use_detector([PERSON])
    for frame, (found,) in detect_people(FRAMES, "ultralytics", Path("model")):
        assert frame in FRAMES
        np.testing.assert_allclose(found[:, :2], PERSON[:, :2])
        np.testing.assert_allclose(found[:, 2], [0.9, 0, 0, 0.6])


def test_the_number_of_joints_tells_the_layout_where_the_detector_does_not(tmp_path, use_detector):
    """RTMPose has networks of 17, 26 and 133 joints, and scores over 1."""
    (tmp_path / "model").touch()
    clip = write_video(tmp_path / "a.mp4", np.arange(12) / 30)
    options = InputOptions(detector="ultralytics", detector_model=tmp_path / "model")
    for joints, layout in ((17, "coco17"), (26, "halpe26"), (133, "coco17")):
        places = np.random.default_rng(0).uniform(1, 60, (joints, 2))
        places[4] = [200, 10]  # beyond the edge
        use_detector([np.column_stack([places, np.full(joints, 1.1)])])
        recording = read_recording(clip, options)
        (track,) = recording.tracks
        kept = track.pixels.shape[1]
        assert track.layout == layout
        seen = np.arange(kept) != 4
        np.testing.assert_allclose(track.pixels[3, seen], places[:kept][seen])
        np.testing.assert_array_equal(track.confidence[3], seen)
        expected = f"beyond the edge of the picture: {1 / joints:.1%} of the joints, guessed by the detector; not used"
        assert expected in recording.reading


def test_all_that_is_missing_of_a_detector_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(detectors, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"a\.mp4: .* the package rtmlib and --detector-model, .*; pip install rtmlib"):
        refuse_missing_detector(Path("a.mp4"), "rtmlib", None)
    monkeypatch.setattr(detectors, "find_spec", lambda package: True)
    with pytest.raises(UserError, match=r"found missing: the detector's model .*gone\.pt; pip install ultralytics"):
        refuse_missing_detector(Path("a.mp4"), "ultralytics", tmp_path / "gone.pt")
    with pytest.raises(UserError, match="--detector: expected one of mediapipe, rtmlib, ultralytics, found 'yolo'"):
        refuse_missing_detector(Path("a.mp4"), "yolo", None)
