"""A run learns, depends on its seed alone, survives any crash with the same bytes, and leaves nothing half-written."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.config.params import Training
from pipeline.poses.checkpoint import EPOCH_COLUMNS, load_checkpoint, read_card
from pipeline.poses.clips import read_split
from pipeline.system import resume
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.train import batches, loop, stage
from pipeline.train.optimization import optimizers_of, schedule
from pipeline.train.stage import train
from tests.fixtures.tracked_runs import read_config, read_history, read_summary
from tests.fixtures.walker import TRAINING, change_json, contents, write_prepared

# What a run can be made of; each must survive a crash.
VARIANTS: dict[str, dict[str, Any]] = {
    "every_frame_muon": {"model": "rayformer", "optimizer": "muon", "lr_decay": "linear"},
    "every_frame_adamw": {"model": "rayformer", "with_confidence": True, "action_balance": 0.0},
    "every_frame_augmented": {"model": "rayformer", "with_confidence": True, "augmentation": {}},
    "middle_frame_with_drop_path": {"model": "poseformer", "selection": "best_validation", "validation_step": 5},
    "middle_frame_muon": {"model": "poseformer", "optimizer": "muon", "flip_augmentation": False},
}
FILES = {"weights.safetensors", "card.json", "history.csv"}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A prepared folder for each variant; to be read, not changed."""
    folder = tmp_path_factory.mktemp("prepared")
    return {name: write_prepared(folder / name, **options) for name, options in VARIANTS.items()}


@pytest.fixture(scope="session")
def uninterrupted(prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What a run of each variant writes when nothing happens to it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {name: trained(prepared[name], folder / name) for name in VARIANTS}


def trained(prepared: Path, folder: Path, *, seed: int = 0) -> dict[str, bytes]:
    """The files of a run made in `folder`."""
    train(prepared, folder / "run", seed=seed, work_folder=folder / "work")
    return contents(folder / "run")


def history_of(files: dict[str, bytes]) -> list[dict[str, float]]:
    lines = csv.DictReader(files["history.csv"].decode().splitlines())
    return [{key: float(value) for key, value in line.items()} for line in lines]


class PowerCut(BaseException):
    """Nothing runs after it."""


def crash_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after each step and once more after each epoch, and crash when that has been done `saves` times."""
    count = itertools.count(1)

    def save_then_crash(folder: Path, state: dict[str, Any]) -> None:
        resume.save_state(folder, state)
        if next(count) == saves:
            raise PowerCut

    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(stage, "save_state", save_then_crash)


def crashed(prepared: Path, folder: Path, *, saves: int) -> Path:
    """Train in `folder` until the crash; returns the run's state folder."""
    with pytest.MonkeyPatch.context() as patched:
        crash_after(saves, patched)
        with pytest.raises(PowerCut):
            trained(prepared, folder)
    assert not (folder / "run").exists()
    (state,) = (path for path in (folder / "work").iterdir() if path.is_dir())
    return state


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_seed_gives_the_same_bytes(name, prepared, uninterrupted, tmp_path):
    torch.manual_seed(77)  # whatever happened in the process before
    assert trained(prepared[name], tmp_path) == uninterrupted[name]
    assert uninterrupted[name].keys() == FILES


def test_another_seed_gives_other_weights(prepared, uninterrupted, tmp_path):
    name = "every_frame_muon"
    other = trained(prepared[name], tmp_path, seed=1)
    assert other["weights.safetensors"] != uninterrupted[name]["weights.safetensors"]
    assert other["history.csv"] != uninterrupted[name]["history.csv"]
    assert json.loads(other["card.json"])["seed"] == 1


def test_the_order_of_the_windows_is_drawn_from_the_seed(prepared, tmp_path, monkeypatch):
    first_windows = []

    def record(table: Any, windows: Any, **options: Any) -> Any:
        first_windows.append(tuple(windows.middle.tolist()))
        raise PowerCut

    monkeypatch.setattr(batches, "gather_windows", record)
    for seed in (0, 1, 0):
        with pytest.raises(PowerCut):
            trained(prepared["every_frame_muon"], tmp_path, seed=seed)
    assert first_windows[0] == first_windows[2] != first_windows[1]


# Three steps and one end of the epoch in each of two epochs: first step, its end, in between, the last save.
@pytest.mark.parametrize("saves", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_crashed_ends_with_the_same_bytes(name, saves, prepared, uninterrupted, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    crashed(prepared[name], tmp_path, saves=saves)
    torch.manual_seed(77)
    assert trained(prepared[name], tmp_path) == uninterrupted[name]
    epoch, step = [(1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0)][saves - 1]
    assert f"run 0 goes on in epoch {epoch}, step {step}" in caplog.text


def test_a_run_that_crashed_again_and_again_ends_with_the_same_bytes(prepared, uninterrupted, tmp_path):
    name = "middle_frame_with_drop_path"
    for _ in range(4):
        crashed(prepared[name], tmp_path, saves=2)
    assert trained(prepared[name], tmp_path) == uninterrupted[name]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.train import stage
from pipeline.train.stage import train

saves = 0

def save_then_die(folder, state, save=stage.save_state):
    global saves
    save(folder, state)
    saves += 1
    if saves == 5:
        os.kill(os.getpid(), signal.SIGKILL)

stage.SAVE_EVERY_S, stage.save_state = -1.0, save_then_die
train(Path(sys.argv[1]), Path(sys.argv[2]), seed=0, work_folder=Path(sys.argv[3]))
"""


@pytest.mark.parametrize("name", ["every_frame_muon", "middle_frame_with_drop_path"])
def test_a_process_killed_in_mid_epoch_is_taken_over_by_the_next_with_the_same_bytes(
    name, prepared, uninterrupted, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    command = [sys.executable, "-c", KILLED, prepared[name], tmp_path / "run", tmp_path / "work"]
    repository = Path(__file__).parents[2]
    process = subprocess.run(command, cwd=repository, env=os.environ | {"PYTHONPATH": "."}, check=False)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    assert trained(prepared[name], tmp_path) == uninterrupted[name]
    assert "run 0 goes on in epoch 2, step 1" in caplog.text


def test_a_damaged_state_is_named_and_the_one_before_it_is_used(prepared, uninterrupted, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    name = "middle_frame_with_drop_path"
    state = crashed(prepared[name], tmp_path, saves=3)
    path = state / "state.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert trained(prepared[name], tmp_path) == uninterrupted[name]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}: expected a saved state, found ")
    assert "goes on in epoch 1, step 2" in caplog.text


def test_without_a_state_that_can_be_read_the_run_begins_again(prepared, uninterrupted, tmp_path, caplog):
    name = "middle_frame_with_drop_path"
    state = crashed(prepared[name], tmp_path, saves=3)
    for path in state.glob("*.pt"):
        path.write_bytes(b"damaged")
    assert trained(prepared[name], tmp_path) == uninterrupted[name]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2


@pytest.mark.parametrize("changed", ["parameter", "data"])
def test_what_is_changed_meets_no_old_state(changed, prepared, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    own = shutil.copytree(prepared["every_frame_muon"], tmp_path / "prepared")
    crashed(own, tmp_path / "before", saves=4)
    if changed == "parameter":
        content = json.loads((own / "training.json").read_text(encoding="utf-8"))
        change_json(own / "training.json", training=content["training"] | {"lr": 0.001})
    else:
        pixels = np.load(own / "train" / "pixels.npy")
        np.save(own / "train" / "pixels.npy", pixels + np.float32(0.5))
    assert trained(own, tmp_path / "before") == trained(own, tmp_path / "fresh")
    assert "goes on" not in caplog.text


def test_the_state_is_removed_when_the_run_is_finished(prepared, tmp_path):
    trained(prepared["every_frame_muon"], tmp_path)
    assert [path.suffix for path in (tmp_path / "work").iterdir()] == [".lock"]


def test_the_folder_of_a_run_is_replaced_whole(prepared, uninterrupted, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stale.txt").write_text("of an older run", encoding="utf-8")
    assert trained(prepared["every_frame_muon"], tmp_path) == uninterrupted["every_frame_muon"]


def test_a_failure_leaves_nothing_half_written(prepared, tmp_path, monkeypatch):
    def full(folder: Path, history: object) -> None:
        (folder / "history.csv").write_text("half", encoding="utf-8")
        raise OSError("no space left on device")

    monkeypatch.setattr(stage, "write_history", full)
    with pytest.raises(OSError, match="no space left"):
        trained(prepared["every_frame_muon"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_epochs_shorter_than_the_time_between_saves_do_not_wait_for_the_disk(prepared, tmp_path, monkeypatch):
    saves: list[dict[str, Any]] = []
    monkeypatch.setattr(stage, "save_state", lambda folder, state: saves.append(state))
    trained(prepared["every_frame_muon"], tmp_path)
    assert not saves


def test_a_second_process_waits_and_takes_the_finished_result(prepared, uninterrupted, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    name, save = "every_frame_muon", resume.save_state
    halfway, go_on, saves = threading.Event(), threading.Event(), []

    def save_and_wait(folder: Path, state: dict[str, Any]) -> None:
        save(folder, state)
        saves.append((state["epoch"], state["step"]))
        halfway.set()
        assert go_on.wait(60)

    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(stage, "save_state", save_and_wait)
    first = in_thread(lambda: trained(prepared[name], tmp_path))
    assert halfway.wait(60)
    second = in_thread(lambda: trained(prepared[name], tmp_path))
    second.join(0.3)
    assert second.is_alive()
    assert "another process is training this run" in caplog.text
    go_on.set()
    for thread in (first, second):
        thread.join(60)
    assert saves == sorted(set(saves))  # trained once
    assert saves[-1] == (2, 0)
    assert "was finished by another process" in caplog.text
    assert contents(tmp_path / "run") == uninterrupted[name]


def test_a_process_that_waited_for_one_that_failed_trains_itself(prepared, uninterrupted, tmp_path):
    name = "every_frame_muon"
    state = crashed(prepared[name], tmp_path, saves=2)
    with resume.hold_lock(state):
        thread = in_thread(lambda: trained(prepared[name], tmp_path))
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(60)
    assert contents(tmp_path / "run") == uninterrupted[name]


def test_training_again_without_waiting_trains_again(prepared, tmp_path, monkeypatch):
    name, calls = "every_frame_muon", []
    trained(prepared[name], tmp_path)
    monkeypatch.setattr(stage, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(stage, "save_state", lambda folder, state: calls.append((state["epoch"], state["step"])))
    trained(prepared[name], tmp_path)
    assert calls[0] == (0, 1)
    assert calls[-1] == (2, 0)


def test_the_card_says_what_the_checkpoint_is(prepared, uninterrupted, tmp_path):
    name = "every_frame_adamw"
    trained(prepared[name], tmp_path)
    card = read_card(tmp_path / "run")
    history = history_of(uninterrupted[name])
    assert (card.row, card.seed, card.model, card.frames) == ("walker-det-f9-rayformer", 0, "rayformer", 9)
    assert (card.in_skeleton, card.out_skeleton, card.in_channels) == ("h36m17", "h36m17", 3)
    assert card.epoch == 2
    assert card.validation_mpjpe_mm == history[-1]["val_mpjpe_mm"]
    assert card.hyperparameters == {"width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "patch": 3, "focal": 2.29}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_history_has_a_line_per_epoch_and_the_rate_of_its_last_step(name, uninterrupted):
    history = history_of(uninterrupted[name])
    assert tuple(history[0]) == EPOCH_COLUMNS
    assert [line["epoch"] for line in history] == [1, 2]
    training = Training(**TRAINING | {key: VARIANTS[name][key] for key in VARIANTS[name] if key in TRAINING})
    for line in history:
        last = 3 * int(line["epoch"]) - 1
        assert line["lr"] == pytest.approx(0.003 * schedule(training, last, 3))


@pytest.mark.parametrize("name", ["every_frame_muon", "middle_frame_with_drop_path"])
def test_the_validation_error_is_that_of_the_weights_frame_by_frame(name, prepared, tmp_path):
    trained(prepared[name], tmp_path)
    model, card = load_checkpoint(tmp_path / "run", device=torch.device("cpu"))
    model.requires_grad_(False)
    step = VARIANTS[name].get("validation_step", 1)
    errors_mm: dict[str, list[float]] = {}
    for clip in read_split(prepared[name] / "validation"):
        screen = torch.from_numpy(clip.pixels / 500 - np.array([1, 0.9], dtype=np.float32))
        true_m = torch.from_numpy(clip.joints_camera_m - clip.joints_camera_m[:, :1])
        for frame in range(0, len(clip), step):
            if model.predicts == "every_frame":
                first = frame // 9 * 9
                places = [min(max(place, 0), len(clip) - 1) for place in range(first, first + 9)]
                pose_m = model(screen[places][None])[0, frame - first]
            else:
                places = [min(max(place, 0), len(clip) - 1) for place in range(frame - 4, frame + 5)]
                pose_m = model(screen[places][None])[0, 0]
            errors_mm.setdefault(clip.action, []).append(float((pose_m - true_m[frame]).norm(dim=-1).mean()) * 1000)
    mean_mm = sum(sum(own) / len(own) for own in errors_mm.values()) / len(errors_mm)
    assert card.validation_mpjpe_mm == pytest.approx(mean_mm, rel=1e-5)


def pretend_validation(values_mm: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter(values_mm)
    monkeypatch.setattr(
        loop, "validate", lambda *_: {"val_mpjpe_mm": (value := next(values)), "val_p_mpjpe_mm": value / 2}
    )


@pytest.mark.parametrize(("selection", "epoch"), [("last", 4), ("best_validation", 2)])
def test_the_weights_are_those_of_the_epoch_that_the_selection_says(selection, epoch, tmp_path, monkeypatch):
    options: dict[str, Any] = {"model": "poseformer", "selection": selection, "lr": 0.01}
    chosen_from = write_prepared(tmp_path / "four", epochs=4, **options)
    stopped = write_prepared(tmp_path / "stopped", epochs=epoch, **options | {"selection": "last"})
    for prepared, folder in ((chosen_from, "a"), (stopped, "b")):
        pretend_validation([50.0, 30.0, 40.0, 30.0], monkeypatch)  # the first of equals counts
        trained(prepared, tmp_path / folder)
    chosen, reference = (load_file(tmp_path / folder / "run" / "weights.safetensors") for folder in "ab")
    assert all(torch.equal(chosen[name], reference[name]) for name in reference)
    card = read_card(tmp_path / "a" / "run")
    assert (card.epoch, card.validation_mpjpe_mm) == (epoch, 30.0)
    assert len(history_of(contents(tmp_path / "a" / "run"))) == 4


@pytest.mark.parametrize("options", [{}, {"model": "poseformer"}, {"optimizer": "muon"}])
def test_a_loss_that_is_not_finite_ends_the_run_with_advice(options, tmp_path):
    prepared = write_prepared(tmp_path / "prepared", lr=1e30, muon_lr=1e30, warmup_steps=0, **options)
    with pytest.raises(
        UserError,
        match=r"^epoch 1, step [123]: expected a finite loss and gradient norm, found .*smaller lr.*; clips: walk_",
    ):
        trained(prepared, tmp_path)
    assert not (tmp_path / "run").exists()


def training_with(**changes: Any) -> Training:
    return Training(**TRAINING | changes)


def test_the_rate_warms_up_linearly():
    training = training_with(warmup_steps=4, lr_decay=1.0)
    factors = [schedule(training, step, 10) for step in range(7)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_the_rate_decays_by_a_factor_per_epoch():
    training = training_with(warmup_steps=0, lr_decay=0.5, epochs=4)
    assert [schedule(training, step, 3) for step in range(9)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_the_rate_decays_linearly_to_zero_just_after_the_last_step():
    training = training_with(warmup_steps=0, lr_decay="linear", epochs=2)
    assert [schedule(training, step, 2) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]


def test_warm_up_multiplies_the_decay():
    training = training_with(warmup_steps=1, lr_decay="linear", epochs=2)
    assert [schedule(training, step, 2) for step in range(4)] == [0.5, 0.75, 0.5, 0.25]


def test_muon_gets_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = stage.build("rayformer", frames=9, in_joints=17, out_joints=17, in_channels=2, width=16, depth=2, heads=2)
    adamw, muon = optimizers_of(model, training_with(optimizer="muon"))
    (hidden,) = muon.param_groups
    names = {id(weight): name for name, weight in model.named_parameters()}
    of_muon = {names[id(weight)] for weight in hidden["params"]}
    layers = ("query", "key", "value", "proj", "mlp.fc1", "mlp.fc2")
    assert of_muon == {f"blocks.{block}.{layer}.weight" for block in (0, 1) for layer in layers}
    of_adamw = [names[id(weight)] for group in adamw.param_groups for weight in group["params"]]
    assert sorted([*of_adamw, *of_muon]) == sorted(names.values())
    assert (adamw.param_groups[0]["base_lr"], hidden["base_lr"]) == (0.003, 0.02)


def test_without_muon_adamw_gets_everything():
    model = stage.build("poseformer", frames=9, in_joints=17, out_joints=17, in_channels=2)
    (adamw,) = optimizers_of(model, training_with())
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(list(model.parameters()))
    assert adamw.param_groups[0]["weight_decay"] == 0.05


def mean_pose_error_mm(prepared: Path) -> float:
    """What one gets without looking: the mean training pose for every validation frame."""
    train_m, validation_m = (
        np.concatenate([clip.joints_camera_m - clip.joints_camera_m[:, :1] for clip in read_split(prepared / split)])
        for split in ("train", "validation")
    )
    return 1000 * float(np.linalg.norm(validation_m - train_m.mean(0), axis=-1).mean())


@pytest.mark.parametrize(
    "options",
    [
        {"model": "rayformer", "optimizer": "muon", "lr": 0.01},
        {
            "model": "poseformer",
            "frames": 1,
            "epochs": 30,
            "windows_per_epoch": 192,
            "batch_windows": 16,
            "lr": 0.001,
            "bone_loss": 0,
        },
        {"model": "linear"},
    ],
    ids=lambda options: options["model"],
)
def test_the_walker_is_learned(options, tmp_path):
    several = {"epochs": 15, "windows_per_epoch": 64, "lengths": (90, 90, 90), "lr_decay": "linear"}
    prepared = write_prepared(tmp_path / "prepared", **several | options)
    if options["model"] == "poseformer":  # the smallest that learns in a few hundred steps
        change_json(prepared / "training.json", hyperparameters={"embed_dim_ratio": 16, "depth": 1, "drop_path": 0.0})
    history = history_of(trained(prepared, tmp_path))
    baseline_mm = mean_pose_error_mm(prepared)
    assert history[-1]["train_mpjpe_mm"] < 0.6 * baseline_mm
    assert history[-1]["val_mpjpe_mm"] < 0.6 * baseline_mm


@torch.no_grad()
def test_a_linear_row_is_solved_at_once_whatever_the_seed(tmp_path):
    prepared = write_prepared(tmp_path / "prepared", model="linear")
    first, second = (trained(prepared, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert first["weights.safetensors"] == second["weights.safetensors"]
    (line,) = history_of(first)
    assert (line["epoch"], line["lr"], line["grad_norm"]) == (1, 0, 0)
    card = json.loads(first["card.json"])
    assert (card["epoch"], card["validation_mpjpe_mm"]) == (1, line["val_mpjpe_mm"])
    model, _ = load_checkpoint(tmp_path / "0" / "run", device=torch.device("cpu"))
    errors_mm = []
    for clip in read_split(prepared / "train"):
        screen = torch.from_numpy(clip.pixels / 500 - np.array([1, 0.9], dtype=np.float32))
        true_m = torch.from_numpy(clip.joints_camera_m - clip.joints_camera_m[:, :1])
        errors_mm.append((1000 * (model(screen[None])[0] - true_m)).norm(dim=-1))
    assert line["train_mpjpe_mm"] == pytest.approx(float(torch.cat(errors_mm).mean()), rel=1e-5)


def test_the_test_split_is_not_opened(prepared, uninterrupted, tmp_path):
    name = "every_frame_muon"
    own = shutil.copytree(prepared[name], tmp_path / "prepared")
    shutil.rmtree(own / "test")
    (own / "evaluation.json").unlink()
    assert trained(own, tmp_path) == uninterrupted[name]


def offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "offline", "DIR": str(folder), "FINISH_TIMEOUT": "20"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(folder))


NAMES = {
    "epoch": "epoch",
    "train_loss_m": "train/loss",
    "train_mpjpe_mm": "train/mpjpe_mm",
    "val_mpjpe_mm": "val/mpjpe_mm",
}
NAMES |= {"val_p_mpjpe_mm": "val/p_mpjpe_mm", "lr": "lr", "grad_norm": "grad_norm"}


@pytest.mark.parametrize("model", ["rayformer", "linear"])
def test_the_tracked_run_has_the_same_curve_as_the_history_and_changes_no_byte(model, tmp_path, monkeypatch):
    prepared = write_prepared(tmp_path / "prepared", model=model)
    untracked = trained(prepared, tmp_path / "untracked")
    resumed = model != "linear"
    if resumed:
        crashed(prepared, tmp_path, saves=5)
    offline(tmp_path, monkeypatch)
    assert trained(prepared, tmp_path) == untracked
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    logged = [row for row in read_history(file) if "train/loss" in row]
    for row, line in zip(logged, history_of(untracked), strict=True):
        assert {key: row[name] for key, name in NAMES.items()} == line
    config, summary, card = read_config(file), read_summary(file), json.loads(untracked["card.json"])
    assert (config["seed"], config["row"]) == (0, f"walker-gt-f9-{model}")
    assert config["training"] == json.loads((prepared / "training.json").read_text(encoding="utf-8"))["training"]
    assert summary["epoch_of_weights"] == card["epoch"]
    assert summary["val/mpjpe_mm_of_weights"] == card["validation_mpjpe_mm"]


def test_training_needs_no_wandb(prepared, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert trained(prepared["every_frame_muon"], tmp_path) == uninterrupted["every_frame_muon"]
    assert not (tmp_path / "wandb").exists() or not list((tmp_path / "wandb").glob("*run*"))


def test_a_missing_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^device: expected a GPU for 'cuda', found none that torch can use$"):
        torch_device("cuda")
    assert torch_device("auto") == torch_device("cpu") == torch.device("cpu")


def damage_configuration(folder: Path) -> None:
    change_json(folder / "training.json", epochs=3)


def damage_joints(folder: Path) -> None:
    joints_m = np.load(folder / "validation" / "joints_camera_m.npy")
    np.save(folder / "validation" / "joints_camera_m.npy", joints_m[:, :16])


def damage_channels(folder: Path) -> None:
    change_json(folder / "training.json", in_channels=3)


def damage_skeleton(folder: Path) -> None:
    change_json(folder / "training.json", in_skeleton="coco")


def damage_hyperparameters(folder: Path) -> None:
    change_json(folder / "training.json", hyperparameters={"width": 15})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: shutil.rmtree(folder), r"training\.json: expected a .*YAML file, found "),
        (lambda folder: shutil.rmtree(folder / "train"), r"prepared/train/clips\.json: expected the list of clips"),
        (lambda folder: (folder / "train" / "pixels.npy").unlink(), r"train/pixels\.npy: expected a numpy array"),
        (damage_configuration, r"training\.json: epochs: unknown key, found value 3$"),
        (damage_joints, r"prepared/validation: expected keypoints \(17, 2\) .*, found \(17, 2\) and 16 joints$"),
        (damage_channels, r"prepared/train: expected keypoints \(17, 3\) .*, found \(17, 2\) and 17 joints$"),
        (damage_skeleton, r"training\.json: skeleton: expected one of h36m17.*, found 'coco'$"),
        (damage_hyperparameters, r"training\.json: models\.rayformer: .*half the width 15, found 2$"),
    ],
)
def test_bad_prepared_data_are_refused_before_the_first_epoch(damage, complaint, prepared, tmp_path):
    own = shutil.copytree(prepared["every_frame_muon"], tmp_path / "prepared")
    damage(own)
    with pytest.raises(UserError, match=complaint):
        trained(own, tmp_path)
    assert not (tmp_path / "run").exists()


def test_the_progress_is_one_line_per_epoch_where_there_is_no_terminal(prepared, uninterrupted, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="pipeline.tracking.progress")
    trained(prepared["every_frame_muon"], tmp_path)
    history = history_of(uninterrupted["every_frame_muon"])
    lines = [message for message in caplog.messages if " epoch " in message]
    assert len(lines) == 2
    for number, line in enumerate(history):
        assert lines[number].startswith(f"walker-gt-f9-rayformer run 0 epoch {number + 1}/2  ")
        assert f"train {line['train_mpjpe_mm']:.1f} mm  val {line['val_mpjpe_mm']:.1f} mm" in lines[number]


def test_no_number_in_the_history_is_missing(uninterrupted):
    for files in uninterrupted.values():
        assert all(math.isfinite(value) for line in history_of(files) for value in line.values())
