"""PoseFormer: a spatial transformer over the joints of a frame, then a temporal one over the frames of a window."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.layers import Block, check_last_axes, growing_rates


class PoseFormer(nn.Module):
    """Zheng et al. 2021, "3D Human Pose Estimation with Spatial and Temporal Transformers", sections 3.2 and 3.3.

    Predicts the middle frame only. Tensor names and shapes are those of the authors' code, so that public weights load
    strictly. Departures from that code, none of which changes what it computes with the authors' settings: the output
    may have other joints than the input (out_joints), for data sets that have them; a third input channel may carry the
    detector's confidence (in_channels); attention is fused, for speed; dropout, which is zero in the authors' settings,
    is left out; and the features of a frame can be computed once and shared by all windows that hold it
    (`spatial_features`).
    """

    predicts: Literal["every_frame", "middle_frame"] = "middle_frame"

    def __init__(
        self,
        *,
        frames: int,
        in_joints: int,
        out_joints: int,
        in_channels: int,
        embed_dim_ratio: Annotated[int, Field(gt=0)] = 32,
        depth: Annotated[int, Field(gt=0, le=1000)] = 4,
        heads: Annotated[int, Field(gt=0)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 2.0,
        drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.screen_shape = (in_joints, in_channels)
        width = embed_dim_ratio * in_joints
        self.feature_shape = (frames, width)
        rates = growing_rates(drop_path, depth)

        self.Spatial_patch_to_embedding = nn.Linear(in_channels, embed_dim_ratio)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, in_joints, embed_dim_ratio))
        self.Spatial_blocks = nn.ModuleList(
            Block(embed_dim_ratio, heads=heads, mlp_ratio=mlp_ratio, drop_path=rate) for rate in rates
        )
        self.Spatial_norm = nn.LayerNorm(embed_dim_ratio, eps=1e-6)

        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, width))
        self.blocks = nn.ModuleList(Block(width, heads=heads, mlp_ratio=mlp_ratio, drop_path=rate) for rate in rates)
        self.Temporal_norm = nn.LayerNorm(width, eps=1e-6)
        self.weighted_mean = nn.Conv1d(frames, 1, kernel_size=1)
        # The authors left torch's own eps, 1e-5, in this norm alone.
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_joints * 3))

    def forward(self, screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B 1 J_out 3"]:
        """Root-relative pose in the camera frame, in metres, of the middle frame of each window.

        Raises ValueError if T, J_in or C are not those that the model was built for.
        """
        features = self.spatial_features(rearrange(screen, "b t j c -> (b t) j c"))
        return self.lift_features(rearrange(features, "(b t) d -> b t d", b=screen.shape[0]))

    def spatial_features(self, screen: Float[Tensor, "N J_in C"]) -> Float[Tensor, "N D"]:
        """Features of single frames, joint by joint; they do not depend on the window that a frame is in.

        Raises ValueError if J_in or C are not those that the model was built for.
        """
        check_last_axes("poseformer: screen", screen, self.screen_shape)
        tokens = self.Spatial_patch_to_embedding(screen) + self.Spatial_pos_embed
        for block in self.Spatial_blocks:
            tokens = block(tokens)
        return rearrange(self.Spatial_norm(tokens), "n j d -> n (j d)")

    def lift_features(self, features: Float[Tensor, "B T D"]) -> Float[Tensor, "B 1 J_out 3"]:
        """The second half of `forward`: the middle frame's pose from the `spatial_features` of a window's frames.

        Raises ValueError if T or D are not those that the model was built for.
        """
        check_last_axes("poseformer: features of a window", features, self.feature_shape)
        tokens = features + self.Temporal_pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        pooled = self.weighted_mean(self.Temporal_norm(tokens))
        return rearrange(self.head(pooled), "b one (j c) -> b one j c", c=3)
