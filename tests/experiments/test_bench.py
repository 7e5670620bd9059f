"""What the benchmark counts and compares: operations, bytes, turns, and that its yardstick is the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.speed import machine, training, workload
from experiments.speed.literal_poseformer import LiteralPoseFormer, predict_clip
from experiments.speed.report import page
from models.layers import DropPath
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import FrameTable, predict_frames

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings() -> workload.Settings:
    return workload.settings_of(REPOSITORY / "params.yaml", CPU)


def poseformer_operations(frames: int, joints: int, width: int, depth: int) -> int:
    """Two per multiply and add: linear layers 8 w^2 a token and block, attention 2 n w a token, ends."""

    def stack(tokens: int, length: int, size: int) -> int:
        return 2 * depth * tokens * (8 * size**2 + 2 * length * size)

    wide = joints * width
    ends = 2 * frames * joints * 2 * width + 2 * frames * wide + 2 * wide * 3 * joints
    return stack(frames * joints, joints, width) + stack(frames, frames, wide) + ends


@pytest.mark.parametrize("frames", [9, 27, 81])
def test_operations_are_those_of_the_closed_form_in_both_poseformers(frames, settings):
    example = torch.zeros(1, frames, 17, 2, device="meta")
    literal = LiteralPoseFormer(frames=frames, joints=17).to("meta")
    ours = workload.network("poseformer", settings, frames=frames).to("meta")
    expected = poseformer_operations(frames, 17, 32, 4)
    assert machine.operations(lambda: literal(example)) == expected
    assert machine.operations(lambda: ours(example)) == expected


def test_the_backward_pass_of_a_linear_layer_costs_twice_its_forward_pass():
    layer, tokens = nn.Linear(5, 7), torch.zeros(11, 5, requires_grad=True)
    assert machine.operations(lambda: layer(tokens).sum().backward()) == 3 * 2 * 11 * 5 * 7


def test_bytes_kept_for_the_backward_pass_are_the_inputs_without_the_weights():
    layers = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    assert machine.saved_bytes(layers, torch.zeros(11, 5)) == 4 * 11 * (5 + 7)


def test_cases_take_turns_and_the_first_turn_is_not_counted():
    order: list[str] = []
    cases = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    taken = machine.in_turns(cases, CPU, turns=3)
    assert order == ["a", "b"] * 4
    assert [len(taken["a"].wall_s), len(taken["b"].processor_s)] == [3, 3]


def test_a_ratio_is_of_the_fastest_turns_and_its_range_is_of_the_turns():
    taken = {
        "ours": machine.Times([1.0, 2.0, 4.0], [2.0, 2.5, 3.0]),
        "literal": machine.Times([6.0, 4.0, 4.0], [7.0, 6.0, 9.0]),
    }
    found = machine.compared(taken, ours="ours", yardstick="literal")
    assert found == {"ratio": 4.0, "lowest": 1.0, "highest": 6.0, "by_processor_time": 3.0}


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
def test_the_literal_loop_and_the_shared_features_predict_the_same_clip(batch_windows, settings):
    literal, ours = training.literal_twin(settings, frames=9)
    screen = torch.rand(20, 17, 2) * 2 - 1
    mirrored = list(H36M_17.mirrored)
    expected_m = predict_clip(literal, screen, frames=9, mirrored=mirrored, batch_windows=batch_windows)
    marks, ends = torch.ones(20, dtype=torch.bool), (torch.tensor([0]), torch.tensor([19]))
    table = FrameTable(screen, torch.zeros(20, 17, 3), marks, *ends)
    found_m = predict_frames(ours, table, H36M_17, H36M_17, frames=9, stride=1, flip_averaging=True)
    torch.testing.assert_close(found_m, expected_m, rtol=0, atol=1e-5)
    assert expected_m.std() > 0.1


def test_both_poseformers_have_the_same_gradient(settings):
    literal, ours = training.literal_twin(settings, frames=9)
    screen = torch.rand(3, 9, 17, 2)
    for model in (literal, ours):
        model.eval()
        model(screen).norm().backward()
    others = dict(literal.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, others[name].grad, rtol=1e-3, atol=1e-4)


def test_a_batch_in_parts_moves_the_weights_as_a_whole_one_does(settings):
    table = workload.large_table(1500, CPU)
    moved = []
    for parts in (1, 3):
        own = workload.job("poseformer", settings, frames=3, batch_windows=8)
        own = workload.Job(**{**vars(own), "parts": parts})
        for layer in own.model.modules():
            if isinstance(layer, DropPath):
                layer.rate = 0.0
        workload.step(own, table, next(workload.endless_batches(own, table)))
        moved.append(own.model.head[1].weight.grad.clone())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-6)
    assert moved[0].abs().max() > 1e-3


@pytest.mark.parametrize("frames", [999, 1000, 17001])
def test_a_large_table_has_exactly_so_many_frames_in_clips_of_a_thousand(frames):
    table = workload.large_table(frames, CPU)
    lengths = table.clip_last - table.clip_first + 1
    assert len(table) == lengths.sum() == frames
    assert (lengths[:-1] == 1000).all()
    assert table.pose_m[:, 1:].norm(dim=-1).min() > 0.01
    assert table.screen.abs().max() < 1


def test_the_benchmark_needs_neither_dvc_nor_wandb_nor_a_plotting_library():
    missing = "import sys; sys.modules.update(dict.fromkeys(('dvc', 'wandb', 'matplotlib', 'sklearn')))"
    subprocess.run([sys.executable, "-c", f"{missing}; import experiments.speed.bench"], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "reports/benchmarks").glob("*-cores.json")), ids=lambda p: p.stem)
def test_a_page_says_what_its_numbers_say(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page(found)
