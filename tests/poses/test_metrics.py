"""Golden numbers of the public metric code, invariances, a second way to compute, and closed-form averages."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.poses import metrics
from pipeline.system.errors import UserError

MIRROR = np.array([-1.0, 1.0, 1.0])
seeds = st.integers(0, 2**32 - 1)


def golden_poses_m():
    steps = np.arange(3 * 17 * 3).reshape(3, 17, 3)
    target_m = np.sin(0.37 * steps)
    return 0.9 * target_m + 0.05 * np.cos(0.91 * steps), target_m


def random_poses_m(seed, frames=4, joints=17):
    return tuple(np.random.default_rng(seed).normal(size=(2, frames, joints, 3)))


def random_rotation(seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def p_mpjpe_mm_of_one_frame(predicted_m, target_m):
    """Kabsch's form with an explicit search: of the two candidate orthogonal matrices keep the proper rotation."""
    predicted, target = predicted_m - predicted_m.mean(axis=0), target_m - target_m.mean(axis=0)
    covariance = sum(np.outer(a, b) for a, b in zip(predicted, target, strict=True))
    u, _, vt = np.linalg.svd(covariance)
    candidates = [u @ np.diag([1.0, 1.0, sign]) @ vt for sign in (1.0, -1.0)]
    (rotation,) = [candidate for candidate in candidates if np.linalg.det(candidate) > 0]
    turned = predicted @ rotation
    scale = np.sum(turned * target) / np.sum(turned * turned)
    return 1000.0 * np.mean([np.linalg.norm(a - b) for a, b in zip(scale * turned, target, strict=True)])


@pytest.mark.parametrize(
    ("function", "expected_m"),
    [
        (metrics.mpjpe_mm, 0.1258828175476434),
        (metrics.p_mpjpe_mm, 0.0677373222788353),
        (metrics.n_mpjpe_mm, 0.0679840897924915),
        (metrics.mpjve_mm, 0.1152535727278719),
    ],
)
def test_mean_over_frames_is_the_golden_number_of_the_public_code(function, expected_m):
    assert function(*golden_poses_m()).mean() == pytest.approx(1000.0 * expected_m, rel=1e-13)


def test_errors_of_the_golden_poses_give_the_golden_mean_pck_and_auc():
    errors_mm = metrics.joint_errors_mm(*golden_poses_m())
    assert errors_mm.mean() == pytest.approx(125.8828175476439, abs=1e-11)
    assert metrics.pck(errors_mm[:, :14]) == pytest.approx(66.66666666666666, abs=1e-12)
    assert metrics.auc(errors_mm[:, :14]) == pytest.approx(24.88479262672811, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=seeds)
def test_p_mpjpe_equals_a_loop_over_frames(seed):
    predicted_m, target_m = random_poses_m(seed)
    one_by_one_mm = [p_mpjpe_mm_of_one_frame(*frame) for frame in zip(predicted_m, target_m, strict=True)]
    np.testing.assert_allclose(metrics.p_mpjpe_mm(predicted_m, target_m), one_by_one_mm, rtol=1e-9)


@settings(deadline=None, max_examples=50)
@given(seed=seeds, scale=st.floats(0.01, 100.0), shift_m=st.floats(-10.0, 10.0))
def test_p_mpjpe_ignores_rotation_scale_and_shift(seed, scale, shift_m):
    predicted_m, target_m = random_poses_m(seed)
    moved_m = scale * predicted_m @ random_rotation(seed) + shift_m * np.array([1.0, -2.0, 0.5])
    before_mm, after_mm = (metrics.p_mpjpe_mm(pose_m, target_m) for pose_m in (predicted_m, moved_m))
    np.testing.assert_allclose(after_mm, before_mm, rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(seed=seeds, scale=st.floats(0.01, 100.0), shift_m=st.floats(-10.0, 10.0))
def test_alignment_brings_a_moved_target_back(seed, scale, shift_m):
    _, target_m = random_poses_m(seed)
    moved_m = scale * target_m @ random_rotation(seed) + shift_m
    np.testing.assert_allclose(metrics.align_similarity(moved_m, target_m), target_m, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(seed=seeds)
def test_alignment_has_less_squared_error_than_any_other_similarity_transform(seed):
    predicted_m, target_m = random_poses_m(seed)
    generator = np.random.default_rng(seed)
    other_m = generator.uniform(0.0, 2.0) * predicted_m @ random_rotation(seed) + generator.normal(size=3)
    aligned_m = metrics.align_similarity(predicted_m, target_m)
    for candidate_m in (predicted_m, other_m, 1.01 * aligned_m, aligned_m + 0.01):
        squares = [((pose_m - target_m) ** 2).sum(axis=(1, 2)) for pose_m in (aligned_m, candidate_m)]
        assert (squares[0] < squares[1]).all()


def test_p_mpjpe_does_not_align_a_mirrored_pose():
    _, target_m = random_poses_m(0)  # the golden poses are flat: their mirror image is a rotation
    assert (metrics.p_mpjpe_mm(MIRROR * target_m, target_m) > 100.0).all()


def test_alignment_of_a_flat_pose_is_exact_because_its_mirror_image_is_a_rotation():
    _, target_m = random_poses_m(0)
    flat_m = target_m * np.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(metrics.p_mpjpe_mm(MIRROR * flat_m, flat_m), 0.0, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(seed=seeds, scale=st.floats(0.01, 100.0) | st.floats(-100.0, -0.01))
def test_n_mpjpe_ignores_scale(seed, scale):
    predicted_m, target_m = random_poses_m(seed)
    before_mm, after_mm = (metrics.n_mpjpe_mm(pose_m, target_m) for pose_m in (predicted_m, scale * predicted_m))
    np.testing.assert_allclose(after_mm, before_mm, rtol=1e-9)


def test_n_mpjpe_does_not_ignore_a_shift():
    _, target_m = golden_poses_m()
    assert (metrics.n_mpjpe_mm(target_m + np.array([1.0, 0.0, 0.0]), target_m) > 100.0).all()


@settings(deadline=None, max_examples=50)
@given(seed=seeds)
def test_a_shift_of_a_true_pose_is_its_mpjpe_and_no_velocity_error(seed):
    _, target_m = random_poses_m(seed)
    shifted_m = target_m + np.array([0.3, 0.0, -0.4])
    np.testing.assert_allclose(metrics.mpjpe_mm(shifted_m, target_m), 500.0, rtol=1e-12)
    np.testing.assert_allclose(metrics.mpjve_mm(shifted_m, target_m), 0.0, atol=1e-9)


def test_mpjpe_counts_the_root_joint_in_its_mean():
    target_m = np.zeros((2, 4, 3))
    predicted_m = target_m.copy()
    predicted_m[1, 2] = [0.0, 0.3, 0.4]
    np.testing.assert_allclose(metrics.mpjpe_mm(predicted_m, target_m), [0.0, 500.0 / 4])


def test_velocity_error_of_a_steady_drift_is_the_drift_per_frame():
    target_m = np.zeros((5, 3, 3))
    predicted_m = target_m + 0.01 * np.arange(5.0)[:, None, None] * np.array([0.6, 0.0, 0.8])
    np.testing.assert_allclose(metrics.mpjve_mm(predicted_m, target_m), [10.0] * 4)


def test_float32_poses_are_scored_in_float64():
    predicted_m, target_m = (pose_m.astype(np.float32) for pose_m in golden_poses_m())
    for function in (metrics.mpjpe_mm, metrics.p_mpjpe_mm, metrics.n_mpjpe_mm, metrics.mpjve_mm):
        from_float32_mm = function(predicted_m, target_m)
        assert from_float32_mm.dtype == np.float64
        np.testing.assert_array_equal(
            from_float32_mm, function(predicted_m.astype(np.float64), target_m.astype(np.float64))
        )


def test_arguments_are_left_as_they_were():
    poses_m = golden_poses_m()
    metrics.clip_scores(*poses_m, pck_joints=range(14))
    for pose_m, fresh_m in zip(poses_m, golden_poses_m(), strict=True):
        np.testing.assert_array_equal(pose_m, fresh_m)


@pytest.mark.parametrize("point_m", [0.0, 0.1])
@pytest.mark.parametrize("name", ["prediction", "target"])
def test_a_pose_at_one_point_has_no_alignment(name, point_m):
    predicted_m, target_m = golden_poses_m()
    (predicted_m if name == "prediction" else target_m)[1] = point_m
    with pytest.raises(UserError, match=f"frame 1: all joints of the {name} are at one point"):
        metrics.p_mpjpe_mm(predicted_m, target_m)


def test_a_zero_prediction_has_no_scale():
    predicted_m, target_m = golden_poses_m()
    predicted_m[2] = 0.0
    with pytest.raises(UserError, match="frame 2: the prediction is zero for every joint"):
        metrics.n_mpjpe_mm(predicted_m, target_m)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["prediction", "target"])
def test_a_pose_that_is_not_finite_is_refused_by_frame(name, value):
    predicted_m, target_m = golden_poses_m()
    (predicted_m if name == "prediction" else target_m)[1, 5, 2] = value
    for function in (metrics.mpjpe_mm, metrics.p_mpjpe_mm, metrics.n_mpjpe_mm, metrics.mpjve_mm):
        with pytest.raises(UserError, match=f"frame 1: the {name} is not finite"):
            function(predicted_m, target_m)


@pytest.mark.usefixtures("unchecked_shapes")
def test_poses_of_two_shapes_are_not_broadcast():
    predicted_m, target_m = golden_poses_m()
    with pytest.raises(ValueError, match=r"found \(3, 17, 3\) and \(1, 17, 3\)"):
        metrics.mpjpe_mm(predicted_m, target_m[:1])
    with pytest.raises(ValueError, match=r"found \(1, 17, 3\) and \(3, 17, 3\)"):
        metrics.mpjpe_mm(predicted_m[:1], target_m)


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match=r"not empty, found \(0, 17, 3\) and \(0, 17, 3\)"):
        metrics.mpjpe_mm(np.zeros((0, 17, 3)), np.zeros((0, 17, 3)))


def test_pck_does_not_count_an_error_of_exactly_the_threshold():
    errors_mm = np.array([[150.0, np.nextafter(150.0, 0.0), 0.0, 200.0]])
    assert metrics.pck(errors_mm) == 50.0
    assert metrics.pck(errors_mm, threshold_mm=201.0) == 100.0


def test_auc_has_31_thresholds_of_which_zero_is_never_met():
    assert metrics.AUC_THRESHOLDS_MM[0] == 0.0
    assert metrics.AUC_THRESHOLDS_MM[-1] == 150.0
    assert metrics.auc(np.zeros((2, 14))) == pytest.approx(100.0 * 30 / 31)
    assert metrics.auc(np.full((2, 14), 75.0)) == pytest.approx(100.0 * 15 / 31)  # 80, 85, ..., 150


@pytest.mark.parametrize("errors_mm", [np.zeros((0, 14)), np.array([[1.0, np.nan]])])
def test_pck_refuses_errors_it_cannot_count(errors_mm):
    for function in (metrics.pck, metrics.auc):
        with pytest.raises(ValueError, match="expected errors, none of them NaN; found shape"):
            function(errors_mm)


def scores(mpjpe_total, frames, mpjve_total=0.0, mpjve_frames=None):
    return {
        "mpjpe_mm": metrics.Score(mpjpe_total, frames),
        "mpjve_mm": metrics.Score(mpjve_total, frames if mpjve_frames is None else mpjve_frames),
    }


def drifting_clip(frames, offset_mm, drift_mm):
    """A true pose and a prediction that is off by `offset_mm` at first and by `drift_mm` more with every frame."""
    target_m = np.random.default_rng(frames).normal(size=(frames, 17, 3))
    error_m = (offset_mm + drift_mm * np.arange(frames)) / 1000.0
    return target_m + error_m[:, None, None] * np.array([0.0, 0.6, 0.8]), target_m


def test_clip_scores_are_sums_over_frames():
    predicted_m, target_m = golden_poses_m()
    clip = metrics.clip_scores(predicted_m, target_m, pck_joints=range(14))
    for metric in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm"):
        assert clip[metric].frames == 3
        assert clip[metric].total == pytest.approx(getattr(metrics, metric)(predicted_m, target_m).sum())
    assert clip["pck150"].mean == pytest.approx(66.66666666666666)
    assert clip["auc"].mean == pytest.approx(24.88479262672811)
    assert metrics.clip_scores(predicted_m, target_m).keys() == clip.keys() - {"pck150", "auc"}


def test_a_clip_whose_joints_are_not_all_named_is_refused():
    with pytest.raises(ValueError, match="is longer than"):
        metrics.clip_scores(*golden_poses_m(), joint_names=["root"])


def test_a_score_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        metrics.Score(1.0, 2).total = 3.0


def test_velocity_error_counts_with_all_frames_of_its_clip():
    long, short = (metrics.clip_scores(*drifting_clip(frames, 5.0, drift)) for frames, drift in ((6, 1.0), (2, 9.0)))
    assert long["mpjve_mm"].frames == 6
    assert metrics.average_over_frames([long, short])["mpjve_mm"] == pytest.approx(
        (6 * 1.0 + 2 * 9.0) / 8
    )  # not (5 + 9) / 6


def test_a_clip_of_one_frame_has_errors_but_no_velocity():
    predicted_m, target_m = drifting_clip(1, 5.0, 0.0)
    assert metrics.mpjve_mm(predicted_m, target_m).shape == (0,)
    single, long = metrics.clip_scores(predicted_m, target_m), metrics.clip_scores(*drifting_clip(6, 5.0, 1.0))
    assert single["mpjpe_mm"].mean == pytest.approx(5.0)
    assert single["mpjve_mm"].mean is None
    assert metrics.average_over_frames([single, long])["mpjve_mm"] == pytest.approx(1.0)
    assert metrics.average_over_frames([single])["mpjve_mm"] is None


def test_actions_count_alike_and_frames_count_alike_within_an_action():
    clips = [scores(10.0 * 1, 1), scores(40.0 * 3, 3), scores(5.0 * 2, 2)]
    result = metrics.average_over_actions(clips, ["Walking", "Walking", "Eating"])
    walking_mm, eating_mm = (10.0 + 120.0) / 4, 5.0
    assert list(result["per_action"]) == ["Eating", "Walking"]
    assert result["per_action"]["Walking"]["mpjpe_mm"] == walking_mm
    assert result["per_action"]["Eating"]["mpjpe_mm"] == eating_mm
    assert result["mpjpe_mm"] == (walking_mm + eating_mm) / 2
    assert metrics.average_over_frames(clips)["mpjpe_mm"] == 140.0 / 6


def test_an_action_without_a_velocity_is_left_out_of_the_mean_velocity_only():
    clips = [scores(10.0, 1, 0.0, 0), scores(60.0, 3, 6.0, 3)]
    result = metrics.average_over_actions(clips, ["Eating", "Walking"])
    assert result["per_action"]["Eating"]["mpjve_mm"] is None
    assert result["mpjve_mm"] == 2.0
    assert result["mpjpe_mm"] == 15.0
    assert metrics.average_over_actions(clips[:1], ["Eating"])["mpjve_mm"] is None


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(
        st.tuples(st.floats(0, 1e4), st.integers(1, 99), st.sampled_from("abc"), st.sampled_from("xy")),
        min_size=1, max_size=12,
    ),
    random=st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_clips_does_not_change_a_digit(rows, random):
    def summary(rows):
        clips = [scores(total, frames, total / 7, frames) for total, frames, _, _ in rows]
        actions, subjects = [row[2] for row in rows], [row[3] for row in rows]
        return (
            metrics.average_over_actions(clips, actions),
            metrics.pool_by_key(clips, subjects),
            metrics.average_over_frames(clips),
        )

    assert summary(random.sample(rows, len(rows))) == summary(rows)


def test_a_group_without_any_error_counts_in_the_average():
    assert metrics.average_over_groups({"a": {"mpjpe_mm": 0.0}, "b": {"mpjpe_mm": 8.0}}) == {"mpjpe_mm": 4.0}


def test_pooling_refuses_keys_that_do_not_fit_the_clips():
    with pytest.raises(ValueError, match="one key per clip and at least one clip, found 2 keys, 1 clips"):
        metrics.pool_by_key([scores(1.0, 1)], ["a", "b"])
    with pytest.raises(ValueError, match="one key per clip and at least one clip, found 1 keys, 2 clips"):
        metrics.pool_by_key([scores(1.0, 1), scores(2.0, 1)], ["a"])
    with pytest.raises(ValueError, match="at least one clip, found 0 keys, 0 clips"):
        metrics.average_over_actions([], [])


def test_pooling_refuses_clips_with_different_metrics():
    with pytest.raises(ValueError, match="expected the same metrics for every clip"):
        metrics.pool_by_key([scores(1.0, 1), {"mpjpe_mm": metrics.Score(1.0, 1)}], ["a", "a"])


def test_an_average_needs_a_group():
    with pytest.raises(ValueError, match="at least one group, found none"):
        metrics.average_over_groups({})
