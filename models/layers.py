"""The parts that the transformers share: attention, MLP, pre-norm block, stochastic depth, and a check of shapes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

# CUDA's memory-efficient attention puts the batch into a grid axis that ends here (pytorch issue 142228); the frames of
# a whole clip or of a large batch of windows are more.
LARGEST_ATTENTION_BATCH = 65535


def check_last_axes(name: str, values: Tensor, expected: tuple[int, ...]) -> None:
    """Raises ValueError unless the shape of `values` is one leading axis or more, then `expected`.

    Without it a window of one frame would broadcast against the positional embedding of many.
    """
    found = tuple(values.shape)
    if found[-len(expected) :] != expected or len(found) == len(expected):
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, expected))}), found {found}")


def growing_rates(last: float, depth: int) -> list[float]:
    """Drop rates of `depth` blocks, evenly spaced from 0 to `last`; a single block has rate 0."""
    return [last * index / max(depth - 1, 1) for index in range(depth)]


class DropPath(nn.Module):
    """Stochastic depth: in training each batch item loses the whole branch with probability `rate`.

    The branches that stay are divided by 1 - rate, so that the expectation is that of evaluation, which drops nothing.
    Source: Huang et al. 2016, scaled in training rather than in evaluation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The branch, with some batch items set to zero in training."""
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        return branch * (branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep) / keep)


def attend(qkv: Float[Tensor, "3 B H N D"]) -> Float[Tensor, "B H N D"]:
    """Softmax attention of each head over its N tokens, for any B: queries, keys and values to mixed values."""
    parts = qkv.split(LARGEST_ATTENTION_BATCH, dim=1)
    return torch.cat([F.scaled_dot_product_attention(*part.unbind(0)) for part in parts])


class Attention(nn.Module):
    """Multi-head self-attention over the N tokens of each batch item (Vaswani et al. 2017, section 3.2).

    Raises ValueError if the heads do not divide the width.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected a number of heads that divides the width {width}, found {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Each token replaced by a mixture of all tokens of its batch item."""
        qkv = rearrange(self.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.proj(rearrange(attend(qkv), "b h n d -> b n (h d)"))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them, applied to each token alone."""

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Each token through both layers."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """A pre-norm transformer block: attention, then MLP, each normalised before and added to what came in."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads=heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden=int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The tokens after both residual branches."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))
