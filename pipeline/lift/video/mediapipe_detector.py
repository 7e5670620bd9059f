"""Detects people in the frames of a video with MediaPipe's pose landmarker, which is an optional package."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.lift.video.frames import People, VideoFrame
from pipeline.system.errors import UserError
from pipeline.system.terminal import divert_stderr

MOST_PEOPLE = 5
# How often all people of a picture are counted. On the two-person demo of pose2sim the people are found, within 40 px,
# in 86 % of the frames with 0.2 s, in 82 % with 0.33 s, and in 62 % where the landmarker may always follow five.
COUNT_EVERY_S = 0.2
LATEST_MESSAGES = 3


def detect_people(frames: Iterable[VideoFrame], model: Path) -> Iterator[tuple[VideoFrame, People]]:
    """Yields each frame with the people in it, at most MOST_PEOPLE: x and y in pixels, and visibility, of 33 landmarks.

    What its libraries write to stderr is kept for the error. Raises UserError if `model` is no pose landmarker, or it
    fails.
    """
    with tempfile.TemporaryFile() as messages:
        try:
            for frame, people in _follow_people(frames, model, messages):
                height_px, width_px, _ = frame.picture.shape
                size = np.array([width_px, height_px, 1])  # of the picture, of which marks are shares
                yield frame, [size * [[mark.x, mark.y, mark.visibility] for mark in person] for person in people]
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            messages.seek(0)
            said = messages.read().decode("utf-8", "replace").splitlines()[-LATEST_MESSAGES:]
            reason = " ".join(" ".join([str(error), *said]).split())
            raise UserError(f"{model}: expected a MediaPipe pose landmarker, found: {reason}") from error


def _follow_people(
    frames: Iterable[VideoFrame], model: Path, messages: IO[bytes]
) -> Iterator[tuple[VideoFrame, list[Any]]]:
    """Yields each frame with its people, followed by a landmarker for as many as were ever seen at once.

    A landmarker that may follow more people than there are looks for the others in every frame, which takes as long
    again, and what it finds anew displaces those whom it follows. So another one counts people now and then.
    """
    import mediapipe

    counter, follower, followed, next_count_s, latest_ms = None, None, 0, 0.0, -1
    try:
        for frame in frames:
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.picture)
            with divert_stderr(messages):
                if frame.time_s >= next_count_s:
                    next_count_s = frame.time_s + COUNT_EVERY_S
                    counter = counter or _make_landmarker(model, people=MOST_PEOPLE, is_video=False)
                    count = max(1, len(counter.detect(picture).pose_landmarks))
                    if count > followed:
                        if follower is not None:
                            follower.close()
                        follower, followed = _make_landmarker(model, people=count, is_video=True), count
                latest_ms = max(latest_ms + 1, round(1000 * frame.time_s))  # each must be later than the last
                assert follower is not None, "made for the first frame"
                found = follower.detect_for_video(picture, latest_ms)
            yield frame, found.pose_landmarks
    finally:
        with divert_stderr(messages):
            for landmarker in (counter, follower):
                if landmarker is not None:
                    landmarker.close()


def _make_landmarker(model: Path, *, people: int, is_video: bool) -> Any:
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    mode = vision.RunningMode.VIDEO if is_video else vision.RunningMode.IMAGE
    options = BaseOptions(model_asset_path=str(model))
    return vision.PoseLandmarker.create_from_options(
        vision.PoseLandmarkerOptions(base_options=options, running_mode=mode, num_poses=people)
    )
