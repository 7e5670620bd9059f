"""A sweep is over parameters that there are, and a trial's score is that of the evaluation's run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from pipeline.poses.metrics import METRIC_TITLES
from pipeline.report.experiments import flatten
from pipeline.tracking.run import start_run
from tests.fixtures.tracked_runs import clean_environment, of_kind, wandb_files

REPOSITORY = Path(__file__).parents[2]
SWEEPS = sorted((REPOSITORY / "experiments" / "sweeps").glob("*.yaml"))
TARGET = "evaluate_5runs@mocap-gt-f27-rayformer"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with clean_environment(tmp_path / "home", WANDB_MODE="offline", WANDB_SWEEP_ID="sweep1", WANDB_RUN_ID="trial1"):
        yield


def read_sweep(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_is_over_parameters_that_there_are_for_a_score_that_is_logged(path):
    sweep = read_sweep(path)
    params = flatten(yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")))
    for name, own in sweep["parameters"].items():
        assert params[name] not in own["values"], "a trial of the values as they are runs nothing and has no score"
    assert sweep["metric"]["name"] in {f"test/{metric}" for metric in METRIC_TITLES}
    rows = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["prepare_data"]["matrix"][
        "row"
    ]
    assert TARGET.partition("@")[2] in rows
    assert TARGET in sweep["command"][2]


def test_in_a_sweep_the_evaluation_is_the_trial_and_the_trainings_are_runs_of_their_own(tmp_path):
    wandb.teardown()  # a session that another test left open would keep its own environment
    for job_type in ("evaluate_5runs", "train"):  # a training forgets the sweep
        with start_run(row="mocap-gt-f27", name=job_type, job_type=job_type, run_id="own", config={}, folder=tmp_path):
            pass
    found = {}
    for path in wandb_files(tmp_path):
        (run,) = of_kind(path, "run")
        found[run.job_type] = (run.run_id, run.sweep_id)
    assert found == {"train": ("own", ""), "evaluate_5runs": ("trial1", "sweep1")}
