"""Makes motions that nobody captured out of captured ones: joints bent further, bodies that crouch, lean or tumble.

Joints are those of H36M_17 in world coordinates (Z up, metres), a batch of windows at a time. What is added changes
smoothly within a window, stays within what joints can do, and keeps the lengths of bones and the height of a window's
lowest joint. Turns are rotation vectors, an axis times an angle in radians; those of limbs and trunk are given in the
frame of the pelvis or the chest that they hang from: left, up, forward.

Motions are planes here, of joints, coordinates, frames and windows, whose long inner axes a processor can vectorise.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
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
ABOVE_SPINE = 8  # and all joints after it


def bend_bodies(
    joints_m: Float[Tensor, "17 3 T W"], augmentation: Augmentation, generator: torch.Generator
) -> Float[Tensor, "17 3 T W"]:
    """Bends trunk and limbs in a share of the windows, and turns the whole body in a share of them."""
    for share, change in ((augmentation.bend, _bend), (augmentation.lean, _lean), (augmentation.tumble, _tumble)):
        if share > 0:
            draws = torch.rand(joints_m.shape[3], generator=generator, device=joints_m.device)
            chosen = torch.nonzero(draws < share)[:, 0]
            before_m = joints_m.index_select(3, chosen)
            changed_m = change(before_m, generator)
            joints_m = joints_m.index_copy(3, chosen, put_at_height(changed_m, before_m))
    return joints_m


def put_at_height(joints_m: Float[Tensor, "17 3 T W"], of_m: Float[Tensor, "17 3 T W"]) -> Float[Tensor, "17 3 T W"]:
    """Returns the motions lifted until the lowest joint of each window is as high as in the motions `of_m`."""
    lifted_m = joints_m.clone()
    lifted_m[:, 2] += of_m[:, 2].amin(0).amin(0) - joints_m[:, 2].amin(0).amin(0)
    return lifted_m


def rotate(vectors: Float[Tensor, "*#L 3 #T #W"], turn: Float[Tensor, "*#L 3 #T #W"]) -> Float[Tensor, "*L 3 T W"]:
    """Returns the vectors turned by rotation vectors (Rodrigues' formula); the two broadcast."""
    square = turn.square().sum(-3, keepdim=True)
    per_angle = square.clamp(min=1e-18).rsqrt()
    axis, angle = turn * per_angle, square * per_angle
    along = (axis * vectors).sum(-3, keepdim=True) * axis
    return along + angle.cos() * (vectors - along) + angle.sin() * cross(axis, vectors)


def cross(a: Float[Tensor, "*#L 3 #T #W"], b: Float[Tensor, "*#L 3 #T #W"]) -> Float[Tensor, "*L 3 T W"]:
    """Returns the cross products of vectors whose coordinates are planes."""
    (ax, ay, az), (bx, by, bz) = a.unbind(-3), b.unbind(-3)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -3)


def trunk_frame(joints_m: Float[Tensor, "17 3 T W"], trunk: tuple[int, int, int, int]) -> Float[Tensor, "3 3 T W"]:
    """Returns unit vectors to the left, upwards as far as that is across it, and forwards."""
    left, right, below, above = (joints_m[joint] for joint in trunk)
    across = _unit(left - right)
    along = above - below
    upwards = _unit(along - (along * across).sum(-3, keepdim=True) * across)
    return torch.stack([across, upwards, cross(across, upwards)])


def _unit(vectors: Float[Tensor, "*L 3 T W"]) -> Float[Tensor, "*L 3 T W"]:
    return vectors * vectors.square().sum(-3, keepdim=True).clamp(min=1e-24).rsqrt()


def _bend(joints_m: Float[Tensor, "17 3 T W"], generator: torch.Generator) -> Float[Tensor, "17 3 T W"]:
    frames, count = joints_m.shape[2:]
    degrees = joints_m.new_tensor(
        [*TRUNK_DEGREES, *LEG_DEGREES * 2, *ARM_DEGREES * 2, *[KNEE_DEGREES] * 2, *[ELBOW_DEGREES] * 2]
    )
    drawn = rearrange(degrees.deg2rad(), "c -> c 1 1") * _draw_waves(count, frames, len(degrees), generator)
    crouch = torch.rand(count, generator=generator, device=joints_m.device) / CROUCH_SHARE
    crouch = (1 - crouch).clamp(min=0) * math.radians(1)  # zero in all but a share of the windows
    trunk_turn, limb_turn, flexion = drawn[:3], drawn[3:15].unflatten(0, (4, 3)), drawn[15:]
    trunk_turn[0] += CROUCH_TRUNK_DEGREES * crouch
    limb_turn[:2, 0] -= CROUCH_HIP_DEGREES * crouch
    flexion[:2] += CROUCH_KNEE_DEGREES * crouch

    # The trunk turns about the root: by half up to the spine, by all of it above.
    pelvis, bent_m = trunk_frame(joints_m, HIPS), joints_m.clone()
    upright = _into(pelvis, joints_m[8] - joints_m[0])
    trunk_turn = trunk_turn * _stays_within(upright, trunk_turn, *TRUNK_CONE)
    world_turn = _out_of(pelvis, trunk_turn)
    bent_m[7] = joints_m[0] + rotate(joints_m[7] - joints_m[0], world_turn / 2)
    bent_m[ABOVE_SPINE:] = bent_m[7] + rotate(joints_m[ABOVE_SPINE:] - joints_m[7], world_turn)

    # The limbs turn where they begin, and flex in the middle, in the frame of the pelvis or of the turned chest.
    chest = trunk_frame(bent_m, SHOULDERS)
    frame = torch.stack([pelvis, pelvis, chest, chest])
    starts_m, middles_m, ends_m = (torch.stack([bent_m[joint] for joint in row]) for row in (STARTS, MIDDLES, ENDS))
    upper_m, lower_m = _into(frame, middles_m - starts_m), _into(frame, ends_m - middles_m)
    stays = [
        _stays_within(upper_m[limbs], limb_turn[limbs], *cone)
        for limbs, cone in ((slice(2), LEG_CONE), (slice(2, 4), ARM_CONE))
    ]
    limb_turn = limb_turn * torch.cat(stays)
    upper_m, lower_m = rotate(upper_m, limb_turn), rotate(lower_m, limb_turn)
    lower_m = _flex(upper_m, lower_m, flexion)
    upper_m, lower_m = _out_of(frame, upper_m), _out_of(frame, lower_m)
    for limb, (middle, end) in enumerate(zip(MIDDLES, ENDS, strict=True)):
        bent_m[middle] = starts_m[limb] + upper_m[limb]
        bent_m[end] = bent_m[middle] + lower_m[limb]
    return bent_m


def _into(frame: Float[Tensor, "*L 3 3 T W"], vectors: Float[Tensor, "*L 3 T W"]) -> Float[Tensor, "*L 3 T W"]:
    """Returns vectors of the world in a frame whose unit vectors come first."""
    return (frame * vectors.unsqueeze(-4)).sum(-3)


def _out_of(frame: Float[Tensor, "*L 3 3 T W"], vectors: Float[Tensor, "*L 3 T W"]) -> Float[Tensor, "*L 3 T W"]:
    """Returns vectors of a frame in the world."""
    return (frame * vectors.unsqueeze(-3)).sum(-4)


def _draw_waves(count: int, frames: int, channels: int, generator: torch.Generator) -> Float[Tensor, "C T W"]:
    """Draws smooth functions of time, normally distributed: a constant, half a wave and a whole one over the window."""
    draws = torch.randn(len(WAVES), count, channels, generator=generator, device=generator.device)
    phase = torch.linspace(0, math.pi, frames, device=generator.device)
    waves = torch.stack([weight * (number * phase).cos() for number, weight in enumerate(WAVES)])
    return einsum(draws, waves, "k w c, k t -> c t w").contiguous()


def _stays_within(
    bones: Float[Tensor, "*L 3 T W"],
    turn: Float[Tensor, "*L 3 T W"],
    middle: tuple[float, float, float],
    half_opening_degrees: float,
) -> Bool[Tensor, "*L 1 1 W"]:
    """Whether a turned bone stays in its cone all the window, or at least as near to it as the captured one was."""
    axis = rearrange(F.normalize(bones.new_tensor(middle), dim=0), "x -> x 1 1")
    before, after = ((_unit(values) * axis).sum(-3, keepdim=True) for values in (bones, rotate(bones, turn)))
    lowest = before.amin(-2, keepdim=True).clamp(max=math.cos(math.radians(half_opening_degrees)))
    return (after >= lowest).all(-2, keepdim=True)


def _flex(
    upper_m: Float[Tensor, "4 3 T W"], lower_m: Float[Tensor, "4 3 T W"], flexion: Float[Tensor, "4 T W"]
) -> Float[Tensor, "4 3 T W"]:
    """Returns the lower bones after knees and elbows flexed by so much more, from straight to as far as they go.

    The hinge is across both bones. Where they are in line it is the axis to the left at knees, which flex backwards,
    and to the right at elbows, which flex forwards.
    """
    to_the_left = upper_m.new_tensor([1.0, 1.0, -1.0, -1.0])[:, None] * upper_m.new_tensor([1.0, 0.0, 0.0])
    upper, lower = _unit(upper_m), _unit(lower_m)
    hinge = cross(upper, lower) + STRAIGHT * rearrange(to_the_left, "l x -> l x 1 1")
    hinge = _unit(hinge - (hinge * lower).sum(-3, keepdim=True) * lower)
    angle = (upper * lower).sum(-3).clamp(-1, 1).acos()
    most = angle.clamp(min=math.radians(MOST_FLEXED_DEGREES))
    change = (torch.minimum((angle + flexion).clamp(min=0), most) - angle)[:, None]
    return change.cos() * lower_m + change.sin() * cross(hinge, lower_m)


def _lean(joints_m: Float[Tensor, "17 3 T W"], generator: torch.Generator) -> Float[Tensor, "17 3 T W"]:
    """Returns bodies that lean to any side."""
    draws = torch.randn(joints_m.shape[3], 3, generator=generator, device=joints_m.device)
    turn = math.radians(LEAN_DEGREES) * draws * draws.new_tensor([1.0, 1.0, 0.0])
    return joints_m[0] + rotate(joints_m - joints_m[0], rearrange(turn, "w x -> x 1 w"))


def _tumble(joints_m: Float[Tensor, "17 3 T W"], generator: torch.Generator) -> Float[Tensor, "17 3 T W"]:
    """Returns bodies turned any way, lying and upside down among them, which turn on during the window."""
    frames, count = joints_m.shape[2:]
    draws = torch.randn(2, count, 3, generator=generator, device=joints_m.device)
    angle = math.pi * torch.rand(count, 1, generator=generator, device=joints_m.device)
    first, more = (rearrange(turn, "w x -> x 1 w") for turn in (angle * F.normalize(draws[0], dim=-1), draws[1]))
    time = torch.linspace(-0.5, 0.5, frames, device=joints_m.device)[:, None]
    turned_m = rotate(joints_m - joints_m[0], first)
    return joints_m[0] + rotate(turned_m, math.radians(TUMBLE_DEGREES) * time * more)
