"""Reads people in COCO's form: results, annotations, and AlphaPose's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import (
    Json,
    describe,
    get_field,
    get_list,
    number_frames,
    read_frame_number,
    read_keypoints,
    read_person,
    read_whole,
)
from pipeline.lift.reading.files import Kind, first_entry, read_parts
from pipeline.lift.reading.frame_numbers import FRAME_KEYS, choose_video, number_names, refuse_video
from pipeline.system.errors import UserError

Frames = dict[int, list[Detection]]


def read_coco(path: Path, options: InputOptions) -> Detections:
    """Reads COCO's results (a list of image_id, keypoints, score), its annotations, and AlphaPose's results.

    Frames are the numbers of images, or those in their names; in a folder of one file for each image, those of the
    files. `track_id` or AlphaPose's `idx` is the person. Boxes without keypoints are left out.
    """
    parts, notes = read_parts(path, Kind(is_coco, _list_images), video=options.video)
    video = None if path.is_dir() else options.video
    found = [_read_coco_content(part.content, part.path, video) for part in parts]
    if parts[0].number is None:
        return replace(found[0], notes=(*notes, *found[0].notes))
    frames = {
        part.number or 0: [person for people in one.frames.values() for person in people]
        for part, one in zip(parts, found, strict=True)
    }
    if len({(one.image_size_px, one.joints) for one in found}) > 1:
        raise UserError(f"{path}: expected files of one image size and one list of joint names, found several")
    return replace(found[0], frames=frames, notes=(*notes, *(note for one in found for note in one.notes)))


def is_coco(content: object) -> bool:
    """Returns whether the content of a file is COCO's: entries with image_id, or an object with annotations.

    A list of entries with a frame's number and keypoints is the same in the words of many scripts.
    """
    entry = first_entry(content)
    if not isinstance(entry, dict):
        return False
    is_numbered = isinstance(content, list) and any(key in entry for key in FRAME_KEYS)
    return "image_id" in entry or "annotations" in entry or (is_numbered and isinstance(entry.get("keypoints"), list))


def _list_images(content: object) -> list[Json] | None:
    """Returns the images that a file has people of, if there are several."""
    listed = content.get("annotations") if isinstance(content, dict) else content
    entries = listed if isinstance(listed, list) else []
    images = {str(_image_of(entry)) for entry in entries if isinstance(entry, dict)}
    return list(images) if len(images) > 1 else None


def _read_coco_content(content: Json, path: Path, video: str | None) -> Detections:
    """Reads a list of results, or an object of annotations, whose visibility 1 and 2 both count as certain."""
    is_annotated = isinstance(content, dict)
    listed_people = get_field(content, "annotations", where=str(path)) if is_annotated else content
    entries = get_list(listed_people, where=f"{path}: annotations" if is_annotated else str(path), of="people")
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {place}: expected a person of an image, found {describe(entry)}")
    people = [(f"{path}: entry {place}", entry) for place, entry in enumerate(entries) if entry.get("keypoints")]
    if entries and not people:
        raise UserError(f"{path}: expected entries with 'keypoints', found {describe(entries[0])}")
    images, order = _number_images(content, path, video) if is_annotated and content.get("images") else ({}, ())
    frames: Frames = {number: [] for number in images.values()}
    listed = set(images) or None
    images = images or _number_image_ids([entry for _, entry in people], path, video)
    for where, entry in people:
        image = _image_of(entry)
        if image not in images:
            if video is None and listed is not None:
                raise UserError(f"{where}: expected the id of an image that is listed, found '{image}'")
            continue  # of another video
        keypoints = read_keypoints(entry["keypoints"], where=where)
        if is_annotated:
            keypoints[:, 2] = np.minimum(keypoints[:, 2], 1)
        person = read_person(entry.get("track_id", entry.get("idx")), where=where)
        frames.setdefault(images[image], []).append(Detection(keypoints, person))
    boxes = len(entries) - len(people)
    left_out = (f"left out, as they have no keypoints: {boxes} of {len(entries)} entries",) if boxes else ()
    size_px, joints = None, None
    if is_annotated:
        size_px, joints = _find_size(content.get("images") or []), _find_joint_names(content, path)
    return Detections(None, frames, size_px, joints=joints, notes=(*order, *left_out))


def _image_of(entry: Mapping[str, object]) -> object:
    """Returns what tells the image of an entry: its image_id, else its frame number; None if it has neither."""
    image = entry.get("image_id")
    if image is None:
        image = read_frame_number(entry, where="frame")
    return _make_key(image)


def _make_key(image: object) -> object:
    """Returns what an image is called as a key, whatever it is."""
    return image if isinstance(image, (int, float, str)) else repr(image)


def _number_image_ids(people: Sequence[Mapping[str, object]], path: Path, video: str | None) -> dict[object, int]:
    """Returns the frame number of each image_id: itself if all are whole numbers, else the number in the name."""
    images = list(dict.fromkeys(_image_of(entry) for entry in people))
    if all(isinstance(image, (int, float)) for image in images):
        refuse_video(video, where=str(path))
        return {image: read_whole(image, where=f"{path}: image_id") for image in images}
    if "None" in images:
        raise UserError(f"{path}: expected entries with 'image_id', or images beside annotations, found one without")
    names = number_names([str(image) for image in images], where=f"{path}: image_id", video=video)
    return {image: names[str(image)] for image in images if str(image) in names}


def _number_images(
    content: Mapping[str, Json], path: Path, video: str | None
) -> tuple[dict[object, int], tuple[str, ...]]:
    """Returns the frame number of each image id: the number that the image says, or in its file name, else its place.

    The second value says so in words if it is the place.
    Raises UserError if the images are of several videos and `video` chooses none, or two have one number.
    """
    where = f"{path}: images"
    images = get_list(content.get("images") or [], where=where, of="images")
    titles = {item.get("id"): str(item.get("name")) for item in content.get("videos") or [] if isinstance(item, dict)}
    if len({str(image.get("video_id")) for image in images if isinstance(image, dict)}) > 1:
        of_image = [titles.get(image.get("video_id"), str(image.get("video_id"))) for image in images]
        chosen = choose_video(list(dict.fromkeys(of_image)), where=where, video=video)
        images, video = [image for image, title in zip(images, of_image, strict=True) if title == chosen], None
    ids = [_make_key(get_field(image, "id", where=f"{where}: image {place}")) for place, image in enumerate(images)]
    said = [read_frame_number(image, where=where) for image in images]
    if any(number is not None for number in said):
        return dict(zip(ids, number_frames(said, where=where), strict=True)), ()
    names = [str(image.get("file_name", "")) for image in images]
    if not all(any(letter.isdigit() for letter in name) for name in names) or len(set(names)) < len(names):
        refuse_video(video, where=where)
        note = "frames: images in the order in which they are listed, as their names have no numbers"
        return {image: place for place, image in enumerate(ids)}, (note,)
    numbers = number_names(names, where=f"{where}: file_name", video=video)
    return {image: numbers[name] for image, name in zip(ids, names, strict=True) if name in numbers}, ()


def _find_size(images: Sequence[object]) -> tuple[int, int] | None:
    """Returns the size that all images have; None if they differ or do not say."""
    sizes = {(image.get("width"), image.get("height")) for image in images if isinstance(image, dict)}
    width, height = sizes.pop() if len(sizes) == 1 else (None, None)
    is_size = isinstance(width, (int, float)) and isinstance(height, (int, float)) and width > 0 and height > 0
    return (int(width), int(height)) if is_size and width and height else None


def _find_joint_names(content: Mapping[str, Json], path: Path) -> tuple[str, ...] | None:
    """Returns the names of joints of the category that has them. Raises UserError if categories name others."""
    categories = [item for item in content.get("categories") or [] if isinstance(item, dict) and item.get("keypoints")]
    names = {tuple(str(name) for name in category["keypoints"]) for category in categories}
    if len(names) > 1:
        used = {entry.get("category_id") for entry in content["annotations"] if entry.get("keypoints")}
        names = {tuple(map(str, item["keypoints"])) for item in categories if item.get("id") in used}
    if len(names) > 1:
        raise UserError(f"{path}: categories: expected one list of joint names, found {len(names)}")
    return names.pop() if names else None
