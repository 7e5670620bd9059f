"""MixSTE: attention between the joints of a frame and over the frames of a joint, in turn, for whole sequences."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.layers import Block, check_last_axes, growing_rates


class MixSTE(nn.Module):
    """Zhang et al. 2022, "MixSTE: Seq2seq Mixed Spatio-Temporal Encoder", sections 3.2 to 3.4.

    Each joint of each frame is a token throughout. Blocks come in pairs, one that mixes the joints of a frame and one
    that mixes the frames of a joint; learned embeddings say which joint and which frame a token is, and a linear map
    reads each token's joint. The defaults are the published size: for 81 frames of 17 joints 33,698,819 parameters and
    47.3 G multiplications. Per window of T frames and J joints with C channels, of width D and `depth` pairs with MLPs
    of ratio r, these are T J (C D + depth (2 (4 + 2 r) D^2 + 2 (J + T) D) + 3 D).

    Departures: the streams are normalised before each branch and before the readout, not after each block as well; the
    output may have other joints than the input, each a learned mixture of those of the input; a third input channel
    may carry the confidence. Windows of other lengths than `frames` are taken: the embedding of time is placed about
    their middle, and beyond its ends the outermost repeats.
    """

    predicts: Literal["every_frame", "middle_frame"] = "every_frame"

    def __init__(
        self,
        *,
        frames: int,
        in_joints: int,
        out_joints: int,
        in_channels: int,
        width: Annotated[int, Field(gt=0)] = 512,
        depth: Annotated[int, Field(gt=0, le=1000)] = 8,
        heads: Annotated[int, Field(gt=0)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 2.0,
        drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.screen_shape = (in_joints, in_channels)
        self.embed = nn.Linear(in_channels, width)
        self.joint_embedding = nn.Parameter(torch.zeros(in_joints, width))
        self.time_embedding = nn.Parameter(torch.zeros(frames, 1, width))
        rates = growing_rates(drop_path, depth)

        def stack() -> nn.ModuleList:
            return nn.ModuleList(Block(width, heads=heads, mlp_ratio=mlp_ratio, drop_path=rate) for rate in rates)

        self.spatial_blocks, self.temporal_blocks = stack(), stack()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)
        self.out_from_in = None
        if out_joints != in_joints:
            self.out_from_in = nn.Parameter(torch.full((out_joints, in_joints), 1 / in_joints))

    def forward(self, screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B T J_out 3"]:
        """Root-relative pose in the camera frame, in metres, of every frame; any T.

        Raises ValueError if J_in or C are not those that the model was built for.
        """
        check_last_axes("mixste: screen", screen, self.screen_shape)
        batch, frames = screen.shape[:2]
        tokens = self.embed(screen) + self.joint_embedding
        for number, (spatial, temporal) in enumerate(zip(self.spatial_blocks, self.temporal_blocks, strict=True)):
            tokens = spatial(rearrange(tokens, "b t j d -> (b t) j d"))
            tokens = rearrange(tokens, "(b t) j d -> b t j d", b=batch)
            if number == 0:
                tokens = tokens + self.time_embedding[self.places(frames)]
            tokens = temporal(rearrange(tokens, "b t j d -> (b j) t d"))
            tokens = rearrange(tokens, "(b j) t d -> b t j d", b=batch)
        pose_m = self.head(self.norm(tokens))
        if self.out_from_in is None:
            return pose_m
        return einsum(self.out_from_in, pose_m, "j_out j_in, b t j_in c -> b t j_out c")

    def places(self, frames: int) -> Tensor:
        """Which row of the embedding of time belongs to each frame of a window."""
        trained = len(self.time_embedding)
        offset = torch.arange(frames, device=self.time_embedding.device) - frames // 2
        return (offset + trained // 2).clamp(0, trained - 1)
