"""What training, evaluating and lifting cost on this machine, and how well lifting does: measured and written down.

`networks` measures the models beside `literal_poseformer`, in the same process and in turns; `lift_speed` and
`lift_accuracy` measure the shipped model as `poselift lift` uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.speed.lift_accuracy import measure_lift_accuracy
from experiments.speed.lift_speed import measure_lift_speed
from experiments.speed.machine import describe_machine, file_name
from experiments.speed.networks import IN_CACHE, LITERAL, measure_evaluation, measure_steps
from pipeline.config.params import Params
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_json, write_text
from pipeline.visualization.tables import markdown_table

log = logging.getLogger(__name__)

PARTS = ("lift_accuracy", "lift_speed", "models")
MODELS = ("mixste", "stcformer", "rayformer", "rayformer_large")  # beside poseformer
PUBLISHED_BATCH = {27: 512, 81: 256}  # windows; at 81 frames half of the published 512, for a machine's memory
STEP_TURNS = 12  # for models whose step takes a fraction of a second


def bench(out: Path, params: Params, *, turns: int, only: str | None = None) -> Iterator[Path]:
    """Measures all parts, or one of them, and yields each file of the folder `out` when it is written.

    Raises UserError if there is no such part, or the row of the shipped checkpoint is not prepared.
    """
    if only not in (None, *PARTS):
        raise UserError(f"only: expected one of {', '.join(PARTS)}, found '{only}'")
    if only in (None, "lift_accuracy"):
        yield _write(out / "lift_accuracy.json", measure_lift_accuracy())
    if only in (None, "lift_speed"):
        yield _write(out / "lift.json", measure_lift_speed())
    if only in (None, "models"):
        found = measure_models(params, turns=turns)
        path = _write(out / f"{file_name(found['machine'])}.json", found)
        write_text(path.with_suffix(".md"), page(found))
        yield path.with_suffix(".md")


def _write(path: Path, found: dict[str, Any]) -> Path:
    write_json(path, found)
    return path


def measure_models(params: Params, *, turns: int) -> dict[str, Any]:
    """Returns the speed of training steps and of evaluation, beside the literal PoseFormer."""
    torch.set_num_threads(params.threads)
    machine = describe_machine(torch_device(params.device))
    steps: list[dict[str, Any]] = []
    clips: list[dict[str, Any]] = []
    for frames, published in PUBLISHED_BATCH.items():
        log.info("training and evaluation with windows of %d frames", frames)
        for batch in (IN_CACHE, published):
            steps += measure_steps((LITERAL, "poseformer"), params, frames=frames, turns=turns, batch_windows=batch)
        steps += measure_steps(MODELS, params, frames=frames, turns=STEP_TURNS)
        clips += measure_evaluation(("poseformer", *MODELS), params, frames=frames, turns=turns)
    how = {"precision": params.precision, "compiled": params.compile != "none"}
    return {"machine": machine, **how, "training": steps, "evaluation": clips}


def page(found: Mapping[str, Any]) -> str:
    """Returns Markdown of what was measured of the models."""
    machine = found["machine"]
    name = machine["card"] or machine["processor"]
    compiled = ", compiled" if found["compiled"] else ""
    parts = [
        f"# {name}",
        f"Written by `python -m experiments bench` on {machine['date']}. {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; torch {machine['torch']}, {machine['threads']} threads, {found['precision']}"
        f"{compiled}; load {machine['load']} at the start. Times are the fastest of several turns, in which what is "
        "compared was measured one after the other.",
        "## Training",
        _records_table(found["training"]),
        "The peak is that of a product of large matrices, measured in the same turns. Floor: what the operations of "
        "the forward and backward pass take at the peak. With optimizer: the operations of Muon counted too.",
        "## Evaluation",
        _records_table(found["evaluation"]),
        "Every frame of a clip, plain and mirrored. The published way is all windows of a clip at once.",
    ]
    return "\n\n".join(parts) + "\n"


def _records_table(records: list[dict[str, Any]]) -> str:
    header = [name.replace("_per_s", "/s").replace("percent", "%").replace("_", " ") for name in records[0]]
    return markdown_table(header, [[_rounded(value) for value in record.values()] for record in records])


def _rounded(value: object) -> str:
    """Returns a number to three figures, or to the whole number if it is larger."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
