"""A budget of CPU minutes becomes as many steps; its rate is chosen by validation takes; the page shows the curves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from experiments.comparisons.compare import Paths
from experiments.compute.measure import choose_rate, curve
from experiments.compute.report import curves_report
from experiments.compute.settings import (
    StepCost,
    name_row,
    read_curves,
    read_step_costs,
    recipe_for_budget,
    write_row_params,
)
from pipeline.config.params import load_params
from pipeline.system.errors import UserError
from pipeline.system.files import write_json
from tests.fixtures.four_stages import write_params as write_small_params
from tests.fixtures.row_metrics import row_metrics_json

PROJECT = Path(__file__).parents[2]
CURVES_YAML = PROJECT / "experiments" / "compute" / "curves.yaml"
ROW = "mocap-gt-f27-linear"
MADE_ROWS = {f"mocap-{keypoints}-f27-{network}" for keypoints in ("gt", "det") for network in ("linear", "another")}
COST = StepCost(parameters=10, multiplications_per_window=20, cpu_s_per_step=30.0, windows_per_step=4)


def write_curves(folder: Path, **changes: object) -> Path:
    entry = {"recipe": {"batch_windows": 4}, "model": {"architecture": "linear"}}
    content = {
        "budgets": {"gt": {1: [0, 1], 4: [0]}, "det": {1: [0], 4: [0]}},
        "choose_rate": {"minutes": 1, "seed": 1, "factors": [0.01, 0.1, 1]},
        "epoch_windows": 8,
        "common": {},
        "networks": {"linear": {"words": "one map", **entry}, "another": {"words": "another", **entry}},
    }
    path = folder / "curves.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def paths(tiny_raw, tmp_path) -> Paths:
    params = write_small_params(tmp_path, ROW)
    return Paths(write_curves(tmp_path), params, tiny_raw, work=tmp_path / ".work")


@pytest.mark.parametrize("network", list(read_curves(CURVES_YAML).networks))
@pytest.mark.parametrize("minutes", [1, 4, 16, 48])
def test_a_budget_is_used_up_to_a_hundredth_by_equal_epochs_of_whole_steps(network, minutes, tmp_path):
    curves, row = read_curves(CURVES_YAML), name_row("det", network)
    cost = read_step_costs(CURVES_YAML.parent / "cost.json", [network])[network]
    write_row_params(row, curves, tmp_path / "row.json", extends=PROJECT / "params.yaml")
    recipe = recipe_for_budget(row, curves, cost, minutes=minutes, factor=2.5, params_path=tmp_path / "row.json")
    write_row_params(row, curves, tmp_path / "params.yaml", extends=PROJECT / "params.yaml", recipe=recipe)
    load_params(tmp_path / "params.yaml")  # is a file of parameters
    assert recipe["windows_per_epoch"] % cost.windows_per_step == 0
    steps = recipe["epochs"] * recipe["windows_per_epoch"] // cost.windows_per_step
    assert steps * cost.cpu_s_per_step == pytest.approx(60 * minutes, rel=0.01)


def test_the_rate_is_the_best_on_validation_takes_and_its_run_is_a_run_of_the_budget(
    paths, tmp_path, caplog, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    caplog.set_level("INFO")
    choose_rate(ROW, COST, paths, out=tmp_path / "rate.json")
    found = json.loads((tmp_path / "rate.json").read_text(encoding="utf-8"))
    assert set(found["validation_mpjpe_mm"]) == {"0.01", "0.1", "1"}
    assert found["validation_mpjpe_mm"][f"{found['factor']:g}"] == min(found["validation_mpjpe_mm"].values())
    assert len(list((tmp_path / ".work" / "compute").iterdir())) == 1
    caplog.clear()
    curve(ROW, 1, COST, paths, factor=found["factor"], out=tmp_path / "result.json")
    scored = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert scored["protocol"]["seeds"] == [0, 1]
    tracked = [re.search(r"offline-run-\S+-(\w+);", line) for line in caplog.messages]
    assert [found[1] for found in tracked if found] == ["0", "evaluation"]  # run 1 was trained when the rate was chosen
    assert not list((tmp_path / ".work" / "compute").iterdir())


def test_a_budget_that_is_not_declared_is_refused(paths, tmp_path):
    with pytest.raises(UserError, match=r"curves\.yaml: budgets\.gt: expected one of 1, 4 minutes, found 16"):
        curve(ROW, 16, COST, paths, factor=1.0, out=tmp_path / "result.json")
    with pytest.raises(UserError, match=r"curves\.yaml: budgets: expected one of gt, det, found 'cpn'"):
        curve("mocap-cpn-f27-linear", 1, COST, paths, factor=1.0, out=tmp_path / "result.json")


@pytest.fixture
def measured(tmp_path) -> Path:
    """A folder with two networks and all that was measured of them."""
    write_curves(tmp_path)
    write_json(tmp_path / "cost.json", {network: COST.model_dump() for network in ("linear", "another")})
    for row in MADE_ROWS:
        rate, errors_mm = (0.1, {1: (80.0, 84.0), 4: (61.5,)}) if row == ROW else (1, {1: (90.0, 90.0), 4: (90.0,)})
        write_json(tmp_path / "rates" / f"{row}.json", {"factor": rate, "validation_mpjpe_mm": {f"{rate:g}": 50.0}})
        for minutes, runs_mm in errors_mm.items():
            write_json(tmp_path / "results" / f"{row}-{minutes}.json", row_metrics_json(row, runs_mm))
    return tmp_path


def test_the_page_shows_costs_errors_by_keypoints_and_whether_the_curve_is_flat(measured):
    curves_report(measured)
    lines = re.sub(" +", " ", (measured / "README.md").read_text(encoding="utf-8"))
    costs, exact, detected = lines.split("## ")
    assert "| one map | 10 | 0.0 | 7500.0 |" in costs
    assert "| one map | × 0.1 | 82.0 ± 2.8 | 61.5 | 32 | 0.75 |" in exact
    assert "| one map | × 1* | 90.0 ± 0.0 | 90.0 | 32 | 1.00 |" in detected
    assert "| another | × 1* | 90.0 ± 0.0 | 90.0 | 32 | 1.00 |" in exact
    picture = (measured / "figures" / "curves.svg").read_bytes()
    curves_report(measured)
    assert (measured / "figures" / "curves.svg").read_bytes() == picture


def test_a_network_without_cost_rate_or_metrics_is_refused(measured):
    (measured / "results" / "mocap-gt-f27-another-4.json").unlink()
    with pytest.raises(UserError, match=r"another-4\.json: expected the metrics of a row"):
        curves_report(measured)
    (measured / "rates" / "mocap-gt-f27-another.json").unlink()
    with pytest.raises(UserError, match=r"another\.json: expected the rate of a row"):
        curves_report(measured)
    write_json(measured / "cost.json", {"linear": COST.model_dump()})
    with pytest.raises(UserError, match=r"cost\.json: expected the cost of another, found none"):
        curves_report(measured)
