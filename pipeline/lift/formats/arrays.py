"""Keypoints in npz and CSV files: our own with a named layout, VideoPose3D's, and Detectron's per video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.model_input import calibrated_camera
from pipeline.lift.tracks import Detection, Found, in_order
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import BAD_VALUE, UserError
from pipeline.system.files import read_csv_lines

OF_PUBLIC_CODE = {"coco": "coco17", "h36m": "h36m17", "humaneva15": "humaneva15", "mpii": "mpii16"}
COLUMNS = ("frame", "joint", "x", "y")


def read_npz(path: Path, layout: str | None) -> Found:
    """People of an npz file, told apart by its arrays.

    `pixels` (people, frames, joints, 2) with `confidence` likewise, or `keypoints` (frames, joints, 2 or 3) of one
    person, with `layout`, `rate_hz` and `image_size` in it or stated, and a camera as calibrated_camera takes it;
    `positions_2d` and `metadata` as VideoPose3D has them for a custom video; `boxes` and `keypoints` per frame as its
    Detectron script leaves them. NaN is not seen.
    """
    content = read_object_npz(path)
    if "positions_2d" in content:
        return _videopose3d(content, path, layout)
    if "boxes" in content:
        return _detectron(content, path)
    name = layout or str(content.get("layout", "none"))
    pixels = content.get("pixels")
    if pixels is None and "keypoints" in content:
        pixels = np.asarray(content["keypoints"])[None]
    if pixels is None or pixels.ndim != 4 or pixels.shape[3] not in (2, 3) or pixels.dtype.kind not in "fiu":
        found = "none" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        raise UserError(f"{path}: pixels: expected numbers (people, frames, joints, 2), found {found}")
    confidence = content.get("confidence", pixels[..., 2] if pixels.shape[3] == 3 else np.ones(pixels.shape[:3]))
    if confidence.shape != pixels.shape[:3]:
        raise UserError(f"{path}: confidence: expected shape {pixels.shape[:3]}, found {confidence.shape}")
    keypoints = np.concatenate([pixels[..., :2], confidence[..., None]], axis=-1).astype(float)
    frames = [
        [Detection(person[frame], str(number)) for number, person in enumerate(keypoints)]
        for frame in range(keypoints.shape[1])
    ]
    size = tuple(int(side) for side in content["image_size"]) if "image_size" in content else None
    rate_hz = float(content["rate_hz"]) if "rate_hz" in content else None
    if size is None:
        return Found(name, frames, None, rate_hz)
    known = "focal_px" in content or "camera_matrix" in content
    camera = calibrated_camera(content, (size[0], size[1]), where=str(path)) if known else None
    return Found(name, frames, (size[0], size[1]), rate_hz, camera)


def _videopose3d(content: dict[str, Any], path: Path, layout: str | None) -> Found:
    metadata, videos = content["metadata"], content["positions_2d"]
    if len(videos) != 1:
        found = ", ".join(videos) or "none"
        raise UserError(f"{path}: positions_2d: expected one video, found {len(videos)}: {found}")
    (name, actions), shown = next(iter(videos.items())), metadata.get("video_metadata", {})
    people = [np.asarray(keypoints, dtype=float) for keypoints in next(iter(actions.values()))]
    frames = [
        [Detection(_with_confidence(person[frame]), str(number)) for number, person in enumerate(people)]
        for frame in range(min(len(person) for person in people))
    ]
    size = (int(shown[name]["w"]), int(shown[name]["h"])) if name in shown else None
    return Found(layout or OF_PUBLIC_CODE.get(metadata["layout_name"], metadata["layout_name"]), frames, size)


def _detectron(content: dict[str, Any], path: Path) -> Found:
    """`keypoints[frame][1]` is (people, 4, 17): x, y, logit and probability of COCO's keypoints."""
    frames = []
    for frame in content["keypoints"]:
        people = np.asarray(frame[1], dtype=float).reshape(-1, 4, 17)
        frames.append([Detection(person[[0, 1, 3]].T, None) for person in people])
    size = content.get("metadata")
    return Found("coco17", frames, (int(size["w"]), int(size["h"])) if size else None)


def _with_confidence(keypoints: np.ndarray) -> np.ndarray:
    return np.concatenate([keypoints[:, :2], np.ones((len(keypoints), 1))], axis=1)


def read_csv(path: Path, layout: str | None) -> Found:
    """People of a CSV file with a line per joint (frame, joint, x, y; person and confidence where there are any) or per
    person and frame (frame, <joint>_x, <joint>_y, <joint>_confidence). Joints are named as in the layout or numbered.
    """
    _, lines = read_csv_lines(path, "keypoints")
    name = layout or (lines[0].get("layout") if lines else None) or "none"
    if name not in LAYOUTS:
        raise UserError(f"{path}: layout: expected one of {', '.join(LAYOUTS)} (--layout), found '{name}'")
    joints = LAYOUTS[name].joints
    per_joint = bool(lines) and set(COLUMNS) <= set(lines[0])
    people: dict[tuple[int, str | None], np.ndarray] = {}
    for number, line in enumerate(lines, start=2):
        try:
            who = (int(line["frame"]), line.get("person") or None)
            keypoints = people.setdefault(who, np.full((len(joints), 3), np.nan))
            for joint, prefix in [(_joint(line["joint"], joints), "")] if per_joint else _prefixes(joints):
                keypoints[joint] = [
                    float(line[f"{prefix}x"] or "nan"),
                    float(line[f"{prefix}y"] or "nan"),
                    float(line.get(f"{prefix}confidence") or 1),
                ]
        except BAD_VALUE as error:
            columns = "frame, joint, x, y, or frame and <joint>_x, <joint>_y for each joint"
            raise UserError(f"{path}: line {number}: expected {columns} of '{name}', found {error!r}") from error
    if any(frame < 0 for frame, _ in people):
        raise UserError(f"{path}: frame: expected numbers from 0, found {min(frame for frame, _ in people)}")
    frames: dict[int, list[Detection]] = {0: []} if people else {}
    for (frame, person), keypoints in people.items():
        frames.setdefault(frame, []).append(Detection(keypoints, person))
    return Found(name, in_order(frames))


def _prefixes(joints: tuple[str, ...]) -> list[tuple[int, str]]:
    return [(joint, f"{name}_") for joint, name in enumerate(joints)]


def _joint(text: str, joints: tuple[str, ...]) -> int:
    if text in joints:
        return joints.index(text)
    return range(len(joints))[int(text)]
