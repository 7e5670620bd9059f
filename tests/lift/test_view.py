"""The turned view: what it shows is a turn of what the camera shows, and lifting in it undoes the camera's turn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.lift.scene.view import aim_view, turn_pixels
from pipeline.poses.geometry import Camera, project, rays_from_pixels
from tests.fixtures.walker import walker_joints_world_m

LENS = Camera("phone", 1080, 1920, (1500.0, 1500.0), (530.0, 970.0), (-0.1, 0.02, 0.0), (0.001, -0.001))
LEVEL = np.array([0.0, -1.0, 0.0])


def person_camera_m(place_m: tuple[float, float, float], turn_deg: tuple[float, float, float]) -> np.ndarray:
    """A walker before a camera that is turned by these angles about its own x, y and z."""
    walk_m = walker_joints_world_m(30)
    upright_m = (walk_m - walk_m.mean((0, 1))) @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # Z up to y down
    return (
        Rotation.from_euler("xyz", turn_deg, degrees=True)
        .apply((upright_m + place_m).reshape(-1, 3))
        .reshape(walk_m.shape)
    )


@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (10, 0, 0), (0, 15, 0), (0, 0, 26), (-12, 8, -20)])
def test_the_view_of_a_turned_camera_is_that_of_the_level_one(turn_deg: tuple[float, float, float]) -> None:
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True)
    views = []
    for place_m, up, angles in (((0.2, 0.1, 5.0), LEVEL, (0, 0, 0)), ((0.2, 0.1, 5.0), turn.apply(LEVEL), turn_deg)):
        pixels = project(person_camera_m(place_m, angles), LENS)
        view_from_camera = aim_view(pixels, LENS, up)
        np.testing.assert_allclose(view_from_camera @ view_from_camera.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(view_from_camera) == pytest.approx(1.0)
        views.append(turn_pixels(pixels, LENS, view_from_camera)[0])
    np.testing.assert_allclose(views[0], views[1], atol=1e-3)


def test_the_person_is_in_the_middle_and_up_is_up() -> None:
    turn = Rotation.from_euler("xyz", (-15, 12, 25), degrees=True)
    pixels = project(person_camera_m((0.5, -0.3, 5.0), (-15, 12, 25)), LENS)
    turned, view = turn_pixels(pixels, LENS, aim_view(pixels, LENS, turn.apply(LEVEL)))
    np.testing.assert_allclose(turned.mean((0, 1)), [540, 960], atol=5)
    trunk = rays_from_pixels(turned[:, 8], view) - rays_from_pixels(turned[:, 0], view)
    assert np.abs(np.degrees(np.arctan2(trunk[:, 0], -trunk[:, 1]))).mean() < 5


def test_joints_seen_in_the_view_are_the_joints_turned() -> None:
    joints_m = person_camera_m((0.4, 0.2, 4.0), (5, -10, 15))
    pixels = project(joints_m, LENS)
    pixels[3, 4] = np.nan
    view_from_camera = aim_view(pixels, LENS, LEVEL)
    turned, view = turn_pixels(pixels, LENS, view_from_camera)
    expected = project(joints_m @ view_from_camera.T, view)
    expected[3, 4] = np.nan
    np.testing.assert_allclose(turned, expected, atol=1e-3)


def test_a_camera_overhead_and_one_that_saw_nobody_have_a_view() -> None:
    pixels = project(person_camera_m((0.0, 0.0, 4.0), (0, 0, 0)), LENS)
    overhead = aim_view(pixels, LENS, np.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(overhead @ overhead.T, np.eye(3), atol=1e-12)
    assert overhead[0, 0] > 0.99
    np.testing.assert_allclose(aim_view(np.full((2, 17, 2), np.nan), LENS, LEVEL), np.eye(3), atol=1e-12)
