"""Frames in which a detector exchanged left and right are found, and motions that cross are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from pipeline.lift.sides import exchange_sides, find_swapped_frames
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.lifting import WALKER_CAMERA
from tests.fixtures.walker import walker_joints_world_m

FRAMES = 60


def walker_pixels(
    *, turns_per_s: float = 0.0, steps_hz: float = 1.0, noise_px: float = 2.0
) -> Float[np.ndarray, "F 17 2"]:
    """A walker at 30 Hz before the fixed camera, who may turn about himself, as a detector sees him."""
    walk_m = walker_joints_world_m(FRAMES, steps_hz=steps_hz)
    angle = 2 * np.pi * turns_per_s * np.arange(FRAMES) / 30
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    around_m = walk_m - walk_m[:, :1] * [1.0, 1.0, 0.0]
    x, y = around_m[..., 0], around_m[..., 1]
    walk_m = np.stack([cosine * x - sine * y, sine * x + cosine * y, around_m[..., 2]], -1)
    pixels = project(WALKER_CAMERA.camera_from_world.apply(walk_m), WALKER_CAMERA)
    return pixels + np.random.default_rng(0).normal(0, noise_px, pixels.shape)


@pytest.mark.parametrize("turns_per_s", [0.0, 0.25])
def test_exchanged_frames_are_found_and_exchanging_them_gives_the_keypoints_back(turns_per_s: float) -> None:
    pixels = walker_pixels(turns_per_s=turns_per_s)
    wide = np.abs(pixels[:, 11, 0] - pixels[:, 14, 0]) > 30  # from the side an exchange shows in nothing
    swapped = np.zeros(FRAMES, dtype=bool)
    swapped[[*range(8, 14), *range(30, 32), *range(44, 60)]] = True
    found = find_swapped_frames(exchange_sides(pixels, swapped, H36M_17), H36M_17)
    assert (found == swapped)[wide].mean() > 0.95
    if turns_per_s == 0:
        np.testing.assert_array_equal(found, swapped)
        again = exchange_sides(exchange_sides(pixels, swapped, H36M_17), found, H36M_17)
        np.testing.assert_array_equal(again, pixels)


@pytest.mark.parametrize(("turns_per_s", "steps_hz"), [(0.0, 1.0), (0.0, 2.0), (0.5, 1.0), (1.5, 1.0)])
def test_who_walks_runs_or_spins_keeps_his_sides(turns_per_s: float, steps_hz: float) -> None:
    assert not find_swapped_frames(walker_pixels(turns_per_s=turns_per_s, steps_hz=steps_hz), H36M_17).any()


def test_sides_that_are_exchanged_all_the_time_and_frames_without_limbs_stay() -> None:
    pixels = walker_pixels()
    everywhere = exchange_sides(pixels, np.ones(FRAMES, dtype=bool), H36M_17)
    assert not find_swapped_frames(everywhere, H36M_17).any()
    pixels[20:25, 13] = np.nan
    assert not find_swapped_frames(pixels, H36M_17).any()
    assert not find_swapped_frames(np.full((5, 17, 2), np.nan), H36M_17).any()
    assert not find_swapped_frames(pixels[:2], H36M_17).any()
