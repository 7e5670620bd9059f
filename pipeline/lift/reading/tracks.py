"""People over time: the detections of each frame are put together to tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from pipeline.lift.people import Detection, Track

LONGEST_ABSENCE = 30  # frames of 30 Hz after which somebody who comes back is somebody else, unless he has an id
SPEED_FRAMES = 10  # of 30 Hz, over which the speed of a person is measured
# How far joints may lie from where a person is expected, on average and in his sizes; after LONGEST_ABSENCE.
FARTHEST, FARTHEST_AFTER_ABSENCE = 0.35, 0.6
LEAST_SIGHTINGS = 9  # at 30 Hz, of somebody without an id: who is seen less often is a detector's error
LEAST_JOINTS = 4  # seen both times, to compare poses; with fewer the middles of boxes are

Sightings = dict[int, Float[np.ndarray, "J 3"]]  # keypoints of one person by frame, in the order of frames


def follow_people(
    frames: Sequence[Sequence[Detection]], *, layout: str, rate_hz: float | None = None
) -> tuple[tuple[Track, ...], tuple[str, ...]]:
    """Returns a track for each person, from the first frame he was seen in to the last, the longest seen first.

    A detection with an id belongs to the person of that id. The others go to whoever is expected where they are: poses
    moved on at the speed that people had, matched so that the sum of nearness is largest (Kuhn 1955); who is near to
    nobody is new. New people are numbered from 0, the one seen longest first, past the ids in the file. Who has no id
    and is seen in less than LEAST_SIGHTINGS is left out, unless nobody is seen in more. An id that comes twice in a
    frame is no id, as detectors write one for everybody when nobody is followed: its detections have none. The second
    value says so in words. `rate_hz` is 30 if not known.
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
    pace = step * max((rate_hz or 30.0) / 30.0, 1.0)
    for number, frame in enumerate(seen):
        by_id = {detection.person: detection.keypoints for detection in frame if detection.person in ids}
        nameless = [detection.keypoints for detection in frame if detection.person not in ids]
        present = [
            name
            for name, sightings in people.items()
            if name not in by_id and number - next(reversed(sightings)) <= LONGEST_ABSENCE * pace
        ]
        matches = _match_people(nameless, {name: people[name] for name in present}, number, pace)
        for name, keypoints in [*by_id.items(), *zip(matches, nameless, strict=True)]:
            people.setdefault(name or _next_name(people.keys() | ids), {})[number] = keypoints
    least = LEAST_SIGHTINGS * pace / step
    scraps = {name: len(sightings) for name, sightings in people.items() if name not in ids and len(sightings) < least}
    if scraps and max(map(len, people.values())) >= least:
        people = {name: sightings for name, sightings in people.items() if name not in scraps}
        counts = f"{min(scraps.values())} to {max(scraps.values())}"
        notes += (f"left out: {len(scraps)} seen in {counts} frames, too few to be a person (under {least:g})",)
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
    nameless: Sequence[Float[np.ndarray, "J 3"]], people: Mapping[str, Sightings], frame: int, pace: float
) -> list[str | None]:
    """Returns for each detection the name of the person of `people` who is expected there, or None."""
    present = list(people)
    names: list[str | None] = [None] * len(nameless)
    if nameless and present:
        nearness = np.zeros((len(nameless), len(present)))
        for column, name in enumerate(present):
            expected = _predict_keypoints(people[name], frame, pace)
            absence = (frame - next(reversed(people[name])) - 1) / (pace * LONGEST_ABSENCE)
            farthest = FARTHEST + min(absence, 1) * (FARTHEST_AFTER_ABSENCE - FARTHEST)
            for row, keypoints in enumerate(nameless):
                nearness[row, column] = max(1 - _distance(expected, keypoints) / farthest, 0)
        for row, column in zip(*linear_sum_assignment(nearness, maximize=True), strict=True):
            if nearness[row, column] > 0:
                names[row] = present[column]
    return names


def _next_name(taken: Collection[str]) -> str:
    return next(str(number) for number in range(len(taken) + 1) if str(number) not in taken)


def _make_track(person: str, sightings: Sightings, layout: str) -> Track:
    first, last = min(sightings), max(sightings)
    keypoints = np.full((last - first + 1, *sightings[first].shape), np.nan)
    for frame, detected in sightings.items():
        keypoints[frame - first] = detected
    track = Track(person, layout, first, keypoints[..., :2], np.minimum(keypoints[..., 2], 1.0))
    return track.keep(find_seen_joints(keypoints))


def _predict_keypoints(sightings: Sightings, frame: int, pace: float) -> Float[np.ndarray, "J 3"]:
    """Returns the person's last keypoints, moved on to `frame` at his mean speed over the last SPEED_FRAMES."""
    last, *earlier = islice(reversed(sightings), 1 + round(SPEED_FRAMES * pace))
    moved = sightings[last].copy()
    if earlier:
        before = min((number for number in earlier if last - number <= SPEED_FRAMES * pace), default=earlier[0])
        moved[:, :2] += _step(sightings[before], sightings[last]) * (frame - last) / (last - before)
    return moved


def _step(keypoints: Float[np.ndarray, "J 3"], later: Float[np.ndarray, "J 3"]) -> Float[np.ndarray, "2"]:
    """Returns how far the joints seen both times went on average, in pixels; without any, the middle of those seen."""
    seen, seen_later = find_seen_joints(keypoints), find_seen_joints(later)
    if (seen & seen_later).any():
        seen = seen_later = seen & seen_later
    return later[seen_later, :2].mean(0) - keypoints[seen, :2].mean(0)


def _distance(keypoints: Float[np.ndarray, "J 3"], other: Float[np.ndarray, "J 3"]) -> float:
    """Returns the mean distance of the joints seen in both, in sizes of the larger person."""
    seen, seen_other = find_seen_joints(keypoints), find_seen_joints(other)
    sizes = [float(np.ptp(part, axis=0).max()) for part in (keypoints[seen, :2], other[seen_other, :2])]
    size = max(*sizes, 1.0)
    both = seen & seen_other
    if both.sum() >= LEAST_JOINTS:
        return float(np.linalg.norm(keypoints[both, :2] - other[both, :2], axis=1).mean()) / size
    return float(np.linalg.norm(_step(keypoints, other))) / size
