"""What training, evaluating and lifting cost on this machine, and how well lifting does: measured and written down.

`networks` measures the models beside `literal_poseformer`, in the same process and in turns, `scaling` how their cost
grows, `epochs` a GPU; `lift_speed` and `lift_accuracy` measure the shipped model as `poselift lift` uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import torch

from experiments.speed.epochs import Epochs, measure_epochs
from experiments.speed.lift_accuracy import measure_lift_accuracy
from experiments.speed.lift_speed import measure_lift_speed
from experiments.speed.machine import Machine, Record, describe_machine, file_name
from experiments.speed.networks import IN_CACHE, LITERAL, measure_evaluation, measure_steps
from experiments.speed.scaling import Scaling, describe_defaults, measure_scaling
from experiments.speed.video_speed import measure_video_speed
from pipeline.config.params import Params
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_json, write_text
from pipeline.visualization.tables import markdown_table

log = logging.getLogger(__name__)

EVERYWHERE = ("lift_accuracy", "lift_speed", "models", "scaling")
# The last two only where they are asked for: on a CPU epochs would take hours, and video needs the detector for videos.
PARTS = (*EVERYWHERE, "epochs", "video")
MODELS = ("mixste", "stcformer", "motionagformer", "rayformer", "rayformer_large")  # beside poseformer
PUBLISHED_BATCH = {27: 512, 81: 256}  # windows; at 81 frames half of the published 512, for a machine's memory
STEP_TURNS = 12  # for models whose step takes a fraction of a second


class Models(TypedDict):
    """What training steps and evaluation take, on which machine and in which precision."""

    machine: Machine
    precision: str
    compiled: bool
    training: list[Record]
    evaluation: list[Record]


def bench(out: Path, params: Params, *, turns: int, only: str | None = None) -> Iterator[Path]:
    """Measures one of PARTS, or those of EVERYWHERE, and yields each file of the folder `out` when it is written.

    Raises UserError if there is no such part, the row of the shipped checkpoint is not prepared, or the detector for
    videos is missing.
    """
    if only not in (None, *PARTS):
        raise UserError(f"only: expected one of {', '.join(PARTS)}, found '{only}'")
    parts = EVERYWHERE if only is None else (only,)
    if "lift_accuracy" in parts:
        yield _write(out / "lift_accuracy.json", measure_lift_accuracy())
    if "lift_speed" in parts:
        yield _write(out / "lift.json", measure_lift_speed())
    if "video" in parts:
        yield _write(out / "video.json", measure_video_speed())
    if "models" in parts:
        models = measure_models(params, turns=turns)
        yield _write_with_page(out / f"{file_name(models['machine'])}.json", models, page(models))
    if "scaling" in parts:
        scaling = measure_scaling(params, turns=STEP_TURNS)
        yield _write_with_page(out / f"{file_name(scaling['machine'])}-scaling.json", scaling, scaling_page(scaling))
    if "epochs" in parts:
        epochs = measure_epochs(params, turns=turns)
        yield _write_with_page(out / f"{file_name(epochs['machine'])}-epochs.json", epochs, epochs_page(epochs))


def _write(path: Path, found: Mapping[str, object]) -> Path:
    write_json(path, found)
    return path


def _write_with_page(path: Path, found: Mapping[str, object], text: str) -> Path:
    write_text(_write(path, found).with_suffix(".md"), text)
    return path.with_suffix(".md")


def measure_models(params: Params, *, turns: int) -> Models:
    """Returns the speed of training steps and of evaluation, beside the literal PoseFormer."""
    torch.set_num_threads(params.threads)
    machine = describe_machine(torch_device(params.device))
    steps: list[Record] = []
    clips: list[Record] = []
    for frames, published in PUBLISHED_BATCH.items():
        log.info("training and evaluation with windows of %d frames", frames)
        for batch in (IN_CACHE, published):
            steps += measure_steps((LITERAL, "poseformer"), params, frames=frames, turns=turns, batch_windows=batch)
        steps += measure_steps(MODELS, params, frames=frames, turns=STEP_TURNS)
        clips += measure_evaluation(("poseformer", *MODELS), params, frames=frames, turns=turns)
    return {
        "machine": machine,
        "precision": params.precision,
        "compiled": params.compile != "none",
        "training": steps,
        "evaluation": clips,
    }


def page(found: Models) -> str:
    """Returns Markdown of what was measured of the models."""
    compiled = ", compiled" if found["compiled"] else ""
    parts = [
        *_heading(found["machine"], f"{found['precision']}{compiled}"),
        "## Training",
        _records_table(found["training"]),
        "The peak is that of a product of large matrices, measured in the same turns. Floor: what the operations of "
        "the forward and backward pass take at the peak. With optimizer: the operations of Muon counted too.",
        "## Evaluation",
        _records_table(found["evaluation"]),
        "Every frame of a clip, plain and mirrored. The published way is all windows of a clip at once.",
    ]
    return "\n\n".join(parts) + "\n"


def scaling_page(found: Scaling) -> str:
    """Returns Markdown of how the cost of a step grows."""
    parts = _heading(found["machine"], "float32")
    for axis, records in found["axes"].items():
        parts += [f"## {axis.replace('_', ' ').capitalize()}", _records_table(records)]
    parts += [
        f"A step of the default model without augmentation. Ratio: to the default, {describe_defaults()}.",
        "## Runs side by side",
        _records_table(found["side_by_side"]),
        "A thread each; the frames that all of them predict in training. Ratio: to one run alone.",
    ]
    return "\n\n".join(parts) + "\n"


def epochs_page(found: Epochs) -> str:
    """Returns Markdown of what an epoch takes on a GPU."""
    parts = [
        *_heading(found["machine"], "precision as stated"),
        "## An epoch as large as Human3.6M's",
        _records_table(found["epochs"]),
        "Its recipe, random frames that are on the device already. A few steps were measured and multiplied.",
        "## Evaluation",
        _records_table(found["evaluation"]),
        "Every frame of a clip, plain and mirrored, in float32.",
    ]
    return "\n\n".join(parts) + "\n"


def _heading(machine: Machine, precision: str) -> list[str]:
    return [
        f"# {machine['card'] or machine['processor']}",
        f"Written by `python -m experiments bench` on {machine['date']}. {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; torch {machine['torch']}, {machine['threads']} threads, {precision}; load "
        f"{machine['load']} at the start. Times are the fastest of several turns, in which what is compared was "
        "measured one after the other.",
    ]


def _records_table(records: list[Record]) -> str:
    header = [name.replace("_per_s", "/s").replace("percent", "%").replace("_", " ") for name in records[0]]
    return markdown_table(header, [[_rounded(value) for value in record.values()] for record in records])


def _rounded(value: object) -> str:
    """Returns a number to three figures, or to the whole number if it is larger."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
