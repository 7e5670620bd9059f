"""Reads what 2D detectors write about people as JSON in pixels: OpenPose, MMPose and Ultralytics."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import (
    get_field,
    get_list,
    number_frames,
    read_frame_number,
    read_keypoints,
    read_person,
    read_whole,
    stack_channels,
)
from pipeline.lift.reading.files import JSON_ENDINGS, Kind, first_entry, read_json, read_parts
from pipeline.lift.reading.frame_numbers import number_names, refuse_video

Frames = dict[int, list[Detection]]


def read_openpose(path: Path, options: InputOptions) -> Detections:
    """Reads OpenPose's people, a file per frame or a list of frames; AlphaPose's --format open and cmu by image name.

    OpenPose's files end in _keypoints.json, those of Pose2Sim and Sports2D in the frame number.
    """
    kind = Kind(JSON_ENDINGS, read_json, is_openpose, _holds_images)
    parts, notes = read_parts(path, kind, video=options.video)
    frames: Frames = {}
    for part in parts:
        content, where, listed = part.content, str(part.path), [part.content]
        if part.number is not None:
            numbers = [part.number]
        elif _holds_images(content) and isinstance(content, dict):
            names = number_names(list(content), what="image name", where=where, video=options.video)
            listed, numbers = [content[name] for name in names], list(names.values())
        else:
            refuse_video(None if path.is_dir() else options.video, where=where)
            listed = content if isinstance(content, list) else [content]
            numbers = number_frames([read_frame_number(frame, where=where) for frame in listed], where=where)
        for number, frame in zip(numbers, listed, strict=True):
            frames.setdefault(number, []).extend(_read_openpose_people(frame, f"{where}: frame {number}"))
    return Detections(None, frames, notes=notes)


def is_openpose(content: object) -> bool:
    """Returns whether the content of a file is OpenPose's people, of one frame or many."""
    return _has_people(first_entry(content)) or _holds_images(content)


def _has_people(entry: object) -> bool:
    """Returns whether an entry is a frame of OpenPose, or of AlphaPose in CMU's form."""
    return isinstance(entry, dict) and ("people" in entry or "bodies" in entry)


def _holds_images(content: object) -> bool:
    """Returns whether a file has many frames: a list of them, or an object with one for each image."""
    if isinstance(content, dict):
        return not _has_people(content) and bool(content) and all(map(_has_people, content.values()))
    return _has_people(first_entry(content))


def _read_openpose_people(frame: object, where: str) -> list[Detection]:
    people = []
    for place, person in enumerate(
        get_list(get_field(frame, "people", "bodies", where=where), where=where, of="people")
    ):
        at = f"{where}: person {place}"
        # OpenPose 1.0 has pose_keypoints, AlphaPose in CMU's form joints.
        numbers = get_field(person, "pose_keypoints_2d", "pose_keypoints", "joints", where=at)
        if numbers:  # empty for somebody of whom only a hand or a face was found
            people.append(Detection(read_keypoints(numbers, where=at), read_person(person.get("person_id"), where=at)))
    return people


def read_mmpose(path: Path, options: InputOptions) -> Detections:
    """Reads MMPose's predictions: people of an image, a list of {frame_id, instances}, or {meta_info, instance_info}.

    A folder has a file of people for each image. A frame without frame_id has its place in the list. `track_id` or
    `instance_id` is the person, and `meta_info` may name the joints.
    """
    kind = Kind(JSON_ENDINGS, read_json, is_mmpose, lambda content: isinstance(content, dict) or _has_frames(content))
    parts, notes = read_parts(path, kind, video=options.video)
    refuse_video(None if path.is_dir() else options.video, where=str(path))
    frames: Frames = defaultdict(list)
    about: object = {}
    for part in parts:
        content, where = part.content, str(part.path)
        if isinstance(content, dict):
            about = content.get("meta_info") or {}
            content = get_field(content, "instance_info", "instances", where=where)
        listed = get_list(content, where=where, of="people or frames")
        if not _has_frames(listed):
            listed = [{"frame_id": part.number or 0, "instances": listed}]
        numbers = number_frames([read_frame_number(frame, where=where) for frame in listed], where=where)
        for number, frame in zip(numbers, listed, strict=True):
            at = f"{where}: frame {number}"
            people = get_list(get_field(frame, "instances", where=at), where=at, of="people")
            frames[number].extend(_read_instance(person, at) for person in people)
    names = about.get("keypoint_id2name") if isinstance(about, dict) else None
    joints = None
    if isinstance(names, dict) and names:
        order = sorted(names, key=lambda key: read_whole(key, where=f"{path}: keypoint_id2name"))
        joints = tuple(str(names[key]) for key in order)
    is_h36m = isinstance(about, dict) and "h36m" in str(about.get("dataset_name", "")).lower()
    return Detections("h36m17" if is_h36m and joints is None else None, dict(frames), joints=joints, notes=notes)


def is_mmpose(content: object) -> bool:
    """Returns whether the content of a file is MMPose's: frames of instances, or people with keypoint_scores."""
    entry = content if isinstance(content, dict) else first_entry(content)
    return isinstance(entry, dict) and any(key in entry for key in ("instance_info", "instances", "keypoint_scores"))


def _has_frames(listed: object) -> bool:
    return isinstance(listed, list) and any(isinstance(entry, dict) and "instances" in entry for entry in listed)


def _read_instance(person: object, where: str) -> Detection:
    pixels = read_keypoints(get_field(person, "keypoints", where=where), where=f"{where}: keypoints")
    scores = get_field(person, "keypoint_scores", where=where)
    keypoints = stack_channels([pixels[:, 0], pixels[:, 1], scores], where=f"{where}: keypoint_scores")
    assert isinstance(person, dict)
    return Detection(keypoints, read_person(person.get("track_id", person.get("instance_id")), where=where))


def read_ultralytics(path: Path, options: InputOptions) -> Detections:
    """Reads what Results.to_json() gives for each frame, in one list, in lines, or one file per frame, in pixels."""
    kind = Kind(JSON_ENDINGS, read_json, is_ultralytics, _is_list_of_frames)
    parts, notes = read_parts(path, kind, video=options.video)
    refuse_video(None if path.is_dir() else options.video, where=str(path))
    frames: Frames = {}
    for part in parts:
        content, where = part.content, str(part.path)
        listed = content if _is_list_of_frames(content) else [content]
        for place, people in enumerate(listed):
            number = place if part.number is None else part.number
            at = f"{where}: frame {number}"
            frames.setdefault(number, []).extend(
                _read_result(person, f"{at}: person {order}")
                for order, person in enumerate(get_list(people, where=at, of="people"))
            )
    return Detections(None, frames, notes=notes)


def is_ultralytics(content: object) -> bool:
    """Returns whether the content of a file is Ultralytics': people whose keypoints are an object of x and y."""
    entry = first_entry(content)
    return isinstance(entry, dict) and isinstance(entry.get("keypoints"), dict) and "x" in entry["keypoints"]


def _is_list_of_frames(content: object) -> bool:
    return isinstance(content, list) and any(isinstance(entry, list) for entry in content)


def _read_result(person: object, where: str) -> Detection:
    marks = get_field(person, "keypoints", where=where)
    x, y = (get_field(marks, name, where=f"{where}: keypoints") for name in "xy")
    visible = marks["visible"] if "visible" in marks else np.ones(len(get_list(x, where=where, of="numbers")))
    assert isinstance(person, dict)
    keypoints = stack_channels([x, y, visible], where=f"{where}: keypoints")
    return Detection(keypoints, read_person(person.get("track_id"), where=where))
