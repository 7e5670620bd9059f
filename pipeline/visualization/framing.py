"""Where to look at a scene from: what stays in the middle of the picture, how wide it is, and from which side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d

from pipeline.visualization.scene import Body, Scene

THREE_QUARTERS = np.radians(30)  # off the person's front, so that arms and legs do not hide each other
SMOOTHING_S = 1.0  # the picture follows the people more slowly than they sway
STILL_M = 0.4  # people who stay in a circle of this radius are not followed
SMALLEST_M = 0.95  # half the height of somebody who stands, and air


@dataclass(frozen=True)
class Framing:
    """`centre_m` is the middle of the picture in each frame, at one height.

    Bodies stay within about `radius_m` of it on the ground, `half_height_m` above and below. `yaw` is the direction in
    which the picture's right lies, in radians from the world's x towards its y.
    """

    centre_m: Float[np.ndarray, "F 3"]
    radius_m: float
    half_height_m: float
    yaw: float


def framing(scene: Scene) -> Framing:
    """The view to begin with: as the camera of the 2D keypoints saw it where there are any, else from the front."""
    joints_m = np.concatenate([body.joints_world_m for body in scene.bodies], axis=1)
    seen = np.isfinite(joints_m).all(-1)
    seen_frames = np.flatnonzero(seen.any(1))
    if not len(seen_frames):
        return Framing(np.full((len(joints_m), 3), [0.0, 0.0, SMALLEST_M]), SMALLEST_M, SMALLEST_M, 0.0)
    middles_m = np.stack([_middle(joints_m[frame, seen[frame]]) for frame in seen_frames])
    every = np.arange(len(joints_m))
    centre_m = np.stack([np.interp(every, seen_frames, middles_m[:, axis]) for axis in range(3)], axis=1)
    overall_m = _middle(middles_m)
    if np.linalg.norm((centre_m - overall_m)[:, :2], axis=1).max() < STILL_M:
        centre_m[:] = overall_m
    width = max(1, round(SMOOTHING_S * scene.rate_hz))
    centre_m = uniform_filter1d(centre_m, size=width, axis=0, mode="nearest")
    lowest_m, highest_m = np.percentile(joints_m[seen][:, 2], [0.5, 99.5])
    centre_m[:, 2] = (lowest_m + highest_m) / 2
    away_m = np.linalg.norm((joints_m - rearrange(centre_m, "f c -> f 1 c"))[seen_frames, :, :2], axis=-1)
    radius_m = np.percentile(np.nanmax(away_m, axis=1), 95)
    half_height_m = (highest_m - lowest_m) / 2
    return Framing(centre_m, max(float(radius_m), 0.5), max(float(half_height_m), SMALLEST_M), _yaw(scene))


def _middle(points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "3"]:
    return (points_m.min(0) + points_m.max(0)) / 2


def _yaw(scene: Scene) -> float:
    for body in scene.bodies:
        yaw = _yaw_of_camera(body)
        if yaw is not None:
            return yaw
    for body in scene.bodies:
        whole = np.flatnonzero(np.isfinite(body.joints_world_m).all((1, 2)))
        if len(whole) and body.skeleton.left:
            pose_m = body.joints_world_m[whole[0]]
            leftwards_m = pose_m[list(body.skeleton.left)].mean(0) - pose_m[list(body.skeleton.right)].mean(0)
            return float(np.arctan2(leftwards_m[1], leftwards_m[0]) + THREE_QUARTERS)
    return 0.0


def _yaw_of_camera(body: Body) -> float | None:
    """The direction in the world in which the keypoints' x grows fastest; None without joints in both layouts."""
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
