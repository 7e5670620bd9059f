"""Reads what 2D detectors write about people as JSON in pixels: OpenPose, MMPose and Ultralytics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import (
    Json,
    get_field,
    get_list,
    read_keypoints,
    read_person,
    read_whole,
    stack_channels,
)
from pipeline.lift.reading.files import Kind, first_entry, read_frames


def read_openpose(path: Path, options: InputOptions) -> Detections:
    """Reads OpenPose's people, a file per frame or a list of frames; AlphaPose's --format open and cmu by image name.

    OpenPose's files end in _keypoints.json, those of Pose2Sim and Sports2D in the frame number.
    """
    kind = Kind(is_openpose, _list_images)
    frames, _, notes = read_frames(path, kind, _read_openpose_people, video=options.video)
    return Detections(None, frames, notes=notes)


def is_openpose(content: object) -> bool:
    """Returns whether the content of a file is OpenPose's people, of one frame or many."""
    return _has_people(first_entry(content)) or isinstance(_list_images(content), dict)


def _has_people(entry: object) -> bool:
    """Returns whether an entry is a frame of OpenPose, or of AlphaPose in CMU's form."""
    return isinstance(entry, dict) and ("people" in entry or "bodies" in entry)


def _list_images(content: Json) -> list[Json] | dict[str, Json] | None:
    """Returns the frames of a file that has a list of them, or an object with one for each image; None of one frame."""
    if isinstance(content, dict):
        is_by_image = bool(content) and not _has_people(content) and all(map(_has_people, content.values()))
        return content if is_by_image else None
    return content if isinstance(content, list) else None


def _read_openpose_people(frame: Json, where: str) -> Iterator[Detection]:
    people = get_list(get_field(frame, "people", "bodies", where=where), where=where, of="people")
    for place, person in enumerate(people):
        at = f"{where}: person {place}"
        # OpenPose 1.0 has pose_keypoints, AlphaPose in CMU's form joints.
        numbers = get_field(person, "pose_keypoints_2d", "pose_keypoints", "joints", where=at)
        if numbers:  # empty for somebody of whom only a hand or a face was found
            yield Detection(read_keypoints(numbers, where=at), read_person(person.get("person_id"), where=at))


def read_mmpose(path: Path, options: InputOptions) -> Detections:
    """Reads MMPose's predictions: people of an image, a list of {frame_id, instances}, or {meta_info, instance_info}.

    A folder has a file of people for each image. A frame without frame_id has its place in the list. `track_id` or
    `instance_id` is the person, and `meta_info` may name the joints.
    """
    kind = Kind(is_mmpose, _list_frames_of_instances)
    frames, files, notes = read_frames(path, kind, _read_instances, video=options.video)
    about = files[0].get("meta_info") if isinstance(files[0], dict) else None
    names = about.get("keypoint_id2name") if isinstance(about, dict) else None
    joints = None
    if isinstance(names, dict) and names:
        order = sorted(names, key=lambda key: read_whole(key, where=f"{path}: keypoint_id2name"))
        joints = tuple(str(names[key]) for key in order)
    is_h36m = isinstance(about, dict) and "h36m" in str(about.get("dataset_name", "")).lower()
    return Detections("h36m17" if is_h36m and joints is None else None, frames, joints=joints, notes=notes)


def is_mmpose(content: object) -> bool:
    """Returns whether the content of a file is MMPose's: frames of instances, or people with keypoint_scores."""
    entry = content if isinstance(content, dict) else first_entry(content)
    return isinstance(entry, dict) and any(key in entry for key in ("instance_info", "instances", "keypoint_scores"))


def _list_frames_of_instances(content: Json) -> list[Json] | None:
    listed = content
    if isinstance(content, dict):
        listed = content.get("instance_info", content.get("instances"))
    has_frames = isinstance(listed, list) and any(isinstance(entry, dict) and "instances" in entry for entry in listed)
    return listed if has_frames else None


def _read_instances(frame: Json, where: str) -> Iterator[Detection]:
    listed = get_field(frame, "instance_info", "instances", where=where) if isinstance(frame, dict) else frame
    for person in get_list(listed, where=where, of="people"):
        pixels = read_keypoints(get_field(person, "keypoints", where=where), where=f"{where}: keypoints")
        scores = get_field(person, "keypoint_scores", where=where)
        keypoints = stack_channels([pixels[:, 0], pixels[:, 1], scores], where=f"{where}: keypoint_scores")
        yield Detection(keypoints, read_person(person.get("track_id", person.get("instance_id")), where=where))


def read_ultralytics(path: Path, options: InputOptions) -> Detections:
    """Reads what Results.to_json() gives for each frame, in one list, in lines, or one file per frame, in pixels."""
    kind = Kind(is_ultralytics, _list_results)
    frames, _, notes = read_frames(path, kind, _read_results, video=options.video)
    return Detections(None, frames, notes=notes)


def is_ultralytics(content: object) -> bool:
    """Returns whether the content of a file is Ultralytics': people whose keypoints are an object of x and y."""
    entry = first_entry(content)
    return isinstance(entry, dict) and isinstance(entry.get("keypoints"), dict) and "x" in entry["keypoints"]


def _list_results(content: Json) -> list[Json] | None:
    is_listed = isinstance(content, list) and any(isinstance(entry, list) for entry in content)
    return content if is_listed else None


def _read_results(frame: Json, where: str) -> Iterator[Detection]:
    for place, person in enumerate(get_list(frame, where=where, of="people")):
        at = f"{where}: person {place}"
        marks = get_field(person, "keypoints", where=at)
        x, y = (get_field(marks, name, where=f"{at}: keypoints") for name in "xy")
        visible = marks["visible"] if "visible" in marks else np.ones(len(get_list(x, where=at, of="numbers")))
        keypoints = stack_channels([x, y, visible], where=f"{at}: keypoints")
        yield Detection(keypoints, read_person(person.get("track_id"), where=at))
