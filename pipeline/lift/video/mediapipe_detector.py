"""Detects people in the frames of a video with MediaPipe's pose landmarker, which is an optional package."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.lift.video.frames import VideoFrame
from pipeline.system.errors import UserError
from pipeline.system.terminal import divert_stderr

MOST_PEOPLE = 5
LATEST_MESSAGES = 3

Marks = Float[np.ndarray, "33 3"]


def detect_people(frames: Iterable[VideoFrame], model: Path) -> Iterator[tuple[VideoFrame, list[Marks]]]:
    """Yields each frame with the people in it, at most MOST_PEOPLE: pixels x and y and visibility of 33 landmarks.

    What the landmarker guesses outside of the picture has visibility 0: nobody saw it. What its libraries write to
    stderr is kept for the error. Raises UserError if `model` is no pose landmarker, or it fails.
    """
    import mediapipe
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    settings = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=vision.RunningMode.VIDEO,
        num_poses=MOST_PEOPLE,
    )
    latest_ms, landmarker = -1, None
    with tempfile.TemporaryFile() as messages:
        try:
            with divert_stderr(messages):
                landmarker = vision.PoseLandmarker.create_from_options(settings)
            for frame in frames:
                latest_ms = max(latest_ms + 1, round(1000 * frame.time_s))  # each must be later than the last
                picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.picture)
                with divert_stderr(messages):
                    found = landmarker.detect_for_video(picture, latest_ms)
                height_px, width_px, _ = frame.picture.shape
                yield frame, [_keypoints_px(person, (width_px, height_px)) for person in found.pose_landmarks]
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            messages.seek(0)
            said = messages.read().decode("utf-8", "replace").splitlines()[-LATEST_MESSAGES:]
            reason = " ".join(" ".join([str(error), *said]).split())
            raise UserError(f"{model}: expected a MediaPipe pose landmarker, found: {reason}") from error
        finally:
            if landmarker is not None:
                with divert_stderr(messages):
                    landmarker.close()


def _keypoints_px(person: Any, size_px: tuple[int, int]) -> Marks:
    """Returns pixels and visibility of the landmarker's marks, which are shares of the picture."""
    marks = np.array([[mark.x, mark.y, mark.visibility] for mark in person])
    marks[((marks[:, :2] < 0) | (marks[:, :2] > 1)).any(1), 2] = 0
    return marks * [*size_px, 1]
