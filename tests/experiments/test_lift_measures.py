"""What the benchmark says of lifting, for a model that is not trained and clips that are simple."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from experiments.speed import lift_accuracy, lift_speed
from experiments.untrained import untrained_model
from pipeline.lift.input import InputSettings
from pipeline.lift.lifter import SHIPPED, Lifter
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.walker import write_prepared


@pytest.fixture
def lifter(tmp_path, monkeypatch) -> Lifter:
    """An untrained model in place of the shipped one, and a prepared row of the walker in place of its row."""
    write_prepared(tmp_path, with_confidence=True, augmentation={})
    monkeypatch.setattr(lift_speed, "PREPARED", tmp_path)
    monkeypatch.setattr(lift_accuracy, "SHORTEST_CLIP", 10)
    monkeypatch.setattr(lift_accuracy, "LATENCIES", (0, 4))
    torch.manual_seed(0)
    model = untrained_model("rayformer", {"width": 16, "depth": 1, "heads": 2}, frames=9, in_channels=3)
    found = Lifter(model, InputSettings(H36M_17, 3, 30.0, 2.29, 0.25, 0.3), stride=3)
    monkeypatch.setattr(Lifter, "load", lambda: found)
    return found


def test_the_same_keypoints_are_lifted_alike_in_the_layout_of_the_model_and_at_its_rate(lifter, monkeypatch):
    monkeypatch.setattr(lift_accuracy, "RATES_HZ", (30.0, 15.0))
    found = lift_accuracy.measure_lift_accuracy()
    whole_mm = found["poses"]["known_lens"]["mpjpe_mm"]
    assert found["clips"] > 1
    assert found["layouts"]["h36m17"]["from_h36m17_mm"] == 0
    assert found["layouts"]["h36m17"]["mpjpe_mm"] == whole_mm == found["rates"]["30_hz"]["mpjpe_mm"]
    assert found["rates"]["15_hz"]["mpjpe_mm"] != whole_mm


def test_lifting_and_streaming_are_timed(lifter, monkeypatch):
    monkeypatch.setattr(lift_speed, "RATE_HZ", 5)
    found = lift_speed.lift_minutes(1, 2)
    assert (found["people"], found["frames"]) == (2, 300)
    assert lift_speed.stream_frames(4)["median_ms"] > 0


def test_the_takes_that_lifting_is_measured_on_are_those_prepared_for_the_shipped_model():
    stages = yaml.safe_load(Path("experiments/lifter/dvc.yaml").read_text())["stages"]
    assert stages["prepare_lifter"]["outs"] == [str(lift_speed.PREPARED)]
    assert stages["train_lifter"]["outs"] == [str(SHIPPED)]
