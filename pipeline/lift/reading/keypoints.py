"""Brings what a reader found to one form: joints of a known layout, pixels, and confidence from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.joint_names import find_layout
from pipeline.system.errors import UserError

LAYOUT_BY_JOINTS = {
    17: "coco17", 16: "mpii16", 18: "openpose18", 25: "body25", 26: "halpe26", 33: "mediapipe33",
}  # fmt: skip
# Whole bodies, whose first joints are a body: COCO's with feet alone, with hands, and with hands and face; Halpe's with
# hands, and with hands and face; OpenPose's BODY_135.
WHOLE_BODIES = {23: "coco17", 65: "coco17", 133: "coco17", 68: "halpe26", 136: "halpe26", 135: "body25b"}
UNITS = {
    "pixels": "pixels",
    "shares": "shares of the image's width and height",
    "screen": "half widths of the image from its middle, so that x runs from -1 to 1",
    "ndc": "-1 to 1 across the image's width and across its height",
}
HIP_CENTRED = 0.01  # of the person's size: so near to (0, 0) are the hips of poses relative to them, and of nobody else
LOOKED_AT = 1000  # detections, to tell such poses
NOT_SEEN_PX = 1e-3  # so near to the corner (0, 0) of the image lies no joint, but one that was not seen
# Scores of heatmaps and SimCC have no bound: OpenPose's reach 1.1, RTMPose's and AlphaPose's several times that. Above
# 1 they count as 1. Far above, they are something else, such as per cent.
HIGHEST_SCORE = 20.0
FARTHEST = 1e7  # pixels, or any other units: what lies farther off is no number of an image
LOWEST_SCORE = -1.0


def settle_keypoints(detections: Detections, options: InputOptions, path: Path) -> tuple[Detections, tuple[str, ...]]:
    """Returns detections whose joints are of a layout of LAYOUTS, in pixels, with confidence from 0 to 1, and why.

    A joint at (0, 0) or (-1, -1), as tools write one that they did not see, becomes NaN. Raises UserError if the layout
    is not known or not that of the joints, the size of the image is wanted and not known, or scores cannot be.
    """
    detections, layout, why = _arrange_joints(detections, options.layout, path)
    joints = len(LAYOUTS[layout].joints)
    for number, detection in _each(detections):
        if len(detection.keypoints) != joints:
            expected, found = f"{joints} joints of layout '{layout}'", len(detection.keypoints)
            raise UserError(f"{path}: frame {number}: expected {expected}, found {found}; --layout states another")
    units = options.units or detections.units
    if units in ("pixels", "shares") and _is_hip_centred(detections, layout):
        centred = "hips at (0, 0) in every frame, as in MediaPipe's pose_world_landmarks; lift its pose_landmarks"
        raise UserError(f"{path}: expected keypoints in the image, found {centred}")
    size_px = options.image_size_px or detections.image_size_px
    if size_px is None and (units != "pixels" or options.y_up):
        raise UserError(f"{path}: expected --image-size, since keypoints are {UNITS[units]}, found none")
    for number, detection in _each(detections):
        if (np.abs(np.nan_to_num(detection.keypoints[:, :2], posinf=0, neginf=0)) > FARTHEST).any():
            farthest = f"{np.nanmax(np.abs(detection.keypoints[:, :2])):g}"
            raise UserError(f"{path}: frame {number}: expected x and y of at most {FARTHEST:g}, found {farthest}")
    detections, scores = _scale_scores(detections, options.highest_score, path)
    size = size_px or (1, 1)
    detections = _change(detections, lambda keypoints: _to_pixels(keypoints, units, size, y_up=options.y_up))
    stated = "stated" if options.units else detections.units_from
    reading = [f"layout: {layout}, {why}", f"units: {UNITS[units]}, {stated}"]
    reading += ["y: counted from the bottom edge of the image, stated"] if options.y_up else []
    return replace(detections, layout=layout, image_size_px=size_px), (*reading, *scores, *detections.notes)


def _arrange_joints(detections: Detections, stated: str | None, path: Path) -> tuple[Detections, str, str]:
    """Returns detections with their joints in the order of a layout, its name, and what it was known by."""
    said = stated or detections.layout
    if said is not None and said not in LAYOUTS:
        raise UserError(f"{path}: layout: expected one of {', '.join(LAYOUTS)} (--layout), found '{said}'")
    why = "stated" if stated else detections.layout_from
    found = None if detections.joints is None else find_layout(detections.joints, stated=said, where=str(path))
    if found is not None and detections.joints is not None:
        for number, detection in _each(detections):
            if len(detection.keypoints) != len(detections.joints):
                expected = f"as many joints as the file names, {len(detections.joints)}"
                raise UserError(f"{path}: frame {number}: expected {expected}, found {len(detection.keypoints)}")
        names = LAYOUTS[found.layout].joints
        missing = [name for name, column in zip(names, found.columns, strict=True) if column is None]
        notes = [f"joints that are not used: {', '.join(found.unused)}"] if found.unused else []
        notes += [f"joints that the file does not have: {', '.join(missing)}"] if missing else []
        detections = _change(detections, lambda keypoints: _pick(keypoints, found.columns))
        why = f"{why}, its joints by their names" if said else "from the joint names in the file"
        return replace(detections, notes=(*notes, *detections.notes)), found.layout, why
    unnamed = "" if detections.joints is None else "; the names in the file are of no joints, so by their number"
    counts = {len(detection.keypoints) for _, detection in _each(detections)}
    if len(counts) > 1:
        first = next(len(detection.keypoints) for _, detection in _each(detections))
        number, other = next((n, len(d.keypoints)) for n, d in _each(detections) if len(d.keypoints) != first)
        raise UserError(f"{path}: frame {number}: expected {first} joints, as the people before, found {other}")
    count = counts.pop() if counts else 0
    body = WHOLE_BODIES.get(count)
    layout = said or LAYOUT_BY_JOINTS.get(count) or body or ("coco17" if not count else None)  # for nobody, any will do
    if layout is None:
        known = ", ".join(str(number) for number in sorted({*LAYOUT_BY_JOINTS, *WHOLE_BODIES}))
        raise UserError(f"{path}: expected people of {known} joints, or a --layout, found {count}")
    if said is None:
        why = f"from {count} joints; --layout to change" if count else "as nobody is in it"
    if body == layout:
        kept = len(LAYOUTS[layout].joints)
        detections = _change(detections, lambda keypoints: keypoints[:kept])
        why += f"; the first {kept} joints of {count}"
    return detections, layout, why + unnamed


def _is_hip_centred(detections: Detections, layout: str) -> bool:
    """Returns whether the middle of all hips is at (0, 0): in an image most of a person would lie outside."""
    hips = [LAYOUTS[layout].joints.index(name) for name in ("LHip", "RHip")]
    is_centred = []
    for _, detection in islice(_each(detections), LOOKED_AT):
        points = detection.keypoints[np.isfinite(detection.keypoints).all(1), :2]
        left, right = detection.keypoints[hips, :2]
        if np.isfinite([left, right]).all() and (left != right).any():
            is_centred.append(np.abs(left + right).max() / 2 < HIP_CENTRED * np.ptp(points, axis=0).max(initial=0))
    return bool(is_centred) and all(is_centred)


def _pick(keypoints: Float[np.ndarray, "K 3"], columns: Sequence[int | None]) -> Float[np.ndarray, "J 3"]:
    """Returns the joints of these places, NaN with confidence 0 where there is none."""
    unseen = np.array([np.nan, np.nan, 0.0])
    return np.stack([unseen if column is None else keypoints[column] for column in columns])


def _to_pixels(
    keypoints: Float[np.ndarray, "J 3"], units: str, size_px: tuple[int, int], *, y_up: bool
) -> Float[np.ndarray, "J 3"]:
    """Returns x and y in pixels from the upper left corner, NaN where a joint is marked as not seen."""
    points = keypoints[:, :2]
    width, height = size_px
    if units == "screen":
        points = (points + np.array([1, height / width])) * width / 2
    elif units == "ndc":
        points = (points + 1) * np.array([width, height]) / 2
    tolerance = NOT_SEEN_PX / max(width, height) if units == "shares" else NOT_SEEN_PX
    unseen = (np.abs(points) <= tolerance).all(1) | (np.abs(points + 1) <= tolerance).all(1)
    if units == "shares":
        unseen |= (points < 0).all(1)
        points = points * [width, height]
    if y_up:
        points = points * [1, -1] + np.array([0, height])
    return np.concatenate([np.where(unseen[:, None], np.nan, points), keypoints[:, 2:]], axis=1)


def _scale_scores(detections: Detections, highest: float | None, path: Path) -> tuple[Detections, tuple[str, ...]]:
    """Returns detections with confidence from 0 to 1, and in words what was changed for it."""
    if highest is not None and not 0 < highest < np.inf:
        raise UserError(f"--highest-score: expected a number over 0, found {highest:g}")
    notes = [] if highest is None else [f"scores: {highest:g} means certain, stated"]
    scale = np.array([1, 1, 1 / (highest or 1)])
    least, most = 0.0, 0.0
    for number, detection in _each(detections):
        scores = detection.keypoints[:, 2] * scale[2]
        scores = scores[np.isfinite(scores)]
        if len(scores) and (scores.min() < LOWEST_SCORE or scores.max() > HIGHEST_SCORE):
            span = f"{scores.min():g} to {scores.max():g}"
            hint = "--highest-score states the score that means certain, such as 100"
            raise UserError(f"{path}: frame {number}: expected confidences from 0 to 1, found {span}; {hint}")
        least, most = min([least, *scores]), max([most, *scores])
    notes += [f"scores: up to {most:.3g}; those over 1 count as 1"] if most > 1 else []
    notes += [f"scores: down to {least:.3g}; those under 0 count as not seen"] if least < 0 else []
    low, high = np.array([-np.inf, -np.inf, 0]), np.array([np.inf, np.inf, 1])
    return _change(detections, lambda keypoints: np.clip(keypoints * scale, low, high)), tuple(notes)


def _change(
    detections: Detections, change: Callable[[Float[np.ndarray, "J 3"]], Float[np.ndarray, "K 3"]]
) -> Detections:
    """Returns the detections with the keypoints of everybody changed."""
    frames = {
        number: [replace(detection, keypoints=change(detection.keypoints)) for detection in people]
        for number, people in detections.frames.items()
    }
    return replace(detections, frames=frames)


def _each(detections: Detections) -> Iterator[tuple[int, Detection]]:
    return ((number, detection) for number, people in detections.frames.items() for detection in people)
