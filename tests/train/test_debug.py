"""A batch that can be learned is, one that cannot is not, and the first tensor that is not finite is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.poses.windows import FrameTable, Windows
from pipeline.system.errors import UserError
from pipeline.train import batches, stage
from pipeline.train.debug import debug
from pipeline.train.loop import Setup
from pipeline.train.stage import train
from tests.fixtures.walker import contents, write_prepared


def answer(question: str, prepared: Path) -> list[str]:
    """The lines of the answer, which must leave the prepared folder and everything beside it as they are."""
    before = contents(prepared.parent)
    try:
        return list(debug(question, prepared, seed=0, work_folder=prepared.parent / "work"))
    finally:
        assert contents(prepared.parent) == before


def test_eight_windows_of_a_walker_are_learned_by_heart(tmp_path):
    lines = answer("overfit", write_prepared(tmp_path / "prepared", optimizer="muon"))
    assert lines[-1].startswith("it learns: 8 windows are known by heart")
    errors_mm = [float(line.split()[1]) for line in lines[1:-1]]
    assert errors_mm[0] > 100
    assert errors_mm[-1] < 10


def test_keypoints_that_say_nothing_cannot_be_learned_from(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.train.debug.OVERFIT_STEPS", 100)
    prepared = write_prepared(tmp_path / "prepared", optimizer="muon")
    pixels = np.load(prepared / "train" / "pixels.npy")
    np.save(prepared / "train" / "pixels.npy", np.full_like(pixels, 450))
    with pytest.raises(UserError, match=r"expected an error below 10 mm on 8 windows alone, found [1-9][0-9]+"):
        answer("overfit", prepared)


def spoil(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Changes the network of every run before it is trained."""
    untrained_model = stage.untrained_model

    def spoiled(*arguments: Any) -> Any:
        model = untrained_model(*arguments)
        change(model.network)
        return model

    for module in ("stage", "debug"):
        monkeypatch.setattr(f"pipeline.train.{module}.untrained_model", spoiled)


def infinite_output(network: torch.nn.Module) -> None:
    """In the fifth forward pass of training one number of the first block's MLP is infinite."""
    calls = iter(range(100))

    def hook(module: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        if module.training and next(calls) == 4:
            output = output.clone()
            output.flatten()[3] = torch.inf
        return output

    network.get_submodule("blocks.0.mlp").register_forward_hook(hook)


def nan_gradient(network: torch.nn.Module) -> None:
    """In the fifth backward pass the gradient of a bias has two numbers that are none."""
    calls = iter(range(100))

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        return gradient.index_fill(0, torch.tensor([1, 2]), torch.nan) if next(calls) == 4 else gradient

    network.get_parameter("blocks.0.norm2.bias").register_hook(hook)


CASES = [
    (infinite_output, "the output of blocks.0.mlp (Mlp): 0 NaN and 1 infinite of (8, 3, 16) values"),
    (nan_gradient, "the gradient of blocks.0.norm2.bias: 2 NaN and 0 infinite of (16,) values"),
]


@pytest.mark.parametrize(("change", "named"), CASES)
def test_the_first_tensor_that_is_not_finite_is_named_in_the_step_in_which_training_stops(
    change, named, tmp_path, monkeypatch
):
    prepared = write_prepared(tmp_path / "prepared")
    spoil(monkeypatch, change)
    with pytest.raises(UserError) as stopped:
        train(prepared, tmp_path / "run", seed=0, work_folder=tmp_path / "elsewhere")
    step, _, rest = str(stopped.value).partition(": ")
    clips = rest.rpartition("; clips: ")[2]
    assert step == "epoch 2, step 2"
    with pytest.raises(UserError) as found:
        answer("nan", prepared)
    assert str(found.value) == f"{step}: expected finite values, found first {named}; clips: {clips}"


def test_bad_poses_are_named_rather_than_the_gradients_that_they_spoil(tmp_path, monkeypatch):
    prepared, gather = write_prepared(tmp_path / "prepared"), batches.gather_windows

    def spoiled(table: FrameTable, windows: Windows, **options: int) -> tuple[torch.Tensor, ...]:
        screen, pose_m, counted = gather(table, windows, **options)
        pose_m[(windows.clip == 1) & windows.flipped, 2, 5] = torch.nan
        return screen, pose_m, counted

    monkeypatch.setattr(batches, "gather_windows", spoiled)
    with pytest.raises(UserError, match=r"found first the true poses: \d+ NaN and 0 infinite .*; clips: .*walk_1"):
        answer("nan", prepared)


def test_the_search_goes_on_from_the_saved_state(tmp_path, monkeypatch):
    prepared = write_prepared(tmp_path / "prepared", epochs=4)
    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)

    def stop_in_epoch_3(moment: Any, setup: Setup, tracked: object) -> None:
        if moment.epochs_done > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_track", stop_in_epoch_3)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, tmp_path / "run", seed=0, work_folder=tmp_path / "work")
    lines = answer("nan", prepared)
    assert lines[0] == "goes on from the state saved in epoch 3, after step 1"
    assert [line.split(":")[0] for line in lines[1:-1]] == ["epoch 3 of 4", "epoch 4 of 4"]
    assert lines[-1] == "every value was finite"


def test_a_profile_is_of_twenty_steps_and_its_phases_are_the_whole(tmp_path):
    prepared = write_prepared(tmp_path / "prepared", optimizer="muon", how={"micro_batches": 2})
    lines = "\n".join(answer("profile", prepared)).splitlines()
    assert lines[0].startswith("20 steps of 8 windows, ")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    phases, operators = rows[1:5], rows[6:]
    assert [phase for phase, *_ in phases] == ["data", "forward", "backward", "optimizer"]
    assert sum(float(percent) for *_, percent in phases) == pytest.approx(100, abs=0.3)
    total_ms = float(lines[0].split(", ")[1].split()[0])
    assert sum(float(ms) for _, ms, _ in phases) == pytest.approx(total_ms, abs=0.1)
    assert len(operators) == 10
    assert any(name.startswith("aten::") for name, *_ in operators)


def test_a_model_that_is_solved_for_has_no_steps_to_look_at(tmp_path):
    with pytest.raises(UserError, match=r"training.json: model: expected one that gradient descent trains, found 'lin"):
        answer("profile", write_prepared(tmp_path / "prepared", model="linear"))
