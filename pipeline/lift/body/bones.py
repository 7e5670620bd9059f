"""Brings the bones of a lifted person to one length over time, by moving joints mostly along their lines of sight.

A network predicts each frame anew, so that the lengths of bones vary with the pose; people's do not. An image says well
where a joint is across the line of sight and badly where along it, so depths give way most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from einops import einsum
from jaxtyping import Float

from pipeline.lift.people import LiftedPerson
from pipeline.poses.skeleton import Skeleton

# Standard deviations of what a network predicts, in metres: of a joint across and along its line of sight, and of a
# bone's length about its median.
ACROSS_M, ALONG_M, BONE_M = 0.02, 0.05, 0.02
ITERATIONS = 4  # of Gauss-Newton; with more, joints move by less than a millimetre
FRAMES_AT_ONCE = 1024  # their matrices, bones by bones, take 14 kB a frame while they are solved


def hold_bones(people: Sequence[LiftedPerson], skeleton: Skeleton) -> tuple[LiftedPerson, ...]:
    """Returns the people with bones of one length each, see `hold_bone_lengths`; their paths move with their roots.

    Frames in which it is not known where a person is stay as they are.
    """
    held = []
    for person in people:
        start_m = person.joints_camera_m + person.root_camera_m[:, None]
        move_m = np.nan_to_num(hold_bone_lengths(start_m, skeleton) - start_m)
        root_move_m = move_m[:, skeleton.root]
        joints_m = person.joints_camera_m + move_m - root_move_m[:, None]
        held.append(replace(person, joints_camera_m=joints_m, root_camera_m=person.root_camera_m + root_move_m))
    return tuple(held)


def hold_bone_lengths(joints_camera_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton) -> Float[np.ndarray, "F J 3"]:
    """Returns the joints after every bone was drawn to its length, the median over time of it and its mirror image's.

    Joints are positions in the camera frame (z forward), not relative to the root. What is minimised in each frame is
    the sum of squared moves across and along the lines of sight and of squared errors of lengths, each over its
    standard deviation. Frames that are NaN stay so.
    """
    known = np.isfinite(joints_camera_m).all((1, 2))
    if not known.any():
        return joints_camera_m
    start_m = joints_camera_m[known]
    children = [child for _, child in skeleton.bones]
    mirrored = [children.index(skeleton.mirrored[child]) for child in children]
    bone_from_joint = np.array(skeleton.bone_from_joint, dtype=float)
    bones_m = einsum(bone_from_joint, start_m, "b j, f j c -> f b c")
    median_m = np.median(np.linalg.norm(bones_m, axis=-1), axis=0)
    length_m = (median_m + median_m[mirrored]) / 2

    parts = [start_m[first : first + FRAMES_AT_ONCE] for first in range(0, len(start_m), FRAMES_AT_ONCE)]
    held_m = joints_camera_m.copy()
    held_m[known] = np.concatenate([_draw_bones(part_m, bone_from_joint, length_m) for part_m in parts])
    return held_m


def _draw_bones(
    start_m: Float[np.ndarray, "F J 3"], bone_from_joint: Float[np.ndarray, "B J"], length_m: Float[np.ndarray, " B"]
) -> Float[np.ndarray, "F J 3"]:
    """Returns the joints after each bone was drawn to its length."""
    start_bones_m = einsum(bone_from_joint, start_m, "b j, f j c -> f b c")
    sight = start_m / np.linalg.norm(start_m, axis=-1, keepdims=True)
    more_along = ALONG_M**2 - ACROSS_M**2
    joints_m = start_m
    for _ in range(ITERATIONS):
        bones_m = einsum(bone_from_joint, joints_m, "b j, f j c -> f b c")
        direction = bones_m / np.maximum(np.linalg.norm(bones_m, axis=-1, keepdims=True), 1e-9)
        along_sight = einsum(direction, sight, "f b c, f j c -> f b j")
        seen = bone_from_joint * along_sight  # of the two ends of each bone
        together = (bone_from_joint @ bone_from_joint.T) * einsum(direction, direction, "f b c, f a c -> f b a")
        spread = ACROSS_M**2 * together + more_along * einsum(seen, seen, "f b j, f a j -> f b a")
        missing_m = length_m - einsum(direction, start_bones_m, "f b c, f b c -> f b")
        force = np.linalg.solve(spread + BONE_M**2 * np.eye(len(bone_from_joint)), missing_m[..., None])[..., 0]
        across_m = ACROSS_M**2 * einsum(bone_from_joint, force, direction, "b j, f b, f b c -> f j c")
        along_m = more_along * sight * einsum(seen, force, "f b j, f b -> f j")[..., None]
        joints_m = start_m + across_m + along_m
    return joints_m
