"""STCFormer: attention within a frame and within a joint's path side by side, of the size that is stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import build
from models.stcformer import PARTS_OF_17, CrissCrossBlock, STCFormer, convolved
from pipeline.poses.skeleton import H36M_17

SIZES: dict[str, int] = {"frames": 9, "in_joints": 17, "out_joints": 17, "in_channels": 2}
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}


def small(**changes: Any) -> STCFormer:
    """A small model in float64, every weight shaken, for the embedding of parts starts at zero."""
    torch.manual_seed(0)
    model = build("stcformer", **{**SIZES, **SMALL, **changes}).double().eval()
    assert isinstance(model, STCFormer)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def block_and_tokens() -> tuple[CrissCrossBlock, Float[Tensor, "1 9 6 8"]]:
    torch.manual_seed(0)
    return CrissCrossBlock(8, heads=2, mlp_ratio=2.0).double(), torch.randn(1, 9, 6, 8, dtype=torch.float64)


def reached(block: CrissCrossBlock, tokens: Float[Tensor, "1 9 6 8"]) -> set[tuple[int, int]]:
    """The frames and joints at which a change of the token of frame 4 and joint 2 is felt."""
    changed, part = tokens.clone(), torch.zeros(6, 4).double()
    changed[0, 4, 2, 0] += 1
    felt = (block(changed, part) - block(tokens, part))[0].abs().amax(-1) > 1e-9
    return {(int(frame), int(joint)) for frame, joint in felt.nonzero()}


CROSS = {(4, joint) for joint in range(6)} | {(frame, 2) for frame in range(9)}
AROUND = {(frame, joint) for frame in (3, 4, 5) for joint in (1, 2, 3)}


def test_a_block_sees_a_cross_of_one_frame_and_one_joint_and_the_near_of_both():
    block, tokens = block_and_tokens()
    assert reached(block, tokens) == CROSS | AROUND
    for layer in (block.near_joints, block.near_frames):
        torch.nn.init.zeros_(layer.weight)
    assert reached(block, tokens) == CROSS


def test_half_of_the_channels_attends_between_joints_and_half_over_time():
    block, tokens = block_and_tokens()
    for layer in (block.near_joints, block.near_frames):
        torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        block.proj.weight[:, 4:] = 0
    assert reached(block, tokens) == {(4, joint) for joint in range(6)}
    block, tokens = block_and_tokens()
    for layer in (block.near_joints, block.near_frames):
        torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        block.proj.weight[:, :4] = 0
    assert reached(block, tokens) == {(frame, 2) for frame in range(9)}


def test_the_convolution_is_over_frames_then_joints_and_channel_by_channel():
    layer = torch.nn.Conv2d(4, 4, kernel_size=3, padding=1, groups=4, bias=False).double()
    values = torch.zeros(1, 5, 7, 4, dtype=torch.float64)
    values[0, 2, 3, 1] = 1
    spread = convolved(layer, values)
    torch.testing.assert_close(spread[0, 1:4, 2:5, 1], layer.weight[1, 0].flip(0, 1), rtol=0, atol=1e-15)
    assert spread.count_nonzero() == 9


def test_the_parts_are_the_limbs_and_the_trunk_of_the_skeleton():
    for left, right in ((2, 1), (3, 4)):
        mirrored = [H36M_17.mirrored[joint] for joint in range(17) if PARTS_OF_17[joint] == left]
        assert {PARTS_OF_17[joint] for joint in mirrored} == {right}
    for parent, joint in H36M_17.bones:
        assert PARTS_OF_17[joint] == PARTS_OF_17[parent] or PARTS_OF_17[parent] == 0


def test_joints_of_one_part_are_told_apart_by_their_neighbours_and_parts_by_the_embedding():
    model = small()
    screen = torch.rand(1, 9, 17, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    within, across = list(range(17)), list(range(17))
    within[2], within[3] = 3, 2  # knee and foot
    across[3], across[6] = 6, 3  # right foot and left foot
    for order in (within, across):
        assert not torch.allclose(model(screen[:, :, order]), model(screen)[:, :, order], atol=1e-4)
    for block in model.blocks:
        for layer in (block.near_joints, block.near_frames):
            torch.nn.init.zeros_(layer.weight)
    torch.testing.assert_close(model(screen[:, :, within]), model(screen)[:, :, within], rtol=0, atol=1e-12)
    assert not torch.allclose(model(screen[:, :, across]), model(screen)[:, :, across], atol=1e-4)


def test_other_layouts_have_a_part_for_each_joint():
    assert small(in_joints=5, out_joints=4).part_embedding.shape == (5, 8)


def test_it_knows_how_far_apart_frames_are_not_how_many_there_are():
    model = small()
    still = torch.rand(1, 1, 17, 2, dtype=torch.float64).expand(-1, 40, -1, -1)
    inner = model(still)[:, 5:-5]
    torch.testing.assert_close(inner, inner[:, :1].expand_as(inner), rtol=0, atol=1e-12)


def test_heads_that_do_not_divide_half_the_width_are_refused():
    with pytest.raises(ValueError, match=r"^models\.stcformer: .*heads that divides half the width 16, found 3$"):
        build("stcformer", **SIZES, width=16, heads=3)


@pytest.mark.parametrize(("in_channels", "parameters"), [(2, 4_756_611), (3, 4_756_867)])
def test_the_published_size_has_as_many_parameters_as_stated(in_channels, parameters):
    with torch.device("meta"):
        model = STCFormer(frames=81, in_joints=17, out_joints=17, in_channels=in_channels)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


@pytest.mark.parametrize(("width", "depth", "heads", "frames"), [(256, 6, 8, 81), (64, 3, 4, 27)])
def test_its_cost_is_the_stated_sum_of_linear_maps_attention_and_convolutions(width, depth, heads, frames):
    with torch.device("meta"):
        model = STCFormer(
            frames=frames, in_joints=17, out_joints=17, in_channels=2, width=width, depth=depth, heads=heads
        ).eval()
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            model(torch.rand(1, frames, 17, 2))
    block = (4 + 2 * 4) * width**2 + (17 + frames) * width + 9 * width
    multiplications = frames * 17 * (2 * width + depth * block + 3 * width)
    assert counter.get_total_flops() == 2 * multiplications
    if width == 256:
        assert multiplications == pytest.approx(6.73e9, rel=1e-3)
