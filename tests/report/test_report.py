"""The table says what the metrics say, and rows that must not be compared do not stand in one table."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.poses.metrics import METRIC_TITLES
from pipeline.poses.skeleton import H36M_17
from pipeline.report.stage import readme_with_results, report
from pipeline.system.errors import UserError
from tests.fixtures.row_metrics import row_metrics_json

REPOSITORY = Path(__file__).parents[2]
ROWS = ("mocap-gt-f27-rayformer", "mocap-det-f9-linear")


def metrics_of(row: str, *, number: int = 1, runs: int = 3, **protocol: Any) -> dict[str, Any]:
    """Returns made-up metrics of a row, as JSON; the numbers of no two rows are alike."""
    runs_mm = [37.123456 * number + 0.543219 * run**2 for run in range(runs)]
    return row_metrics_json(row, runs_mm, clips=10 * number, scored=100 * number, **protocol)


def write_other_files(folder: Path, row: str) -> None:
    """Writes the files of a row beside its metrics: curves, distribution, clips and manifest."""
    pose_mm = np.arange(2 * 17 * 3).reshape(2, 17, 3).tolist()
    clip = {"rank": "worst", "clip": "take/cam/0", "subject": "S", "action": "walking", "camera": "cam"}
    clip |= {"mpjpe_mm": 31.25, "scored_frames": 2, "rate_hz": 15.0, "rate_known": True, "error_mm": [30.0, 32.5]}
    clip |= {"predicted_mm": pose_mm, "true_mm": pose_mm}
    frames = {"counts": [3, 4], "beyond": 1, "quantiles": {"0.5": 30.0}}
    run = {"frame_mpjpe_mm": frames, "joint_error_mm": {"Hip": frames}}
    distributions = {"row": row, "edges_mm": [0.0, 5.0, 10.0], "frames": "all scored frames alike", "runs": {"0": run}}
    scenes = {"row": row, "seed": 0, "chosen": "by lot", "skeleton": H36M_17.name, "clips": [clip]}
    files = {
        f"reports/distributions/{row}.json": distributions,
        f"reports/scenes/{row}.json": scenes,
        f"prepared/{row}/manifest.json": {
            "splits": {"test": {"takes": 1, "clips": 4, "frames": 4321}},
            "dropped_frames": {"total": 7},
            "sha256": {"test/pixels.npy": "0123abcd"},
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    curves = folder / "reports" / "learning_curves" / f"{row}.csv"
    curves.parent.mkdir(parents=True, exist_ok=True)
    curves.write_text("run,epoch,train_mpjpe_mm,val_mpjpe_mm\n0,1,90.5,80.25\n1,1,91.5,84.25\n", encoding="utf-8")


def write_project(folder: Path, results: Sequence[dict[str, Any]], rows: Sequence[str]) -> None:
    """The files that the stage reads; `rows` is the list in dvc.yaml."""
    (folder / "reports" / "metrics").mkdir(parents=True)
    for result in results:
        (folder / "reports" / "metrics" / f"{result['row']}.json").write_text(json.dumps(result), encoding="utf-8")
        write_other_files(folder, result["row"])
    content = {"stages": {"evaluate_5runs": {"matrix": {"row": list(rows)}}}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for file in ("params.yaml", "reports/published.csv"):
        (folder / file).write_text((REPOSITORY / file).read_text(encoding="utf-8"), encoding="utf-8")


def reported(folder: Path) -> str:
    report(
        params_path=folder / "params.yaml",
        dvc_yaml=folder / "dvc.yaml",
        reports=folder / "reports",
        prepared=folder / "prepared",
    )
    return (folder / "reports" / "results.md").read_text(encoding="utf-8")


def tables(markdown: str) -> list[list[list[str]]]:
    """Returns the cells of every table, its header first."""
    found: list[list[list[str]]] = [[]]
    for line in markdown.splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1] and not line.startswith("|-"):
            found.append([])
    return [table for table in found if table]


def shown(value: dict[str, Any]) -> str:
    if value["mean"] is None:
        return "–"
    return f"{value['mean']:.2f}" + (f" ± {value['std']:.2f}" if value["std"] is not None else "")


@pytest.fixture
def results() -> list[dict[str, Any]]:
    """Two rows that may stand in one table."""
    return [metrics_of(row, number=number) for number, row in enumerate(ROWS, 1)]


def test_the_tables_hold_the_numbers_of_the_metrics(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    text = reported(tmp_path)
    assert "\nErrors in mm, MPJVE in mm per frame; " in text
    headline, per_action, published, _ = tables(text)
    assert headline[0] == ["dataset", "2D", "frames", "model", "runs", "MPJPE", "P-MPJPE", "N-MPJPE", "MPJVE"]
    assert headline[1][:5] == ["mocap", "gt", "27", "rayformer", "3"]
    assert headline[2][:5] == ["mocap", "det", "9", "linear", "3"]
    assert per_action[0] == ["row", "jumping", "walking"]
    for number, result in enumerate(results, 1):
        assert headline[number][5:] == [shown(result[metric]) for metric in METRIC_TITLES]
        assert per_action[number][1:] == [shown(result["per_action"][a]["mpjpe_mm"]) for a in ("jumping", "walking")]
    assert published[0][0] == "method"


def test_the_csv_holds_the_same_numbers_to_four_places(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    reported(tmp_path)
    with (tmp_path / "reports" / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == list(ROWS)
    for line, result in zip(lines, results, strict=True):
        assert line["runs"] == "3"
        for metric in METRIC_TITLES:
            assert float(line[metric]) == pytest.approx(result[metric]["mean"], abs=5e-5)
            assert float(line[f"{metric}_std"]) == pytest.approx(result[metric]["std"], abs=5e-5)


def test_one_run_has_no_spread_and_what_was_not_measured_is_a_dash(tmp_path):
    (result,) = [metrics_of(ROWS[0], runs=1)]
    result["mpjve_mm"] = {"mean": None, "std": None, "runs": [None]}
    write_project(tmp_path, [result], ROWS[:1])
    (line,) = tables(reported(tmp_path))[0][1:]
    assert line[4:6] == ["1", "37.12"]
    assert line[-1] == "–"
    csv_line = (tmp_path / "reports" / "results.csv").read_text(encoding="utf-8").splitlines()[1]
    assert csv_line.endswith(",,")
    assert "None" not in csv_line


@pytest.mark.parametrize(
    "other", [{"flip_averaging": False}, {"target": "other joints"}, {"rate_hz": [50.0]}, {"pck": "not in the first"}]
)
def test_rows_of_different_protocols_stand_in_different_tables(other, results, tmp_path):
    results[1]["protocol"] |= other
    write_project(tmp_path, results, ROWS)
    markdown = reported(tmp_path)
    first, _, second, *_ = tables(markdown)
    assert [line[3] for line in first[1:]] == ["rayformer"]
    assert [line[3] for line in second[1:]] == ["linear"]
    assert markdown.count("Protocol:") == 2


def test_the_protocol_is_printed_but_not_what_names_a_row(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    markdown = reported(tmp_path)
    for line in ("- flip averaging: yes", "- rate hz: 30", "- excluded takes: none", "- target: 17 joints"):
        assert line in markdown.splitlines()
    for key in ("scored:", "clips:", "seeds:", "keypoints:"):
        assert f"- {key}" not in markdown


def test_rows_stand_in_the_order_of_the_list_each_once(results, tmp_path):
    selected = "${dataset}-${keypoints}-f${frames}-${model}"
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    own = "-".join([params["dataset"], params["keypoints"], f"f{params['frames']}", params["model"]])
    results = [metrics_of("mocap-det-f9-linear"), metrics_of(own, number=2)]
    write_project(tmp_path, results, ["mocap-det-f9-linear", selected, own])
    headline = tables(reported(tmp_path))[0]
    assert [line[1] for line in headline[1:]] == ["det", params["keypoints"]]


def test_published_figures_are_kept_apart_and_marked_as_those_of_others(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    markdown = reported(tmp_path)
    ours, theirs = markdown.split("## Published by others")
    assert "not to be compared" in theirs
    with (tmp_path / "reports" / "published.csv").open(newline="", encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    lines = [cells for table in tables(theirs) for cells in table[1:]]
    assert len(lines) == len(published)
    for cells, line in zip(lines, published, strict=True):
        assert line["method"] == cells[0]
        assert line["mpjpe_mm"] == cells[4].split(" ± ")[0]
        assert [line["source"], line["checked"]] == cells[-2:]
        assert all(cells)
        assert line["method"] not in ours or line["method"] in ROWS
    assert not any(line["mpjpe_mm"] in (tmp_path / "reports" / "results.csv").read_text() for line in published)


def test_published_figures_of_another_protocol_have_a_table_of_their_own(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    theirs = reported(tmp_path).split("## Published by others")[1]
    camera, image = tables(theirs)
    assert {cells[2] for cells in image[1:]} == {"SH with confidence"}
    assert "SH with confidence" not in {cells[2] for cells in camera[1:]}
    page = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    for text in (theirs, page):
        assert "a target and not a reproduction" in text
        assert text.index("KTPFormer") < text.index("Another protocol, not to be compared") < text.index("MotionBERT")


def test_published_figures_of_an_unknown_protocol_are_refused(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    path = tmp_path / "reports" / "published.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("image,MotionBERT", "2.5D,MotionBERT"), encoding="utf-8")
    with pytest.raises(UserError, match=r"published\.csv: protocol of MotionBERT: expected one of camera, image, "):
        reported(tmp_path)


def test_the_figure_is_a_picture_and_the_same_again(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    reported(tmp_path)
    path = tmp_path / "reports" / "figures" / "per_action.png"
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    reported(tmp_path)
    assert path.read_bytes() == first


def test_rows_with_other_actions_stand_in_one_figure(results, tmp_path):
    del results[1]["per_action"]["walking"]
    results[1]["protocol"]["target"] = "other joints"
    write_project(tmp_path, results, ROWS)
    assert tables(reported(tmp_path))[3][0] == ["row", "jumping"]


def test_a_row_without_an_action_of_its_table_has_a_dash_there(results, tmp_path):
    results[0]["per_action"].pop("walking")
    write_project(tmp_path, results, ROWS)
    per_action = tables(reported(tmp_path))[1]
    assert per_action[0] == ["row", "jumping", "walking"]
    assert per_action[1][2] == "–"
    assert re.match(r"\d", per_action[2][2])


def test_a_listed_row_without_metrics_is_refused_by_name(results, tmp_path):
    write_project(tmp_path, results[:1], ROWS)
    with pytest.raises(
        UserError, match=r"metrics/mocap-det-f9-linear\.json: expected the metrics of a row, found FileNot"
    ):
        reported(tmp_path)
    assert not (tmp_path / "reports" / "results.md").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "expected the metrics of a row, found "), ("{", "expected the metrics of a row, found "),
     ("7", "content: expected .*, found 7"), ("{}", "row: expected a value, found none")],
)  # fmt: skip
def test_damaged_metrics_are_refused_by_name(text, complaint, results, tmp_path):
    write_project(tmp_path, results, ROWS)
    (tmp_path / "reports" / "metrics" / f"{ROWS[0]}.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"{ROWS[0]}\.json: {complaint}"):
        reported(tmp_path)


def test_missing_published_figures_are_refused(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    (tmp_path / "reports" / "published.csv").unlink()
    with pytest.raises(UserError, match=r"published\.csv: expected the published results, found FileNotFoundError"):
        reported(tmp_path)


def test_published_figures_without_a_column_are_refused(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    (tmp_path / "reports" / "published.csv").write_text("method,source\nsomebody,2020\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"published\.csv: expected the columns protocol, method, .*, found method, source$"
    ):
        reported(tmp_path)


def test_a_list_of_rows_that_is_not_there_is_refused(results, tmp_path):
    write_project(tmp_path, results, ROWS)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc\.yaml: expected stages\.evaluate_5runs\.matrix\.row, found KeyError"):
        reported(tmp_path)


def test_the_committed_readme_shows_the_committed_table():
    def committed(path: str) -> str:
        shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=REPOSITORY, capture_output=True, check=True)
        return shown.stdout.decode("utf-8")

    readme = committed("README.md")  # the workspace's table may be of another experiment
    assert readme_with_results(readme, committed("reports/results.md")) == readme


def test_a_readme_without_a_place_for_the_table_is_refused():
    with pytest.raises(UserError, match=r"^README\.md: expected the markers .* once each$"):
        readme_with_results("# Poselift\n", "# Results\n")
