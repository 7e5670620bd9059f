"""Reads keypoints as shares of the image's width and height: labels of Ultralytics, landmarks of MediaPipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.lift.formats.detectors import number_files
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.system.errors import UserError
from pipeline.system.files import read_json

LANDMARK_KEYS = ("pose_landmarks", "poseLandmarks", "landmarks", "landmark")
LANDMARKS = 33
LABEL_NUMBERS = 56  # class, box (4) and 17 times x, y and confidence


def read_ultralytics_labels(path: Path, options: InputOptions) -> Detections:
    """Reads the folder of labels that save_txt writes: <name>_<frame>.txt, from 1, none for a frame without people.

    A line is class, box, 17 times x, y and confidence, then the box's confidence and the person's id where saved.
    Raises UserError if the size of the image is not stated or a line has another number of values.
    """
    width, height = _require_size(path, options.image_size_px)
    frames: dict[int, list[Detection]] = {0: []}
    for number, file in number_files(path, "*.txt", r"(\d+)$").items():
        people = frames.setdefault(number - 1, [])
        for line in file.read_text(encoding="utf-8").splitlines():
            values = [float(value) for value in line.split()]
            if not LABEL_NUMBERS <= len(values) <= LABEL_NUMBERS + 2:
                expected = f"{LABEL_NUMBERS} to {LABEL_NUMBERS + 2}"
                raise UserError(f"{file}: expected {expected} numbers in a line, found {len(values)}")
            keypoints = np.array(values[5:LABEL_NUMBERS]).reshape(-1, 3) * [width, height, 1]
            people.append(Detection(keypoints, _read_label_person(values[LABEL_NUMBERS:])))
    return Detections("coco17", frames, options.image_size_px)


def _read_label_person(ending: list[float]) -> str | None:
    """Returns the id at the end of a line; a single number after the keypoints is one if it is whole and not 0."""
    is_id = len(ending) == 2 or (len(ending) == 1 and ending[0] >= 1 and ending[0].is_integer())
    return f"{ending[-1]:g}" if is_id else None


def read_mediapipe(path: Path, options: InputOptions) -> Detections:
    """Reads a list of frames, each with the 33 landmarks of one person or a list of people (null or [] for none).

    A frame may be the landmarks themselves or have them under one of LANDMARK_KEYS. The list may lie under `frames`,
    with `image_size` (width, height) beside it. Raises UserError if that is not there and not stated, or a person has
    another number of landmarks.
    """
    content = read_json(path)
    size = options.image_size_px
    if isinstance(content, dict):
        if "image_size" in content:
            size = (int(content["image_size"][0]), int(content["image_size"][1]))
        content = content.get("frames", [content])
    size = _require_size(path, size)
    frames = {
        number: [Detection(_read_landmarks(person, size, path), None) for person in _find_people(frame)]
        for number, frame in enumerate(content)
    }
    return Detections("mediapipe33", frames, size)


def _find_people(frame: Any) -> list[Any]:
    """Returns the lists of landmarks in a frame, however deep they lie in it."""
    while isinstance(frame, dict):
        frame = next(frame[key] for key in LANDMARK_KEYS if key in frame)
    if not frame:
        return []
    if isinstance(frame[0], dict) and "x" in frame[0]:
        return [frame]
    return [person for part in frame for person in _find_people(part)]


def _read_landmarks(person: Any, size_px: tuple[int, int], path: Path) -> Float[np.ndarray, "33 3"]:
    width, height = size_px
    if len(person) != LANDMARKS:
        raise UserError(f"{path}: expected {LANDMARKS} landmarks of a person, found {len(person)}")
    keypoints = [[mark["x"] * width, mark["y"] * height, mark.get("visibility", 1)] for mark in person]
    return np.array(keypoints, dtype=float)


def _require_size(path: Path, size_px: tuple[int, int] | None) -> tuple[int, int]:
    if size_px is None:
        raise UserError(f"{path}: expected --image-size, since keypoints are shares of the image, found none")
    return size_px
