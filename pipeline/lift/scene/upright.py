"""Fits which way is up and where the floor is, from how people stand and where their feet rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from einops import einsum
from jaxtyping import Bool, Float

from pipeline.poses.frames import find_runs
from pipeline.poses.geometry import RigidTransform
from pipeline.poses.skeleton import Skeleton

LEVEL_CAMERA = np.array([0.0, -1.0, 0.0])  # up in the camera frame, if the camera is level
# Standard deviations of the three kinds of evidence, angles in radians.
CAMERA_TILT = np.radians(20)  # of cameras that people hold, from level
BODY_TILT = np.radians(3)  # of the line from feet to chest, as its mean over a long time, from vertical
SWAY = np.radians(5)  # of that line from one second to the next, of somebody who stands straight
BENT_SWAY = 0.5  # and so much of the angle by which hips and knees are bent
CONTACT_M = 0.2  # of a resting foot from the fitted floor: heights are off less than distances, but still this much
RESTING_M_S = 0.5  # a foot that moves slower rests
LOWER_M = 0.08  # a resting foot is at most this much higher than the other
LONGEST_REST_S = 0.5  # a foot that rests longer counts as several points
UPRIGHT = np.cos(np.radians(60))  # least cosine between a body and a level camera's up, for somebody who stands
FIT_STEPS = 10  # after two of them up turns by less than 0.001 degrees in docs/examples/soccer.npz
FEWEST_CONTACTS = 3  # a plane needs as many points


def fit_upright(
    people_m: Sequence[Float[np.ndarray, "_F J 3"]], skeleton: Skeleton, *, rate_hz: float
) -> tuple[RigidTransform, str]:
    """Returns world_from_camera (Z up, feet on the floor at Z = 0, origin below the camera) and its evidence in words.

    `people_m` are joints in the camera frame in metres, NaN in frames without the person; the camera stands still. The
    direction is the one most likely given, as independent normal errors: that the camera is about level; that the line
    from the feet to the chest is vertical on average, in frames in which it is within 60 degrees of a level camera's
    up, and the more surely the straighter hips and knees are; and that resting feet lie in a horizontal plane, another
    one for each person. Without upright people and feet at rest that is a level camera. The feet are the skeleton's
    foot joints, the ankles. The evidence says how far up may be off: the standard deviation of its angle.
    """
    information = np.eye(3) / CAMERA_TILT**2
    target = LEVEL_CAMERA / CAMERA_TILT**2
    found = [_find_body_lines(joints_m, skeleton) for joints_m in people_m]
    lines = np.concatenate([lines for lines, _ in found]) if found else np.zeros((0, 3))
    trust = 1 / np.concatenate([sways for _, sways in found]) ** 2 if found else np.zeros(0)
    upright = lines @ LEVEL_CAMERA > UPRIGHT
    lines, trust = lines[upright], trust[upright]
    seconds = len(lines) / rate_hz
    if len(lines):
        variance = BODY_TILT**2 + 1 / (trust.mean() * max(1.0, seconds))
        information = information + np.eye(3) / variance
        target = target + normalize(trust @ lines) / variance
    up = normalize(np.linalg.solve(information, target))
    contacts = [_find_contacts(joints_m, skeleton, up, rate_hz=rate_hz) for joints_m in people_m]
    contacts = [points for points in contacts if len(points) >= FEWEST_CONTACTS]
    up, information = _fit_planes(contacts, up, information, target)
    transform = _build_world(up, _find_floor(people_m, contacts, skeleton, up))
    if not len(lines):
        return transform, "nobody stands upright: the camera is taken to be level"
    off_deg = np.degrees(
        np.sqrt(np.trace(np.linalg.inv(transform.rotation[:2] @ information @ transform.rotation[:2].T)))
    )
    evidence = f"{seconds:.1f} s of people upright and {sum(map(len, contacts))} resting feet"
    return transform, f"fitted to {evidence}, to about {off_deg:.0f} degrees"


def _find_body_lines(
    joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton
) -> tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, " G"]]:
    """Returns unit vectors from between the feet to the chest, of the frames that have them, and how far they may sway.

    The sway is in radians. The bend is the root mean square of the four angles at hips and knees.
    """
    chest = next(name for name in ("Thorax", "Neck", "Nose") if name in skeleton.joints)
    names = [chest, *(side + name for side in "LR" for name in ("Hip", "Knee", "Foot"))]
    points_m = joints_m[:, [skeleton.joints.index(name) for name in names]]
    points_m = points_m[np.isfinite(points_m).all((1, 2))]
    chest_m, legs_m = points_m[:, 0], points_m[:, 1:].reshape(-1, 2, 3, 3)
    line = chest_m - legs_m[:, :, 2].mean(1)
    trunk = chest_m - legs_m[:, :, 0].mean(1)
    thighs, shins = legs_m[:, :, 0] - legs_m[:, :, 1], legs_m[:, :, 1] - legs_m[:, :, 2]
    whole = (np.linalg.norm(line, axis=-1) > 0) & (np.linalg.norm(trunk, axis=-1) > 0)
    bends = np.concatenate([_angle(thighs, trunk[:, None]), _angle(thighs, shins)], axis=1)
    sway = np.hypot(SWAY, BENT_SWAY * np.sqrt((bends**2).mean(1)))
    return line[whole] / np.linalg.norm(line[whole], axis=-1, keepdims=True), sway[whole]


def _find_contacts(
    joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton, up: Float[np.ndarray, "3"], *, rate_hz: float
) -> Float[np.ndarray, "C 3"]:
    """Returns where feet rested (slowly, not clearly above the other foot): a point for each rest or part of it."""
    feet_m = joints_m[:, _feet(skeleton)]
    points = []
    for foot, rest in find_rests(feet_m, up, rate_hz=rate_hz):
        frames = rest.stop - rest.start
        parts = min(frames, max(1, round(frames / (LONGEST_REST_S * rate_hz))))
        points += [np.median(part, axis=0) for part in np.array_split(feet_m[rest, foot], parts)]
    return np.array(points).reshape(-1, 3)


def find_rests(
    feet_m: Float[np.ndarray, "F 2 3"], up: Float[np.ndarray, "3"], *, rate_hz: float
) -> list[tuple[int, slice]]:
    """Returns for each rest which of both feet rests (slowly, not clearly above the other foot) and its frames.

    They come in order of the feet, then of time. The first and the last frame have no speed and are in no rest.
    """
    rests = []
    for foot in range(2):
        speed_m_s = np.full(len(feet_m), np.inf)
        step_m = np.linalg.norm(np.diff(feet_m[:, foot], axis=0), axis=1)
        speed_m_s[1:-1] = np.maximum(step_m[1:], step_m[:-1]) * rate_hz
        resting: Bool[np.ndarray, " F"] = (speed_m_s < RESTING_M_S) & (
            (feet_m[:, foot] - feet_m[:, 1 - foot]) @ up < LOWER_M
        )
        rests += [(foot, rest) for rest in find_runs(resting)]
    return rests


def _fit_planes(
    contacts: Sequence[Float[np.ndarray, "_C 3"]],
    up: Float[np.ndarray, "3"],
    information: Float[np.ndarray, "3 3"],
    target: Float[np.ndarray, "3"],
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Returns the up that best fits what is known and the contacts' planes, and the information on it.

    Contacts far off count less (Cauchy).
    """
    weights = [np.ones(len(points)) for points in contacts]
    scatter = np.zeros((3, 3))
    for _ in range(FIT_STEPS if contacts else 0):
        scatter = np.zeros((3, 3))
        centred = [points - np.average(points, axis=0, weights=w) for points, w in zip(contacts, weights, strict=True)]
        for points, weight in zip(centred, weights, strict=True):
            scatter += einsum(weight, points, points, "c, c i, c j -> i j")
        up = normalize(np.linalg.solve(information + scatter / CONTACT_M**2, target))
        weights = [1 / (1 + (points @ up / CONTACT_M) ** 2) for points in centred]
    return up, information + scatter / CONTACT_M**2


def _find_floor(
    people_m: Sequence[Float[np.ndarray, "_F J 3"]],
    contacts: Sequence[Float[np.ndarray, "_C 3"]],
    skeleton: Skeleton,
    up: Float[np.ndarray, "3"],
) -> float:
    """Returns the height of the floor over the camera along `up`: the median of resting feet, else of lower feet."""
    if contacts:
        return float(np.median(np.concatenate(contacts) @ up))
    lower = [(joints_m[:, _feet(skeleton)] @ up).min(1) for joints_m in people_m]
    lower = [heights[np.isfinite(heights)] for heights in lower]
    heights = np.concatenate(lower) if lower else np.zeros(0)
    return float(np.median(heights)) if len(heights) else 0.0


def _build_world(up: Float[np.ndarray, "3"], floor_m: float) -> RigidTransform:
    """Returns the transform to X on the camera's right, Y where it looks, both horizontal, and Z up from the floor."""
    right = normalize(np.array([1.0, 0.0, 0.0]) - up[0] * up)
    forward = np.cross(up, right)
    return RigidTransform(np.stack([right, forward, up]), np.array([0.0, 0.0, -floor_m]))


def _feet(skeleton: Skeleton) -> list[int]:
    return [skeleton.joints.index(name) for name in ("LFoot", "RFoot")]


def _angle(one: Float[np.ndarray, "F K 3"], other: Float[np.ndarray, "F #K 3"]) -> Float[np.ndarray, "F K"]:
    """Returns the angles between vectors in radians; 0 where one has no length."""
    return np.arctan2(np.linalg.norm(np.cross(one, other), axis=-1), (one * other).sum(-1))


def normalize(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """Returns the direction of a vector, of length 1."""
    return vector / np.linalg.norm(vector)
