"""What an epoch of a dataset as large as Human3.6M takes: on a GPU, in each precision, compiled and not.

The keypoints and poses are random; their values cost the same. A few steps are measured, in turns, and multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict

from experiments.speed.machine import Machine, Record, describe_machine, fastest_s
from experiments.speed.networks import measure_evaluation, random_data, set_up_training
from pipeline.config.params import Params
from pipeline.system.device import torch_device
from pipeline.train.loop import STEPS_PER_READING, Setup, train_epochs

HUMAN36M_FRAMES = 1_559_752  # of its five training subjects, four cameras, at 50 Hz
MODELS = ("rayformer", "rayformer_large", "poseformer")
WAYS = (("float32", "none"), ("tf32", "none"), ("bf16", "none"), ("bf16", "default"))  # precision, compile


class Epochs(TypedDict):
    """What an epoch and an evaluation take, on which machine."""

    machine: Machine
    epochs: list[Record]
    evaluation: list[Record]


def measure_epochs(
    params: Params, *, models: Sequence[str] = MODELS, frames: int = 81, recorded: int = HUMAN36M_FRAMES, turns: int
) -> Epochs:
    """Returns what an epoch of so many recorded frames takes each model in each of WAYS, with Human3.6M's recipe.

    And how many frames a second each predicts, plain and mirrored, in float32.
    """
    device = torch_device(params.device)
    data, steps = random_data(device, frames=recorded), STEPS_PER_READING[device.type]
    cases: dict[str, Callable[[], object]] = {}
    setups: dict[str, tuple[str, str, Setup]] = {}
    for precision, compiled in WAYS:
        how = f"{precision}, compiled" if compiled != "none" else precision
        chosen = params.model_copy(update={"precision": precision, "compile": compiled})
        for name in models:
            setup, state = set_up_training(name, chosen, data, frames=frames, dataset="h36m")
            cases[f"{name}, {how}"] = partial(next, train_epochs(setup, state))
            setups[f"{name}, {how}"] = name, how, setup
    fastest = fastest_s(cases, turns=turns)
    return {
        "machine": describe_machine(device),
        "epochs": [_epoch_record(*setup, recorded, fastest[case] / steps) for case, setup in setups.items()],
        "evaluation": measure_evaluation(models, params, frames=frames, turns=turns),
    }


def _epoch_record(name: str, how: str, setup: Setup, recorded: int, step_s: float) -> Record:
    """Returns a line of the table. Each window comes plain and mirrored; PoseFormer has one around every frame."""
    config = setup.config
    windows = 2 * (recorded // config.frames if setup.every_frame else recorded)
    steps = -(-windows // config.training.batch_windows)
    return {
        "model": name,
        "frames": config.frames,
        "precision": how,
        "batch_windows": config.training.batch_windows,
        "step_ms": 1000 * step_s,
        "steps_per_epoch": steps,
        "epoch_minutes": steps * step_s / 60,
        "predicted_frames_per_s": 2 * recorded / (steps * step_s),
    }
