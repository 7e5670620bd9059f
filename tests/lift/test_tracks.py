"""Detections without ids are put together to the people who walked."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.lift.tracks import LONGEST_ABSENCE, Detection, Found, tracks_of
from pipeline.system.errors import UserError
from tests.fixtures.lifting import walker_keypoints


def walkers(frames: int, *offsets_px: float, speed_px: float = 0.0) -> list[np.ndarray]:
    """People who stand at these places, or cross: every other one walks to the left."""
    people = []
    for number, offset_px in enumerate(offsets_px):
        own = walker_keypoints(frames, start=0.3 * number)
        own[..., 0] += offset_px + (-1) ** number * speed_px * np.arange(frames)[:, None]
        people.append(own)
    return people


def found(people: list[np.ndarray], *, shuffled: bool = True) -> Found:
    random = np.random.default_rng(0)
    frames = []
    for frame in range(len(people[0])):
        order = random.permutation(len(people)) if shuffled else range(len(people))
        frames.append([Detection(people[n][frame], None) for n in order if np.isfinite(people[n][frame]).any()])
    return Found("h36m17", frames)


def assert_are(tracks, people):
    assert len(tracks) == len(people)
    left_over = list(people)
    for track in tracks:
        own = next(one for one in left_over if np.allclose(one[track.first_frame, :, :2], track.pixels[0]))
        part = own[track.first_frame : track.first_frame + len(track), :, :2]
        np.testing.assert_array_equal(track.pixels, part)
        left_over = [one for one in left_over if one is not own]


def test_people_side_by_side_are_told_apart_in_any_order():
    people = walkers(40, -250, 0, 250)
    assert_are(tracks_of(found(people), source="file"), people)


def test_two_people_who_cross_are_not_swapped():
    people = walkers(60, -240, 240, speed_px=8.0)
    assert_are(tracks_of(found(people), source="file"), people)


def test_somebody_who_was_missed_for_a_while_is_the_same():
    people = walkers(40, -250, 250)
    people[0][15:22] = np.nan
    assert_are(tracks_of(found(people), source="file"), people)


def test_somebody_who_comes_back_much_later_is_somebody_else():
    people = walkers(LONGEST_ABSENCE + 30, 0)
    people[0][10 : 12 + LONGEST_ABSENCE] = np.nan
    assert len(tracks_of(found(people), source="file")) == 2


def test_whoever_was_seen_longest_comes_first():
    people = walkers(40, -250, 0, 250)
    people[0][5:] = np.nan  # somebody a detector saw for a moment
    people[1][30:] = np.nan
    tracks = tracks_of(found(people), source="file")
    assert [track.person for track in tracks] == ["0", "1", "2"]
    np.testing.assert_array_equal([len(track) for track in tracks], [40, 30, 5])


def test_an_id_goes_before_place():
    one, other = walkers(10, -250, 250)
    frames = [[Detection(one[f], "a" if f < 5 else "b"), Detection(other[f], "b" if f < 5 else "a")] for f in range(10)]
    tracks = {track.person: track for track in tracks_of(Found("h36m17", frames), source="file")}
    np.testing.assert_array_equal(tracks["a"].pixels, np.concatenate([one[:5, :, :2], other[5:, :, :2]]))


def test_new_people_do_not_take_an_id_of_the_file():
    one, other = walkers(4, -250, 250)
    frames = [[Detection(one[f], "0"), Detection(other[f], None)] for f in range(4)]
    assert {track.person for track in tracks_of(Found("h36m17", frames), source="file")} == {"0", "1"}


def test_an_id_twice_in_a_frame_is_refused():
    one, other = walkers(1, -250, 250)
    with pytest.raises(UserError, match="file: frame 0: expected each person once, found two with id 'a'"):
        tracks_of(Found("h36m17", [[Detection(one[0], "a"), Detection(other[0], "a")]]), source="file")
