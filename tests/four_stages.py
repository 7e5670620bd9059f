"""A row through all four stages with parameters small enough for a test."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from pipeline.evaluate_5runs import evaluate_5runs
from pipeline.prepare_data import prepare_data
from pipeline.report import report
from pipeline.rows import parse_row
from pipeline.train import train

PROJECT = Path(__file__).parents[1]
SEEDS = (0, 1)
SMALL = {"epochs": 2, "batch_windows": 64, "windows_per_epoch": 128, "validation_step": 1, "frame_step": 1}


def write_params(folder: Path, row_name: str, **changes: Any) -> Path:
    """The project's params.yaml with two seeds, small training and the keys of the row's dataset changed."""
    row = parse_row(row_name)
    content = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    content |= {"dataset": row.dataset, "keypoints": row.keypoints, "frames": row.frames, "model": row.model}
    content |= {"seeds": list(SEEDS), "threads": 1, "device": "cpu"}
    content["datasets"][row.dataset] |= SMALL | changes
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def four_stages(row: str, folder: Path, *, raw_folder: Path, **changes: Any) -> tuple[dict[str, Any], str]:
    """Prepare, train with two seeds, evaluate and report below `folder`: the row's metrics file and results.md."""
    params_path = write_params(folder, row, **changes)
    with mock.patch.dict(os.environ, {"WANDB_MODE": "disabled"}):
        return _four_stages(row, folder, raw_folder, params_path)


def _four_stages(row: str, folder: Path, raw_folder: Path, params_path: Path) -> tuple[dict[str, Any], str]:
    prepared, checkpoints, reports = folder / "prepared" / row, folder / "checkpoints" / row, folder / "reports"
    prepare_data(row, prepared, params_path=params_path, raw_folder=raw_folder)
    for seed in SEEDS:
        train(prepared, checkpoints / f"run{seed}", seed=seed, work_folder=folder / ".work")
    evaluate_5runs(prepared, checkpoints, seeds=SEEDS, reports=reports, work_folder=folder / ".work")
    dvc_yaml = folder / "dvc.yaml"
    dvc_yaml.write_text(yaml.safe_dump({"stages": {"evaluate_5runs": {"matrix": {"row": [row]}}}}), encoding="utf-8")
    shutil.copy(PROJECT / "reports" / "published.csv", reports)
    report(params_path=params_path, dvc_yaml=dvc_yaml, reports=reports, prepared=folder / "prepared")
    metrics = json.loads((reports / "metrics" / f"{row}.json").read_text(encoding="utf-8"))
    return metrics, (reports / "results.md").read_text(encoding="utf-8")
