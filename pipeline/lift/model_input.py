"""From keypoints in pixels to what a model was trained to see: its lens, its rate, and a place for unseen joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.lift.root_path import rays_from_pixels
from pipeline.poses.geometry import Camera, screen_from_pixels
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError, reason


@dataclass(frozen=True)
class TrainedOn:
    """What the data of a training set have in common. `focal` is in half image widths; None where cameras differ."""

    rate_hz: float | None
    focal: float | None


# cmu is filmed at params.yaml's rate with Human3.6M's lenses (1145 to 1150 px on 1000 px). The training videos of
# MPI-INF-3DHP have 25 or 50 frames per second.
TRAINED_ON = {
    "cmu": TrainedOn(rate_hz=30.0, focal=2.29),
    "h36m": TrainedOn(rate_hz=50.0, focal=2.29),
    "humaneva": TrainedOn(rate_hz=60.0, focal=None),
    "mpi_inf_3dhp": TrainedOn(rate_hz=None, focal=None),
}
ASSUMED_FOV_DEG = 47.2  # over the longer side: the lens of most training data, 2 atan(1 / 2.29)

# How high the joints of a standing person are over the hip, in metres.
STANDING_HEIGHT_M = {
    "Hip": 0.0, "Pelvis": 0.0, "RHip": 0.0, "LHip": 0.0, "RKnee": -0.4, "LKnee": -0.4, "RFoot": -0.8, "LFoot": -0.8,
    "Spine": 0.23, "Thorax": 0.47, "Neck": 0.5, "Neck/Nose": 0.55, "Nose": 0.57, "Head": 0.65, "HeadTop": 0.7,
    "LEye": 0.6, "REye": 0.6, "LEar": 0.59, "REar": 0.59, "LShoulder": 0.45, "RShoulder": 0.45, "LElbow": 0.2,
    "RElbow": 0.2, "LWrist": 0.05, "RWrist": 0.05,
}  # fmt: skip


def camera_with_lens(
    image_size_px: tuple[int, int], *, focal_px: float | None = None, fov_deg: float | None = None
) -> tuple[Camera, str | None]:
    """A camera without distortion whose axis meets the middle of the image, and in words what of it is assumed.

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


def calibrated_camera(about: Mapping[str, Any], image_size_px: tuple[int, int], *, where: str) -> Camera:
    """The camera of a calibration: `focal_px` (one number or two), `centre_px`, and `radial` and `tangential` if any.

    Or as OpenCV names it, `camera_matrix` (3 x 3) and `dist_coeffs` (k1, k2, p1, p2, k3), whose tangential terms are
    taken for those of Human3.6M's lens model: a few tenths of a pixel, for lenses of |p| < 0.001. Raises UserError if a
    number is missing, not finite, or the focal length not over 0.
    """
    try:
        if "camera_matrix" in about:
            matrix = np.array(about["camera_matrix"], dtype=float).reshape(3, 3)
            k1, k2, p1, p2, k3 = np.array(about.get("dist_coeffs", [0] * 5), dtype=float).reshape(5).tolist()
            focal, centre, radial, tangential = matrix[[0, 1], [0, 1]], matrix[:2, 2], (k1, k2, k3), (p2, p1)
        else:
            focal = np.broadcast_to(np.array(about["focal_px"], dtype=float), (2,))
            centre = np.array(about["centre_px"], dtype=float).reshape(2)
            k1, k2, k3 = np.array(about.get("radial", [0] * 3), dtype=float).reshape(3).tolist()
            radial, tangential = (k1, k2, k3), tuple(np.array(about.get("tangential", [0] * 2), dtype=float).reshape(2))
    except (KeyError, TypeError, ValueError) as error:
        expected = "focal_px and centre_px, or camera_matrix (and dist_coeffs: 5 numbers)"
        raise UserError(f"{where}: expected a camera's {expected}, found {reason(error)}") from error
    if not np.isfinite([*focal, *centre, *radial, *tangential]).all() or not (focal > 0).all():
        raise UserError(f"{where}: expected a focal length over 0 and finite numbers, found {focal} and {centre}")
    (fx, fy), (cx, cy), (px, py) = map(float, focal), map(float, centre), map(float, tangential)
    return Camera("calibrated", *image_size_px, (fx, fy), (cx, cy), radial, (px, py))


def screen_as_trained(
    pixels: Float[np.ndarray, "F J 2"],
    confidence: Float[np.ndarray, "F J"],
    camera: Camera,
    trained: TrainedOn,
    *,
    channels: int,
) -> Float[np.ndarray, "F J C"]:
    """The model's input: keypoints on the screen as the lens of the training data would show them, and confidence.

    Where that lens is not known, on this camera's own screen.
    """
    if trained.focal is None:
        screen = screen_from_pixels(pixels, camera)
    else:
        screen = trained.focal * rays_from_pixels(pixels, camera)
    return screen if channels == 2 else np.concatenate([screen, confidence[..., None]], axis=-1)


def place_unseen(pixels: Float[np.ndarray, "F J 2"], skeleton: Skeleton) -> Float[np.ndarray, "F J 2"]:
    """The keypoints with unseen joints (NaN) put where a standing person of this size has them, from the next seen one.

    Frames without any joint stay NaN. Meant for a model that also sees their confidence 0.
    """
    placed = pixels.copy()
    heights_m = np.array([STANDING_HEIGHT_M[name] for name in skeleton.joints])
    px_per_m = _size(pixels, skeleton)
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


def _size(pixels: Float[np.ndarray, "F J 2"], skeleton: Skeleton) -> Float[np.ndarray, " F"]:
    """About the pixels per metre in each frame, from the longest of the bones seen; the median bone of all frames."""
    heights_m = np.array([STANDING_HEIGHT_M[name] for name in skeleton.joints])
    bones = [(p, c) for p, c in skeleton.bones if abs(heights_m[p] - heights_m[c]) > 0.1]
    parents, children = (list(side) for side in zip(*bones, strict=True))
    length_px = np.linalg.norm(pixels[:, parents] - pixels[:, children], axis=-1)
    ratio = length_px / np.abs(heights_m[parents] - heights_m[children])
    known = np.isfinite(ratio).any(1)
    size = np.full(len(pixels), np.nan)
    size[known] = np.nanmedian(ratio[known], axis=1)
    overall = np.nanmedian(size) if known.any() else 0.0
    return np.where(known, size, overall)


def at_times(values: Float[np.ndarray, "F *S"], times: Float[np.ndarray, " G"]) -> Float[np.ndarray, "G *S"]:
    """Values at `times`, in frames, linear between frames; before the first and after the last as those."""
    before = np.clip(np.floor(times + 1e-9).astype(int), 0, len(values) - 1)
    after = np.minimum(before + 1, len(values) - 1)
    share = np.clip(times - before, 0, 1).reshape(-1, *(1,) * (values.ndim - 1))
    return (1 - share) * values[before] + share * values[after]


def inside_image(pixels: Float[np.ndarray, "F J 2"], image_size_px: tuple[int, int]) -> Bool[np.ndarray, "F J"]:
    """Which keypoints are in the image or within a tenth of its size of it; True for those not seen."""
    size = np.array(image_size_px)
    return np.logical_not(((pixels < -0.1 * size) | (pixels > 1.1 * size)).any(-1))
