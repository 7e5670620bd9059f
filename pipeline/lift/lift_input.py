"""What is to be lifted: people of a recording or an array, checked, and brought to the layout that a model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from pipeline.lift.layouts import LAYOUTS, h36m17_track
from pipeline.lift.model_input import inside_image
from pipeline.lift.people import Recording, Track
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError


def track_from_array(keypoints: Float[np.ndarray, "F J C"], *, layout: str) -> Track:
    """One person from an array of pixels, with confidence as third channel or without (1 where seen).

    Raises UserError if the layout is unknown or the array is not of its shape.
    """
    if layout not in LAYOUTS:
        raise UserError(f"layout: expected one of {', '.join(LAYOUTS)}, found '{layout}'")
    joints = len(LAYOUTS[layout].joints)
    if keypoints.ndim != 3 or keypoints.shape[1] != joints or keypoints.shape[2] not in (2, 3) or not len(keypoints):
        expected = f"(frames, {joints}, 2 or 3) for layout '{layout}'"
        raise UserError(f"keypoints: expected an array of shape {expected}, found {keypoints.shape}")
    pixels = np.array(keypoints[..., :2], dtype=float)
    seen = np.isfinite(pixels).all(-1)
    confidence = np.where(seen, 1.0, 0.0)
    if keypoints.shape[2] == 3:
        confidence = np.where(seen, np.nan_to_num(np.asarray(keypoints[..., 2], dtype=float)), 0.0)
        if confidence.min() < 0 or confidence.max() > 1:
            found = f"{confidence.min():g} to {confidence.max():g}"
            raise UserError(f"keypoints: expected confidence from 0 to 1, found {found}")
    seen &= confidence > 0
    return Track("0", layout, 0, np.where(seen[..., None], pixels, np.nan), confidence)


def in_model_layout(track: Track, skeleton: Skeleton) -> Track:
    """The track in the layout that a model takes. Raises UserError if there is no way from the track's layout to it."""
    if track.layout == skeleton.name:
        return track
    if skeleton.name != "h36m17":
        raise UserError(f"layout: expected '{skeleton.name}', which the model takes, found '{track.layout}'")
    return h36m17_track(track)


def without_weak(
    pixels: Float[np.ndarray, "F J 2"], confidence: Float[np.ndarray, "F J"], *, least: float
) -> tuple[Float[np.ndarray, "F J 2"], Float[np.ndarray, "F J"]]:
    """The same without joints of confidence below `least`, which count as not seen."""
    seen: Bool[np.ndarray, "F J"] = np.isfinite(pixels).all(-1) & (confidence >= least)
    return np.where(seen[..., None], pixels, np.nan), np.where(seen, confidence, 0.0)


def chosen_tracks(recording: Recording, persons: Sequence[str] | None) -> list[Track]:
    """The tracks of the persons named, or all. Raises UserError if there is none or one is not in the recording."""
    names = [track.person for track in recording.tracks]
    if not names:
        raise UserError(f"{recording.source}: expected at least one person, found none in {recording.frames} frames")
    for person in persons or ():
        if person not in names:
            raise UserError(f"{recording.source}: person: expected one of {', '.join(names)}, found '{person}'")
    return [track for track in recording.tracks if persons is None or track.person in persons]


def check_inside(source: str, tracks: Sequence[Track], image_size_px: tuple[int, int]) -> None:
    """Raises UserError if more than half of the keypoints lie outside the image, which then is not theirs."""
    pixels = np.concatenate([track.pixels.reshape(-1, 2) for track in tracks])
    seen = np.isfinite(pixels).all(-1)
    outside = int((~inside_image(pixels[seen][:, None], image_size_px)).sum())
    if 2 * outside > seen.sum():
        found = f"{outside} of {seen.sum()} outside"
        width, height = image_size_px
        raise UserError(f"{source}: expected keypoints inside the image of {width}x{height} px, found {found}")


def shared_joints(in_skeleton: Skeleton, out_skeleton: Skeleton) -> list[tuple[int, int]]:
    """(keypoint, output joint) of the joints that both layouts have, by name."""
    return [
        (i, out_skeleton.joints.index(name)) for i, name in enumerate(in_skeleton.joints) if name in out_skeleton.joints
    ]
