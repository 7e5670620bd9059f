"""What 2D detectors write about people, as JSON or text: OpenPose, COCO, AlphaPose, MMPose, Ultralytics, MediaPipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.lift.tracks import Detection, Found, in_order
from pipeline.system.errors import UserError
from pipeline.system.files import read_json

# Layouts by number of joints; of COCO's 133 the first 17 are the body, of Halpe's 136 the first 26.
BY_JOINTS = {17: "coco17", 16: "mpii16", 18: "openpose18", 25: "body25", 26: "halpe26", 133: "coco17", 136: "halpe26"}
BODY_JOINTS = {133: 17, 136: 26}
POSE_KEYS = ("pose_landmarks", "poseLandmarks", "landmarks", "landmark")


def read_openpose(path: Path) -> Found:
    """A folder with OpenPose's <name>_<frame>_keypoints.json, or one such file."""
    files = _numbered(path, "*.json", r"(\d+)_keypoints$")
    frames: dict[int, list[Detection]] = {}
    sizes = set()
    for number, file in files.items():
        frames[number] = []
        for person in read_json(file)["people"]:
            flat = person["pose_keypoints_2d"]
            if not flat:
                continue
            name = next(iter(person.get("person_id", [-1])), -1)
            frames[number].append(Detection(_triples(flat), None if name in (-1, None) else str(name)))
            sizes.add(len(flat) // 3)
    return Found(_layout(sizes, path), in_order(frames))


def read_coco(path: Path) -> Found:
    """COCO's results (a list of image_id, keypoints, score) or annotations (images, annotations); AlphaPose's likewise.

    Frames are the numbers that image_id ends with, from the least on; in annotations the images in their order, and a
    keypoint of visibility 1 or 2 counts as certain. `track_id` or AlphaPose's `idx` is the person.
    """
    content = read_json(path)
    size = None
    if isinstance(content, dict):
        places = {image["id"]: place for place, image in enumerate(content["images"])}
        sides = {(int(image["width"]), int(image["height"])) for image in content["images"] if "width" in image}
        size = sides.pop() if len(sides) == 1 else None
        entries = [(places[entry["image_id"]], entry) for entry in content["annotations"]]
        frames: dict[int, list[Detection]] = {place: [] for place in places.values()}
    else:
        entries = [(_ending_number(entry["image_id"], path), entry) for entry in content]
        frames = {}
    sizes = set()
    for number, entry in entries:
        keypoints = _triples(entry["keypoints"])
        sizes.add(len(keypoints))
        if isinstance(content, dict):
            keypoints[:, 2] = np.minimum(keypoints[:, 2], 1)
        name = entry.get("track_id", entry.get("idx"))
        while isinstance(name, list):
            name = name[0] if name else None
        body = keypoints[: BODY_JOINTS.get(len(keypoints), len(keypoints))]
        frames.setdefault(number, []).append(Detection(body, None if name is None else f"{float(name):g}"))
    return Found(_layout(sizes, path), in_order(frames), size)


def read_mmpose(path: Path) -> Found:
    """MMPose's predictions: a list of people (one image), of {frame_id, instances}, or {meta_info, instance_info}."""
    content = read_json(path)
    about = content.get("meta_info", {}) if isinstance(content, dict) else {}
    listed = content["instance_info"] if isinstance(content, dict) else content
    if listed and "keypoints" in listed[0]:
        listed = [{"frame_id": 0, "instances": listed}]
    frames: dict[int, list[Detection]] = {}
    sizes = set()
    for place, frame in enumerate(listed):
        own = frames.setdefault(int(frame.get("frame_id", place)), [])
        for person in frame["instances"]:
            pixels = np.asarray(person["keypoints"], dtype=float)[:, :2]
            scores = np.asarray(person["keypoint_scores"], dtype=float)
            sizes.add(len(pixels))
            name = person.get("track_id", person.get("instance_id"))
            keypoints = np.concatenate([pixels, scores[:, None]], axis=1)
            body = keypoints[: BODY_JOINTS.get(len(keypoints), len(keypoints))]
            own.append(Detection(body, None if name in (None, -1) else str(name)))
    layout = _layout(sizes, path)
    if "h36m" in str(about.get("dataset_name", "")).lower():
        layout = "h36m17"
    return Found(layout, in_order(frames))


def read_ultralytics(path: Path) -> Found:
    """Results.to_json() of each frame in one list or one file per frame, in pixels."""
    frames: dict[int, list[Detection]] = {}
    if path.is_dir():
        listed = {number: read_json(file) for number, file in _numbered(path, "*.json", r"(\d+)$").items()}
    else:
        content = read_json(path)
        listed = dict(enumerate(content if content and isinstance(content[0], list) else [content]))
    sizes = set()
    for number, people in listed.items():
        own = frames.setdefault(number, [])
        for person in people:
            marks = person["keypoints"]
            ones = np.ones(len(marks["x"]))
            own.append(Detection(np.stack([marks["x"], marks["y"], marks.get("visible", ones)], 1).astype(float),
                                 str(person["track_id"]) if "track_id" in person else None))  # fmt: skip
            sizes.add(len(marks["x"]))
    return Found(_layout(sizes, path), in_order(frames))


def read_ultralytics_labels(path: Path, image_size_px: tuple[int, int] | None) -> Found:
    """The folder of labels that save_txt writes: <name>_<frame>.txt, numbered from 1, none for a frame without people.

    A line is class, box, 17 times x, y and confidence, as shares of the image, then confidence and id where saved.
    """
    width, height = _size_needed(path, image_size_px)
    frames: dict[int, list[Detection]] = {0: []}
    for number, file in _numbered(path, "*.txt", r"(\d+)$").items():
        own = frames.setdefault(number - 1, [])
        for line in file.read_text(encoding="utf-8").splitlines():
            values = [float(value) for value in line.split()]
            if not 56 <= len(values) <= 58:
                raise UserError(f"{file}: expected 56 to 58 numbers in a line, found {len(values)}")
            more = values[56:]
            name = f"{more[-1]:g}" if len(more) == 2 or (more and more[0] >= 1 and more[0].is_integer()) else None
            own.append(Detection(_triples(values[5:56]) * [width, height, 1], name))
    return Found("coco17", in_order(frames), image_size_px)


def read_mediapipe(path: Path, image_size_px: tuple[int, int] | None) -> Found:
    """A list of frames, each with the 33 landmarks of one person or a list of people (null or [] for none).

    A frame may be the landmarks themselves or have them under landmarks, pose_landmarks or poseLandmarks. x and y are
    shares of the image, as MediaPipe gives them.
    """
    content = read_json(path)
    size = image_size_px
    if isinstance(content, dict):
        if "image_size" in content:
            size = (int(content["image_size"][0]), int(content["image_size"][1]))
        content = content.get("frames", [content])
    width, height = _size_needed(path, size)
    frames = []
    for frame in content:
        people = _landmarks(frame)
        marks = [
            np.array(
                [[mark["x"] * width, mark["y"] * height, mark.get("visibility", 1)] for mark in person], dtype=float
            )
            for person in people
        ]
        for person in marks:
            if len(person) != 33:
                raise UserError(f"{path}: expected 33 landmarks of a person, found {len(person)}")
        frames.append([Detection(person, None) for person in marks])
    return Found("mediapipe33", frames, size)


def _landmarks(frame: Any) -> list[Any]:
    while isinstance(frame, dict):
        frame = next(frame[key] for key in POSE_KEYS if key in frame)
    if not frame:
        return []
    if isinstance(frame[0], dict) and "x" in frame[0]:
        return [frame]
    return [person for one in frame for person in _landmarks(one)]


READERS: dict[str, Callable[[Path], Found]] = {
    "openpose": read_openpose,
    "coco": read_coco,
    "alphapose": read_coco,
    "mmpose": read_mmpose,
    "ultralytics": read_ultralytics,
}


def recognised(path: Path) -> str:
    """The format of a JSON file or folder by what is in it. Raises UserError if it is none of those known."""
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir())
        if any(name.endswith("_keypoints.json") for name in names):
            return "openpose"
        if any(name.endswith(".json") for name in names):
            return "ultralytics"
        if any(name.endswith(".txt") for name in names):
            return "ultralytics-labels"
        found = f"{len(names)} other files" if names else "an empty folder"
        raise UserError(f"{path}: expected files of OpenPose or Ultralytics, found {found}")
    content = read_json(path)
    first = content
    while isinstance(first, list) and first:
        first = next((one for one in first if one), first[0])
    if isinstance(content, dict) and "people" in content:
        return "openpose"
    if isinstance(content, dict) and ("instance_info" in content or "annotations" in content):
        return "mmpose" if "instance_info" in content else "coco"
    if isinstance(first, dict):
        if "image_id" in first:
            return "alphapose" if "idx" in first or "box" in first else "coco"
        if "instances" in first or "keypoint_scores" in first:
            return "mmpose"
        if isinstance(first.get("keypoints"), dict):
            return "ultralytics"
        if "x" in first or "frames" in first or any(key in first for key in POSE_KEYS):
            return "mediapipe"
    found = f"an object with {', '.join(list(first)[:5])}" if isinstance(first, dict) and first else repr(first)[:60]
    raise UserError(f"{path}: expected the JSON of a detector that is known (or --format), found {found}")


def _numbered(path: Path, pattern: str, ending: str) -> dict[int, Path]:
    """The files of a folder by the number their names end with."""
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


def _ending_number(image_id: Any, path: Path) -> int:
    if isinstance(image_id, int):
        return image_id
    match = re.search(r"(\d+)(\.\w+)?$", str(image_id))
    if match is None:
        raise UserError(f"{path}: image_id: expected a frame number or a name that ends with one, found '{image_id}'")
    return int(match[1])


def _triples(flat: Any) -> np.ndarray:
    return np.array(flat, dtype=float).reshape(-1, 3)


def _layout(sizes: set[int], path: Path) -> str:
    """By the number of joints that each person has."""
    if not sizes:
        return "coco17"  # nobody was found; whoever asks for people says so
    if len(sizes) > 1 or not sizes <= set(BY_JOINTS):
        found = " and ".join(str(size) for size in sorted(sizes))
        raise UserError(
            f"{path}: expected people of {', '.join(str(size) for size in BY_JOINTS)} joints, found {found}"
        )
    return BY_JOINTS[sizes.pop()]


def _size_needed(path: Path, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        raise UserError(f"{path}: expected --image-size, since keypoints are shares of the image, found none")
    return size
