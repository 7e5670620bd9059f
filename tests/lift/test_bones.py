"""Bones of lifted people are drawn to one length: true motion stays, wrong depths come back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.lift.body.bones import hold_bone_lengths
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.walker import walker_clip


@pytest.fixture
def walker_m():
    """A person whose bones keep their lengths, in the frame of a camera that sees him walk."""
    return walker_clip(60).joints_camera_m.astype(float)


def bone_lengths_m(joints_m: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints_m[:, 1:] - joints_m[:, list(H36M_17.parents[1:])], axis=-1)


def test_a_motion_whose_bones_keep_their_lengths_stays(walker_m):
    np.testing.assert_allclose(hold_bone_lengths(walker_m, H36M_17), walker_m, atol=1e-6)


def test_a_foot_at_a_wrong_depth_comes_back_along_its_line_of_sight(walker_m):
    foot, frame = H36M_17.joints.index("RFoot"), 20
    wrong_m = walker_m.copy()
    wrong_m[frame, foot] *= 1 + 0.15 / wrong_m[frame, foot, 2]
    held_m = hold_bone_lengths(wrong_m, H36M_17)
    error_m = np.linalg.norm(held_m - walker_m, axis=-1)[frame]
    assert error_m[foot] < 0.6 * np.linalg.norm(wrong_m - walker_m, axis=-1)[frame, foot]
    assert abs(bone_lengths_m(held_m) - bone_lengths_m(walker_m))[frame].max() < 0.02
    others = np.arange(len(walker_m)) != frame
    np.testing.assert_allclose(held_m[others], walker_m[others], atol=1e-6)


def test_bones_that_vary_are_drawn_to_their_median_and_to_their_mirror_images(walker_m):
    noise_m = np.random.default_rng(0).normal(0, 0.03, walker_m.shape[:2])
    wrong_m = walker_m * (1 + noise_m / walker_m[..., 2])[..., None]
    held_m = hold_bone_lengths(wrong_m, H36M_17)
    before_m, after_m = bone_lengths_m(wrong_m), bone_lengths_m(held_m)
    assert after_m.std(0).max() < 0.4 * before_m.std(0).max()
    means_m = after_m.mean(0)
    mirrored_m = means_m[[H36M_17.mirrored[joint] - 1 for joint in range(1, 17)]]
    np.testing.assert_allclose(means_m, mirrored_m, atol=0.01)
    assert np.linalg.norm(held_m - walker_m, axis=-1).mean() < np.linalg.norm(wrong_m - walker_m, axis=-1).mean()


def test_a_turn_about_the_camera_turns_the_result(walker_m):
    wrong_m = walker_m + np.random.default_rng(1).normal(0, 0.03, walker_m.shape)
    turn = Rotation.from_rotvec([0.4, -0.3, 0.2]).as_matrix()
    np.testing.assert_allclose(
        hold_bone_lengths(wrong_m @ turn, H36M_17), hold_bone_lengths(wrong_m, H36M_17) @ turn, atol=1e-9
    )


def test_frames_that_could_not_be_lifted_stay_so_and_count_for_nothing(walker_m):
    wrong_m = walker_m + np.random.default_rng(2).normal(0, 0.03, walker_m.shape)
    held_m = hold_bone_lengths(wrong_m, H36M_17)
    with_gap_m = np.insert(wrong_m, [10, 10, 30], np.nan, axis=0)
    gap = np.isnan(with_gap_m).all((1, 2))
    found_m = hold_bone_lengths(with_gap_m, H36M_17)
    assert np.isnan(found_m[gap]).all()
    np.testing.assert_allclose(found_m[~gap], held_m)
    nobody_m = np.full((3, 17, 3), np.nan)
    assert np.isnan(hold_bone_lengths(nobody_m, H36M_17)).all()
