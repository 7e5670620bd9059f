"""Joint layouts of keypoints, and how Human3.6M's 17 joints, which the models take, are derived from each."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipeline.lift.people import Track
from pipeline.poses.skeleton import COCO_17, H36M_17, HUMANEVA_15, MPI_INF_3DHP_17, MPII_16, Skeleton


def _make_layout(name: str, joints: tuple[str, ...], parents: tuple[int, ...]) -> Skeleton:
    """Returns a layout whose joints of the left and of the right begin with L and R before another capital letter."""
    left = [joint for joint in joints if re.match("L[A-Z]", joint)]
    right = [f"R{joint[1:]}" for joint in left]
    return Skeleton(name, joints, parents, tuple(map(joints.index, left)), tuple(map(joints.index, right)))


MEDIAPIPE_33 = _make_layout(
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
)  # fmt: skip

# OpenPose's two body models, in the order of its output files.
OPENPOSE_18 = _make_layout(
    name="openpose18",
    joints=(
        "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RFoot",
        "LHip", "LKnee", "LFoot", "REye", "LEye", "REar", "LEar",
    ),
    parents=(1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15),
)  # fmt: skip
BODY_25 = _make_layout(
    name="body25",
    joints=(
        "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
        "RFoot", "LHip", "LKnee", "LFoot", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
        "RSmallToe", "RHeel",
    ),
    parents=(1, 8, 1, 2, 3, 1, 5, 6, -1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11),
)  # fmt: skip

# OpenPose's experimental model, which has as many joints in another order.
BODY_25B = _make_layout(
    name="body25b",
    joints=(
        *COCO_17.joints, "UpperNeck", "HeadTop", "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel",
    ),
    parents=(17, 0, 0, 1, 2, 17, 17, 5, 6, 7, 8, 17, 17, 11, 12, 13, 14, -1, 17, 15, 19, 15, 16, 22, 16),
)  # fmt: skip

# CrowdPose (Li et al. 2019) and AI Challenger (Wu et al. 2017), which models of MMPose and AlphaPose are trained on.
CROWDPOSE_14 = _make_layout(
    name="crowdpose14",
    joints=(
        "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip", "RHip", "LKnee", "RKnee", "LFoot",
        "RFoot", "HeadTop", "Neck",
    ),
    parents=(13, 13, 0, 1, 2, 3, 13, 13, 6, 7, 8, 9, 13, -1),
)  # fmt: skip
AIC_14 = _make_layout(
    name="aic14",
    joints=(
        "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RFoot", "LHip", "LKnee",
        "LFoot", "HeadTop", "Neck",
    ),
    parents=(13, 0, 1, 13, 3, 4, 13, 6, 7, 13, 9, 10, 13, -1),
)  # fmt: skip

# COCO's keypoints with head, neck, hip and feet (Fang et al. 2022), as AlphaPose and MMPose give them.
HALPE_26 = _make_layout(
    name="halpe26",
    joints=(*COCO_17.joints, "Head", "Neck", "Hip", "LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel"),
    parents=(18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, -1, 15, 16, 20, 21, 15, 16),
)

MPI_INF_3DHP = replace(MPI_INF_3DHP_17, name="3dhp17")
# The same joints in the order of the dataset's test set and of the archives of P-STMO.
MPI_INF_3DHP_PUBLIC = _make_layout(
    name="3dhp17_public",
    joints=(
        "HeadTop", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RFoot",
        "LHip", "LKnee", "LFoot", "Pelvis", "Spine", "Head",
    ),
    parents=(1, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1),
)  # fmt: skip
LAYOUTS = {
    skeleton.name: skeleton
    for skeleton in (
        H36M_17, COCO_17, OPENPOSE_18, BODY_25, BODY_25B, HALPE_26, MPII_16, MEDIAPIPE_33, HUMANEVA_15, MPI_INF_3DHP,
        MPI_INF_3DHP_PUBLIC, CROWDPOSE_14, AIC_14
    )
}  # fmt: skip

# Human3.6M's joints are derived from a layout that lacks them as weighted sums of its joints: the first sum whose
# joints were all seen. A joint that is not listed has the same name in both.
Sums = tuple[dict[str, float], ...]
HIPS: Sums = ({"LHip": 0.5, "RHip": 0.5},)
SHOULDERS: Sums = ({"LShoulder": 0.5, "RShoulder": 0.5},)
# Four tenths of the way from the hips up to the shoulders, as in the embedded motion capture.
SPINE: Sums = ({"LHip": 0.3, "RHip": 0.3, "LShoulder": 0.2, "RShoulder": 0.2},)
# The capture's head lies over the middle of the shoulders by 0.135 of the body's height, the ears by 0.112 (Drillis and
# Contini 1966): 1.2 of the way to the ears. One ear must do for somebody seen from the side, and without ears the nose.
# Its neck lies halfway from the shoulders to the head; the nose is in front of it.
HEAD: Sums = (
    {"LEar": 0.6, "REar": 0.6, "LShoulder": -0.1, "RShoulder": -0.1},
    {"LEar": 1.2, "LShoulder": -0.1, "RShoulder": -0.1},
    {"REar": 1.2, "LShoulder": -0.1, "RShoulder": -0.1},
    {"Nose": 1.4, "LShoulder": -0.2, "RShoulder": -0.2},
)
NECK: Sums = (
    {"LEar": 0.3, "REar": 0.3, "LShoulder": 0.2, "RShoulder": 0.2},
    {"LEar": 0.6, "LShoulder": 0.2, "RShoulder": 0.2},
    {"REar": 0.6, "LShoulder": 0.2, "RShoulder": 0.2},
    {"Nose": 0.7, "LShoulder": 0.15, "RShoulder": 0.15},
)
FROM_FACE = {"Hip": HIPS, "Spine": SPINE, "Thorax": SHOULDERS, "Neck/Nose": NECK, "Head": HEAD}
FROM_NECK = {"Hip": HIPS, "Spine": SPINE, "Thorax": SHOULDERS, "Neck/Nose": ({"Neck": 0.5, "HeadTop": 0.5},),
             "Head": ({"HeadTop": 1.0},)}  # fmt: skip
FROM_3DHP: dict[str, Sums] = {
    "Hip": ({"Pelvis": 1.0},), "Thorax": ({"Neck": 1.0},), "Neck/Nose": ({"Neck": 0.5, "HeadTop": 0.5},),
    "Head": ({"HeadTop": 1.0},),
}  # fmt: skip
DERIVED: dict[str, dict[str, Sums]] = {
    "coco17": FROM_FACE,
    "openpose18": FROM_FACE,
    "mediapipe33": FROM_FACE,
    "body25b": FROM_FACE,
    "body25": FROM_FACE | {"Hip": ({"MidHip": 1.0}, *HIPS)},
    "halpe26": {"Hip": ({"Hip": 1.0}, *HIPS), "Spine": ({"Hip": 0.6, "Neck": 0.4},), "Thorax": ({"Neck": 1.0},),
                "Neck/Nose": ({"Neck": 0.5, "Head": 0.5}, *NECK), "Head": ({"Head": 1.0}, *HEAD)},
    "mpii16": {"Spine": SPINE, "Thorax": SHOULDERS, "Neck/Nose": ({"Thorax": 0.5, "Head": 0.5},)},
    "humaneva15": {"Hip": ({"Pelvis": 1.0},), "Spine": ({"Pelvis": 0.6, "Thorax": 0.4},),
                   "Neck/Nose": ({"Thorax": 0.5, "Head": 0.5},)},
    "3dhp17": FROM_3DHP,
    "3dhp17_public": FROM_3DHP,
    "crowdpose14": FROM_NECK,
    "aic14": FROM_NECK,
}  # fmt: skip


def convert_to_h36m17(track: Track) -> Track:
    """Returns the same person in Human3.6M's 17 joints; those that the layout lacks are derived as DERIVED says.

    A derived joint has the least confidence of the joints it comes from.
    """
    if track.layout == H36M_17.name:
        return track
    names, sums = LAYOUTS[track.layout].joints, DERIVED[track.layout]
    keypoints = np.concatenate([track.pixels, track.confidence[..., None]], axis=-1)
    by_name = {name: keypoints[:, joint] for joint, name in enumerate(names)}
    derived = np.stack([derive_joint(by_name, sums.get(name, ({name: 1.0},))) for name in H36M_17.joints], axis=1)
    return replace(track, layout=H36M_17.name, pixels=derived[..., :2], confidence=np.nan_to_num(derived[..., 2]))


def derive_joint(keypoints: dict[str, Float[np.ndarray, "F 3"]], sums: Sums) -> Float[np.ndarray, "F 3"]:
    """Returns in each frame the first of the weighted sums whose joints were all seen; NaN where there is none."""
    point = np.full_like(next(iter(keypoints.values())), np.nan)
    for weights in sums:
        parts = np.stack([keypoints[name] for name in weights])
        total = np.einsum("k,kfc->fc", np.array(list(weights.values())), parts)
        total[:, 2] = parts[..., 2].min(0)
        point = np.where(np.isnan(point[:, :1]), total, point)
    return np.where(np.isnan(point[:, :1]), np.nan, point)
