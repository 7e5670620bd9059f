"""What training and evaluating the models cost: their share of the machine's peak, and ratios to the published way.

Models are trained with the optimizers of their recipes, on random keypoints and poses, whose values cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.speed.literal_poseformer import make_literal, predict_clip
from experiments.speed.machine import count_operations, fastest_s, matrix_product
from experiments.untrained import untrained_model
from models.poseformer import PoseFormer
from pipeline.config.params import Params, Training, architecture_of, recipe_for
from pipeline.config.rows import Row
from pipeline.poses.predict import TrainedModel
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import (
    FrameTable,
    Windows,
    epoch_windows,
    gather_windows,
    keep_predicted_frames,
    mirror_windows,
)
from pipeline.train import losses
from pipeline.train.optimization import optimizers_of, take_step

LITERAL = "poseformer, literal"
TABLE_FRAMES, CLIP_FRAMES = 119_833, 1000  # the embedded motion capture has so many frames to train on
LIFTED_FRAMES = {27: 300, 81: 120}  # of the clips that are lifted whole; published ones have 1000 to 6000
IN_CACHE = 32  # PoseFormer's windows whose tensors stay in a processor's cache


@dataclass(frozen=True)
class Settings:
    """Where and how everything is measured."""

    params: Params
    device: torch.device
    precision: str = "float32"  # float32, tf32 or bf16
    compiled: bool = False


@dataclass(frozen=True)
class Job:
    """A model in training. `forward` is its network, perhaps compiled; a batch goes through it in so many `parts`."""

    model: TrainedModel
    forward: Callable[[Tensor], Tensor]
    optimizers: list[torch.optim.Optimizer]
    training: Training
    parts: int
    settings: Settings


def new_model(name: str, settings: Settings, *, frames: int) -> TrainedModel:
    """Returns the untrained model for keypoints without confidence, from the same random numbers, on the device."""
    if name == LITERAL:
        poseformer = new_model("poseformer", settings, frames=frames)
        assert isinstance(poseformer.network, PoseFormer)
        return TrainedModel(make_literal(poseformer.network), poseformer.card)
    torch.manual_seed(0)
    model = untrained_model(*architecture_of(name, settings.params), frames=frames, in_channels=2)
    model.network.to(settings.device)
    return model


def new_job(name: str, settings: Settings, *, frames: int, batch_windows: int | None = None) -> Job:
    """Returns a model with its recipe, for PoseFormer that of Human3.6M; the batch may be another.

    On a CPU our PoseFormer takes a batch in parts that stay in the cache, the literal one takes it whole.
    """
    known = "poseformer" if name == LITERAL else name
    row = Row("h36m" if known == "poseformer" else "cmu", "gt", frames, known)
    recipe = recipe_for(row, settings.params, where="params.yaml")
    fields = {key: getattr(recipe, key) for key in Training.model_fields}
    training = Training(**{**fields, "batch_windows": batch_windows or recipe.batch_windows})
    model = new_model(name, settings, frames=frames)
    in_parts = name == "poseformer" and settings.device.type == "cpu"
    parts = -(-training.batch_windows // IN_CACHE) if in_parts else 1
    forward = torch.compile(model.network) if settings.compiled and name != LITERAL else model.network
    return Job(model, forward, optimizers_of(model.network, training), training, parts, settings)


def take_training_step(job: Job, table: FrameTable, batches: Iterator[Windows]) -> None:
    """Takes one training step on the next batch of windows."""
    job.model.network.train()
    windows, every_frame = next(batches), job.model.predicts_every_frame
    screen, pose_m, counted = gather_windows(table, windows, frames=job.model.card.frames)
    pose_m, counted = (keep_predicted_frames(values, every_frame=every_frame) for values in (pose_m, counted))
    screen, pose_m = (mirror_windows(values, windows.flipped, H36M_17) for values in (screen, pose_m))
    parts = list(zip(*(values.tensor_split(job.parts) for values in (screen, pose_m, counted)), strict=True))
    all_counted = counted.sum().float()
    for part in parts[:-1]:
        _loss_m(job, part, all_counted).backward()
    loss_m = _loss_m(job, parts[-1], all_counted)
    take_step(job.model.network, job.optimizers, loss_m, lr_factor=1.0, clip_grad_norm=job.training.clip_grad_norm)


def _loss_m(job: Job, part: tuple[Tensor, ...], all_counted: Tensor) -> Tensor:
    screen, pose_m, counted = part
    bf16 = job.settings.precision == "bf16"
    with torch.autocast(job.settings.device.type, dtype=torch.bfloat16) if bf16 else nullcontext():
        predicted_m = job.forward(screen)
    return losses.mpjpe(predicted_m.float(), pose_m, frame_weights=counted, weights_of_all=all_counted)


def endless_batches(job: Job, table: FrameTable) -> Iterator[Windows]:
    """Returns batches of the recipe's size, plain and mirrored windows in random order, epoch after epoch."""
    generator, size = torch.Generator().manual_seed(0), job.training.batch_windows
    while True:
        windows = epoch_windows(
            table,
            frames=job.model.card.frames,
            every_frame=job.model.predicts_every_frame,
            flips=True,
            clip_weights=None,
            at_most=None,
            generator=generator,
        )
        for first in range(0, len(windows) - size + 1, size):
            yield windows[first : first + size]


def random_table(frames: int, device: torch.device) -> FrameTable:
    """Returns so many frames of random keypoints in the image and poses of about a person's size, in clips of 1000."""
    generator = torch.Generator().manual_seed(0)
    first = torch.arange(0, frames, CLIP_FRAMES, device=device)
    return FrameTable(
        screen=(torch.rand(frames, 17, 2, generator=generator) - 0.5).to(device),
        pose_m=(torch.randn(frames, 17, 3, generator=generator) / 3).to(device),
        scored=torch.ones(frames, dtype=torch.bool, device=device),
        clip_first=first,
        clip_last=(first + CLIP_FRAMES - 1).clamp(max=frames - 1),
    )


def measure_steps(jobs: Mapping[str, Job], *, turns: int) -> list[dict[str, Any]]:
    """Returns the speed of training steps, and the share of the peak that their operations make up.

    The steps are measured in turns with a product of large matrices, which is the peak. `floor_ms` is what the
    operations of the forward and backward pass would take at the peak.
    """
    settings = next(iter(jobs.values())).settings
    table = random_table(TABLE_FRAMES, settings.device)
    product, product_operations = matrix_product(settings.device, settings.precision)
    cases: dict[str, Callable[[], object]] = {
        name: partial(take_training_step, job, table, endless_batches(job, table)) for name, job in jobs.items()
    }
    fastest = fastest_s({**cases, "peak": product}, turns=turns)
    peak = product_operations / fastest["peak"]
    return [_step_record(name, job, fastest[name], peak) for name, job in jobs.items()]


def _step_record(name: str, job: Job, step_s: float, peak: float) -> dict[str, Any]:
    passes, optimizers = count_step_operations(name, job)
    windows, frames = job.training.batch_windows, job.model.card.frames
    return {
        "model": name,
        "frames": frames,
        "batch_windows": windows,
        "parts": job.parts,
        "step_ms": 1000 * step_s,
        "floor_ms": 1000 * passes / peak,
        "predicted_frames_per_s": windows * (frames if job.model.predicts_every_frame else 1) / step_s,
        "percent_of_peak": 100 * passes / step_s / peak,
        "percent_of_peak_with_optimizer": 100 * (passes + optimizers) / step_s / peak,
    }


def count_step_operations(name: str, job: Job) -> tuple[int, int]:
    """Returns the operations of a step's forward and backward pass, and of its optimizers, in products of matrices."""
    frames = job.model.card.frames
    network = new_model(name, job.settings, frames=frames).network.to("meta")
    example = torch.zeros(job.training.batch_windows, frames, 17, 2, device="meta")
    passes = count_operations(lambda: network(example).sum().backward())
    for weight in job.model.network.parameters():
        weight.grad = torch.zeros_like(weight)
    return passes, count_operations(lambda: [optimizer.step() for optimizer in job.optimizers])


def measure_evaluation(names: Sequence[str], settings: Settings, *, frames: int, turns: int) -> list[dict[str, Any]]:
    """Returns how fast each model predicts every frame of a clip, plain and mirrored.

    The literal PoseFormer is given the windows of the clip all at once, as published, one by one, and 32 at a time.
    """
    clip = random_table(LIFTED_FRAMES[frames], settings.device)
    ways = {"whole clip": len(clip), "window by window": 1, f"{IN_CACHE} at a time": IN_CACHE}
    models = {name: new_model(name, settings, frames=frames) for name in (*names, LITERAL)}
    cases: dict[str, Callable[[], Tensor]] = {
        f"{LITERAL}, {way}": partial(predict_literally, models[LITERAL], clip, batch_windows=batch)
        for way, batch in ways.items()
    }
    for name in names:
        cases[name] = partial(
            models[name].predict, clip, flip_averaging=True, stride=settings.params.datasets.cmu.window_stride
        )
    fastest = fastest_s(cases, turns=turns)
    return [
        {"model": name, "frames": frames, "clip_frames": len(clip), "predicted_frames_per_s": len(clip) / seconds}
        for name, seconds in fastest.items()
    ]


def predict_literally(model: TrainedModel, clip: FrameTable, *, batch_windows: int) -> Tensor:
    """Returns the poses of all frames as the published loop predicts them."""
    frames, mirrored = model.card.frames, list(H36M_17.mirrored)
    return predict_clip(model.network, clip.screen, frames=frames, mirrored=mirrored, batch_windows=batch_windows)
