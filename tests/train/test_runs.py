"""Runs side by side end with the bytes of runs alone, whoever of their processes is killed or fails in between."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.system.errors import UserError
from pipeline.system.files import write_text
from pipeline.train import runs
from pipeline.train.job import deliver, plan_job
from pipeline.train.runs import train_beside, train_row
from pipeline.train.stage import train
from tests.fixtures.walker import change_json, contents, write_prepared
from tests.train import disturbed_runs
from tests.train.disturbed_runs import SEEDS, are_waiting, marker

REPOSITORY = Path(__file__).parents[2]
LONGEST_S = 120.0  # for what takes seconds on an idle machine


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Two runs train at a time on any machine, and their log is kept."""
    monkeypatch.setattr(runs, "_count_places", lambda _: 2)
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared"), optimizer="muon", windows_per_epoch=80)


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs that were trained one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in (*SEEDS, 2):
        train(prepared, folder / "row" / f"run{seed}", seed=seed, work_folder=folder / "work")
    return folder / "row"


def trained_runs(log: pytest.LogCaptureFixture) -> list[str]:
    """The runs that had a last epoch, in order of their names."""
    return sorted(line.split(" epoch ")[0] for line in log.messages if " epoch 2/2 " in line)


def test_runs_side_by_side_have_the_bytes_of_runs_alone_and_wait_for_their_stages(prepared, alone, tmp_path, caplog):
    row, work = tmp_path / "row", tmp_path / "work"
    options: dict[str, Any] = {"seeds": SEEDS, "work_folder": work}
    train_beside(prepared, row / "run0", seed=0, **options)
    assert trained_runs(caplog) == [f"walker-gt-f9-rayformer run {seed}" for seed in SEEDS]
    assert contents(row) == {name: content for name, content in contents(alone).items() if name.startswith("run0/")}
    caplog.clear()
    train_beside(prepared, row / "run1", seed=1, **options)
    assert trained_runs(caplog) == []
    assert contents(row / "run1") == contents(alone / "run1")
    assert all(path.suffix == ".lock" for path in work.iterdir())


def test_a_seed_more_trains_that_seed_alone(prepared, alone, tmp_path, caplog):
    row = tmp_path / "row"
    for seed in SEEDS:
        shutil.copytree(alone / f"run{seed}", row / f"run{seed}")
    options: dict[str, Any] = {"seeds": (*SEEDS, 2), "work_folder": tmp_path / "work"}
    train_beside(prepared, row / "run2", seed=2, **options)
    assert trained_runs(caplog) == ["walker-gt-f9-rayformer run 2"]
    assert contents(row) == contents(alone)
    caplog.clear()
    train_row(prepared, row, **options)
    assert trained_runs(caplog) == []


def test_a_run_of_other_data_or_parameters_or_with_a_damaged_card_is_to_be_trained(prepared, alone, tmp_path):
    own = shutil.copytree(prepared, tmp_path / "prepared")
    run = shutil.copytree(alone / "run0", tmp_path / "run0")
    assert plan_job(own, run, seed=0, work_folder=tmp_path).is_delivered()
    assert not plan_job(own, run, seed=1, work_folder=tmp_path).is_delivered()
    for card in ("{", "[]", "{}"):
        (run / "card.json").write_text(card, encoding="utf-8")
        assert not plan_job(own, run, seed=0, work_folder=tmp_path).is_delivered()
    shutil.copy(alone / "run0" / "card.json", run)
    change_json(own / "training.json", micro_batches=2)
    assert not plan_job(own, run, seed=0, work_folder=tmp_path).is_delivered()


def test_who_is_killed_while_delivering_leaves_no_half_checkpoint_to_be_delivered(prepared, tmp_path, monkeypatch):
    job = plan_job(prepared, tmp_path / "run0", seed=0, work_folder=tmp_path / "work")
    for name in ("card.json", "weights.safetensors"):
        write_text(job.finished / name, name)

    def be_killed(folder: Path, **_: object) -> None:
        if (folder / "weights.safetensors").exists():
            (folder / "weights.safetensors").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", be_killed)
    with pytest.raises(KeyboardInterrupt):
        deliver(job)
    deliver(job)
    assert set(contents(tmp_path / "run0")) == {"card.json", "weights.safetensors"}


def test_when_one_fails_or_is_killed_the_others_save_their_states_and_all_go_on(
    prepared, alone, tmp_path, monkeypatch, caplog
):
    row, work, train_in_child = tmp_path / "row", tmp_path / "work", runs._train_in_child
    monkeypatch.setattr(runs, "_train_in_child", disturbed_runs.failing_child)
    with pytest.raises(UserError, match=r"^clip_grad_norm: expected less, found 1\.0$"):
        train_row(prepared, row, seeds=SEEDS, work_folder=work)
    assert "run 0: SIGTERM in epoch 2, state saved after step 1" in caplog.text
    for seed in SEEDS:
        marker(work, seed).unlink()
    monkeypatch.setattr(runs, "_train_in_child", disturbed_runs.dying_child)
    with pytest.raises(SystemExit) as ended:
        train_row(prepared, row, seeds=SEEDS, work_folder=work)
    assert ended.value.code == 128 + signal.SIGKILL
    assert "run 1 was killed by SIGKILL; the others are stopped" in caplog.text
    assert "run 0: SIGTERM in epoch 2, state saved after step 3" in caplog.text
    assert not row.exists()
    monkeypatch.setattr(runs, "_train_in_child", train_in_child)
    monkeypatch.setattr(runs, "_count_places", lambda _: 1)  # and one after the other, where there is room for one
    train_row(prepared, row, seeds=SEEDS, work_folder=work)
    assert "run 0 goes on in epoch 2, step 3" in caplog.text
    assert "run 1 goes on in epoch 2, step 1" in caplog.text
    assert contents(row) == {name: content for name, content in contents(alone).items() if "run2" not in name}


def members(session: int) -> list[str]:
    """Command lines of the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (OSError, ProcessLookupError):
            continue
    return [line for line in found if line]  # which the dead have none of


def wait_until(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + LONGEST_S
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def interrupted(start: list[str], send: Callable[[int], None], work: Path, **variables: str) -> tuple[int, str]:
    """Starts two runs in a session of their own, and interrupts them when both wait; exit code and log.

    Ends when no process of the session is left.
    """
    environment = os.environ | variables
    process = subprocess.Popen(
        start, cwd=REPOSITORY, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: are_waiting(work))
    assert len(members(process.pid)) >= 3
    send(process.pid)
    _, said = process.communicate(timeout=LONGEST_S)
    wait_until(lambda: members(process.pid) == [])
    for seed in SEEDS:
        marker(work, seed).unlink()
    return process.returncode, said


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_whoever_is_killed_nothing_runs_on_and_a_signal_stops_all(prepared, alone, tmp_path):
    """Killed is the training process, then what started it in DVC's place; then come both signals."""
    row, work = tmp_path / "row", tmp_path / "work"
    command = [sys.executable, "-m", "tests.train.disturbed_runs", str(prepared), str(row), str(work)]
    as_of_dvc = ["sh", "-c", '"$@"; true', "sh", *command]
    code, _ = interrupted(command, lambda pid: os.kill(pid, signal.SIGKILL), work)
    assert code == -signal.SIGKILL
    code, _ = interrupted(as_of_dvc, lambda pid: os.kill(pid, signal.SIGKILL), work, DVC_STAGE="train")
    assert code == -signal.SIGKILL
    ways: list[tuple[signal.Signals, Callable[[int], None]]] = [
        (signal.SIGTERM, lambda pid: os.kill(pid, signal.SIGTERM)),
        (signal.SIGINT, lambda pid: os.killpg(pid, signal.SIGINT)),  # as Ctrl-C in a terminal does
    ]
    for step, (number, send) in zip((3, 5), ways, strict=True):
        code, said = interrupted(command, send, work)
        assert code == 128 + number
        for seed in SEEDS:
            assert f"run {seed} goes on in epoch 2, step {step}" in said
            assert f"run {seed}: {number.name} in epoch 2, state saved after step {step + 2}" in said
    train_row(prepared, row, seeds=SEEDS, work_folder=work)
    assert contents(row) == {name: content for name, content in contents(alone).items() if "run2" not in name}
