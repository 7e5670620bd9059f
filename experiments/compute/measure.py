"""Stages step_cost, choose_rate and curve: a row from raw motion capture to its error after a number of CPU minutes.

Budgets are counted in training steps, from what a step of each row costs when the rows are measured in turns: so runs
come out the same on a busy machine. Starting, reading and validating are not counted. Prepared data and checkpoints lie
in the work folder, and are removed when they are scored.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.comparisons.compare import Paths
from experiments.comparisons.cost import measure_costs
from experiments.compute.settings import (
    COSTLIEST_KEYPOINTS,
    Curves,
    StepCost,
    name_row,
    read_curves,
    recipe_for_budget,
    write_row_params,
)
from experiments.untrained import untrained_model
from pipeline.config.rows import parse_row
from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.poses.checkpoint import read_card
from pipeline.prepare_data.stage import prepare_data
from pipeline.system.errors import UserError
from pipeline.system.files import new_file, write_json
from pipeline.train.job import read_training_config
from pipeline.train.runs import train_row


class BudgetRuns(NamedTuple):
    """The runs of a row that each use up a budget in CPU minutes: the factor of the recipe's rates, and the seeds."""

    minutes: int
    factor: float
    seeds: Sequence[int]


def step_cost(paths: Paths, *, out: Path) -> None:
    """Prepares a row of each network, measures a training step of each in turns and writes the file `out`.

    The row is the one with the costliest keypoints, whose steps all rows of the network count for a budget. Raises
    UserError if a parameter or a raw file is bad.
    """
    curves = read_curves(paths.rows)
    rows = {network: name_row(COSTLIEST_KEYPOINTS, network) for network in curves.networks}
    folders = {network: _prepare(row, curves, paths, paths.work / "compute" / row) for network, row in rows.items()}
    costs = measure_costs(folders)
    described = {network: _describe(folder, costs[network]["cpu_s_per_step"]) for network, folder in folders.items()}
    write_json(out, described)
    for row in rows.values():
        shutil.rmtree(paths.work / "compute" / row)


def choose_rate(row: str, cost: StepCost, paths: Paths, *, out: Path) -> None:
    """Trains a run of a row with each of the rates and writes their validation errors, and the best factor, to `out`.

    The test split stays closed. Raises UserError if a parameter or a raw file is bad, or nothing is held out.
    """
    curves = read_curves(paths.rows)
    choice = curves.choose_rate
    folders, errors_mm = {}, {}
    for factor in choice.factors:
        folders[factor] = _train(row, BudgetRuns(choice.minutes, factor, [choice.seed]), curves, cost, paths)
        error_mm = read_card(folders[factor] / "checkpoints" / f"run{choice.seed}").validation_mpjpe_mm
        if error_mm is None:
            raise UserError(f"{row}: expected validation takes to choose a rate by, found none")
        errors_mm[factor] = error_mm
    best = min(errors_mm, key=errors_mm.__getitem__)
    write_json(out, {"factor": best, "validation_mpjpe_mm": {f"{factor:g}": mm for factor, mm in errors_mm.items()}})
    for factor in errors_mm.keys() - {best}:  # the best run is a run of its budget too, and waits for it there
        shutil.rmtree(folders[factor])


def curve(row: str, minutes: int, cost: StepCost, paths: Paths, *, factor: float, out: Path) -> None:
    """Trains a row's runs of a budget side by side, scores them on the test split and writes their metrics to `out`.

    Raises UserError if a parameter or a raw file is bad.
    """
    curves = read_curves(paths.rows)
    keypoints = parse_row(row).keypoints
    if keypoints not in curves.budgets:
        raise UserError(f"{paths.rows}: budgets: expected one of {', '.join(curves.budgets)}, found '{keypoints}'")
    budgets = curves.budgets[keypoints]
    if minutes not in budgets:
        known = ", ".join(map(str, budgets))
        raise UserError(f"{paths.rows}: budgets.{keypoints}: expected one of {known} minutes, found {minutes}")
    seeds = budgets[minutes]
    folder = _train(row, BudgetRuns(minutes, factor, seeds), curves, cost, paths)
    prepared, checkpoints, reports = (folder / name for name in ("prepared", "checkpoints", "reports"))
    evaluate_5runs(prepared, checkpoints, seeds=seeds, reports=reports, work_folder=paths.work)
    with new_file(out) as unfinished:
        shutil.copy(reports / "metrics" / f"{row}.json", unfinished)
    shutil.rmtree(folder)


def _train(row: str, runs: BudgetRuns, curves: Curves, cost: StepCost, paths: Paths) -> Path:
    """Trains the runs of a budget side by side, and returns the folder of their prepared data and checkpoints."""
    minutes, factor, seeds = runs
    folder = paths.work / "compute" / f"{row}-{minutes}-{factor:g}"
    write_row_params(row, curves, folder / "row.json", extends=paths.params)
    recipe = recipe_for_budget(row, curves, cost, minutes=minutes, factor=factor, params_path=folder / "row.json")
    prepared = _prepare(row, curves, paths, folder, recipe)
    train_row(prepared, folder / "checkpoints", seeds=seeds, work_folder=paths.work)
    return folder


def _prepare(row: str, curves: Curves, paths: Paths, folder: Path, recipe: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_row_params(row, curves, folder / "params.yaml", extends=paths.params, recipe=recipe)
    prepare_data(row, folder / "prepared", params_path=folder / "params.yaml", raw_folder=paths.raw)
    return folder / "prepared"


def _describe(prepared: Path, cpu_s_per_step: float) -> dict[str, float]:
    """Returns the fields of a StepCost. A multiplication is half of what torch counts as two operations."""
    config = read_training_config(prepared)
    model = untrained_model(config.model, config.hyperparameters, frames=config.frames, in_channels=config.in_channels)
    in_skeleton, _ = model.card.skeletons
    window = torch.zeros(1, config.frames, len(in_skeleton.joints), config.in_channels)
    model.network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.network(window)
    return {
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "multiplications_per_window": counter.get_total_flops() // 2,
        "cpu_s_per_step": cpu_s_per_step,
        "windows_per_step": config.training.batch_windows,
    }
