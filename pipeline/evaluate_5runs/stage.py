"""Stage evaluate_5runs: scores the runs of a row on its test split, which only this stage opens.

Reads data/prepared/<row>/{test,evaluation.json} and data/checkpoints/<row>/run<seed>/. Writes under reports/:
metrics/<row>.json, the record of the row; headline/<row>.json, its main figures for `dvc metrics` and `dvc exp show`;
for plots learning_curves/<row>.csv and per_action/<row>.csv; and to look at distributions/<row>.json, the errors of
every run in counts, and scenes/<row>.json, poses of the first run's best, median and worst clips.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import Evaluation, EvaluationConfig, read_yaml, validated
from pipeline.config.rows import parse_row
from pipeline.evaluate_5runs.distributions import EDGES_MM, error_distribution
from pipeline.evaluate_5runs.example_clips import compact_json, shown_clips
from pipeline.poses import metrics
from pipeline.poses.checkpoint import EPOCH_COLUMNS, Card, load_checkpoint, read_history
from pipeline.poses.clips import Clip, read_split
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.poses.windows import FrameTable, every_nth, frame_table, predict_frames, scores_of_actions
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_json, write_text
from pipeline.tracking import run as tracking

log = logging.getLogger(__name__)

GROUPINGS: dict[str, Callable[[Clip, str], str]] = {
    "per_action": lambda clip, action: action,
    "per_subset": lambda clip, action: clip.subset,
    "per_subject": lambda clip, action: clip.subject,
    "per_subject_action": lambda clip, action: f"{clip.subject} {action}",
}
AVERAGED = {"actions": "per_action", "subjects": "per_subject", "subject_actions": "per_subject_action"}
AVERAGING = {
    "actions": "frames pooled within an action (all subjects and cameras), then unweighted mean over actions",
    "frames": "all scored frames pooled",
    "subjects": "frames pooled within a subject or test sequence, then unweighted mean over those",
    "subject_actions": "frames pooled within an action of a subject (all cameras), then unweighted mean over those",
}


@dataclass(frozen=True)
class Looks:
    """Beside the scores: the error distribution of each run, and clips of the first run to look at."""

    distributions: tuple[dict[str, Any], ...]
    clips: dict[str, Any]


def evaluate_5runs(
    prepared: Path, checkpoints: Path, *, seeds: Sequence[int], reports: Path, work_folder: Path
) -> None:
    """Score run<seed> of every seed and write the row's metrics and plot tables under `reports`.

    Raises UserError if a checkpoint is missing, damaged, of another row or of other keypoints than the data, or the
    metrics cannot have a value.
    """
    config, cards, result, looks = evaluated(prepared, [checkpoints / f"run{seed}" for seed in seeds], seeds=seeds)
    histories = {seed: read_history(checkpoints / f"run{seed}") for seed in seeds}

    per_action = [
        [action, *(means[metric]["mean"] for metric in METRIC_TITLES)] for action, means in result["per_action"].items()
    ]
    curves = [[seed, *record] for seed, history in histories.items() for record in history]
    write_text(reports / "per_action" / f"{config.row}.csv", _csv(["action", *METRIC_TITLES], per_action))
    write_text(reports / "learning_curves" / f"{config.row}.csv", _csv(["run", *EPOCH_COLUMNS], curves))
    measured = [metric for metric in (*METRIC_TITLES, "pck150", "auc") if metric in result]
    headline = {metric: result[metric]["mean"] for metric in measured} | {"mpjpe_mm_std": result["mpjpe_mm"]["std"]}
    write_json(reports / "headline" / f"{config.row}.json", headline)
    write_json(reports / "metrics" / f"{config.row}.json", result)
    distributions = {str(seed): own for seed, own in zip(seeds, looks.distributions, strict=True)}
    content = {"row": config.row, "edges_mm": EDGES_MM, "frames": "all scored frames alike", "runs": distributions}
    write_json(reports / "distributions" / f"{config.row}.json", content)
    scenes = {"row": config.row, "seed": seeds[0], **looks.clips}
    write_text(reports / "scenes" / f"{config.row}.json", compact_json(scenes))
    with tracking.start_run(
        row=config.row,
        name=f"{config.row}/evaluation",
        job_type="evaluate_5runs",
        run_id=f"{cards[0].run_key}-evaluation",
        config=config.model_dump() | {"seeds": list(seeds)},
        folder=work_folder.parent,
    ) as run:
        for seed, card in zip(seeds, cards, strict=True):
            run.used(f"{config.row}-run{seed}", "checkpoint", checkpoints / f"run{seed}", card.model_dump())
        run.summarise({f"test/{name}": value for name, value in headline.items()})
        run.table("test/per_action", ["action", *METRIC_TITLES], per_action)


def evaluated(
    prepared: Path, checkpoints: Sequence[Path], *, seeds: Sequence[int] | None
) -> tuple[EvaluationConfig, list[Card], dict[str, Any], Looks]:
    """Scores on the prepared data's test split: its configuration, the cards, the result, and looks.

    With `seeds` the checkpoints must be the row's own runs of those seeds, else they may be any that fit the data.
    Raises UserError if a checkpoint or the data are missing or damaged, they do not fit, or a metric has no value.
    """
    path = prepared / "evaluation.json"
    config = validated(EvaluationConfig, read_yaml(path), where=str(path))
    torch.set_num_threads(config.threads)
    device = torch_device(config.device)
    runs = [load_checkpoint(folder, device=device) for folder in checkpoints]
    cards = [card for _, card in runs]
    clips = read_split(prepared / "test")
    for place, (folder, card) in enumerate(zip(checkpoints, cards, strict=True)):
        if seeds is not None:
            _refuse_differences({"row": (config.row, card.row), "seed": (seeds[place], card.seed)}, where=folder)
        _check_fit(card, clips, config, where=folder)
    clips = _with_scored_actions(clips, config.evaluation.actions, where=path)
    table = frame_table(clips, root=cards[0].skeletons[1].root, device=device)
    wanted = every_nth(table, config.evaluation.frame_step, fraction=config.evaluation.frame_fraction)

    scored, distributions = [], []
    shown: dict[str, Any] = {}
    chosen, targets_m = wanted.cpu().numpy(), table.pose_m.cpu().numpy()
    for folder, (model, card) in zip(checkpoints, runs, strict=True):
        poses_m = _predicted(model, card, table, wanted, config)
        scored.append(_score(poses_m, card, clips, table, wanted, config))
        predicted_m, skeleton = poses_m.cpu().numpy(), card.skeletons[1]
        distributions.append(error_distribution(predicted_m[chosen], targets_m[chosen], skeleton.joints))
        if not shown:
            ends = table.clip_first.cpu().numpy()[1:]
            shown = shown_clips(clips, np.split(predicted_m, ends), np.split(chosen, ends), skeleton)
        log.info("%s %s: MPJPE %.2f mm", config.row, folder.name, scored[-1]["mpjpe_mm"])
    result = {
        "row": config.row,
        "protocol": _protocol(config, clips, seeds or [], scored=int(wanted.sum())),
        **_over_runs(scored),
    }
    return config, cards, result, Looks(tuple(distributions), shown)


def _check_fit(card: Card, clips: Sequence[Clip], config: EvaluationConfig, *, where: Path) -> None:
    in_skeleton, out_skeleton = card.skeletons
    channels = 2 if clips[0].confidence is None else 3
    checks = {
        "keypoints": (config.keypoints, parse_row(card.row).keypoints),
        "frames": (config.frames, card.frames),
        "input layout": (config.in_skeleton, in_skeleton.name),
        "output layout": (config.out_skeleton, out_skeleton.name),
        "input joints": (clips[0].pixels.shape[1], len(in_skeleton.joints)),
        "output joints": (clips[0].joints_camera_m.shape[1], len(out_skeleton.joints)),
        "input channels": (channels, card.in_channels),
    }
    _refuse_differences(checks, where=where)


def _refuse_differences(checks: Mapping[str, tuple[object, object]], *, where: Path) -> None:
    for name, (expected, found) in checks.items():
        if expected != found:
            raise UserError(f"{where}: {name}: expected {expected} as in the prepared data, found {found}")


def _with_scored_actions(clips: Sequence[Clip], actions: str | Sequence[str], *, where: Path) -> list[Clip]:
    """The clips that show one of `actions`, their other frames as context alone.

    Raises UserError naming an action that is in no clip: names are compared whole, "Sitting" is not "SittingDown".
    """
    if actions == "all":
        return list(clips)
    known = sorted({action for clip in clips for action in clip.frames_per_action})
    for action in actions:
        if action not in known:
            raise UserError(f"{where}: actions: expected some of {', '.join(known)}, found '{action}'")
    chosen = []
    for clip in clips:
        shown = [frames for action, frames in clip.frames_per_action.items() if action in actions]
        if len(shown) == len(clip.frames_per_action):
            chosen.append(clip)
        elif shown:
            scored = np.logical_or.reduce(shown) if clip.scored is None else np.logical_or.reduce(shown) & clip.scored
            chosen.append(replace(clip, scored=scored))
    return chosen


def _predicted(
    model: torch.nn.Module, card: Card, table: FrameTable, wanted: Bool[Tensor, " N"], config: EvaluationConfig
) -> Float[Tensor, "N J_out 3"]:
    """One run's poses of all wanted frames."""
    in_skeleton, out_skeleton = card.skeletons
    evaluation = config.evaluation
    stride = min(evaluation.window_stride, card.frames) if model.predicts == "every_frame" else 1
    poses_m = predict_frames(
        model,
        table,
        in_skeleton,
        out_skeleton,
        frames=card.frames,
        stride=stride,
        flip_averaging=evaluation.flip_averaging,
        wanted=wanted,
    )
    if evaluation.predicted_root == "zeroed":
        poses_m[:, out_skeleton.root] = 0
    return poses_m


def _score(
    poses_m: Float[Tensor, "N J_out 3"],
    card: Card,
    clips: Sequence[Clip],
    table: FrameTable,
    wanted: Bool[Tensor, " N"],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """One run's metrics: the averaged ones, the groups they can be averaged over, and all those averages."""
    evaluation, out_skeleton = config.evaluation, card.skeletons[1]
    parts = scores_of_actions(
        clips, poses_m, table, wanted, pck_joints=config.pck_joints, joint_names=out_skeleton.joints
    )
    scores = [{name: own[name] for name in own if not name.startswith(metrics.JOINT)} for *_, own in parts]
    groups = {name: metrics.pooled(scores, [key(clip, a) for clip, a, _ in parts]) for name, key in GROUPINGS.items()}
    means = {
        "over_actions": metrics.average_over_groups(groups["per_action"]),
        "over_frames": metrics.frame_wise(scores),
        "over_subjects": metrics.average_over_groups(groups["per_subject"]),
        "over_subject_actions": metrics.average_over_groups(groups["per_subject_action"]),
    }
    result: dict[str, Any] = {**means[f"over_{evaluation.averaging}"], **groups, **means}
    result["per_joint"] = _per_joint(parts, evaluation.averaging)
    if evaluation.frame_step > 1 or any(clip.scored is not None for clip in clips):
        # The scored frames do not follow one another.
        _leave_out(result, "mpjve_mm")
    return result


def _per_joint(parts: Sequence[tuple[Clip, str, metrics.ClipScores]], averaging: str) -> dict[str, metrics.Means]:
    """The error of each joint, averaged as the row's other numbers."""
    scores = [{name: own[name] for name in own if name.startswith(metrics.JOINT)} for *_, own in parts]
    if averaging == "frames":
        means = metrics.frame_wise(scores)
    else:
        key = GROUPINGS[AVERAGED[averaging]]
        means = metrics.average_over_groups(metrics.pooled(scores, [key(clip, action) for clip, action, _ in parts]))
    return {name.removeprefix(metrics.JOINT): {"mpjpe_mm": mean} for name, mean in means.items()}


def _leave_out(result: dict[str, Any], metric: str) -> None:
    for key, value in result.items():
        if key == metric:
            result[key] = None
        elif isinstance(value, dict):
            _leave_out(value, metric)


def _over_runs(scored: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The runs' nested results as one of the same shape, each number replaced by its mean, deviation and runs."""
    merged: dict[str, Any] = {}
    for key, value in scored[0].items():
        values = [result[key] for result in scored]
        if isinstance(value, dict):
            merged[key] = _over_runs(values)
        else:
            merged[key] = {"mean": None, "std": None, "runs": values} if value is None else metrics.mean_std(values)
    return merged


def _protocol(config: EvaluationConfig, clips: Sequence[Clip], seeds: Sequence[int], *, scored: int) -> dict[str, Any]:
    """Everything a reader must know before he sets the numbers beside others."""
    evaluation = config.evaluation
    actions = sorted({action for clip in clips for action in clip.frames_per_action})
    if evaluation.actions != "all":
        actions = sorted(evaluation.actions)
    return {
        "dataset": config.dataset,
        "split": "test",
        "target": config.target,
        "joints": clips[0].joints_camera_m.shape[1],
        "keypoints": config.keypoints,
        "frames": config.frames,
        "rate_hz": sorted({clip.rate_hz or "unknown" for clip in clips}, key=str),
        "root": f"relative to the root joint, which counts in the mean; predicted root {evaluation.predicted_root}",
        "flip_averaging": evaluation.flip_averaging,
        "averaging": AVERAGING[evaluation.averaging],
        "actions": actions if "actions" in evaluation.averaging or evaluation.actions != "all" else "all",
        **({"pck": _pck_in_words(config.pck_joints)} if config.pck_joints else {}),
        "scored_frames": _scored_frames_in_words(clips, evaluation),
        "excluded_takes": list(config.excluded_takes),
        "not_as_published": list(config.differences),
        "selection": {
            "last": "weights of the last epoch",
            "best_validation": "epoch of the lowest validation MPJPE; validation takes are held out of the train split",
        }[config.selection],
        "clips": len(clips),
        "scored": scored,
        "seeds": list(seeds),
        "spread": "sample standard deviation over the runs",
    }


def _scored_frames_in_words(clips: Sequence[Clip], evaluation: Evaluation) -> str:
    which = "frame" if clips[0].scored is None else "frame marked as valid by the dataset (all are context)"
    step, fraction = evaluation.frame_step, evaluation.frame_fraction
    words = f"every {which} once" if step == 1 else f"one {which} in {step}"
    return words if fraction == 1 else f"{words}, of one stretch of {fraction:g} of each clip"


def _pck_in_words(joints: Sequence[int]) -> str:
    thresholds = metrics.AUC_THRESHOLDS_MM
    return (
        f"share of {len(joints)} joints with an error strictly below {metrics.PCK_THRESHOLD_MM:g} mm; AUC: its mean "
        f"over {len(thresholds)} thresholds from {thresholds[0]:g} to {thresholds[-1]:g} mm"
    )


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
