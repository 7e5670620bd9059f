"""The yardstick of the benchmark: PoseFormer and its loop over windows as published, step by step, with nothing shared.

Written from Zheng et al. 2021, sections 3.2 and 3.3, and the sizes of the released weights. Attention is two matrix
products and a softmax between them, every window is a copy of its frames, and a window's every frame goes through the
spatial transformer again, as many times as there are windows that hold it. It serves no other purpose than comparison.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers import growing_rates


class LiteralAttention(nn.Module):
    """Softmax attention, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Each token replaced by a mixture of all tokens of its batch item."""
        batch, number, width = tokens.shape
        split = self.qkv(tokens).reshape(batch, number, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        weights = ((query @ key.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, number, width)
        return self.proj(mixed)


class LiteralMlp(nn.Module):
    """Two linear layers and a GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Each token through both layers."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class LiteralBlock(nn.Module):
    """Attention and MLP, each behind a norm, each added, each dropped for some batch items in training."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = LiteralAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = LiteralMlp(width, 2 * width)
        self.drop_path = drop_path

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The tokens after both residual branches."""
        tokens = tokens + self.dropped(self.attn(self.norm1(tokens)))
        return tokens + self.dropped(self.mlp(self.norm2(tokens)))

    def dropped(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The branch with some batch items set to zero and the others enlarged to match."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        mask = torch.floor(keep + torch.rand(len(branch), 1, 1, dtype=branch.dtype, device=branch.device))
        return branch.div(keep) * mask


class LiteralPoseFormer(nn.Module):
    """As models.poseformer, with the same names of tensors, so that the weights can be exchanged."""

    predicts: Literal["every_frame", "middle_frame"] = "middle_frame"

    def __init__(self, *, frames: int, joints: int, width: int = 32, depth: int = 4, heads: int = 8) -> None:
        super().__init__()
        rates = growing_rates(0.1, depth)
        self.Spatial_patch_to_embedding = nn.Linear(2, width)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, width))
        self.Spatial_blocks = nn.ModuleList(LiteralBlock(width, heads, rate) for rate in rates)
        self.Spatial_norm = nn.LayerNorm(width, eps=1e-6)
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, width * joints))
        self.blocks = nn.ModuleList(LiteralBlock(width * joints, heads, rate) for rate in rates)
        self.Temporal_norm = nn.LayerNorm(width * joints, eps=1e-6)
        self.weighted_mean = nn.Conv1d(frames, 1, kernel_size=1)
        self.head = nn.Sequential(nn.LayerNorm(width * joints), nn.Linear(width * joints, 3 * joints))

    def forward(self, screen: Float[Tensor, "B T J 2"]) -> Float[Tensor, "B 1 J 3"]:
        """The pose of each window's middle frame, in metres, relative to the root."""
        batch, frames, joints, _ = screen.shape
        tokens = self.Spatial_patch_to_embedding(screen.reshape(batch * frames, joints, 2)) + self.Spatial_pos_embed
        for block in self.Spatial_blocks:
            tokens = block(tokens)
        tokens = self.Spatial_norm(tokens).reshape(batch, frames, -1) + self.Temporal_pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        pooled = self.weighted_mean(self.Temporal_norm(tokens))
        return self.head(pooled).reshape(batch, 1, joints, 3)


@torch.no_grad()
def predict_clip(
    model: nn.Module, screen: Float[Tensor, "F J 2"], *, frames: int, mirrored: list[int], batch_windows: int
) -> Float[Tensor, "F J 3"]:
    """The pose of every frame of a clip, averaged with that of the mirrored clip: one window around every frame.

    `mirrored` numbers each joint's mirror image. The published loop gives a whole clip to the model at once, so that
    its `batch_windows` is the clip's number of frames.
    """
    model.eval()
    ends = [screen[:1]] * (frames // 2), [screen[-1:]] * (frames // 2)
    padded = torch.cat([*ends[0], screen, *ends[1]])
    poses = []
    for first in range(0, len(screen), batch_windows):
        middles = range(first, min(first + batch_windows, len(screen)))
        windows = torch.stack([padded[middle : middle + frames] for middle in middles])
        flipped = windows.clone()
        flipped[..., 0] *= -1
        flipped = flipped[:, :, mirrored]
        pose, pose_of_flipped = model(windows), model(flipped)
        pose_of_flipped[..., 0] *= -1
        poses.append((pose + pose_of_flipped[:, :, mirrored]) / 2)
    return torch.cat(poses)[:, 0]
