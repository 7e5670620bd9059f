"""People over time: detections put together to tracks, gaps of unseen keypoints filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from pipeline.lift.people import Track
from pipeline.poses.frames import find_runs, interpolate_gaps
from pipeline.poses.geometry import Camera
from pipeline.system.errors import UserError

LEAST_OVERLAP = 0.2  # intersection over union of the boxes around two detections of one person
LONGEST_ABSENCE = 30  # frames after which somebody who comes back is somebody else, unless the file has an id for him
BOX_MARGIN = 0.1  # of the longer side: keypoints lie inside the body, and a person seen from the side is thin


@dataclass(frozen=True)
class Detection:
    """One person in one frame: x, y in pixels and confidence per joint, and the id that the file has for him."""

    keypoints: Float[np.ndarray, "J 3"]
    person: str | None


@dataclass(frozen=True)
class Found:
    """What a file holds, frame by frame, joints as in `layout`."""

    layout: str
    frames: list[list[Detection]]
    image_size_px: tuple[int, int] | None = None
    rate_hz: float | None = None
    camera: Camera | None = None


def in_order(frames: dict[int, list[Detection]]) -> list[list[Detection]]:
    """From the first number to the last; a frame that is not listed has nobody in it."""
    if not frames:
        return []
    first, last = min(frames), max(frames)
    if last - first > 1000 + 100 * len(frames):
        raise UserError(f"frames: expected numbers that follow each other, found {first} to {last} for {len(frames)}")
    return [frames.get(number, []) for number in range(first, last + 1)]


def tracks_of(found: Found, *, source: str) -> tuple[Track, ...]:
    """Each person's detections from the first to the last, those in between that are missing as not seen.

    A detection with an id belongs to the person of that id. The others go to whoever was where they are: boxes moved on
    at the speed they had, matched so that the sum of overlaps is largest (Kuhn 1955); who overlaps nobody is new. New
    people are numbered from 0, the one seen longest first, past the ids in the file. Raises UserError if an id comes
    twice in a frame.
    """
    given = {one.person for frame in found.frames for one in frame if one.person is not None}
    people: dict[str, dict[int, np.ndarray]] = {}
    for number, frame in enumerate(found.frames):
        detections = [one for one in frame if _seen(one.keypoints).any()]
        named = [one.person for one in detections if one.person is not None]
        if len(set(named)) < len(named):
            twice = next(person for person in named if named.count(person) > 1)
            raise UserError(f"{source}: frame {number}: expected each person once, found two with id '{twice}'")
        nameless = [one.keypoints for one in detections if one.person is None]
        free = [name for name, own in people.items() if name not in named and number - max(own) <= LONGEST_ABSENCE]
        names: list[str | None] = [None] * len(nameless)
        overlaps = np.array(
            [[_overlap(_moved_on(people[name], number), _box(one)) for name in free] for one in nameless]
        )
        if overlaps.size:
            for row, column in zip(*linear_sum_assignment(overlaps, maximize=True), strict=True):
                if overlaps[row, column] >= LEAST_OVERLAP:
                    names[row] = free[column]
        for one in detections:
            if one.person is not None:
                people.setdefault(one.person, {})[number] = one.keypoints
        for keypoints, name in zip(nameless, names, strict=True):
            new = next(str(n) for n in range(len(people) + len(given) + 1) if str(n) not in people.keys() | given)
            people.setdefault(name or new, {})[number] = keypoints
    longest = sorted(people.items(), key=lambda item: -len(item[1]))
    numbers = (str(number) for number in range(len(people) + len(given)) if str(number) not in given)
    return tuple(_track(name if name in given else next(numbers), own, found.layout) for name, own in longest)


def _track(person: str, detections: dict[int, np.ndarray], layout: str) -> Track:
    first, last = min(detections), max(detections)
    keypoints = np.full((last - first + 1, *detections[first].shape), np.nan)
    for frame, own in detections.items():
        keypoints[frame - first] = own
    seen = _seen(keypoints)
    pixels = np.where(seen[..., None], keypoints[..., :2], np.nan)
    return Track(person, layout, first, pixels, np.where(seen, np.minimum(keypoints[..., 2], 1.0), 0.0))


def _seen(keypoints: Float[np.ndarray, "*F J 3"]) -> Bool[np.ndarray, "*F J"]:
    return np.isfinite(keypoints).all(-1) & (keypoints[..., 2] > 0)


def _box(keypoints: Float[np.ndarray, "J 3"]) -> Float[np.ndarray, " 4"]:
    """Left, top, right, bottom of the box around the joints seen, with a margin."""
    pixels = keypoints[_seen(keypoints), :2]
    low, high = pixels.min(0), pixels.max(0)
    margin = BOX_MARGIN * max(float((high - low).max()), 1.0)
    return np.concatenate([low - margin, high + margin])


def _moved_on(detections: dict[int, np.ndarray], frame: int) -> Float[np.ndarray, " 4"]:
    """The person's last box, moved on to `frame` at the speed of his last two."""
    *before, last = sorted(detections)[-2:]
    box = _box(detections[last])
    if not before:
        return box
    speed = (box - _box(detections[before[0]])).reshape(2, 2).mean(0) / (last - before[0])
    return box + np.tile(speed * (frame - last), 2)


def _overlap(one: Float[np.ndarray, " 4"], other: Float[np.ndarray, " 4"]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared)


def fill_gaps(
    pixels: Float[np.ndarray, "F J 2"], confidence: Float[np.ndarray, "F J"], *, longest_frames: int
) -> tuple[Float[np.ndarray, "F J 2"], Float[np.ndarray, "F J"], Bool[np.ndarray, "F J"]]:
    """Keypoints with gaps of at most `longest_frames` frames filled in, linear in time, and which were.

    A filled keypoint has the lesser confidence of those around the gap. Gaps at the ends stay.
    """
    unseen = np.isnan(pixels).any(-1)
    confidence, filled = confidence.copy(), np.zeros_like(unseen)
    for joint in range(pixels.shape[1]):
        for gap in find_runs(unseen[:, joint]):
            before, after = gap.start - 1, gap.stop
            if after - gap.start <= longest_frames and before >= 0 and after < len(pixels):
                filled[gap, joint] = True
                confidence[gap, joint] = min(confidence[before, joint], confidence[after, joint])
    return np.where(filled[..., None], interpolate_gaps(pixels, unseen), pixels), confidence, filled
