"""Stage training_cost: CPU seconds of training runs, measured in turns, so that runs of equal cost can be compared.

Prepares every row of rows.yaml and writes for each the seconds of a step (the median over the rounds), the steps of a
run, and their product. Starting, reading and validating are not in it. Times differ from machine to machine and from
hour to hour; the ratios of rows measured in turns do much less.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from experiments.comparisons.compare import Paths, prepare_row
from experiments.comparisons.rows import read_comparisons
from models import build
from pipeline.config.params import TrainingConfig, read_yaml, validated
from pipeline.system.files import write_json
from pipeline.train import losses
from pipeline.train.batches import Data, batches_of_epoch, read_data
from pipeline.train.optimization import optimizers_of, take_step

ROUNDS, STEPS = 4, 4  # the first round warms up and is not counted


def training_cost(paths: Paths, workers: Executor, *, out: Path) -> None:
    """Prepares all rows of rows.yaml with the workers, measures one row after the other and writes the file `out`.

    Raises UserError if a parameter or a raw file is bad.
    """
    rows = list(read_comparisons(paths.rows).rows)
    folders = dict(zip(rows, workers.map(partial(prepare_row, paths=paths), rows), strict=True))
    write_json(out, measure_costs({row: folder / "prepared" for row, folder in folders.items()}))
    for folder in folders.values():
        shutil.rmtree(folder)


def measure_costs(prepared: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Returns what a run costs for each row, given the folders of prepared data."""
    torch.set_num_threads(1)
    known: dict[tuple[object, ...], Data] = {}  # rows that learn from the same data share them
    runs = {row: _read_run(folder, known) for row, folder in prepared.items()}
    step_s: dict[str, list[float]] = {row: [] for row in runs}
    steps: dict[str, int] = {}
    for number in range(ROUNDS):
        for row, (config, data) in runs.items():
            steps_per_epoch, seconds = _time_steps(config, data, number)
            steps[row] = steps_per_epoch * config.training.epochs
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


def _read_run(folder: Path, known: dict[tuple[object, ...], Data]) -> tuple[TrainingConfig, Data]:
    path = folder / "training.json"
    config = validated(TrainingConfig, read_yaml(path), where=str(path))
    refilmed = config.refilming is not None and config.refilming.active
    key = (config.in_channels, config.training.action_balance, refilmed)  # what the data of a run depend on
    if key not in known:
        known[key] = read_data(folder, config, torch.device("cpu"), mapped_in=folder)
    return config, known[key]


def _time_steps(config: TrainingConfig, data: Data, number: int) -> tuple[int, list[float]]:
    """Returns the steps of an epoch, and the CPU seconds of a few of them with an untrained model."""
    model = build(
        config.model,
        frames=config.frames,
        in_joints=len(data.in_skeleton.joints),
        out_joints=len(data.out_skeleton.joints),
        in_channels=config.in_channels,
        **config.hyperparameters,
    ).train()
    optimizers = optimizers_of(model, config.training)
    generator = torch.Generator().manual_seed(number)
    every_frame = model.predicts == "every_frame"
    steps, batches = batches_of_epoch(data, config, every_frame=every_frame, seed=0, epoch=number, generator=generator)
    seconds = []
    before = time.process_time()
    for batch in islice(batches(0), STEPS):
        (part,) = batch.parts
        loss_m = losses.mpjpe(model(part.screen), part.pose_m, frame_weights=part.counted)
        take_step(model, optimizers, loss_m, lr_factor=0.01, clip_grad_norm=config.training.clip_grad_norm)
        seconds.append(time.process_time() - before)
        before = time.process_time()
    return steps, seconds
