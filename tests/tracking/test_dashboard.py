"""The dashboard's panels show what the runs log, and its specification needs neither an account nor a network."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from wandb_workspaces.reports.v2 import LinePlot

from pipeline.__main__ import main
from pipeline.poses.checkpoint import EPOCH_COLUMNS
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.system.errors import UserError
from pipeline.tracking.dashboard import curve_panels, dashboard_spec, save_dashboard, score_panels
from pipeline.tracking.run import name_epoch_metrics
from tests.fixtures.tracked_runs import clean_environment


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with clean_environment(tmp_path / "home"):
        yield


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.md"
    path.write_text("# Results\n\n| row | MPJPE |\n| --- | --- |\n| a | 38.16 ± 0.25 |\n", encoding="utf-8")
    return path


def test_every_curve_is_of_something_that_a_run_logs():
    logged = name_epoch_metrics(dict.fromkeys(EPOCH_COLUMNS, 1.0))
    for panel in curve_panels():
        assert panel.x in logged
        assert set(panel.y) <= set(logged)


def test_every_bar_is_of_a_score_that_the_evaluation_logs():
    *bars, table = score_panels()
    assert [bar.metrics for bar in bars] == [[f"test/{metric}"] for metric in METRIC_TITLES]
    assert table.table_name == "test/per_action"


def test_panels_of_a_grid_do_not_overlap():
    for panels in (curve_panels(), score_panels()):
        covered: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel.layout
            cells = {(x, y) for x in range(place.x, place.x + place.w) for y in range(place.y, place.y + place.h)}
            assert not covered & cells
            assert place.x + place.w <= 24
            covered |= cells


def test_the_specification_has_the_table_and_the_panels_and_asks_nobody(results, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked for a connection"))
    spec = json.loads(dashboard_spec(results, entity="somebody", project="poselift"))
    assert (spec["workspace"]["entity"], spec["workspace"]["project"]) == ("somebody", "poselift")
    sections = spec["workspace"]["spec"]["section"]["panel_bank_config"]["sections"]
    titles = {panel["config"].get("chart_title") for section in sections for panel in section["panels"]}
    assert {"validation MPJPE, mm", "test MPJPE"} <= titles
    blocks = spec["report"]["spec"]["blocks"]
    assert [block["content"] for block in blocks if block["type"] == "markdown-block"] == [results.read_text()]
    grids = [block["metadata"]["run_sets"][0] for block in blocks if block["type"] == "panel-grid"]
    filters = [grid["filters"]["filters"][0]["value"] for grid in grids]
    assert filters == ["train", "evaluate_5runs", "train"]


def test_a_panel_that_the_library_does_not_know_is_refused():
    with pytest.raises(ValidationError):
        LinePlot(groupby_aggfunc="mode")


def call(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["poselift", "dashboard", *arguments])
        patched.setattr(logging, "basicConfig", lambda **_: None)
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0


def test_the_dry_run_prints_it(results, capsys):
    assert call("--dry-run", "--results", str(results)) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"workspace", "report"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--entity", "somebody"], "W&B: expected to save the dashboard, found "),
        ([], "--entity: expected the user or team in W&B, or $WANDB_ENTITY, found none"),
        (["--dry-run", "--results", "nowhere.md"], "nowhere.md: expected the results, found none; run dvc repro"),
    ],
)
def test_what_is_missing_is_one_line_and_exit_code_2(arguments, complaint, results, capsys):
    own: list[Any] = [] if "--results" in arguments else ["--results", str(results)]
    assert call(*arguments, *own) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"poselift: {complaint}")
    assert captured.err.count("\n") == 1


def test_without_an_account_nothing_is_saved(results):
    with pytest.raises(UserError, match="expected to save the dashboard"):
        list(save_dashboard(results, entity="somebody", project="poselift"))
