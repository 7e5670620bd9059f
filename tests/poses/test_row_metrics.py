"""The schema of a row's files reads what is committed without losing anything, and names what is wrong in others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.evaluate_5runs.example_clips import compact_json
from pipeline.poses.row_metrics import (
    ExampleClips,
    MeanStd,
    RowDistributions,
    RowMetrics,
    describe_value,
    mean_over_runs,
    mean_std,
    read_json_as,
    read_row_metrics,
    shared_protocol,
)
from pipeline.system.errors import UserError
from pipeline.system.files import write_json
from tests.fixtures.row_metrics import make_protocol, row_metrics_json

PROJECT = Path(__file__).parents[2]
ROW = "mocap-gt-f27-rayformer"
METRICS_FILES = sorted((PROJECT / "reports" / "metrics").glob("*.json")) + sorted(
    (PROJECT / "experiments").glob("**/results/metrics/*.json")
)


def test_metrics_read_and_written_again_are_the_same_bytes(tmp_path):
    assert METRICS_FILES
    for path in METRICS_FILES:
        write_json(tmp_path / path.name, read_row_metrics(path).model_dump(exclude_unset=True))
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(
    ("folder", "kind", "to_text"),
    [
        ("distributions", RowDistributions, lambda record: json.dumps(record.model_dump(), indent=2) + "\n"),
        ("scenes", ExampleClips, compact_json),
    ],
)
def test_distributions_and_clips_read_and_written_again_are_the_same_bytes(folder, kind, to_text):
    for path in (PROJECT / "reports" / folder).glob("*.json"):
        assert to_text(read_json_as(kind, path, "a record")) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("key", RowMetrics.model_fields)
def test_metrics_without_a_part_are_refused_by_its_name(key, tmp_path):
    content = row_metrics_json(ROW)
    if content.pop(key, None) is None:
        assert key in ("pck150", "auc")  # which only some datasets have
        return
    write_json(tmp_path / "row.json", content)
    with pytest.raises(UserError, match=rf"row\.json: {key}: expected a value, found none$"):
        read_row_metrics(tmp_path / "row.json")


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("mpjpe_mm", "mean"), "34", r"mpjpe_mm\.mean: expected a valid number, found '34'"),
        (("mpjpe_mm", "mean"), float("nan"), r"mpjpe_mm\.mean: expected a finite number, found nan"),
        (("protocol", "split"), "train", r"protocol\.split: expected 'test', found 'train'"),
        (("protocol", "seeds"), [0.5], r"protocol\.seeds\.0: expected a valid integer, found 0\.5"),
        (("per_action", "walking"), [], r"per_action\.walking: expected "),
        (("surprise",), 1, r"surprise: unknown key, found value 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_file_and_key(path, value, complaint, tmp_path):
    content = place = row_metrics_json(ROW)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "row.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=rf"row\.json: {complaint}"):
        read_row_metrics(tmp_path / "row.json")


def test_runs_have_a_sample_deviation_and_one_run_has_none():
    assert (mean_std([1.0, 2.0, 6.0]).mean, mean_std([1.0, 2.0, 6.0]).std) == (3.0, pytest.approx(7.0**0.5))
    assert mean_std([1.0, 3.0]).std == pytest.approx(2.0**0.5)
    assert mean_std([4.5]) == MeanStd(mean=4.5, std=None, runs=(4.5,))
    with pytest.raises(ValueError, match="at least one run, found none"):
        mean_std([])


def test_each_number_of_the_runs_is_averaged_under_its_name():
    means = mean_over_runs([{"a": 1.0, "b": None}, {"a": 3.0, "b": None}])
    assert means["a"].mean == 2.0
    assert means["b"] == MeanStd(mean=None, std=None, runs=(None, None))


def test_a_table_shares_its_protocol_but_what_rows_may_differ_in():
    first = make_protocol(ROW, clips=3, scored=30, seeds=(0,))
    assert shared_protocol(first) == shared_protocol(make_protocol("mocap-det-f9-linear", clips=4))
    assert shared_protocol(first) != shared_protocol(make_protocol(ROW, flip_averaging=False))
    assert shared_protocol(first) != shared_protocol(make_protocol(ROW, pck="share of 14 joints"))


@pytest.mark.parametrize(
    ("value", "words"), [(True, "yes"), (False, "no"), ((30.0, "unknown"), "30, unknown"), ((), "none"), (17, "17")]
)
def test_values_of_a_protocol_are_words(value, words):
    assert describe_value(value) == words
