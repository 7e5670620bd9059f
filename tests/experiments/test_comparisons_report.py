"""The page says what the metrics files say, and what of it stands out from the spread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.comparisons.report import COMPARISONS, comparisons_report, difference
from pipeline.config.params import load_params, recipe_for
from pipeline.config.rows import parse_row
from pipeline.system.errors import UserError
from pipeline.system.files import write_json

PROJECT = Path(__file__).parents[2]
ROWS = ["cmu-gt-f27-same_time", "cmu-gt-f27-mixste", "cmu-gt-f27-stcformer"]


def record(row: str, runs_mm: Sequence[float], seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    values = {
        "mean": float(np.mean(runs_mm)),
        "std": float(np.std(runs_mm, ddof=1)) if len(runs_mm) > 1 else None,
        "runs": list(runs_mm),
    }
    metrics = dict.fromkeys(("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm"), values)
    none = {"mean": None, "std": None, "runs": [None]}
    protocol = {"seeds": list(seeds), "scored_frames": "one frame in 16"}
    return {"row": row, "protocol": protocol, **metrics, "mpjve_mm": none}


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results" / "metrics").mkdir(parents=True)
    runs = {ROWS[0]: (50, 51, 52), ROWS[1]: (70, 71.5, 72), ROWS[2]: (50.5, 51, 51.5)}
    for row, runs_mm in runs.items():
        write_json(tmp_path / "results" / "metrics" / f"{row}.json", record(row, runs_mm))
    write_json(tmp_path / "cost.json", {ROWS[1]: {"cpu_s_per_run": 41.7}})
    return tmp_path


def write_page(folder: Path, rows: Sequence[str] = tuple(ROWS)) -> str:
    comparisons_report(rows, results=folder / "results", cost=folder / "cost.json", out=folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_differences_are_taken_seed_by_seed():
    own = difference(record("b", (3.0, 5.0, 4.5)), record("a", (1.0, 2.0, 3.0)))
    assert (own.mean_mm, own.std_mm) == pytest.approx((13 / 6, np.std([2, 3, 1.5], ddof=1)))


@pytest.mark.parametrize(
    ("row", "reference", "stands_out"),
    [
        ((13.0, 14.0, 15.0), (10.0, 11.0, 12.0), True),
        ((10.5, 11.5, 12.5), (10.0, 11.0, 12.0), False),  # always better, by less than the seeds differ
        ((10.0, 20.0, 15.0), (10.0, 11.0, 12.0), False),  # one row's seeds differ by more
        ((8.0, 9.0, 10.0), (10.0, 11.0, 12.0), True),
    ],
)
def test_a_difference_stands_out_if_it_is_larger_than_every_spread(row, reference, stands_out):
    assert difference(record("b", row), record("a", reference)).stands_out is stands_out


def test_rows_of_other_seeds_are_not_compared():
    with pytest.raises(UserError, match=r"row b: expected the seeds of a, \[0, 1, 2\], found \[0, 1, 3\]"):
        difference(record("b", (1, 2, 3), seeds=(0, 1, 3)), record("a", (1, 2, 3)))
    with pytest.raises(UserError, match=r"row b: expected the seeds of a"):
        difference(record("b", (1,), seeds=(0,)), record("a", (1,), seeds=(0,)))


def test_the_page_shows_each_row_with_its_difference_and_cost(results):
    page = write_page(results)
    assert "| rayformer, the default | cmu-gt-f27-same_time | – | 3 | 51.0 ± 1.0 |  |  |" in page
    assert "| cmu-gt-f27-mixste | 42 | 3 | 71.2 ± 1.0 | +20.2 ± 0.3 | yes |" in page
    assert "| cmu-gt-f27-stcformer | – | 3 | 51.0 ± 0.5 | +0.0 ± 0.5 | no |" in page
    assert "simulated detector" not in page  # its rows are not given, which is said
    assert "`cmu-det-f27-same_time`" in page.split("## Not measured")[1]
    assert (results / "figures" / "ablation.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_page_is_the_same_when_written_again(results):
    before = write_page(results), (results / "figures" / "ablation.svg").read_bytes()
    assert (write_page(results), (results / "figures" / "ablation.svg").read_bytes()) == before


def test_a_row_of_no_comparison_or_without_metrics_is_refused(results):
    with pytest.raises(UserError, match="row cmu-gt-f27-linear: expected one that a comparison has"):
        write_page(results, ["cmu-gt-f27-linear"])
    with pytest.raises(UserError, match=r"poseformer\.json: expected the record of a row, found FileNotFoundError"):
        write_page(results, [*ROWS, "cmu-gt-f27-poseformer"])


@pytest.mark.parametrize("group", ["experiments/comparisons"])
def test_the_rows_of_a_group_have_recipes_and_are_all_reported(group):
    stages = yaml.safe_load((PROJECT / group / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    rows = stages["prepare_data"]["matrix"]["row"]
    params = load_params(PROJECT / group / "params.yaml")
    assert params.threads == 1
    for row in rows:
        recipe_for(parse_row(row), params, where=group)
    assert stages["train"]["matrix"]["row"] == stages["evaluate_5runs"]["matrix"]["row"] == rows
    assert stages["train"]["matrix"]["seed"] == list(params.seeds)
    assert stages["comparisons_report"]["cmd"].split()[4:] == rows
    if group == "experiments/comparisons":
        spoken_of = {row for comparison in COMPARISONS for row in (comparison.reference, *comparison.others)}
        assert set(rows) == spoken_of


@pytest.mark.parametrize("group", ["experiments/comparisons"])
def test_the_stages_of_a_group_depend_on_what_the_stages_of_the_table_do(group):
    main, own = (
        yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        for folder in (PROJECT, PROJECT / group)
    )
    for stage in ("train", "evaluate_5runs"):
        code = [dep for dep in main[stage]["deps"] if dep == "models" or dep.startswith("pipeline/")]
        assert [dep for dep in own[stage]["deps"] if dep == "models" or dep.startswith("pipeline/")] == code
    assert json.dumps(own["prepare_data"]["params"]) == json.dumps(
        [
            {
                "params.yaml": [
                    "datasets.cmu",
                    *(name for name in main["prepare_data"]["params"] if name not in ("datasets", "threads")),
                ]
            }
        ]
    )
