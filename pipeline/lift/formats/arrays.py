"""Reads keypoints from npz and CSV files: those with a named layout, VideoPose3D's, and Detectron's per video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.lift.formats.camera import parse_camera
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import BAD_VALUE, UserError
from pipeline.system.files import read_csv_lines

LAYOUT_OF_PUBLIC_CODE = {"coco": "coco17", "h36m": "h36m17", "humaneva15": "humaneva15", "mpii": "mpii16"}
COLUMNS_PER_JOINT = {"frame", "joint", "x", "y"}


def read_npz(path: Path, options: InputOptions) -> Detections:
    """Reads the people of an npz file; its arrays tell which of three kinds it is.

    `pixels` (people, frames, joints, 2) with `confidence` likewise, or `keypoints` (frames, joints, 2 or 3) of one
    person, with `layout`, `rate_hz` and `image_size` in it or stated, and a camera as `parse_camera` takes it;
    `positions_2d` and `metadata` as VideoPose3D has them for a custom video; `boxes` and `keypoints` per frame as its
    Detectron script leaves them. NaN is not seen. Raises UserError if shapes or types are others.
    """
    content = read_object_npz(path)
    if "positions_2d" in content:
        return _read_videopose3d(content, path, options.layout)
    if "boxes" in content:
        return _read_detectron(content)
    people = _read_people(content, path)
    frames = _split_frames(list(people))
    layout = options.layout or str(content.get("layout", "none"))
    rate_hz = float(content["rate_hz"]) if "rate_hz" in content else None
    if "image_size" not in content:
        return Detections(layout, frames, None, rate_hz)
    width, height, *_ = (int(side) for side in content["image_size"])
    camera = None
    if "focal_px" in content or "camera_matrix" in content:
        camera = parse_camera(content, (width, height), where=str(path))
    return Detections(layout, frames, (width, height), rate_hz, camera)


def _read_people(content: Mapping[str, Any], path: Path) -> Float[np.ndarray, "P F J 3"]:
    """Returns x, y and confidence from the arrays `pixels` and `confidence`, or `keypoints`."""
    pixels = content.get("pixels")
    if pixels is None and "keypoints" in content:
        pixels = np.asarray(content["keypoints"])[None]
    if pixels is None or pixels.ndim != 4 or pixels.shape[3] not in (2, 3) or pixels.dtype.kind not in "fiu":
        found = "none" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        raise UserError(f"{path}: pixels: expected numbers (people, frames, joints, 2), found {found}")
    confidence = content.get("confidence", pixels[..., 2] if pixels.shape[3] == 3 else np.ones(pixels.shape[:3]))
    if confidence.shape != pixels.shape[:3]:
        raise UserError(f"{path}: confidence: expected shape {pixels.shape[:3]}, found {confidence.shape}")
    return np.concatenate([pixels[..., :2], confidence[..., None]], axis=-1).astype(float)


def _read_videopose3d(content: Mapping[str, Any], path: Path, layout: str | None) -> Detections:
    metadata, videos = content["metadata"], content["positions_2d"]
    if len(videos) != 1:
        found = ", ".join(videos) or "none"
        raise UserError(f"{path}: positions_2d: expected one video, found {len(videos)}: {found}")
    name, actions = next(iter(videos.items()))
    people = [np.asarray(keypoints, dtype=float)[..., :2] for keypoints in next(iter(actions.values()))]
    people = [np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=2) for pixels in people]
    frames = _split_frames(people)
    video = metadata.get("video_metadata", {}).get(name)
    size = (int(video["w"]), int(video["h"])) if video is not None else None
    stated = metadata["layout_name"]
    return Detections(layout or LAYOUT_OF_PUBLIC_CODE.get(stated, stated), frames, size)


def _split_frames(people: Sequence[Float[np.ndarray, "_F J 3"]]) -> dict[int, list[Detection]]:
    """Returns each frame's people, numbered in their order, as far as all of them have frames."""
    return {
        frame: [Detection(person[frame], str(number)) for number, person in enumerate(people)]
        for frame in range(min((len(person) for person in people), default=0))
    }


def _read_detectron(content: Mapping[str, Any]) -> Detections:
    """Reads `keypoints[frame][1]`, which is (people, 4, 17): x, y, logit and probability of COCO's keypoints."""
    frames = {}
    for number, frame in enumerate(content["keypoints"]):
        people = np.asarray(frame[1], dtype=float).reshape(-1, 4, 17)
        frames[number] = [Detection(person[[0, 1, 3]].T, None) for person in people]
    size = content.get("metadata")
    return Detections("coco17", frames, (int(size["w"]), int(size["h"])) if size else None)


def read_csv(path: Path, options: InputOptions) -> Detections:
    """Reads people from a CSV file with a line per joint or per person and frame.

    The columns are frame, joint, x, y, or frame and <joint>_x, <joint>_y for each joint; person and confidence (or
    <joint>_confidence) where there are any. Joints are named as in the layout or numbered. Raises UserError if the
    layout is not known or a line cannot be read.
    """
    _, lines = read_csv_lines(path, "keypoints")
    layout = options.layout or (lines[0].get("layout") if lines else None) or "none"
    if layout not in LAYOUTS:
        raise UserError(f"{path}: layout: expected one of {', '.join(LAYOUTS)} (--layout), found '{layout}'")
    joints = LAYOUTS[layout].joints
    people: dict[tuple[int, str | None], Float[np.ndarray, "J 3"]] = {}
    for number, line in enumerate(lines, start=2):
        try:
            who = (int(line["frame"]), line.get("person") or None)
            keypoints = people.setdefault(who, np.full((len(joints), 3), np.nan))
            for joint, values in _read_line(line, joints).items():
                keypoints[joint] = values
        except BAD_VALUE as error:
            columns = "frame, joint, x, y, or frame and <joint>_x, <joint>_y for each joint"
            raise UserError(f"{path}: line {number}: expected {columns} of '{layout}', found {error!r}") from error
    frames: dict[int, list[Detection]] = {0: []} if people else {}
    for (frame, person), keypoints in people.items():
        frames.setdefault(frame, []).append(Detection(keypoints, person))
    if frames and min(frames) < 0:
        raise UserError(f"{path}: frame: expected numbers from 0, found {min(frames)}")
    return Detections(layout, frames)


def _read_line(line: Mapping[str, str], joints: tuple[str, ...]) -> dict[int, list[float]]:
    """Returns x, y and confidence of the joint, or all joints, of a line. Raises one of BAD_VALUE if one is missing."""
    if line.keys() >= COLUMNS_PER_JOINT:
        name = line["joint"]
        columns = {joints.index(name) if name in joints else range(len(joints))[int(name)]: ""}
    else:
        columns = {joint: f"{name}_" for joint, name in enumerate(joints)}
    return {
        joint: [float(line[f"{c}x"] or "nan"), float(line[f"{c}y"] or "nan"), float(line.get(f"{c}confidence") or 1)]
        for joint, c in columns.items()
    }
