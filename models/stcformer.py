"""STCFormer: in each block half of the channels attend between joints, the other half over time, side by side."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.layers import Mlp, attend, check_last_axes

# Trunk, right leg, left leg, left arm, right arm, in the order of Human3.6M's 17 joints.
PARTS_OF_17 = (0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 3, 3, 3, 4, 4, 4)


class STCFormer(nn.Module):
    """Tang et al. 2023, "3D Human Pose Estimation With Spatio-Temporal Criss-Cross Attention", section 3.

    Each joint of each frame is a token. Where it is, the structure-enhanced positional embedding says in every block: a
    3 x 3 convolution, channel by channel, of the values of neighbouring frames and joints, and for the attention
    between joints an embedding of the part of the body (trunk, legs, arms). Nothing counts frames, so windows of any T
    are taken. The defaults are the published size: for 17 joints 4,756,611 parameters and, for 81 frames, 6.73 G
    multiplications. Per window of T frames and J joints with C channels, of width D and `depth` blocks with MLPs of
    ratio r, these are T J (C D + depth ((4 + 2 r) D^2 + (J + T) D + 9 D) + 3 D).

    Departures: the embedding of parts is shared by the blocks, and of layouts with other than 17 joints each joint is a
    part of its own, since a model is not told which joints it sees; the output may have other joints than the input,
    each a learned mixture of those of the input; a third input channel may carry the confidence; no dropout.
    """

    predicts: Literal["every_frame", "middle_frame"] = "every_frame"

    def __init__(
        self,
        *,
        frames: int,
        in_joints: int,
        out_joints: int,
        in_channels: int,
        width: Annotated[int, Field(gt=0)] = 256,
        depth: Annotated[int, Field(gt=0, le=1000)] = 6,
        heads: Annotated[int, Field(gt=0)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 4.0,
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"expected a number of heads that divides half the width {width}, found {heads}")
        self.screen_shape = (in_joints, in_channels)
        self.parts = list(PARTS_OF_17) if in_joints == len(PARTS_OF_17) else list(range(in_joints))
        self.embed = nn.Linear(in_channels, width)
        self.part_embedding = nn.Parameter(torch.zeros(max(self.parts) + 1, width // 2))
        self.blocks = nn.ModuleList(CrissCrossBlock(width, heads=heads, mlp_ratio=mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)
        self.out_from_in = None
        if out_joints != in_joints:
            self.out_from_in = nn.Parameter(torch.full((out_joints, in_joints), 1 / in_joints))

    def forward(self, screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B T J_out 3"]:
        """Root-relative pose in the camera frame, in metres, of every frame; any T.

        Raises ValueError if J_in or C are not those that the model was built for.
        """
        check_last_axes("stcformer: screen", screen, self.screen_shape)
        part = self.part_embedding[self.parts]
        tokens = self.embed(screen)
        for block in self.blocks:
            tokens = block(tokens, part)
        pose_m = self.head(self.norm(tokens))
        if self.out_from_in is None:
            return pose_m
        return einsum(self.out_from_in, pose_m, "j_out j_in, b t j_in c -> b t j_out c")


class CrissCrossBlock(nn.Module):
    """A pre-norm block: attention between joints and over time on one half of the channels each, then an MLP."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        half = width // 2
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.near_joints = nn.Conv2d(half, half, kernel_size=3, padding=1, groups=half)
        self.near_frames = nn.Conv2d(half, half, kernel_size=3, padding=1, groups=half)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden=int(width * mlp_ratio))

    def forward(self, tokens: Float[Tensor, "B T J D"], part: Float[Tensor, "J E"]) -> Float[Tensor, "B T J D"]:
        """The tokens after both residual branches; `part` is the embedding of each joint's part, E half of D."""
        batch = len(tokens)
        qkv = rearrange(self.qkv(self.norm1(tokens)), "b t j (two three e) -> two three b t j e", two=2, three=3)
        between_joints = attend(rearrange(qkv[0], "three b t j (h e) -> three (b t) h j e", h=self.heads))
        between_joints = rearrange(between_joints, "(b t) h j e -> b t j (h e)", b=batch)
        over_time = attend(rearrange(qkv[1], "three b t j (h e) -> three (b j) h t e", h=self.heads))
        over_time = rearrange(over_time, "(b j) h t e -> b t j (h e)", b=batch)
        between_joints = between_joints + convolved(self.near_joints, qkv[0, 2]) + part
        over_time = over_time + convolved(self.near_frames, qkv[1, 2])
        tokens = tokens + self.proj(torch.cat([between_joints, over_time], -1))
        return tokens + self.mlp(self.norm2(tokens))


def convolved(layer: nn.Conv2d, values: Float[Tensor, "B T J E"]) -> Float[Tensor, "B T J E"]:
    """The values after a convolution over frames and joints, joints in the order of the layout."""
    return rearrange(layer(rearrange(values, "b t j e -> b e t j")), "b e t j -> b t j e")
