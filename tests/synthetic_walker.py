"""Somebody who walks on a circle, as named points of the body in the world: the motion behind the dataset fixtures."""

from __future__ import annotations

import numpy as np

# (right of the middle, up) in metres of a person who stands.
STANDING = {
    "pelvis": (0.0, 0.95), "spine": (0.0, 1.15), "thorax": (0.0, 1.42), "neck": (0.0, 1.48), "head": (0.0, 1.58),
    "head_top": (0.0, 1.75), "LShoulder": (-0.18, 1.42), "RShoulder": (0.18, 1.42), "LElbow": (-0.23, 1.14),
    "RElbow": (0.23, 1.14), "LWrist": (-0.25, 0.9), "RWrist": (0.25, 0.9), "LHip": (-0.12, 0.93), "RHip": (0.12, 0.93),
    "LKnee": (-0.12, 0.5), "RKnee": (0.12, 0.5), "LFoot": (-0.12, 0.08), "RFoot": (0.12, 0.08),
}  # fmt: skip
SWING_M = {"Elbow": 0.1, "Wrist": 0.25, "Knee": -0.15, "Foot": -0.3}  # forwards on the left, backwards on the right


def walk_m(frames: int, *, rate_hz: float, phase: float = 0.0, radius_m: float = 0.6) -> dict[str, np.ndarray]:
    """Positions (frames, 3) of each named point; Z up, metres, around the world's origin."""
    time_s = np.arange(frames) / rate_hz
    angle = phase + 0.9 * time_s
    forward = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=1)
    right = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    points = {}
    for name, (across_m, up_m) in STANDING.items():
        side = {"L": 1.0, "R": -1.0}.get(name[0], 0.0)
        swing_m = SWING_M.get(name[1:], 0.0) * side * np.sin(7.0 * time_s + phase)
        bounce_m = up_m + 0.03 * np.cos(14.0 * time_s)
        up = np.stack([0 * angle, 0 * angle, bounce_m], axis=1)
        points[name] = radius_m * right + across_m * right + swing_m[:, None] * forward + up
    return points
