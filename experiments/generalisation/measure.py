"""Stage generalise: a row's runs on the test takes, filmed under conditions that training did not have.

Reads folders of raw motion capture, data/prepared/<row>/evaluation.json and data/checkpoints/<row>/run<seed>/. Writes
experiments/generalisation/results/<row>.json. It opens the test split, as evaluate_5runs does, and selects nothing by
it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from experiments.generalisation.conditions import (
    CAPTURE_HZ,
    CONTEXT_S,
    SCORED_HZ,
    SCORED_S,
    Condition,
    cut_excerpts,
    film_excerpts,
)
from experiments.generalisation.factors import FACTORS, Setting
from experiments.generalisation.records import FactorScores, RowScores, SettingScores
from pipeline.config.params import EvaluationConfig
from pipeline.config.values import validated
from pipeline.evaluate_5runs.scores import score_models
from pipeline.mocap.takes import Take
from pipeline.poses.frames import resample
from pipeline.poses.predict import TrainedModel, load_trained_model
from pipeline.poses.row_metrics import RowMetrics
from pipeline.prepare_data.motion_capture import read_takes
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml, write_json

log = logging.getLogger(__name__)

EXCERPTS_PER_ACTION = 24
HOW = (
    f"Scored are {EXCERPTS_PER_ACTION} excerpts of each action, or all where there are fewer, spread over the takes of "
    f"the test split, their four cameras and time: {SCORED_S:g} s each, at {SCORED_HZ:g} frames a second, with up to "
    f"{CONTEXT_S:g} s before and after for the windows. All settings of a factor are scored on the same instants, at "
    "which each of them has the whole body in the image; between factors the instants differ. Otherwise the protocol "
    "is that of the results table: frames pooled within an action, then the mean over actions."
)


def generalise(
    row: str, *, seeds: Sequence[int], raw: Sequence[Path], prepared: Path, checkpoints: Path, out: Path
) -> None:
    """Scores every run of the row under every setting of every factor and writes the record `out`/<row>.json.

    `raw` are the folders of motion capture, whose test takes are filmed.

    Raises UserError if the row is not of motion capture, its rate does not suit, or a checkpoint is
    missing, damaged or of another row.
    """
    if not row.startswith("mocap-"):
        raise UserError(f"row: expected one of dataset mocap, which can be filmed anew, found '{row}'")
    path = prepared / row / "evaluation.json"
    config = validated(EvaluationConfig, read_yaml(path), where=str(path))
    every_frame = config.evaluation.model_copy(update={"frame_step": 1, "frame_fraction": 1.0})
    config = config.model_copy(update={"evaluation": every_frame})
    torch.set_num_threads(config.threads)
    models = {f"run{seed}": _load_run(checkpoints / row / f"run{seed}", config, seed) for seed in seeds}
    rate_hz = next(iter(models.values())).card.rate_hz
    if rate_hz is None or rate_hz % SCORED_HZ:
        raise UserError(f"{row}: expected runs trained at a multiple of {SCORED_HZ:g} Hz, found {rate_hz}")
    takes = read_test_takes(raw)
    trained = Condition(rate_hz=rate_hz, shown_hz=rate_hz, level=config.detector_level)
    factors: dict[str, FactorScores] = {}
    for name, factor in FACTORS.items():
        factors[name] = score_settings(factor.settings(trained), trained, models, takes, config)
        log.info("%s: %s, %d frames", row, name, factors[name].frames)
    record = RowScores(row=row, seeds=tuple(seeds), how=HOW, factors=factors)
    write_json(out / f"{row}.json", record.model_dump(mode="json"))


def read_test_takes(folders: Sequence[Path]) -> list[Take]:
    """Reads the takes of the test split at the rate that excerpts are cut from, linear between frames."""
    test = [take for folder in folders for take in read_takes(folder) if take.split == "test"]
    joints_m = [resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=CAPTURE_HZ) for take in test]
    return [replace(take, rate_hz=CAPTURE_HZ, joints_world_m=m) for take, m in zip(test, joints_m, strict=True)]


def _load_run(folder: Path, config: EvaluationConfig, seed: int) -> TrainedModel:
    model = load_trained_model(folder, device=torch_device(config.device))
    card = model.card
    if (card.row, card.seed) != (config.row, seed):
        raise UserError(f"{folder}: expected run {seed} of {config.row}, found run {card.seed} of {card.row}")
    return model


def score_settings(
    settings: Sequence[Setting],
    trained: Condition,
    models: Mapping[str, TrainedModel],
    takes: Sequence[Take],
    config: EvaluationConfig,
) -> FactorScores:
    """Returns the errors of all runs under each setting of a factor, on the same instants of the same takes."""
    views = {setting.condition.view for setting in settings}
    excerpts = cut_excerpts(takes, views, rate_hz=trained.rate_hz, per_action=EXCERPTS_PER_ACTION)
    metrics: dict[Condition, RowMetrics] = {}
    for condition, label in {setting.condition: setting.label for setting in settings}.items():
        clips = list(film_excerpts(excerpts, condition, trained_hz=trained.rate_hz))
        if trained.level is None:  # a model that takes no confidence
            clips = [replace(clip, confidence=None) for clip in clips]
        named = {f"at {label}, {name}": model for name, model in models.items()}
        metrics[condition] = score_models(named, clips, config, ()).metrics
    return FactorScores(
        frames=sum(excerpt.scored_frames for excerpt in excerpts),
        settings=tuple(_describe_scores(setting, trained, metrics[setting.condition]) for setting in settings),
    )


def _describe_scores(setting: Setting, trained: Condition, metrics: RowMetrics) -> SettingScores:
    return SettingScores(
        curve=setting.curve,
        setting=setting.label,
        trained=setting.condition == trained,
        mpjpe_mm=metrics.over_actions.mpjpe_mm,
        p_mpjpe_mm=metrics.over_actions.p_mpjpe_mm,
        n_mpjpe_mm=metrics.over_actions.n_mpjpe_mm,
        per_action={action: errors.mpjpe_mm for action, errors in metrics.per_action.items()},
    )
