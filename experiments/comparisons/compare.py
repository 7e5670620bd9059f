"""Stage compare: one row from the raw motion capture to its metrics.

Reads data/raw, params.yaml and rows.yaml. Writes experiments/comparisons/results/<row>.json, the metrics of
evaluate_5runs. Prepared data and checkpoints lie in the work folder and are removed at the end: everything that is kept
is in git and can be computed again from what is in git.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from experiments.comparisons.rows import read_comparisons, write_params
from pipeline.config.params import load_params
from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.prepare_data.stage import prepare_data
from pipeline.system.files import new_file
from pipeline.train.stage import train

PROCESSES = 2  # rows train with one thread, so that two runs at a time keep two cores busy


@dataclass(frozen=True)
class Paths:
    """Where a row comes from: rows.yaml, the params.yaml that it differs from, raw data; and a folder to work in."""

    rows: Path
    params: Path
    raw: Path
    work: Path


def new_workers() -> ProcessPoolExecutor:
    """Returns a pool of fresh processes: one in which torch has started threads cannot be forked safely."""
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))


def prepare_row(row: str, paths: Paths) -> Path:
    """Prepares a row in a folder of its own below the work folder, with its params.yaml, and returns that folder."""
    folder = paths.work / "comparisons" / row
    folder.mkdir(parents=True, exist_ok=True)
    write_params(row, read_comparisons(paths.rows), folder / "params.yaml", extends=paths.params)
    prepare_data(row, folder / "prepared", params_path=folder / "params.yaml", raw_folder=paths.raw)
    return folder


def compare(row: str, paths: Paths, workers: Executor, *, out: Path) -> None:
    """Prepares a row, trains a run of each seed with the workers, scores them and writes their metrics to `out`.

    Raises UserError if a parameter or a raw file is bad.
    """
    folder = prepare_row(row, paths)
    seeds = load_params(folder / "params.yaml").seeds
    list(workers.map(partial(_train_run, folder, paths.work), seeds))
    reports = folder / "reports"
    evaluate_5runs(folder / "prepared", folder / "checkpoints", seeds=seeds, reports=reports, work_folder=paths.work)
    with new_file(out) as unfinished:
        shutil.copy(reports / "metrics" / f"{row}.json", unfinished)
    shutil.rmtree(folder)


def _train_run(folder: Path, work: Path, seed: int) -> None:
    train(folder / "prepared", folder / "checkpoints" / f"run{seed}", seed=seed, work_folder=work)
