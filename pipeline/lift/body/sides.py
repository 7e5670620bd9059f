"""Finds where a detector took a person's left for his right, in the arms or the legs: they jump to their partners.

Detectors exchange the sides of a person for some frames, mostly where he is seen from the side or bends. In a motion
that goes on each joint is near to where it was a frame before, and to where its last two frames lead; and hips and
shoulders face the same way. Of all ways to exchange arms and legs over time the one that fits this best is found by
dynamic programming (Viterbi 1967).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pipeline.poses.skeleton import Skeleton

# All lengths are in heights of the person in the image.
LEAST_GAIN = 0.025  # of an exchange that begins or ends: how much nearer the joints of arms and legs are in the sum
FARTHEST = 0.25  # a joint that is off by more counts as off by this
# How far a joint is from where its last two frames lead has this share, from where it was the rest. The former alone
# follows a sprinter's crossing legs, the latter a detector that exchanges in every other frame.
LED = 0.4
# What a frame costs in which shoulders and hips face to opposite sides, if the product of their breadths is TWISTED or
# more. That is little: over ten frames it tells what the jumps leave open.
TWIST_COST = 0.003
TWISTED = 0.02
ARMS, LEGS = ("Shoulder", "Elbow", "Wrist"), ("Hip", "Knee", "Foot")
STATES = np.array(list(product((0, 1), repeat=2)))  # are arms and legs exchanged


def find_swapped_joints(
    pixels: Float[np.ndarray, "F J 2"], skeleton: Skeleton, *, longest_gap: int
) -> Bool[np.ndarray, "F J"]:
    """Returns which joints are to be exchanged with those of the other side; NaN is not seen.

    Frames count that show most of the arms and of the legs; frames on both sides of more than `longest_gap` others are
    not compared. Most of such a stretch is taken to be right, so that a person whose sides are always exchanged stays
    so. Joints of the head go with the arms.
    """
    pairs = [[[skeleton.joints.index(side + name) for side in "LR"] for name in limbs] for limbs in (ARMS, LEGS)]
    limbs = pixels[:, np.array(pairs)]  # F, arms and legs, three pairs, left and right, 2
    known = np.isfinite(limbs).all((-1, -2))
    shown = np.flatnonzero((known.sum(-1) > 1).all(-1))
    swapped: Bool[np.ndarray, "F J"] = np.zeros(pixels.shape[:2], dtype=bool)
    if not len(shown):
        return swapped
    of_limbs = limbs[shown]
    height_px = np.median((np.nanmax(of_limbs, axis=(1, 2, 3)) - np.nanmin(of_limbs, axis=(1, 2, 3))).max(-1))
    is_leg = np.isin(np.arange(len(skeleton.joints)), np.array(pairs[1]))
    has_side = np.isin(np.arange(len(skeleton.joints)), skeleton.left + skeleton.right)
    for frames in np.split(shown, np.flatnonzero(np.diff(shown) > longest_gap + 1) + 1):
        if len(frames) > 2:
            places = np.where(known[frames, ..., None, None], limbs[frames], np.nan) / max(height_px, 1.0)
            path = _find_path(places)
            swapped[frames] = np.where(is_leg, path[:, 1:], path[:, :1]) & has_side
    return swapped


def exchange_sides(
    values: Shaped[np.ndarray, "F J *C"], swapped: Bool[np.ndarray, "F J"], skeleton: Skeleton
) -> Shaped[np.ndarray, "F J *C"]:
    """Returns the values, of the swapped joints those of their partners."""
    exchanged = values.copy()
    exchanged[swapped] = values[:, list(skeleton.mirrored)][swapped]
    return exchanged


def _find_path(limbs: Float[np.ndarray, "F 2 3 2 2"]) -> Bool[np.ndarray, "F 2"]:
    """Returns in which frames arms and legs are to be exchanged, the fewer frames of the two ways that fit alike."""
    shoulders, hips = (limbs[:, part, 0, 0] - limbs[:, part, 0, 1] for part in range(2))
    opposite = np.where(STATES[:, 0] == STATES[:, 1], -1.0, 1.0) * np.nan_to_num((shoulders * hips).sum(-1))[:, None]
    of_states = TWIST_COST * np.clip(opposite / TWISTED, 0.0, 1.0)
    of_changes = LEAST_GAIN * (STATES[:, None] != STATES).any(-1)
    best = of_changes + of_states[0][:, None] + of_states[1]  # of the states of two frames that follow each other
    choices: list[Int[np.ndarray, "4 4"]] = []
    for of_steps, of_state in zip(_costs_of_steps(limbs), of_states[2:], strict=True):
        totals = best[..., None] + of_steps + of_changes + of_state
        choices.append(totals.argmin(0))
        best = totals.min(0)
    before, this = np.unravel_index(best.argmin(), best.shape)
    path = [int(this), int(before)]
    for chosen in reversed(choices):
        before, this = chosen[before, this], before
        path.append(int(before))
    exchanged: Bool[np.ndarray, "F 2"] = STATES[path[::-1]] == 1
    return ~exchanged if 2 * exchanged.sum() > exchanged.size else exchanged


def _costs_of_steps(limbs: Float[np.ndarray, "F 2 3 2 2"]) -> Float[np.ndarray, "G 4 4 4"]:
    """Returns for each frame from the third on how far off joints are, by the states of the two before it and its own.

    The mean is over pairs that the frames show, the sum over arms and legs.
    """
    both = (limbs, limbs[:, :, :, ::-1])
    costs = np.empty((len(limbs) - 2, 2, 2, 2, 2))
    for first, before, this in product(range(2), repeat=3):
        old, last, now = both[first][:-2], both[before][1:-1], both[this][2:]
        stays, led = _mean_distance(now, last), _mean_distance(now, 2 * last - old)
        costs[:, first, before, this] = np.where(np.isnan(led), stays, LED * led + (1 - LED) * stays)
    arms, legs = (
        costs[..., part][:, STATES[:, None, None, part], STATES[:, None, part], STATES[:, part]] for part in range(2)
    )
    return arms + legs


def _mean_distance(
    places: Float[np.ndarray, "G 2 3 2 2"], expected: Float[np.ndarray, "G 2 3 2 2"]
) -> Float[np.ndarray, "G 2"]:
    """Returns the mean over the known pairs of arms and of legs, NaN where there are none."""
    off = np.minimum(np.linalg.norm(places - expected, axis=-1), FARTHEST).mean(-1)
    known = np.isfinite(off)
    return np.where(known, off, 0.0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)
