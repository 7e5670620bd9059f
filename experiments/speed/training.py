"""What a training step costs: its phases, its share of the machine's peak, and its ratio to the published loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from experiments.speed import machine
from experiments.speed.literal_poseformer import LiteralPoseFormer, predict_clip
from experiments.speed.workload import (
    PHASES,
    Job,
    Settings,
    clips,
    endless_batches,
    job,
    large_table,
    network,
    phases_of,
    step,
)
from pipeline.mocap.augmentation import refilm, room_of
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import FrameTable, frame_table, gather_windows, predict_frames

STEPS = 12
EMBEDDED_FRAMES = 119_833  # to train on, of the embedded motion capture
PUBLISHED_BATCH = 512
CLIP_FRAMES = {27: 300, 81: 120}  # of the clips that are lifted whole; published ones have 1000 to 6000


def training_step(name: str, settings: Settings, *, frames: int, bandwidth: float) -> dict[str, Any]:
    """Speed, share of the peak, floor and phases of a step, at the recipe's batch (PoseFormer on a CPU: 32).

    The step takes the time of its fastest run; the peak is measured in turns with it. By processor time a program that
    shares the machine has the peak and the step that it would have alone. `floor_ms` is the larger of operations over
    peak and of bytes over bandwidth; bytes are what the forward pass keeps, written and read once, and ten passes over
    the weights.
    """
    device = settings.device
    batch = 32 if name == "poseformer" and device.type == "cpu" else None
    turns = 3 if name == "poseformer" else STEPS
    own = job(name, settings, frames=frames, batch_windows=batch)
    table = large_table(EMBEDDED_FRAMES, device)
    batches = endless_batches(own, table)
    windows = own.training.batch_windows
    poses = windows * (frames if own.every_frame else 1)
    factors = machine.matrices(device, settings.precision)
    cases = {"step": lambda: step(own, table, next(batches)), "peak": lambda: factors[0] @ factors[1]}
    taken = machine.in_turns(cases, device, turns=turns)
    peak, best = 2 * len(factors[0]) ** 3 / taken["peak"].best_s, taken["step"].best_s
    of_peak = 2 * len(factors[0]) ** 3 / min(taken["peak"].processor_s) * min(taken["step"].processor_s)
    laps = [phases_of(lambda lap: step(own, table, next(batches), lap=lap), device) for _ in range(turns)]
    model, optimizer = operations_of_step(name, settings, own)
    example = torch.zeros(windows, frames, 17, 2, device="meta")
    weights = sum(weight.numel() for weight in own.model.parameters())
    kept = machine.saved_bytes(network(name, settings, frames=frames).to("meta"), example)
    moved = 2 * kept + 10 * 4 * weights
    phases = {phase: 1000 * min(lap[phase] for lap in laps) for phase in PHASES}
    return {
        "model": name,
        "frames": frames,
        "batch_windows": windows,
        "weights": weights,
        "step_ms": 1000 * best,
        "windows_per_s": windows / best,
        "output_frames_per_s": poses / best,
        "phases_ms": phases,
        "data_percent": 100 * phases["data"] / sum(phases.values()),
        "refilming_ms": {kind: _refilming_ms(own, kind) for kind in ("gt", "det")} if own.every_frame else None,
        "gflop_forward_backward": model / 1e9,
        "gflop_optimizer": optimizer / 1e9,
        "peak_gflop_per_s": peak / 1e9,
        "percent_of_peak": 100 * model / best / peak,
        "percent_of_peak_with_optimizer": 100 * (model + optimizer) / best / peak,
        "by_processor_time": 100 * model / of_peak,
        "by_processor_time_with_optimizer": 100 * (model + optimizer) / of_peak,
        "floor_ms": 1000 * max(model / peak, moved / bandwidth),
        "floor_is": "operations" if model / peak > moved / bandwidth else "bytes",
        "kept_mb": kept / 1e6,
    }


def operations_of_step(name: str, settings: Settings, own: Job) -> tuple[int, int]:
    """Operations of a step's forward and backward pass, and of its optimizers, in products of matrices."""
    meta = network(name, settings, frames=own.frames).to("meta")
    example = torch.zeros(own.training.batch_windows, own.frames, 17, 2, device="meta")
    passes = machine.operations(lambda: meta(example).sum().backward())
    for weight in own.model.parameters():
        weight.grad = torch.zeros_like(weight)
    return passes, machine.operations(lambda: [optimizer.step() for optimizer in own.optimizers])


def _refilming_ms(own: Job, keypoints: str) -> float:
    """Filming a batch anew as the recipe says, beyond cutting it from the table."""
    device = own.settings.device
    filmed = list(clips(4 * 1000, detected=keypoints == "det"))
    table, room = frame_table(filmed, root=0, device=device), room_of(filmed, device=device)
    refilming = own.settings.params.datasets.cmu.refilming
    batches = endless_batches(own, table)
    anew: Callable[..., Any] = partial(refilm, room, refilming=refilming, seed=0)
    taken = machine.in_turns(
        {
            "anew": lambda: anew(table, next(batches), frames=own.frames),
            "plain": lambda: gather_windows(table, next(batches), frames=own.frames),
        },
        device,
        turns=STEPS,
    )
    return 1000 * (taken["anew"].best_s - taken["plain"].best_s)


def literal_twin(settings: Settings, *, frames: int) -> tuple[LiteralPoseFormer, nn.Module]:
    """The literal PoseFormer and ours with the same weights."""
    torch.manual_seed(0)
    ours = network("poseformer", settings, frames=frames).to(settings.device)
    for weight in ours.parameters():  # so that the embeddings, which start at zero, matter too
        weight.data.add_(0.02 * torch.randn_like(weight))
    literal = LiteralPoseFormer(frames=frames, joints=17).to(settings.device)
    literal.load_state_dict(ours.state_dict())
    return literal, ours


def against_the_published_step(settings: Settings, *, frames: int, turns: int) -> list[dict[str, Any]]:
    """PoseFormer's training step, ours and the literal one, at a small batch and at the published one."""
    sizes = sorted({32, published_batch_that_fits(settings, frames)})
    return [_steps_compared(settings, frames=frames, batch=batch, turns=turns) for batch in sizes]


def _steps_compared(settings: Settings, *, frames: int, batch: int, turns: int) -> dict[str, Any]:
    table = large_table(EMBEDDED_FRAMES, settings.device)
    ours = job("poseformer", settings, frames=frames, batch_windows=batch)
    plain = LiteralPoseFormer(frames=frames, joints=17)
    literal = job("poseformer", settings, frames=frames, batch_windows=batch, literal=plain)
    batches = endless_batches(ours, table)
    cases = {
        "ours": lambda: step(ours, table, next(batches)),
        "literal": lambda: step(literal, table, next(batches)),
    }
    few = batch > 32
    taken = machine.in_turns(cases, settings.device, turns=min(turns, 2) if few else turns, warm_up=0 if few else 1)
    return {
        "frames": frames,
        "batch_windows": batch,
        "parts": ours.parts,
        "ours_ms": 1000 * taken["ours"].best_s,
        "literal_ms": 1000 * taken["literal"].best_s,
        **machine.compared(taken, ours="ours", yardstick="literal"),
    }


def published_batch_that_fits(settings: Settings, frames: int) -> int:
    """512 windows, halved until what a forward pass keeps is less than a third of the memory."""
    device = settings.device
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1]
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    literal = LiteralPoseFormer(frames=frames, joints=17).to("meta")
    one = machine.saved_bytes(literal, torch.zeros(1, frames, 17, 2, device="meta"))
    batch = PUBLISHED_BATCH
    while batch * one > memory / 3:
        batch //= 2
    return batch


def against_the_published_evaluation(settings: Settings, *, frames: int, turns: int) -> dict[str, Any]:
    """Every frame of a clip, plain and mirrored: PoseFormer, ours and literal, and the default model."""
    device = settings.device
    literal, ours = literal_twin(settings, frames=frames)
    default = network("rayformer", settings, frames=frames).to(device)
    length = CLIP_FRAMES[frames]
    table = frame_table([next(clips(1000))], root=0, device=device)
    screen = table.screen[:length]
    one = torch.tensor([0], device=device)
    clip = FrameTable(screen, table.pose_m[:length], table.scored[:length], one, one + length - 1)
    mirrored = list(H36M_17.mirrored)

    def predicted(model: nn.Module, stride: int) -> torch.Tensor:
        return predict_frames(model, clip, H36M_17, H36M_17, frames=frames, stride=stride, flip_averaging=True)

    stride = settings.params.datasets.cmu.window_stride
    same = predict_clip(literal, screen, frames=frames, mirrored=mirrored, batch_windows=32)
    difference_m = float((predicted(ours, 1) - same).abs().max())
    predicted(default, stride)
    taken = machine.in_turns(
        {
            "ours": lambda: predicted(ours, 1),
            "whole_clip": lambda: predict_clip(literal, screen, frames=frames, mirrored=mirrored, batch_windows=length),
            "each_window": lambda: predict_clip(literal, screen, frames=frames, mirrored=mirrored, batch_windows=1),
            "in_cache": lambda: predict_clip(literal, screen, frames=frames, mirrored=mirrored, batch_windows=32),
            "default": lambda: predicted(default, stride),
        },
        device,
        turns=turns,
        warm_up=0,  # has been had above
    )
    return {
        "frames": frames,
        "clip_frames": length,
        "largest_difference_m": difference_m,
        "largest_output_m": float(same.abs().max()),
        "output_frames_per_s": {name: length / spent.best_s for name, spent in taken.items()},
        "ours_to_whole_clip": machine.compared(taken, ours="ours", yardstick="whole_clip"),
        "ours_to_each_window": machine.compared(taken, ours="ours", yardstick="each_window"),
        "ours_to_32_windows": machine.compared(taken, ours="ours", yardstick="in_cache"),
        "default_to_whole_clip": machine.compared(taken, ours="default", yardstick="whole_clip"),
    }
