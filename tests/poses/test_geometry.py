"""Cameras agree with Human3.6M's published calibration, with closed forms, and with themselves backwards."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.mocap.lenses import LENSES
from pipeline.poses.geometry import (
    Camera,
    RigidTransform,
    camera_from_world_looking_at,
    frames_in_view,
    pixels_from_screen,
    project,
    rays_from_pixels,
    rotation_from_quaternion,
    rotation_looking_along,
    screen_from_pixels,
)
from pipeline.prepare_data.licensed.human36m_files import LABELLED, cameras_of
from pipeline.system.errors import UserError
from tests.fixtures.golden_human36m import GOLDEN, POINT_A, POINT_B

PINHOLE = Camera("pinhole", width_px=1000, height_px=800, focal_px=(1100.0, 1200.0), centre_px=(510.0, 390.0))
COORDINATE = st.floats(-10, 10)
POINT = st.tuples(COORDINATE, COORDINATE, COORDINATE).map(np.array)

A_WORLD_M = np.array(POINT_A)
B_WORLD_M = np.array(POINT_B)


@pytest.mark.parametrize(("subject", "name", "a_camera_m", "a_px", "a_screen", "b_px"), GOLDEN)
def test_points_land_where_the_published_calibration_puts_them(subject, name, a_camera_m, a_px, a_screen, b_px):
    camera = next(camera for camera in cameras_of(subject) if camera.name == name)
    joints_camera_m = camera.camera_from_world.apply(np.stack([A_WORLD_M, B_WORLD_M]))
    pixels = project(joints_camera_m, camera)
    np.testing.assert_allclose(joints_camera_m[0], a_camera_m, atol=1e-5)
    np.testing.assert_allclose(pixels, [a_px, b_px], rtol=0, atol=0.002)
    np.testing.assert_allclose(screen_from_pixels(pixels[0], camera), a_screen, rtol=0, atol=1e-5)


def test_each_subject_with_published_cameras_has_all_four_upright_and_metres_away():
    assert set(LABELLED) == {"S1", "S5", "S6", "S7", "S8", "S9", "S11"}
    for subject in LABELLED:
        cameras = cameras_of(subject)
        assert [camera.name for camera in cameras] == [lens.name for lens in LENSES]
        for camera in cameras:
            rotation = camera.camera_from_world.rotation
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
            position_m = camera.camera_from_world.inverse().translation_m
            assert 3.5 < np.hypot(*position_m[:2]) < 6
            assert 1.4 < position_m[2] < 1.7
            assert rotation[1, 2] < -0.95  # the camera's y axis points down


def test_a_subject_without_published_cameras_is_refused():
    with pytest.raises(UserError, match=r"expected a subject of S1, S5, .*, found 'S2'"):
        cameras_of("S2")


def test_a_pinhole_projects_by_similar_triangles():
    points_m = np.array([[0.0, 0.0, 2.0], [1.0, -0.5, 4.0]])
    expected = [[510.0, 390.0], [510 + 1100 / 4, 390 - 1200 / 8]]
    np.testing.assert_allclose(project(points_m, PINHOLE), expected)


def test_lens_distortion_follows_the_formula_of_human36m():
    camera = replace(PINHOLE, radial=(-0.2, 0.25, -0.01), tangential=(-0.001, 0.002))
    a, b = 0.3, -0.4
    r2 = a * a + b * b
    scale = 1 - 0.2 * r2 + 0.25 * r2**2 - 0.01 * r2**3 - 0.001 * a + 0.002 * b
    expected = [1100 * (a * scale - 0.001 * r2) + 510, 1200 * (b * scale + 0.002 * r2) + 390]
    np.testing.assert_allclose(project(np.array([2 * a, 2 * b, 2.0]), camera), expected)


@settings(deadline=None)
@given(point=POINT, distance=st.floats(0.1, 10))
def test_all_points_of_a_ray_have_one_pixel(point, distance):
    ray = np.array([point[0], point[1], 10.0])
    np.testing.assert_allclose(project(ray * distance, LENSES[0]), project(ray, LENSES[0]), rtol=1e-9)


def test_projection_keeps_the_type_of_its_numbers():
    for dtype in (np.float32, np.float64):
        joints_camera_m = np.array([[0.1, 0.2, 3.0]], dtype=dtype)
        pixels = project(joints_camera_m, LENSES[0])
        assert pixels.dtype == screen_from_pixels(pixels, LENSES[0]).dtype == dtype


@pytest.mark.parametrize("z", [0.0, -1.0, np.nan])
def test_a_point_that_is_not_in_front_of_the_camera_is_refused(z):
    with pytest.raises(UserError, match="camera pinhole: expected points in front of it, found z = "):
        project(np.array([[0.0, 0.0, 2.0], [0.0, 0.0, z]]), PINHOLE)


@pytest.mark.parametrize("missing", ["focal_px", "centre_px"])
def test_a_camera_of_unknown_lens_does_not_project(missing):
    with pytest.raises(UserError, match="camera pinhole: expected a focal length to project with, found none"):
        project(np.array([[0.0, 0.0, 2.0]]), replace(PINHOLE, **{missing: None}))


def test_a_frame_is_in_view_when_every_joint_is_inside_the_image():
    centre, left, right = (0.0, 0.0, 1.0), (-509 / 1100, 0.0, 1.0), (489 / 1100, 0.0, 1.0)
    beyond_left, beyond_right = (-511 / 1100, 0.0, 1.0), (491 / 1100, 0.0, 1.0)
    above, below, behind = (0.0, -391 / 1200, 1.0), (0.0, 411 / 1200, 1.0), (0.0, 0.0, -0.5)
    beside_the_camera = (0.0, 0.0, 0.0)
    others = [centre, left, right, beyond_left, beyond_right, above, below, behind, beside_the_camera]
    frames = np.array([[centre, other] for other in others])
    assert frames_in_view(frames, PINHOLE).tolist() == [True, True, True, False, False, False, False, False, False]
    assert frames_in_view(frames[-1:], PINHOLE).tolist() == [False]


def test_the_image_contains_its_first_pixel_and_not_the_one_after_the_last():
    camera = Camera("unit", width_px=4, height_px=2, focal_px=(1.0, 1.0), centre_px=(0.0, 0.0))
    corners = np.array([[[0.0, 0.0, 1.0]], [[4.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]])
    assert frames_in_view(corners, camera).tolist() == [True, False, False]


@settings(deadline=None)
@given(pixels=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)).map(np.array))
def test_screen_and_back_gives_the_pixels(pixels):
    np.testing.assert_allclose(pixels_from_screen(screen_from_pixels(pixels, PINHOLE), PINHOLE), pixels, atol=1e-9)


def test_the_screen_is_centred_and_keeps_the_aspect():
    corners = np.array([[0.0, 0.0], [1000.0, 800.0], [500.0, 400.0]])
    np.testing.assert_allclose(screen_from_pixels(corners, PINHOLE), [[-1, -0.8], [1, 0.8], [0, 0]], atol=1e-15)


@settings(deadline=None)
@given(quaternion=st.tuples(*[st.floats(-1, 1)] * 4).map(np.array), point=POINT)
def test_a_quaternion_turns_a_point_as_the_quaternion_product_does(quaternion, point):
    length = np.linalg.norm(quaternion)
    if length < 1e-3:
        return
    w, vector = quaternion[0] / length, quaternion[1:] / length
    turned = point + 2 * (w * np.cross(vector, point) + np.cross(vector, np.cross(vector, point)))
    np.testing.assert_allclose(rotation_from_quaternion(quaternion) @ point, turned, atol=1e-12)


@settings(deadline=None)
@given(quaternion=st.tuples(*[st.floats(0.1, 1)] * 4).map(np.array), translation=POINT, point=POINT)
def test_a_transform_and_its_inverse_cancel(quaternion, translation, point):
    transform = RigidTransform(rotation_from_quaternion(quaternion), translation)
    np.testing.assert_allclose(transform.inverse().apply(transform.apply(point)), point, atol=1e-12)
    np.testing.assert_allclose(transform.apply(transform.inverse().apply(point)), point, atol=1e-12)


@given(point=POINT)
def test_a_transform_that_is_not_told_otherwise_leaves_points_where_they_are(point):
    np.testing.assert_array_equal(RigidTransform().apply(point), point)
    np.testing.assert_array_equal(PINHOLE.camera_from_world.apply(point), point)


def test_a_camera_and_its_place_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PINHOLE.width_px = 1
    with pytest.raises(FrozenInstanceError):
        RigidTransform().translation_m = np.ones(3)


def test_a_transform_turns_and_then_shifts():
    quarter_turn_about_z = rotation_from_quaternion(np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]))
    transform = RigidTransform(quarter_turn_about_z, np.array([0.0, 0.0, 5.0]))
    np.testing.assert_allclose(transform.apply(np.array([[1.0, 0.0, 0.0]])), [[0.0, 1.0, 5.0]], atol=1e-15)


@settings(deadline=None)
@given(position=POINT, target=POINT)
def test_a_camera_that_looks_at_a_point_has_it_on_its_axis_and_the_world_upright(position, target):
    if np.hypot(*(target - position)[:2]) < 0.01:
        return
    camera_from_world = camera_from_world_looking_at(position, target)
    distance = np.linalg.norm(target - position)
    np.testing.assert_allclose(camera_from_world.apply(position), np.zeros(3), atol=1e-9)
    np.testing.assert_allclose(camera_from_world.apply(target), [0, 0, distance], atol=1e-9)
    assert np.linalg.det(camera_from_world.rotation) == pytest.approx(1)
    up_camera = camera_from_world.rotation @ [0, 0, 1]
    assert up_camera[0] == pytest.approx(0, abs=1e-12)
    assert up_camera[1] < 0


@pytest.mark.parametrize("distance_m", [1e-3, 1.0, 1e3])
def test_a_camera_is_upright_at_any_distance(distance_m):
    camera_from_world = camera_from_world_looking_at(np.zeros(3), distance_m * np.array([0.0, 1.0, 0.5]))
    np.testing.assert_allclose(camera_from_world.rotation[0], [1.0, 0.0, 0.0], atol=1e-15)


@pytest.mark.parametrize("target", [(1.0, 2.0, 9.0), (1.0, 2.0, 3.0)])
def test_a_camera_that_looks_straight_up_or_nowhere_is_refused(target):
    with pytest.raises(ValueError, match="has a vertical or no axis"):
        camera_from_world_looking_at(np.array([1.0, 2.0, 3.0]), np.array(target))


def test_cameras_along_several_directions_are_upright_and_each_looks_along_its_own():
    forward = torch.tensor([[3.0, 4.0, 0.0], [0.0, -2.0, 1.0], [1.0, 0.0, -5.0]], dtype=torch.float64)
    rotations = rotation_looking_along(forward)
    lengths = torch.linalg.vector_norm(forward, dim=1)
    ahead = torch.stack([torch.zeros_like(lengths), torch.zeros_like(lengths), lengths], -1)
    torch.testing.assert_close((rotations @ forward[..., None])[..., 0], ahead)
    identity = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, identity)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(3, dtype=torch.float64))
    assert not rotations[:, 0, 2].any()  # the camera's right is level
    assert (rotations[:, 1, 2] < 0).all()  # its down points down


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.name)
def test_a_ray_leads_back_to_its_pixel_through_lens_distortion(lens):
    inside = np.stack(np.meshgrid(np.linspace(0, 1000, 11), np.linspace(0, 1000, 11)), -1)
    rays = rays_from_pixels(inside, lens)
    points_m = np.concatenate([rays, np.ones((11, 11, 1))], -1)
    np.testing.assert_allclose(project(points_m, lens), inside, atol=1e-6)


def test_a_camera_without_a_known_lens_has_no_rays():
    with pytest.raises(ValueError, match="camera x: expected a focal length, found none"):
        rays_from_pixels(np.zeros((1, 2)), Camera("x", 100, 100))
