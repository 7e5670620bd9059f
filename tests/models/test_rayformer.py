"""RayFormer keeps the geometry that it is built on: rays, the turn to the person, and time without a beginning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import build
from models.rayformer import BODY_RADIUS_M, NEAREST, RayFormer, RotaryBlock, rotary_turns, rotate_pairs, turn_to_person

FOCAL = 2.29
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}


def small(*, untrained: bool = False, seed: int = 0, **changes: Any) -> RayFormer:
    """A small model in float64; unless `untrained`, every weight is shaken, for at first the head is zero."""
    torch.manual_seed(seed)
    sizes = {"frames": 9, "in_joints": 17, "out_joints": 17, "in_channels": 2}
    model = build("rayformer", **{**sizes, **SMALL, **changes}).double().eval()
    assert isinstance(model, RayFormer)
    if not untrained:
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.05 * torch.randn_like(weight)
    return model


def people(batch: int = 2, frames: int = 9, *, channels: int = 2, seed: int = 1) -> Float[Tensor, "B T 17 C"]:
    """Somebody of many shapes, somewhere in the image, who moves."""
    generator = torch.Generator().manual_seed(seed)
    place = 1.2 * torch.rand(batch, 1, 1, 2, generator=generator, dtype=torch.float64) - 0.6
    shape = 0.2 * torch.randn(batch, frames, 17, 2, generator=generator, dtype=torch.float64)
    more = torch.rand(batch, frames, 17, channels - 2, generator=generator, dtype=torch.float64)
    return torch.cat([place + shape, more], -1)


def directions(screen: Float[Tensor, "B T J 2"]) -> tuple[Float[Tensor, "B T J 3"], Float[Tensor, "B T 1 3"]]:
    """The rays of the keypoints in the camera frame, one unit long along the line to the person, and that line."""
    line = F.normalize(F.pad(screen.mean(-2, keepdim=True) / FOCAL, (0, 1), value=1.0), dim=-1)
    rays = F.pad(screen / FOCAL, (0, 1), value=1.0)
    return rays / (rays * line).sum(-1, keepdim=True), line


def test_an_untrained_model_puts_each_joint_on_its_own_ray():
    screen = people()
    pose_m = small(untrained=True)(screen)
    rays, _ = directions(screen)
    distance_m = torch.linalg.vector_norm(pose_m[:, :, 5], dim=-1) / torch.linalg.vector_norm(
        rays[:, :, 5] - rays[:, :, 0], dim=-1
    )
    joints_m = pose_m + distance_m[..., None, None] * rays[:, :, :1]
    torch.testing.assert_close(FOCAL * joints_m[..., :2] / joints_m[..., 2:], screen, rtol=0, atol=1e-12)


def test_an_untrained_model_sees_a_flat_person_across_the_line_of_sight():
    screen = people()
    _, line = directions(screen)
    across = (small(untrained=True)(screen) * line).sum(-1)
    torch.testing.assert_close(across, torch.zeros_like(across), rtol=0, atol=1e-12)


def test_an_untrained_model_finds_everyone_of_the_same_size_over_the_window():
    for factor in (0.5, 1.0, 2.0):
        screen = factor * people(batch=3)
        screen = screen - screen.mean(2, keepdim=True)  # on the axis, where the turn is none
        pose_m = small(untrained=True)(screen)
        offsets_m = pose_m - pose_m.mean(2, keepdim=True)
        radius_m = (offsets_m**2).sum(-1).mean((1, 2)).sqrt()
        torch.testing.assert_close(radius_m, torch.full((3,), BODY_RADIUS_M).double(), rtol=1e-3, atol=0)


def test_a_longer_focal_length_turns_the_prediction_less():
    screen = people() + 1.0
    near = small(untrained=True, focal=1.0)(screen)[..., 2].abs().mean()
    far = small(untrained=True, focal=10.0)(screen)[..., 2].abs().mean()
    assert far < near / 3


@pytest.mark.parametrize("changes", [{}, {"out_joints": 14}, {"in_channels": 3}])
def test_the_first_joint_is_the_root_at_zero(changes):
    screen = people(channels=changes.get("in_channels", 2))
    pose_m = small(**changes)(screen)
    assert not pose_m[:, :, 0].any()
    assert pose_m[:, :, 1:].any(-1).all()


@pytest.mark.parametrize(("in_joints", "out_joints", "in_channels"), [(17, 14, 2), (13, 17, 3), (1, 2, 2), (2, 1, 3)])
def test_the_layouts_may_differ(in_joints, out_joints, in_channels):
    model = small(in_joints=in_joints, out_joints=out_joints, in_channels=in_channels)
    pose_m = model(people(channels=in_channels)[:, :, :in_joints])
    assert pose_m.shape == (2, 9, out_joints, 3)
    assert pose_m.isfinite().all()


def test_weights_of_one_window_serve_windows_of_any_length():
    model = small(frames=27)
    longer = small(frames=81, seed=5)
    longer.load_state_dict(model.state_dict(), strict=True)
    for frames in (1, 2, 27, 81):
        screen = people(frames=frames)
        assert model(screen).shape == (2, frames, 17, 3)
        assert torch.equal(model(screen), longer(screen))


def test_items_of_a_batch_do_not_influence_each_other():
    model, screen = small(), people(batch=3)
    together = model(screen)
    for item in range(3):
        torch.testing.assert_close(together[item : item + 1], model(screen[item : item + 1]), rtol=0, atol=1e-12)


def test_somebody_who_stands_still_is_predicted_as_from_a_single_frame():
    model, screen = small(), people(frames=1)
    still = model(screen.expand(-1, 27, -1, -1))
    torch.testing.assert_close(still[:, ::3], model(screen).expand(-1, 9, -1, -1), rtol=0, atol=1e-12)


def test_a_token_filled_up_with_copies_of_the_last_frame_is_one_of_that_many_frames():
    model, screen = small(patch=3), people(frames=7)
    copies = torch.cat([screen, screen[:, -1:], screen[:, -1:]], 1)
    frames = torch.randn(2, 7, 37, dtype=torch.float64)
    filled = torch.cat([frames, frames[:, -1:], frames[:, -1:]], 1)
    torch.testing.assert_close(model.lift_frames(frames), model.lift_frames(filled)[:, :7], rtol=0, atol=1e-12)
    assert model(copies)[:, :7].shape == model(screen).shape


def test_tokens_of_one_frame_and_of_three_have_the_same_geometry():
    for patch in (1, 3):
        screen = people()
        torch.testing.assert_close(small(untrained=True, patch=patch)(screen), small(untrained=True)(screen))


def test_frames_see_each_other_and_know_their_order():
    model, screen = small(), people(batch=1)
    changed = screen.clone()
    changed[:, 0] += 0.01 * torch.rand_like(changed[:, 0])
    assert not torch.allclose(model(screen)[:, -1], model(changed)[:, -1], atol=1e-6)
    swapped = screen[:, [1, 0, *range(2, 9)]]
    assert not torch.allclose(model(screen)[:, -1], model(swapped)[:, -1], atol=1e-6)


def test_a_block_knows_how_far_apart_frames_are_not_where_they_are():
    torch.manual_seed(0)
    block = RotaryBlock(16, heads=2, mlp_ratio=2.0).double()
    tokens = torch.randn(2, 9, 16, dtype=torch.float64)
    turns = rotary_turns(50, 8, device=tokens.device, dtype=tokens.dtype)
    expected = block(tokens, turns[:, :9])
    torch.testing.assert_close(block(tokens, turns[:, 33:42]), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(block(tokens, turns[:, :18:2]), expected, atol=1e-4)


def test_turns_are_rotations_by_the_number_of_the_frame_times_a_speed():
    turns = rotary_turns(5, 4, device=torch.device("cpu"), dtype=torch.float64)
    features = torch.tensor([1.0, 2.0, 3.0, 4.0]).double().expand(1, 1, 5, 4)
    out = rotate_pairs(features, turns)[0, 0]
    for frame in range(5):
        for pair, speed in enumerate((1.0, 0.1)):
            angle = torch.tensor(frame * speed).double()
            first, second = 1.0 + pair, 3.0 + pair
            expected = first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()
            assert out[frame, [pair, pair + 2]].tolist() == pytest.approx([float(value) for value in expected])


def turned(points: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Rays seen by the camera turned to the centre, and its rotation."""
    rays, person_from_camera = turn_to_person(points.unbind(-1), centre)
    return torch.stack(rays, -1), person_from_camera


def test_the_turn_to_the_person_is_a_rotation_that_puts_the_centre_on_the_axis_without_roll():
    centre = 3 * torch.rand(4, 9, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 1.5
    seen, rotation = turned(centre[:, :, None], centre)
    torch.testing.assert_close(seen, torch.zeros_like(seen), rtol=0, atol=1e-15)
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4, 9).double(), rtol=0, atol=1e-14)
    assert not rotation[..., 0, 1].any()  # the turned camera's right stays level
    assert (rotation[..., 1, 1] > 0).all()  # and its down does not point up
    on_axis = turned(centre[:1, :1, None], torch.zeros(1, 1, 2).double())
    torch.testing.assert_close(on_axis[0], centre[:1, :1, None], rtol=0, atol=0)
    torch.testing.assert_close(on_axis[1], identity[:1, :1], rtol=0, atol=0)


def test_the_same_shape_is_seen_wherever_in_the_image_it_stands():
    shape = 0.1 * torch.randn(1, 1, 17, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for centre in torch.tensor([[[[0.0, 0.0]]], [[[0.4, -0.2]]], [[[-0.3, 0.35]]]]).double():
        _, person_from_camera = turned(centre[:, :, None], centre)
        rays = F.pad(shape, (0, 1), value=1.0) @ person_from_camera
        seen, _ = turned(rays[..., :2] / rays[..., 2:], centre)
        torch.testing.assert_close(seen, shape, rtol=0, atol=1e-14)


def test_degenerate_keypoints_give_finite_poses_and_gradients():
    model = small()
    far = 1e4 * people(batch=1)
    coinciding = torch.full((1, 9, 17, 2), 0.3, dtype=torch.float64)
    for screen in (far, coinciding, torch.zeros_like(far)):
        screen.requires_grad_()
        pose_m = model(screen)
        assert pose_m.isfinite().all()
        pose_m.square().sum().backward()
        assert screen.grad is not None
        assert screen.grad.isfinite().all()
        assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_rays_are_kept_in_front_of_the_person():
    centre = torch.tensor([[[3.0, 0.0]]]).double()
    behind = torch.tensor([[[[-3.0, 0.0]]]]).double()  # more than 90 degrees off the line to the person
    seen, rotation = turned(behind, centre)
    sideways = (rotation[0, 0] @ torch.tensor([-3.0, 0.0, 1.0]).double())[:2] / NEAREST
    torch.testing.assert_close(seen[0, 0, 0], sideways, rtol=0, atol=1e-12)


def test_a_gradient_reaches_every_parameter_after_one_step():
    screen, target_m = people(), torch.randn(2, 9, 17, 3, generator=torch.Generator().manual_seed(4)).double()
    model = small(untrained=True, depth=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (model(screen) - target_m).norm(dim=-1).mean().backward()
        optimizer.step()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_only_the_readout_learns_in_the_first_step():
    model = small(untrained=True)
    model(people()).square().sum().backward()
    learning = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learning == {"head.weight", "head.bias", "shortcut.weight", "out_from_in"}


def test_heads_that_do_not_divide_half_the_width_are_refused():
    with pytest.raises(ValueError, match=r"^models\.rayformer: .*heads that divides half the width 16, found 3$"):
        build("rayformer", frames=9, in_joints=17, out_joints=17, in_channels=2, width=16, heads=3)


@pytest.mark.parametrize(("in_channels", "parameters"), [(2, 317_281), (3, 331_765)])
def test_it_has_as_many_parameters_as_stated(in_channels, parameters):
    model = build("rayformer", frames=27, in_joints=17, out_joints=17, in_channels=in_channels)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


@pytest.mark.parametrize("frames", [27, 81])
def test_its_cost_grows_with_the_weights_per_token_and_with_the_square_of_the_tokens_in_attention(frames):
    model = build("rayformer", frames=frames, in_joints=17, out_joints=17, in_channels=2).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.rand(1, frames, 17, 2))
    width, depth, patch, features, outputs = 128, 2, 3, 3 * (17 * 2 + 3), 3 * (17 * 3 + 1)
    linear = features * width + depth * (4 * width**2 + 2 * width * 2 * width) + width * outputs + features * outputs
    geometry = 17 * 17 * 2  # the mixture of rays; turning to the person and back takes no products of matrices
    turns = width // 4 // 2
    tokens = frames // patch
    expected = 2 * (tokens * (linear + turns) + frames * geometry + depth * 2 * tokens**2 * width)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)
