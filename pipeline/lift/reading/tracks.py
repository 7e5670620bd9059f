"""People over time: the detections of each frame are put together to tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from pipeline.lift.people import Detection, Track

LEAST_OVERLAP = 0.2  # intersection over union of the boxes around two detections of one person
# Frames after which somebody who comes back is somebody else, unless the file has an id for him; of a file with every
# n-th frame, n times as many.
LONGEST_ABSENCE = 30
BOX_MARGIN = 0.1  # of the longer side: keypoints lie inside the body, and a person seen from the side is thin

Box = Float[np.ndarray, " 4"]  # left, top, right, bottom in pixels
Sightings = dict[int, Float[np.ndarray, "J 3"]]  # keypoints of one person by frame, in the order of frames


def follow_people(frames: Sequence[Sequence[Detection]], *, layout: str) -> tuple[tuple[Track, ...], tuple[str, ...]]:
    """Returns a track for each person, from the first frame he was seen in to the last, the longest seen first.

    A detection with an id belongs to the person of that id. The others go to whoever was where they are: boxes moved on
    at the speed they had, matched so that the sum of overlaps is largest (Kuhn 1955); who overlaps nobody is new. New
    people are numbered from 0, the one seen longest first, past the ids in the file. An id that comes twice in a frame
    is no id, as detectors write one for everybody when nobody is followed: its detections have none. The second value
    says so in words.
    """
    seen = [[detection for detection in frame if find_seen_joints(detection.keypoints).any()] for frame in frames]
    repeated = _find_repeated_ids(seen)
    notes = tuple(
        f"id '{person}' is given to {count} people in frame {number}: not taken for an id"
        for person, (number, count) in repeated.items()
    )
    ids = {detection.person for frame in seen for detection in frame if detection.person is not None} - repeated.keys()
    people: dict[str, Sightings] = {}
    numbers = [number for number, frame in enumerate(seen) if frame]
    step = int(np.median(np.diff(numbers))) if len(numbers) > 1 else 1  # of files that hold every so many frames
    for number, frame in enumerate(seen):
        by_id = {detection.person: detection.keypoints for detection in frame if detection.person in ids}
        nameless = [detection.keypoints for detection in frame if detection.person not in ids]
        present = [
            name
            for name, sightings in people.items()
            if name not in by_id and number - next(reversed(sightings)) <= LONGEST_ABSENCE * step
        ]
        matches = _match_people(nameless, {name: people[name] for name in present}, number)
        for name, keypoints in [*by_id.items(), *zip(matches, nameless, strict=True)]:
            people.setdefault(name or _next_name(people.keys() | ids), {})[number] = keypoints
    tracks = []
    names = set(ids)
    for name, sightings in sorted(people.items(), key=lambda item: -len(item[1])):
        person = name if name in ids else _next_name(names)
        names.add(person)
        tracks.append(_make_track(person, sightings, layout))
    return tuple(tracks), notes


def find_seen_joints(keypoints: Float[np.ndarray, "*F J 3"]) -> Bool[np.ndarray, "*F J"]:
    """Returns which joints have a position and a confidence over 0."""
    return np.isfinite(keypoints).all(-1) & (keypoints[..., 2] > 0)


def _find_repeated_ids(frames: Sequence[Sequence[Detection]]) -> dict[str, tuple[int, int]]:
    """Returns the ids that several people of a frame have, the first such frame, and how many have it there."""
    repeated: dict[str, tuple[int, int]] = {}
    for number, frame in enumerate(frames):
        for person, count in Counter(detection.person for detection in frame).items():
            if person is not None and count > 1:
                repeated.setdefault(person, (number, count))
    return repeated


def _match_people(
    nameless: Sequence[Float[np.ndarray, "J 3"]], people: Mapping[str, Sightings], frame: int
) -> list[str | None]:
    """Returns for each detection the name of the person of `people` whose predicted box it overlaps, or None."""
    present = list(people)
    names: list[str | None] = [None] * len(nameless)
    if nameless and present:
        predicted = [_predict_box(people[name], frame) for name in present]
        overlaps = np.array([[_overlap(box, _box(keypoints)) for box in predicted] for keypoints in nameless])
        for row, column in zip(*linear_sum_assignment(overlaps, maximize=True), strict=True):
            if overlaps[row, column] >= LEAST_OVERLAP:
                names[row] = present[column]
    return names


def _next_name(taken: Collection[str]) -> str:
    return next(str(number) for number in range(len(taken) + 1) if str(number) not in taken)


def _make_track(person: str, sightings: Sightings, layout: str) -> Track:
    first, last = min(sightings), max(sightings)
    keypoints = np.full((last - first + 1, *sightings[first].shape), np.nan)
    for frame, detected in sightings.items():
        keypoints[frame - first] = detected
    seen = find_seen_joints(keypoints)
    pixels = np.where(seen[..., None], keypoints[..., :2], np.nan)
    return Track(person, layout, first, pixels, np.where(seen, np.minimum(keypoints[..., 2], 1.0), 0.0))


def _box(keypoints: Float[np.ndarray, "J 3"]) -> Box:
    """Returns the box around the joints seen, with a margin."""
    pixels = keypoints[find_seen_joints(keypoints), :2]
    low, high = pixels.min(0), pixels.max(0)
    margin = BOX_MARGIN * max(float((high - low).max()), 1.0)
    return np.concatenate([low - margin, high + margin])


def _predict_box(sightings: Sightings, frame: int) -> Box:
    """Returns the person's last box, moved on to `frame` at the speed between his last two."""
    last, *before = islice(reversed(sightings), 2)
    box = _box(sightings[last])
    if not before:
        return box
    speed = (box - _box(sightings[before[0]])).reshape(2, 2).mean(0) / (last - before[0])
    return box + np.tile(speed * (frame - last), 2)


def _overlap(box: Box, other: Box) -> float:
    """Returns the intersection over union of two boxes."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2])) - shared)
