"""Keypoints that were read otherwise than they were meant are doubted; people who do unusual things are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Track
from pipeline.lift.plausibility import check_plausible, describe_lying
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import convert_layout
from tests.fixtures.lifting import SIZE, track_of, walker_keypoints

RATE_HZ = 30.0
FRAMES = 40


def walker(frames: int = FRAMES) -> np.ndarray:
    return walker_keypoints(frames, jitter_px=2.0)


def check(
    keypoints: np.ndarray, *, rate_hz: float = RATE_HZ, size: tuple[int, int] = SIZE, layout: str = "h36m17"
) -> None:
    track = Track("0", layout, 0, keypoints[..., :2], keypoints[..., 2])
    check_plausible("walk.json", [track], size, rate_hz=rate_hz)


def turn(keypoints: np.ndarray, degrees: float) -> np.ndarray:
    """Returns the person turned about the middle of the image."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = keypoints.copy()
    turned[..., :2] = (keypoints[..., :2] - 500) @ rotation.T + 500
    return turned


def swap_sides_of_legs(keypoints: np.ndarray) -> np.ndarray:
    return keypoints[:, [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]


def shuffle_joints(keypoints: np.ndarray) -> np.ndarray:
    random, order = np.random.default_rng(0), np.arange(17)
    moved = [2, 3, 5, 6, 12, 13, 15, 16]  # knees, feet, elbows and wrists
    shuffled = keypoints.copy()
    for frame in shuffled:
        order[moved] = random.permutation(moved)
        frame[:] = frame[order]
    return shuffled


def alternate(keypoints: np.ndarray) -> np.ndarray:
    """Two people under one id, in turn."""
    return keypoints + np.where(np.arange(len(keypoints)) % 2, 300, 0)[:, None, None] * [1, 0, 0]


DOUBTED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "outside": (lambda k: np.add(k, [2000, 0, 0]), "found 680 of 680 keypoints outside, x from .*--image-size"),
    "in a corner": (lambda k: k * [0.25, 0.25, 1], "found all in its upper left corner, x from .* to .*--image-size"),
    "shares": (lambda k: k * [0.001, 0.001, 1], "found keypoints that span 0.* pixels: shares of it .--units shares"),
    "screen": (lambda k: (k - [500, 500, 0]) * [0.002, 0.002, 1], "pixels: -1 to 1 across it .--units screen or ndc"),
    "upside down": (lambda k: turn(k, 180), "found people upside down: does y count upwards .--y-up"),
    "legs of the other side": (swap_sides_of_legs, "left and right of the shoulders the other way round than"),
    "joints in another order in each frame": (shuffle_joints, "limbs whose length changes by .* from frame to frame"),
    "two people in one": (alternate, "people who move .* times their size in a second: .*--rate-hz.*two people under"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTED)
def test_what_is_no_person_is_doubted_with_the_likely_cause(name):
    change, says = DOUBTED[name]
    with pytest.raises(UserError, match=f"walk.json: expected .*{says}") as doubt:
        check(change(walker()))
    assert str(doubt.value).endswith("? (--force lifts it all the same)")


BELIEVED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a walker": lambda k: k,
    "somebody far away": lambda k: k * [0.1, 0.1, 1] + [450, 450, 0],
    "somebody half outside": lambda k: np.add(k, [450, 0, 0]),
    "somebody lying": lambda k: turn(k, 90),
    "a leaning camera": lambda k: turn(k, 40),
    "somebody seen in a mirror": lambda k: k * [-1, 1, 1] + [1000, 0, 0],
    "the upper body alone": lambda k: np.where(np.isin(np.arange(17), [2, 3, 5, 6])[:, None], np.nan, k),
    "a moment": lambda k: k[:1],
    "nobody": lambda k: np.full_like(k, np.nan),
}


@pytest.mark.parametrize("name", BELIEVED)
def test_an_unusual_person_is_believed(name):
    check(BELIEVED[name](walker()))


@pytest.mark.parametrize(("degrees", "lies"), [(0, False), (40, False), (90, True), (-90, True), (180, False)])
def test_somebody_lying_is_said_to_lie(degrees, lies):
    assert (describe_lying([track_of(turn(walker(), degrees))]) is not None) == lies


def test_pictures_at_intervals_may_jump_at_their_own_rate():
    """Somebody who crosses the image in 4 s, seen once a second."""
    seconds = alternate(walker())
    check(seconds, rate_hz=1.0)
    with pytest.raises(UserError, match="--rate-hz"):
        check(seconds)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("crowdpose14", "aic14", "3dhp17")])
def test_a_layout_is_doubted_only_where_another_of_as_many_joints_stands_upright(layout):
    """Those of 14 joints are alike in what stands over what, and ours of 3DHP has the order of Human3.6M's limbs."""
    keypoints = convert_layout(walker(), layout)
    check(keypoints, layout=layout)
    others = [n for n, skeleton in LAYOUTS.items() if len(skeleton.joints) == keypoints.shape[1] and n != layout]
    for other in others:
        if {other, layout} != {"3dhp17", "h36m17"}:
            with pytest.raises(UserError, match=f"expected joints of layout '{other}', found .*--layout {layout}"):
                check(keypoints, layout=other)


def test_one_odd_person_among_many_does_not_stop_the_others():
    people = [replace(track_of(walker()), person=str(number)) for number in range(4)]
    odd = track_of(turn(walker(), 180), person="4")
    check_plausible("walk.json", [*people, odd], SIZE, rate_hz=RATE_HZ)
