"""Makes other motions out of captured ones: arms and legs of somebody else.

Joints are those of H36M_17 in world coordinates (Z up, metres), a batch of windows at a time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from pipeline.config.params import Augmentation

# Limbs: the joint that a limb hangs from, and the joints that move with it.
LEGS = ((0, (1, 2, 3, 4, 5, 6)),)
ARMS = ((11, (12, 13)), (14, (15, 16)))
# (left, right, below, above): the joints that say how the trunk is turned where the legs, or the arms, hang from it.
HIPS, SHOULDERS = (4, 1, 0, 7), (11, 14, 7, 8)


def swap_limbs(
    joints_m: Float[Tensor, "W T 17 3"], augmentation: Augmentation, generator: torch.Generator
) -> Float[Tensor, "W T 17 3"]:
    """Gives some windows the legs of another window of the batch, and some the arms of one.

    The idea of crossing poses over is Li et al.'s (2020, "Cascaded deep monocular 3D human pose estimation with
    evolutionary training data"); here whole runs of motion are, so that limbs move as limbs do. A limb keeps its angles
    to the part of the trunk that it hangs from; it may swing through the body, and feet may leave the floor.
    """
    for share, limbs, trunk in ((augmentation.other_legs, LEGS, HIPS), (augmentation.other_arms, ARMS, SHOULDERS)):
        if share > 0:
            count, device = len(joints_m), joints_m.device
            other = torch.randint(count, (count,), generator=generator, device=device)
            changed = torch.nonzero(torch.rand(count, generator=generator, device=device) < share)[:, 0]
            swapped_m = with_limbs_of(joints_m[changed], joints_m[other[changed]], limbs=limbs, trunk=trunk)
            joints_m = joints_m.index_copy(0, changed, swapped_m)
    return joints_m


def with_limbs_of(
    joints_m: Float[Tensor, "W T 17 3"],
    other_m: Float[Tensor, "W T 17 3"],
    *,
    limbs: tuple[tuple[int, tuple[int, ...]], ...],
    trunk: tuple[int, int, int, int],
) -> Float[Tensor, "W T 17 3"]:
    """Returns the first motion with the limbs of the second, turned frame by frame as the first one's trunk is."""
    turn = einsum(trunk_frame(joints_m, trunk), trunk_frame(other_m, trunk), "w t a x, w t a y -> w t x y")
    changed_m = joints_m.clone()
    for start, moving in limbs:
        joints = list(moving)
        from_start_m = other_m[:, :, joints] - other_m[:, :, start : start + 1]
        turned_m = einsum(turn, from_start_m, "w t x y, w t j y -> w t j x")
        changed_m[:, :, joints] = joints_m[:, :, start : start + 1] + turned_m
    return changed_m


def trunk_frame(joints_m: Float[Tensor, "W T 17 3"], trunk: tuple[int, int, int, int]) -> Float[Tensor, "W T 3 3"]:
    """Returns unit vectors to the left, upwards as far as that is across it, and forwards, as rows."""
    left, right, below, above = (joints_m[:, :, joint] for joint in trunk)
    across = F.normalize(left - right, dim=-1)
    along = above - below
    upwards = F.normalize(along - (along * across).sum(-1, keepdim=True) * across, dim=-1)
    return torch.stack([across, upwards, torch.linalg.cross(across, upwards)], -2)
