"""What a model sees of people: joints in its layout, through the lens it was trained with, and all of them placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from pipeline.lift.body.sides import exchange_sides, find_swapped_joints
from pipeline.lift.layouts import LAYOUTS, convert_to_h36m17
from pipeline.lift.people import LiftedPerson, LiftOptions, Recording, Track
from pipeline.lift.reading.tracks import find_seen_joints
from pipeline.poses.frames import find_runs, interpolate_gaps
from pipeline.poses.geometry import Camera, rays_from_pixels, screen_from_pixels
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError

ASSUMED_FOV_DEG = 60.0  # over the longer side: phones have 60 to 70 in videos, Human3.6M's cameras 47
LEAST_SHARE_SEEN = 0.5  # of the joints, for a frame to be lifted

# How high the joints of a standing person are over the hip, in metres.
STANDING_HEIGHT_M = {
    "Hip": 0.0, "Pelvis": 0.0, "RHip": 0.0, "LHip": 0.0, "RKnee": -0.4, "LKnee": -0.4, "RFoot": -0.8, "LFoot": -0.8,
    "Spine": 0.23, "Thorax": 0.47, "Neck": 0.5, "Neck/Nose": 0.55, "Nose": 0.57, "Head": 0.65, "HeadTop": 0.7,
    "LEye": 0.6, "REye": 0.6, "LEar": 0.59, "REar": 0.59, "LShoulder": 0.45, "RShoulder": 0.45, "LElbow": 0.2,
    "RElbow": 0.2, "LWrist": 0.05, "RWrist": 0.05,
}  # fmt: skip


@dataclass(frozen=True)
class InputSettings:
    """How keypoints become a model's input.

    The model takes joints as in `skeleton`, with confidence if it has 3 `channels`. `rate_hz` and `focal` are those of
    the training data, the focal length in half image widths, or None where cameras differed. Joints of confidence below
    `min_confidence` count as not seen; those not seen for at most `max_gap_s` seconds are filled in.
    """

    skeleton: Skeleton
    channels: int
    rate_hz: float
    focal: float | None
    max_gap_s: float
    min_confidence: float


def make_track(keypoints: Float[np.ndarray, "F J C"], *, layout: str) -> Track:
    """Returns one person from pixels and, as third channel, confidence; without it, 1 where the pixels are finite.

    A joint at (0, 0) is not seen, as in files.
    Raises UserError if the layout is unknown, the array is not of its shape, or confidence is not from 0 to 1.
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
    seen = find_seen_joints(np.concatenate([pixels, confidence[..., None]], axis=-1)) & (pixels != 0).any(-1)
    return Track("0", layout, 0, pixels, confidence).keep(seen)


def select_tracks(recording: Recording, persons: Sequence[str] | None) -> list[Track]:
    """Returns the tracks of the persons named, or all. Raises UserError if there is nobody, or not who is named."""
    names = [track.person for track in recording.tracks]
    if not names:
        raise UserError(f"{recording.source}: expected at least one person, found none in {recording.frames} frames")
    for person in persons or ():
        if person not in names:
            raise UserError(f"{recording.source}: person: expected one of {', '.join(names)}, found '{person}'")
    return [track for track in recording.tracks if persons is None or track.person in persons]


def find_camera(recording: Recording, options: LiftOptions) -> tuple[Camera, list[str]]:
    """Returns the camera of the stated lens, else the recording's, else an assumed one, and in words what is assumed.

    Raises UserError if the size of the image is not known or the lens cannot be.
    """
    is_stated = options.focal_px is not None or options.fov_deg is not None
    if recording.camera is not None and recording.camera.focal_px is not None and not is_stated:
        return recording.camera, []
    if recording.image_size_px is None:
        raise UserError(f"{recording.source}: expected the size of the image, found none: give it as WIDTHxHEIGHT")
    camera, assumed = build_camera(recording.image_size_px, focal_px=options.focal_px, fov_deg=options.fov_deg)
    return camera, [] if assumed is None else [assumed]


def see_person(track: Track, settings: InputSettings, *, joints_out: int, rate_hz: float) -> LiftedPerson:
    """Returns a person as the model sees him, not lifted yet: in its layout, sides put right, short gaps filled in.

    His poses, of `joints_out` joints, are NaN. Raises UserError if there is no way from the track's layout to that one.
    """
    track, longest_gap = prepare_track(track, settings), int(settings.max_gap_s * rate_hz + 1e-9)
    swapped = find_swapped_joints(track.pixels, settings.skeleton, longest_gap=longest_gap)
    pixels, confidence = (
        exchange_sides(values, swapped, settings.skeleton) for values in (track.pixels, track.confidence)
    )
    track, filled = fill_gaps(replace(track, pixels=pixels, confidence=confidence), longest_frames=longest_gap)
    return LiftedPerson(
        track.person,
        track.first_frame,
        track.pixels,
        track.confidence,
        filled,
        joints_camera_m=np.full((len(track), joints_out, 3), np.nan),
        root_camera_m=np.full((len(track), 3), np.nan),
        swapped=int(swapped.any(1).sum()),
    )


def prepare_track(track: Track, settings: InputSettings) -> Track:
    """Returns the track in the layout that the model takes, without joints of too little confidence.

    Raises UserError if there is no way from the track's layout to that one.
    """
    wanted = settings.skeleton.name
    if track.layout != wanted:
        if wanted != "h36m17":
            raise UserError(f"layout: expected '{wanted}', which the model takes, found '{track.layout}'")
        track = convert_to_h36m17(track)
    return track.keep(np.isfinite(track.pixels).all(-1) & (track.confidence >= settings.min_confidence))


def fill_gaps(track: Track, *, longest_frames: int) -> tuple[Track, Bool[np.ndarray, "F J"]]:
    """Fills gaps of at most `longest_frames` frames linearly in time; returns the track and which keypoints are filled.

    A filled keypoint has the lesser confidence of those around the gap. Gaps at the ends stay.
    """
    unseen = np.isnan(track.pixels).any(-1)
    confidence, filled = track.confidence.copy(), np.zeros_like(unseen)
    for joint in range(unseen.shape[1]):
        for gap in find_runs(unseen[:, joint]):
            before, after = gap.start - 1, gap.stop
            if after - gap.start <= longest_frames and before >= 0 and after < len(track):
                filled[gap, joint] = True
                confidence[gap, joint] = min(confidence[before, joint], confidence[after, joint])
    pixels = np.where(filled[..., None], interpolate_gaps(track.pixels, unseen), track.pixels)
    return replace(track, pixels=pixels, confidence=confidence), filled


def find_usable_frames(pixels: Float[np.ndarray, "F J 2"]) -> Bool[np.ndarray, " F"]:
    """Returns which frames have enough joints to be lifted."""
    return np.isfinite(pixels).all(-1).mean(1) >= LEAST_SHARE_SEEN


def build_camera(
    image_size_px: tuple[int, int], *, focal_px: float | None = None, fov_deg: float | None = None
) -> tuple[Camera, str | None]:
    """Returns a camera without distortion whose axis meets the middle of the image, and in words what is assumed of it.

    `fov_deg` is the angle over the image's longer side; neither given, it is ASSUMED_FOV_DEG. Raises UserError if both
    are given or one cannot be.
    """
    width, height = image_size_px
    if focal_px is not None and fov_deg is not None:
        raise UserError("lens: expected a focal length or a field of view, found both")
    if focal_px is not None and not 0 < focal_px < np.inf:
        raise UserError(f"focal length: expected a number of pixels over 0, found {focal_px:g}")
    if fov_deg is not None and not 0 < fov_deg < 180:
        raise UserError(f"field of view: expected an angle between 0 and 180 degrees, found {fov_deg:g}")
    assumed = None
    if focal_px is None:
        angle_deg = ASSUMED_FOV_DEG if fov_deg is None else fov_deg
        focal_px = float(max(width, height) / 2 / np.tan(np.radians(angle_deg) / 2))
        assumed = f"lens: a field of view of {angle_deg:g} degrees over the longer side ({focal_px:.0f} px)"
    return Camera("lens", width, height, (focal_px, focal_px), (width / 2, height / 2)), assumed


def encode_keypoints(
    pixels: Float[np.ndarray, "F J 2"], confidence: Float[np.ndarray, "F J"], camera: Camera, settings: InputSettings
) -> Float[np.ndarray, "F J C"]:
    """Returns the model's input: keypoints in half image widths, and the confidence if it takes three channels.

    They are where the lens of the training data would show them, without distortion; if that is not known, where this
    camera shows them. Joints that were not seen (NaN) are put in a likely place.
    """
    pixels = place_unseen_joints(pixels, settings.skeleton)
    focal = settings.focal
    screen = screen_from_pixels(pixels, camera) if focal is None else focal * rays_from_pixels(pixels, camera)
    return screen if settings.channels == 2 else np.concatenate([screen, confidence[..., None]], axis=-1)


def place_unseen_joints(pixels: Float[np.ndarray, "F J 2"], skeleton: Skeleton) -> Float[np.ndarray, "F J 2"]:
    """Returns the keypoints with unseen joints (NaN) where a standing person of this size has them from the next seen.

    Frames without any joint stay NaN. Meant for a model that also sees their confidence 0.
    """
    placed = pixels.copy()
    heights_m = np.array([STANDING_HEIGHT_M[name] for name in skeleton.joints])
    px_per_m = _measure_size(pixels, skeleton)
    for _ in range(len(skeleton.joints)):
        for parent, child in skeleton.bones:
            down_px = np.zeros((len(pixels), 2))
            down_px[:, 1] = (heights_m[parent] - heights_m[child]) * px_per_m
            for joint, neighbour, offset_px in ((child, parent, down_px), (parent, child, -down_px)):
                guess = placed[:, neighbour] + offset_px
                missing = np.isnan(placed[:, joint]).any(1)
                placed[missing, joint] = guess[missing]
        if np.isfinite(placed).all():
            break
    return placed


def _measure_size(pixels: Float[np.ndarray, "F J 2"], skeleton: Skeleton) -> Float[np.ndarray, " F"]:
    """Returns about the pixels per metre in each frame, from its median bone; where none is seen, of all frames."""
    heights_m = np.array([STANDING_HEIGHT_M[name] for name in skeleton.joints])
    bones = [(p, c) for p, c in skeleton.bones if abs(heights_m[p] - heights_m[c]) > 0.1]  # those that stand upright
    parents, children = (list(side) for side in zip(*bones, strict=True))
    length_px = np.linalg.norm(pixels[:, parents] - pixels[:, children], axis=-1)
    ratio = length_px / np.abs(heights_m[parents] - heights_m[children])
    known = np.isfinite(ratio).any(1)
    size = np.full(len(pixels), np.nan)
    size[known] = np.nanmedian(ratio[known], axis=1)
    overall = np.nanmedian(size) if known.any() else 0.0
    return np.where(known, size, overall)
