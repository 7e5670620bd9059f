"""Finds frames in which a detector took a person's left for his right: all limbs jump to where their partners were.

Detectors exchange the sides of a person for some frames, mostly where he is seen from the side or bends. A motion that
goes on does not jump: each joint is expected where its last two frames lead, and the frames are exchanged in which the
exchanged joints are clearly nearer to that.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Shaped

from pipeline.poses.skeleton import Skeleton

# What an exchange must gain: how much nearer the joints are on average to where they were expected, in heights of the
# person. No person turns by so much in a thirtieth of a second.
LEAST_GAIN = 0.05
FARTHEST = 0.25  # of that height: a joint that is off by more counts as off by this
LIMBS = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Foot")
PATTERNS = ((0, 0), (0, 1), (1, 1), (1, 0))  # which of two frames are exchanged against the one before them


def find_swapped_frames(pixels: Float[np.ndarray, "F J 2"], skeleton: Skeleton) -> Bool[np.ndarray, " F"]:
    """Returns the frames in which left and right are to be exchanged; NaN is not seen.

    In most of the frames that show all limbs the sides are taken to be right, so that a person whose sides are always
    exchanged stays so.
    """
    limbs = [skeleton.joints.index(side + name) for name in LIMBS for side in "LR" if side + name in skeleton.joints]
    places, swapped = pixels[:, limbs], np.zeros(len(pixels), dtype=bool)
    shown = np.flatnonzero(np.isfinite(places).all((1, 2)))
    if len(shown) > len(PATTERNS[0]):
        height_px = float(np.median(np.ptp(places[shown], axis=1).max(1)))
        swapped[shown] = _find_path(places[shown] / max(height_px, 1.0))
    return swapped


def exchange_sides(
    values: Shaped[np.ndarray, "F J *C"], swapped: Bool[np.ndarray, " F"], skeleton: Skeleton
) -> Shaped[np.ndarray, "F J *C"]:
    """Returns the values with those of left and right joints exchanged in the given frames."""
    exchanged = values.copy()
    exchanged[swapped] = values[swapped][:, list(skeleton.mirrored)]
    return exchanged


def _find_path(places: Float[np.ndarray, "F S 2"]) -> Bool[np.ndarray, " F"]:
    """Returns in which frames to exchange the joints, which are left and right in turn, by dynamic programming.

    The states are whether a frame and the one before it are exchanged; a change from one to the next costs LEAST_GAIN.
    """
    costs = _costs_of_patterns(places)
    states = list(product((0, 1), repeat=2))
    best = {(before, this): LEAST_GAIN * (before != this) for before, this in states}
    choices: list[dict[tuple[int, int], int]] = []
    for frame in range(len(places) - 2):
        totals = {
            (first, before, this): best[first, before]
            + costs[before ^ first, this ^ first][frame]
            + LEAST_GAIN * (before != this)
            for first, before, this in product((0, 1), repeat=3)
        }
        chosen = {(b, t): int(totals[1, b, t] < totals[0, b, t]) for b, t in states}
        best = {(b, t): totals[chosen[b, t], b, t] for b, t in states}
        choices.append(chosen)
    before, this = min(best, key=lambda state: best[state])
    path = [this, before]
    for chosen in reversed(choices):
        before, this = chosen[before, this], before
        path.append(before)
    exchanged = np.array(path[::-1], dtype=bool)
    return np.logical_not(exchanged) if 2 * exchanged.sum() > len(exchanged) else exchanged


def _costs_of_patterns(places: Float[np.ndarray, "F S 2"]) -> dict[tuple[int, int], Float[np.ndarray, " G"]]:
    """Returns for the third frame and all after it how far joints are from where the two before lead to."""
    other = places.reshape(len(places), -1, 2, 2)[:, :, ::-1].reshape(places.shape)
    costs = {}
    for before, this in PATTERNS:
        expected = 2 * (other if before else places)[1:-1] - places[:-2]
        off = np.linalg.norm((other if this else places)[2:] - expected, axis=-1)
        costs[before, this] = np.minimum(off, FARTHEST).mean(1)
    return costs
