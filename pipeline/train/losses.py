"""Training losses on windows of poses, in metres: each a mean of Euclidean distances, differentiable everywhere.

At zero distance the gradient is zero: `vector_norm` takes the subgradient 0, a square root would give NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float

Poses = Float[torch.Tensor, "B T J 3"]


def mpjpe(
    predicted_m: Poses,
    target_m: Poses,
    *,
    joint_weights: Float[torch.Tensor, " J"] | None = None,
    frame_weights: Float[torch.Tensor, "B T"] | Bool[torch.Tensor, "B T"] | None = None,
    weights_of_all: Float[torch.Tensor, ""] | None = None,
) -> Float[torch.Tensor, ""]:
    """Mean distance between predicted and true joints: sum_bt v_bt (1/J sum_j w_j |p_btj - y_btj|) / sum_bt v_bt.

    `joint_weights` w (J) multiply and are not divided by their sum, as in Zhang et al. 2022 (MixSTE):
    weights with mean 1 keep the loss comparable. `frame_weights` v (B T), numbers or a mask, choose the frames that the
    mean is over; where they sum to 0 the mean is NaN (asking would make the host wait for the device in every step).
    For a part of a batch `weights_of_all` is the sum of the whole batch's v: the losses of the parts then add up to the
    loss of the whole. Raises ValueError on shapes that do not match.
    Source: Ionescu et al. 2014; as a loss Pavllo et al. 2019.
    """
    _check_shapes(predicted_m, target_m)
    batch, frames, joints, _ = target_m.shape
    errors_m = torch.linalg.vector_norm(predicted_m - target_m, dim=-1)
    if joint_weights is not None:
        if joint_weights.shape != (joints,):
            raise ValueError(f"expected joint weights of shape {(joints,)}, found {tuple(joint_weights.shape)}")
        errors_m = errors_m * joint_weights
    per_frame_m = errors_m.mean(dim=-1)
    if frame_weights is None:
        return per_frame_m.mean()
    if frame_weights.shape != (batch, frames):
        raise ValueError(f"expected frame weights of shape {(batch, frames)}, found {tuple(frame_weights.shape)}")
    weights = frame_weights.to(per_frame_m.dtype)
    return (weights * per_frame_m).sum() / (weights.sum() if weights_of_all is None else weights_of_all)


def velocity(predicted_m: Poses, target_m: Poses) -> Float[torch.Tensor, ""]:
    """Mean distance between predicted and true steps: mean_btj |(p_t+1 - p_t) - (y_t+1 - y_t)|, in metres per frame.

    Raises ValueError on shapes that do not match and on windows of fewer than two frames.
    Source: Pavllo et al. 2019 (MPJVE); as a loss Zhang et al. 2022 (MixSTE).
    """
    _check_shapes(predicted_m, target_m)
    if target_m.shape[1] < 2:
        raise ValueError(f"expected windows of two frames or more for a velocity, found shape {tuple(target_m.shape)}")
    drift_m = torch.diff(predicted_m - target_m, dim=1)
    return torch.linalg.vector_norm(drift_m, dim=-1).mean()


def _check_shapes(predicted_m: Poses, target_m: Poses) -> None:
    if predicted_m.shape != target_m.shape or not target_m.numel():
        raise ValueError(
            f"expected windows of one shape, not empty, found {tuple(predicted_m.shape)} and {tuple(target_m.shape)}"
        )
