"""Makes other people out of captured ones: bones longer or shorter, together as they are in a population.

Joints are those of H36M_17 in world coordinates (Z up, metres), a batch of windows at a time, in planes of joints,
coordinates, frames and windows.
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from pipeline.mocap.motions import put_at_height
from pipeline.poses.skeleton import H36M_17

# How 6,068 measured adults vary (ANSUR II, Gordon et al. 2014): standard deviation of the logarithm of each length and
# correlations of these, the mean of women and men, and half the difference of the two (men less women). The segments:
# thigh, shank, trunk, head and neck, upper arm, forearm, shoulder breadth, hip breadth.
DEVIATION = (0.0622, 0.0632, 0.0527, 0.0526, 0.0538, 0.0603, 0.0483, 0.0723)
CORRELATION = (
    (1.00, 0.60, 0.05, 0.21, 0.64, 0.61, 0.36, 0.17),
    (0.60, 1.00, 0.29, 0.19, 0.76, 0.76, 0.45, 0.25),
    (0.05, 0.29, 1.00, 0.26, 0.41, 0.27, 0.40, 0.41),
    (0.21, 0.19, 0.26, 1.00, 0.24, 0.17, 0.18, 0.10),
    (0.64, 0.76, 0.41, 0.24, 1.00, 0.70, 0.47, 0.35),
    (0.61, 0.76, 0.27, 0.17, 0.70, 1.00, 0.47, 0.24),
    (0.36, 0.45, 0.40, 0.18, 0.47, 0.47, 1.00, 0.38),
    (0.17, 0.25, 0.41, 0.10, 0.35, 0.24, 0.38, 1.00),
)
HALF_DIFFERENCE = (0.0199, 0.0364, 0.0567, 0.0129, 0.0373, 0.0524, 0.0646, -0.0114)
# The segment that the bone from its parent to each joint belongs to, in the order of H36M_17; -1 for the root.
SEGMENT_OF_JOINT = (-1, 7, 0, 1, 7, 0, 1, 2, 2, 3, 3, 6, 4, 5, 6, 4, 5)


def draw_people(
    joints_m: Float[Tensor, "17 3 T W"], spread: float, generator: torch.Generator
) -> Float[Tensor, "17 3 T W"]:
    """Returns the motions of other people: bones of each window times factors drawn as adults vary, times the spread.

    Half of the people are women. Directions of bones are kept; the lowest joint of a window keeps its height.
    """
    device, count = joints_m.device, joints_m.shape[3]
    scale = torch.linalg.cholesky(torch.tensor(CORRELATION, dtype=torch.float64)).float().to(device)
    normal = torch.randn(count, len(DEVIATION), generator=generator, device=device)
    sex = 1.0 - 2.0 * torch.randint(2, (count, 1), generator=generator, device=device)
    within = normal.new_tensor(DEVIATION) * einsum(scale, normal, "s n, w n -> w s")
    factor = (spread * (within + sex * normal.new_tensor(HALF_DIFFERENCE))).exp()
    scaled_m = scale_bones(joints_m, factor[:, list(SEGMENT_OF_JOINT[1:])])
    return put_at_height(scaled_m, joints_m)


def scale_bones(joints_m: Float[Tensor, "17 3 T W"], factor: Float[Tensor, "W 16"]) -> Float[Tensor, "17 3 T W"]:
    """Returns the joints with the bone from its parent to joint j + 1 `factor[:, j]` times as long, directions kept."""
    moves = joints_m.new_tensor(_joints_that_bones_move())
    change = rearrange(factor - 1, "w bone -> bone 1 1 w")
    parents = torch.tensor(H36M_17.parents[1:], device=joints_m.device)
    change_m = change * (joints_m[1:] - joints_m.index_select(0, parents))
    return joints_m + einsum(moves, change_m, "joint bone, bone x t w -> joint x t w")


def _joints_that_bones_move() -> list[list[float]]:
    """Returns for each joint which bones lie between it and the root."""
    above: list[set[int]] = []
    for joint, parent in enumerate(H36M_17.parents):
        above.append(set() if parent < 0 else above[parent] | {joint})
    return [[float(bone in bones) for bone in range(1, len(above))] for bones in above]
