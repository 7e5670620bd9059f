"""What the benchmark counts and compares: operations, turns, and that its yardstick is the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.speed import machine, networks, scaling
from experiments.speed.bench import bench, page
from experiments.speed.literal_poseformer import make_literal, predict_clip
from pipeline.config.params import Params, load_params
from pipeline.poses.predict import TrainedModel
from pipeline.system.errors import UserError

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(REPOSITORY / "params.yaml").model_copy(update={"device": "cpu"})


@pytest.fixture
def twins(params) -> tuple[TrainedModel, TrainedModel]:
    """The literal PoseFormer and ours with the same weights, of which none is zero."""
    ours = networks.new_model("poseformer", params, frames=9)
    for weight in ours.network.parameters():
        weight.data.add_(0.02 * torch.randn_like(weight))
    return make_literal(ours), ours


def poseformer_operations(frames: int, joints: int, width: int, depth: int) -> int:
    """Two per multiply and add: linear layers 8 w^2 a token and block, attention 2 n w a token, ends."""

    def stack(tokens: int, length: int, size: int) -> int:
        return 2 * depth * tokens * (8 * size**2 + 2 * length * size)

    wide = joints * width
    ends = 2 * frames * joints * 2 * width + 2 * frames * wide + 2 * wide * 3 * joints
    return stack(frames * joints, joints, width) + stack(frames, frames, wide) + ends


@pytest.mark.parametrize("name", ["poseformer", networks.LITERAL])
@pytest.mark.parametrize("frames", [9, 27, 81])
def test_operations_are_those_of_the_closed_form_in_both_poseformers(frames, name, params):
    network = networks.new_model(name, params, frames=frames).network.to("meta")
    example = torch.zeros(1, frames, 17, 2, device="meta")
    assert machine.count_operations(lambda: network(example)) == poseformer_operations(frames, 17, 32, 4)


def test_the_backward_pass_of_a_linear_layer_costs_twice_its_forward_pass():
    layer, tokens = nn.Linear(5, 7), torch.zeros(11, 5, requires_grad=True)
    assert machine.count_operations(lambda: layer(tokens).sum().backward()) == 3 * 2 * 11 * 5 * 7


def test_cases_take_turns_and_the_first_turn_is_not_counted():
    order: list[str] = []
    cases = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    fastest = machine.fastest_s(cases, turns=3)
    assert order == ["a", "b"] * 4
    assert all(0 < seconds < 1 for seconds in fastest.values())


@pytest.mark.parametrize(
    ("machine_is", "name"),
    [
        ({"card": None, "processor": "AMD EPYC (x)", "cores": 2}, "amd-epyc-x-2-cores"),
        ({"card": "NVIDIA H200", "processor": "?", "cores": 16}, "nvidia-h200"),
    ],
)
def test_a_report_is_called_after_the_card_or_else_the_processor(machine_is, name):
    assert machine.file_name(machine_is) == name


@pytest.mark.parametrize("batch_windows", [1, 7, 20])
def test_the_literal_loop_and_the_shared_features_predict_the_same_clip(batch_windows, twins):
    literal, ours = twins
    clip = networks.random_table(20, CPU)
    expected_m = predict_clip(literal, clip.screen, batch_windows=batch_windows)
    torch.testing.assert_close(ours.predict(clip, flip_averaging=True), expected_m, rtol=0, atol=1e-5)
    assert expected_m.std() > 0.1


def test_both_poseformers_have_the_same_gradient(twins):
    literal, ours = (model.network for model in twins)
    screen = torch.rand(3, 9, 17, 2)
    for model in (literal, ours):
        model.eval()
        model(screen).norm().backward()
    others = dict(literal.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, others[name].grad, rtol=1e-3, atol=1e-4)


def test_the_speed_of_steps_is_that_of_the_frames_that_they_predict(params, monkeypatch):
    monkeypatch.setattr(networks, "TABLE_FRAMES", 1500)
    found = networks.measure_steps(("poseformer", "rayformer"), params, frames=3, turns=1, batch_windows=40)
    assert [(step["model"], step["parts"]) for step in found] == [("poseformer", 2), ("rayformer", 1)]
    for step, predicted in zip(found, (40, 3 * 40), strict=True):
        assert step["predicted_frames_per_s"] * step["step_ms"] / 1000 == pytest.approx(predicted)
        assert 0 < step["percent_of_peak"] < step["percent_of_peak_with_optimizer"] + 1e-9 < 100


@pytest.mark.parametrize("frames", [999, 1000, 17001])
def test_a_random_table_has_exactly_so_many_frames_in_clips_of_a_thousand(frames):
    table = networks.random_table(frames, CPU)
    lengths = table.clip_last - table.clip_first + 1
    assert len(table) == lengths.sum() == frames
    assert (lengths[:-1] == 1000).all()


def test_a_part_that_is_not_measured_is_refused(params, tmp_path):
    with pytest.raises(
        UserError,
        match="only: expected one of lift_accuracy, lift_speed, models, scaling, epochs, video, found 'tracking'",
    ):
        list(bench(tmp_path, params, only="tracking"))


def test_the_benchmark_needs_neither_dvc_nor_wandb_nor_a_plotting_library():
    missing = "import sys; sys.modules.update(dict.fromkeys(('dvc', 'wandb', 'matplotlib', 'sklearn')))"
    subprocess.run([sys.executable, "-c", f"{missing}; import experiments.speed.bench"], cwd=REPOSITORY, check=True)


def test_an_epoch_takes_the_steps_of_all_its_windows_plain_and_mirrored(params, monkeypatch):
    monkeypatch.setattr(networks, "WAYS", (("float32", "none"), ("bf16", "none")))
    small = params.model_copy(update={"models": params.models | {"poseformer": {"depth": 1, "embed_dim_ratio": 8}}})
    found = networks.measure_epochs(("rayformer", "poseformer"), small, frames=3, recorded=3000, turns=1)
    lines = {(line["model"], line["precision"]): line for line in found}
    assert len(lines) == 4
    assert lines["rayformer", "bf16"]["steps_per_epoch"] == 4  # 2 * 1000 windows of three frames, 512 a step
    assert lines["poseformer", "float32"]["steps_per_epoch"] == 12  # 2 * 3000 windows, one around every frame
    for line in lines.values():
        assert line["epoch_minutes"] * 60_000 == pytest.approx(line["steps_per_epoch"] * line["step_ms"])
        assert line["predicted_frames_per_s"] * line["epoch_minutes"] * 60 == pytest.approx(2 * 3000)


def test_trainings_in_turns_compute_each_in_its_own_precision(params, monkeypatch):
    monkeypatch.setattr(networks, "TABLE_FRAMES", 1500)
    data = networks.random_data(CPU)
    takes = {}
    for precision in ("tf32", "float32"):
        chosen = params.model_copy(update={"precision": precision})
        takes[precision] = networks.steps_of(networks.set_up_training("rayformer", chosen, data, frames=3))
    found = {}
    for precision, take in takes.items():
        take()
        found[precision] = torch.get_float32_matmul_precision()
    assert found == {"tf32": "high", "float32": "highest"}


def test_the_cost_along_an_axis_is_relative_to_the_default(params, monkeypatch):
    monkeypatch.setattr(networks, "TABLE_FRAMES", 1500)
    monkeypatch.setattr(scaling, "DEFAULTS", {"frames": 3, "width": 8, "batch_windows": 2})
    monkeypatch.setattr(scaling, "AXES", {"batch_windows": (2, 4000)})
    one, many = scaling.measure_axis("batch_windows", params, turns=2)
    assert (one["batch_windows"], one["ratio"], many["batch_windows"]) == (2, 1, 4000)
    assert many["ratio"] > 1  # two thousand times the windows
    assert many["step_ms"] == pytest.approx(many["ratio"] * one["step_ms"])


RECORDS = sorted((REPOSITORY / "reports/benchmarks").glob("*-cores*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_page_says_what_its_numbers_say(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page(found)
