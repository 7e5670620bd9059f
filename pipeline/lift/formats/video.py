"""From a video to the keypoints of the people in it, with MediaPipe's pose landmarker, which is an optional package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.lift.people import Recording
from pipeline.lift.tracks import Detection, Found, tracks_of
from pipeline.system.errors import UserError

MOST_PEOPLE = 5
MODEL = "pose_landmarker_full.task"
MODEL_FROM = "https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker#models"


def detect_in_video(path: Path, *, detector_model: Path | None) -> Recording:
    """The people of a video, at most MOST_PEOPLE at a time, frame by frame, in the layout mediapipe33.

    `detector_model` is the .task file of a MediaPipe pose landmarker. Confidence is its "visibility". Raises UserError
    if the optional packages or the model are missing, the video has no frames, or nobody is in it.
    """
    try:
        import cv2
        import mediapipe
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions
    except ImportError as error:
        raise UserError(
            f"{path}: expected the optional detector for videos, found none: pip install .[video]"
        ) from error
    if detector_model is None or not detector_model.is_file():
        found = "none given" if detector_model is None else f"no file {detector_model}"
        raise UserError(f"{path}: expected a --detector-model such as {MODEL} from {MODEL_FROM}, found {found}")
    if not path.is_file():
        raise UserError(f"{path}: expected a video, found none")
    capture = cv2.VideoCapture(str(path))
    rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(detector_model)),
        running_mode=vision.RunningMode.VIDEO,
        num_poses=MOST_PEOPLE,
    )
    frames, size_px = [], (0, 0)
    try:
        with vision.PoseLandmarker.create_from_options(options) as landmarker:
            for number, image in enumerate(_frames(capture)):
                size_px = image.shape[1], image.shape[0]
                shown = mediapipe.Image(
                    image_format=mediapipe.ImageFormat.SRGB, data=cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                )
                found = landmarker.detect_for_video(shown, round(1000 * number / (rate_hz or 30)))
                frames.append([_keypoints(person, size_px) for person in found.pose_landmarks])
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{detector_model}: expected a MediaPipe pose landmarker, found: {reason}") from error
    finally:
        capture.release()
    if not frames:
        raise UserError(f"{path}: expected a video with frames, found none")
    return recording_of(str(path), frames, rate_hz=rate_hz or None, size_px=size_px)


def recording_of(
    source: str,
    frames: Sequence[Sequence[Float[np.ndarray, "33 3"]]],
    *,
    rate_hz: float | None,
    size_px: tuple[int, int],
) -> Recording:
    """The detections of each frame as a recording of people. Raises UserError if there is nobody in any frame."""
    found = Found("mediapipe33", [[Detection(keypoints, None) for keypoints in frame] for frame in frames])
    tracks = tracks_of(found, source=source)
    if not tracks:
        raise UserError(f"{source}: expected a person, found none in {len(frames)} frames")
    return Recording(source, len(frames), tracks, rate_hz, size_px)


def _frames(capture: Any) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    while True:
        there, image = capture.read()
        if not there:
            return
        yield image


def _keypoints(person: Any, size_px: tuple[int, int]) -> Float[np.ndarray, "33 3"]:
    """Pixels and visibility."""
    width, height = size_px
    return np.array([[mark.x * width, mark.y * height, mark.visibility] for mark in person])
