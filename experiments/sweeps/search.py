"""Searches the parameters of a row with Optuna: each trial is an experiment of DVC, judged by the validation takes."""

from __future__ import annotations

import itertools
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from celery.platforms import set_pdeathsig
from dvc.api import DVCFileSystem
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from pydantic import BaseModel, Field

from pipeline.config.rows import CARD, parse_row
from pipeline.config.values import Values, validated
from pipeline.poses.checkpoint import Card
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml
from pipeline.visualization.tables import markdown_table

log = logging.getLogger(__name__)


class Choice(Values):
    """What a parameter may be: one of `values`, or a number from `min` to `max`."""

    values: list[Any] | None = Field(None, min_length=1)
    min: int | float | None = None
    max: int | float | None = None
    distribution: Literal["uniform", "log_uniform_values", "int_uniform"] | None = None


class Sweep(BaseModel):
    """What this search and W&B's sweeps have in common. The other keys of a file are W&B's own."""

    method: Literal["grid", "random", "bayes"]
    parameters: dict[str, Choice] = Field(min_length=1)


class Outcome(NamedTuple):
    """What a trial came to: the experiment's name in DVC, and the validation MPJPE of each of its runs."""

    experiment: str
    errors_mm: list[float]


def search(path: Path, run: Callable[[Mapping[str, object]], Outcome | None], *, trials: int) -> str:
    """Runs trials one after the other and returns a table of them, the best first.

    A trial's score is the mean of its errors; one that fails has none. The same search draws the same values, and DVC
    runs nothing twice: typed again, an interrupted search goes on. Raises UserError if the file is no sweep or every
    trial fails.
    """
    sweep = validated(Sweep, read_yaml(path), where=str(path))
    choices = {name: _distribution(choice, f"{path}: parameters.{name}") for name, choice in sweep.parameters.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = TPESampler(seed=0) if sweep.method == "bayes" else RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    grid = list(_grid_points(sweep, path)) if sweep.method == "grid" else []
    for values in grid:
        study.enqueue_trial(values)
    for _ in range(min(trials, len(grid)) if grid else trials):
        trial = study.ask(choices)
        log.info("trial %d of %d: %s", trial.number + 1, trials, trial.params)
        outcome = run(trial.params)
        if outcome is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            trial.set_user_attr("outcome", outcome)
            study.tell(trial, float(np.mean(outcome.errors_mm)))
    return _summary(study.trials, list(choices))


def run_trial(values: Mapping[str, object], *, row: str, seeds: Sequence[int]) -> Outcome | None:
    """Trains the runs of a row with these values as an experiment of DVC, in a copy of the workspace; None if it fails.

    The test split stays closed: nothing is evaluated. Raises UserError if the row is none or has no validation takes.
    """
    selected = [f"{key}={value}" for key, value in vars(parse_row(row)).items()]
    drawn = [f"{name}={value}" for name, value in values.items()]
    options = [*selected, f"seeds=[{','.join(map(str, seeds))}]", *drawn]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", *(f"--set-param={option}" for option in options)]
    command += [f"train@{row}-{seed}" for seed in seeds]
    ends_with_search = partial(set_pdeathsig, "SIGKILL")  # where the system can; the training ends with its DVC
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, preexec_fn=ends_with_search
    )
    name = re.search(r"^Ran experiment\(s\): (\S+)$", done.stdout, flags=re.MULTILINE)
    if done.returncode != 0 or name is None:
        log.warning("the trial failed:\n%s", "\n".join(done.stdout.splitlines()[-15:]))
        return None
    outcome = Outcome(name[1], _validation_errors_mm(name[1], row, seeds))
    log.info("%s: validation MPJPE %s mm", outcome.experiment, ", ".join(f"{e:.2f}" for e in outcome.errors_mm))
    return outcome


def _distribution(choice: Choice, where: str) -> BaseDistribution:
    if choice.values is not None and choice.min is None and choice.max is None:
        return CategoricalDistribution(choice.values)
    if choice.values is not None or choice.min is None or choice.max is None or choice.min >= choice.max:
        raise UserError(
            f"{where}: expected values, or min and a larger max, found {choice.model_dump(exclude_none=True)}"
        )
    log_scale = choice.distribution == "log_uniform_values"
    if isinstance(choice.min, int) and isinstance(choice.max, int) and choice.distribution != "uniform":
        return IntDistribution(choice.min, choice.max, log=log_scale)
    return FloatDistribution(choice.min, choice.max, log=log_scale)


def _grid_points(sweep: Sweep, path: Path) -> Iterator[dict[str, object]]:
    for name, choice in sweep.parameters.items():
        if choice.values is None:
            raise UserError(f"{path}: parameters.{name}: expected values for a grid, found none")
    for point in itertools.product(*(choice.values or [] for choice in sweep.parameters.values())):
        yield dict(zip(sweep.parameters, point, strict=True))


def _validation_errors_mm(experiment: str, row: str, seeds: Sequence[int]) -> list[float]:
    """Returns the validation MPJPE of each run's weights, from the cards that the experiment has stored."""
    files = DVCFileSystem(rev=experiment)
    errors_mm = []
    for seed in seeds:
        card = Card.model_validate_json(files.read_text(f"data/checkpoints/{row}/run{seed}/{CARD}"))
        if card.validation_mpjpe_mm is None:
            raise UserError(f"{row}: expected validation takes to judge trials by, found none")
        errors_mm.append(card.validation_mpjpe_mm)
    return errors_mm


def _summary(trials: Sequence[optuna.trial.FrozenTrial], names: Sequence[str]) -> str:
    """Returns the table of all trials and what to do with the best. Raises UserError if none has a score."""
    scored = sorted((trial for trial in trials if trial.value is not None), key=lambda trial: trial.value or 0.0)
    failed = [trial for trial in trials if trial.value is None]
    if not scored:
        raise UserError(f"expected a trial that succeeds, found {len(failed)} that failed")
    rows = [_cells(trial, names) for trial in [*scored, *failed]]
    table = markdown_table([*names, "validation MPJPE, mm", "runs, mm", "experiment"], rows)
    return f"{table}\n\nthe best: dvc exp apply {scored[0].user_attrs['outcome'].experiment}"


def _cells(trial: optuna.trial.FrozenTrial, names: Sequence[str]) -> list[str]:
    drawn = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in map(trial.params.get, names)]
    outcome: Outcome | None = trial.user_attrs.get("outcome")
    if outcome is None:
        return [*drawn, "failed", "", ""]
    return [*drawn, f"{trial.value:.2f}", ", ".join(f"{e:.2f}" for e in outcome.errors_mm), outcome.experiment]
