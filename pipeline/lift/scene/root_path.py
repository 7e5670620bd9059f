"""Fits the root's path in the camera frame: where the projected pose lies on the keypoints."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from pipeline.poses.frames import find_runs

REWEIGHTINGS = 6  # after them the path of docs/examples/soccer.npz moves by less than 0.1 mm
OFF_SHARE = 0.02  # of the person's size in the image: a joint that is off by more counts less than half
NEAREST_M = 0.1  # least depth of a joint in a step of the fit, so that no weight is infinite


def fit_root_path(
    joints_m: Float[np.ndarray, "F J 3"],
    rays: Float[np.ndarray, "F J 2"],
    confidence: Float[np.ndarray, "F J"],
) -> Float[np.ndarray, "F 3"]:
    """Returns where the root is in the camera frame, in metres, so that the pose projects onto the keypoints.

    `joints_m` are relative to the root; `rays` are x / z and y / z of the keypoints. The equations x + t_x = u (z +
    t_z) and y + t_y = v (z + t_z) are linear in the root's place t: weighted least squares in closed form, solved again
    with the weights confidence / depth^2, so that the error is one in the image, and less for joints that stay off
    (Cauchy). Joints with confidence 0 or NaN do not count. NaN where fewer than two joints count or the root came out
    behind the camera.
    """
    counts = np.isfinite(rays).all(-1) & np.isfinite(joints_m).all(-1) & (confidence > 0)
    enough = counts.sum(1) >= 2
    root_m = np.full((len(joints_m), 3), np.nan)
    if not enough.any():
        return root_m
    counts = counts[enough]
    uv = np.stack([np.where(counts, rays[enough, :, axis], 0.0) for axis in range(2)])
    xyz = np.stack([np.where(counts, joints_m[enough, :, axis], 0.0) for axis in range(3)])
    trust = np.where(counts, confidence[enough], 0.0)
    size = np.maximum(_measure_spread(uv, trust), 1e-6)[:, None]
    (u, v), (x, y, z) = uv, xyz
    weight = trust
    for _ in range(REWEIGHTINGS):
        place_m = _solve(uv, xyz, weight)
        depth_m = np.maximum(z + place_m[:, 2:], NEAREST_M)
        off = np.hypot((x + place_m[:, :1]) / depth_m - u, (y + place_m[:, 1:2]) / depth_m - v)
        weight = trust / depth_m**2 / (1 + (off / (OFF_SHARE * size)) ** 2)
    root_m[enough] = np.where(place_m[:, 2:] > 0, place_m, np.nan)
    return root_m


def smooth_depth(root_camera_m: Float[np.ndarray, "F 3"], *, sigma_frames: float) -> Float[np.ndarray, "F 3"]:
    """Returns the path with its distances filtered over time by a Gaussian; each point stays on its line of sight.

    The size of a person in the image tells his distance badly and his direction well, so only the distance is filtered.
    Each run of frames without NaN is filtered by itself.
    """
    smoothed_m = root_camera_m.copy()
    for run in find_runs(np.isfinite(root_camera_m).all(1)):
        depth = np.log(root_camera_m[run, 2])
        factor = np.exp(gaussian_filter1d(depth, sigma_frames, mode="nearest") - depth)
        smoothed_m[run] *= factor[:, None]
    return smoothed_m


def _measure_spread(uv: Float[np.ndarray, "2 F J"], trust: Float[np.ndarray, "F J"]) -> Float[np.ndarray, " F"]:
    """Returns about the person's size in the image, as four times the root mean square distance from the middle."""
    u, v = uv
    total = trust.sum(1)
    middle_u, middle_v = ((values * trust).sum(1) / total for values in (u, v))
    squares = (u - middle_u[:, None]) ** 2 + (v - middle_v[:, None]) ** 2
    return 4 * np.sqrt((squares * trust).sum(1) / total)


def _solve(
    uv: Float[np.ndarray, "2 F J"], xyz: Float[np.ndarray, "3 F J"], weight: Float[np.ndarray, "F J"]
) -> Float[np.ndarray, "F 3"]:
    """Solves t_x - u t_z = u z - x and t_y - v t_z = v z - y by weighted least squares, from the normal equations."""
    (u, v), (x, y, z) = uv, xyz
    a, b = u * z - x, v * z - y
    total = weight.sum(1)
    mean_u, mean_v, mean_a, mean_b = ((weight * values).sum(1) / total for values in (u, v, a, b))
    du, dv = u - mean_u[:, None], v - mean_v[:, None]
    variance = (weight * (du**2 + dv**2)).sum(1)
    depth_m = -(weight * (du * a + dv * b)).sum(1) / np.maximum(variance, 1e-12)
    return np.stack([mean_a + mean_u * depth_m, mean_b + mean_v * depth_m, depth_m], -1)
