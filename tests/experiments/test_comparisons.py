"""Rows are declared once, run from raw files to their metrics, and shown with what stands out from the spread."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.comparisons.compare import Paths, compare
from experiments.comparisons.cost import measure_costs
from experiments.comparisons.report import comparisons_report, difference_mm, stands_out
from experiments.comparisons.rows import read_comparisons, write_params
from pipeline.config.params import load_params, recipe_for
from pipeline.config.rows import parse_row
from pipeline.system.errors import UserError
from pipeline.system.files import write_json
from tests.fixtures.four_stages import write_params as write_small_params
from tests.fixtures.row_metrics import make_row_metrics, row_metrics_json
from tests.fixtures.walker import write_prepared

PROJECT = Path(__file__).parents[2]
ROWS_YAML = PROJECT / "experiments" / "comparisons" / "rows.yaml"
REFERENCE, WORSE, ALIKE = ROWS = ("mocap-gt-f9-reference", "mocap-gt-f9-worse", "mocap-gt-f9-alike")


def comparison(reference: str = REFERENCE, **changes: Any) -> dict[str, Any]:
    entry = {"groups": ["parts"], "recipe": {}, "model": {"architecture": "linear"}} | changes
    groups = {"parts": {"title": "Parts", "text": "One each.", "reference": reference}}
    return {
        "common": {"seeds": [0, 1]},
        "groups": groups,
        "rows": {row: {"words": f"as {row}", **entry} for row in ROWS},
    }


def write_rows(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "rows.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("row", list(read_comparisons(ROWS_YAML).rows))
def test_a_row_has_a_recipe_that_differs_by_what_is_declared_alone(row, tmp_path):
    comparisons = read_comparisons(ROWS_YAML)
    write_params(row, comparisons, tmp_path / "params.yaml", extends=PROJECT / "params.yaml")
    params = load_params(tmp_path / "params.yaml")
    assert (params.threads, len(params.seeds)) == (1, 3)
    recipe = recipe_for(parse_row(row), params, where=row).model_dump()
    for key, value in comparisons.rows[row].recipe.items():
        assert recipe[key] == (recipe[key] | value if isinstance(value, dict) else value)
    assert params.models[parse_row(row).model] | comparisons.rows[row].model == params.models[parse_row(row).model]


def test_a_group_needs_a_row_of_its_own_as_its_reference_and_a_row_a_group_that_there_is(tmp_path):
    with pytest.raises(UserError, match="expected a row of group parts as its reference, not 'mocap-gt-f9-none'"):
        read_comparisons(write_rows(tmp_path, comparison(reference="mocap-gt-f9-none")))
    with pytest.raises(UserError, match="expected groups of mocap-gt-f9-reference among parts, not 'peers'"):
        read_comparisons(write_rows(tmp_path, comparison(groups=["parts", "peers"])))


def test_a_row_is_run_from_raw_files_to_the_metrics_of_all_its_seeds(tiny_raw, tmp_path):
    rows = write_rows(tmp_path, comparison(recipe={"flip_averaging": False}))
    params = write_small_params(tmp_path, "mocap-gt-f9-linear")
    out = tmp_path / "results" / f"{WORSE}.json"
    paths = Paths(rows, params, tiny_raw, work=tmp_path / ".work")
    compare(WORSE, paths, out=out)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["protocol"]["seeds"] == [0, 1]
    assert found["protocol"]["flip_averaging"] is False
    assert len(found["mpjpe_mm"]["runs"]) == 2
    assert not list((tmp_path / ".work" / "comparisons").iterdir())


def test_a_run_costs_its_steps_times_the_time_of_one(tmp_path):
    for row, model, epochs in (("a", "rayformer", 2), ("b", "poseformer", 3)):
        write_prepared(tmp_path / row, model=model, epochs=epochs)
    costs = measure_costs({row: tmp_path / row for row in "ab"})
    assert [costs[row]["steps"] for row in costs] == [2 * 3, 3 * 3]  # 24 windows an epoch, 8 a step
    for cost in costs.values():
        assert cost["windows"] == 8 * cost["steps"]
        assert cost["cpu_s_per_run"] == pytest.approx(cost["cpu_s_per_step"] * cost["steps"], abs=0.1)


def test_differences_are_taken_seed_by_seed():
    found_mm = difference_mm(make_row_metrics(WORSE, (3.0, 5.0, 4.5)), make_row_metrics(REFERENCE, (1.0, 2.0, 3.0)))
    np.testing.assert_allclose(found_mm, [2, 3, 1.5])


@pytest.mark.parametrize(
    ("row", "reference", "expected"),
    [
        ((13.0, 14.0, 15.0), (10.0, 11.0, 12.0), True),
        ((10.5, 11.5, 12.5), (10.0, 11.0, 12.0), False),  # always better, by less than the seeds differ
        ((10.0, 20.0, 15.0), (10.0, 11.0, 12.0), False),  # one row's seeds differ by more
        ((8.0, 9.0, 10.0), (10.0, 11.0, 12.0), True),
    ],
)
def test_a_difference_stands_out_if_it_is_larger_than_every_spread(row, reference, expected):
    assert stands_out(make_row_metrics(WORSE, row), make_row_metrics(REFERENCE, reference)) is expected


def test_rows_of_other_seeds_are_not_compared():
    reference = make_row_metrics(REFERENCE, (1.0, 2.0, 3.0))
    with pytest.raises(
        UserError, match=rf"row {WORSE}: expected the seeds of {REFERENCE}, \[0, 1, 2\], found \[0, 1, 3\]"
    ):
        difference_mm(make_row_metrics(WORSE, (1.0, 2.0, 3.0), seeds=(0, 1, 3)), reference)
    with pytest.raises(UserError, match=f"row {WORSE}: expected the seeds of {REFERENCE}"):
        difference_mm(make_row_metrics(WORSE, (1.0,)), make_row_metrics(REFERENCE, (1.0,)))


@pytest.fixture
def scored(tmp_path) -> Path:
    """A folder with the rows, their records and their costs."""
    write_rows(tmp_path, comparison())
    for row, runs_mm in zip(ROWS, [(50.0, 51.0, 52.0), (70.0, 71.5, 72.0), (50.5, 51.0, 51.5)], strict=True):
        write_json(tmp_path / "results" / f"{row}.json", row_metrics_json(row, runs_mm))
    write_json(tmp_path / "cost.json", {row: {"cpu_s_per_run": 41.7} for row in ROWS})
    return tmp_path


def test_the_page_shows_each_row_in_its_words_with_its_difference_and_cost(scored):
    comparisons_report(scored)
    lines = re.sub(" +", " ", (scored / "README.md").read_text(encoding="utf-8"))
    assert f"| as {REFERENCE} | {REFERENCE} | 42 | 3 | 51.0 ± 1.0 | | |" in lines
    assert f"| as {WORSE} | {WORSE} | 42 | 3 | 71.2 ± 1.0 | +20.2 ± 0.3 | yes |" in lines
    assert f"| as {ALIKE} | {ALIKE} | 42 | 3 | 51.0 ± 0.5 | +0.0 ± 0.5 | no |" in lines
    written = [scored / "README.md", scored / "figures" / "differences.svg"]
    before = [path.read_bytes() for path in written]
    comparisons_report(scored)
    assert [path.read_bytes() for path in written] == before


def test_a_row_without_metrics_or_without_a_cost_is_refused(scored):
    write_json(scored / "cost.json", {})
    with pytest.raises(UserError, match=r"cost\.json: expected the cost of mocap-gt-f9-reference, found none"):
        comparisons_report(scored)
    (scored / "results" / f"{ALIKE}.json").unlink()
    with pytest.raises(UserError, match=r"alike\.json: expected the metrics of a row, found FileNotFoundError"):
        comparisons_report(scored)
