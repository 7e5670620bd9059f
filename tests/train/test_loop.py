"""Batches in parts, other precisions, compiled models, and runs that are stopped or go wrong."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config.params import TrainingConfig
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml
from pipeline.system.resume import stop_on_signals
from pipeline.train import batches, loop, stage
from pipeline.train.job import plan_job
from pipeline.train.loop import State
from pipeline.train.stage import train
from tests.fixtures.walker import contents, walker_clips, write_prepared

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")


def trained(prepared: Path, folder: Path) -> dict[str, bytes]:
    train(prepared, folder / "run", seed=0, work_folder=folder / "work")
    return contents(folder / "run")


def last_error_mm(files: dict[str, bytes]) -> float:
    return float(files["history.csv"].decode().splitlines()[-1].split(",")[1])


def first_step(folder: Path, *, micro_batches: int, **options: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Loss, gradient norm and clipped gradient of the first batch, cut into so many parts."""
    prepared = write_prepared(folder, how={"micro_batches": micro_batches}, **options)
    config = TrainingConfig.model_validate(read_yaml(prepared / "training.json"))
    data = batches.read_data(prepared, config, CPU)
    job = plan_job(prepared, folder, seed=0, work_folder=folder)
    setup, _ = loop.set_up(stage.untrained_model(job, config, data), data, config, seed=0)
    gradients: dict[str, torch.Tensor] = {}

    def remember(*_: object) -> None:
        named = setup.network.named_parameters()
        gradients.update({name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None})

    setup.optimizers[0].register_step_pre_hook(remember)
    setup.network.train()
    drawn = {"every_frame": setup.every_frame, "number": 0, "generator": torch.Generator().manual_seed(0)}
    epoch = batches.draw_epoch(data, config, **drawn)
    batch = next(batches.batches_from(0, data, config, epoch, every_frame=setup.every_frame, seed=0))
    return loop._step(setup, batch, lr_factor=1.0).tolist(), gradients


@pytest.mark.parametrize("parts", [2, 3, 8, 11])  # of 8 windows
@pytest.mark.parametrize("options", [{"with_confidence": True, "augmentation": {}}, {"optimizer": "muon"}])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts, options, tmp_path):
    options = {
        "lengths": (12, 5, 7),
        **options,
    }  # shorter than windows, so that parts count different numbers of frames
    whole, gradient = first_step(tmp_path / "whole", micro_batches=1, **options)
    in_parts, gradient_of_parts = first_step(tmp_path / "parts", micro_batches=parts, **options)
    assert in_parts == pytest.approx(whole, rel=1e-6)
    assert gradient_of_parts.keys() == gradient.keys()
    for name, values in gradient.items():
        torch.testing.assert_close(gradient_of_parts[name], values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"model": "poseformer"}])
def test_bf16_learns_nearly_the_same_with_float32_weights(options, tmp_path):
    exact = trained(write_prepared(tmp_path / "float32", **options), tmp_path / "a")
    rounded = trained(write_prepared(tmp_path / "bf16", how={"precision": "bf16"}, **options), tmp_path / "b")
    assert rounded["weights.safetensors"] != exact["weights.safetensors"]
    assert last_error_mm(rounded) == pytest.approx(last_error_mm(exact), rel=0.02)
    assert {t.dtype for t in load_file(tmp_path / "b" / "run" / "weights.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize(("precision", "expected"), [("float32", "highest"), ("tf32", "high"), ("bf16", "highest")])
def test_tf32_is_allowed_where_it_is_asked_for_and_no_score_has_it(precision, expected, tmp_path, monkeypatch):
    seen = []

    def remember(function: Callable[..., Any]) -> Callable[..., Any]:
        def remembering(*arguments: Any, **options: Any) -> Any:
            seen.append((function.__name__, torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
            return function(*arguments, **options)

        return remembering

    monkeypatch.setattr(loop, "_step", remember(loop._step))
    monkeypatch.setattr(loop, "validate", remember(loop.validate))
    trained(write_prepared(tmp_path / "prepared", epochs=1, how={"precision": precision}), tmp_path)
    assert set(seen) == {("_step", expected, False), ("validate", "highest", False)}


def test_batches_of_which_no_frame_counts_teach_nothing_and_end_no_run(tmp_path, monkeypatch):
    gather = batches.gather_windows

    def count_none(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        screen, pose_m, counted = gather(*arguments, **options)
        return screen, pose_m, torch.zeros_like(counted)

    monkeypatch.setattr(batches, "gather_windows", count_none)
    assert last_error_mm(trained(write_prepared(tmp_path / "prepared", epochs=1), tmp_path)) == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own use of torch
def test_a_compiled_model_learns_the_same(tmp_path):
    options: dict[str, Any] = {"model": "linear", "epochs": 1, "windows_per_epoch": 16}  # little to compile
    eager = trained(write_prepared(tmp_path / "eager", **options), tmp_path / "a")
    prepared = write_prepared(tmp_path / "compiled", how={"compile": "default"}, **options)
    arguments = [prepared, tmp_path / "run", "--seed", "0", "--work", tmp_path / "work"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "train", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "not compiled" not in done.stderr
    assert last_error_mm(contents(tmp_path / "run")) == pytest.approx(last_error_mm(eager), rel=1e-4)


def test_without_a_compiler_the_model_is_used_as_it_is_and_a_line_says_so(tmp_path, monkeypatch, caplog):
    def missing(*_: object, **__: object) -> Any:
        def fail(screen: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler\nand much more")

        return fail

    monkeypatch.setattr(torch, "compile", missing)
    for compile in ("none", "default"):
        prepared = write_prepared(tmp_path / compile, model="poseformer", how={"compile": compile})
        trained(prepared, tmp_path / f"{compile} run")
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert warning == "walker-gt-f9-poseformer: not compiled, RuntimeError: no compiler"
    weights = [tmp_path / f"{compile} run" / "run" / "weights.safetensors" for compile in ("none", "default")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("steps_per_reading", [1, 2, 16])
def test_the_first_step_that_is_not_finite_is_named_with_its_clips(steps_per_reading, tmp_path, monkeypatch):
    prepared = write_prepared(tmp_path / "prepared", epochs=2)
    step, calls = loop._step, []

    def spoil(setup: loop.Setup, batch: Any, **options: Any) -> torch.Tensor:
        calls.append(batch)
        if len(calls) == 5:
            for part in batch.parts:
                part.pose_m[0, 0, 0] = torch.inf
        return step(setup, batch, **options)

    monkeypatch.setattr(loop, "_step", spoil)
    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)
    monkeypatch.setitem(loop.STEPS_PER_READING, "cpu", steps_per_reading)
    with pytest.raises(UserError) as error:
        trained(prepared, tmp_path)
    assert str(error.value).startswith("epoch 2, step 2: expected a finite loss and gradient norm, found ")
    named = str(error.value).rpartition("; clips: ")[2].split(", ")
    names = [clip.name for clip in walker_clips((40, 31, 50))]
    assert named == [names[clip] for clip in sorted(set(calls[4].clips.tolist()))]
    (state,) = (tmp_path / "work").glob("*/state.pt")
    saved = torch.load(state, weights_only=True)
    assert saved["epoch"] == 1
    assert all(torch.isfinite(values).all() for values in saved["model"].values())


SLOW = """
import sys, time
sys.modules["dvc"] = sys.modules["wandb"] = None  # as where they are not installed
from pipeline.train import loop, stage
from pipeline.__main__ import main

def slow_step(*args, step=loop._step, **options):
    numbers = step(*args, **options)
    print("step", flush=True)
    time.sleep(0.2)
    return numbers

loop._step = slow_step
main()
"""
EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[signal.Signals, SimpleNamespace]:
    """For each signal a run that got it in its first step, where neither dvc nor wandb is installed."""
    folder = tmp_path_factory.mktemp("stopped")
    prepared = write_prepared(folder / "prepared", epochs=20)
    env = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"} | {"PYTHONPATH": "."}
    processes = {}
    for sent in EXIT_CODES:
        own = folder / sent.name
        command = [sys.executable, "-c", SLOW, "train", prepared, own / "run", "--seed", "0", "--work", own / "work"]
        processes[sent] = subprocess.Popen(
            command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    for sent, process in processes.items():
        assert process.stdout is not None
        assert process.stdout.readline() == "step\n"
        process.send_signal(sent)
    logs = {sent: process.communicate(timeout=900)[1] for sent, process in processes.items()}
    return {
        sent: SimpleNamespace(
            exit_code=process.returncode, log=logs[sent], folder=folder / sent.name, prepared=prepared
        )
        for sent, process in processes.items()
    }


@pytest.mark.parametrize("sent", EXIT_CODES, ids=lambda sent: sent.name)
def test_a_signal_saves_the_state_and_leaves_with_its_own_exit_code(sent, stopped, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = stopped[sent]
    assert run.exit_code == EXIT_CODES[sent]
    line = r"walker-gt-f9-rayformer run 0: (\w+) in epoch (\d+), state saved after step (\d)"
    name, epoch, step = re.fullmatch(line, run.log.splitlines()[-1]).groups()
    assert name == sent.name
    assert not (run.folder / "run").exists()
    assert trained(run.prepared, run.folder) == trained(run.prepared, tmp_path / "undisturbed")
    assert f"goes on in epoch {epoch}, step {step}" in caplog.text


def test_training_runs_where_dvc_and_wandb_are_not_installed(stopped):
    for run in stopped.values():
        assert run.log.count("W&B") == 1
        assert "wandb is not installed, nothing is tracked" in run.log


def test_a_second_signal_acts_as_ever():
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        assert (stop.name, stop.exit_code) == ("SIGINT", 130)
        assert signal.getsignal(signal.SIGINT) is before
    with stop_on_signals():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_the_log_says_how_much_a_batch_holds(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for model, poses in (("rayformer", 72), ("poseformer", 8)):
        trained(
            write_prepared(tmp_path / model, model=model, epochs=1, how={"micro_batches": 2}), tmp_path / f"{model} run"
        )
        assert f"batches of 8 windows, 72 frames seen, {poses} poses predicted, in 1 x 2 parts" in caplog.text


def test_a_new_state_is_at_the_start():
    state = State(torch.zeros(1), torch.zeros(2))
    assert (state.epoch, state.step, state.best) == (0, 0, None)
