"""Detections without ids are put together to the people who walked."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.lift.people import Detection, Track
from pipeline.lift.reading.tracks import LONGEST_ABSENCE, follow_people
from tests.fixtures.lifting import walker_keypoints


def walkers(frames: int, *offsets_px: float, speed_px: float = 0.0) -> list[np.ndarray]:
    """Returns people who stand at these places, or cross: every other one walks to the left."""
    people = []
    for number, offset_px in enumerate(offsets_px):
        keypoints = walker_keypoints(frames, start=0.3 * number)
        keypoints[..., 0] += offset_px + (-1) ** number * speed_px * np.arange(frames)[:, None]
        people.append(keypoints)
    return people


def detect(people: list[np.ndarray]) -> list[list[Detection]]:
    """Returns who is seen in each frame, in random order and without ids."""
    random = np.random.default_rng(0)
    frames = []
    for frame in range(len(people[0])):
        order = random.permutation(len(people))
        frames.append([Detection(people[n][frame], None) for n in order if np.isfinite(people[n][frame]).any()])
    return frames


def follow(frames: list[list[Detection]]) -> tuple[Track, ...]:
    return follow_people(frames, layout="h36m17")[0]


def assert_tracks_are(tracks, people):
    assert len(tracks) == len(people)
    remaining = list(people)
    for track in tracks:
        person = next(person for person in remaining if np.allclose(person[track.first_frame, :, :2], track.pixels[0]))
        part = person[track.first_frame : track.first_frame + len(track), :, :2]
        np.testing.assert_array_equal(track.pixels, part)
        remaining = [other for other in remaining if other is not person]


def test_people_side_by_side_are_told_apart_in_any_order():
    people = walkers(40, -250, 0, 250)
    assert_tracks_are(follow(detect(people)), people)


def test_two_people_who_cross_are_not_swapped():
    people = walkers(60, -240, 240, speed_px=8.0)
    assert_tracks_are(follow(detect(people)), people)


def test_somebody_who_was_missed_for_a_while_is_the_same():
    people = walkers(40, -250, 250)
    people[0][15:22] = np.nan
    assert_tracks_are(follow(detect(people)), people)


def test_somebody_who_comes_back_much_later_is_somebody_else():
    people = walkers(LONGEST_ABSENCE + 30, 0)
    people[0][10 : 12 + LONGEST_ABSENCE] = np.nan
    assert len(follow(detect(people))) == 2


def test_somebody_seen_in_every_hundredth_frame_is_one_person():
    (person,) = walkers(10, 0)
    frames: list[list[Detection]] = [[] for _ in range(901)]
    for number in range(10):
        frames[100 * number] = [Detection(person[number], None)]
    (track,) = follow(frames)
    assert len(track) == 901
    np.testing.assert_array_equal(track.pixels[::100], person[..., :2])


@pytest.mark.parametrize(("gait_at_s", "speed_px", "hidden"), [(0.0, 5.0, 20), (0.9, 3.0, 24), (1.7, 5.0, 20)])
def test_somebody_hidden_by_whom_he_crosses_is_not_swapped(gait_at_s, speed_px, hidden):
    """They face each other, with a detector's noise, and the farther one is not detected behind the nearer."""
    random = np.random.default_rng(0)
    people = []
    for number, (size, direction) in enumerate(((1.2, 1), (0.9, -1))):
        keypoints = walker_keypoints(120, start=gait_at_s + 0.4 * number)
        hips = keypoints[:, :1, :2].copy()
        keypoints[..., :2] = (keypoints[..., :2] - hips) * [size * direction, size] + [500, 600]
        keypoints[..., 0] += direction * speed_px * (np.arange(120)[:, None] - 60)
        keypoints[..., :2] += random.normal(0, 8, (120, 17, 2))
        people.append(keypoints)
    people[1][60 - hidden // 2 : 60 + hidden // 2] = np.nan
    assert_tracks_are(follow(detect(people)), people)


def test_scraps_are_not_people_and_this_is_said():
    people = walkers(60, -250, 250)
    people[1][6:] = np.nan
    tracks, notes = follow_people(detect(people), layout="h36m17", rate_hz=30.0)
    assert [len(track) for track in tracks] == [60]
    assert notes == ("left out: 1 seen in 6 to 6 frames, too few to be a person (under 9)",)


@pytest.mark.parametrize("rate_hz", [60.0, 120.0, 240.0])
def test_an_absence_is_as_long_at_any_rate(rate_hz):
    """Half a second of two, in which he walks on."""
    (person,) = walkers(60, -200, speed_px=4.0)
    person[30:45] = np.nan
    person = np.repeat(person, int(rate_hz / 30), axis=0)
    assert len(follow_people(detect([person]), layout="h36m17", rate_hz=rate_hz)[0]) == 1


def test_whoever_was_seen_longest_comes_first():
    people = walkers(40, -250, 0, 250)
    people[0][15:] = np.nan
    people[1][30:] = np.nan
    tracks = follow(detect(people))
    assert [track.person for track in tracks] == ["0", "1", "2"]
    np.testing.assert_array_equal([len(track) for track in tracks], [40, 30, 15])


def test_an_id_goes_before_place():
    first, second = walkers(10, -250, 250)
    frames = [
        [Detection(first[f], "a" if f < 5 else "b"), Detection(second[f], "b" if f < 5 else "a")] for f in range(10)
    ]
    tracks = {track.person: track for track in follow(frames)}
    np.testing.assert_array_equal(tracks["a"].pixels, np.concatenate([first[:5, :, :2], second[5:, :, :2]]))


def test_new_people_do_not_take_an_id_of_the_file():
    first, second = walkers(4, -250, 250)
    frames = [[Detection(first[f], "0"), Detection(second[f], None)] for f in range(4)]
    assert {track.person for track in follow(frames)} == {"0", "1"}


def test_an_id_of_two_people_in_a_frame_is_none():
    """As AlphaPose writes 0 for everybody when it does not follow people, also where one of them is alone."""
    first, second = walkers(20, -250, 250)
    frames = [[Detection(second[f], "0"), Detection(first[f], "0")] for f in range(20)]
    frames[7] = frames[7][:1]
    first[7] = np.nan
    tracks, notes = follow_people(frames, layout="h36m17")
    assert_tracks_are(tracks, [first, second])
    assert notes == ("id '0' is given to 2 people in frame 0: not taken for an id",)


def test_another_id_of_the_file_stays_one():
    first, second = walkers(6, -250, 250)
    frames = [[Detection(first[f], "0"), Detection(second[f], "0" if f == 2 else "7")] for f in range(6)]
    assert {track.person for track in follow(frames)} == {"0", "7"}
