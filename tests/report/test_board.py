"""The board shows what DVC and wandb wrote, follows a running training, and asks the network for nothing."""

from __future__ import annotations

import csv
import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock

from pipeline.__main__ import main
from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.report.board import board_server, write_board
from pipeline.report.experiments import Experiment, find_differences, list_modified, read_experiments
from pipeline.report.page import experiments_section
from pipeline.tracking.pictures import track_evaluation_pictures
from pipeline.tracking.run import start_run
from pipeline.train.stage import train
from tests.fixtures.browser import PHONE, opened
from tests.fixtures.small_repository import run, write_repository
from tests.fixtures.tracked_runs import clean_environment, of_kind, read_config, read_history, read_summary, wandb_files
from tests.fixtures.walker import write_prepared

REPOSITORY = Path(__file__).parents[2]
ROW = "walker-gt-f9-rayformer"
SEEDS = (0, 1)
MANIFEST = {"splits": {"test": {"takes": 1, "clips": 4, "frames": 45}}, "dropped_frames": {"total": 0}, "sha256": {}}


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with clean_environment(tmp_path_factory.mktemp("home"), WANDB_MODE="offline"):
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A row trained with two seeds and evaluated, tracked offline; no repository of DVC."""
    root = tmp_path_factory.mktemp("project")
    prepared, checkpoints = root / "data" / "prepared" / ROW, root / "data" / "checkpoints" / ROW
    write_prepared(prepared)
    for seed in SEEDS:
        train(prepared, checkpoints / f"run{seed}", seed=seed, work_folder=root / ".work")
    evaluate_5runs(prepared, checkpoints, seeds=SEEDS, reports=root / "reports", work_folder=root / ".work")
    (prepared / "manifest.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    (root / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    content = {"stages": {"evaluate_5runs": {"matrix": {"row": [ROW]}}}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def page(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board of it as one file."""
    out = tmp_path_factory.mktemp("page") / "board.html"
    write_board(project, out)
    return out


def json_of(project: Path, kind: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / "reports" / kind / f"{ROW}.json").read_text(encoding="utf-8"))
    return content


def test_a_curve_is_the_same_in_wandbs_file_in_dvcs_table_and_on_the_page(project, page, browser):
    tracked, tables = {}, {}
    for path in wandb_files(project):
        (run,) = of_kind(path, "run")
        if run.job_type == "train":
            rows = [row for row in read_history(path) if "val/mpjpe_mm" in row]
            tracked[int(run.run_id[-1])] = {row["epoch"]: row["val/mpjpe_mm"] for row in rows}
    with (project / "reports" / "learning_curves" / f"{ROW}.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            tables.setdefault(int(line["run"]), {})[int(line["epoch"])] = float(line["val_mpjpe_mm"])
    with opened(browser, page) as shown:
        spec = json.loads(shown.locator("#training .chart").get_attribute("data-spec") or "")
    drawn: dict[int, dict[int, float]] = {}
    for value in spec["data"]["values"]:
        drawn.setdefault(value["run"], {})[int(value["epoch"])] = value["val_mpjpe_mm"]
    assert set(tracked) == set(SEEDS)
    assert tracked == tables == drawn


def test_a_score_is_the_same_in_the_metrics_in_wandb_and_on_the_page(project, page, browser):
    metrics = json_of(project, "metrics")
    (evaluation,) = [path for path in wandb_files(project) if of_kind(path, "run")[0].job_type == "evaluate_5runs"]
    assert read_summary(evaluation)["test/mpjpe_mm"] == metrics["mpjpe_mm"]["mean"]
    assert json_of(project, "headline")["mpjpe_mm"] == metrics["mpjpe_mm"]["mean"]
    with opened(browser, page) as shown:
        cells = shown.locator("#results .block td").all_inner_texts()
        specs = [
            json.loads(text)
            for text in shown.locator("#results .chart").evaluate_all("all => all.map(one => one.dataset.spec)")
        ]
    assert f"{metrics['mpjpe_mm']['mean']:.2f} ± {metrics['mpjpe_mm']['std']:.2f}" in cells
    assert [value["error"] for value in specs[0]["data"]["values"]] == [
        pytest.approx(error, abs=5e-4) for error in metrics["mpjpe_mm"]["runs"]
    ]


def test_wandb_gets_the_distribution_of_each_joint_and_every_clip_as_a_page(project, tmp_path, browser):
    track_evaluation_pictures(ROW, reports=project / "reports", folder=tmp_path)
    (path,) = wandb_files(tmp_path)
    runs = list(json_of(project, "distributions")["runs"].values())
    history = {key: value for row in read_history(path) for key, value in row.items()}
    joints = list(runs[0]["joint_error_mm"])
    assert len(joints) == 17
    for joint in joints:
        pooled = np.sum([run["joint_error_mm"][joint]["counts"] for run in runs], 0)
        assert history[f"test/joint_error_mm/{joint}/values"] == pooled.tolist()
    pages = list(path.parent.glob("files/media/html/clips/*.html"))
    assert len(pages) == len(json_of(project, "scenes")["clips"])
    with opened(browser, pages[0]) as shown:
        assert shown.locator(".poselift-viewer canvas").count() >= 1


def test_the_file_draws_its_charts_and_clips_within_its_width_and_asks_for_nothing(page, browser):
    with opened(browser, page, viewport=PHONE) as shown:
        shown.wait_for_function("document.querySelectorAll('.chart svg').length === 5")
        assert shown.locator(".poselift-viewer canvas").count() >= 1
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert shown.locator(".live").inner_text() == "a picture of one moment"
        assert "DVC shows no experiments" in shown.locator("#experiments").inner_text()


def test_the_chart_follows_the_choice_of_what_is_drawn(page, browser):
    with opened(browser, page) as shown:
        shown.wait_for_selector("#training .chart svg")
        before = shown.locator("#training .chart svg").text_content()
        shown.locator("select[data-column]").select_option("lr")
        shown.wait_for_function(
            "before => document.querySelector('#training .chart svg')?.textContent !== before", arg=before
        )


def test_a_row_has_the_same_colour_wherever_it_is_shown(page, browser):
    with opened(browser, page) as shown:
        first, other, again = shown.evaluate("['a row', 'another', 'a row'].map(colourOf)")
    assert first == again != other


def test_a_live_board_follows_a_run_to_its_end(project, browser):
    key = "feedfacefeedface"
    train_file = next(path for path in wandb_files(project) if of_kind(path, "run")[0].job_type == "train")
    config = read_config(train_file) | {"seed": 7}
    identity: dict[str, Any] = {"row": ROW, "name": f"{ROW}/run7", "job_type": "train", "run_id": f"{key}-7"}
    values = {"train/mpjpe_mm": 90.5, "val/mpjpe_mm": 81.25, "val/p_mpjpe_mm": 60.0, "lr": 0.1, "grad_norm": 1.5}
    with board_server(project, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with opened(browser, f"http://127.0.0.1:{server.server_port}/") as shown:
            assert shown.locator(".tile.running b").inner_text() == "0"
            with (
                FileLock(project / ".work" / f"{key}.lock"),
                start_run(**identity, config=config, folder=project) as tracked,
            ):
                tracked.log({"epoch": 1, **values})
                shown.wait_for_selector(".run", timeout=20000)
                assert "81.2 mm validation" in shown.locator(".run").inner_text()
                assert shown.get_by_role("progressbar").get_attribute("value") == "1"
            shown.wait_for_function("document.querySelector('.tile.finished b').textContent === '3'", timeout=20000)
            assert shown.locator(".run").count() == 0
        server.shutdown()
        thread.join()


def test_the_server_can_be_reached_from_its_own_machine_alone(project):
    with board_server(project, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of DVC with one commit and one experiment, which halves a parameter and with it the metric."""
    root = write_repository(tmp_path_factory.mktemp("repository"))
    run(root, "dvc exp run --quiet --name halved -S datasets.mocap.lr=1.0")
    return root


def test_an_experiment_is_shown_beside_the_commit_that_it_started_from(repository):
    found, complaint = read_experiments(repository)
    assert complaint == ""
    workspace, commit, halved = found
    assert (workspace.name, commit.name, halved.name, halved.baseline) == ("workspace", "main", "halved", "main")
    assert find_differences(commit.params, halved.params) == {"datasets.mocap.lr": (2.0, 1.0)}
    assert find_differences(commit.metrics, halved.metrics) == {f"{ROW} mpjpe_mm": (42.0, 21.0)}
    assert find_differences(workspace.params, halved.params) == {}


def test_two_chosen_experiments_show_what_differs(repository, tmp_path, browser):
    out = tmp_path / "board.html"
    write_board(repository, out)
    with opened(browser, out) as shown:
        lines = shown.locator(".compare tr").all_inner_texts()
        assert [line.split("\t") for line in lines] == [
            ["", "main", "halved", ""],
            ["datasets.mocap.lr", "2", "1", ""],
            [f"{ROW} mpjpe_mm", "42", "21", "−21.00"],
        ]
        assert shown.locator(".compare .better").count() == 1
        shown.locator("select[data-side=A]").select_option("workspace")
        assert "Equal in all" in shown.locator(".compare").inner_text()


def test_a_value_that_only_one_has_differs():
    assert find_differences({"a": 1, "b": 2}, {"b": 2, "c": 3}) == {"a": (1, None), "c": (None, 3)}


def test_an_experiment_is_shown_though_dvc_cannot_read_the_commit_that_it_started_from():
    experiment = Experiment("mine", "2026-12-01T10:00:00", "", "c0ffee0", {"lr": 1}, {f"{ROW} mpjpe_mm": 40.125})
    section = experiments_section([experiment], "")
    assert "<td>mine</td>" in section
    assert "<td>done</td>" in section
    assert "40.12" in section


def test_a_file_that_is_gone_since_it_was_listed_is_no_part_of_the_state(tmp_path):
    (tmp_path / "there").touch()
    assert [path for path, _ in list_modified([tmp_path / "gone", tmp_path / "there"])] == [str(tmp_path / "there")]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--out", "board.html"], "params.yaml: expected the folder of the project, found no such file"),
        (["--port", "0"], "params.yaml: expected the folder of the project, found no such file"),
    ],
)
def test_another_folder_is_refused_in_one_line(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["poselift", "board", *arguments])
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == f"poselift: {complaint}\n"
    assert list(tmp_path.iterdir()) == []
