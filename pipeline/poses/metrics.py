"""Scores predicted poses in millimetres and averages the scores over clips and groups of clips, in float64.

Poses are in the camera frame, in metres and root-relative. The root joint counts in every mean over joints, as in the
literature, and a predicted root that is not at zero is scored as it stands: whoever wants it at zero sets it before.
Every function of two poses raises ValueError if their shapes differ or hold nothing, and UserError naming the first
frame that is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float

from pipeline.system.errors import UserError

MM_PER_M = 1000.0
PCK_THRESHOLD_MM = 150.0  # Mehta et al. 2017
AUC_THRESHOLDS_MM = tuple(5.0 * step for step in range(31))  # 0, 5, ..., 150: MPI-INF-3DHP's own evaluation script

METRIC_TITLES = {"mpjpe_mm": "MPJPE", "p_mpjpe_mm": "P-MPJPE", "n_mpjpe_mm": "N-MPJPE", "mpjve_mm": "MPJVE"}
JOINT = "joint "  # begins the name of a metric that is the error of one joint

PoseArray = Float[np.ndarray, "F J 3"]


@dataclass(frozen=True)
class Score:
    """The sum of a metric over frames and the number of frames it stands for, so that clips can be pooled."""

    total: float
    frames: int

    @property
    def mean(self) -> float | None:
        """The metric per frame; None if no frame has a value."""
        return self.total / self.frames if self.frames else None


ClipScores = dict[str, Score]
Means = dict[str, float | None]


def _refuse(bad: Bool[np.ndarray, " F"], reason: str) -> None:
    if bad.any():
        raise UserError(f"frame {int(np.argmax(bad))}: {reason}")


def _check(predicted_m: PoseArray, target_m: PoseArray) -> tuple[PoseArray, PoseArray]:
    if predicted_m.shape != target_m.shape or not predicted_m.size:
        raise ValueError(f"expected poses of one shape, not empty, found {predicted_m.shape} and {target_m.shape}")
    for name, pose_m in (("prediction", predicted_m), ("target", target_m)):
        _refuse(~np.isfinite(pose_m).all(axis=(1, 2)), f"the {name} is not finite, expected metres")
    return predicted_m.astype(np.float64), target_m.astype(np.float64)


def _centre(pose_m: PoseArray, name: str) -> tuple[PoseArray, Float[np.ndarray, " F"]]:
    """The pose about its centroid at Frobenius norm 1, and the norm it had."""
    centred_m = pose_m - reduce(pose_m, "f j c -> f 1 c", "mean")
    size_m = np.linalg.norm(centred_m, axis=(1, 2))
    # A mean of equal numbers may miss them by a rounding error, hence no comparison with exactly zero.
    _refuse(
        size_m <= 1e-12 * np.linalg.norm(pose_m, axis=(1, 2)),
        f"all joints of the {name} are at one point, expected a pose that can be aligned",
    )
    return centred_m / rearrange(size_m, "f -> f 1 1"), size_m


def joint_errors_mm(predicted_m: PoseArray, target_m: PoseArray) -> Float[np.ndarray, "F J"]:
    """Distance between predicted and true position of every joint."""
    predicted_m, target_m = _check(predicted_m, target_m)
    return MM_PER_M * np.linalg.norm(predicted_m - target_m, axis=-1)


def mpjpe_mm(predicted_m: PoseArray, target_m: PoseArray) -> Float[np.ndarray, " F"]:
    """Mean distance over joints, per frame ("protocol 1"). Source: Ionescu et al. 2014."""
    return reduce(joint_errors_mm(predicted_m, target_m), "f j -> f", "mean")


def align_similarity(predicted_m: PoseArray, target_m: PoseArray) -> PoseArray:
    """The prediction, turned, scaled and shifted frame by frame to the least sum of squared distances to the target.

    Reflections are excluded: a mirrored pose stays wrong. Raises UserError naming the first frame in which all joints
    of the prediction or of the target are at one point: it has no size and no orientation.
    Source: Umeyama 1991.
    """
    predicted_m, target_m = _check(predicted_m, target_m)
    target_centre_m = reduce(target_m, "f j c -> f 1 c", "mean")
    predicted, _ = _centre(predicted_m, "prediction")
    target, target_size_m = _centre(target_m, "target")
    left, stretch, right = np.linalg.svd(einsum(target, predicted, "f j row, f j column -> f row column"))
    # The last direction is the cheapest one to flip where the best orthogonal matrix would be a mirror.
    handedness = np.sign(np.linalg.det(left) * np.linalg.det(right))
    signs = np.stack([np.ones_like(handedness), np.ones_like(handedness), handedness], axis=-1)
    target_from_predicted = einsum(left, signs, right, "f row k, f k, f k column -> f row column")
    size_m = einsum(stretch, signs, "f k, f k -> f") * target_size_m
    turned = einsum(target_from_predicted, predicted, "f row column, f j column -> f j row")
    return rearrange(size_m, "f -> f 1 1") * turned + target_centre_m


def p_mpjpe_mm(predicted_m: PoseArray, target_m: PoseArray) -> Float[np.ndarray, " F"]:
    """MPJPE after `align_similarity`, per frame ("protocol 2"); raises as that. Source: Martinez et al. 2017."""
    return mpjpe_mm(align_similarity(predicted_m, target_m), target_m)


def n_mpjpe_mm(predicted_m: PoseArray, target_m: PoseArray) -> Float[np.ndarray, " F"]:
    """MPJPE after the best scale about the root, per frame ("protocol 3"). Source: Rhodin et al. 2018.

    The scale is least-squares, so it is negative for a prediction that points away from the target. Raises UserError
    naming the first frame whose prediction is all zeros.
    """
    predicted_m, target_m = _check(predicted_m, target_m)
    power = reduce(predicted_m**2, "f j c -> f", "sum")
    _refuse(power == 0, "the prediction is zero for every joint, expected a pose that can be scaled")
    scale = einsum(target_m, predicted_m, "f j c, f j c -> f") / power
    return mpjpe_mm(rearrange(scale, "f -> f 1 1") * predicted_m, target_m)


def mpjve_mm(predicted_m: PoseArray, target_m: PoseArray) -> Float[np.ndarray, " F-1"]:
    """Mean velocity error over joints between each frame and the next, in mm per frame at the clip's own rate.

    The frames must be consecutive frames of one clip. One frame has no velocity: the result is empty.
    Source: Pavllo et al. 2019.
    """
    predicted_m, target_m = _check(predicted_m, target_m)
    drift_m = np.diff(predicted_m - target_m, axis=0)
    return MM_PER_M * reduce(np.linalg.norm(drift_m, axis=-1), "f j -> f", "mean")


def pck(errors_mm: Float[np.ndarray, "F J"], *, threshold_mm: float = PCK_THRESHOLD_MM) -> float:
    """Percentage of joints with an error strictly below the threshold, over all frames and joints given.

    The caller picks the joints: MPI-INF-3DHP counts the first 14 of its 17. Raises ValueError if there are no errors
    or one is NaN.
    Source: Mehta et al. 2017; strict as in the dataset's evaluation script.
    """
    if errors_mm.size == 0 or np.isnan(errors_mm).any():
        raise ValueError(
            f"expected errors, none of them NaN; found shape {errors_mm.shape} with {np.isnan(errors_mm).sum()} NaN"
        )
    return 100.0 * float(np.mean(errors_mm < threshold_mm))


def auc(errors_mm: Float[np.ndarray, "F J"]) -> float:
    """Mean PCK over `AUC_THRESHOLDS_MM`, in percent: at most 96.77, since nothing is below 0 mm. Raises as `pck`."""
    return float(np.mean([pck(errors_mm, threshold_mm=threshold_mm) for threshold_mm in AUC_THRESHOLDS_MM]))


def clip_scores(
    predicted_m: PoseArray, target_m: PoseArray, *, pck_joints: Sequence[int] = (), joint_names: Sequence[str] = ()
) -> ClipScores:
    """Returns every metric of one clip of consecutive frames, ready to be pooled: metric name -> Score.

    `pck_joints` adds "pck150" and "auc" over those joints, `joint_names` (one per joint) the error of each joint as
    "joint <name>". The velocity error of a clip counts with all its frames, not
    frames - 1 (as Pavllo et al. 2019 weight it), and a clip of one frame has none.
    Raises what `p_mpjpe_mm` and `n_mpjpe_mm` raise.
    """
    frames = len(target_m)
    velocity_mm = mpjve_mm(predicted_m, target_m)
    scores = {
        "mpjpe_mm": Score(math.fsum(mpjpe_mm(predicted_m, target_m)), frames),
        "p_mpjpe_mm": Score(math.fsum(p_mpjpe_mm(predicted_m, target_m)), frames),
        "n_mpjpe_mm": Score(math.fsum(n_mpjpe_mm(predicted_m, target_m)), frames),
        "mpjve_mm": Score(float(velocity_mm.mean()) * frames, frames) if frames > 1 else Score(0.0, 0),
    }
    if len(pck_joints):
        errors_mm = joint_errors_mm(predicted_m, target_m)[:, list(pck_joints)]
        scores |= {"pck150": Score(pck(errors_mm) * frames, frames), "auc": Score(auc(errors_mm) * frames, frames)}
    if len(joint_names):
        columns = rearrange(joint_errors_mm(predicted_m, target_m), "f j -> j f")
        named = zip(joint_names, columns, strict=True)
        scores |= {f"{JOINT}{name}": Score(math.fsum(errors_mm), frames) for name, errors_mm in named}
    return scores


def _mean_over_frames(clips: Sequence[ClipScores]) -> Means:
    def pool(metric: str) -> Score:
        return Score(math.fsum(c[metric].total for c in clips), sum(c[metric].frames for c in clips))

    return {metric: pool(metric).mean for metric in clips[0]}


def pool_by_key(clips: Sequence[ClipScores], keys: Sequence[str]) -> dict[str, Means]:
    """Returns frame-weighted means over the clips that share a key (an action, a subject, ...), keys in sorted order.

    A metric is None where no clip of the group has it (the velocity of one-frame clips). Raises ValueError if there are
    no clips, not one key per clip, or clips with different metrics.
    """
    if not clips or len(clips) != len(keys):
        raise ValueError(f"expected one key per clip and at least one clip, found {len(keys)} keys, {len(clips)} clips")
    if len({frozenset(scores) for scores in clips}) > 1:
        raise ValueError(f"expected the same metrics for every clip, found {sorted({*map(tuple, clips)})}")
    return {
        key: _mean_over_frames([scores for scores, clip_key in zip(clips, keys, strict=True) if clip_key == key])
        for key in sorted(set(keys))
    }


def average_over_frames(clips: Sequence[ClipScores]) -> Means:
    """Returns means over all frames, so that long clips count for more. Raises as `pool_by_key`."""
    return pool_by_key(clips, ["all"] * len(clips))["all"]


def average_over_groups(groups: Mapping[str, Means]) -> Means:
    """Returns the plain mean over groups that were pooled before, whatever their length.

    A group without a value (None) is left out of that metric's mean; without any the mean is None.
    Raises ValueError if there are no groups.
    """
    if not groups:
        raise ValueError("expected at least one group, found none")
    columns = {metric: [means[metric] for means in groups.values()] for metric in next(iter(groups.values()))}
    known = {metric: [value for value in column if value is not None] for metric, column in columns.items()}
    return {metric: math.fsum(values) / len(values) if values else None for metric, values in known.items()}


def average_over_actions(clips: Sequence[ClipScores], actions: Sequence[str]) -> dict[str, Any]:
    """Returns the field's headline numbers: the plain mean over actions, pooled before, and "per_action" itself.

    An action's name is used as it is: Human3.6M's second take "Walking 1" is to be passed as "Walking".
    Raises as `pool_by_key`. Source: Pavllo et al. 2019, the protocol of their tables.
    """
    per_action = pool_by_key(clips, actions)
    return {**average_over_groups(per_action), "per_action": per_action}
