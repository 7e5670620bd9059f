"""The losses agree with the metrics and with closed forms, and their gradients are finite and right."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch

from pipeline.poses import metrics
from pipeline.train import losses

FLOAT32_RTOL = 1e-6


@pytest.fixture
def unchecked_shapes():
    """Shape annotations off, as they are outside the tests, so that the functions' own checks are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def random_windows_m(dtype=torch.float32, shape=(2, 5, 4, 3)):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


def test_mpjpe_agrees_with_the_metric():
    predicted_m, target_m = random_windows_m()
    frames = [windows.flatten(0, 1).numpy() for windows in (predicted_m, target_m)]
    expected_m = metrics.mpjpe_mm(*frames).mean() / 1000.0
    assert losses.mpjpe(predicted_m, target_m).item() == pytest.approx(expected_m, rel=FLOAT32_RTOL)


def test_velocity_agrees_with_the_metric_window_by_window():
    predicted_m, target_m = random_windows_m()
    windows = zip(predicted_m.numpy(), target_m.numpy(), strict=True)
    expected_m = np.mean([metrics.mpjve_mm(*window) for window in windows]) / 1000.0
    assert losses.velocity(predicted_m, target_m).item() == pytest.approx(expected_m, rel=FLOAT32_RTOL)


def test_joint_weights_multiply_each_joint_without_being_normalised():
    target_m = torch.zeros(1, 1, 2, 3)
    predicted_m = torch.tensor([[[[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]]]])
    assert losses.mpjpe(predicted_m, target_m, joint_weights=torch.tensor([1.0, 4.0])).item() == (5.0 + 4.0) / 2


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


@pytest.mark.parametrize("loss", [losses.mpjpe, losses.velocity])
def test_the_gradient_at_no_error_is_zero(loss):
    _, target_m = random_windows_m()
    predicted_m = target_m.clone().requires_grad_()
    loss(predicted_m, target_m).backward()
    assert predicted_m.grad is not None
    assert torch.equal(predicted_m.grad, torch.zeros_like(target_m))


@pytest.mark.parametrize("loss", [losses.mpjpe, losses.velocity])
def test_the_gradient_is_that_of_finite_differences(loss):
    predicted_m, target_m = random_windows_m(torch.float64)
    assert torch.autograd.gradcheck(lambda windows_m: loss(windows_m, target_m), predicted_m.requires_grad_())


def test_velocity_ignores_a_constant_error_and_measures_a_steady_drift():
    _, target_m = random_windows_m(torch.float64)
    drift_m = torch.arange(5.0, dtype=torch.float64)[:, None, None] * torch.tensor([0.6, 0.0, 0.8])
    assert losses.velocity(target_m + 0.5, target_m).item() == pytest.approx(0.0, abs=1e-12)
    assert losses.velocity(target_m + 0.5 + drift_m, target_m).item() == pytest.approx(1.0, rel=1e-6)


def test_velocity_needs_two_frames():
    windows_m = torch.zeros(2, 1, 4, 3)
    with pytest.raises(ValueError, match=r"two frames or more for a velocity, found shape \(2, 1, 4, 3\)"):
        losses.velocity(windows_m, windows_m)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("loss", [losses.mpjpe, losses.velocity])
def test_windows_of_two_shapes_are_not_broadcast(loss):
    predicted_m, target_m = random_windows_m()
    with pytest.raises(ValueError, match=r"found \(2, 5, 4, 3\) and \(1, 5, 4, 3\)"):
        loss(predicted_m, target_m[:1])


@pytest.mark.parametrize("loss", [losses.mpjpe, losses.velocity])
def test_a_batch_of_no_windows_is_refused(loss):
    windows_m = torch.zeros(0, 5, 4, 3)
    with pytest.raises(ValueError, match="expected windows of one shape, not empty"):
        loss(windows_m, windows_m)


@pytest.mark.usefixtures("unchecked_shapes")
def test_weights_of_another_shape_are_not_broadcast():
    predicted_m, target_m = random_windows_m()
    with pytest.raises(ValueError, match=r"joint weights of shape \(4,\), found \(1,\)"):
        losses.mpjpe(predicted_m, target_m, joint_weights=torch.ones(1))
    with pytest.raises(ValueError, match=r"frame weights of shape \(2, 5\), found \(1, 5\)"):
        losses.mpjpe(predicted_m, target_m, frame_weights=torch.ones(1, 5))


def test_the_mean_over_no_frames_is_nan_and_never_a_number():
    predicted_m, target_m = random_windows_m()
    assert losses.mpjpe(predicted_m, target_m, frame_weights=torch.zeros(2, 5, dtype=torch.bool)).isnan()
