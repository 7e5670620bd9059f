"""Stage compare: one row from the raw motion capture to its metrics.

Reads data/raw, params.yaml and rows.yaml. Writes experiments/comparisons/results/<row>.json, the metrics of
evaluate_5runs. Prepared data and checkpoints lie in the work folder and are removed at the end: everything that is kept
is in git and can be computed again from what is in git.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from experiments.comparisons.rows import read_comparisons, write_params
from pipeline.config.params import read_params
from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.prepare_data.stage import prepare_data
from pipeline.system.files import new_file
from pipeline.train.runs import train_row


@dataclass(frozen=True)
class Paths:
    """Where a row comes from: rows.yaml, the params.yaml that it differs from, raw data; and a folder to work in."""

    rows: Path
    params: Path
    raw: Path
    work: Path


def prepare_row(row: str, paths: Paths) -> Path:
    """Prepares a row in a folder of its own below the work folder, with its params.yaml, and returns that folder."""
    folder = paths.work / "comparisons" / row
    folder.mkdir(parents=True, exist_ok=True)
    write_params(row, read_comparisons(paths.rows), folder / "params.yaml", extends=paths.params)
    prepare_data(row, folder / "prepared", params_path=folder / "params.yaml", raw_folder=paths.raw)
    return folder


def compare(row: str, paths: Paths, *, out: Path) -> None:
    """Prepares a row, trains its runs side by side, scores them and writes their metrics to `out`.

    Raises UserError if a parameter or a raw file is bad.
    """
    folder = prepare_row(row, paths)
    prepared, checkpoints, reports = (folder / name for name in ("prepared", "checkpoints", "reports"))
    seeds = read_params(folder / "params.yaml").seeds
    train_row(prepared, checkpoints, seeds=seeds, work_folder=paths.work)
    evaluate_5runs(prepared, checkpoints, seeds=seeds, reports=reports, work_folder=paths.work)
    with new_file(out) as unfinished:
        shutil.copy(reports / "metrics" / f"{row}.json", unfinished)
    shutil.rmtree(folder)
