"""What training, evaluating and lifting cost on this machine, and how well lifting does: measured and written down.

`networks` measures the models beside `literal_poseformer`, in the same process and in turns, `scaling` how their cost
grows; `lift_speed` and `lift_accuracy` measure the shipped model as `poselift lift` uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.speed.lift_accuracy import measure_lift_accuracy
from experiments.speed.lift_speed import measure_lift_speed
from experiments.speed.machine import Record, describe_machine, file_name
from experiments.speed.networks import IN_CACHE, LITERAL, measure_epochs, measure_evaluation, measure_steps
from experiments.speed.scaling import DEFAULTS, measure_scaling
from experiments.speed.video_speed import measure_video_speed
from pipeline.config.params import Params
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_json, write_text
from pipeline.visualization.tables import markdown_table

log = logging.getLogger(__name__)

MODELS = ("mixste", "stcformer", "motionagformer", "rayformer", "rayformer_large")  # beside poseformer
PUBLISHED_BATCH = {27: 512, 81: 256}  # windows; at 81 frames half of the published 512, for a machine's memory
LARGEST_MODELS, LARGEST_FRAMES = ("rayformer", "rayformer_large", "poseformer"), 81
TURNS, STEP_TURNS = 3, 12  # the latter for models whose step takes a fraction of a second
NOTES = {  # below the tables of the page
    "training": "The peak is that of a product of large matrices, measured in the same turns. Floor: what the "
    "operations of the forward and backward pass take at the peak. With optimizer: the operations of Muon counted too.",
    "epochs": "Of a dataset as large as Human3.6M, with its recipe: random frames that are on the device already. A "
    "few steps were measured and multiplied.",
    "evaluation": "Every frame of a clip, plain and mirrored. The published way is all windows of a clip at once.",
    "batch_windows": "A step of the default model without augmentation. Ratio: to the default, "
    f"{', '.join(f'{axis} {value}'.replace('_', ' ') for axis, value in DEFAULTS.items())}.",
    "runs_side_by_side": "A thread each; the frames that all of them predict in training. Ratio: to one run alone.",
}
PARTS: dict[str, tuple[str, Callable[[Params], Mapping[str, Any]]]] = {  # the file of each, and what measures it
    "lift_accuracy": ("lift_accuracy", lambda _: measure_lift_accuracy()),
    "lift_speed": ("lift", lambda _: measure_lift_speed()),
    "models": ("{machine}", lambda params: measure_models(params)),
    "scaling": ("{machine}-scaling", lambda params: measure_scaling(params, turns=STEP_TURNS)),
    "epochs": ("{machine}-epochs", lambda params: measure_largest(params)),
    "video": ("video", lambda _: measure_video_speed()),
}
ASKED_FOR = ("epochs", "video")  # alone: on a CPU epochs would take hours, and video needs the detector for videos


def bench(out: Path, params: Params, *, only: str | None = None) -> Iterator[Path]:
    """Measures one of PARTS, or all that need not be asked for, and yields each file of `out` when it is written.

    What is named after the machine has a page of tables beside it. Raises UserError if there is no such part, the row
    of the shipped checkpoint is not prepared, or the detector for videos is missing.
    """
    if only not in (None, *PARTS):
        raise UserError(f"only: expected one of {', '.join(PARTS)}, found '{only}'")
    for part in [only] if only else [part for part in PARTS if part not in ASKED_FOR]:
        file, measure = PARTS[part]
        found = measure(params)
        has_page = "{machine}" in file
        path = out / f"{file.format(machine=file_name(found['machine'])) if has_page else file}.json"
        write_json(path, found)
        yield path
        if has_page:
            write_text(path.with_suffix(".md"), page(found))
            yield path.with_suffix(".md")


def measure_models(params: Params) -> dict[str, Any]:
    """Returns the speed of training steps and of evaluation, beside the literal PoseFormer."""
    torch.set_num_threads(params.threads)
    machine = describe_machine(torch_device(params.device))
    steps: list[Record] = []
    clips: list[Record] = []
    for frames, published in PUBLISHED_BATCH.items():
        log.info("training and evaluation with windows of %d frames", frames)
        for batch in (IN_CACHE, published):
            steps += measure_steps((LITERAL, "poseformer"), params, frames=frames, turns=TURNS, batch_windows=batch)
        steps += measure_steps(MODELS, params, frames=frames, turns=STEP_TURNS)
        clips += measure_evaluation(("poseformer", *MODELS), params, frames=frames, turns=TURNS)
    precision, compiled = params.precision, params.compile != "none"
    return {"machine": machine, "precision": precision, "compiled": compiled, "training": steps, "evaluation": clips}


def measure_largest(params: Params) -> dict[str, Any]:
    """Returns what an epoch of a dataset as large as Human3.6M, and evaluation, take each of LARGEST_MODELS."""
    machine = describe_machine(torch_device(params.device))
    options: dict[str, Any] = {"frames": LARGEST_FRAMES, "turns": TURNS}
    epochs = measure_epochs(LARGEST_MODELS, params, **options)
    clips = measure_evaluation(LARGEST_MODELS, params, **options)
    return {"machine": machine, "precision": "float32 unless stated", "epochs": epochs, "evaluation": clips}


def page(found: Mapping[str, Any]) -> str:
    """Returns Markdown of what was measured on a machine: a table of each list of records."""
    machine, compiled = found["machine"], ", compiled" if found.get("compiled") else ""
    parts = [
        f"# {machine['card'] or machine['processor']}",
        f"Written by `python -m experiments bench` on {machine['date']}. {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; torch {machine['torch']}, {machine['threads']} threads, {found['precision']}"
        f"{compiled}; load {machine['load']} at the start. Times are the fastest of several turns, in which what is "
        "compared was measured one after the other.",
    ]
    for name, records in found.items():
        if isinstance(records, list):
            header = [column.replace("_per_s", "/s").replace("percent", "%").replace("_", " ") for column in records[0]]
            table = markdown_table(header, [[_rounded(value) for value in record.values()] for record in records])
            parts += [f"## {name.replace('_', ' ').capitalize()}", table]
        if name in NOTES:
            parts.append(NOTES[name])
    return "\n\n".join(parts) + "\n"


def _rounded(value: object) -> str:
    """Returns a number to three figures, or to the whole number if it is larger."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
