"""Chooses where to look at a scene from: the middle of the picture, its width, and the side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d

from pipeline.visualization.scene import Body, Scene

OFF_FRONT = np.radians(30)  # from the front exactly, arms and legs would hide each other
SMOOTHING_S = 1.0  # the picture follows the people more slowly than they sway
STILL_RADIUS_M = 0.4  # people who stay in a circle of this radius are not followed
SMALLEST_HALF_M = 0.95  # half the height of a standing person, with a margin


@dataclass(frozen=True)
class Framing:
    """A view of a scene: `centre_m` is the middle of the picture in each frame, at one height.

    Bodies stay within about `radius_m` of it on the ground, `half_height_m` above and below. `yaw` is the direction in
    which the picture's right lies, in radians from the world's x towards its y.
    """

    centre_m: Float[np.ndarray, "F 3"]
    radius_m: float
    half_height_m: float
    yaw: float


def frame_scene(scene: Scene) -> Framing:
    """Returns the first view: that of the keypoints' camera where there are keypoints, else from the front."""
    joints_m = np.concatenate([body.joints_world_m for body in scene.bodies], axis=1)
    known = np.isfinite(joints_m).all(-1)
    known_frames = np.flatnonzero(known.any(1))
    if not len(known_frames):
        return Framing(np.full((len(joints_m), 3), [0.0, 0.0, SMALLEST_HALF_M]), SMALLEST_HALF_M, SMALLEST_HALF_M, 0.0)
    middles_m = np.stack([_middle(joints_m[frame, known[frame]]) for frame in known_frames])
    frames = np.arange(len(joints_m))
    centre_m = np.stack([np.interp(frames, known_frames, middles_m[:, axis]) for axis in range(3)], axis=1)
    overall_m = _middle(middles_m)
    if np.linalg.norm((centre_m - overall_m)[:, :2], axis=1).max() < STILL_RADIUS_M:
        centre_m[:] = overall_m
    width = max(1, round(SMOOTHING_S * scene.rate_hz))
    centre_m = uniform_filter1d(centre_m, size=width, axis=0, mode="nearest")
    lowest_m, highest_m = np.percentile(joints_m[known][:, 2], [0.5, 99.5])  # a wrong joint may lie anywhere
    centre_m[:, 2] = (lowest_m + highest_m) / 2
    away_m = np.linalg.norm((joints_m - rearrange(centre_m, "f c -> f 1 c"))[known_frames, :, :2], axis=-1)
    radius_m = np.percentile(np.nanmax(away_m, axis=1), 95)
    half_height_m = (highest_m - lowest_m) / 2
    return Framing(centre_m, max(float(radius_m), 0.5), max(float(half_height_m), SMALLEST_HALF_M), _yaw(scene))


def _middle(points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "3"]:
    return (points_m.min(0) + points_m.max(0)) / 2


def _yaw(scene: Scene) -> float:
    """Returns the direction in the world, in radians, that is to lie to the right in the picture."""
    for body in scene.bodies:
        yaw = _yaw_of_camera(body)
        if yaw is not None:
            return yaw
    for body in scene.bodies:
        whole = np.flatnonzero(np.isfinite(body.joints_world_m).all((1, 2)))
        if len(whole) and body.skeleton.left:
            pose_m = body.joints_world_m[whole[0]]
            leftwards_m = pose_m[list(body.skeleton.left)].mean(0) - pose_m[list(body.skeleton.right)].mean(0)
            return float(np.arctan2(leftwards_m[1], leftwards_m[0]) + OFF_FRONT)
    return 0.0


def _yaw_of_camera(body: Body) -> float | None:
    """Returns the direction in which the keypoints' x grows fastest; None without joints in both layouts."""
    if body.pixels is None or body.in_skeleton is None:
        return None
    common = [name for name in body.skeleton.joints if name in body.in_skeleton.joints]
    across = body.pixels[:, [body.in_skeleton.joints.index(name) for name in common], 0]
    joints_m = body.joints_world_m[:, [body.skeleton.joints.index(name) for name in common], :2]
    whole = np.isfinite(across).all(1) & np.isfinite(joints_m).all((1, 2))
    if len(common) < 3 or not whole.any():
        return None
    across, joints_m = across[whole], joints_m[whole]
    across = rearrange(across - across.mean(1, keepdims=True), "f j -> (f j)")
    joints_m = rearrange(joints_m - joints_m.mean(1, keepdims=True), "f j c -> (f j) c")
    slope, *_ = np.linalg.lstsq(joints_m, across, rcond=None)
    return float(np.arctan2(slope[1], slope[0]))
