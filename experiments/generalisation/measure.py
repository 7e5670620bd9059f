"""Stage generalise: a row's runs on the test takes, filmed under conditions that training did not have.

Reads data/raw/cmu_mocap and data/checkpoints/<row>/run<seed>/. Writes experiments/generalisation/results/<row>.json. It
opens the test split, as evaluate_5runs does, and selects nothing by it. Errors are those of evaluate_5runs: frames
pooled within an action, then the plain mean over actions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    MissingShown,
    View,
    cut_excerpts,
    film_excerpts,
)
from pipeline.config.params import CmuRecipe, load_params, recipe_for
from pipeline.config.rows import parse_row
from pipeline.mocap.cameras import DISTANCE_M, HEIGHT_M, Take
from pipeline.poses import metrics
from pipeline.poses.checkpoint import Card, load_checkpoint
from pipeline.poses.clips import Clip
from pipeline.poses.windows import frame_table, predict_frames
from pipeline.prepare_data.cmu_mocap import KEYPOINTS, read_takes
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_json

log = logging.getLogger(__name__)

EXCERPTS_PER_ACTION = 24
MISSING_CURVES: dict[MissingShown, str] = {
    "interpolated": "filled in over time",
    "middle": "at the middle of the other joints",
}
IN_WORDS = (
    f"Scored are {EXCERPTS_PER_ACTION} excerpts of each action, or all where there are fewer, spread over the takes of "
    f"the test split, their four cameras and time: {SCORED_S:g} s each, at {SCORED_HZ:g} frames a second, with up to "
    f"{CONTEXT_S:g} s before and after for the windows. All settings of a factor are scored on the same instants, at "
    "which each of them has the whole body in the image; between factors the instants differ. Otherwise the protocol "
    "is that of the results table: frames pooled within an action, then the mean over actions."
)
MEASURES = {"mpjpe_mm": metrics.mpjpe_mm, "p_mpjpe_mm": metrics.p_mpjpe_mm, "n_mpjpe_mm": metrics.n_mpjpe_mm}


@dataclass(frozen=True)
class Setting:
    """One point of a factor: its label and the condition. `curve` names its line where there are two of them."""

    label: str
    condition: Condition
    curve: str = ""


def factors(trained: Condition) -> dict[str, list[Setting]]:
    """For each factor its settings, all else as in training."""

    def seen_by(label: str, curve: str = "", **view: float) -> Setting:
        return Setting(label, replace(trained, view=View(**view)), curve)

    def missing(share: float, shown: MissingShown) -> Setting:
        condition = replace(trained, missing=share, missing_shown=shown) if share else trained
        return Setting(f"{100 * share:g}", condition, MISSING_CURVES[shown])

    def rate(rate_hz: float, shown_hz: float, curve: str) -> Setting:
        return Setting(f"{rate_hz:g}", replace(trained, rate_hz=rate_hz, shown_hz=shown_hz), curve)

    levels = {0.0, 0.5, 1.0, 1.3, 1.6, 2.0} | (set() if trained.level is None else {trained.level})
    rates_hz = sorted({15.0, 25.0, 30.0, 50.0, 60.0, trained.rate_hz})
    return {
        "detector": [
            *([Setting("exact", trained)] if trained.level is None else []),
            *(Setting(f"{level:g}", replace(trained, level=level)) for level in sorted(levels)),
        ],
        "missing": [missing(share, shown) for shown in MISSING_CURVES for share in (0.0, 0.05, 0.1, 0.2)],
        "height": [
            Setting("{:g}–{:g}".format(*HEIGHT_M), trained),
            *(seen_by(f"{height_m:g}", height_m=height_m) for height_m in (0.5, 1.0, 2.5, 4.0)),
        ],
        "distance": [
            Setting("{:g}–{:g}".format(*DISTANCE_M), trained),
            *(seen_by(f"{distance_m:g}", distance_m=distance_m) for distance_m in (3.0, 4.0, 8.0, 12.0)),
        ],
        "focal": [seen_by(f"{focal:g}", focal=focal) for focal in (0.6, 0.8, 1.0, 1.25, 1.5)],
        "roll": [seen_by(f"{roll_deg:g}", roll_deg=roll_deg) for roll_deg in (0.0, 5.0, 10.0, 20.0)],
        "rate": [
            *(rate(rate_hz, rate_hz, "as it is") for rate_hz in rates_hz),
            *(rate(rate_hz, trained.shown_hz, f"resampled to {trained.shown_hz:g} Hz") for rate_hz in rates_hz),
        ],
        "body": [seen_by(f"{body:g}", body=body) for body in (0.6, 0.8, 0.9, 1.0, 1.1, 1.2)],
        "limbs": [
            *(seen_by(f"{legs:g}", "legs", legs=legs) for legs in (0.8, 0.9, 1.0, 1.1, 1.2)),
            *(seen_by(f"{arms:g}", "arms", arms=arms) for arms in (0.8, 0.9, 1.0, 1.1, 1.2)),
        ],
        "length": [Setting(str(frames or "all"), replace(trained, frames=frames)) for frames in (1, 3, 9, 27, None)],
    }


def generalise(row_name: str, *, raw: Path, checkpoints: Path, params_path: Path, out: Path) -> None:
    """Score every run of the row under every setting of every factor and write the record `out`/<row>.json.

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
    runs = []
    for seed in params.seeds:
        folder = checkpoints / row_name / f"run{seed}"
        model, card = load_checkpoint(folder, device=device)
        if (card.row, card.seed) != (row_name, seed):
            raise UserError(f"{folder}: expected run {seed} of {row_name}, found run {card.seed} of {card.row}")
        runs.append((model, card))
    takes = [take for take in read_takes(raw / "cmu_mocap") if take.split == "test"]
    level = recipe.detector_level if row.keypoints == "det" else None
    trained = Condition(rate_hz=recipe.rate_hz, shown_hz=recipe.rate_hz, level=level)
    result: dict[str, Any] = {}
    for name, settings in factors(trained).items():
        result[name] = score_factor(settings, trained, runs, takes, recipe, per_action=EXCERPTS_PER_ACTION)
        log.info("%s: %s, %d frames", row_name, name, result[name]["frames"])
    protocol = {"seeds": list(params.seeds), "in_words": IN_WORDS}
    write_json(out / f"{row_name}.json", {"row": row_name, "protocol": protocol, "factors": result})


def score_factor(
    settings: Sequence[Setting],
    trained: Condition,
    runs: Sequence[tuple[nn.Module, Card]],
    takes: Sequence[Take],
    recipe: CmuRecipe,
    *,
    per_action: int,
) -> dict[str, Any]:
    """The errors of all runs under each setting, on the same instants of the same takes."""
    views = {setting.condition.view for setting in settings}
    chosen = cut_excerpts(takes, views, rate_hz=trained.rate_hz, per_action=per_action)
    scored: dict[Condition, dict[str, Any]] = {}
    for condition in dict.fromkeys(setting.condition for setting in settings):
        clips = film_excerpts(chosen, condition, trained_hz=trained.rate_hz)
        if trained.level is None:  # a model that takes no confidence
            clips = [replace(clip, confidence=None) for clip in clips]
        scored[condition] = _over_runs([score(model, card, clips, recipe) for model, card in runs])
    points = [
        {
            "curve": setting.curve,
            "setting": setting.label,
            "trained": setting.condition == trained,
            **scored[setting.condition],
        }
        for setting in settings
    ]
    return {"frames": sum(excerpt.scored_frames for excerpt in chosen), "settings": points}


def _over_runs(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {name: metrics.mean_std([own[name] for own in scores]) for name in MEASURES}
    actions = scores[0]["per_action"]
    return means | {"per_action": {a: metrics.mean_std([own["per_action"][a] for own in scores]) for a in actions}}


def score(model: nn.Module, card: Card, clips: Sequence[Clip], recipe: CmuRecipe) -> dict[str, Any]:
    """One run's errors on the scored frames of the clips, in mm: pooled per action, then the mean over actions."""
    in_skeleton, out_skeleton = card.skeletons
    table = frame_table(clips, root=out_skeleton.root, device=next(model.parameters()).device)
    every_frame = model.predicts == "every_frame"
    poses_m = predict_frames(
        model,
        table,
        in_skeleton,
        out_skeleton,
        frames=card.frames,
        stride=min(recipe.window_stride, card.frames) if every_frame else 1,
        flip_averaging=recipe.flip_averaging,
        wanted=table.scored,
    )
    if recipe.predicted_root == "zeroed":
        poses_m[:, out_skeleton.root] = 0
    predicted_m, true_m = poses_m[table.scored].cpu().numpy(), table.pose_m[table.scored].cpu().numpy()
    actions = np.concatenate([[clip.action] * int(clip.scored.sum()) for clip in clips if clip.scored is not None])
    known = sorted(set(actions.tolist()))
    errors_mm = {name: measure(predicted_m, true_m) for name, measure in MEASURES.items()}
    per_action = {name: {a: float(own[actions == a].mean()) for a in known} for name, own in errors_mm.items()}
    means = {name: float(np.mean(list(own.values()))) for name, own in per_action.items()}
    return {**means, "per_action": per_action["mpjpe_mm"]}
