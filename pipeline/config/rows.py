"""A row of the results table, "<dataset>-<keypoints>-f<frames>-<model>", and the names of the files of its runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import read_yaml

SHIPPED = Path("data/lifter/run0")  # the run whose checkpoint lifts unless another is given; see experiments/lifter
WEIGHTS, CARD, HISTORY = "weights.safetensors", "card.json", "history.csv"  # in the folder of a run
PATTERN = re.compile(
    r"(?P<dataset>[a-z0-9_]+)-(?P<keypoints>[a-z0-9_]+)-f(?P<frames>0|-?[1-9][0-9]*)-(?P<model>[a-z0-9_]+)"
)


@dataclass(frozen=True)
class Row:
    """One line of the table. `frames` is the receptive field in frames."""

    dataset: str
    keypoints: str
    frames: int
    model: str

    def __str__(self) -> str:
        return f"{self.dataset}-{self.keypoints}-f{self.frames}-{self.model}"


def parse_row(text: str) -> Row:
    """The row that `text` names. Raises UserError if it is not of the form, or frames is not odd and positive."""
    match = PATTERN.fullmatch(text)
    if match is None:
        raise UserError(
            f"row '{text}': expected <dataset>-<keypoints>-f<frames>-<model>, such as mocap-gt-f27-poseformer"
        )
    frames = int(match["frames"])
    if frames < 1 or frames % 2 == 0:
        raise UserError(f"frames: expected an odd number over 0 (a middle frame and its context), found {frames}")
    return Row(match["dataset"], match["keypoints"], frames, match["model"])


def refuse_missing_checkpoint(folder: Path) -> None:
    """Raises UserError if the folder has no checkpoint, before anything that takes long to load is needed."""
    if not (folder / CARD).is_file():
        fetch = f"; fetch it with: dvc pull {folder}" if folder == SHIPPED else ""
        raise UserError(f"{folder}: expected a checkpoint, found none{fetch}")


def refuse_missing_data(folder: Path, row: str) -> None:
    """Raises UserError if there is no folder of the row's prepared data."""
    if not folder.is_dir():
        raise UserError(f"{folder}: expected prepared data, found none: poselift prepare_data {row} {folder}")


def listed_rows(dvc_yaml: Path, selection: dict[str, object]) -> list[str]:
    """The rows that the matrix of dvc.yaml lists, in its order, each once; `${name}` is taken from `selection`.

    Raises UserError if the file has no such list, or a row asks for a name that `selection` does not have.
    """
    content = read_yaml(dvc_yaml)
    try:
        listed = content["stages"]["evaluate_5runs"]["matrix"]["row"]
        rows = [re.sub(r"\$\{(\w+)\}", lambda name: str(selection[name[1]]), row) for row in listed]
    except BAD_VALUE as error:
        raise UserError(f"{dvc_yaml}: expected stages.evaluate_5runs.matrix.row, found {reason(error)}") from error
    return list(dict.fromkeys(rows))
