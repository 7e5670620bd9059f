"""Stage training_cost: CPU seconds of training runs, measured in turns, so that runs of equal cost can be compared.

Prepares every row of rows.yaml and writes for each the seconds of a step (the median over the rounds), the steps of a
run, and their product. Starting, reading and validating are not in it. Times differ from machine to machine and from
hour to hour; the ratios of rows measured in turns do much less.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from experiments.comparisons.compare import Paths, prepare_row
from experiments.comparisons.rows import read_comparisons
from experiments.untrained import untrained_model
from pipeline.config.params import TrainingConfig
from pipeline.system.files import write_json
from pipeline.train.batches import Data, read_data
from pipeline.train.job import read_training_config
from pipeline.train.loop import set_up, train_epochs

ROUNDS, STEPS = 4, 4  # the first round warms up and is not counted


def training_cost(paths: Paths, *, out: Path) -> None:
    """Prepares all rows of rows.yaml, measures them in turns and writes the file `out`.

    Raises UserError if a parameter or a raw file is bad.
    """
    folders = {row: prepare_row(row, paths) for row in read_comparisons(paths.rows).rows}
    write_json(out, measure_costs({row: folder / "prepared" for row, folder in folders.items()}))
    for folder in folders.values():
        shutil.rmtree(folder)


def measure_costs(prepared: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Returns what a run costs for each row, given the folders of prepared data."""
    torch.set_num_threads(1)
    runs = {row: _read_run(folder) for row, folder in prepared.items()}
    step_s: dict[str, list[float]] = {row: [] for row in runs}
    steps: dict[str, int] = {}
    for number in range(ROUNDS):
        for row, (config, data) in runs.items():
            steps[row], seconds = _time_steps(config, data, number)
            step_s[row] += seconds if number > 0 else []
    return {
        row: {
            "cpu_s_per_step": round(median(step_s[row]), 4),
            "steps": steps[row],
            "windows": steps[row] * config.training.batch_windows,
            "cpu_s_per_run": round(median(step_s[row]) * steps[row], 1),
        }
        for row, (config, _) in runs.items()
    }


def _read_run(prepared: Path) -> tuple[TrainingConfig, Data]:
    config = read_training_config(prepared)
    return config, read_data(prepared, config, torch.device("cpu"))


def _time_steps(config: TrainingConfig, data: Data, seed: int) -> tuple[int, list[float]]:
    """Returns the steps of a run, and the CPU seconds of a few of its first with an untrained model."""
    model = untrained_model(config.model, config.hyperparameters, frames=config.frames, in_channels=config.in_channels)
    setup, state = set_up(model, data, config, seed=seed)
    seconds = []
    before = time.process_time()
    for moment in islice(train_epochs(setup, state), STEPS):
        if moment.record is not None:  # the epoch is over, and was validated
            break
        seconds.append(time.process_time() - before)
        epochs_per_step = moment.epochs_done / state.step
        before = time.process_time()
    return round(config.training.epochs / epochs_per_step), seconds
