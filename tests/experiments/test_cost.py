"""What a run costs is counted per step and row, with the same data for rows that learn from the same."""

from __future__ import annotations

import json

import pytest

from experiments.comparisons import cost as stage
from experiments.comparisons.cost import training_cost
from pipeline.system.errors import UserError
from tests.fixtures.walker import write_prepared


def test_a_run_costs_its_steps_times_the_time_of_one(tmp_path):
    for row, model, epochs in (("a", "rayformer", 2), ("b", "poseformer", 3)):
        write_prepared(tmp_path / row, model=model, epochs=epochs)
    training_cost(["a", "b"], prepared=tmp_path, out=tmp_path / "cost.json")
    cost = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
    assert list(cost) == ["a", "b"]
    assert [cost[row]["steps"] for row in cost] == [2 * 3, 3 * 3]  # 24 windows an epoch, 8 a step
    for one in cost.values():
        assert one["windows"] == 8 * one["steps"]
        assert one["cpu_s_per_run"] == pytest.approx(one["cpu_s_per_step"] * one["steps"], abs=0.1)


def test_data_are_read_once_for_rows_that_share_them(tmp_path, monkeypatch):
    for row, changes in (("a", {}), ("b", {"lr": 0.1}), ("c", {"action_balance": 0.0})):
        write_prepared(tmp_path / row, **changes)
    read, original = [], stage.read_data

    def noted(folder, *arguments, **options):
        read.append(folder.name)
        return original(folder, *arguments, **options)

    monkeypatch.setattr(stage, "read_data", noted)
    training_cost(["a", "b", "c"], prepared=tmp_path, out=tmp_path / "cost.json")
    assert read == ["a", "c"]


def test_a_row_that_is_not_prepared_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a/training\.json: expected a YAML file, found no such file"):
        training_cost(["a"], prepared=tmp_path, out=tmp_path / "cost.json")
