"""Scores a network in training on the clips held out for validation, and predicts the first of them for pictures."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from pipeline.config.params import TrainingConfig
from pipeline.poses import metrics
from pipeline.poses.checkpoint import Record
from pipeline.poses.predict import TrainedModel
from pipeline.poses.scores import score_actions
from pipeline.poses.windows import every_nth
from pipeline.train.batches import Data


def validate(model: TrainedModel, data: Data, config: TrainingConfig) -> Record:
    """Scores the validation clips without flip averaging: mean over actions, in mm; None if there are no clips."""
    table = data.validation
    if table is None:
        return {"val_mpjpe_mm": None, "val_p_mpjpe_mm": None}
    wanted = every_nth(table, config.training.validation_step)
    poses_m = model.predict(table, flip_averaging=False, wanted=wanted)
    scores = score_actions(data.validation_clips, poses_m, table, wanted)
    means = metrics.average_over_actions([score for *_, score in scores], [action for _, action, _ in scores])
    return {"val_mpjpe_mm": means["mpjpe_mm"], "val_p_mpjpe_mm": means["p_mpjpe_mm"]}


def predict_validation_clip(
    model: TrainedModel, data: Data, frames: Int[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "S J_out 3"], Float[np.ndarray, "S J_out 3"]]:
    """Returns predicted and true poses of the given frames of the first validation clip, which is the table's first."""
    assert data.validation is not None
    chosen = torch.from_numpy(frames)
    wanted = torch.zeros(len(data.validation), dtype=torch.bool, device=data.device)
    wanted[chosen] = True
    poses_m = model.predict(data.validation, flip_averaging=False, wanted=wanted)
    predicted_m, true_m = (
        poses[chosen].cpu().numpy().astype(np.float64) for poses in (poses_m, data.validation.pose_m)
    )
    return predicted_m, true_m
