"""Runs that train side by side and are disturbed in their second epoch, when both have saved their states there.

`python -m tests.train.disturbed_runs PREPARED FOLDER WORK` trains two that wait there until they are to stop.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.system.errors import UserError
from pipeline.system.resume import Stop
from pipeline.train import runs
from pipeline.train.job import Job

SEEDS = (0, 1)


def marker(work_folder: Path, seed: int) -> Path:
    """The file that says that a run waits in its second epoch."""
    return work_folder / f"run{seed} waits"


def are_waiting(work_folder: Path) -> bool:
    """Returns whether both runs wait."""
    return all(marker(work_folder, seed).exists() for seed in SEEDS)


def waiting_child(job: Job, place: int, connection: Connection) -> None:
    """Trains a run that waits in its second epoch until it is to stop."""
    _disturbed_child(job, place, connection, lambda stop: stop.number is not None)


def failing_child(job: Job, place: int, connection: Connection) -> None:
    """Trains a run that waits too; that of seed 1 raises UserError when both do."""

    def fail() -> None:
        raise UserError("clip_grad_norm: expected less, found 1.0")

    _disturbed_child(job, place, connection, _when_both_wait(job, fail))


def dying_child(job: Job, place: int, connection: Connection) -> None:
    """Trains a run that waits too; that of seed 1 is killed when both do."""
    _disturbed_child(job, place, connection, _when_both_wait(job, lambda: os.kill(os.getpid(), signal.SIGKILL)))


def _when_both_wait(job: Job, happens: Callable[[], None]) -> Callable[[Stop], bool]:
    def ends(stop: Stop) -> bool:
        if job.seed == 1 and are_waiting(job.work_folder):
            happens()
        return stop.number is not None

    return ends


def _disturbed_child(job: Job, place: int, connection: Connection, ends: Callable[[Stop], bool]) -> None:
    from pipeline.train import stage

    save_state, train_job = stage.save_state, stage.train_job

    def train_job_and_wait(job: Job, *, stop: Stop, **options: Any) -> None:
        def save_and_wait(folder: Path, state: dict[str, Any]) -> None:
            save_state(folder, state)
            if state["epoch"] == 1:
                marker(job.work_folder, job.seed).touch()
                while not ends(stop):
                    time.sleep(0.01)

        stage.SAVE_EVERY_S, stage.save_state = -1.0, save_and_wait
        train_job(job, stop=stop, **options)

    stage.train_job = train_job_and_wait
    runs._train_in_child(job, place, connection)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepared, folder, work = map(Path, sys.argv[1:])
    runs._train_in_child, runs._count_places = waiting_child, lambda _: 2
    runs.train_row(prepared, folder, seeds=SEEDS, work_folder=work)
