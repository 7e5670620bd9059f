"""MixSTE: attention within a frame and within a joint's path, in turn, of the size that is stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import build
from models.layers import DropPath
from models.mixste import MixSTE

SIZES: dict[str, int] = {"frames": 9, "in_joints": 5, "out_joints": 5, "in_channels": 2}
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}


def small(**changes: Any) -> MixSTE:
    """A small model in float64, every weight shaken, for the embeddings start at zero."""
    torch.manual_seed(0)
    model = build("mixste", **{**SIZES, **SMALL, **changes}).double().eval()
    assert isinstance(model, MixSTE)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def screens(batch: int = 2, frames: int = 9) -> Float[Tensor, "B T 5 2"]:
    return torch.rand(batch, frames, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def moves(model: MixSTE, frame: int, joint: int) -> tuple[set[int], set[int]]:
    """The frames and joints whose predictions a change of one keypoint of frame and joint reaches."""
    screen = screens(batch=1)
    changed = screen.clone()
    changed[0, frame, joint] += 0.1
    moved = (model(changed) - model(screen))[0].abs().amax(-1) > 1e-9
    return {int(f) for f in moved.any(1).nonzero()}, {int(j) for j in moved.any(0).nonzero()}


def test_spatial_blocks_mix_the_joints_of_a_frame_and_temporal_ones_the_frames_of_a_joint():
    model = small()
    for block in model.temporal_blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    assert moves(model, 3, 1) == ({3}, set(range(5)))
    model = small()
    for block in model.spatial_blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    assert moves(model, 3, 1) == (set(range(9)), {1})
    assert moves(small(), 3, 1) == (set(range(9)), set(range(5)))


def test_it_tells_joints_and_frames_apart_by_its_embeddings_alone():
    model, screen = small(), screens()
    joints, frames = torch.tensor([1, 0, 2, 3, 4]), torch.tensor([0, 1, 2, 8, 4, 5, 6, 7, 3])
    assert not torch.allclose(model(screen[:, :, joints]), model(screen)[:, :, joints], atol=1e-4)
    assert not torch.allclose(model(screen[:, frames]), model(screen)[:, frames], atol=1e-4)
    torch.nn.init.zeros_(model.joint_embedding)
    torch.nn.init.zeros_(model.time_embedding)
    shuffled = model(screen[:, frames][:, :, joints])
    torch.testing.assert_close(shuffled, model(screen)[:, frames][:, :, joints], rtol=0, atol=1e-12)


def test_the_embedding_of_time_is_placed_about_the_middle_of_a_window_and_its_ends_repeat():
    model = small()
    assert model.places(9).tolist() == list(range(9))
    assert model.places(3).tolist() == [3, 4, 5]
    assert model.places(13).tolist() == [0, 0, *range(9), 8, 8]
    assert model.places(1).tolist() == [4]


def test_drop_rates_grow_to_a_tenth_in_both_stacks():
    model = MixSTE(**SIZES, width=16, heads=2)
    for stack in (model.spatial_blocks, model.temporal_blocks):
        rates = [part.rate for part in stack.modules() if isinstance(part, DropPath)]
        assert rates == pytest.approx([index / 70 for index in range(8)])


def test_each_output_joint_of_another_layout_is_at_first_the_mean_of_all():
    torch.manual_seed(0)
    model = build("mixste", **{**SIZES, "out_joints": 4}, **SMALL).eval()
    pose_m = model(screens().float())
    assert pose_m.shape == (2, 9, 4, 3)
    torch.testing.assert_close(pose_m[:, :, 1:], pose_m[:, :, :-1])


@pytest.mark.parametrize(
    ("in_channels", "frames", "parameters"), [(2, 81, 33_698_819), (3, 81, 33_699_331), (2, 243, 33_781_763)]
)
def test_the_published_size_has_as_many_parameters_as_stated(in_channels, frames, parameters):
    with torch.device("meta"):
        model = MixSTE(frames=frames, in_joints=17, out_joints=17, in_channels=in_channels)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


@pytest.mark.parametrize(("width", "depth", "heads", "frames"), [(512, 8, 8, 81), (64, 3, 4, 27)])
def test_its_cost_is_the_stated_sum_of_linear_maps_and_attention(width, depth, heads, frames):
    with torch.device("meta"):
        model = MixSTE(
            frames=frames, in_joints=17, out_joints=17, in_channels=2, width=width, depth=depth, heads=heads
        ).eval()
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            model(torch.rand(1, frames, 17, 2))
    pair = 2 * (4 + 2 * 2) * width**2 + 2 * (17 + frames) * width
    multiplications = frames * 17 * (2 * width + depth * pair + 3 * width)
    assert counter.get_total_flops() == 2 * multiplications
    if width == 512:
        assert multiplications == pytest.approx(47.3e9, rel=1e-3)
