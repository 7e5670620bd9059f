"""Sweeps are over parameters that there are and judged by validation takes alone; Optuna finds a known minimum."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import wandb
import yaml

from experiments.sweeps.search import Outcome, search
from pipeline.report.experiments import flatten
from pipeline.system.errors import UserError
from pipeline.tracking.run import start_run
from tests.fixtures.tracked_runs import clean_environment, of_kind, wandb_files

REPOSITORY = Path(__file__).parents[2]
SEARCH = REPOSITORY / "experiments" / "sweeps" / "search.yaml"
SWEEPS = sorted(path for path in SEARCH.parent.glob("*.yaml") if path != SEARCH)  # of W&B
TARGET = "train@mocap-gt-f27-rayformer-0"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with clean_environment(tmp_path / "home", WANDB_MODE="offline"):
        yield


def read_sweep(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_the_search_is_over_parameters_that_there_are():
    params = flatten(yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")))
    for name, own in read_sweep(SEARCH)["parameters"].items():
        assert own["min"] < params[name] < own["max"]


def bowl(values: Mapping[str, Any]) -> Outcome | None:
    """Two runs whose mean error is least, 40 mm, at lr 0.0015 and muon_lr 0.05; below lr 0.0004 the training fails."""
    lr, muon_lr = values["datasets.mocap.lr"], values["datasets.mocap.muon_lr"]
    error_mm = 40 + 10 * (math.log(lr / 0.0015) ** 2 + math.log(muon_lr / 0.05) ** 2)
    return None if lr < 0.0004 else Outcome(f"lr{lr:.3g}", [error_mm - 1, error_mm + 1])


def table_of(answer: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in answer.splitlines() if line.startswith("| ")]


def test_a_search_comes_near_the_best_values_and_draws_the_same_whenever_it_is_run():
    answer = search(SEARCH, bowl, trials=25)
    _, best, *others = table_of(answer)
    assert float(best[0]) == pytest.approx(0.0015, rel=0.5)
    assert float(best[1]) == pytest.approx(0.05, rel=0.5)
    scored = [row for row in others if row[2] != "failed"]
    assert [float(row[2]) for row in scored] == sorted(float(row[2]) for row in scored)
    assert answer.endswith(f"the best: dvc exp apply {best[4]}")
    assert {float(row[0]) < 0.0004 for row in others if row[2] == "failed"} == {True}
    fewer = table_of(search(SEARCH, bowl, trials=8))[1:]
    assert {tuple(row) for row in fewer} <= {tuple(row) for row in [best, *others]}


def test_a_grid_of_wandb_is_searched_without_it_each_point_once():
    rows = table_of(search(REPOSITORY / "experiments/sweeps/learning_rate.yaml", bowl, trials=100))[1:]
    assert sorted(row[:2] for row in rows) == [
        ["0.0005", "0.02"],
        ["0.0005", "0.06"],
        ["0.002", "0.02"],
        ["0.002", "0.06"],
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"method": "guess"}, "method: expected 'grid', 'random' or 'bayes', found 'guess'"),
        ({"parameters": {}}, "parameters: expected "),
        ({"method": "grid"}, "parameters.lr: expected values for a grid, found none"),
        (
            {"parameters": {"lr": {"min": 2, "max": 1}}},
            "parameters.lr: expected values, or min and a larger max, found ",
        ),
        ({"parameters": {"lr": {"mu": 0}}}, "parameters.lr.mu: unknown key"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused_before_anything_runs(content, complaint, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"method": "bayes", "parameters": {"lr": {"min": 1, "max": 2}}} | content))
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {complaint}')}"):
        search(path, bowl, trials=1)


def test_a_search_whose_every_trial_fails_has_no_best():
    with pytest.raises(UserError, match="expected a trial that succeeds, found 3 that failed"):
        search(SEARCH, lambda _: None, trials=3)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_of_wandb_trains_a_row_that_there_is_and_minimises_its_validation_error(path):
    sweep = read_sweep(path)
    params = flatten(yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")))
    for name, own in sweep["parameters"].items():
        assert params[name] not in own["values"], "a trial of the values as they are runs nothing and has no score"
    assert sweep["metric"] == {"name": "val/mpjpe_mm_of_weights", "goal": "minimize"}
    rows = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["prepare_data"]["matrix"][
        "row"
    ]
    assert TARGET.removeprefix("train@").removesuffix("-0") in rows
    assert sweep["command"][2].endswith(f" {TARGET}")  # and so nothing is evaluated


def test_in_a_sweep_the_training_of_seed_0_is_the_trial_and_all_others_are_runs_of_their_own(tmp_path):
    wandb.teardown()  # a session that another test left open would keep its own environment
    sweep = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "trial1"}
    runs = [("train", {"seed": 0}), ("train", {"seed": 1}), ("evaluate_5runs", {"seeds": [0, 1]})]
    for number, (job_type, config) in enumerate(runs):
        with (
            patch.dict(os.environ, sweep),
            start_run(
                row="mocap-gt-f27", name="run", job_type=job_type, run_id=f"own{number}", config=config, folder=tmp_path
            ),
        ):
            pass
    found = {(run.run_id, run.sweep_id) for path in wandb_files(tmp_path) for run in of_kind(path, "run")}
    assert found == {("trial1", "sweep1"), ("own1", ""), ("own2", "")}
