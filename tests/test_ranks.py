"""Two ranks under torchrun, on the CPU, learn what one learns; one that is killed changes nothing."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from walker import contents, write_prepared

from pipeline import ranks
from pipeline.batches import shares
from pipeline.train import train

REPOSITORY = Path(__file__).parents[1]
OPTIONS = {
    # 3 steps of 8, 8 and 5 windows, of frames that do not all count
    "muon": {
        "model": "rayformer",
        "optimizer": "muon",
        "windows_per_epoch": 21,
        "refilming": {},
        "with_confidence": True,
    },
    "adamw": {"model": "poseformer", "windows_per_epoch": 21},  # with drop path: no two ranks draw alike
}


def trained(folder: Path, *, killed_ranks: dict[str, int]) -> SimpleNamespace:
    """By two ranks under torchrun, each row one of which may be killed."""
    folder.mkdir()
    rows = [str(word) for name, rank in killed_ranks.items() for word in (name, rank)]
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "2",
            "--nproc-per-node", "2", "--monitor-interval", "0.1",
            Path(__file__).with_name("ranks_run.py"), folder, *rows,
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, rank in killed_ranks.items():
        assert (rank >= 0) == (folder / f"{name} killed").exists()
    return SimpleNamespace(
        files={name: contents(folder / name) for name in killed_ranks}, log=done.stderr, work=folder / "work"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Both rows by one rank, by two, and by two of which one is killed."""
    folder = tmp_path_factory.mktemp("ranks")
    prepared = {name: write_prepared(folder / name, **options) for name, options in OPTIONS.items()}
    with ThreadPoolExecutor(2) as pool:
        calm = pool.submit(trained, folder / "calm", killed_ranks={"muon": -1, "adamw": -1})
        killed = pool.submit(trained, folder / "killed", killed_ranks={"muon": 1, "adamw": 0})
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("WANDB_MODE", "disabled")
            train(prepared["muon"], folder / "alone", seed=0, work_folder=folder / "work")
        return SimpleNamespace(alone=contents(folder / "alone"), calm=calm.result(), killed=killed.result())


def curve(files: dict[str, bytes]) -> list[float]:
    lines = list(csv.DictReader(files["history.csv"].decode().splitlines()))
    return [float(line[key]) for line in lines for key in ("train_mpjpe_mm", "grad_norm", "val_mpjpe_mm")]


def test_two_ranks_have_the_loss_curve_of_one(runs):
    assert curve(runs.calm.files["muon"]) == pytest.approx(curve(runs.alone), rel=1e-4)
    assert "2 x 1 parts" in runs.calm.log


@pytest.mark.parametrize("name", OPTIONS)
def test_a_rank_that_is_killed_is_started_again_and_all_end_with_the_same_bytes(name, runs):
    assert runs.killed.files[name] == runs.calm.files[name]


def test_the_restarted_ranks_go_on_from_the_last_state(runs):
    # Which step that is depends on how far rank 0 had come with writing when the other rank died.
    assert len(re.findall(r"goes on in epoch [12], step [0-9]+\n", runs.killed.log)) == 2
    assert "goes on in epoch" not in runs.calm.log


def test_one_rank_alone_speaks_and_leaves_no_state(runs):
    assert runs.calm.log.count(" epoch 2/2 ") == 2
    assert {path.suffix for path in runs.calm.work.iterdir()} == {".lock"}


@pytest.mark.parametrize(("windows", "processes", "parts"), [(8, 1, 1), (8, 3, 1), (5, 2, 4), (7, 2, 3), (1, 2, 2)])
def test_the_parts_of_all_ranks_are_the_batch_each_window_once(windows, processes, parts, monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: processes)
    taken, sizes = [], []
    for rank in range(processes):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        for first, end in shares(windows, count=parts):
            taken += range(first, end)
            sizes.append(end - first)
    assert taken == list(range(windows))
    assert max(sizes) - min(sizes) <= 1
