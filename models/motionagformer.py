"""MotionAGFormer: attention and graph convolution side by side, each over joints and then over time, mixed by token."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.layers import Mlp, attend, check_last_axes

# The joints that each of Human3.6M's 17 is linked to. Three links lead one way (4 to 0, 11 and 14 to 8): an oversight
# of the authors that their weights were trained with.
NEIGHBOURS_OF_17 = (
    (1, 7), (0, 2), (1, 3), (2,), (0, 5), (4, 6), (5,), (0, 8), (7, 9), (8, 10), (9,),
    (8, 12), (11, 13), (12,), (8, 15), (14, 16), (15,),
)  # fmt: skip
SIMILAR_FRAMES = 2  # that a frame is linked to, usually itself among them
READOUT_WIDTH = 512


class MotionAGFormer(nn.Module):
    """Mehraban et al. 2024, "MotionAGFormer: Enhancing 3D Human Pose Estimation with a Transformer-GCNFormer Network".

    Each joint of each frame is a token. In each block the tokens take two ways, attention between joints and then over
    time, and graph convolution over the skeleton and then between frames that look alike; a softmax per token mixes
    the two. The defaults are the released size XS: for 27 frames of 17 joints with confidence 2,241,531 parameters and
    1.07 G multiplications; S has depth 26, B width 128 and depth 16, L width 128 and depth 26. Per window of T frames
    and J joints with C channels, of width D and `depth` blocks with MLPs of ratio r, they are
    T J (C D + depth ((12 + 8 r) D^2 + 4 D + (3 J + 4 T) D) + 512 D + 1536).

    Windows have exactly `frames` frames (`fixed_frames`): nothing but the batch normalisation of each frame's place
    tells frames apart. In training its statistics are those of the part of a batch that goes forward at once, so that
    weights depend on `micro_batches` and on the number of ranks, as those of the authors do.

    Departures: joints of layouts with other than 17 are linked to all joints, since a model is not told which joints it
    sees; the output may have other joints than the input, each a learned mixture of those of the input; which frames
    look alike is computed in float32 at least, and the training recipe is that of this project.
    """

    predicts: Literal["every_frame", "middle_frame"] = "every_frame"
    fixed_frames = True

    def __init__(
        self,
        *,
        frames: int,
        in_joints: int,
        out_joints: int,
        in_channels: int,
        width: Annotated[int, Field(gt=0)] = 64,
        depth: Annotated[int, Field(gt=0, le=1000)] = 12,
        heads: Annotated[int, Field(gt=0)] = 8,
        mlp_ratio: Annotated[float, Field(gt=0)] = 4.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected a number of heads that divides the width {width}, found {heads}")
        self.frames = frames
        self.screen_shape = (in_joints, in_channels)
        self.joints_embed = nn.Linear(in_channels, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, in_joints, width))
        self.blocks = nn.ModuleList(
            AttentionGraphBlock(width, frames=frames, joints=in_joints, heads=heads, mlp_ratio=mlp_ratio)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.rep_logit = nn.ModuleDict({"fc": nn.Linear(width, READOUT_WIDTH)})
        self.head = nn.Linear(READOUT_WIDTH, 3)
        self.out_from_in = None
        if out_joints != in_joints:
            self.out_from_in = nn.Parameter(torch.full((out_joints, in_joints), 1 / in_joints))

    def forward(self, screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B T J_out 3"]:
        """Root-relative pose in the camera frame, in metres, of every frame.

        Raises ValueError if T, J_in or C are not those that the model was built for.
        """
        check_last_axes("motionagformer: screen", screen, self.screen_shape)
        if screen.shape[1] != self.frames:
            raise ValueError(f"motionagformer: screen: expected {self.frames} frames, found {screen.shape[1]}")
        tokens = self.joints_embed(screen) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        pose_m = self.head(self.rep_logit["fc"](self.norm(tokens)).tanh())
        if self.out_from_in is None:
            return pose_m
        return einsum(self.out_from_in, pose_m, "j_out j_in, b t j_in c -> b t j_out c")


class AttentionGraphBlock(nn.Module):
    """The two ways that tokens take, and for each token how much of each is kept. At first it is half."""

    def __init__(self, width: int, *, frames: int, joints: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        links = NEIGHBOURS_OF_17 if joints == len(NEIGHBOURS_OF_17) else (tuple(range(joints)),) * joints
        self.att_spatial = MixerBlock(width, SelfAttention(width, heads=heads), mlp_ratio=mlp_ratio)
        self.att_temporal = MixerBlock(width, SelfAttention(width, heads=heads), mlp_ratio=mlp_ratio)
        self.graph_spatial = MixerBlock(width, GraphConvolution(width, nodes=joints, links=links), mlp_ratio=mlp_ratio)
        self.graph_temporal = MixerBlock(width, GraphConvolution(width, nodes=frames, links=None), mlp_ratio=mlp_ratio)
        self.fusion = nn.Linear(2 * width, 2)
        nn.init.zeros_(self.fusion.weight)
        nn.init.constant_(self.fusion.bias, 0.5)

    def forward(self, tokens: Float[Tensor, "B T J D"]) -> Float[Tensor, "B T J D"]:
        """The mixture of both ways; neither it nor the block adds the tokens that came in once more."""
        batch, ways = len(tokens), []
        for spatial, temporal in ((self.att_spatial, self.att_temporal), (self.graph_spatial, self.graph_temporal)):
            way = spatial(rearrange(tokens, "b t j d -> (b t) j d"))
            way = temporal(rearrange(way, "(b t) j d -> (b j) t d", b=batch))
            ways.append(rearrange(way, "(b j) t d -> b t j d", b=batch))
        shares = self.fusion(torch.cat(ways, -1)).softmax(-1)
        return shares[..., :1] * ways[0] + shares[..., 1:] * ways[1]


class MixerBlock(nn.Module):
    """A pre-norm block: a mixer of N tokens, then an MLP, each scaled channel by channel before it is added."""

    def __init__(self, width: int, mixer: nn.Module, *, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden=int(width * mlp_ratio))
        self.layer_scale_1 = nn.Parameter(torch.full((width,), 1e-5))
        self.layer_scale_2 = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The tokens after both residual branches."""
        tokens = tokens + self.layer_scale_1 * self.mixer(self.norm1(tokens))
        return tokens + self.layer_scale_2 * self.mlp(self.norm2(tokens))


class SelfAttention(nn.Module):
    """Multi-head self-attention whose queries, keys and values have no bias."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Each token replaced by a mixture of all tokens of its batch item."""
        qkv = rearrange(self.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.proj(rearrange(attend(qkv), "b h n d -> b n (h d)"))


class GraphConvolution(nn.Module):
    """relu(z + BN(A V z + U z)) with linear maps U and V and a BatchNorm for each node (Kipf and Welling 2017).

    A has 1 / sqrt(d_i d_j) where node i is linked to node j and 0 elsewhere; d counts a node's links. `links` lists
    them for each node; None links each node, in each batch item anew, to those whose tokens look most like its own.
    """

    def __init__(self, width: int, *, nodes: int, links: tuple[tuple[int, ...], ...] | None) -> None:
        super().__init__()
        self.rows = None if links is None else [[float(node in row) for node in range(nodes)] for row in links]
        self.U = nn.Linear(width, width)
        self.V = nn.Linear(width, width)
        for linear in (self.U, self.V):
            if linear.weight.is_meta:  # without numbers; drawing some would load torch's compiler
                continue
            nn.init.normal_(linear.weight, std=math.sqrt(2 / width))
        self.batch_norm = nn.BatchNorm1d(nodes)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Each token with what came of it and of the tokens it is linked to."""
        linked = link_similar(tokens) if self.rows is None else tokens.new_tensor(self.rows)
        scale = linked.sum(-1, keepdim=True).rsqrt()
        gathered = scale * (linked @ (scale * self.V(tokens)))
        return F.relu(tokens + self.batch_norm(gathered + self.U(tokens)))


@torch.no_grad()
def link_similar(tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N N"]:
    """Returns 1 where a token's product with another is among the largest SIMILAR_FRAMES of its row, else 0.

    Where products are equal there are more. They are at least of float32: rounded further, others would be the largest.
    """
    with torch.autocast("cuda" if tokens.is_cuda else "cpu", enabled=False):
        exact = tokens if tokens.dtype == torch.float64 else tokens.float()
        likeness = exact @ exact.mT
        least = likeness.topk(min(SIMILAR_FRAMES, tokens.shape[1]), dim=-1).values[..., -1:]
        return (likeness >= least).to(tokens.dtype)
