"""Geometry of several views: triangulates points robustly, and refines where the cameras are on what they see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from einops import einsum
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix
from scipy.spatial.transform import Rotation

from pipeline.poses.geometry import RigidTransform

FOCAL_PX = 1680.0  # of all four cameras, within 1 %: angles are given in pixels of it
OFF_PX = 12.0  # a keypoint that is off by so much counts a quarter
STEPS = 15  # of the reweighted triangulation
TINY = 1e-6  # trust of a keypoint that is not there, so that a landmark that nobody saw has a place, if a wrong one
NEAREST_M = 0.1
RIDGE = 1e-9  # share of its trace added to a matrix, which two parallel rays leave singular
SURE = 0.25  # trust from which on a keypoint counts among the three that a point of the refinement must have
# How far the calibration may be off: standard deviations of its rotations and positions.
TURN_RAD, MOVE_M = np.radians(1.0), 0.03


def refine_cameras(
    rays: Float[np.ndarray, "P S F J 2"], trust: Float[np.ndarray, "P S F J"], calibrated: Sequence[RigidTransform]
) -> tuple[list[RigidTransform], Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Returns the cameras' places that fit the keypoints best, and how far keypoints are off, then and before.

    Points and cameras are fitted together (bundle adjustment), robustly (soft L1), and as far as the calibration's
    standard deviations TURN_RAD and MOVE_M want it; they also fix the scale. Off is the median in pixels, by view.
    """
    views = len(calibrated)
    alone = trust[:, :views] > 0
    rays = np.where(alone[..., None], rays[:, :views], rays[:, views:])
    trust = np.where(alone, trust[:, :views], trust[:, views:])
    rays, trust = (np.moveaxis(values, 1, 0).reshape(views, -1, *values.shape[4:]) for values in (rays, trust))
    known = (trust > SURE).sum(0) >= 3
    rays, trust = rays[:, known], trust[:, known]
    start_m = triangulate(rays, trust, calibrated)

    def place(changes: Float[np.ndarray, " N"]) -> tuple[list[RigidTransform], Float[np.ndarray, "K 3"]]:
        turns, moves = changes[: 6 * views].reshape(2, views, 3)
        cameras = [
            RigidTransform(turn @ camera.rotation, turn @ camera.translation_m + MOVE_M * move)
            for turn, move, camera in zip(
                Rotation.from_rotvec(TURN_RAD * turns).as_matrix(), moves, calibrated, strict=True
            )
        ]
        return cameras, changes[6 * views :].reshape(-1, 3)

    def residuals(changes: Float[np.ndarray, " N"]) -> Float[np.ndarray, " M"]:
        cameras, points_m = place(changes)
        off = offsets_px(points_m, rays, cameras) / OFF_PX
        length2 = (off**2).sum(-1, keepdims=True) + TINY
        off = off * np.sqrt(2 * trust[..., None] * (np.sqrt(1 + length2) - 1) / length2)  # soft L1 of the length
        return np.concatenate([off.ravel(), changes[: 6 * views]])

    first = np.concatenate([np.zeros(6 * views), start_m.ravel()])
    pattern = _sparsity(views, len(start_m))
    fit = least_squares(residuals, first, jac_sparsity=pattern, x_scale="jac", max_nfev=50)
    refined, points_m = place(fit.x)
    before_px, after_px = (
        np.median(np.linalg.norm(offsets_px(points, rays, cameras), axis=-1), axis=1)
        for points, cameras in ((start_m, calibrated), (points_m, refined))
    )
    return refined, after_px, before_px


def _sparsity(views: int, points: int) -> lil_matrix:
    """Returns which residual depends on which unknown: those of a view on its six numbers, and on the point's three."""
    pattern = lil_matrix((2 * views * points + 6 * views, 6 * views + 3 * points), dtype=np.int8)
    rows = np.arange(2 * points)
    for view in range(views):
        for axis in range(3):
            pattern[2 * points * view + rows, [3 * view + axis]] = 1
            pattern[2 * points * view + rows, [3 * (views + view) + axis]] = 1
            pattern[2 * points * view + rows, 6 * views + 3 * (rows // 2) + axis] = 1
    own = np.arange(6 * views)
    pattern[2 * views * points + own, own] = 1
    return pattern


def offsets_px(
    points_m: Float[np.ndarray, "*F 3"], rays: Float[np.ndarray, "S *F 2"], cameras: Sequence[RigidTransform]
) -> Float[np.ndarray, "S *F 2"]:
    """Returns how far the points' images are from the keypoints."""
    seen_m = [camera.apply(points_m) for camera in cameras]
    return FOCAL_PX * np.stack([m[..., :2] / m[..., 2:] - r for m, r in zip(seen_m, rays, strict=True)])


def triangulate(
    rays: Float[np.ndarray, "S *F 2"], trust: Float[np.ndarray, "S *F"], cameras: Sequence[RigidTransform]
) -> Float[np.ndarray, "*F 3"]:
    """Returns the points that project onto the keypoints, in the world.

    The equations u (r3 X + t3) = r1 X + t1 and so on are solved by least squares, again with the weights trust / depth
    / (1 + (off / OFF_PX)^2), so that the errors are those in the image and keypoints that disagree count little.
    """
    weight = trust + TINY
    for _ in range(STEPS):
        points_m = _solve(rays, weight, cameras)
        weight = weigh(points_m, rays, trust, cameras)
    return points_m


def weigh(
    points_m: Float[np.ndarray, "*F 3"],
    rays: Float[np.ndarray, "S *F 2"],
    trust: Float[np.ndarray, "S *F"],
    cameras: Sequence[RigidTransform],
) -> Float[np.ndarray, "S *F"]:
    """Returns how much each keypoint counts for a point, as `triangulate` says."""
    off_px = np.linalg.norm(offsets_px(points_m, rays, cameras), axis=-1)
    depth_m = np.stack([camera.apply(points_m)[..., 2] for camera in cameras])
    return (trust + TINY) / np.maximum(depth_m, NEAREST_M) / (1 + (off_px / OFF_PX) ** 2)


def information_of(
    rays: Float[np.ndarray, "S *F 2"], weight: Float[np.ndarray, "S *F"], cameras: Sequence[RigidTransform]
) -> tuple[Float[np.ndarray, "*F 3 3"], Float[np.ndarray, "*F 3"]]:
    """Returns matrix and right side of the points' normal equations; with weight 1 / depth they are in radians."""
    rows, constants = [], []
    for seen, camera in zip(rays, cameras, strict=True):
        rotation, shift_m = camera.rotation, camera.translation_m
        rows.append(einsum(seen, rotation[2], "... c, w -> ... c w") - rotation[:2])
        constants.append(shift_m[:2] - seen * shift_m[2])
    a, b = np.stack(rows), np.stack(constants)
    square = weight**2
    matrix = einsum(square, a, a, "s ..., s ... c i, s ... c j -> ... i j")
    size = np.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    matrix = matrix + (RIDGE * size + TINY**4) * np.eye(3)
    return matrix, einsum(square, a, b, "s ..., s ... c i, s ... c -> ... i")


def _solve(
    rays: Float[np.ndarray, "S *F 2"], weight: Float[np.ndarray, "S *F"], cameras: Sequence[RigidTransform]
) -> Float[np.ndarray, "*F 3"]:
    matrix, right = information_of(rays, weight, cameras)
    return np.linalg.solve(matrix, right[..., None])[..., 0]
