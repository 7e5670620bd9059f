"""Stage evaluate_5runs: scores the runs of a row on its test split, which only this stage opens.

Reads data/prepared/<row>/{test,evaluation.json} and data/checkpoints/<row>/run<seed>/. Writes under reports/
metrics/<row>.json, the record of the row; headline/<row>.json, its main figures for `dvc metrics` and `dvc exp show`;
learning_curves/<row>.csv and per_action/<row>.csv for plots; distributions/<row>.json, how the errors of every run are
distributed; and scenes/<row>.json, poses of the first run's best, median and worst clips.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pipeline.config.params import EvaluationConfig
from pipeline.config.rows import parse_row
from pipeline.config.values import validated
from pipeline.evaluate_5runs.distributions import EDGES_MM
from pipeline.evaluate_5runs.example_clips import CHOICE, compact_json
from pipeline.evaluate_5runs.protocol import select_actions
from pipeline.evaluate_5runs.scores import CheckpointScores, score_models
from pipeline.mocap.cameras import read_clips
from pipeline.poses.checkpoint import EPOCH_COLUMNS, Card, check_metres, read_history
from pipeline.poses.clips import Clip
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.poses.predict import load_trained_model
from pipeline.poses.row_metrics import ExampleClips, RowDistributions, RowMetrics
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import md5_as_dvc, read_yaml, write_json, write_text
from pipeline.tracking import run as tracking


def evaluate_5runs(
    prepared: Path, checkpoints: Path, *, seeds: Sequence[int], reports: Path, work_folder: Path
) -> None:
    """Scores run<seed> of every seed and writes what is known of the row under `reports`.

    Raises UserError if a checkpoint is missing, damaged, of another row or of other keypoints than the data, or the
    metrics cannot have a value.
    """
    folders = [checkpoints / f"run{seed}" for seed in seeds]
    scores = score_checkpoints(prepared, folders, seeds=seeds)
    curves = [[seed, *epoch] for seed, folder in zip(seeds, folders, strict=True) for epoch in read_history(folder)]
    _write_reports(scores, seeds, curves, reports)
    _track(scores, seeds, folders, reports=reports, wandb_folder=work_folder.parent)


def score_checkpoints(prepared: Path, checkpoints: Sequence[Path], *, seeds: Sequence[int] | None) -> CheckpointScores:
    """Scores checkpoints on the test split of prepared data.

    With `seeds` the checkpoints must be the row's own runs of those seeds, else they may be any that fit the data.
    Raises UserError if a checkpoint or the data are missing or damaged, they do not fit, or a metric has no value.
    """
    path = prepared / "evaluation.json"
    config = validated(EvaluationConfig, read_yaml(path), where=str(path))
    torch.set_num_threads(config.threads)
    device = torch_device(config.device)
    models = {folder.name: load_trained_model(folder, device=device) for folder in checkpoints}
    clips = read_clips(prepared / "test", detector_level=config.detector_level)
    for place, (folder, model) in enumerate(zip(checkpoints, models.values(), strict=True)):
        card = model.card
        check_metres(card, where=folder)
        if seeds is not None:
            _refuse_differences({"row": (config.row, card.row), "seed": (seeds[place], card.seed)}, where=folder)
        _check_fit(card, clips, config, where=folder)
    return score_models(models, select_actions(clips, config.evaluation.actions, where=path), config, seeds or ())


def _check_fit(card: Card, clips: Sequence[Clip], config: EvaluationConfig, *, where: Path) -> None:
    """Raises UserError naming the first thing that the checkpoint expects otherwise than the data have it."""
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


def _write_reports(
    scores: CheckpointScores, seeds: Sequence[int], curves: Sequence[Sequence[object]], reports: Path
) -> None:
    metrics, row = scores.metrics, scores.metrics.row
    write_text(reports / "per_action" / f"{row}.csv", _csv(["action", *METRIC_TITLES], _per_action(metrics)))
    write_text(reports / "learning_curves" / f"{row}.csv", _csv(["run", *EPOCH_COLUMNS], curves))
    write_json(reports / "headline" / f"{row}.json", _headline(metrics))
    write_json(reports / "metrics" / f"{row}.json", metrics.model_dump(exclude_unset=True))
    runs = dict(zip(map(str, seeds), scores.distributions, strict=True))
    distributions = RowDistributions(row=row, edges_mm=EDGES_MM, frames="all scored frames alike", runs=runs)
    write_json(reports / "distributions" / f"{row}.json", distributions.model_dump())
    skeleton, clips = scores.config.out_skeleton, scores.example_clips
    examples = ExampleClips(row=row, seed=seeds[0], chosen=CHOICE, skeleton=skeleton, clips=clips)
    write_text(reports / "scenes" / f"{row}.json", compact_json(examples))


def _headline(metrics: RowMetrics) -> dict[str, float | None]:
    """Returns the means of the row's metrics, and the deviation of the MPJPE."""
    means = {name: value.mean for name, value in metrics.by_name().items()}
    return means | {"mpjpe_mm_std": metrics.mpjpe_mm.std}


def _per_action(metrics: RowMetrics) -> list[list[str | float | None]]:
    """Returns a line for each action with the means of the metrics in METRIC_TITLES."""
    means = {action: of_action.by_name() for action, of_action in metrics.per_action.items()}
    return [[action, *(values[name].mean for name in METRIC_TITLES)] for action, values in means.items()]


def _track(
    scores: CheckpointScores, seeds: Sequence[int], folders: Sequence[Path], *, reports: Path, wandb_folder: Path
) -> None:
    """Sends headline and errors per action to W&B, as a run that used the checkpoints.

    Its id is that of the metrics: the same checkpoints scored otherwise are another run.
    """
    row, config = scores.metrics.row, scores.config
    metrics_md5 = md5_as_dvc(reports / "metrics" / f"{row}.json")
    with tracking.start_run(
        row=row,
        name=f"{row}/evaluation",
        job_type="evaluate_5runs",
        run_id=f"{metrics_md5[:16]}-evaluation",
        config=config.model_dump() | {"seeds": list(seeds)},
        folder=wandb_folder,
    ) as run:
        for seed, folder, card in zip(seeds, folders, scores.cards, strict=True):
            run.used(f"{row}-run{seed}", "checkpoint", folder, card.model_dump())
        run.summarise({f"test/{name}": value for name, value in _headline(scores.metrics).items()})
        run.table("test/per_action", ["action", *METRIC_TITLES], _per_action(scores.metrics))


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
