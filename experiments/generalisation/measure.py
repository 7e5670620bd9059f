"""Stage generalise: a row's runs on the test takes, filmed under conditions that training did not have.

Reads data/raw/cmu_mocap and data/checkpoints/<row>/run<seed>/. Writes experiments/generalisation/results/<row>.json. It
opens the test split, as evaluate_5runs does, and selects nothing by it. Errors are those of evaluate_5runs: frames
pooled within an action, then the plain mean over actions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.generalisation.conditions import (
    CONTEXT_S,
    SCORED_HZ,
    SCORED_S,
    Condition,
    cut_excerpts,
    film_excerpts,
)
from experiments.generalisation.factors import FACTORS, Setting
from pipeline.config.params import CmuRecipe, load_params, recipe_for
from pipeline.config.rows import parse_row
from pipeline.mocap.cameras import Take
from pipeline.poses import metrics
from pipeline.poses.checkpoint import Card, load_checkpoint
from pipeline.poses.clips import Clip
from pipeline.poses.row_metrics import mean_over_runs
from pipeline.poses.windows import frame_table, predict_frames
from pipeline.prepare_data.cmu_mocap import KEYPOINTS, read_takes
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_json

log = logging.getLogger(__name__)

EXCERPTS_PER_ACTION = 24
IN_WORDS = (
    f"Scored are {EXCERPTS_PER_ACTION} excerpts of each action, or all where there are fewer, spread over the takes of "
    f"the test split, their four cameras and time: {SCORED_S:g} s each, at {SCORED_HZ:g} frames a second, with up to "
    f"{CONTEXT_S:g} s before and after for the windows. All settings of a factor are scored on the same instants, at "
    "which each of them has the whole body in the image; between factors the instants differ. Otherwise the protocol "
    "is that of the results table: frames pooled within an action, then the mean over actions."
)
MEASURES = {"mpjpe_mm": metrics.mpjpe_mm, "p_mpjpe_mm": metrics.p_mpjpe_mm, "n_mpjpe_mm": metrics.n_mpjpe_mm}


def generalise(row_name: str, *, raw: Path, checkpoints: Path, params_path: Path, out: Path) -> None:
    """Scores every run of the row under every setting of every factor and writes the record `out`/<row>.json.

    Raises UserError if the row is not of the embedded motion capture, its rate does not suit, or a checkpoint is
    missing, damaged or of another row.
    """
    params, row = load_params(params_path), parse_row(row_name)
    recipe = recipe_for(row, params, where=str(params_path))
    if not isinstance(recipe, CmuRecipe) or row.keypoints not in KEYPOINTS:
        raise UserError(f"row: expected cmu-gt or cmu-det, which can be filmed anew, found '{row_name}'")
    if recipe.rate_hz % SCORED_HZ:
        raise UserError(f"datasets.cmu.rate_hz: expected a multiple of {SCORED_HZ:g} Hz, found {recipe.rate_hz:g}")
    torch.set_num_threads(params.threads)
    device = torch_device(params.device)
    runs = [_load_run(checkpoints / row_name / f"run{seed}", row_name, seed, device) for seed in params.seeds]
    takes = [take for take in read_takes(raw / "cmu_mocap") if take.split == "test"]
    level = recipe.detector_level if row.keypoints == "det" else None
    trained = Condition(rate_hz=recipe.rate_hz, shown_hz=recipe.rate_hz, level=level)
    factors: dict[str, Any] = {}
    for name, factor in FACTORS.items():
        factors[name] = score_settings(factor.settings(trained), trained, runs, takes, recipe)
        log.info("%s: %s, %d frames", row_name, name, factors[name]["frames"])
    protocol = {"seeds": list(params.seeds), "in_words": IN_WORDS}
    write_json(out / f"{row_name}.json", {"row": row_name, "protocol": protocol, "factors": factors})


def _load_run(folder: Path, row: str, seed: int, device: torch.device) -> tuple[nn.Module, Card]:
    model, card = load_checkpoint(folder, device=device)
    if (card.row, card.seed) != (row, seed):
        raise UserError(f"{folder}: expected run {seed} of {row}, found run {card.seed} of {card.row}")
    return model, card


def score_settings(
    settings: Sequence[Setting],
    trained: Condition,
    runs: Sequence[tuple[nn.Module, Card]],
    takes: Sequence[Take],
    recipe: CmuRecipe,
) -> dict[str, Any]:
    """Returns the errors of all runs under each setting of a factor, on the same instants of the same takes."""
    views = {setting.condition.view for setting in settings}
    excerpts = cut_excerpts(takes, views, rate_hz=trained.rate_hz, per_action=EXCERPTS_PER_ACTION)
    scores: dict[Condition, dict[str, Any]] = {}
    for condition in dict.fromkeys(setting.condition for setting in settings):
        clips = film_excerpts(excerpts, condition, trained_hz=trained.rate_hz)
        if trained.level is None:  # a model that takes no confidence
            clips = [replace(clip, confidence=None) for clip in clips]
        scores[condition] = _mean_over_runs([score_clips(model, card, clips, recipe) for model, card in runs])
    points = [
        {
            "curve": setting.curve,
            "setting": setting.label,
            "trained": setting.condition == trained,
            **scores[setting.condition],
        }
        for setting in settings
    ]
    return {"frames": sum(excerpt.scored_frames for excerpt in excerpts), "settings": points}


def _mean_over_runs(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the runs' scores with each number as its mean and deviation over the runs."""
    means = mean_over_runs([{name: run[name] for name in MEASURES} for run in scores])
    actions = mean_over_runs([run["per_action"] for run in scores])
    per_action = {action: error.model_dump(mode="json") for action, error in actions.items()}
    return {**{name: error.model_dump(mode="json") for name, error in means.items()}, "per_action": per_action}


def score_clips(model: nn.Module, card: Card, clips: Sequence[Clip], recipe: CmuRecipe) -> dict[str, Any]:
    """Returns a run's errors on the scored frames in mm: pooled per action, then the mean over actions."""
    in_skeleton, out_skeleton = card.skeletons
    table = frame_table(clips, root=out_skeleton.root, device=next(model.parameters()).device)
    poses_m = predict_frames(
        model,
        table,
        in_skeleton,
        out_skeleton,
        frames=card.frames,
        stride=min(recipe.window_stride, card.frames) if model.predicts == "every_frame" else 1,
        flip_averaging=recipe.flip_averaging,
        wanted=table.scored,
    )
    if recipe.predicted_root == "zeroed":
        poses_m[:, out_skeleton.root] = 0
    predicted_m, true_m = poses_m[table.scored].cpu().numpy(), table.pose_m[table.scored].cpu().numpy()
    action_of_frame = np.concatenate(
        [[clip.action] * int(clip.scored.sum()) for clip in clips if clip.scored is not None]
    )
    actions = sorted(set(action_of_frame.tolist()))
    errors_mm = {name: measure(predicted_m, true_m) for name, measure in MEASURES.items()}
    per_action = {
        name: {action: float(errors[action_of_frame == action].mean()) for action in actions}
        for name, errors in errors_mm.items()
    }
    means = {name: float(np.mean(list(of_actions.values()))) for name, of_actions in per_action.items()}
    return {**means, "per_action": per_action["mpjpe_mm"]}
