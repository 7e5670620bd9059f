"""The project's own lifter: tokens of rays about the person, attention over time, depths along the rays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.layers import Mlp, check_last_axes, square_root

# Root mean square of the joints' offsets from their mean across the line of sight, in metres, of a grown person: the
# distance at which he has the size seen is the start that the network corrects.
BODY_RADIUS_M = 0.45
SMALLEST_SIZE = 1e-3  # of that radius over the distance; joints that all coincide would have none
NEAREST = 0.1  # forward component of a ray; keypoints far outside any image stay finite


class RayFormer(nn.Module):
    """Lifts all T frames of a window in one pass.

    Keypoints become rays (the lens is taken to have focal length `focal`, in half image widths), and each frame is seen
    as by a camera turned until the person is on its axis, so that the same pose looks the same wherever he stands in
    the image. One token holds `patch` frames, as an image transformer's token holds a patch of pixels (Dosovitskiy et
    al. 2021): neighbouring frames differ little, so that a token for each would buy the same information several times.
    It holds their rays divided by the person's size over the window, and where he was. Blocks with rotary attention
    over time (Su et al. 2021) mix the tokens. The head predicts for each frame the person's distance and for each joint
    its depth relative to it and a small shift across; the ray does the rest, and the turn is undone.

    An output joint's ray is a learned mixture of the input rays, at first its own where the layouts have equally many
    joints, so the layouts may differ. Output joint 0 is the root. Windows of any T are taken; where `patch` does not
    divide T the last token is filled up with copies of the last frame, whose predictions are dropped. Departs from
    PoseFormer (Zheng et al. 2021) and MixSTE (Zhang et al. 2022) in having no attention between joints: a frame's
    joints are mixed by the token's linear maps.
    """

    predicts: Literal["every_frame", "middle_frame"] = "every_frame"

    def __init__(
        self,
        *,
        frames: int,
        in_joints: int,
        out_joints: int,
        in_channels: int,
        width: Annotated[int, Field(gt=0)] = 128,
        depth: Annotated[int, Field(gt=0, le=1000)] = 2,
        heads: Annotated[int, Field(gt=0)] = 4,
        mlp_ratio: Annotated[float, Field(gt=0)] = 2.0,
        patch: Annotated[int, Field(gt=0)] = 3,
        focal: Annotated[float, Field(gt=0)] = 2.29,
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"expected a number of heads that divides half the width {width}, found {heads}")
        self.screen_shape = (in_joints, in_channels)
        self.out_joints = out_joints
        self.focal = focal
        self.patch = patch
        features, outputs = patch * (in_joints * in_channels + 3), patch * (out_joints * 3 + 1)
        self.embed = nn.Linear(features, width)
        self.head_width = width // heads
        blocks = [RotaryBlock(width, heads=heads, mlp_ratio=mlp_ratio) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        self.shortcut = nn.Linear(features, outputs, bias=False)
        # On the meta device, without numbers, torch.eye and division would load torch's compiler.
        if in_joints == out_joints:
            same = torch.zeros(out_joints, in_joints).fill_diagonal_(1)
        else:
            same = torch.full((out_joints, in_joints), 1 / in_joints)
        self.out_from_in = nn.Parameter(same)
        # At first the blocks add little, and the prediction is a flat person at the distance that his size suggests.
        for layer in (self.head, self.shortcut):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.head.bias)
        if self.out_from_in.is_meta:
            return
        with torch.no_grad():
            for block in blocks:
                block.proj.weight /= math.sqrt(2 * depth)
                block.mlp.fc2.weight /= math.sqrt(2 * depth)

    def forward(self, screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B T J_out 3"]:
        """Root-relative pose in the camera frame, in metres, of every frame; any T.

        Raises ValueError if J_in or C are not those that the model was built for.
        """
        check_last_axes("rayformer: screen", screen, self.screen_shape)
        x, y = (screen[..., coordinate] / self.focal for coordinate in (0, 1))
        centre = torch.stack([x.mean(-1), y.mean(-1)], -1)
        rays, person_from_camera = turn_to_person((x, y), centre)
        squares = [(ray - ray.mean(-1, keepdim=True)).square().mean((1, 2)) for ray in rays]
        size = rearrange(square_root(squares[0] + squares[1] + SMALLEST_SIZE**2), "b -> b 1 1")

        # Factors and offsets bring the features near unit variance: joints spread by about twice the root mean square
        # in a coordinate, and people in the middle of the distances trained on have a size of about exp(-2.5).
        shape = screen.clone()  # of which the confidence stays
        for coordinate, ray in enumerate(rays):
            shape[..., coordinate] = 0.5 * ray / size
        place = torch.cat([self.focal * centre, (size.log() + 2.5).expand(*centre.shape[:2], 1)], -1)
        outputs = self.lift_frames(torch.cat([rearrange(shape, "b t j c -> b t (j c)"), place], -1))

        # Bodies differ in size by some tens of percent: 0.3 lets an output of one say so.
        distance_m = BODY_RADIUS_M / size * torch.exp(0.3 * outputs[..., -1:])
        shift_m = rearrange(outputs[..., :-1], "b t (j c) -> c b t j", c=3)
        depth_m = distance_m + shift_m[2]
        across_m = [F.linear(ray, self.out_from_in) * depth_m + shift_m[axis] for axis, ray in enumerate(rays)]
        relative_m = [coordinate_m - coordinate_m[..., :1] for coordinate_m in (*across_m, depth_m)]
        return rearrange(turn(relative_m, person_from_camera.mT), "c b t j -> b t j c")

    def lift_frames(self, frames: Float[Tensor, "B T E"]) -> Float[Tensor, "B T O"]:
        """The transformer itself: features of each frame to the head's outputs for each frame."""
        number = frames.shape[1]
        missing = -number % self.patch
        filled = torch.cat([frames, frames[:, -1:].expand(-1, missing, -1)], 1)
        features = rearrange(filled, "b (n p) e -> b n (p e)", p=self.patch)
        tokens = self.embed(features)
        turns = rotary_turns(tokens.shape[1], self.head_width, device=tokens.device, dtype=tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, turns)
        outputs = self.head(self.norm(tokens)) + self.shortcut(features)
        return rearrange(outputs, "b n (p o) -> b (n p) o", p=self.patch)[:, :number]


class RotaryBlock(nn.Module):
    """A pre-norm transformer block whose attention knows how far apart two tokens are, not where they are."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden=int(width * mlp_ratio))

    def forward(self, tokens: Float[Tensor, "B T D"], turns: Float[Tensor, "2 T E"]) -> Float[Tensor, "B T D"]:
        """The tokens after both residual branches."""
        normed = self.norm1(tokens)
        query, key, value = (
            rearrange(layer(normed), "b t (h e) -> b h t e", h=self.heads)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(rotate_pairs(query, turns), rotate_pairs(key, turns), value)
        tokens = tokens + self.proj(rearrange(mixed, "b h t e -> b t (h e)"))
        return tokens + self.mlp(self.norm2(tokens))


def turn_to_person(
    points: Sequence[Float[Tensor, "B T J"]], centre: Float[Tensor, "B T 2"]
) -> tuple[list[Float[Tensor, "B T J"]], Float[Tensor, "B T 3 3"]]:
    """Points (x / z, y / z) seen by a camera turned, without roll, to have `centre` on its axis; person_from_camera."""
    forward = F.normalize(F.pad(centre, (0, 1), value=1.0), dim=-1)
    zero = torch.zeros_like(forward[..., 0])
    right = F.normalize(torch.stack([forward[..., 2], zero, -forward[..., 0]], -1), dim=-1)
    down = torch.linalg.cross(forward, right)
    person_from_camera = torch.stack([right, down, forward], -2)
    x, y, z = turn((*points, torch.ones_like(points[0])), person_from_camera)
    depth = z.clamp(min=NEAREST)
    return [x / depth, y / depth], person_from_camera


def turn(vectors: Sequence[Float[Tensor, "B T J"]], rotation: Float[Tensor, "B T 3 3"]) -> list[Float[Tensor, "B T J"]]:
    """Returns vectors, given as their three coordinates, turned by each frame's rotation.

    On a CPU a product of matrices for each frame, as small as these, takes several times longer.
    """
    x, y, z = vectors
    return [row[..., :1] * x + row[..., 1:2] * y + row[..., 2:] * z for row in rotation.unbind(-2)]


def rotary_turns(frames: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "2 T E"]:
    """Cosine and sine of each token's turn for pairs of features (i, i + E / 2); periods from 2 pi to 200 pi tokens."""
    half = width // 2
    speed = 100.0 ** (-torch.arange(half, device=device, dtype=dtype) / half)
    angle = einsum(torch.arange(frames, device=device, dtype=dtype), speed, "t, e -> t e")
    return torch.stack([angle.cos().repeat(1, 2), torch.cat([-angle.sin(), angle.sin()], -1)])


def rotate_pairs(features: Float[Tensor, "B H T E"], turns: Float[Tensor, "2 T E"]) -> Float[Tensor, "B H T E"]:
    """Returns the features with each pair rotated by its token's angle."""
    return features * turns[0] + features.roll(turns.shape[-1] // 2, dims=-1) * turns[1]
