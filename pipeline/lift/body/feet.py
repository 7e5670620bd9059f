"""Keeps feet in place while they rest, with limbs of constant length, for animation: the foot lock.

Lifted feet slide by what the path and the pose are off from frame to frame. Each rest of a foot gets one place; the
root follows what its feet are off, slowly, and the legs are bent to reach (inverse kinematics in closed form).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from einops import einsum
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, uniform_filter1d

from pipeline.lift.people import LiftedPerson
from pipeline.lift.scene.upright import find_rests
from pipeline.poses.frames import find_runs
from pipeline.poses.geometry import RigidTransform
from pipeline.poses.skeleton import Skeleton

UP = np.array([0.0, 0.0, 1.0])
SHORTEST_REST_S = 0.1
SAME_REST_S, SAME_REST_M = 0.2, 0.08  # two rests so near to each other in time and place are one
ROOT_SIGMA_S = 0.1  # of the Gaussian over time by which the root follows the feet
BENDS_FORWARD_M = 0.05  # a knee nearer to the line from hip to ankle than this bends the more to where the pelvis faces
SIDES = ("L", "R")
Rest = tuple[int, slice]


def lock_feet(
    people: Sequence[LiftedPerson], skeleton: Skeleton, world_from_camera: RigidTransform, *, rate_hz: float
) -> tuple[tuple[LiftedPerson, ...], str]:
    """Returns the people with feet that stay where they rest and limbs of constant length, and in words what moved."""
    locked, rests, moved_m = [], 0, []
    for person in people:
        joints_m = world_from_camera.apply(person.placed_camera_m)
        whole = np.isfinite(joints_m).all((1, 2))
        if not whole.any():
            locked.append(person)
            continue
        lengths_m = measure_limbs(joints_m[whole], skeleton)
        locked_m = joints_m.copy()
        for run in find_runs(whole):
            found = find_foot_rests(joints_m[run], skeleton, rate_hz=rate_hz)
            locked_m[run] = lock_run(joints_m[run], found, lengths_m, skeleton, rate_hz=rate_hz)
            rests += len(found)
        moved_m.append(np.linalg.norm(locked_m[whole] - joints_m[whole], axis=-1).mean())
        joints_camera_m = world_from_camera.inverse().apply(locked_m)
        root_m = joints_camera_m[:, skeleton.root]
        locked.append(replace(person, joints_camera_m=joints_camera_m - root_m[:, None], root_camera_m=root_m))
    moved_mm = 1000 * float(np.mean(moved_m)) if moved_m else 0.0
    words = f"feet: locked in {rests} rests, limbs of constant length; joints moved by {moved_mm:.0f} mm on average"
    return tuple(locked), words


def measure_limbs(joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton) -> Float[np.ndarray, " J"]:
    """Returns the median length over the frames of each joint's bone, the one from its parent; 0 for the root's."""
    bones_m = joints_m - joints_m[:, np.maximum(skeleton.parents, 0)]
    lengths_m = np.median(np.linalg.norm(bones_m, axis=-1), axis=0)
    lengths_m[skeleton.root] = 0.0
    return lengths_m


def find_foot_rests(joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton, *, rate_hz: float) -> list[Rest]:
    """Returns for each rest the foot, 0 for the left and 1 for the right, and its frames, in order of the feet.

    A rest at the first or last frames reaches to the end; short ones do not count, and of two that are close in time
    and place the foot is held in between too.
    """
    feet_m = joints_m[:, [skeleton.joints.index(f"{side}Foot") for side in SIDES]]
    merged: list[Rest] = []
    for foot, rest in find_rests(feet_m, UP, rate_hz=rate_hz):
        start = 0 if rest.start <= 1 else rest.start
        stop = len(joints_m) if rest.stop >= len(joints_m) - 1 else rest.stop
        before = merged[-1] if merged and merged[-1][0] == foot else None
        if before is not None and start - before[1].stop <= SAME_REST_S * rate_hz:
            places_m = [np.median(feet_m[frames, foot], axis=0) for frames in (before[1], slice(start, stop))]
            if np.linalg.norm(places_m[1] - places_m[0]) <= SAME_REST_M:
                start = before[1].start
                merged.pop()
        merged.append((foot, slice(start, stop)))
    return [(foot, rest) for foot, rest in merged if rest.stop - rest.start >= SHORTEST_REST_S * rate_hz]


def lock_run(
    joints_m: Float[np.ndarray, "F J 3"],
    rests: Sequence[Rest],
    lengths_m: Float[np.ndarray, " J"],
    skeleton: Skeleton,
    *,
    rate_hz: float,
) -> Float[np.ndarray, "F J 3"]:
    """Returns whole consecutive frames with bones of these lengths, whose feet stay in one place in each rest.

    The place is the median over the rest. In between, the correction of a foot goes linearly from that of one rest to
    that of the next. The root takes the mean correction of both feet, smoothed, and is lowered, smoothly too, where a
    leg would have to be longer than it is. Joints are in an upright world, Z up, in metres.
    """
    locked_m = _set_lengths(joints_m, lengths_m, skeleton)
    legs = [[skeleton.joints.index(side + name) for name in ("Hip", "Knee", "Foot")] for side in SIDES]
    corrections_m = np.stack(
        [_find_corrections(joints_m[:, leg[2]], locked_m[:, leg[2]], rests, foot) for foot, leg in enumerate(legs)]
    )
    have_rests = [any(foot == other for other, _ in rests) for foot in range(2)]
    if not any(have_rests):
        return locked_m
    corrections_m[[not has for has in have_rests]] = corrections_m[have_rests].mean(0)
    root_m = gaussian_filter1d(corrections_m.mean(0), ROOT_SIGMA_S * rate_hz, axis=0, mode="nearest")
    targets_m = [locked_m[:, leg[2]] + correction_m for leg, correction_m in zip(legs, corrections_m, strict=True)]
    locked_m = locked_m + root_m[:, None]
    short_m = np.zeros(len(locked_m))
    for foot, rest in rests:
        hip, knee, ankle = legs[foot]
        needed_m = _find_lowering(locked_m[rest, hip], targets_m[foot][rest], lengths_m[knee] + lengths_m[ankle])
        short_m[rest] = np.maximum(short_m[rest], needed_m)
    width = 2 * round(ROOT_SIGMA_S * rate_hz) + 1  # the mean over it of the largest over it is nowhere below
    locked_m = locked_m - uniform_filter1d(maximum_filter1d(short_m, width), width)[:, None, None] * UP
    for leg, target_m in zip(legs, targets_m, strict=True):
        locked_m[:, leg[1:]] = _reach(locked_m, leg, target_m, lengths_m, _find_forward(locked_m, skeleton))
    return locked_m


def _set_lengths(
    joints_m: Float[np.ndarray, "F J 3"], lengths_m: Float[np.ndarray, " J"], skeleton: Skeleton
) -> Float[np.ndarray, "F J 3"]:
    """Returns the joints with bones of these lengths in the same directions, from the root outwards."""
    set_m = joints_m.copy()
    order = [skeleton.root]
    for parent in order:
        children = [child for child, above in enumerate(skeleton.parents) if above == parent]
        order += children
        for child in children:
            set_m[:, child] = set_m[:, parent] + lengths_m[child] * _unit(joints_m[:, child] - joints_m[:, parent])
    return set_m


def _find_corrections(
    feet_m: Float[np.ndarray, "F 3"], moved_m: Float[np.ndarray, "F 3"], rests: Sequence[Rest], foot: int
) -> Float[np.ndarray, "F 3"]:
    """Returns what takes `moved_m` to the foot's place while it rests, linear in between; zero without a rest."""
    known: Bool[np.ndarray, " F"] = np.zeros(len(feet_m), dtype=bool)
    corrections_m = np.zeros_like(feet_m)
    for other, rest in rests:
        if other == foot:
            known[rest] = True
            corrections_m[rest] = np.median(feet_m[rest], axis=0) - moved_m[rest]
    if not known.any():
        return corrections_m
    frames = np.arange(len(feet_m))
    return np.stack([np.interp(frames, frames[known], corrections_m[known, axis]) for axis in range(3)], axis=-1)


def _find_lowering(
    hips_m: Float[np.ndarray, "F 3"], targets_m: Float[np.ndarray, "F 3"], reach_m: float
) -> Float[np.ndarray, " F"]:
    """Returns by how much each hip has to be lowered so that a leg of `reach_m` gets to its target."""
    away_m = hips_m - targets_m
    highest_m = np.sqrt(np.maximum(reach_m**2 - (away_m[:, :2] ** 2).sum(-1), 0.0))
    return np.maximum(away_m[:, 2] - highest_m, 0.0)


def _reach(
    joints_m: Float[np.ndarray, "F J 3"],
    leg: Sequence[int],
    targets_m: Float[np.ndarray, "F 3"],
    lengths_m: Float[np.ndarray, " J"],
    forward: Float[np.ndarray, "F 3"],
) -> Float[np.ndarray, "F 2 3"]:
    """Returns knee and ankle of a leg that reaches for its target and bends to the side that it bent to before."""
    hip_m, knee_m, _ = (joints_m[:, joint] for joint in leg)
    thigh_m, shank_m = lengths_m[leg[1]], lengths_m[leg[2]]
    along = _unit(targets_m - hip_m)
    distance_m = np.linalg.norm(targets_m - hip_m, axis=-1)
    distance_m = np.clip(distance_m, abs(thigh_m - shank_m) + 1e-6, thigh_m + shank_m)[:, None]
    bent_m = _across(knee_m - hip_m, along)
    straight_m = np.maximum(BENDS_FORWARD_M - np.linalg.norm(bent_m, axis=-1, keepdims=True), 0.0)
    aside = _unit(bent_m + straight_m * _unit(_across(forward, along)))
    along_m = (thigh_m**2 - shank_m**2 + distance_m**2) / (2 * distance_m)
    knee_m = hip_m + along_m * along + np.sqrt(np.maximum(thigh_m**2 - along_m**2, 0.0)) * aside
    return np.stack([knee_m, hip_m + distance_m * along], axis=1)


def _find_forward(joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton) -> Float[np.ndarray, "F 3"]:
    """Returns where the pelvis faces, horizontally."""
    left, right = (joints_m[:, skeleton.joints.index(f"{side}Hip")] for side in SIDES)
    return np.cross(UP, right - left)


def _across(vectors: Float[np.ndarray, "F 3"], along: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    return vectors - einsum(vectors, along, "f c, f c -> f")[:, None] * along


def _unit(vectors: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    """Returns vectors of length 1; those without length stay as they are."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
