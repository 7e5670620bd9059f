"""Reads keypoints from arrays in npz: with a named layout, of VideoPose3D, of Detectron, and of lifters' demos."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.lift.formats.camera import parse_camera
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import describe, get_field, read_numbers, read_size, read_whole
from pipeline.lift.reading.frame_numbers import choose_video, refuse_video
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError

FEWEST_FRAMES = 4  # so many people or fewer are not taken for frames
SAME_PLACE = 0.1  # of a person's size, between two frames; people side by side are half a size apart
LAYOUT_OF_PUBLIC_CODE = {"coco": "coco17", "h36m": "h36m17", "humaneva15": "humaneva15", "mpii": "mpii16"}


def read_npz(path: Path, options: InputOptions) -> Detections:
    """Reads the people of an npz file; its arrays tell which of four kinds it is.

    `pixels` (people, frames, joints, 2) with `confidence` likewise, or `keypoints` (frames, joints, 2 or 3) of one
    person, with `layout`, `rate_hz` and `image_size` in it or stated, and a camera as `parse_camera` takes it;
    `reconstruction` (people, frames, 17, 2 or 3), Human3.6M's joints, as demos of lifters keep their 2D keypoints;
    `positions_2d` and `metadata` as VideoPose3D has them for custom videos; `boxes` and `keypoints` per frame as its
    Detectron script leaves them. NaN is not seen. Raises UserError if shapes or types are others.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: expected a whole npz archive, found a file that is none, or is cut off")
    content = read_object_npz(path)
    if "positions_2d" in content:
        return _read_videopose3d(content, path, options)
    refuse_video(options.video, where=str(path))
    if "boxes" in content:
        return _read_detectron(content, path)
    is_demo = "reconstruction" in content and "keypoints" not in content and "pixels" not in content
    people = _read_people({"pixels": content["reconstruction"]} if is_demo else content, path)
    frames = split_frames(list(people))
    layout = str(content["layout"]) if "layout" in content else "h36m17" if is_demo else None
    rate_hz = _read_number(content["rate_hz"], f"{path}: rate_hz") if "rate_hz" in content else None
    known_by = "as in all such files" if is_demo and "layout" not in content else "named in the file"
    if "image_size" not in content:
        return Detections(layout, frames, None, rate_hz, layout_from=known_by)
    size_px = read_size(np.asarray(content["image_size"]).tolist(), where=f"{path}: image_size")
    camera = None
    if "focal_px" in content or "camera_matrix" in content:
        camera = parse_camera(content, size_px, where=str(path))
    return Detections(layout, frames, size_px, rate_hz, camera)


def _read_number(value: object, where: str) -> float:
    numbers = read_numbers(np.asarray(value).tolist(), where=where)
    if numbers.size != 1:
        raise UserError(f"{where}: expected one number, found {numbers.size}")
    return float(numbers.ravel()[0])


def _read_people(content: Mapping[str, object], path: Path) -> Float[np.ndarray, "P F J 3"]:
    """Returns x, y and confidence from the arrays `pixels` and `confidence`, or `keypoints`."""
    name = "keypoints" if "keypoints" in content and "pixels" not in content else "pixels"
    pixels, axes = content.get(name), 3 if name == "keypoints" else 4
    is_numbers = isinstance(pixels, np.ndarray) and pixels.dtype.kind in "fiu"
    if not isinstance(pixels, np.ndarray) or not is_numbers or pixels.ndim != axes or pixels.shape[-1] not in (2, 3):
        found = f"the arrays {', '.join(list(content)[:8])}" if pixels is None else _describe_array(pixels)
        expected = "(frames, joints, 2 or 3)" if name == "keypoints" else "(people, frames, joints, 2)"
        raise UserError(f"{path}: {name}: expected numbers {expected}, found {found}")
    if axes == 3:
        pixels = pixels[None]
    _refuse_frames_first(pixels[..., :2], path)
    confidence = content.get("confidence", pixels[..., 2] if pixels.shape[3] == 3 else np.ones(pixels.shape[:3]))
    if not isinstance(confidence, np.ndarray) or confidence.dtype.kind not in "fiu":
        raise UserError(f"{path}: confidence: expected numbers, found {_describe_array(confidence)}")
    if confidence.shape != pixels.shape[:3]:
        raise UserError(f"{path}: confidence: expected shape {pixels.shape[:3]}, found {confidence.shape}")
    return np.concatenate([pixels[..., :2], confidence[..., None]], axis=-1).astype(float)


def _refuse_frames_first(pixels: Float[np.ndarray, "P F J 2"], path: Path) -> None:
    """Raises UserError if there are more people than frames, and most where the one before is: they are the frames."""
    people, frames = pixels.shape[:2]
    whole = np.isfinite(pixels).all((2, 3))
    pairs = whole[1:] & whole[:-1]
    if people <= max(frames, FEWEST_FRAMES) or not pairs.any():
        return
    person = pixels[1:][pairs]
    step_px, size_px = np.linalg.norm(person - pixels[:-1][pairs], axis=-1).mean(1), np.ptp(person, axis=1).max(1)
    if np.median(step_px) < SAME_PLACE * np.median(size_px):
        found = f"{people} people, each where the one before is: frames, people"
        raise UserError(f"{path}: pixels: expected (people, frames, joints, 2), found {found}?")


def _describe_array(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else describe(value)


def _read_videopose3d(content: Mapping[str, object], path: Path, options: InputOptions) -> Detections:
    """Reads the only video of an archive of custom videos, or the one that is chosen; a person for each camera."""
    metadata, videos = content.get("metadata"), content["positions_2d"]
    if not isinstance(videos, dict) or not isinstance(metadata, dict):
        expected = "positions_2d and metadata: expected objects with names"
        raise UserError(f"{path}: {expected}, found {describe(videos)} and {describe(metadata)}")
    name = choose_video(list(videos), where=f"{path}: positions_2d", video=options.video)
    actions = videos[name]
    if not isinstance(actions, dict) or len(actions) != 1:
        raise UserError(f"{path}: positions_2d: {name}: expected one action, found {describe(actions)}")
    people = []
    for keypoints in next(iter(actions.values())):
        pixels = read_numbers(keypoints, where=f"{path}: positions_2d: {name}")
        if pixels.ndim != 3 or pixels.shape[2] not in (2, 3):
            raise UserError(f"{path}: positions_2d: {name}: expected (frames, joints, 2), found {pixels.shape}")
        people.append(np.concatenate([pixels[..., :2], np.ones((*pixels.shape[:2], 1))], axis=2))
    sizes = metadata.get("video_metadata")
    video = sizes.get(name) if isinstance(sizes, dict) else None
    stated = str(get_field(metadata, "layout_name", where=f"{path}: metadata"))
    size_px = _read_size(video, f"{path}: metadata: video_metadata: {name}") if video is not None else None
    return Detections(LAYOUT_OF_PUBLIC_CODE.get(stated, stated), split_frames(people), size_px)


def _read_size(video: object, where: str) -> tuple[int, int]:
    width, height = (read_whole(get_field(video, side, where=where), where=where) for side in "wh")
    return width, height


def split_frames(
    people: Sequence[Float[np.ndarray, "_F J 3"]], names: Sequence[str] = ()
) -> dict[int, list[Detection]]:
    """Returns each frame's people, as far as all have frames; without names they are numbered in their order."""
    names = names or [str(number) for number in range(len(people))]
    return {
        frame: [Detection(person[frame], name) for name, person in zip(names, people, strict=True)]
        for frame in range(min((len(person) for person in people), default=0))
    }


def _read_detectron(content: Mapping[str, Any], path: Path) -> Detections:
    """Reads `keypoints[frame][1]`, which is (people, 4, 17): x, y, logit and probability of COCO's keypoints."""
    frames = {}
    for number, frame in enumerate(content.get("keypoints", ())):
        where = f"{path}: keypoints: frame {number}"
        if not isinstance(frame, (list, np.ndarray)) or len(frame) != 2:
            raise UserError(f"{where}: expected two classes, of which the second is people, found {describe(frame)}")
        people = read_numbers(frame[1], where=where)
        if people.size % (4 * 17):
            raise UserError(f"{where}: expected (people, 4, 17), found {people.shape}")
        frames[number] = [Detection(person[[0, 1, 3]].T, None) for person in people.reshape(-1, 4, 17)]
    size = content.get("metadata")
    size_px = _read_size(size, f"{path}: metadata") if size is not None else None
    return Detections("coco17", frames, size_px, layout_from="as in all such files")
