"""Scores under other conditions are those of evaluate_5runs, and the page says what the records hold."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from experiments.generalisation.conditions import Condition, View, cut_excerpts, film_excerpts
from experiments.generalisation.factors import FACTORS
from experiments.generalisation.measure import generalise, score_clips, score_settings
from experiments.generalisation.report import generalisation_report, settings_in_order
from pipeline.config.params import load_params, recipe_for
from pipeline.config.rows import parse_row
from pipeline.evaluate_5runs.stage import score_checkpoints
from pipeline.poses.checkpoint import load_checkpoint
from pipeline.poses.clips import write_split
from pipeline.prepare_data.cmu_mocap import read_takes
from pipeline.system.errors import UserError
from pipeline.system.files import write_json
from tests.fixtures.four_stages import SEEDS, four_stages, write_params
from tests.fixtures.tiny_archive import VALIDATION_TAKE

ROWS = ("cmu-gt-f9-linear", "cmu-det-f9-rayformer")
LEVEL = {"cmu-gt-f9-linear": None, "cmu-det-f9-rayformer": 1.3}


@pytest.fixture(scope="module")
def trained(tiny_raw, tmp_path_factory) -> Path:
    """A folder with two rows prepared, trained and scored, and their records under other conditions."""
    folder = tmp_path_factory.mktemp("trained")
    for row in ROWS:
        four_stages(row, folder, raw_folder=tiny_raw, validation_takes=[VALIDATION_TAKE])
        params = write_params(folder, row, validation_takes=[VALIDATION_TAKE])
        out = folder / "generalisation" / "results"
        generalise(row, raw=tiny_raw, checkpoints=folder / "checkpoints", params_path=params, out=out)
    return folder


def record_of(trained: Path, row: str) -> dict:
    return json.loads((trained / "generalisation" / "results" / f"{row}.json").read_text(encoding="utf-8"))


def setting(record: dict, factor: str, label: str) -> dict:
    return next(point for point in record["factors"][factor]["settings"] if point["setting"] == label)


@pytest.mark.parametrize("row", ROWS)
def test_a_setting_scores_its_clips_as_evaluate_5runs_does(trained, tiny_raw, tmp_path, row):
    condition = Condition(rate_hz=30.0, shown_hz=30.0, level=LEVEL[row])
    takes = [take for take in read_takes(tiny_raw / "cmu_mocap") if take.split == "test"]
    chosen = cut_excerpts(takes, {View()}, rate_hz=30.0, per_action=5)
    clips = film_excerpts(chosen, condition, trained_hz=30.0)
    write_split(tmp_path / "test", clips)
    shutil.copy(trained / "prepared" / row / "evaluation.json", tmp_path)
    folder = trained / "checkpoints" / row / "run0"
    expected = score_checkpoints(tmp_path, [folder], seeds=None).metrics
    recipe = recipe_for(parse_row(row), load_params(trained / "params.yaml"), where="params.yaml")
    found = score_clips(*load_checkpoint(folder, device=torch.device("cpu")), clips, recipe)
    for metric in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm"):
        assert found[metric] == pytest.approx(expected.by_name()[metric].mean, rel=1e-6)
    for action, error_mm in found["per_action"].items():
        assert error_mm == pytest.approx(expected.per_action[action].mpjpe_mm.mean, rel=1e-6)


@pytest.mark.parametrize("row", ROWS)
def test_every_factor_has_the_trained_condition_among_its_settings(row):
    trained = Condition(rate_hz=30.0, shown_hz=30.0, level=LEVEL[row])
    for name, factor in FACTORS.items():
        settings = factor.settings(trained)
        curves = {one.curve for one in settings}
        assert {one.curve for one in settings if one.condition == trained} == curves, name
        labels = [(one.curve, one.label) for one in settings]
        assert len(set(labels)) == len(labels), name


def test_the_trained_level_is_a_setting_whatever_it_is():
    levels = FACTORS["detector"].settings(Condition(rate_hz=30.0, shown_hz=30.0, level=1.15))
    assert [one.label for one in levels] == ["0", "0.5", "1", "1.15", "1.3", "1.6", "2"]


def test_all_settings_of_a_factor_have_the_same_frames_and_every_run(trained):
    for row in ROWS:
        record = record_of(trained, row)
        assert list(record["factors"]) == list(FACTORS)
        for factor in record["factors"].values():
            assert factor["frames"] > 0
            assert all(len(point["mpjpe_mm"]["runs"]) == len(SEEDS) for point in factor["settings"])


def test_a_condition_that_changes_nothing_changes_no_score(trained):
    record = record_of(trained, ROWS[1])
    for name in ("detector", "missing", "rate", "length"):  # of one view, so of the same frames
        basis = [point["mpjpe_mm"] for point in record["factors"][name]["settings"] if point["trained"]]
        assert all(value == setting(record, "detector", "1.3")["mpjpe_mm"] for value in basis)


def test_a_setting_scores_the_same_without_the_others(trained, tiny_raw):
    row = ROWS[1]
    trained_condition = Condition(rate_hz=30.0, shown_hz=30.0, level=1.3)
    folders = [trained / "checkpoints" / row / f"run{seed}" for seed in SEEDS]
    runs = [load_checkpoint(folder, device=torch.device("cpu")) for folder in folders]
    recipe = recipe_for(parse_row(row), load_params(trained / "params.yaml"), where="params.yaml")
    takes = [take for take in read_takes(tiny_raw / "cmu_mocap") if take.split == "test"]
    alone = [one for one in FACTORS["detector"].settings(trained_condition) if one.label == "2"]
    again = score_settings(alone, trained_condition, runs, takes, recipe)
    assert again["settings"][0] == setting(record_of(trained, row), "detector", "2")


def test_rows_of_video_are_refused(tmp_path):
    params = write_params(tmp_path, "cmu-gt-f9-linear")
    with pytest.raises(UserError, match="row: expected cmu-gt or cmu-det, which can be filmed anew, found 'h36m-gt-f9"):
        generalise("h36m-gt-f9-linear", raw=tmp_path, checkpoints=tmp_path, params_path=params, out=tmp_path)


def test_a_rate_without_the_scored_instants_is_refused(tmp_path):
    params = write_params(tmp_path, "cmu-gt-f9-linear", rate_hz=24)
    with pytest.raises(UserError, match=r"datasets.cmu.rate_hz: expected a multiple of 5 Hz, found 24"):
        generalise("cmu-gt-f9-linear", raw=tmp_path, checkpoints=tmp_path, params_path=params, out=tmp_path)


def test_a_run_of_another_row_is_refused(trained, tiny_raw, tmp_path):
    shutil.copytree(trained / "checkpoints" / ROWS[0] / "run0", tmp_path / "cmu-gt-f3-linear" / "run0")
    params = write_params(tmp_path, "cmu-gt-f3-linear")
    with pytest.raises(UserError, match="expected run 0 of cmu-gt-f3-linear, found run 0 of cmu-gt-f9-linear"):
        generalise("cmu-gt-f3-linear", raw=tiny_raw, checkpoints=tmp_path, params_path=params, out=tmp_path)


@pytest.fixture(scope="module")
def page(trained) -> str:
    folder = trained / "generalisation"
    generalisation_report(ROWS, results=folder / "results", reports=trained / "reports", out=folder)
    return read_unpadded(folder / "README.md")


def read_unpadded(path: Path) -> str:
    """Returns a page without the spaces that align the cells of its tables."""
    return re.sub(" +", " ", path.read_text(encoding="utf-8"))


def test_the_page_shows_every_factor_with_its_figure_and_its_numbers(trained, page):
    for row in ROWS:
        for name, factor in record_of(trained, row)["factors"].items():
            assert f"(figures/{name}.svg)" in page
            for point in factor["settings"]:
                assert f"{point['mpjpe_mm']['mean']:.1f} ± {point['mpjpe_mm']['std']:.1f}" in page


def test_every_figure_of_the_page_is_there_and_is_drawn(trained, page):
    figures = {path.name for path in (trained / "generalisation" / "figures").iterdir()}
    assert figures == {part.split(")")[0] for part in page.split("(figures/")[1:]}
    for name in figures:
        assert ElementTree.parse(trained / "generalisation" / "figures" / name).getroot().tag.endswith("svg")


def test_the_aims_are_rises_of_the_record(trained, page):
    record = record_of(trained, ROWS[1])
    before, after = (setting(record, "detector", level)["mpjpe_mm"]["mean"] for level in ("1", "1.6"))
    rise = after / before - 1
    verdict = "met" if rise < 0.1 else "missed"
    assert f"| {before:.1f} | {after:.1f} | {100 * rise:+.1f} % | {verdict} |" in page


def test_a_setting_of_two_curves_stands_once_on_the_axis(trained):
    measured = {row: record_of(trained, row) for row in ROWS}
    assert settings_in_order("missing", measured) == ["0", "5", "10", "20"]
    assert settings_in_order("detector", measured) == ["exact", "0", "0.5", "1", "1.3", "1.6", "2"]
    assert settings_in_order("length", measured)[-1] == "all"


def test_five_rows_of_the_same_keypoints_are_all_drawn_in_colours_of_their_own_and_told_apart(trained, page, tmp_path):
    rows = [f"cmu-det-f{frames}-rayformer" for frames in (3, 5, 7, 9, 11)]
    for row in rows:
        write_json(tmp_path / "results" / f"{row}.json", record_of(trained, ROWS[1]))
        metrics = json.loads((trained / "reports" / "metrics" / f"{ROWS[1]}.json").read_text(encoding="utf-8"))
        write_json(tmp_path / "reports" / "metrics" / f"{row}.json", metrics)
    generalisation_report(rows, results=tmp_path / "results", reports=tmp_path / "reports", out=tmp_path / "out")
    written = read_unpadded(tmp_path / "out" / "README.md")
    for row in rows:
        assert written.count(f"| {row.removeprefix('cmu-')} |") == page.count(f"| {ROWS[1].removeprefix('cmu-')} |") > 0
    drawn = (tmp_path / "out" / "figures" / "detector.svg").read_text(encoding="utf-8")
    assert all(colour in drawn for colour in ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"))


def test_the_page_is_the_same_when_written_again(trained, page):
    folder = trained / "generalisation"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    generalisation_report(ROWS, results=folder / "results", reports=trained / "reports", out=folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_row_without_a_record_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"linear.json: expected the record of a row, found FileNotFoundError"):
        generalisation_report(ROWS[:1], results=tmp_path, reports=tmp_path, out=tmp_path)


def test_a_record_of_other_factors_is_refused(trained, tmp_path):
    record = record_of(trained, ROWS[0])
    del record["factors"]["roll"]
    write_json(tmp_path / f"{ROWS[0]}.json", record)
    with pytest.raises(UserError, match=r"expected the factors detector, missing, .* in every row, found"):
        generalisation_report(ROWS[:1], results=tmp_path, reports=trained / "reports", out=tmp_path)
