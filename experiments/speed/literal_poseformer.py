"""The yardstick of the benchmark: PoseFormer as published and its loop over windows, step by step, nothing shared.

After Zheng et al. 2021, sections 3.2 and 3.3: attention is two products of matrices and a softmax between them, dropped
branches are computed and set to zero, every window is a copy of its frames, and each frame of a window goes through the
spatial transformer again, as many times as there are windows that hold it. It serves no other purpose than comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layers import Attention
from models.poseformer import PoseFormer
from pipeline.poses.predict import TrainedModel
from pipeline.poses.skeleton import H36M_17


class LiteralAttention(nn.Module):
    """Softmax attention, written out."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = attention.heads, attention.qkv, attention.proj

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Returns for each token a mixture of all tokens of its batch item."""
        batch, number, width = tokens.shape
        split = self.qkv(tokens).reshape(batch, number, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        weights = ((query @ key.transpose(-2, -1)) * (width // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, number, width))


class LiteralDropPath(nn.Module):
    """A residual branch that is set to zero for some batch items in training, and enlarged to match for the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tokens: Float[Tensor, "B N D"], branch: Callable[[Tensor], Tensor]) -> Float[Tensor, "B N D"]:
        """Returns the tokens with the branch added."""
        if not self.training or self.rate == 0:
            return tokens + branch(tokens)
        keep = 1 - self.rate
        mask = torch.floor(keep + torch.rand(len(tokens), 1, 1, dtype=tokens.dtype, device=tokens.device))
        return tokens + branch(tokens).div(keep) * mask


def make_literal(model: TrainedModel) -> TrainedModel:
    """Returns a copy of a PoseFormer, with the same weights, that computes as the published code does."""
    literal = deepcopy(model.network)
    assert isinstance(literal, PoseFormer)
    for block in (*literal.Spatial_blocks, *literal.blocks):
        block.attn = LiteralAttention(block.attn)
        block.drop_path = LiteralDropPath(block.drop_path.rate)
    return TrainedModel(literal, model.card)


@torch.no_grad()
def predict_clip(
    model: TrainedModel, screen: Float[Tensor, "F 17 2"], *, batch_windows: int
) -> Float[Tensor, "F 17 3"]:
    """Returns the pose of every frame of a clip, averaged with that of the mirrored clip: one window for each frame.

    The published loop gives a whole clip to the model at once, so that its `batch_windows` is the clip's number of
    frames.
    """
    network, frames, mirrored = model.network.eval(), model.card.frames, list(H36M_17.mirrored)
    padded = torch.cat([*[screen[:1]] * (frames // 2), screen, *[screen[-1:]] * (frames // 2)])
    poses_m = []
    for first in range(0, len(screen), batch_windows):
        middles = range(first, min(first + batch_windows, len(screen)))
        windows = torch.stack([padded[middle : middle + frames] for middle in middles])
        flipped = windows.clone()
        flipped[..., 0] *= -1
        flipped = flipped[:, :, mirrored]
        pose_m, pose_of_flipped_m = network(windows), network(flipped)
        pose_of_flipped_m[..., 0] *= -1
        poses_m.append((pose_m + pose_of_flipped_m[:, :, mirrored]) / 2)
    return torch.cat(poses_m)[:, 0]
