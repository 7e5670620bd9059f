"""Poses that a network predicts in the image -> poses in metres, through the camera's lens and of an assumed body."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pipeline.poses.geometry import Camera, pixels_from_screen, rays_from_pixels
from pipeline.poses.skeleton import Skeleton

# All bones of Human3.6M's 17 joints end to end, of its subject S1: the scale of an adult, since the image has none.
ADULT_BONES_M = 4.15


def metres_from_image(
    pose: Float[np.ndarray, "F J 3"], root_screen: Float[np.ndarray, "F 2"], camera: Camera, skeleton: Skeleton
) -> Float[np.ndarray, "F J 3"]:
    """Returns poses in the camera frame, in metres relative to the root, whose bones add up to ADULT_BONES_M.

    `pose` is in half image widths, relative to the root: x and y as on the screen, and the depth in the scale that the
    image has at the root. So in units of the root's depth a joint is at 1 + depth / focal length, and lies on the line
    of sight through its place on the screen. `root_screen` is where the root is seen there. MotionAGFormer's scale at
    the root is larger by half a pixel per metre of depth, some thousandths, which is left out.
    """
    assert camera.focal_px is not None
    relative = pose.copy()
    relative[:, skeleton.root] = 0
    pixels = pixels_from_screen(root_screen[:, None] + relative[..., :2], camera)
    depth = 1 + relative[..., 2:] * (camera.width_px / 2 / camera.focal_px[0])
    joints = np.concatenate([rays_from_pixels(pixels, camera) * depth, depth], axis=-1)
    joints = joints - joints[:, skeleton.root, None]
    parents, children = (list(side) for side in zip(*skeleton.bones, strict=True))
    bones = np.linalg.norm(joints[:, children] - joints[:, parents], axis=-1).sum(-1)
    return joints * (ADULT_BONES_M / bones)[:, None, None]
