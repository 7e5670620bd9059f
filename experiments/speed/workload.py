"""What a benchmark trains: made-up motion in any amount, a model with the optimizers of its recipe, and timed steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.speed import machine
from models import build
from pipeline.config.params import Params, Training, architecture_of, load_params, recipe_for
from pipeline.config.rows import Row
from pipeline.mocap.cameras import Take, film
from pipeline.poses.clips import Clip
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import FrameTable, Windows, cut_windows, epoch_windows, frame_table, gather_windows
from pipeline.train import losses
from pipeline.train.optimization import optimizers_of

RATE_HZ = 30.0
FRAMES_OF_TAKE = 1000
STANDING_M = (
    (0, 0, 0.95), (0.13, 0, 0.95), (0.13, 0, 0.5), (0.13, 0, 0.05), (-0.13, 0, 0.95), (-0.13, 0, 0.5),
    (-0.13, 0, 0.05), (0, 0, 1.18), (0, 0.02, 1.43), (0, 0.07, 1.53), (0, 0.07, 1.65), (-0.17, 0, 1.41),
    (-0.17, 0, 1.13), (-0.17, 0.05, 0.88), (0.17, 0, 1.41), (0.17, 0, 1.13), (0.17, 0.05, 0.88),
)  # fmt: skip
PHASES = ("data", "forward", "backward", "optimizer")
# Windows that go through PoseFormer together on a CPU; a larger batch is cut into parts of as many.
CPU_PART = 32


@dataclass(frozen=True)
class Settings:
    """Where and how all is measured."""

    params: Params
    params_path: Path
    device: torch.device
    precision: str  # float32, tf32 or bf16
    compiled: bool


@dataclass(frozen=True)
class Job:
    """A model in training. `forward` is the model, perhaps compiled; a batch goes through it in so many `parts`."""

    name: str
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizers: list[torch.optim.Optimizer]
    training: Training
    frames: int
    parts: int
    settings: Settings

    @property
    def every_frame(self) -> bool:
        """Whether the model predicts every frame of its window."""
        return self.model.predicts == "every_frame"


def settings_of(
    params_path: Path, device: torch.device, *, precision: str = "float32", compiled: bool = False
) -> Settings:
    """Settings with the parameters read."""
    return Settings(load_params(params_path), params_path, device, precision, compiled)


def job(name: str, settings: Settings, *, frames: int, batch_windows: int | None = None, literal: Any = None) -> Job:
    """The model called `name` in params.yaml with its recipe, which for PoseFormer is that of Human3.6M.

    `literal`, if given, is trained in place of it, in one part.
    """
    dataset, keypoints = ("h36m", "gt") if name == "poseformer" else ("cmu", "gt")
    where = str(settings.params_path)
    recipe = recipe_for(Row(dataset, keypoints, frames, name), settings.params, where=where)
    fields = {key: getattr(recipe, key) for key in Training.model_fields}
    training = Training(**{**fields, "batch_windows": batch_windows or recipe.batch_windows})
    torch.manual_seed(0)
    model = (literal or network(name, settings, frames=frames)).to(settings.device)
    parts = 1
    if name == "poseformer" and literal is None and settings.device.type == "cpu":
        parts = -(-training.batch_windows // CPU_PART)
    forward = torch.compile(model) if settings.compiled and literal is None else model
    return Job(name, model, forward, optimizers_of(model, training), training, frames, parts, settings)


def network(name: str, settings: Settings, *, frames: int) -> nn.Module:
    """The untrained model for Human3.6M's 17 joints without confidence."""
    architecture, hyperparameters = architecture_of(name, settings.params)
    return build(architecture, frames=frames, in_joints=17, out_joints=17, in_channels=2, **hyperparameters)


def step(
    job: Job,
    table: FrameTable,
    windows: Windows,
    *,
    gather: Callable[..., Any] = gather_windows,
    lap: Callable[[str], None] = lambda phase: None,
) -> None:
    """One training step on a batch; `lap` is called at the end of each of its `PHASES`, of some several times."""
    job.model.train()
    screen, pose_m, counted = cut_windows(
        table, windows, H36M_17, H36M_17, frames=job.frames, every_frame=job.every_frame, gather=gather
    )
    lap("data")
    for optimizer in job.optimizers:
        optimizer.zero_grad(set_to_none=True)
    in_parts = [values.tensor_split(job.parts) for values in (screen, pose_m, counted)]
    for part_screen, part_pose_m, part_counted in zip(*in_parts, strict=True):
        with _autocast(job.settings):
            predicted_m = job.forward(part_screen)
        loss_m = losses.mpjpe(predicted_m.float(), part_pose_m, frame_weights=part_counted)
        lap("forward")
        (loss_m * part_counted.sum() / counted.sum()).backward()
        lap("backward")
    torch.nn.utils.clip_grad_norm_(job.model.parameters(), job.training.clip_grad_norm)
    for optimizer in job.optimizers:
        optimizer.step()
    lap("optimizer")


def _autocast(settings: Settings) -> AbstractContextManager[object]:
    if settings.precision == "bf16":
        return torch.autocast(settings.device.type, dtype=torch.bfloat16)
    return nullcontext()


def phases_of(work: Callable[[Callable[[str], None]], object], device: torch.device) -> dict[str, float]:
    """Seconds of each phase of `work`, which is given what it calls at the end of each."""
    spent: dict[str, float] = {}
    last = machine.clock(device)

    def lap(phase: str) -> None:
        nonlocal last
        now = machine.clock(device)
        spent[phase] = spent.get(phase, 0.0) + now - last
        last = now

    work(lap)
    return spent


def endless_batches(job: Job, table: FrameTable) -> Iterator[Windows]:
    """Batches of the recipe's size, epoch after epoch. Raises ValueError if the table has not the windows of one."""
    generator = torch.Generator().manual_seed(0)
    size = job.training.batch_windows
    while True:
        windows = windows_of_epoch(job, table, generator)
        if len(windows) < size:
            raise ValueError(f"expected at least {size} windows, found {len(windows)}")
        for first in range(0, len(windows) - size + 1, size):
            yield windows[first : first + size]


def windows_of_epoch(job: Job, table: FrameTable, generator: torch.Generator, *, flips: bool = True) -> Windows:
    """All windows of the table, plain and (with `flips`) mirrored, in random order."""
    return epoch_windows(
        table,
        frames=job.frames,
        every_frame=job.every_frame,
        flips=flips,
        clip_weights=None,
        at_most=None,
        generator=generator,
    )


def take(number: int) -> Take:
    """A person who stands on the spot and moves every joint along a line, to and fro, 1000 frames long."""
    random = np.random.default_rng(number)
    rest_m = np.array(STANDING_M)
    times_s = np.arange(FRAMES_OF_TAKE)[:, None, None] / RATE_HZ
    phase, amplitude_m = random.uniform(0, 2 * np.pi, (17, 3)), random.uniform(0, 0.15, (17, 3))
    joints_world_m = rest_m + amplitude_m * np.sin(2 * np.pi * 0.8 * times_s + phase)
    return Take(f"take{number}", "made", "moving", "train", "0", RATE_HZ, joints_world_m)


def clips(frames: int, *, detected: bool = False) -> Iterator[Clip]:
    """At least so many frames of made-up motion, filmed as the embedded motion capture is, a take at a time."""
    made = number = 0
    while made < frames:
        for clip in film(take(number), rate_hz=RATE_HZ, detector_level=1.3 if detected else None)[0]:
            yield clip
            made += len(clip)
        number += 1


def large_table(frames: int, device: torch.device) -> FrameTable:
    """Exactly so many frames, in clips of 1000: those of a few takes, over and over."""
    few = frame_table(list(clips(16 * FRAMES_OF_TAKE)), root=0, device=device)
    place = torch.arange(frames, device=device) % len(few)
    first = torch.arange(0, frames, FRAMES_OF_TAKE, device=device)
    return FrameTable(
        screen=few.screen[place],
        pose_m=few.pose_m[place],
        scored=torch.ones(frames, dtype=torch.bool, device=device),
        clip_first=first,
        clip_last=(first + FRAMES_OF_TAKE - 1).clamp(max=frames - 1),
    )
