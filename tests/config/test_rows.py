"""A row is parsed in one place, and dvc.yaml's list of rows is read as DVC reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.rows import Row, listed_rows, parse_row
from pipeline.system.errors import UserError

REPOSITORY = Path(__file__).parents[2]
WORD = st.from_regex(r"[a-z0-9_]+", fullmatch=True)


def test_a_row_says_dataset_keypoints_frames_and_model():
    assert parse_row("mpi_inf_3dhp-gt-f81-poseformer") == Row("mpi_inf_3dhp", "gt", 81, "poseformer")


@settings(deadline=None, max_examples=30)
@given(row=st.builds(Row, WORD, WORD, st.integers(0, 500).map(lambda half: 2 * half + 1), WORD))
def test_a_row_is_parsed_from_its_own_text(row):
    assert parse_row(str(row)) == row


@pytest.mark.parametrize(
    "text",
    ["", "mocap", "mocap-gt-27-linear", "mocap-gt-f27", "mocap-gt-f27-", "mocap-gt-f2.5-linear", "mocap-gt-f-linear",
     "Mocap-gt-f27-linear", "mocap-gt-f27-linear ", "mocap-gt-f27-linear\n", "mocap-gt-f027-linear",
     "a/b-gt-f27-linear", "mocap-gt-f٢٧-linear"],
)  # fmt: skip
def test_a_text_of_another_form_is_refused(text):
    line = text.replace("\n", " ")
    message = re.escape(
        f"row '{line}': expected <dataset>-<keypoints>-f<frames>-<model>, such as mocap-gt-f27-poseformer"
    )
    with pytest.raises(UserError, match=message):
        parse_row(text)


@pytest.mark.parametrize("frames", [0, 2, 26, -1, -27])
def test_a_window_without_a_middle_frame_is_refused(frames):
    with pytest.raises(UserError, match=rf"^frames: expected an odd number over 0 .*, found {frames}$"):
        parse_row(f"mocap-gt-f{frames}-linear")


def write_dvc_yaml(folder: Path, rows: object) -> Path:
    path = folder / "dvc.yaml"
    path.write_text(yaml.safe_dump({"stages": {"evaluate_5runs": {"matrix": {"row": rows}}}}), encoding="utf-8")
    return path


def test_listed_rows_are_in_order_and_each_once(tmp_path):
    path = write_dvc_yaml(tmp_path, ["${dataset}-gt-f${frames}-linear", "b-gt-f3-linear", "a-gt-f9-linear"])
    assert listed_rows(path, {"dataset": "a", "frames": 9}) == ["a-gt-f9-linear", "b-gt-f3-linear"]


def test_every_row_that_the_project_lists_can_be_parsed():
    selection = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    rows = listed_rows(REPOSITORY / "dvc.yaml", selection)
    assert [str(parse_row(row)) for row in rows] == rows
    assert rows[0] == str(Row(*(selection[key] for key in ("dataset", "keypoints", "frames", "model"))))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "stages.evaluate_5runs.matrix.row"),
        ("stages: {}", "stages.evaluate_5runs.matrix.row"),
        ("stages:\n  evaluate_5runs:\n    matrix: {row: }\n", "stages.evaluate_5runs.matrix.row"),
        ("a: [", "a readable YAML file"),
        ("\0", "a readable YAML file"),
    ],
)
def test_a_file_without_such_a_list_is_named(content, expected, tmp_path):
    path = tmp_path / "dvc.yaml"
    path.write_text(content, encoding="utf-8")
    message = re.escape(f"{path}: expected {expected}, found ")
    with pytest.raises(UserError, match=message + r"[^\n]*\Z"):
        listed_rows(path, {})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"dvc.yaml: expected a YAML file, found no such file"):
        listed_rows(tmp_path / "dvc.yaml", {})


def test_a_row_that_asks_for_an_unknown_name_is_refused(tmp_path):
    path = write_dvc_yaml(tmp_path, ["${data}-gt-f27-linear"])
    with pytest.raises(UserError, match=r"matrix.row, found KeyError: 'data'"):
        listed_rows(path, {"dataset": "mocap"})
