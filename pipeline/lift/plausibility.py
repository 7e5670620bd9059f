"""Doubts keypoints that do not look like people in the image: usually they were read otherwise than they were meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from pipeline.lift.input import STANDING_HEIGHT_M
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Track
from pipeline.system.errors import UserError

OUTSIDE = 0.1  # of the image's size: so far outside of the image a detector may still place a joint
SMALLEST_PERSON_PX = 3.0
CORNER = 0.3  # of the image's width and height: people who are all in its first 0.3 are of another image
# How well joints stand one over the other as in somebody upright: the correlation of their heights in the image with
# STANDING_HEIGHT_M, in the median over frames. In all test clips of the embedded motion capture it is over 0.9 in the
# right layout, and at most 0.4 in another of as many joints, but for the two of 14 joints.
STANDING = 0.85
AS_STANDING = 0.05  # so little less than in the best layout: it may be this one, too
LESS_STANDING = 0.3  # so much less than in another layout: that one is right
UPSIDE_DOWN = -0.6
OTHER_SIDE = -0.3  # cosine between the lines through shoulders and through hips, weighted by their lengths; there 0.35
# As shares of the person's size in the image, in the median over frames; in those clips at most 0.02 and 2 per second.
BONE_JUMP = 0.08  # change of a limb's length from frame to frame
FASTEST = 8.0  # sizes per second: a sprinter runs 6
SLOWEST_RATE_HZ = 10.0  # below it, limbs may well turn from frame to frame
LIMBS = ("Shoulder Elbow", "Elbow Wrist", "Hip Knee", "Knee Foot", "Shoulder Hip")


def check_plausible(source: str, tracks: Sequence[Track], image_size_px: tuple[int, int], *, rate_hz: float) -> None:
    """Raises UserError with the likely cause and what mends it if the tracks do not look like people in the image.

    Looked at are their place and size in the image, whether joints stand one over the other as in an upright body, in
    this layout or another of as many joints, the sides of shoulders and hips, and how fast people and limbs change.
    """
    seen = [track for track in tracks if np.isfinite(track.pixels).any()]
    if not seen:
        return
    doubt = (
        _doubt_place(seen, image_size_px) or _doubt_layout(seen) or _doubt_sides(seen) or _doubt_motion(seen, rate_hz)
    )
    if doubt:
        raise UserError(f"{source}: {doubt} (--force lifts it all the same)")


def explain_nobody(tracks: Sequence[Track], min_confidence: float) -> str:
    """Returns in words why no frame of the tracks can be lifted."""
    confidence = np.concatenate([track.confidence.ravel() for track in tracks])
    seen, sure = (confidence > 0).mean(), ((confidence > 0) & (confidence >= min_confidence)).mean()
    found = f"{seen:.0%} of the joints seen, {sure:.0%} with the confidence {min_confidence:g} of --min-confidence"
    hint = "; a lower one, or --highest-score, may mend it" if seen > sure else ""
    return f"expected a person with at least half of the joints, found {found}{hint}"


def find_inside(pixels: Float[np.ndarray, "F J 2"], image_size_px: tuple[int, int]) -> Bool[np.ndarray, "F J"]:
    """Returns which keypoints are in the image or little outside of it; True for those not seen."""
    size_px = np.array(image_size_px)
    return np.logical_not(((pixels < -OUTSIDE * size_px) | (pixels > (1 + OUTSIDE) * size_px)).any(-1))


def find_size(track: Track) -> Float[np.ndarray, " F"]:
    """Returns the diagonal of the box around the person in pixels; 0 in frames without two joints."""
    seen = np.isfinite(track.pixels)
    low = np.where(seen, track.pixels, np.inf).min(1)
    high = np.where(seen, track.pixels, -np.inf).max(1)
    return np.linalg.norm(np.where(np.isfinite(high) & np.isfinite(low), high - low, 0.0), axis=-1)


def _doubt_place(tracks: Sequence[Track], image_size_px: tuple[int, int]) -> str | None:
    """Doubts people outside of the image, of no size, or all in its upper left corner."""
    pixels = np.concatenate([track.pixels.reshape(-1, 2) for track in tracks])
    pixels = pixels[np.isfinite(pixels).all(1)]
    width, height = image_size_px
    expected = f"expected people in an image of {width}x{height} px"
    outside = int((~find_inside(pixels[:, None], image_size_px)).sum())
    (left, top), (right, bottom) = np.quantile(pixels, [0.01, 0.99], axis=0)
    span = f"x from {left:.0f} to {right:.0f} and y from {top:.0f} to {bottom:.0f}"
    if 2 * outside > len(pixels):
        return (
            f"{expected}, found {outside} of {len(pixels)} keypoints outside, {span}: another --image-size or --units?"
        )
    largest_px = max(float(find_size(track).max()) for track in tracks)
    if largest_px < SMALLEST_PERSON_PX:
        units = "-1 to 1 across it (--units screen or ndc)" if pixels.min() < 0 else "shares of it (--units shares)"
        return f"{expected}, found keypoints that span {largest_px:.2g} pixels: {units}?"
    if right < CORNER * width and bottom < CORNER * height:
        return f"{expected}, found all in its upper left corner, {span}: another --image-size or --units?"
    return None


def _doubt_layout(tracks: Sequence[Track]) -> str | None:
    """Doubts joints that stand upright in another layout alone, and people who are upside down."""
    layout = tracks[0].layout
    joints = len(LAYOUTS[layout].joints)
    standing = {name: _measure_standing(tracks, name) for name, other in LAYOUTS.items() if len(other.joints) == joints}
    best = max(standing, key=lambda name: standing[name])
    if standing[best] > STANDING and standing[layout] < standing[best] - LESS_STANDING:
        alike = [name for name in standing if standing[name] > standing[best] - AS_STANDING]
        found = f"people who stand upright if it is {' or '.join(map(repr, alike))}"
        return f"expected joints of layout '{layout}', found {found}: --layout {' or '.join(alike)}?"
    if standing[layout] < UPSIDE_DOWN:
        return "expected heads over feet, found people upside down: does y count upwards (--y-up)?"
    return None


def describe_lying(tracks: Sequence[Track]) -> str | None:
    """Returns in words that people lie in the image, where they would stand if x and y were exchanged; else None."""
    layout = tracks[0].layout
    if abs(_measure_standing(tracks, layout, axis=0)) < STANDING or _measure_standing(tracks, layout) > STANDING / 2:
        return None
    return "posture: lying, as in the image; one that is turned, or x and y exchanged, looks the same"


def _measure_standing(tracks: Sequence[Track], layout: str, *, axis: int = 1) -> float:
    """Returns the correlation of joints' heights in the image with those of somebody who stands; 0 without joints.

    With `axis` 0 x counts as the height.
    """
    names = LAYOUTS[layout].joints
    joints = [place for place, name in enumerate(names) if name in STANDING_HEIGHT_M]
    standing = np.array([STANDING_HEIGHT_M[names[place]] for place in joints])
    heights = np.concatenate([-track.pixels[:, joints, axis] for track in tracks])
    seen = np.isfinite(heights)
    heights, seen = heights[seen.mean(1) >= 0.5], seen[seen.mean(1) >= 0.5]
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    own = np.where(seen, heights - np.where(seen, heights, 0).sum(1, keepdims=True) / count, 0)
    wanted = np.where(seen, standing - np.where(seen, standing, 0).sum(1, keepdims=True) / count, 0)
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(np.median((own * wanted).sum(1)[lengths > 0] / lengths[lengths > 0])) if (lengths > 0).any() else 0.0


def _doubt_sides(tracks: Sequence[Track]) -> str | None:
    """Doubts shoulders that are turned the other way than hips."""
    across, lengths = 0.0, 0.0
    for track in tracks:
        point = dict(zip(LAYOUTS[track.layout].joints, np.moveaxis(track.pixels, 1, 0), strict=True))
        shoulders, hips = point["LShoulder"] - point["RShoulder"], point["LHip"] - point["RHip"]
        across += float(np.nansum((shoulders * hips).sum(1)))
        lengths += float(np.nansum(np.linalg.norm(shoulders, axis=1) * np.linalg.norm(hips, axis=1)))
    if lengths and across / lengths < OTHER_SIDE:
        found = "left and right of the shoulders the other way round than of the hips"
        return f"expected the sides of a body, found {found}: another --layout?"
    return None


def _doubt_motion(tracks: Sequence[Track], rate_hz: float) -> str | None:
    """Doubts people who are elsewhere in every frame, and limbs of another length in every frame."""
    speeds, jumps = [], []
    for track in tracks:
        size = np.where(find_size(track) > 0, find_size(track), np.nan)
        middle = np.where(np.isfinite(size)[:, None], _middle(track), np.nan)
        scale = np.fmax(size[1:], size[:-1])
        speeds.append(np.linalg.norm(np.diff(middle, axis=0), axis=1) / scale * rate_hz)
        jumps.append((np.abs(np.diff(_measure_bones(track), axis=0)) / scale[:, None]).ravel())
    speed, jump = (np.concatenate(values) for values in (speeds, jumps))
    speed, jump = speed[np.isfinite(speed)], jump[np.isfinite(jump)]
    if len(speed) and np.median(speed) > FASTEST:
        found = f"people who move {np.median(speed):.0f} times their size in a second"
        causes = "frames of another rate (--rate-hz) or out of order, or two people under one id?"
        return f"expected people who move at a person's speed, found {found}: {causes}"
    if len(jump) and rate_hz >= SLOWEST_RATE_HZ and np.median(jump) > BONE_JUMP:
        found = f"limbs whose length changes by {np.median(jump):.0%} of the person's size from frame to frame"
        return f"expected limbs of about the same length, found {found}: joints in another order in each frame?"
    return None


def _middle(track: Track) -> Float[np.ndarray, "F 2"]:
    seen = np.isfinite(track.pixels).all(-1, keepdims=True)
    count = np.maximum(seen.sum(1), 1)
    return np.where(seen, track.pixels, 0.0).sum(1) / count


def _measure_bones(track: Track) -> Float[np.ndarray, "F B"]:
    """Returns the lengths of both sides' limbs and of the flanks in pixels, NaN where an end was not seen."""
    joint = {name: place for place, name in enumerate(LAYOUTS[track.layout].joints)}
    ends = [(joint[side + a], joint[side + b]) for side in "LR" for a, b in (limb.split() for limb in LIMBS)]
    first, second = (list(places) for places in zip(*ends, strict=True))
    return np.linalg.norm(track.pixels[:, first] - track.pixels[:, second], axis=-1)
