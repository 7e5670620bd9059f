"""What training and evaluation cost on this machine: measured, held against what the machine can do, and written down.

`machine` measures the machine, `workload` makes data and steps, `training` measures, `report` lays out.
The yardstick is `literal_poseformer`, which runs in the same process and in turns with what it is compared to.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from experiments.speed import machine, training
from experiments.speed.report import page
from experiments.speed.workload import settings_of
from pipeline.system.device import torch_device
from pipeline.system.files import write_json, write_text

log = logging.getLogger(__name__)

MODELS = ("poseformer", "rayformer", "rayformer_large")
FRAMES = (27, 81)


def bench(
    out: Path,
    *,
    params_path: Path,
    device_name: str,
    precision: str = "float32",
    compiled: bool = False,
    turns: int,
) -> Path:
    """Measure everything and write <machine>.json and <machine>.md into the folder `out`; returns the page's path."""
    device = torch_device(device_name)
    settings = settings_of(params_path, device, precision=precision, compiled=compiled)
    torch.set_num_threads(settings.params.threads)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    about = machine.described(device)
    peak, bandwidth = machine.matmul_peak(device, precision), machine.copy_bandwidth(device)
    log.info("%.0f GFLOP/s, %.1f GB/s, load %.1f", peak / 1e9, bandwidth / 1e9, about["load"])
    found: dict[str, Any] = {
        "machine": about,
        "precision": precision,
        "compiled": compiled,
        "peak_gflop_per_s": peak / 1e9,
        "bandwidth_gb_per_s": bandwidth / 1e9,
    }
    steps = []
    for name in MODELS:
        for frames in FRAMES:
            log.info("training step: %s, %d frames", name, frames)
            steps.append(training.training_step(name, settings, frames=frames, bandwidth=bandwidth))
    found["training"] = steps
    found["published_step"], found["published_evaluation"] = [], []
    for frames in FRAMES:
        log.info("against the published loop: %d frames", frames)
        compared = training.against_the_published_step(settings, frames=frames, turns=turns)
        evaluated = training.against_the_published_evaluation(settings, frames=frames, turns=turns)
        default = next(one for one in steps if one["model"] == "rayformer" and one["frames"] == frames)
        literal = max(one["batch_windows"] / one["literal_ms"] * 1000 for one in compared)
        evaluated["default_training_ratio"] = default["output_frames_per_s"] / literal
        found["published_step"] += compared
        found["published_evaluation"].append(evaluated)
    found["load_at_end"] = machine.load()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{machine.file_name(about)}.md"
    write_json(path.with_suffix(".json"), found)
    write_text(path, page(found))
    return path
