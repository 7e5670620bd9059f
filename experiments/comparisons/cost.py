"""Stage training_cost: CPU seconds of training runs, measured in turns, so that runs of equal cost can be compared.

Reads <prepared>/<row>/ and writes for each row the seconds of a step (the median over the rounds), the steps of a run,
and their product. Starting, reading and validating are not in it. Times differ from machine to machine and from hour to
hour; the ratios of rows measured in turns do much less.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from models import build
from pipeline.config.params import TrainingConfig, read_yaml, validated
from pipeline.system.files import write_json
from pipeline.train import losses
from pipeline.train.batches import Data, batches_of_epoch, read_data
from pipeline.train.optimization import optimizers_of, take_step

ROUNDS, STEPS = 4, 4  # the first round warms up and is not counted


def training_cost(rows: Sequence[str], *, prepared: Path, out: Path) -> None:
    """Measure the rows, each a folder below `prepared`, and write the file `out`.

    Raises UserError if a row is not prepared or damaged.
    """
    known: dict[tuple[object, ...], Data] = {}  # rows that learn from the same data share them
    runs = {row: _run_of(prepared / row, known) for row in rows}
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    steps: dict[str, int] = {}
    for number in range(ROUNDS):
        for row, (config, data) in runs.items():
            steps_of_epoch, seconds_of_steps = _steps(config, data, number)
            steps[row] = steps_of_epoch * config.training.epochs
            if number > 0:
                seconds[row] += seconds_of_steps
    write_json(
        out,
        {
            row: {
                "cpu_s_per_step": round(median(seconds[row]), 4),
                "steps": steps[row],
                "windows": steps[row] * runs[row][0].training.batch_windows,
                "cpu_s_per_run": round(median(seconds[row]) * steps[row], 1),
            }
            for row in rows
        },
    )


def _shared(config: TrainingConfig) -> tuple[object, ...]:
    """What the data of a run depend on, of one dataset."""
    refilmed = config.refilming is not None and config.refilming.active
    return config.in_channels, config.training.action_balance, refilmed


def _run_of(folder: Path, known: dict[tuple[object, ...], Data]) -> tuple[TrainingConfig, Data]:
    path = folder / "training.json"
    config = validated(TrainingConfig, read_yaml(path), where=str(path))
    if _shared(config) not in known:
        known[_shared(config)] = read_data(folder, config, torch.device("cpu"), mapped_in=folder)
    return config, known[_shared(config)]


def _steps(config: TrainingConfig, data: Data, number: int) -> tuple[int, list[float]]:
    """Steps of an epoch, and the CPU seconds of a few of them with an untrained model."""
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
