"""Detects the keypoints of the people in a video with MediaPipe's pose landmarker, which is an optional package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.frame_numbers import refuse_video
from pipeline.system.errors import UserError

MOST_PEOPLE = 5
MODEL = "pose_landmarker_full.task"
MODEL_FROM = "https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker#models"


def read_video(path: Path, options: InputOptions) -> Detections:
    """Returns the people of a video, at most MOST_PEOPLE at a time, frame by frame, in the layout mediapipe33.

    Confidence is the detector's "visibility". Raises UserError if the optional packages or `options.detector_model` are
    missing, or the video has no frames.
    """
    refuse_video(options.video, where=str(path))
    try:
        import cv2
        import mediapipe
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions
    except ImportError as error:
        raise UserError(
            f"{path}: expected the optional detector for videos, found none: pip install .[video]"
        ) from error
    detector_model = options.detector_model
    if detector_model is None or not detector_model.is_file():
        found = "none given" if detector_model is None else f"no file {detector_model}"
        raise UserError(f"{path}: expected a --detector-model such as {MODEL} from {MODEL_FROM}, found {found}")
    if not path.is_file():
        raise UserError(f"{path}: expected a video, found none")
    capture = cv2.VideoCapture(str(path))
    rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
    settings = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(detector_model)),
        running_mode=vision.RunningMode.VIDEO,
        num_poses=MOST_PEOPLE,
    )
    frames, size_px = {}, (0, 0)
    try:
        with vision.PoseLandmarker.create_from_options(settings) as landmarker:
            for number, image in enumerate(_read_frames(capture)):
                size_px = image.shape[1], image.shape[0]
                rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
                found = landmarker.detect_for_video(picture, round(1000 * number / (rate_hz or 30)))
                people = [_keypoints_px(person, size_px) for person in found.pose_landmarks]
                frames[number] = [Detection(keypoints, None) for keypoints in people]
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{detector_model}: expected a MediaPipe pose landmarker, found: {reason}") from error
    finally:
        capture.release()
    if not frames:
        raise UserError(f"{path}: expected a video with frames, found none")
    return Detections("mediapipe33", frames, size_px, rate_hz or None, layout_from="the detector's")


def _read_frames(capture: Any) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    while True:
        is_read, image = capture.read()
        if not is_read:
            return
        yield image


def _keypoints_px(person: Any, size_px: tuple[int, int]) -> Float[np.ndarray, "33 3"]:
    """Returns pixels and visibility of the detector's landmarks, which are shares of the image."""
    width, height = size_px
    return np.array([[mark.x * width, mark.y * height, mark.visibility] for mark in person])
