"""Reads keypoints as shares of the image's width and height: labels of Ultralytics, landmarks of MediaPipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import (
    Json,
    describe,
    get_field,
    get_list,
    is_number,
    read_numbers,
    read_person,
    read_size,
)
from pipeline.lift.reading.files import Kind, first_entry, read_frames, read_parts, read_text
from pipeline.system.errors import UserError

LANDMARK_KEYS = ("pose_landmarks", "poseLandmarks", "landmarks", "landmark")
OF_ALL = "as in all such files"
BOX_NUMBERS = 5  # before the keypoints of a label: class, and the box
Line = tuple[str, list[str]]  # where it stands, and its values
Landmarks = dict[str, Json] | list[Json]  # of a person, by name or in MediaPipe's order


def read_ultralytics_labels(path: Path, options: InputOptions) -> Detections:
    """Reads the folder of labels that save_txt writes: <name>_<frame>.txt, from 1, none for a frame without people.

    A line is class, box, x, y and, where the model gives it, confidence of each joint, then the box's confidence and
    the person's id where saved. Raises UserError if a line has another number of values.
    """
    kind = Kind(lambda lines: looks_like_labels([v for _, v in lines]), lambda _: None, (".txt",), _read_label_lines)
    parts, notes = read_parts(path, kind, video=options.video)
    layout = options.layout or "coco17"
    joints = len(LAYOUTS[layout].joints)
    lines = [(1 if part.number is None else part.number, line) for part in parts for line in part.content]
    endings = [len(values) - BOX_NUMBERS - _channels(values, joints, where) * joints for _, (where, values) in lines]
    # A single number behind the keypoints is an id if it is a whole number in every line, else the box's confidence.
    singles = [values[-1] for (_, (_, values)), count in zip(lines, endings, strict=True) if count == 1]
    is_id = all(value.isdigit() and value != "0" for value in singles)
    frames: dict[int, list[Detection]] = {part.number - 1: [] for part in parts if part.number is not None}
    frames.setdefault(0, [])
    for (number, (where, values)), count in zip(lines, endings, strict=True):
        channels = _channels(values, joints, where)
        numbers = read_numbers(values[BOX_NUMBERS : BOX_NUMBERS + channels * joints], where=where)
        keypoints = np.ones((joints, 3))
        keypoints[:, :channels] = numbers.reshape(joints, channels)
        has_id = count == 2 or (count == 1 and is_id)
        person = read_person(values[-1], where=where) if has_id else None
        frames.setdefault(number - 1, []).append(Detection(keypoints, person))
    return Detections(layout, frames, units="shares", notes=notes, layout_from=OF_ALL)


def looks_like_labels(lines: Sequence[Sequence[str]]) -> bool:
    """Returns whether a file has lines of numbers, and more of them than a box has."""
    return bool(lines) and all(len(line) > BOX_NUMBERS and all(map(is_number, line)) for line in lines)


def _read_label_lines(path: Path) -> list[Line]:
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [(f"{path}: line {number}", line.split()) for number, line in lines if line.strip()]


def _channels(values: list[str], joints: int, where: str) -> int:
    """Returns how many numbers a line has for each joint. Raises UserError if it fits neither 2 nor 3."""
    for channels in (3, 2):
        if 0 <= len(values) - BOX_NUMBERS - channels * joints <= 2:
            return channels
    expected = " or ".join(f"{BOX_NUMBERS + c * joints} to {BOX_NUMBERS + c * joints + 2}" for c in (2, 3))
    found = f"{len(values)}; --layout states joints other than COCO's"
    raise UserError(f"{where}: expected {expected} numbers, found {found}")


def read_mediapipe(path: Path, options: InputOptions) -> Detections:
    """Reads a list of frames, each with the 33 landmarks of one person or a list of people (null or [] for none).

    A frame may be the landmarks themselves or have them under one of LANDMARK_KEYS, in a list or by name, and say its
    number. The list may lie under `frames`, with `image_size` (width, height) beside it, or be an object by number.
    """
    names: set[tuple[str, ...]] = set()

    def read_people(frame: Json, where: str) -> Iterator[Detection]:
        for person in _find_people(frame, where):
            named, keypoints = _read_landmarks(person, where)
            names.add(named)
            if len(names) > 1:
                raise UserError(f"{where}: expected landmarks named as before, found {describe(named)}")
            yield Detection(keypoints, None)

    frames, files, notes = read_frames(path, Kind(is_mediapipe, _list_frames), read_people, video=options.video)
    sizes = [file["image_size"] for file in files if isinstance(file, dict) and "image_size" in file]
    size_px = read_size(sizes[-1], where=f"{path}: image_size") if sizes else None
    joints = next(iter(names), ()) or None
    layout = None if joints else "mediapipe33"
    return Detections(layout, frames, size_px, joints=joints, units="shares", notes=notes, layout_from=OF_ALL)


def is_mediapipe(content: object) -> bool:
    """Returns whether the content of a file is MediaPipe's: landmarks, or frames of them."""
    entry = first_entry(list(content.values()) if _is_by_number(content) and isinstance(content, dict) else content)
    if isinstance(entry, dict) and "frames" in entry:
        frames = entry["frames"]
        entry = first_entry(list(frames.values()) if isinstance(frames, dict) else frames)
        if not entry:  # nobody in any of them
            return True
    return isinstance(entry, dict) and any(key in entry for key in ("x", *LANDMARK_KEYS))


def _is_by_number(content: object) -> bool:
    return isinstance(content, dict) and bool(content) and all(str(key).isdigit() for key in content)


def _list_frames(content: Json) -> list[Json] | None:
    """Returns the frames of a file that lists them, or has them by their numbers; None of landmarks alone."""
    held = content["frames"] if isinstance(content, dict) and "frames" in content else content
    if _is_by_number(held):
        return [{"frame": number, "landmarks": frame} for number, frame in held.items()]
    if isinstance(held, list) and not (held and _is_mark(held[0])):
        return held
    return None if held is content else [held]


def _find_people(frame: object, where: str) -> list[Landmarks]:
    """Returns the landmarks of each person in a frame, however deep they lie in it."""
    while isinstance(frame, dict) and not _is_by_name(frame):
        frame = get_field(frame, *LANDMARK_KEYS, where=where)
    if not frame:
        return []
    if isinstance(frame, dict):
        return [frame]
    listed = get_list(frame, where=where, of="people")
    return [listed] if _is_mark(listed[0]) else [one for part in listed for one in _find_people(part, where)]


def _is_mark(value: object) -> bool:
    return isinstance(value, dict) and "x" in value


def _is_by_name(value: dict[str, Json]) -> bool:
    return bool(value) and all(_is_mark(mark) for mark in value.values())


def _read_landmarks(person: Landmarks, where: str) -> tuple[tuple[str, ...], Float[np.ndarray, "J 3"]]:
    """Returns the names of a person's landmarks, none of a list, and x, y and visibility of each."""
    names = tuple(person) if isinstance(person, dict) else ()
    marks = list(person.values()) if isinstance(person, dict) else person
    values = [
        [get_field(mark, "x", where=where), get_field(mark, "y", where=where), mark.get("visibility", 1)]
        for mark in marks
    ]
    return names, read_numbers(values, where=f"{where}: landmarks")
