"""A trained model as a folder: weights.safetensors and card.json, which says how to build it; read back strictly.

Beside them lies history.csv, one line per epoch of training.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, StrictInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from models import MODELS, build
from pipeline.config.rows import CARD, HISTORY, WEIGHTS
from pipeline.config.values import Values, validated
from pipeline.poses.skeleton import SKELETONS, Skeleton
from pipeline.system.errors import UserError, reason
from pipeline.system.files import read_yaml, write_json

EPOCH_COLUMNS = ("epoch", "train_loss_m", "train_mpjpe_mm", "val_mpjpe_mm", "val_p_mpjpe_mm", "lr", "grad_norm")
MOST_FRAMES = 100_000  # of a window: a card is somebody else's file, and must not ask for all memory
Record = dict[str, int | float | None]  # one epoch: see EPOCH_COLUMNS; None without validation clips


class ImportedFrom(Values):
    """The file of other people's weights that a checkpoint was made from, and in words what goes in and comes out."""

    file: str
    sha256: str
    convention: str = ""


class Card(Values):
    """What is known about a checkpoint: enough to build the model, and where the weights come from.

    `row` says what the weights were trained on, `rate_hz` at how many frames per second and `focal` with which
    lens, in half image widths; both are None where the training data differ in them. `epoch` is the one whose
    weights these are. `validation_mpjpe_mm` is None where there was nothing to validate on. For weights trained
    elsewhere (`imported_from`) the row is what was stated on import, and seed, run_key and torch are None.

    `output_unit` is of the poses: metres in the camera frame, or half image widths: x and y as on the screen, and the
    depth in the scale that the image has at the root. All are relative to the root.
    """

    row: str
    seed: StrictInt | None
    model: str
    hyperparameters: dict[str, object]
    frames: Annotated[StrictInt, Field(gt=0, le=MOST_FRAMES)]
    in_skeleton: str
    out_skeleton: str
    in_channels: StrictInt
    rate_hz: float | None
    focal: float | None
    epoch: StrictInt | None
    validation_mpjpe_mm: float | None
    run_key: str | None
    torch: str | None
    imported_from: ImportedFrom | None = None
    output_unit: Literal["m", "half_image_widths"] = "m"

    @property
    def skeletons(self) -> tuple[Skeleton, Skeleton]:
        """Layouts of the keypoints that go in and the joints that come out."""
        return SKELETONS[self.in_skeleton], SKELETONS[self.out_skeleton]


def build_model(card: Card) -> nn.Module:
    """The untrained model that `card` describes."""
    in_skeleton, out_skeleton = card.skeletons
    return build(
        card.model,
        frames=card.frames,
        in_joints=len(in_skeleton.joints),
        out_joints=len(out_skeleton.joints),
        in_channels=card.in_channels,
        **card.hyperparameters,
    )


def check_metres(card: Card, *, where: Path) -> None:
    """Raises UserError unless the poses are in metres. Others become so in `lift`, which knows or assumes a lens."""
    if card.output_unit != "m":
        found = f"half image widths ({card.output_unit}): only poselift lift takes these weights"
        raise UserError(f"{where}: expected weights that predict metres, found {found}")


def write_checkpoint(folder: Path, weights: dict[str, torch.Tensor], card: Card) -> None:
    """Write weights and card into the existing folder `folder`."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    (folder / WEIGHTS).write_bytes(content)  # its own way to write a file hides that the disk is full
    write_json(folder / CARD, card.model_dump())


def read_card(folder: Path) -> Card:
    """The card of a checkpoint. Raises UserError if it is missing or damaged, or names what does not exist here."""
    path = folder / CARD
    content = read_yaml(path)
    if isinstance(content, dict) and not {"rate_hz", "focal"} <= content.keys():
        expected = f"{path}: expected rate_hz and focal of the training data, found an older card without them"
        raise UserError(f'{expected}; for the embedded motion capture add "rate_hz": 30.0, "focal": 2.29')
    card = validated(Card, content, where=str(path))
    if card.model not in MODELS:
        raise UserError(f"{path}: model: expected one of {', '.join(MODELS)}, found '{card.model}'")
    for name in (card.in_skeleton, card.out_skeleton):
        if name not in SKELETONS:
            raise UserError(f"{path}: skeleton: expected one of {', '.join(SKELETONS)}, found '{name}'")
    return card


def load_checkpoint(folder: Path, *, device: torch.device) -> tuple[nn.Module, Card]:
    """The trained model in evaluation mode, and its card.

    Raises UserError unless every tensor of the file fits one of the model and the other way round.
    """
    card = read_card(folder)
    try:
        with torch.device("meta"):  # no memory is taken before the weights are known to be of this size
            model = build_model(card)
    except ValueError as error:
        raise UserError(f"{folder / CARD}: {error}") from error
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: expected a safetensors file, found {reason(error)}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            expected, came = wanted.get(name, "no such tensor"), found.get(name, "none")
            raise UserError(f"{path}: {name}: expected {expected}, found {came}")
    model = model.to_empty(device=device)
    model.load_state_dict(weights, strict=True)
    return model.eval(), card


def write_history(folder: Path, history: Sequence[Record]) -> None:
    """Write the learning curve into the existing folder `folder`."""
    with (folder / HISTORY).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, EPOCH_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def read_history(folder: Path) -> list[list[str]]:
    """The lines of a checkpoint's learning curve, as text. Raises UserError if it is missing or of other columns."""
    path = folder / HISTORY
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *records = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: expected the run's learning curve, found {reason(error)}") from error
    if tuple(header) != EPOCH_COLUMNS:
        raise UserError(f"{path}: expected the columns {', '.join(EPOCH_COLUMNS)}, found {', '.join(header)}")
    return records
