"""Tool evaluate: scores a checkpoint, trained here or imported, on the prepared data of a row.

Reads a checkpoint folder and data/prepared/<row>/ through the stage evaluate_5runs, whose functions do the work. Writes
one JSON file of the same shape as the stage's, with the checkpoint's card in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pipeline.config.rows import parse_row, refuse_missing_data
from pipeline.evaluate_5runs.scores import AVERAGED_GROUPS
from pipeline.evaluate_5runs.stage import score_checkpoints
from pipeline.poses.checkpoint import WEIGHTS, Card
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.system.files import sha256_of, write_json

COLUMNS = {
    "mpjpe_mm": "MPJPE mm",
    "p_mpjpe_mm": "P-MPJPE mm",
    "n_mpjpe_mm": "N-MPJPE mm",
    "mpjve_mm": "MPJVE mm",
    "pck150": "PCK@150 %",
    "auc": "AUC %",
}


def evaluate(checkpoint: Path, row_or_folder: str, *, prepared: Path, reports: Path, out: Path | None) -> str:
    """Returns a checkpoint's errors and the protocol behind them as text, and writes the same as JSON.

    `row_or_folder` is the folder of prepared data, or the row whose folder lies in `prepared`. The JSON file is `out`,
    or one under `reports` named after row and checkpoint. Raises UserError if the data are not there, or the checkpoint
    was made for other keypoints, frames, channels or joint layouts.
    """
    folder = Path(row_or_folder)
    if not folder.is_dir():
        folder = prepared / str(parse_row(row_or_folder))
    refuse_missing_data(folder, row_or_folder)
    scores = score_checkpoints(folder, [checkpoint], seeds=None)
    config, (card,) = scores.config, scores.cards
    metrics = scores.metrics.model_dump(mode="json", exclude_unset=True)
    description = {"folder": str(checkpoint), "weights_sha256": sha256_of(checkpoint / WEIGHTS), **card.model_dump()}
    protocol = metrics["protocol"] | {
        "selection": _selection(card, config.row, metrics["protocol"]["selection"]),
        "seeds": [] if card.seed is None else [card.seed],
    }
    result = {"row": config.row, "checkpoint": description, **metrics, "protocol": protocol}
    name = checkpoint.resolve().name if card.imported_from else f"{card.row}-run{card.seed}"
    out = out or reports / "evaluations" / config.row / f"{name}.json"
    write_json(out, result)
    return f"{_text(result, config.evaluation.averaging)}\n\nwritten to {out}"


def _selection(card: Card, row: str, selection: str) -> str:
    """Says which epoch's weights these are, as far as is known; `selection` says it of the runs of `row`."""
    if card.imported_from is not None:
        return f"not known: weights imported from {card.imported_from.file}"
    return selection if card.row == row else f"as for row {card.row}"


def _text(result: Mapping[str, Any], averaging: str) -> str:
    metrics = [metric for metric in COLUMNS if metric in METRIC_TITLES or metric in result]
    groups = {**result[AVERAGED_GROUPS.get(averaging, "per_action")], f"all ({averaging.replace('_', ' ')})": result}
    lines = [[name, *_cells(means, metrics)] for name, means in groups.items()]
    table = tabulate(lines, ["", *(COLUMNS[metric] for metric in metrics)], tablefmt="plain", disable_numparse=True,
                     colalign=("left", *("right" for _ in metrics)))  # fmt: skip
    head = f"{result['row']}, weights for {result['checkpoint']['row']}"
    return "\n".join([head, "", table, "", *(f"{key}: {value}" for key, value in result["protocol"].items())])


def _cells(means: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    values = [means[metric]["mean"] for metric in metrics]
    return ["–" if value is None else f"{value:.2f}" for value in values]
