"""The page shows the metrics' numbers and plays clips in a real browser, and asks the network for nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.system.errors import UserError
from pipeline.visualization.charts import distribution, group_errors, run_curves
from tests.fixtures.browser import PHONE, opened
from tests.report.test_report import ROWS, metrics_of, reported, shown, write_project

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two rows of one protocol, reported."""
    made = tmp_path_factory.mktemp("reported")
    write_project(made, [metrics_of(row, number=number) for number, row in enumerate(ROWS, 1)], ROWS)
    reported(made)
    return made


@pytest.mark.parametrize(("scheme", "viewport"), [("light", None), ("dark", PHONE)])
def test_the_page_draws_every_chart_and_clip_within_its_width(scheme, viewport, folder, browser):
    with opened(browser, folder / "reports" / "index.html", scheme=scheme, viewport=viewport) as page:
        page.wait_for_function("document.querySelectorAll('.chart svg').length === 5")
        assert page.locator(".poselift-viewer canvas").count() >= len(ROWS)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 23)"
        assert dark == (scheme == "dark")


def test_the_page_holds_the_numbers_of_the_metrics_and_the_manifest(folder):
    text = (folder / "reports" / "index.html").read_text(encoding="utf-8")
    for number, row in enumerate(ROWS, 1):
        result = metrics_of(row, number=number)
        assert f"<td>{shown(result['mpjpe_mm'])}</td>" in text
    for part in ("<td>4,321</td>", "0123abcd", "Dropped frames: 7.", "by lot", "another dataset than the embedded one"):
        assert part in text


def test_the_same_input_gives_the_same_page(folder):
    page = folder / "reports" / "index.html"
    before = page.read_bytes()
    reported(folder)
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reports/distributions/{}.json", "expected error distributions, found JSONDecodeError"),
        ("reports/scenes/{}.json", "expected example clips, found JSONDecodeError"),
        ("prepared/{}/manifest.json", "expected the manifest of prepared data, found JSONDecodeError"),
        ("reports/learning_curves/{}.csv", "expected learning curves, found KeyError"),
    ],
)
def test_a_damaged_file_of_a_row_is_refused_by_name(name, message, tmp_path):
    write_project(tmp_path, [metrics_of(ROWS[0])], ROWS[:1])
    path = tmp_path / name.format(ROWS[0])
    path.write_text("run\n1\n" if path.suffix == ".csv" else "{", encoding="utf-8")
    with pytest.raises(UserError, match=f"{path.name}: {message}"):
        reported(tmp_path)


def test_plots_of_dvc_open_without_a_network(tmp_path, browser):
    made = tmp_path / "plots"
    subprocess.run(["dvc", "plots", "show", "-q", "-o", str(made)], cwd=REPOSITORY, check=True, env=_environment())
    with opened(browser, made / "index.html") as page:
        page.wait_for_selector(".vega-embed canvas, .vega-embed svg")


def _environment() -> dict[str, str]:
    """So that the `dvc` of this Python is found."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_charts_hold_the_data_and_leave_out_what_is_unknown():
    means = {"row": {"a": {"mean": 2.0, "std": None}, "b": {"mean": None, "std": None}, "c": {"mean": 5.0, "std": 1.0}}}
    spec = group_errors(means, title="mm")
    assert [(v["group"], v["low"], v["high"]) for v in spec["data"]["values"]] == [("a", 2, 2), ("c", 4, 6)]
    assert spec["encoding"]["y"]["sort"] == ["c", "a"]
    records = [{"run": 0, "epoch": 1, "val": None}, {"run": 0, "epoch": 2, "val": 3.0}]
    values = run_curves({"row": records}, columns=["val"])["data"]["values"]
    assert values == [{"row": "row", "run": 0, "epoch": 1}, {"row": "row", "run": 0, "epoch": 2, "val": 3.0}]
    shares = distribution({"row": [1, 2]}, edges_mm=(0.0, 5.0, 10.0), beyond={"row": 1})
    assert [v["share"] for v in shares["data"]["values"]] == [25, 50]
