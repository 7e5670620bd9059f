"""Where the root is: exact for exact keypoints, little moved by outliers, silent where nothing is known."""

from __future__ import annotations

import numpy as np

from pipeline.lift.scene.root_path import fit_root_path, smooth_depth
from tests.fixtures.walker import camera_at, walker_joints_world_m

CAMERA = camera_at(0.4)
JOINTS_M = CAMERA.camera_from_world.apply(walker_joints_world_m(20))
POSE_M, ROOT_M = JOINTS_M - JOINTS_M[:, :1], JOINTS_M[:, 0]
RAYS = JOINTS_M[..., :2] / JOINTS_M[..., 2:]
CERTAIN = np.ones(RAYS.shape[:2])


def test_exact_keypoints_give_the_exact_path():
    np.testing.assert_allclose(fit_root_path(POSE_M, RAYS, CERTAIN), ROOT_M, atol=1e-9)


def test_a_person_twice_as_large_is_twice_as_far():
    np.testing.assert_allclose(fit_root_path(2 * POSE_M, RAYS, CERTAIN), 2 * ROOT_M, atol=1e-9)


def test_a_wrong_joint_moves_the_path_by_less_than_a_centimetre():
    rays = RAYS.copy()
    rays[:, 16] += 0.3  # an arm's joint a third of the image away
    assert np.abs(fit_root_path(POSE_M, rays, CERTAIN) - ROOT_M).max() < 0.01


def test_joints_without_confidence_or_not_seen_do_not_count():
    rays, confidence = RAYS.copy(), CERTAIN.copy()
    rays[:, 3], rays[:, 6] = np.nan, 5.0
    confidence[:, 6] = 0
    np.testing.assert_allclose(fit_root_path(POSE_M, rays, confidence), ROOT_M, atol=1e-9)


def test_frames_with_fewer_than_two_joints_have_no_place():
    confidence = CERTAIN.copy()
    confidence[4, 1:] = 0
    root_m = fit_root_path(POSE_M, RAYS, confidence)
    assert np.isnan(root_m[4]).all()
    assert np.isfinite(np.delete(root_m, 4, axis=0)).all()
    assert np.isnan(fit_root_path(POSE_M, RAYS, 0 * CERTAIN)).all()


def test_a_person_turned_inside_out_is_not_put_behind_the_camera():
    assert np.isnan(fit_root_path(-POSE_M, RAYS, CERTAIN)).all()


def test_smoothing_changes_the_distance_and_not_the_direction():
    noisy_m = ROOT_M * np.exp(np.random.default_rng(0).normal(0, 0.02, (20, 1)))
    smooth_m = smooth_depth(noisy_m, sigma_frames=3.0)
    np.testing.assert_allclose(smooth_m[:, :2] / smooth_m[:, 2:], noisy_m[:, :2] / noisy_m[:, 2:], atol=1e-12)
    assert np.abs(np.diff(smooth_m[:, 2])).mean() < 0.3 * np.abs(np.diff(noisy_m[:, 2])).mean()


def test_smoothing_does_not_reach_over_frames_without_the_person():
    path_m = np.array([[0, 0, 2.0]] * 5 + [[np.nan] * 3] + [[0, 0, 8.0]] * 5)
    np.testing.assert_allclose(smooth_depth(path_m, sigma_frames=4.0), path_m)
