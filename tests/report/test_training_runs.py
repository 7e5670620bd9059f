"""Runs on disk are told apart, each is shown once, and wandb's files are read as wandb itself reads them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pipeline.report.training_runs import TrainingRun, find_training_runs, group_in_series
from pipeline.tracking.run import start_run
from pipeline.tracking.wandb_files import read_records
from tests.fixtures.tracked_runs import clean_environment, read_summary, wandb_files

ROW = "mocap-gt-f27-rayformer"
CONFIG = {"row": ROW, "frames": 27, "training": {"epochs": 3, "lr": 0.001}}
EPOCHS = [
    {
        "epoch": 1,
        "train/loss": 0.09,
        "train/mpjpe_mm": 90.5,
        "val/mpjpe_mm": 80.25,
        "val/p_mpjpe_mm": 60.0,
        "lr": 0.1,
        "grad_norm": 1.5,
    },
    {
        "epoch": 2,
        "train/loss": 0.07,
        "train/mpjpe_mm": 70.5,
        "val/mpjpe_mm": 65.125,
        "val/p_mpjpe_mm": 50.0,
        "lr": 0.05,
        "grad_norm": 1.0,
    },
]


@pytest.fixture(autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with clean_environment(tmp_path_factory.mktemp("home"), WANDB_MODE="offline"):
        yield


def track(
    root: Path, *, key: str = "0f1e2d", seed: int = 0, epochs: int = 2, fails: bool = False, **config: Any
) -> None:
    """A run as the stage `train` writes it."""
    identity: dict[str, Any] = {"row": ROW, "name": f"{ROW}/run{seed}", "job_type": "train", "run_id": f"{key}-{seed}"}
    try:
        with start_run(**identity, config={**CONFIG, **config, "seed": seed}, folder=root) as run:
            for values in EPOCHS[:epochs]:
                run.log(values)
            run.table("val/actions", ["action"], [["walking"]])
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def write_checkpoint(root: Path, *, key: str, seed: int) -> None:
    folder = root / "data" / "checkpoints" / ROW / f"run{seed}"
    folder.mkdir(parents=True)
    card = {"row": ROW, "seed": seed, "run_key": key}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    lines = (
        "epoch,train_loss_m,train_mpjpe_mm,val_mpjpe_mm,val_p_mpjpe_mm,lr,grad_norm\n"
        "1,0.09,90.5,80.25,60.0,0.1,1.5\n2,0.07,70.5,,,0.05,1.0\n"
    )
    (folder / "history.csv").write_text(lines, encoding="utf-8")


def without_end(path: Path) -> None:
    """The file as it is while its run goes on, or after a power cut: its last record is torn."""
    content = path.read_bytes()
    path.write_bytes(content[:-1])


def test_a_finished_run_has_the_curve_that_was_logged(tmp_path):
    track(tmp_path)
    (run,) = find_training_runs(tmp_path, {})
    assert (run.row, run.seed, run.state, run.epochs_planned) == (ROW, 0, "finished", 3)
    assert [record["val_mpjpe_mm"] for record in run.curve] == [80.25, 65.125]
    assert [record["grad_norm"] for record in run.curve] == [1.5, 1.0]


def test_a_run_that_raised_has_failed(tmp_path):
    track(tmp_path, fails=True)
    assert [run.state for run in find_training_runs(tmp_path, {})] == ["failed"]


def test_a_run_without_an_end_goes_on_as_long_as_its_lock_is_held(tmp_path):
    track(tmp_path)
    (path,) = wandb_files(tmp_path)
    without_end(path)
    parsed: Any = {}
    assert [run.state for run in find_training_runs(tmp_path, parsed)] == ["stopped"]
    (tmp_path / ".work").mkdir()
    with FileLock(tmp_path / ".work" / "0f1e2d.lock"):
        assert [run.state for run in find_training_runs(tmp_path, parsed)] == ["running"]
    assert [run.state for run in find_training_runs(tmp_path, parsed)] == ["stopped"]


def test_a_resumed_run_is_one_run_and_its_curve_the_longer_one(tmp_path):
    track(tmp_path, epochs=1)
    (path,) = wandb_files(tmp_path)
    path.parent.rename(
        path.parent.with_name("offline-run-19700101_000000-0f1e2d-0")
    )  # two within a second share a name
    track(tmp_path, epochs=2)
    (run,) = find_training_runs(tmp_path, {})
    assert len(run.curve) == 2


def test_a_checkpoint_and_what_wandb_wrote_of_its_training_are_one_run(tmp_path):
    track(tmp_path, key="aaaa", seed=0)
    write_checkpoint(tmp_path, key="aaaa", seed=0)
    write_checkpoint(tmp_path, key="bbbb", seed=1)
    first, second = find_training_runs(tmp_path, {})
    assert (first.run_id, first.source.name, first.epochs_planned) == ("aaaa-0", "history.csv", 3)
    assert (second.run_id, second.epochs_planned) == ("bbbb-1", None)
    assert second.curve[1]["val_mpjpe_mm"] is None


def test_without_checkpoints_the_reported_curves_are_taken(tmp_path):
    curves = tmp_path / "reports" / "learning_curves" / f"{ROW}.csv"
    curves.parent.mkdir(parents=True)
    header = "run,epoch,train_loss_m,train_mpjpe_mm,val_mpjpe_mm,val_p_mpjpe_mm,lr,grad_norm\n"
    curves.write_text(f"{header}0,1,0.01,9,8,7,0.1,1\n3,1,0.01,9,6,7,0.1,1\n3,2,0.01,9,5,7,0.1,1\n", encoding="utf-8")
    first, second = find_training_runs(tmp_path, {})
    assert [(first.seed, len(first.curve)), (second.seed, len(second.curve))] == [(0, 1), (3, 2)]
    write_checkpoint(tmp_path, key="bbbb", seed=1)
    assert [run.seed for run in find_training_runs(tmp_path, {})] == [1]


def test_a_file_that_cannot_be_read_is_left_out_with_one_warning(tmp_path, caplog):
    path = tmp_path / "wandb" / "offline-run-1-x" / "run-x.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"hello")
    parsed: Any = {}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert find_training_runs(tmp_path, parsed) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is left out: ValueError: {path}: expected a W&B file, found it to begin with b'hell'"
    ]


def test_a_damaged_or_unfinished_table_of_curves_is_left_out(tmp_path, caplog):
    path = tmp_path / "reports" / "learning_curves" / f"{ROW}.csv"
    path.parent.mkdir(parents=True)
    path.write_text("run,epoch\n0\n", encoding="utf-8")
    path.with_name(f".{ROW}.partial.csv").write_text("run,epoch\n0,1\n", encoding="utf-8")  # as evaluation writes it
    with caplog.at_level(logging.WARNING):
        assert find_training_runs(tmp_path, {}) == []
    complaint = f"{path}: line 2: expected 2 values, found 1"
    assert [record.getMessage() for record in caplog.records] == [f"{path} is left out: UserError: {complaint}"]


def run_of(seed: int, started_s: float, *, lr: float = 0.001, **changes: Any) -> TrainingRun:
    config = {**CONFIG, "training": {"epochs": 3, "lr": lr}, "seed": seed, "dvc": {"stage": f"train-{seed}"}}
    values: dict[str, Any] = {"config": config, "commit": "c0ffee0ff", "started_s": started_s, **changes}
    return TrainingRun(f"{started_s}-{seed}", ROW, seed, (), Path("x.wandb"), "finished", **values)


def test_runs_that_differ_in_the_seed_alone_are_one_series_of_the_newest_of_each():
    series = group_in_series([run_of(1, 30.0), run_of(0, 20.0), run_of(0, 10.0)])
    assert {label: [(run.seed, run.started_s) for run in runs] for label, runs in series.items()} == {
        ROW: [(0, 20.0), (1, 30.0)]
    }


def test_series_of_one_row_are_told_apart_by_what_differs():
    runs = [run_of(0, 30.0, lr=0.01), run_of(0, 20.0), run_of(0, 10.0, experiment="ultra-boon")]
    runs.append(run_of(0, 0.0, config=None))
    assert list(group_in_series(runs)) == [
        f"{ROW} · lr 0.01",
        f"{ROW} · lr 0.001",
        f"{ROW} · ultra-boon · lr 0.001",
        f"{ROW} · checkpoints",
    ]


def test_series_of_other_data_are_told_apart_by_the_beginning_of_their_hash_after_all_else():
    runs = []
    for place, (lr, letter) in enumerate(((0.01, "a"), (0.001, "b"))):
        run = run_of(0, 20.0 - place, lr=lr)
        runs.append(replace(run, config={"data": {"manifest_sha256": letter * 64}, **(run.config or {})}))
    assert list(group_in_series(runs)) == [
        f"{ROW} · lr 0.01 · data aaaaaaa",
        f"{ROW} · lr 0.001 · data bbbbbbb",
    ]


def test_series_of_two_commits_are_told_apart_by_them():
    labels = list(group_in_series([run_of(0, 2.0), run_of(0, 1.0, commit="badcafe00")]))
    assert labels == [f"{ROW} · c0ffee0", f"{ROW} · badcafe"]


def test_wandbs_own_reader_finds_the_same_history_and_summary(tmp_path):
    track(tmp_path)
    (path,) = wandb_files(tmp_path)
    inspect = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json"]
    summary = json.loads(subprocess.run([*inspect, "--summary", str(path)], capture_output=True, check=True).stdout)
    lines = subprocess.run([*inspect, str(path)], capture_output=True, check=True).stdout.splitlines()
    kinds = [json.loads(line)["type"] for line in lines]
    assert kinds == [record.WhichOneof("record_type") for record in read_records(path)]
    assert summary["summary"]["val/mpjpe_mm"] == read_summary(path)["val/mpjpe_mm"] == {"min": 65.125, "last": 65.125}
    assert (summary["exit_code"], summary["config"]["training"]) == (0, CONFIG["training"])


def test_runs_lie_where_wandb_dir_says_and_are_found_there(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "repository", tmp_path_factory.mktemp("elsewhere")
    root.mkdir()
    monkeypatch.setenv("WANDB_DIR", str(elsewhere))
    track(root)
    assert len(wandb_files(elsewhere)) == 1
    assert list(root.iterdir()) == []
    (run,) = find_training_runs(root, {})
    assert (run.row, run.seed, len(run.curve)) == (ROW, 0, 2)
