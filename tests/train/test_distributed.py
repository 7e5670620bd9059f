"""Two ranks under torchrun, on the CPU, learn what one learns; one that is killed changes nothing."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.train import distributed
from pipeline.train.batches import shares
from pipeline.train.stage import train
from tests.fixtures.walker import contents, write_prepared

REPOSITORY = Path(__file__).parents[2]
OPTIONS = {
    # 3 steps of 8, 8 and 5 windows, of frames that do not all count
    "muon": {
        "model": "rayformer",
        "optimizer": "muon",
        "windows_per_epoch": 21,
        "augmentation": {},
        "with_confidence": True,
    },
    "adamw": {"model": "poseformer", "windows_per_epoch": 21},  # with drop path: no two ranks draw alike
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Each row by two ranks under torchrun, undisturbed and with one killed; and the first by one rank."""
    folder = tmp_path_factory.mktemp("ranks")
    for name, options in OPTIONS.items():
        write_prepared(folder / name, **options)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "2",
            "--nproc-per-node", "2", "--monitor-interval", "0.1",
            Path(__file__).with_name("ranks_run.py"), folder, "muon", "1", "adamw", "0",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    train(folder / "muon", folder / "alone", seed=0, work_folder=folder / "work")
    return SimpleNamespace(
        calm={name: contents(folder / "calm" / name) for name in OPTIONS},
        killed={name: contents(folder / "killed" / name) for name in OPTIONS},
        alone=contents(folder / "alone"),
        was_killed={path.name for path in folder.glob("* was killed")},
        log=done.stderr,
        work=folder / "work",
    )


def curve(files: dict[str, bytes]) -> list[float]:
    lines = list(csv.DictReader(files["history.csv"].decode().splitlines()))
    return [float(line[key]) for line in lines for key in ("train_mpjpe_mm", "grad_norm", "val_mpjpe_mm")]


def test_two_ranks_have_the_loss_curve_of_one(runs):
    assert curve(runs.calm["muon"]) == pytest.approx(curve(runs.alone), rel=1e-4)
    assert "2 x 1 parts" in runs.log


@pytest.mark.parametrize("name", OPTIONS)
def test_a_rank_that_is_killed_is_started_again_and_all_end_with_the_same_bytes(name, runs):
    assert f"{name} was killed" in runs.was_killed
    assert runs.killed[name] == runs.calm[name]


def test_the_restarted_ranks_go_on_from_the_last_state(runs):
    assert runs.log.count("goes on in epoch") == 2  # once for each kill


def test_one_rank_alone_speaks_and_leaves_no_state(runs):
    assert runs.log.count(" epoch 2/2 ") == 4
    assert {path.suffix for path in runs.work.iterdir()} == {".lock"}


@pytest.mark.parametrize(("windows", "processes", "parts"), [(8, 1, 1), (8, 3, 1), (5, 2, 4), (7, 2, 3), (1, 2, 2)])
def test_the_parts_of_all_ranks_are_the_batch_each_window_once(windows, processes, parts, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: processes)
    taken, sizes = [], []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for first, end in shares(windows, count=parts):
            taken += range(first, end)
            sizes.append(end - first)
    assert taken == list(range(windows))
    assert max(sizes) - min(sizes) <= 1
