"""What the model sees: independent of the recording's size and lens, with unseen joints at likely places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.input import (
    STANDING_HEIGHT_M,
    InputSettings,
    build_camera,
    encode_keypoints,
    place_unseen_joints,
)
from pipeline.lift.plausibility import find_inside
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17, SKELETONS
from pipeline.system.errors import UserError
from tests.fixtures.walker import camera_at, walker_joints_world_m

CAMERA = camera_at(0.4)
PIXELS = project(CAMERA.camera_from_world.apply(walker_joints_world_m(12)), CAMERA)
SETTINGS = InputSettings(H36M_17, 3, rate_hz=30.0, focal=2.29, max_gap_s=0.25, min_confidence=0.3)
CERTAIN = np.ones(PIXELS.shape[:2])


def test_a_stated_angle_is_that_over_the_longer_side():
    for size in ((1000, 500), (500, 1000)):
        camera, assumed = build_camera(size, fov_deg=90.0)
        assert camera.focal_px == pytest.approx((500, 500))
        assert camera.centre_px == (size[0] / 2, size[1] / 2)
        assert assumed == "lens: a field of view of 90 degrees over the longer side (500 px)"


def test_without_a_lens_a_phones_is_assumed_and_said_so():
    camera, assumed = build_camera((1000, 1000))
    assert camera.focal_px == pytest.approx((500 * 3**0.5,) * 2)
    assert assumed == "lens: a field of view of 60 degrees over the longer side (866 px)"
    assert build_camera((1000, 1000), focal_px=900.0)[1] is None


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        ({"focal_px": 900.0, "fov_deg": 50.0}, "lens: expected a focal length or a field of view, found both"),
        ({"focal_px": -1.0}, "focal length: expected a number of pixels over 0, found -1"),
        ({"fov_deg": 180.0}, "field of view: expected an angle between 0 and 180 degrees, found 180"),
    ],
)
def test_an_impossible_lens_is_refused(lens, message):
    with pytest.raises(UserError, match=message):
        build_camera((1000, 1000), **lens)


def test_another_lens_shows_the_model_the_same():
    wide, _ = build_camera((1000, 1000), focal_px=800.0)
    tele, _ = build_camera((1000, 1000), focal_px=1600.0)
    about_middle = PIXELS - 500
    screens = [
        encode_keypoints(about_middle * factor + 500, CERTAIN, camera, SETTINGS)
        for factor, camera in ((1, wide), (2, tele))
    ]
    np.testing.assert_allclose(*screens, atol=1e-12)
    assert screens[0].shape == (12, 17, 3)


def test_where_the_training_lens_is_not_known_the_screen_is_the_cameras_own():
    camera, _ = build_camera((1000, 500), focal_px=800.0)
    corners = np.zeros((1, 17, 2))
    corners[:, 1:] = [1000.0, 500.0]
    screen = encode_keypoints(corners, np.ones((1, 17)), camera, replace(SETTINGS, focal=None, channels=2))
    np.testing.assert_allclose(screen[0, :2], [[-1, -0.5], [1, 0.5]])


def test_seen_joints_stay_and_unseen_ones_are_put_near_their_place():
    hidden = PIXELS.copy()
    hidden[:, [5, 6, 13]] = np.nan
    placed = place_unseen_joints(hidden, H36M_17)
    seen = np.isfinite(hidden)
    np.testing.assert_array_equal(placed[seen], hidden[seen])
    height_px = PIXELS[:, 3, 1] - PIXELS[:, 10, 1]
    assert (np.linalg.norm(placed - PIXELS, axis=-1).max(1) < 0.3 * height_px).all()


def test_a_missing_root_is_placed_too_and_frames_without_joints_stay_empty():
    hidden = PIXELS.copy()
    hidden[:, 0] = np.nan
    hidden[3] = np.nan
    placed = place_unseen_joints(hidden, H36M_17)
    assert np.isnan(placed[3]).all()
    assert np.isfinite(np.delete(placed, 3, axis=0)).all()


def test_every_joint_has_a_standing_height():
    assert {name for skeleton in SKELETONS.values() for name in skeleton.joints} <= set(STANDING_HEIGHT_M)


def test_a_keypoint_may_lie_a_tenth_of_the_image_outside():
    pixels = np.array([[[-9.0, 5.0], [-11.0, 5.0], [50.0, 221.0], [np.nan, np.nan]]])
    np.testing.assert_array_equal(find_inside(pixels, (100, 200)), [[True, False, False, True]])
