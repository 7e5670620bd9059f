"""The view in which a model sees a person: the camera turned until he is in its middle and up is up.

A turn of the camera changes no distances, so it is undone exactly on the lifted joints. Models are trained on level
cameras that look at the person; phones roll, look down, and have him anywhere.
"""

from __future__ import annotations

import numpy as np
from einops import einsum
from jaxtyping import Float

from pipeline.lift.scene.upright import normalize
from pipeline.poses.geometry import Camera, rays_from_pixels

STEEPEST = np.cos(np.radians(15))  # a camera that looks more nearly straight up or down keeps its own right
NEAREST = 0.05  # forward component of a ray in the view: what lies further aside is far outside of any image


def aim_view(
    pixels: Float[np.ndarray, "F J 2"], camera: Camera, up_camera: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """Returns view_from_camera: rows are the axes of the view (right, down, forward) in the camera frame.

    The view looks along the mean line of sight to what was seen of the person in all frames, and `up_camera` (a unit
    vector in the camera frame) is up in it. A camera that is turned otherwise has the same view.
    """
    seen = pixels[np.isfinite(pixels).all(-1)]
    sights = np.pad(rays_from_pixels(seen, camera), ((0, 0), (0, 1)), constant_values=1.0)
    sights /= np.linalg.norm(sights, axis=1, keepdims=True)
    forward = normalize(sights.mean(0)) if len(seen) else np.array([0.0, 0.0, 1.0])
    across = np.cross(forward, up_camera) if abs(forward @ up_camera) < STEEPEST else np.array([1.0, 0.0, 0.0])
    right = normalize(across - (across @ forward) * forward)
    return np.stack([right, np.cross(forward, right), forward])


def turn_pixels(
    pixels: Float[np.ndarray, "F J 2"], camera: Camera, view_from_camera: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, "F J 2"], Camera]:
    """Returns where the view shows the keypoints, and its camera: the same lens, centred and without distortion."""
    assert camera.focal_px is not None
    rays = rays_from_pixels(pixels, camera)
    turned = einsum(view_from_camera, np.concatenate([rays, np.ones_like(rays[..., :1])], -1), "v c, f j c -> f j v")
    view = Camera(
        "view", camera.width_px, camera.height_px, camera.focal_px, (camera.width_px / 2, camera.height_px / 2)
    )
    inside = turned[..., :2] / np.maximum(turned[..., 2:], NEAREST)
    return inside * np.array(view.focal_px) + np.array(view.centre_px), view
