"""Makes motions that nobody captured out of captured ones: joints bent further, bodies that crouch, lean or tumble.

Joints are those of H36M_17 in world coordinates (Z up, metres), a batch of windows at a time. What is added changes
smoothly within a window, stays within what joints can do, and keeps the lengths of bones and the height of a window's
lowest joint. Turns are rotation vectors, an axis times an angle in radians; those of limbs and trunk are given in the
frame of the pelvis or the chest that they hang from: left, up, forward.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import Augmentation

# Standard deviations of what is added about each axis of the frame, in degrees: about as much as a joint moves within
# the captured takes, so that a bent motion is as far from its own as motions are from each other.
TRUNK_DEGREES, LEG_DEGREES, ARM_DEGREES = (20.0, 15.0, 12.0), (25.0, 15.0, 15.0), (40.0, 30.0, 40.0)
KNEE_DEGREES, ELBOW_DEGREES = 25.0, 40.0
WAVES = (1.0, 0.5, 0.25)  # of it constant in a window, and as half a wave and a whole one
# Middle and half opening of the cone in which a bone may point, in degrees: about the active range of adults, which is
# wider to the front than to the back.
LEG_CONE, ARM_CONE, TRUNK_CONE = ((0.0, -0.65, 0.75), 95.0), ((0.0, 0.1, 1.0), 125.0), ((0.0, 1.0, 0.35), 75.0)
MOST_FLEXED_DEGREES = 150.0  # between the directions of the bones at a knee or an elbow
STRAIGHT = 0.1  # sine of the flexion below which the hinge is the body's axis rather than that of the two bones
CROUCH_SHARE = 0.1  # of the bent windows, each by its own part of these
CROUCH_TRUNK_DEGREES, CROUCH_HIP_DEGREES, CROUCH_KNEE_DEGREES = 45.0, 95.0, 120.0
LEAN_DEGREES = 15.0  # standard deviation about each horizontal axis
TUMBLE_DEGREES = 30.0  # by which tumbling bodies turn on during a window, about each axis
# (left, right, below, above): the joints that say how the trunk is turned where the legs, or the arms, hang from it.
HIPS, SHOULDERS = (4, 1, 0, 7), (11, 14, 7, 8)
# Where the limbs begin, bend and end: right leg, left leg, right arm, left arm.
STARTS, MIDDLES, ENDS = (1, 4, 14, 11), (2, 5, 15, 12), (3, 6, 16, 13)
ABOVE_SPINE = (8, 9, 10, 11, 12, 13, 14, 15, 16)


def bend_bodies(
    joints_m: Float[Tensor, "W T 17 3"], augmentation: Augmentation, generator: torch.Generator
) -> Float[Tensor, "W T 17 3"]:
    """Bends trunk and limbs in a share of the windows, and turns the whole body in a share of them."""
    for share, change in ((augmentation.bend, _bend), (augmentation.lean, _lean), (augmentation.tumble, _tumble)):
        if share > 0:
            draws = torch.rand(len(joints_m), generator=generator, device=joints_m.device)
            chosen = torch.nonzero(draws < share)[:, 0]
            before_m = joints_m[chosen]
            changed_m = change(before_m, generator)
            changed_m[..., 2] += (before_m[..., 2].amin((1, 2)) - changed_m[..., 2].amin((1, 2)))[:, None, None]
            joints_m = joints_m.index_copy(0, chosen, changed_m)
    return joints_m


def rotate(vectors: Float[Tensor, "*#N 3"], turn: Float[Tensor, "*#N 3"]) -> Float[Tensor, "*N 3"]:
    """Returns the vectors turned by rotation vectors (Rodrigues' formula); the two broadcast."""
    angle = torch.linalg.vector_norm(turn, dim=-1, keepdim=True)
    axis = turn / angle.clamp(min=1e-9)
    along = (axis * vectors).sum(-1, keepdim=True) * axis
    return along + angle.cos() * (vectors - along) + angle.sin() * torch.linalg.cross(axis, vectors)


def trunk_frame(joints_m: Float[Tensor, "W T 17 3"], trunk: tuple[int, int, int, int]) -> Float[Tensor, "W T 3 3"]:
    """Returns unit vectors to the left, upwards as far as that is across it, and forwards, as rows."""
    left, right, below, above = (joints_m[:, :, joint] for joint in trunk)
    across = F.normalize(left - right, dim=-1)
    along = above - below
    upwards = F.normalize(along - (along * across).sum(-1, keepdim=True) * across, dim=-1)
    return torch.stack([across, upwards, torch.linalg.cross(across, upwards)], -2)


def _bend(joints_m: Float[Tensor, "W T 17 3"], generator: torch.Generator) -> Float[Tensor, "W T 17 3"]:
    count, frames = joints_m.shape[:2]
    degrees = joints_m.new_tensor(
        [*TRUNK_DEGREES, *LEG_DEGREES * 2, *ARM_DEGREES * 2, *[KNEE_DEGREES] * 2, *[ELBOW_DEGREES] * 2]
    )
    drawn = degrees.deg2rad() * _draw_waves(count, frames, len(degrees), generator)
    crouch = torch.rand(count, 1, generator=generator, device=joints_m.device) / CROUCH_SHARE
    crouch = (1 - crouch).clamp(min=0) * math.radians(1)  # zero in all but a share of the windows
    trunk_turn, limb_turn, flexion = drawn[..., :3], drawn[..., 3:15].unflatten(-1, (4, 3)), drawn[..., 15:].clone()
    trunk_turn[..., 0] += CROUCH_TRUNK_DEGREES * crouch
    limb_turn[..., :2, 0] -= CROUCH_HIP_DEGREES * crouch[..., None]
    flexion[..., :2] += CROUCH_KNEE_DEGREES * crouch[..., None]

    # The trunk turns about the root: by half up to the spine, by all of it above.
    pelvis, bent_m = trunk_frame(joints_m, HIPS), joints_m.clone()
    upright = einsum(pelvis, joints_m[:, :, 8] - joints_m[:, :, 0], "w t a x, w t x -> w t a")
    trunk_turn = trunk_turn * _stays_within(upright, trunk_turn, *TRUNK_CONE)
    world_turn = einsum(pelvis, trunk_turn, "w t a x, w t a -> w t x")
    bent_m[:, :, 7] = joints_m[:, :, 0] + rotate(joints_m[:, :, 7] - joints_m[:, :, 0], world_turn / 2)
    above = list(ABOVE_SPINE)
    from_spine_m = rotate(joints_m[:, :, above] - joints_m[:, :, 7:8], world_turn[:, :, None])
    bent_m[:, :, above] = bent_m[:, :, 7:8] + from_spine_m

    # The limbs turn where they begin, and flex in the middle, in the frame of the pelvis or of the turned chest.
    chest = trunk_frame(bent_m, SHOULDERS)
    frame = torch.stack([pelvis, pelvis, chest, chest], 2)
    starts, middles, ends = (bent_m[:, :, list(joints)] for joints in (STARTS, MIDDLES, ENDS))
    upper_m, lower_m = (
        einsum(frame, bone_m, "w t l a x, w t l x -> w t l a") for bone_m in (middles - starts, ends - middles)
    )
    legs, arms = (limb_turn[..., :2, :], limb_turn[..., 2:, :])
    legs = legs * _stays_within(upper_m[..., :2, :], legs, *LEG_CONE)
    arms = arms * _stays_within(upper_m[..., 2:, :], arms, *ARM_CONE)
    limb_turn = torch.cat([legs, arms], -2)
    upper_m, lower_m = rotate(upper_m, limb_turn), rotate(lower_m, limb_turn)
    lower_m = _flex(upper_m, lower_m, flexion)
    upper_m, lower_m = (einsum(frame, bone_m, "w t l a x, w t l a -> w t l x") for bone_m in (upper_m, lower_m))
    bent_m[:, :, list(MIDDLES)] = starts + upper_m
    bent_m[:, :, list(ENDS)] = starts + upper_m + lower_m
    return bent_m


def _draw_waves(count: int, frames: int, channels: int, generator: torch.Generator) -> Float[Tensor, "W T C"]:
    """Draws smooth functions of time, normally distributed: a constant, half a wave and a whole one over the window."""
    draws = torch.randn(len(WAVES), count, channels, generator=generator, device=generator.device)
    phase = torch.linspace(0, math.pi, frames, device=generator.device)
    waves = torch.stack([weight * (number * phase).cos() for number, weight in enumerate(WAVES)])
    return einsum(waves, draws, "k t, k w c -> w t c")


def _stays_within(
    bones: Float[Tensor, "W T *L 3"],
    turn: Float[Tensor, "W T *L 3"],
    middle: tuple[float, float, float],
    half_opening_degrees: float,
) -> Bool[Tensor, "W 1 *L 1"]:
    """Whether a turned bone stays in its cone all the window, or at least as near to it as the captured one was."""
    axis = F.normalize(bones.new_tensor(middle), dim=0)
    before, after = (F.normalize(values, dim=-1) @ axis for values in (bones, rotate(bones, turn)))
    lowest = before.amin(1, keepdim=True).clamp(max=math.cos(math.radians(half_opening_degrees)))
    return (after >= lowest).all(1, keepdim=True)[..., None]


def _flex(
    upper_m: Float[Tensor, "W T 4 3"], lower_m: Float[Tensor, "W T 4 3"], flexion: Float[Tensor, "W T 4"]
) -> Float[Tensor, "W T 4 3"]:
    """Returns the lower bones after knees and elbows flexed by so much more, from straight to as far as they go.

    The hinge is across both bones. Where they are in line it is the axis to the left at knees, which flex backwards,
    and to the right at elbows, which flex forwards.
    """
    to_the_left = upper_m.new_tensor([1.0, 1.0, -1.0, -1.0])[:, None] * upper_m.new_tensor([1.0, 0.0, 0.0])
    upper, lower = F.normalize(upper_m, dim=-1), F.normalize(lower_m, dim=-1)
    hinge = torch.linalg.cross(upper, lower) + STRAIGHT * to_the_left
    hinge = F.normalize(hinge - (hinge * lower).sum(-1, keepdim=True) * lower, dim=-1)
    angle = (upper * lower).sum(-1).clamp(-1, 1).acos()
    most = angle.clamp(min=math.radians(MOST_FLEXED_DEGREES))
    change = (torch.minimum((angle + flexion).clamp(min=0), most) - angle)[..., None]
    return change.cos() * lower_m + change.sin() * torch.linalg.cross(hinge, lower_m)


def _lean(joints_m: Float[Tensor, "W T 17 3"], generator: torch.Generator) -> Float[Tensor, "W T 17 3"]:
    """Returns bodies that lean to any side."""
    draws = torch.randn(len(joints_m), 1, 1, 3, generator=generator, device=joints_m.device)
    turn = math.radians(LEAN_DEGREES) * draws * draws.new_tensor([1.0, 1.0, 0.0])
    return joints_m[:, :, :1] + rotate(joints_m - joints_m[:, :, :1], turn)


def _tumble(joints_m: Float[Tensor, "W T 17 3"], generator: torch.Generator) -> Float[Tensor, "W T 17 3"]:
    """Returns bodies turned any way, lying and upside down among them, which turn on during the window."""
    count, frames = joints_m.shape[:2]
    draws = torch.randn(2, count, 1, 1, 3, generator=generator, device=joints_m.device)
    angle = math.pi * torch.rand(count, 1, 1, 1, generator=generator, device=joints_m.device)
    time = torch.linspace(-0.5, 0.5, frames, device=joints_m.device)[:, None, None]
    root_m = joints_m[:, :, :1]
    turned_m = rotate(joints_m - root_m, angle * F.normalize(draws[0], dim=-1))
    return root_m + rotate(turned_m, math.radians(TUMBLE_DEGREES) * time * draws[1])
