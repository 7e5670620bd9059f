"""Limbs whose left and right a detector exchanged are found, and motions that cross are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from pipeline.lift.body.sides import exchange_sides, find_swapped_joints
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import COCO_17, H36M_17
from tests.fixtures.lifting import WALKER_CAMERA
from tests.fixtures.walker import walker_joints_world_m

FRAMES = 60


def walker_pixels(
    *, turns_per_s: float = 0.0, steps_hz: float = 1.0, noise_px: float = 2.0, facing: float = 0.0
) -> Float[np.ndarray, "F 17 2"]:
    """A walker at 30 Hz before the fixed camera, who may turn about himself, as a detector sees him.

    `facing` is the part of a turn at which he begins.
    """
    walk_m = walker_joints_world_m(FRAMES, steps_hz=steps_hz)
    angle = 2 * np.pi * (facing + turns_per_s * np.arange(FRAMES) / 30)
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    around_m = walk_m - walk_m[:, :1] * [1.0, 1.0, 0.0]
    x, y = around_m[..., 0], around_m[..., 1]
    walk_m = np.stack([cosine * x - sine * y, sine * x + cosine * y, around_m[..., 2]], -1)
    pixels = project(WALKER_CAMERA.camera_from_world.apply(walk_m), WALKER_CAMERA)
    return pixels + np.random.default_rng(0).normal(0, noise_px, pixels.shape)


def swap_walker(pixels: Float[np.ndarray, "F 17 2"], limbs: str) -> tuple[np.ndarray, np.ndarray]:
    """The walker with the sides of arms, legs or all limbs exchanged in three stretches, and of which joints."""
    joints = {"arms": range(11, 17), "legs": range(1, 7), "all": [*range(1, 7), *range(11, 17)]}[limbs]
    swapped = np.zeros(pixels.shape[:2], dtype=bool)
    swapped[np.ix_([*range(8, 14), *range(30, 32), *range(44, 60)], joints)] = True
    return exchange_sides(pixels, swapped, H36M_17), swapped


@pytest.mark.parametrize("limbs", ["arms", "legs", "all"])
@pytest.mark.parametrize("turns_per_s", [0.0, 0.25])
def test_exchanged_limbs_are_found_and_exchanging_them_gives_the_keypoints_back(limbs: str, turns_per_s: float) -> None:
    pixels = walker_pixels(turns_per_s=turns_per_s)
    wide = np.abs(pixels[:, 11, 0] - pixels[:, 14, 0]) > 30  # from the side an exchange shows in nothing
    seen, swapped = swap_walker(pixels, limbs)
    found = find_swapped_joints(seen, H36M_17, longest_gap=7)
    assert (found == swapped)[wide].mean() > 0.95
    if turns_per_s == 0:
        np.testing.assert_array_equal(found, swapped)
        np.testing.assert_array_equal(exchange_sides(seen, found, H36M_17), pixels)


@pytest.mark.parametrize("limbs", ["arms", "all"])
def test_exchanges_are_found_although_some_joints_are_not_seen(limbs: str) -> None:
    pixels = walker_pixels()
    pixels[5:50:2, 13] = np.nan  # left wrist
    pixels[::3, 3] = np.nan  # right ankle
    seen, swapped = swap_walker(pixels, limbs)
    np.testing.assert_array_equal(find_swapped_joints(seen, H36M_17, longest_gap=7), swapped)


def test_a_twist_of_half_a_turn_between_shoulders_and_hips_is_undone_although_nothing_jumps() -> None:
    """Of somebody who turns, the legs are exchanged from the frame on in which they coincide."""
    pixels = walker_pixels(turns_per_s=0.5, noise_px=0.0)
    twisted = np.zeros(pixels.shape[:2], dtype=bool)
    twisted[45:, 1:7] = True
    seen = exchange_sides(pixels, twisted, H36M_17)
    found = find_swapped_joints(seen, H36M_17, longest_gap=7)
    wide = np.abs(pixels[:, 11, 0] - pixels[:, 14, 0]) > 30
    assert twisted[wide].any()
    np.testing.assert_array_equal(found[wide], twisted[wide])


@pytest.mark.parametrize(("turns_per_s", "steps_hz"), [(0.0, 1.0), (0.0, 2.0), (0.5, 1.0), (1.5, 1.0), (0.0, 2.5)])
@pytest.mark.parametrize("facing", [0.0, 0.1, 0.25])
def test_who_walks_runs_or_spins_keeps_his_sides(turns_per_s: float, steps_hz: float, facing: float) -> None:
    pixels = walker_pixels(turns_per_s=turns_per_s, steps_hz=steps_hz, facing=facing)
    assert not find_swapped_joints(pixels, H36M_17, longest_gap=7).any()


def test_jitter_of_somebody_seen_almost_from_the_side_exchanges_nothing() -> None:
    """His sides are near to each other, and an exchange for a few frames would fit the jitter better."""
    pixels = walker_pixels(noise_px=5.0, facing=0.1)
    assert not find_swapped_joints(pixels, H36M_17, longest_gap=7).any()


def test_who_turns_while_he_is_not_seen_keeps_his_sides() -> None:
    pixels = walker_pixels(turns_per_s=0.5)
    pixels[6:40] = np.nan
    assert not find_swapped_joints(pixels, H36M_17, longest_gap=7).any()


def test_sides_that_are_exchanged_all_the_time_and_frames_without_limbs_stay() -> None:
    pixels = walker_pixels()
    everywhere = exchange_sides(pixels, np.ones(pixels.shape[:2], dtype=bool), H36M_17)
    assert not find_swapped_joints(everywhere, H36M_17, longest_gap=7).any()
    assert not find_swapped_joints(np.full((5, 17, 2), np.nan), H36M_17, longest_gap=7).any()
    assert not find_swapped_joints(pixels[:1], H36M_17, longest_gap=7).any()


def test_the_head_goes_with_the_arms() -> None:
    """COCO's eyes and ears are left and right too."""
    named = {name: joint for joint, name in enumerate(H36M_17.joints)}
    walk = walker_pixels()
    pixels = np.stack([walk[:, named.get(name, named["Head"])] for name in COCO_17.joints], axis=1)
    swapped = np.zeros(pixels.shape[:2], dtype=bool)
    swapped[20:26, 1:11] = True
    found = find_swapped_joints(exchange_sides(pixels, swapped, COCO_17), COCO_17, longest_gap=7)
    np.testing.assert_array_equal(found, swapped)
