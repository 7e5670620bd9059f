"""How time and memory grow with frames, with data and with epochs; what an epoch of Human3.6M and tracking cost."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.speed import machine
from experiments.speed.training import EMBEDDED_FRAMES
from experiments.speed.workload import (
    Settings,
    clips,
    endless_batches,
    job,
    large_table,
    network,
    settings_of,
    step,
    windows_of_epoch,
)
from pipeline.poses.clips import read_split, write_split
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import frame_table, predict_frames
from pipeline.tracking import run as tracking

HUMAN36M_FRAMES = 1_559_752  # to train on, of all cameras
MEASURED_WHOLE_S = 600.0  # longer epochs are extrapolated from a sample
SAMPLED_STEPS = 4
FRAMES = (27, 81, 243)
FACTORS = (1, 4, 16)
EPOCHS = 16
STEPS_OF_EPOCH = 2
MAPPED_STEPS = 20
BATCH_FRAMES = 2592  # 96 windows of 27 frames


def human36m_epoch(name: str, settings: Settings, *, frames: int) -> dict[str, Any]:
    """Seconds of an epoch over as many frames as Human3.6M has, plain and mirrored; data path included."""
    device = settings.device
    batch = 32 if name == "poseformer" and device.type == "cpu" else None
    own = job(name, settings, frames=frames, batch_windows=batch)
    table = large_table(HUMAN36M_FRAMES, device)
    size = own.training.batch_windows
    generator = torch.Generator().manual_seed(0)
    windows = windows_of_epoch(own, table, generator)
    drawing_s = machine.seconds(lambda: windows_of_epoch(own, table, generator), device)
    steps = math.ceil(len(windows) / size)

    def run(first: int, last: int) -> float:
        start = machine.clock(device)
        for number in range(first, last):
            step(own, table, windows[number * size : (number + 1) * size])
        return machine.clock(device) - start

    run(0, 1)
    sampled_s = run(1, 1 + SAMPLED_STEPS)
    expected_s = drawing_s + steps * sampled_s / SAMPLED_STEPS
    measured = expected_s <= MEASURED_WHOLE_S
    return {
        "model": name,
        "frames": frames,
        "windows": len(windows),
        "steps": steps,
        "batch_windows": size,
        "seconds": drawing_s + run(0, steps) if measured else expected_s,
        "how": "measured" if measured else f"extrapolated from {SAMPLED_STEPS} of {steps} steps",
    }


def growth_with_frames(name: str, settings: Settings, *, turns: int) -> list[dict[str, Any]]:
    """Training steps and evaluation at batches of equally many frames, the lengths of window in turns."""
    device = settings.device
    table = large_table(16 * 1000, device)
    jobs = {frames: job(name, settings, frames=frames, batch_windows=BATCH_FRAMES // frames) for frames in FRAMES}
    batches = {frames: endless_batches(own, table) for frames, own in jobs.items()}
    cases = {
        str(frames): partial(lambda own, of_own: step(own, table, next(of_own)), own, batches[frames])
        for frames, own in jobs.items()
    }
    taken = machine.in_turns(cases, device, turns=turns)
    found = []
    for frames, own in jobs.items():
        windows, best = own.training.batch_windows, taken[str(frames)].best_s
        meta, example = network(name, settings, frames=frames).to("meta"), (windows, frames, 17, 2)
        gflop = machine.operations(partial(_there_and_back, meta, example)) / 1e9
        found.append(
            {
                "model": name,
                "frames": frames,
                "batch_windows": windows,
                "step_ms": 1000 * best,
                "us_per_frame": 1e6 * best / (windows * frames),
                "gflop": gflop,
            }
        )
    return found


def _there_and_back(model: torch.nn.Module, shape: tuple[int, ...]) -> None:
    model(torch.zeros(shape, device="meta")).sum().backward()


def growth_with_data(settings: Settings) -> list[dict[str, Any]]:
    """Preparing and training 1, 4 and 16 times the embedded data, each in a process of its own.

    The default model sees every frame once, with the data in memory; and takes a few steps with the data mapped.
    """
    found = []
    for factor in FACTORS:
        with tempfile.TemporaryDirectory() as name:
            where = (Path(name), settings.params_path, settings.device.type, torch.get_num_threads())
            prepared = _apart(_prepare, Path(name), factor)
            trained, mapped = _apart(_train_on, *where, None), _apart(_train_on, *where, MAPPED_STEPS)
        found.append({"factor": factor, **prepared, **trained, "mapped_own_mb": mapped["own_mb"]})
    return found


def _apart(work: Any, *arguments: Any) -> dict[str, Any]:
    """What `work` returns in a fresh process, whose memory is then its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(work, *arguments).result()
    return found


def _prepare(folder: Path, factor: int) -> dict[str, Any]:
    """Film and write so many times as many frames as are embedded."""
    start = time.perf_counter()
    write_split(folder / "train", clips(factor * EMBEDDED_FRAMES))
    return {"prepare_s": time.perf_counter() - start, "prepare_peak_mb": machine.resident_mb("VmHWM")}


def _train_on(
    folder: Path, params_path: Path, device_type: str, threads: int, mapped_steps: int | None
) -> dict[str, Any]:
    """Train the default model one epoch over all frames; or a few steps, with the frames mapped from files."""
    torch.set_num_threads(threads)
    device = torch.device(device_type)
    own = job("rayformer", settings_of(params_path, device), frames=27)
    mapped_in = None if mapped_steps is None else folder / "mapped"
    table = frame_table(read_split(folder / "train"), root=0, device=device, mapped_in=mapped_in)
    windows = windows_of_epoch(own, table, torch.Generator().manual_seed(0), flips=False)
    size = own.training.batch_windows
    steps = mapped_steps or math.ceil(len(windows) / size)
    ready = machine.clock(device)
    for number in range(steps):
        step(own, table, windows[number * size : (number + 1) * size])
    return {
        "frames": len(table),
        "steps": steps,
        "epoch_s": machine.clock(device) - ready,
        "table_mb": sum(values.nbytes for values in vars(table).values()) / 1e6,
        "own_mb": machine.resident_mb("RssAnon"),
        "peak_mb": machine.resident_mb("VmHWM"),
    }


def memory_over_epochs(settings: Settings) -> list[dict[str, Any]]:
    """Memory after each epoch of training with validation, and the peak, each model in a process of its own."""
    return [
        _apart(_epochs, settings.params_path, settings.device.type, torch.get_num_threads(), name, frames)
        for name, frames in (("rayformer", 27), ("rayformer", 81), ("poseformer", 27), ("poseformer", 81))
    ]


def _epochs(params_path: Path, device_type: str, threads: int, name: str, frames: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    device = torch.device(device_type)
    settings = settings_of(params_path, device)
    own = job(name, settings, frames=frames, batch_windows=32 if name == "poseformer" else None)
    table = large_table(8 * 1000, device)
    batches, after_mb, in_use_mb = endless_batches(own, table), [], []
    wanted = torch.arange(len(table), device=device) % 32 == 0
    for epoch in range(EPOCHS):
        for _ in range(STEPS_OF_EPOCH):
            step(own, table, next(batches))
        predict_frames(
            own.model,
            table,
            H36M_17,
            H36M_17,
            frames=frames,
            stride=frames if own.every_frame else 1,
            flip_averaging=False,
            wanted=wanted,
        )
        after_mb.append(machine.resident_mb())
        if epoch in (0, EPOCHS - 1):
            in_use_mb.append(machine.in_use_mb())
    return {
        "model": name,
        "frames": frames,
        "batch_windows": own.training.batch_windows,
        "after_each_epoch_mb": after_mb,
        "in_use_mb": in_use_mb,
        "peak_mb": machine.resident_mb("VmHWM"),
        "peak_of_card_mb": torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
    }


def cost_of_tracking(settings: Settings, *, step_s: float) -> dict[str, Any] | None:
    """Seconds in tracking's calls of a run of the default row, W&B offline, over those of its training steps.

    `step_s` is of one step. None where wandb is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        return None
    recipe = settings.params.datasets.cmu
    steps = math.ceil((recipe.windows_per_epoch or EMBEDDED_FRAMES // 27) / recipe.batch_windows)
    record = {"train/mpjpe_mm": 1.0, "val/mpjpe_mm": 1.0, "val/p_mpjpe_mm": 1.0, "lr": 1.0, "grad_norm": 1.0}
    mode, os.environ["WANDB_MODE"] = os.environ.get("WANDB_MODE"), "offline"
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with tracking.start_run(
                row="bench", name="bench", job_type="train", run_id="bench", config={}, folder=Path(folder)
            ) as run:
                started = time.perf_counter()
                for epoch in range(recipe.epochs):
                    run.log({"epoch": epoch + 1, **record})
                logged = time.perf_counter()
            done = time.perf_counter()
    finally:
        os.environ.pop("WANDB_MODE")
        if mode is not None:
            os.environ["WANDB_MODE"] = mode
    training_s = recipe.epochs * steps * step_s
    return {
        "epochs": recipe.epochs,
        "steps_per_epoch": steps,
        "training_s": training_s,
        "log_s": logged - started,
        "start_and_finish_s": started - start + done - logged,
        "percent_of_epochs": 100 * (logged - started) / training_s,
        "percent_of_run": 100 * (done - start) / training_s,
    }
