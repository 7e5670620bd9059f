"""How the cost of training the default model grows: with frames, width and batch, and with runs side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from experiments.speed.machine import Record, describe_machine, fastest_s
from experiments.speed.networks import random_data, set_up_training, steps_of
from pipeline.config.params import Params
from pipeline.train.batches import Data

MODEL = "rayformer"
DEFAULTS = {"frames": 27, "width": 128, "batch_windows": 192}
AXES = {"frames": (9, 27, 81, 243), "width": (64, 128, 256), "batch_windows": (48, 96, 192, 384)}
STEPS_BESIDE = 40  # of each of the runs side by side


def measure_scaling(params: Params, *, turns: int) -> dict[str, Any]:
    """Returns the milliseconds of a step along each of AXES, and the frames per second of 1 to all cores' runs.

    The values of an axis are measured in turns, on the CPU. `ratio` is to the step at the default value.
    """
    torch.set_num_threads(1)
    params = params.model_copy(update={"device": "cpu"})
    machine = describe_machine(torch.device("cpu"))
    axes = {axis: measure_axis(axis, params, turns=turns) for axis in AXES}
    runs = list(measure_side_by_side(params, cores=machine["cores"]))
    return {"machine": machine, "precision": params.precision, **axes, "runs_side_by_side": runs}


def measure_axis(axis: str, params: Params, *, turns: int) -> list[Record]:
    """Returns what a step costs at each value of an axis, the others being as in DEFAULTS."""
    data = random_data(torch.device("cpu"))
    fastest = fastest_s({value: _steps(params, data, DEFAULTS | {axis: value}) for value in AXES[axis]}, turns=turns)
    default_s = fastest[DEFAULTS[axis]]
    return [{axis: value, "step_ms": 1000 * step_s, "ratio": step_s / default_s} for value, step_s in fastest.items()]


def _steps(params: Params, data: Data, chosen: Mapping[str, int]) -> Callable[[], object]:
    """Returns what takes a step of the model with these values of AXES."""
    params = params.model_copy(update={"models": params.models | {MODEL: {"width": chosen["width"]}}})
    frames, batch_windows = chosen["frames"], chosen["batch_windows"]
    return steps_of(set_up_training(MODEL, params, data, frames=frames, batch_windows=batch_windows))


def measure_side_by_side(params: Params, *, cores: int) -> Iterator[Record]:
    """Yields, for 1 to all cores, the frames per second that so many runs of one thread predict together."""
    context = get_context("spawn")
    alone_frames_per_s = None
    for runs in sorted({1, 2, *(2**power for power in range(2, 10) if 2**power < cores), cores}):
        ready, spent_s = context.Barrier(runs), context.SimpleQueue()
        children = [context.Process(target=_train_beside, args=(params, ready, spent_s)) for _ in range(runs)]
        for child in children:
            child.start()
        frames = STEPS_BESIDE * DEFAULTS["batch_windows"] * DEFAULTS["frames"]
        together = sum(frames / spent_s.get() for _ in children)
        for child in children:
            child.join()
        alone_frames_per_s = alone_frames_per_s or together
        yield {"runs": runs, "frames_per_s": together, "ratio": together / alone_frames_per_s}


def _train_beside(params: Params, ready: Barrier, spent_s: SimpleQueue[float]) -> None:
    """Takes STEPS_BESIDE steps when all are ready, and says the seconds that they took."""
    torch.set_num_threads(1)
    take_step = _steps(params, random_data(torch.device("cpu")), DEFAULTS)
    take_step()
    ready.wait()
    start = time.perf_counter()
    for _ in range(STEPS_BESIDE):
        take_step()
    spent_s.put(time.perf_counter() - start)
