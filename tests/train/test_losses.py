"""The losses agree with the metrics and with closed forms, and their gradients are finite and right."""

from __future__ import annotations

import pytest
import torch

from pipeline.poses import metrics
from pipeline.poses.skeleton import H36M_17
from pipeline.train import losses

FLOAT32_RTOL = 1e-6


def random_windows_m(dtype=torch.float32, shape=(2, 5, 4, 3)):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


def test_mpjpe_agrees_with_the_metric():
    predicted_m, target_m = random_windows_m()
    frames = [windows.flatten(0, 1).numpy() for windows in (predicted_m, target_m)]
    expected_m = metrics.mpjpe_mm(*frames).mean() / 1000.0
    assert losses.mpjpe(predicted_m, target_m).item() == pytest.approx(expected_m, rel=FLOAT32_RTOL)


def test_frame_weights_choose_the_frames_of_the_mean():
    predicted_m, target_m = random_windows_m()
    mask = torch.tensor([[True, False, True, True, False], [False, False, True, False, False]])
    expected_m = torch.linalg.vector_norm(predicted_m[mask] - target_m[mask], dim=-1).mean()
    torch.testing.assert_close(losses.mpjpe(predicted_m, target_m, frame_weights=mask), expected_m)
    torch.testing.assert_close(losses.mpjpe(predicted_m, target_m, frame_weights=0.5 * mask.float()), expected_m)


def test_a_frame_of_weight_zero_has_no_gradient():
    predicted_m, target_m = random_windows_m()
    predicted_m.requires_grad_()
    mask = torch.ones(2, 5)
    mask[1, 3] = 0.0
    losses.mpjpe(predicted_m, target_m, frame_weights=mask).backward()
    assert predicted_m.grad is not None
    assert not predicted_m.grad[1, 3].any()
    assert (torch.linalg.vector_norm(predicted_m.grad, dim=-1) > 0).sum() == 9 * 4


def test_the_gradient_at_no_error_is_zero():
    _, target_m = random_windows_m()
    predicted_m = target_m.clone().requires_grad_()
    losses.mpjpe(predicted_m, target_m).backward()
    assert predicted_m.grad is not None
    assert torch.equal(predicted_m.grad, torch.zeros_like(target_m))


def test_the_gradient_is_that_of_finite_differences():
    predicted_m, target_m = random_windows_m(torch.float64)
    assert torch.autograd.gradcheck(lambda windows_m: losses.mpjpe(windows_m, target_m), predicted_m.requires_grad_())


def test_bones_go_from_each_joint_to_its_parent_and_do_not_see_where_the_person_is():
    poses_m, _ = random_windows_m(torch.float64, shape=(2, 5, 17, 3))
    bones_m = losses.bone_vectors(poses_m, H36M_17)
    torch.testing.assert_close(losses.bone_vectors(poses_m + torch.tensor([1.0, 2.0, 3.0]), H36M_17), bones_m)
    wrist_m = sum(bones_m[:, :, joint - 1] for joint in (7, 8, 14, 15, 16))  # from the root along spine and right arm
    torch.testing.assert_close(wrist_m, poses_m[:, :, 16] - poses_m[:, :, 0])


def test_a_turned_upper_arm_is_one_wrong_bone_and_three_wrong_joints():
    poses_m, _ = random_windows_m(torch.float64, shape=(1, 1, 17, 3))
    moved_m = poses_m.clone()
    moved_m[:, :, 14:17] += torch.tensor([0.3, 0.0, 0.4])
    bones_m = [losses.bone_vectors(values_m, H36M_17) for values_m in (moved_m, poses_m)]
    assert losses.mpjpe(*bones_m).item() == pytest.approx(0.5 / 16)
    assert losses.mpjpe(moved_m, poses_m).item() == pytest.approx(3 * 0.5 / 17)


@pytest.mark.usefixtures("unchecked_shapes")
def test_windows_of_two_shapes_are_not_broadcast():
    predicted_m, target_m = random_windows_m()
    with pytest.raises(ValueError, match=r"found \(2, 5, 4, 3\) and \(1, 5, 4, 3\)"):
        losses.mpjpe(predicted_m, target_m[:1])


def test_a_batch_of_no_windows_is_refused():
    windows_m = torch.zeros(0, 5, 4, 3)
    with pytest.raises(ValueError, match="expected windows of one shape, not empty"):
        losses.mpjpe(windows_m, windows_m)


@pytest.mark.usefixtures("unchecked_shapes")
def test_weights_of_another_shape_are_not_broadcast():
    predicted_m, target_m = random_windows_m()
    with pytest.raises(ValueError, match=r"frame weights of shape \(2, 5\), found \(1, 5\)"):
        losses.mpjpe(predicted_m, target_m, frame_weights=torch.ones(1, 5))


def test_the_mean_over_no_frames_is_nan_and_never_a_number():
    predicted_m, target_m = random_windows_m()
    assert losses.mpjpe(predicted_m, target_m, frame_weights=torch.zeros(2, 5, dtype=torch.bool)).isnan()
