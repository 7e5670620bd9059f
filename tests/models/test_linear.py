"""The ridge regression finds what it must, from features that do what they say."""

from __future__ import annotations

import math

import pytest
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from models.linear import Linear, shape_and_place


def random_screen(frames: int, *, channels: int = 2) -> Float[Tensor, "F 6 C"]:
    """People of many sizes and places, some channels of confidence."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(frames, 6, channels, generator=generator, dtype=torch.float64)
    points[..., :2] *= 0.05 + 0.2 * torch.rand(frames, 1, 1, generator=generator, dtype=torch.float64)
    points[..., :2] += 0.3 * torch.randn(frames, 1, 2, generator=generator, dtype=torch.float64)
    return points


def fitted(
    screen: Float[Tensor, "N 6 C"], targets_m: Float[Tensor, "N J 3"], *, ridge: float = 1e-3, chunk_frames: int = 65536
) -> Linear:
    """A float64 model fitted to the targets."""
    joints, channels = targets_m.shape[1], screen.shape[2]
    model = Linear(frames=9, in_joints=6, out_joints=joints, in_channels=channels, ridge=ridge).double()
    model.fit(screen, targets_m, chunk_frames=chunk_frames)
    return model


def random_targets_m(frames: int) -> Float[Tensor, "F 4 3"]:
    """Poses that no regression explains; joint 0 is the root."""
    targets_m = torch.randn(frames, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    targets_m[:, 0] = 0
    return targets_m


@pytest.mark.parametrize("channels", [2, 3])
def test_a_linear_map_of_the_features_is_recovered(channels: int) -> None:
    screen = random_screen(500, channels=channels)
    features = shape_and_place(screen)
    true_map = torch.randn(features.shape[1], 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets_m = einsum(features, true_map, "n d, d j c -> n j c") + 0.7
    model = fitted(screen[:400], targets_m[:400], ridge=1e-12)
    torch.testing.assert_close(model(screen[None])[0], targets_m, rtol=0, atol=1e-7)


def test_the_weights_are_where_the_gradient_of_the_ridge_loss_is_zero() -> None:
    screen, targets_m, ridge = random_screen(200), random_targets_m(200), 0.1
    model = fitted(screen, targets_m, ridge=ridge)
    spread = shape_and_place(screen).std(0, correction=0)
    squares = (model(screen[None])[0] - targets_m).square().sum((1, 2)).mean()
    loss = squares + ridge * (model.readout.weight * spread).square().sum()
    loss.backward()
    for weight in model.readout.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max().item() < 1e-10


def test_the_order_of_frames_and_the_chunks_do_not_matter() -> None:
    screen, targets_m = random_screen(100), random_targets_m(100)
    expected = fitted(screen, targets_m)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    for other in (fitted(screen[order], targets_m[order]), fitted(screen, targets_m, chunk_frames=7)):
        torch.testing.assert_close(other.readout.weight, expected.readout.weight, rtol=0, atol=1e-10)
        torch.testing.assert_close(other.readout.bias, expected.readout.bias, rtol=0, atol=1e-10)


def test_a_joint_that_is_always_zero_stays_exactly_zero() -> None:
    lifted = fitted(random_screen(100), random_targets_m(100))(random_screen(9)[None])
    assert not lifted[:, :, 0].any()
    assert lifted[:, :, 1:].all()


def test_a_feature_that_never_varies_gets_no_weight() -> None:
    screen = random_screen(100, channels=3)
    screen[..., 2] = 0.9
    weight = fitted(screen, random_targets_m(100)).readout.weight
    confidence_columns = rearrange(weight[:, :18], "o (j c) -> o j c", c=3)[..., 2]
    assert not confidence_columns.any()
    assert weight.isfinite().all()


def test_each_frame_is_lifted_alone_in_windows_of_any_length() -> None:
    model, screen = fitted(random_screen(100), random_targets_m(100)), random_screen(27)
    alone = torch.cat([model(frame[None, None]) for frame in screen], 1)
    torch.testing.assert_close(model(screen[None]), alone, rtol=0, atol=1e-12)


def test_the_shape_ignores_where_a_person_stands_and_how_far_away() -> None:
    screen = random_screen(50)
    shift = torch.tensor([0.3, -0.2], dtype=torch.float64)
    moved = 2 * screen + shift
    shape, place = shape_and_place(screen).split([12, 3], -1)
    moved_shape, moved_place = shape_and_place(moved).split([12, 3], -1)
    # The smallest size, 1e-3, makes this true up to (1e-3 / size)^2 only.
    torch.testing.assert_close(moved_shape, shape, rtol=0, atol=2e-3)
    torch.testing.assert_close(moved_place[:, :2], 2 * place[:, :2] + shift, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved_place[:, 2], place[:, 2] + math.log(2), rtol=0, atol=2e-3)


def test_joints_that_all_coincide_give_a_finite_pose() -> None:
    model = fitted(random_screen(100), random_targets_m(100))
    assert model(torch.zeros(1, 1, 6, 2, dtype=torch.float64)).isfinite().all()


def test_bad_input_to_the_fit_is_refused() -> None:
    model = Linear(frames=1, in_joints=6, out_joints=4, in_channels=2)
    with pytest.raises(ValueError, match="expected at least one frame to fit, found none"):
        model.fit(torch.zeros(0, 6, 2), torch.zeros(0, 4, 3))
    with pytest.raises(ValueError, match=r"linear: screen: expected shape \(\.\.\., 6, 2\), found \(5, 7, 2\)"):
        model.fit(torch.zeros(5, 7, 2), torch.zeros(5, 4, 3))
    with pytest.raises(ValueError, match=r"linear: targets: expected shape \(\.\.\., 4, 3\), found \(5, 3, 3\)"):
        model.fit(torch.zeros(5, 6, 2), torch.zeros(5, 3, 3))
