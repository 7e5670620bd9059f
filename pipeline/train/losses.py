"""Training losses on windows of poses, in metres: each a mean of Euclidean distances, differentiable everywhere.

At zero distance the gradient is zero: under the root stands at least 1e-30 m², of which a root alone would give NaN.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float

from pipeline.poses.skeleton import Skeleton

Poses = Float[torch.Tensor, "B T J 3"]


def mpjpe(
    predicted_m: Poses,
    target_m: Poses,
    *,
    frame_weights: Float[torch.Tensor, "B T"] | Bool[torch.Tensor, "B T"] | None = None,
    weights_of_all: Float[torch.Tensor, ""] | None = None,
) -> Float[torch.Tensor, ""]:
    """Mean distance between predicted and true joints: sum_bt v_bt (1/J sum_j |p_btj - y_btj|) / sum_bt v_bt.

    `frame_weights` v (B T), numbers or a mask, choose the frames that the mean is over; where they sum to 0 the mean is
    NaN (asking would make the host wait for the device in every step). For a part of a batch `weights_of_all` is the
    sum of the whole batch's v: the losses of the parts then add up to the loss of the whole. Raises ValueError on
    shapes that do not match.
    Source: Ionescu et al. 2014; as a loss Pavllo et al. 2019.
    """
    _check_shapes(predicted_m, target_m)
    batch, frames = target_m.shape[:2]
    square_m2 = (predicted_m - target_m).square().sum(-1)
    per_frame_m = (square_m2 * square_m2.clamp(min=1e-30).rsqrt()).mean(dim=-1)
    if frame_weights is None:
        return per_frame_m.mean()
    if frame_weights.shape != (batch, frames):
        raise ValueError(f"expected frame weights of shape {(batch, frames)}, found {tuple(frame_weights.shape)}")
    weights = frame_weights.to(per_frame_m.dtype)
    return (weights * per_frame_m).sum() / (weights.sum() if weights_of_all is None else weights_of_all)


def bone_vectors(poses_m: Poses, skeleton: Skeleton) -> Float[torch.Tensor, "B T J-1 3"]:
    """Returns the bones of poses: each joint but the root, relative to its parent.

    The `mpjpe` of bones counts the error of a joint that hangs from a wrong one once, where that of joints counts it at
    every joint further out. Source: Sun et al. 2017, Compositional human pose regression.
    """
    return einsum(poses_m.new_tensor(skeleton.bone_from_joint), poses_m, "k j, b t j c -> b t k c")


def _check_shapes(predicted_m: Poses, target_m: Poses) -> None:
    if predicted_m.shape != target_m.shape or not target_m.numel():
        raise ValueError(
            f"expected windows of one shape, not empty, found {tuple(predicted_m.shape)} and {tuple(target_m.shape)}"
        )
