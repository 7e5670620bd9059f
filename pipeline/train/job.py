"""A run to be trained: where its data, its state and its checkpoint lie, and the key of all that decides its weights.

Imports no torch, so that a run that is finished, or cannot begin, is known at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.params import TrainingConfig
from pipeline.config.rows import CARD
from pipeline.config.values import validated
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, read_json, read_yaml
from pipeline.system.resume import remove_state, run_key

ROOMS = ("mocap", "poses", "train")  # whose code decides the weights, as dvc.yaml says; the model's is in training.json


@dataclass(frozen=True)
class Job:
    """One run. Its checkpoint belongs in `out`, and waits in `finished` until it is delivered."""

    prepared: Path
    out: Path
    seed: int
    key: str
    work_folder: Path

    @property
    def state(self) -> Path:
        """The folder of the state for resuming."""
        return self.work_folder / self.key

    @property
    def finished(self) -> Path:
        """The folder of the checkpoint until it is delivered."""
        return self.work_folder / f"{self.key}.finished"

    def is_finished(self) -> bool:
        """Returns whether the run has ended and waits to be delivered."""
        return self.finished.is_dir()

    def is_delivered(self) -> bool:
        """Returns whether `out` has the checkpoint of this very run."""
        try:
            card = read_json(self.out / CARD)
        except UserError:  # none, or a damaged one
            return False
        return isinstance(card, dict) and card.get("run_key") == self.key


def read_training_config(prepared: Path) -> TrainingConfig:
    """Returns what training.json says. Raises UserError if it is missing or damaged."""
    path = prepared / "training.json"
    return validated(TrainingConfig, read_yaml(path), where=str(path))


def plan_job(prepared: Path, out: Path, *, seed: int, work_folder: Path) -> Job:
    """Returns the run of a seed. Raises UserError if there are no prepared data or training.json is damaged."""
    config = read_training_config(prepared)
    key = run_key(config.model_dump(), seed=seed, files=_files_a_run_depends_on(prepared))
    return Job(prepared, out, seed, key, work_folder)


def plan_row(prepared: Path, folder: Path, *, seeds: Sequence[int], work_folder: Path) -> list[Job]:
    """Returns the runs of a row, which belong in run<seed> of `folder`."""
    return [plan_job(prepared, folder / f"run{seed}", seed=seed, work_folder=work_folder) for seed in seeds]


def deliver(job: Job) -> None:
    """Puts the checkpoint of a finished run in its place, whole or not at all, and removes what was kept of it.

    Where another process has done so already there is nothing to do.
    """
    if not job.is_finished():
        return
    with new_folder(job.out) as unfinished:
        for path in job.finished.iterdir():
            shutil.copy(path, unfinished)
    delivered = job.finished.with_suffix(".delivered")  # a folder that is half removed is no finished run
    shutil.rmtree(delivered, ignore_errors=True)
    job.finished.rename(delivered)
    shutil.rmtree(delivered)
    remove_state(job.state)


def _files_a_run_depends_on(prepared: Path) -> list[Path]:
    pipeline = Path(__file__).parents[1]
    code = [path for room in ROOMS for path in sorted((pipeline / room).rglob("*.py"))]
    return [path for split in ("train", "validation") for path in sorted((prepared / split).glob("*"))] + code
