"""Joint layouts of keypoints, and how each becomes Human3.6M's 17 joints, which the models take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipeline.people import Track
from pipeline.skeleton import COCO_17, H36M_17, Skeleton

MEDIAPIPE_33 = Skeleton(
    name="mediapipe33",
    joints=(
        "Nose", "LEyeInner", "LEye", "LEyeOuter", "REyeInner", "REye", "REyeOuter", "LEar", "REar", "LMouth", "RMouth",
        "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LPinky", "RPinky", "LIndex", "RIndex",
        "LThumb", "RThumb", "LHip", "RHip", "LKnee", "RKnee", "LFoot", "RFoot", "LHeel", "RHeel", "LToe", "RToe",
    ),
    parents=(
        -1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26, 27, 28,
        27, 28,
    ),
    left=(1, 2, 3, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31),
    right=(4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32),
)  # fmt: skip

LAYOUTS = {skeleton.name: skeleton for skeleton in (H36M_17, COCO_17, MEDIAPIPE_33)}
# The top of the head from the ears and the middle of the shoulders: as far again beyond the ears as this share.
HEAD_BEYOND_EARS = 0.4


def h36m17_track(track: Track) -> Track:
    """The same person in Human3.6M's 17 joints.

    From the layouts of detectors the hip, the spine and the thorax are derived from hips and shoulders, the neck is the
    nose, and the top of the head is a point beyond the ears. A derived joint is seen if all it comes from are, with the
    least of their confidences.
    """
    if track.layout == H36M_17.name:
        return track
    names = LAYOUTS[track.layout].joints
    keypoints = np.concatenate([track.pixels, track.confidence[..., None]], axis=-1)
    seen = {name: keypoints[:, joint] for joint, name in enumerate(names)}
    seen["Neck/Nose"] = seen["Nose"]
    seen["Hip"] = between(seen["LHip"], seen["RHip"], 0.5)
    seen["Thorax"] = between(seen["LShoulder"], seen["RShoulder"], 0.5)
    seen["Spine"] = between(seen["Hip"], seen["Thorax"], 0.5)
    seen["Head"] = between(seen["Thorax"], between(seen["LEar"], seen["REar"], 0.5), 1 + HEAD_BEYOND_EARS)
    chosen = np.stack([seen[name] for name in H36M_17.joints], axis=1)
    confidence = np.where(np.isfinite(chosen[..., :2]).all(-1), chosen[..., 2], 0.0)
    return replace(track, layout=H36M_17.name, pixels=chosen[..., :2], confidence=confidence)


def between(one: Float[np.ndarray, "F 3"], other: Float[np.ndarray, "F 3"], share: float) -> Float[np.ndarray, "F 3"]:
    """The point at `share` of the way from one keypoint to the other, with the lesser confidence."""
    point = (1 - share) * one + share * other
    point[:, 2] = np.minimum(one[:, 2], other[:, 2])
    return point
