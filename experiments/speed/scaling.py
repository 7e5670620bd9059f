"""How the cost of training the default model grows: with frames, width and batch, and with runs side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypedDict

import torch

from experiments.speed.machine import Machine, Record, describe_machine, fastest_s
from experiments.speed.networks import random_data, set_up_training
from pipeline.config.params import Params, load_params
from pipeline.train.loop import train_epochs

MODEL = "rayformer"
DEFAULTS = {"frames": 27, "width": 128, "batch_windows": 192}
AXES = {"frames": (9, 27, 81, 243), "width": (64, 128, 256), "batch_windows": (48, 96, 192, 384)}
STEPS_BESIDE = 40  # of each of the runs side by side


class Scaling(TypedDict):
    """How the cost of a step grows along each axis, and what runs do side by side, on which machine."""

    machine: Machine
    axes: dict[str, list[Record]]
    side_by_side: list[Record]


def measure_scaling(params: Params, *, turns: int) -> Scaling:
    """Returns the milliseconds of a step along each of AXES, and the frames per second of 1 to all cores' runs.

    The values of an axis are measured in turns. `ratio` is to the step at the default value.
    """
    torch.set_num_threads(1)
    machine = describe_machine(torch.device("cpu"))
    axes = {axis: measure_axis(axis, params, turns=turns) for axis in AXES}
    return {"machine": machine, "axes": axes, "side_by_side": list(measure_side_by_side(machine["cores"]))}


def describe_defaults() -> str:
    """Returns DEFAULTS in words."""
    return ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in DEFAULTS.items())


def measure_axis(axis: str, params: Params, *, turns: int) -> list[Record]:
    """Returns what a step costs at each value of an axis, the others being as in DEFAULTS."""
    data = random_data(torch.device("cpu"))
    cases: dict[str, Callable[[], object]] = {}
    for value in AXES[axis]:
        chosen = DEFAULTS | {axis: value}
        models = params.models | {MODEL: {"width": chosen["width"]}}
        training = set_up_training(
            MODEL,
            params.model_copy(update={"models": models}),
            data,
            frames=chosen["frames"],
            batch_windows=chosen["batch_windows"],
        )
        cases[str(value)] = partial(next, train_epochs(*training))
    fastest = fastest_s(cases, turns=turns)
    default_s = fastest[str(DEFAULTS[axis])]
    return [
        {axis: value, "step_ms": 1000 * fastest[str(value)], "ratio": fastest[str(value)] / default_s}
        for value in AXES[axis]
    ]


def measure_side_by_side(cores: int) -> Iterator[Record]:
    """Yields, for 1 to all cores, the frames per second that so many runs of one thread predict together."""
    context = get_context("spawn")
    alone_frames_per_s = None
    for runs in sorted({1, 2, *(2**power for power in range(2, 10) if 2**power < cores), cores}):
        ends = [context.Pipe() for _ in range(runs)]
        children = [context.Process(target=_train_beside, args=(end,)) for _, end in ends]
        for child in children:
            child.start()
        for end, _ in ends:
            end.recv()  # it is ready
        for end, _ in ends:
            end.send("start")
        seconds = [end.recv() for end, _ in ends]
        for child in children:
            child.join()
        frames = STEPS_BESIDE * DEFAULTS["batch_windows"] * DEFAULTS["frames"]
        together = sum(frames / spent for spent in seconds)
        alone_frames_per_s = alone_frames_per_s or together
        yield {"runs": runs, "frames_per_s": together, "ratio": together / alone_frames_per_s}


def _train_beside(parent: Connection) -> None:
    """Takes STEPS_BESIDE steps when the parent says so, and sends it the seconds that they took."""
    torch.set_num_threads(1)
    params = load_params(Path("params.yaml")).model_copy(update={"device": "cpu"})
    steps = train_epochs(
        *set_up_training(
            MODEL,
            params,
            random_data(torch.device("cpu")),
            frames=DEFAULTS["frames"],
            batch_windows=DEFAULTS["batch_windows"],
        )
    )
    next(steps)
    parent.send("ready")
    parent.recv()
    start = time.perf_counter()
    for _ in range(STEPS_BESIDE):
        next(steps)
    parent.send(time.perf_counter() - start)
