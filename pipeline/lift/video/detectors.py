"""The 2D detectors that find people in videos, by name, and what is missing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from pipeline.lift.video import mediapipe_detector, rtmlib_detector, ultralytics_detector
from pipeline.lift.video.frames import People, VideoFrame
from pipeline.lift.video.mediapipe_model import DETECTOR_MODEL
from pipeline.system.errors import UserError


@dataclass(frozen=True)
class Detector:
    """An optional package that finds people in pictures.

    `detect` is as `detect_people` here. `layout` is that of the keypoints, if it is always the same;
    `model` is where its own model lies, if it has one, and `models` says in words what may be stated instead. `install`
    says how all of it is had.
    """

    detect: Callable[[Iterable[VideoFrame], Path], Iterator[tuple[VideoFrame, People]]]
    package: str
    layout: str | None
    model: Path | None
    models: str
    install: str


DETECTORS = {
    "mediapipe": Detector(
        mediapipe_detector.detect_people, "mediapipe", "mediapipe33", DETECTOR_MODEL, "a .task file",
        "make video, or: pip install --editable '.[video]' && poselift detector-model",
    ),
    "rtmlib": Detector(
        rtmlib_detector.detect_people, "rtmlib", None, None,
        "an RTMO network, or a folder of a YOLOX and an RTMPose network", "pip install rtmlib",
    ),
    "ultralytics": Detector(
        ultralytics_detector.detect_people, "ultralytics", None, None, "a pose network, such as yolo11n-pose.pt",
        "pip install ultralytics",
    ),
}  # fmt: skip


def find_detector(name: str) -> Detector:
    """Returns the detector of this name. Raises UserError if there is none."""
    if name not in DETECTORS:
        raise UserError(f"--detector: expected one of {', '.join(DETECTORS)}, found '{name}'")
    return DETECTORS[name]


def refuse_missing_detector(path: Path, name: str, model: Path | None, *, other: Sequence[str] = ()) -> Path:
    """Returns the model for the detector called `name`: that stated, or its own. Loads nothing.

    Raises UserError if there is no such detector, or one that names all that is missing of it to lift the video
    `path`, and `other`.
    """
    detector = find_detector(name)
    model = model or detector.model
    missing = [] if find_spec(detector.package) else [f"the package {detector.package}"]
    if model is None:
        missing.append(f"--detector-model, which names {detector.models}")
    elif not model.exists():
        missing.append(f"the detector's model {model}")
    if model is None or missing or other:
        found = " and ".join([*missing, *other])
        raise UserError(f"{path}: expected a detector for videos, found missing: {found}; {detector.install}")
    return model


def detect_people(frames: Iterable[VideoFrame], detector: str, model: Path) -> Iterator[tuple[VideoFrame, People]]:
    """Yields each frame with the people in it: x and y in pixels, and confidence, of each joint.

    A joint outside of the picture has confidence 0: nobody saw it, the detector guesses. Raises UserError if the
    detector cannot use the model, or fails.
    """
    for frame, people in DETECTORS[detector].detect(frames, model):
        height_px, width_px, _ = frame.picture.shape
        for person in people:
            person[find_joints_outside(person, (width_px, height_px)), 2] = 0
        yield frame, people


def find_joints_outside(person: Float[np.ndarray, "J 3"], size_px: tuple[int, int]) -> Bool[np.ndarray, " J"]:
    """Returns which of a person's joints are beyond the edge of a picture of this width and height."""
    return np.any((person[:, :2] < 0) | (person[:, :2] > size_px), axis=1)
