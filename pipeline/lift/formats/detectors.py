"""Reads what 2D detectors write about people as JSON in pixels: OpenPose, COCO, AlphaPose, MMPose and Ultralytics."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.system.errors import UserError
from pipeline.system.files import read_json

LAYOUT_BY_JOINTS = {17: "coco17", 16: "mpii16", 18: "openpose18", 25: "body25", 26: "halpe26"}
BODY_JOINTS = {133: 17, 136: 26}  # whole bodies of COCO and Halpe, whose first joints are the body


def read_openpose(path: Path, _: InputOptions) -> Detections:
    """Reads a folder with OpenPose's <name>_<frame>_keypoints.json, or one such file."""
    frames: dict[int, list[Detection]] = {}
    for number, file in number_files(path, "*.json", r"(\d+)_keypoints$").items():
        frames[number] = []
        for person in read_json(file)["people"]:
            if person["pose_keypoints_2d"]:
                name = next(iter(person.get("person_id", [-1])), -1)
                frames[number].append(_detect(person["pose_keypoints_2d"], None if name in (-1, None) else str(name)))
    return _collect(frames, path)


def read_coco(path: Path, _: InputOptions) -> Detections:
    """Reads COCO's results (a list of image_id, keypoints, score), its annotations, and AlphaPose's results.

    Frames are the numbers that image_id ends with, from the least on; in annotations (an object with images and
    annotations) the images in their order. `track_id` or AlphaPose's `idx` is the person.
    """
    content = read_json(path)
    if isinstance(content, dict):
        return _read_coco_annotations(content, path)
    frames: dict[int, list[Detection]] = defaultdict(list)
    for entry in content:
        frames[_parse_image_id(entry["image_id"], path)].append(_detect(entry["keypoints"], _read_coco_person(entry)))
    return _collect(frames, path)


def _read_coco_annotations(content: Mapping[str, Any], path: Path) -> Detections:
    """Reads annotated images; of a keypoint's visibility 1 and 2 both count as certain."""
    places = {image["id"]: place for place, image in enumerate(content["images"])}
    frames: dict[int, list[Detection]] = {place: [] for place in places.values()}
    for entry in content["annotations"]:
        keypoints = _parse_triples(entry["keypoints"])
        keypoints[:, 2] = np.minimum(keypoints[:, 2], 1)
        frames[places[entry["image_id"]]].append(_detect(keypoints, _read_coco_person(entry)))
    sizes = {(int(image["width"]), int(image["height"])) for image in content["images"] if "width" in image}
    return _collect(frames, path, image_size_px=sizes.pop() if len(sizes) == 1 else None)


def _read_coco_person(entry: Mapping[str, Any]) -> str | None:
    person = entry.get("track_id", entry.get("idx"))
    while isinstance(person, list):  # AlphaPose lists the id, also within a list
        person = person[0] if person else None
    return None if person is None else f"{float(person):g}"


def read_mmpose(path: Path, _: InputOptions) -> Detections:
    """Reads MMPose's predictions: people of an image, a list of {frame_id, instances}, or {meta_info, instance_info}.

    A frame without frame_id has its place in the list. `track_id` or `instance_id` is the person.
    """
    content = read_json(path)
    listed = content["instance_info"] if isinstance(content, dict) else content
    if listed and "keypoints" in listed[0]:
        listed = [{"frame_id": 0, "instances": listed}]
    frames: dict[int, list[Detection]] = defaultdict(list)
    for place, frame in enumerate(listed):
        people = frames[int(frame.get("frame_id", place))]
        for person in frame["instances"]:
            pixels = np.asarray(person["keypoints"], dtype=float)[:, :2]
            scores = np.asarray(person["keypoint_scores"], dtype=float)
            name = person.get("track_id", person.get("instance_id"))
            keypoints = np.concatenate([pixels, scores[:, None]], axis=1)
            people.append(_detect(keypoints, None if name in (None, -1) else str(name)))
    about = content.get("meta_info", {}) if isinstance(content, dict) else {}
    return _collect(frames, path, layout="h36m17" if "h36m" in str(about.get("dataset_name", "")).lower() else None)


def read_ultralytics(path: Path, _: InputOptions) -> Detections:
    """Reads what Results.to_json() gives for each frame, in one list or one file per frame, in pixels."""
    if path.is_dir():
        listed = {number: read_json(file) for number, file in number_files(path, "*.json", r"(\d+)$").items()}
    else:
        content = read_json(path)
        listed = dict(enumerate(content if content and isinstance(content[0], list) else [content]))
    frames: dict[int, list[Detection]] = {}
    for number, people in listed.items():
        frames[number] = []
        for person in people:
            marks = person["keypoints"]
            channels = [marks["x"], marks["y"], marks.get("visible", np.ones(len(marks["x"])))]
            name = str(person["track_id"]) if "track_id" in person else None
            frames[number].append(_detect(np.stack(channels, 1).astype(float), name))
    return _collect(frames, path)


def number_files(path: Path, pattern: str, ending: str) -> dict[int, Path]:
    """Returns the files of a folder by the number that `ending` finds in their names; a single file is number 0.

    Raises UserError if a name has no such number, two have the same, or there is no file.
    """
    files = sorted(path.glob(pattern)) if path.is_dir() else [path]
    numbered: dict[int, Path] = {}
    for file in files:
        match = re.search(ending, file.stem)
        if match is None and path.is_dir():
            raise UserError(f"{file}: expected a frame number at the end of the name, found none")
        number = int(match[1]) if match else 0
        if number in numbered:
            raise UserError(f"{path}: expected one file per frame, found {numbered[number].name} and {file.name}")
        numbered[number] = file
    if not numbered:
        raise UserError(f"{path}: expected a file per frame, found none")
    return numbered


def _parse_image_id(image_id: object, path: Path) -> int:
    """Returns the number that a COCO image_id is, or that the name ends with. Raises UserError if there is none."""
    if isinstance(image_id, int):
        return image_id
    match = re.search(r"(\d+)(\.\w+)?$", str(image_id))
    if match is None:
        raise UserError(f"{path}: image_id: expected a frame number or a name that ends with one, found '{image_id}'")
    return int(match[1])


def _detect(keypoints: Any, person: str | None) -> Detection:
    """Returns the detection of keypoints given as x, y and confidence in turn; of a whole body the body alone."""
    triples = _parse_triples(keypoints)
    return Detection(triples[: BODY_JOINTS.get(len(triples), len(triples))], person)


def _parse_triples(flat: Any) -> np.ndarray:
    return np.array(flat, dtype=float).reshape(-1, 3)


def _collect(
    frames: dict[int, list[Detection]],
    path: Path,
    *,
    layout: str | None = None,
    image_size_px: tuple[int, int] | None = None,
) -> Detections:
    """Returns the detections, unless `layout` is given in the layout of as many joints.

    Raises UserError if no layout has as many joints, or people differ in their number.
    """
    counts = {len(detection.keypoints) for people in frames.values() for detection in people}
    if len(counts) > 1 or not counts <= set(LAYOUT_BY_JOINTS):
        expected = ", ".join(str(count) for count in (*LAYOUT_BY_JOINTS, *BODY_JOINTS))
        found = " and ".join(str(count) for count in sorted(counts))
        raise UserError(f"{path}: expected people of {expected} joints, found {found}")
    guessed = LAYOUT_BY_JOINTS[counts.pop()] if counts else "coco17"  # where nobody is, any layout will do
    return Detections(layout or guessed, frames, image_size_px)
