"""The parts that the transformers share: attention, MLP, pre-norm block, stochastic depth, and a check of shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

# CUDA's memory-efficient attention puts the batch into a grid axis that ends here (pytorch issue 142228); the frames of
# a whole clip or of a large batch of windows are more.
LARGEST_ATTENTION_BATCH = 65535
# On a CPU fused attention works head by head; for heads as narrow as those between joints (4) batched products of
# matrices take half of its time, forward and backward. See docs/performance.md.
NARROW_HEAD = 8


def check_last_axes(name: str, values: Tensor, expected: tuple[int, ...]) -> None:
    """Raises ValueError unless the shape of `values` is one leading axis or more, then `expected`.

    Without it a window of one frame would broadcast against the positional embedding of many.
    """
    found = tuple(values.shape)
    if found[-len(expected) :] != expected or len(found) == len(expected):
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, expected))}), found {found}")


def square_root(values: Tensor) -> Tensor:
    """Of values from 0 on, to about the last bit. torch.sqrt is MKL's, whose last bit depends on the processor."""
    return values * values.clamp(min=1e-30).rsqrt()


def growing_rates(last: float, depth: int) -> list[float]:
    """Drop rates of `depth` blocks, evenly spaced from 0 to `last`; a single block has rate 0."""
    return [last * index / max(depth - 1, 1) for index in range(depth)]


class DropPath(nn.Module):
    """A residual branch with stochastic depth: in training each batch item loses it with probability `rate`.

    The branches that stay are divided by 1 - rate, so that the expectation is that of evaluation, which drops nothing.
    Source: Huang et al. 2016, scaled in training rather than in evaluation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, tokens: Float[Tensor, "B N D"], branch: Callable[[Float[Tensor, "V N D"]], Float[Tensor, "V N D"]]
    ) -> Float[Tensor, "B N D"]:
        """The tokens with their branch added, in training to some batch items alone."""
        if not self.training or self.rate == 0:
            return tokens + branch(tokens)
        keep = 1 - self.rate
        kept = tokens.new_empty(len(tokens)).bernoulli_(keep)
        if tokens.device.type == "cpu":  # what is dropped is not computed; a GPU would have to tell the host how much
            items = kept.nonzero()[:, 0]
            return tokens.index_add(0, items, branch(tokens[items]).to(tokens.dtype), alpha=1 / keep)
        return tokens + branch(tokens) * rearrange(kept / keep, "b -> b 1 1")


def attend(qkv: Float[Tensor, "3 B H N D"]) -> Float[Tensor, "B H N D"]:
    """Softmax attention of each head over its N tokens, for any B: queries, keys and values to mixed values."""
    if qkv.device.type == "cpu" and qkv.shape[-1] <= NARROW_HEAD:
        return _attention_in_products(qkv)
    query, key, value = qkv.unbind(0)
    if qkv.shape[1] <= LARGEST_ATTENTION_BATCH:
        return F.scaled_dot_product_attention(query, key, value)
    parts = (part.split(LARGEST_ATTENTION_BATCH) for part in (query, key, value))
    return torch.cat([F.scaled_dot_product_attention(q, k, v) for q, k, v in zip(*parts, strict=True)])


def _attention_in_products(qkv: Float[Tensor, "3 B H N E"]) -> Float[Tensor, "B H N E"]:
    """What scaled_dot_product_attention computes, in two products of matrices and a softmax between them."""
    query, key, value = rearrange(qkv, "three b h n e -> three (b h) n e").unbind(0)
    scores = torch.baddbmm(query.new_zeros(()), query, key.mT, beta=0, alpha=qkv.shape[-1] ** -0.5)
    return rearrange(scores.softmax(-1) @ value, "(b h) n e -> b h n e", h=qkv.shape[2])


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
        tokens = self.drop_path(tokens, lambda kept: self.attn(self.norm1(kept)))
        return self.drop_path(tokens, lambda kept: self.mlp(self.norm2(kept)))
