"""Rigid transforms, cameras, projection and screen normalisation, in numpy unless a signature says torch.

World frame: Z up, right-handed, metres. Camera frame: x right, y down, z forward, metres. Pixels: x right, y down,
origin at the image's top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.system.errors import UserError

Array = TypeVar("Array", np.ndarray, Tensor)

UNDISTORTION_STEPS = 20  # enough to come back to the pixel within 1e-6 px with Human3.6M's lenses


@dataclass(frozen=True)
class RigidTransform:
    """A rotation, then a translation in metres; name it target_from_source."""

    rotation: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    translation_m: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))

    def apply(self, points_m: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
        """The same points in the target frame."""
        return einsum(self.rotation, points_m, "target source, ... source -> ... target") + self.translation_m

    def inverse(self) -> RigidTransform:
        """The transform back: source_from_target."""
        back = rearrange(self.rotation, "target source -> source target")
        return RigidTransform(back, -back @ self.translation_m)


def rotation_from_quaternion(wxyz: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix of the unit quaternion (w, x, y, z); a quaternion of another length is normalised first."""
    w, x, y, z = wxyz / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def camera_from_world_looking_at(
    position_m: Float[np.ndarray, "3"], target_m: Float[np.ndarray, "3"]
) -> RigidTransform:
    """Transform of an upright camera at `position_m` whose optical axis passes through `target_m`.

    Raises ValueError if the axis is vertical: upright has no meaning then.
    """
    forward = target_m - position_m
    if np.linalg.norm(forward[:2]) < 1e-9 * np.linalg.norm(forward) or not forward.any():
        raise ValueError(f"a camera at {position_m} that looks at {target_m} has a vertical or no axis")
    rotation = rotation_looking_along(torch.from_numpy(forward.astype(np.float64))).numpy()
    return RigidTransform(rotation, -rotation @ position_m)


def rotation_looking_along(forward: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3 3"]:
    """Rotations to upright cameras whose optical axes point along `forward` in the world, which is not vertical.

    The rows are the camera's axes in the world: right, down, forward.
    """
    forward = F.normalize(forward, dim=-1)
    up = forward.new_tensor([0.0, 0.0, 1.0]).expand_as(forward)
    right = F.normalize(torch.linalg.cross(forward, up), dim=-1)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], -2)


@dataclass(frozen=True)
class Camera:
    """A camera with Brown's lens model in the form used by the Human3.6M calibration.

    A camera whose lens is not known has `focal_px` None; its keypoints come from files and it projects nothing.
    """

    name: str
    width_px: int
    height_px: int
    focal_px: tuple[float, float] | None = None
    centre_px: tuple[float, float] | None = None
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)
    camera_from_world: RigidTransform = field(default_factory=RigidTransform)


def project(joints_camera_m: Float[np.ndarray, "*N 3"], camera: Camera) -> Float[np.ndarray, "*N 2"]:
    """Pixel positions of points in the camera frame, lens distortion included.

    Raises UserError if a point is at or behind the image plane (z <= 0), which has no pixel, or the lens is unknown.
    Source: Brown 1971 with the tangential product of the Human3.6M calibration, which has no factor 2 and is therefore
    not OpenCV's model. `tangential` is (p_x, p_y).
    """
    if camera.focal_px is None or camera.centre_px is None:
        raise UserError(f"camera {camera.name}: expected a focal length to project with, found none")
    depth_m = joints_camera_m[..., 2:]
    if not (depth_m > 0).all():
        raise UserError(f"camera {camera.name}: expected points in front of it, found z = {depth_m.min():.3f} m")
    rays = joints_camera_m[..., :2] / depth_m
    lens = (np.array(part, dtype=rays.dtype) for part in (camera.focal_px, camera.centre_px, camera.radial))
    focal_px, centre_px, radial = lens
    return pixels_from_rays(rays, focal_px, centre_px, radial, np.array(camera.tangential, dtype=rays.dtype))


def pixels_from_rays(rays: Array, focal_px: Array, centre_px: Array, radial: Array, tangential: Array) -> Array:
    """Pixel positions of points at x/z and y/z through a lens, in numpy arrays or torch tensors alike.

    The last axis of `rays` and of all but `radial` is x and y; `radial` has k1, k2 and k3. The rest broadcasts.
    Source: as `project`.
    """
    r2 = (rays**2).sum(-1)[..., None]
    scale = 1 + radial[..., :1] * r2 + radial[..., 1:2] * r2**2 + radial[..., 2:] * r2**3
    scale = scale + (rays * tangential).sum(-1)[..., None]
    return focal_px * (rays * scale + tangential * r2) + centre_px


def rays_from_pixels(pixels: Float[np.ndarray, "*N 2"], camera: Camera) -> Float[np.ndarray, "*N 2"]:
    """Returns x / z and y / z of the lines of sight through `pixels`, lens distortion undone: the inverse of `project`.

    Distortion is undone by fixed-point iteration, which converges for the lenses of ordinary cameras. Raises ValueError
    if the lens is not known.
    """
    if camera.focal_px is None or camera.centre_px is None:
        raise ValueError(f"camera {camera.name}: expected a focal length, found none")
    distorted = (pixels - np.array(camera.centre_px)) / np.array(camera.focal_px)
    if not any((*camera.radial, *camera.tangential)):
        return distorted
    (k1, k2, k3), tangential = camera.radial, np.array(camera.tangential)
    rays = distorted
    for _ in range(UNDISTORTION_STEPS):
        r2 = (rays**2).sum(-1, keepdims=True)
        scale = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + (rays * tangential).sum(-1, keepdims=True)
        rays = (distorted - tangential * r2) / scale
    return rays


def frames_in_view(joints_camera_m: Float[np.ndarray, "F J 3"], camera: Camera) -> Bool[np.ndarray, " F"]:
    """Which frames have every joint in front of the camera and inside its image."""
    in_front = np.flatnonzero((joints_camera_m[..., 2] > 0).all(1))
    pixels = project(joints_camera_m[in_front], camera)
    inside = ((pixels >= 0) & (pixels < [camera.width_px, camera.height_px])).all((1, 2))
    in_view = np.zeros(len(joints_camera_m), dtype=bool)
    in_view[in_front[inside]] = True
    return in_view


def screen_from_pixels(pixels: Float[np.ndarray, "*N 2"], camera: Camera) -> Float[np.ndarray, "*N 2"]:
    """Pixels scaled so that x runs over -1..1; y is scaled alike, so that shapes keep their aspect."""
    return pixels / camera.width_px * 2 - np.array([1, camera.height_px / camera.width_px], dtype=pixels.dtype)


def pixels_from_screen(screen: Float[np.ndarray, "*N 2"], camera: Camera) -> Float[np.ndarray, "*N 2"]:
    """Inverse of `screen_from_pixels`."""
    return (screen + np.array([1, camera.height_px / camera.width_px], dtype=screen.dtype)) * camera.width_px / 2
