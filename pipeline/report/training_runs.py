"""The training runs that a folder knows of, those that go on among them: from wandb's files and the checkpoints.

A run is told by its id, `<run key>-<seed>`. W&B's file of it, online or offline, has the curve so far; a checkpoint has
the whole one. Of rows whose checkpoints are not there the report's learning curves are taken. Whether a run without an
end goes on is told by its lock in `.work/`, which dies with its process.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.poses.checkpoint import CARD, HISTORY
from pipeline.report.experiments import flat
from pipeline.report.wandb_files import read_items, records_by_kind
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import read_csv_lines, read_json
from pipeline.tracking.run import EPOCH_METRICS

log = logging.getLogger(__name__)

DATA = "data.manifest_sha256"  # of a run's config: the hash of what it is trained on
Record = dict[str, float | None]


@dataclass(frozen=True)
class TrainingRun:
    """A run as far as it has come. `ended` is what W&B's file says: None without an end in it, else its exit code.

    Times are seconds since 1970; `config` is None where only the checkpoint is known.
    """

    run_id: str
    row: str
    seed: int
    curve: tuple[Record, ...]
    source: Path
    state: str  # running, stopped, failed or finished
    config: Mapping[str, Any] | None = None
    commit: str = ""
    experiment: str = ""
    started_s: float = 0.0
    logged_s: tuple[float, ...] = field(default=(), repr=False)

    @property
    def epochs_planned(self) -> int | None:
        """How many epochs the run is to have, where its configuration is known."""
        return None if self.config is None else int(self.config["training"]["epochs"])


@dataclass(frozen=True)
class Series:
    """Runs that differ in nothing but the seed, under a label that no other series has; the newest of each seed."""

    label: str
    runs: tuple[TrainingRun, ...]

    @property
    def records(self) -> list[dict[str, Any]]:
        """All epochs of all runs, each with its `run`."""
        return [{"run": run.seed, **record} for run in self.runs for record in run.curve]


Parsed = dict[Path, tuple[tuple[int, int], TrainingRun | None]]


def training_runs(root: Path, parsed: Parsed) -> list[TrainingRun]:
    """All runs below `root`, each once, the newest first. `parsed` keeps what was read of files that do not change."""
    runs: dict[str, TrainingRun] = {}
    for path in sorted((root / "wandb").glob("*run-*/*.wandb")):
        run = _read_again(path, parsed, _tracked_run)
        if run is not None and (run.run_id not in runs or run.started_s >= runs[run.run_id].started_s):
            runs[run.run_id] = run
    for run_id, run in runs.items():
        if run.state == "running" and not _is_locked(root / ".work" / f"{run_id.rpartition('-')[0]}.lock"):
            runs[run_id] = replace(run, state="stopped")
    for path in sorted((root / "data" / "checkpoints").glob(f"*/run*/{CARD}")):
        run = _read_again(path, parsed, _finished_run)
        if run is not None:
            known = runs.get(run.run_id)
            if known is not None:
                run = replace(known, curve=run.curve, source=run.source, state="finished")
            runs[run.run_id] = run
    with_checkpoint = {run.row for run in runs.values() if run.source.name == HISTORY}
    for path in sorted((root / "reports" / "learning_curves").glob("*.csv")):
        if path.stem not in with_checkpoint:
            runs |= {run.run_id: run for run in _reported_runs(path)}
    return sorted(runs.values(), key=lambda run: (-run.started_s, run.row, run.seed))


def series_of(runs: Sequence[TrainingRun]) -> list[Series]:
    """The runs in series, in the order of their newest run."""
    groups: dict[str, dict[int, TrainingRun]] = {}
    for run in runs:  # newest first
        groups.setdefault(_sameness(run), {}).setdefault(run.seed, run)
    of_row: dict[str, list[list[TrainingRun]]] = {}
    for group in groups.values():
        of_row.setdefault(next(iter(group.values())).row, []).append(list(group.values()))
    labels = {id(group): label for own in of_row.values() for group, label in zip(own, _labels(own), strict=True)}
    every = [group for own in of_row.values() for group in own]
    every.sort(key=lambda group: (-max(run.started_s for run in group), group[0].row))
    return [Series(labels[id(group)], tuple(sorted(group, key=lambda run: run.seed))) for group in every]


def _sameness(run: TrainingRun) -> str:
    """Equal for runs that differ in nothing but the seed."""
    if run.config is None:
        return f"{run.row} from its checkpoint"
    return json.dumps([_told_apart_by(run), run.commit, run.experiment], sort_keys=True)


def _told_apart_by(run: TrainingRun) -> dict[str, Any]:
    return {key: value for key, value in (run.config or {}).items() if key not in ("seed", "dvc", "code")}


def _labels(groups: Sequence[Sequence[TrainingRun]]) -> list[str]:
    """A label for each series of one row: the row's name, and what tells the series apart if there are several."""
    row = groups[0][0].row
    if len(groups) == 1:
        return [row]
    configs = [flat(_told_apart_by(group[0])) for group in groups]
    known = [config for config in configs if config]
    differing = [key for key in (known[0] if known else {}) if len({str(own.get(key)) for own in known}) > 1]
    differing.sort(key=lambda key: key == DATA)  # any other word says more
    labels = []
    for group, config in zip(groups, configs, strict=True):
        run = group[0]
        words = [_in_words(key, config[key]) for key in differing[:3] if key in config]
        parts = [run.experiment, *words] if run.experiment or words else [run.commit[:7]]
        labels.append(" · ".join([row, *filter(None, parts)]) if run.config else f"{row} · checkpoints")
    taken: dict[str, int] = {}
    for place, label in enumerate(labels):
        taken[label] = taken.get(label, 0) + 1
        labels[place] = label if taken[label] == 1 else f"{label} ({taken[label]})"
    return labels


def _in_words(key: str, value: Any) -> str:
    """Of a setting that tells a series apart; a hash as git shows one."""
    return f"data {str(value)[:7]}" if key == DATA else f"{key.rpartition('.')[2]} {value}"


def _read_again(path: Path, parsed: Parsed, read: Any) -> TrainingRun | None:
    try:
        stat = path.stat()
        mark = (stat.st_mtime_ns, stat.st_size)
        if path not in parsed or parsed[path][0] != mark:
            parsed[path] = (mark, read(path))
        return parsed[path][1]
    except (UserError, OSError, ImportError, *BAD_VALUE) as error:
        if path not in parsed:
            log.warning("%s is left out: %s", path, reason(error))
        parsed[path] = (mark, None) if path.exists() else ((0, 0), None)
        return None


def _tracked_run(path: Path) -> TrainingRun | None:
    """The run in a file of wandb; None if it is of another stage or has not written how it began."""
    records = records_by_kind(path)
    if "run" not in records or records["run"][0].job_type != "train":
        return None
    run = records["run"][0]
    config = {key: value for key, value in read_items(run.config.update).items() if not key.startswith("_")}
    rows = [read_items(history.item) for history in records.get("history", [])]
    logged = {row["epoch"]: row for row in rows if "train/mpjpe_mm" in row}  # figures and tables have rows of their own
    exits = [record.exit_code for record in records.get("exit", [])]
    state = "running" if not exits else "finished" if exits[-1] == 0 else "failed"
    return TrainingRun(
        run_id=run.run_id,
        row=str(config["row"]),
        seed=int(config["seed"]),
        curve=tuple(
            {column: _finite(row.get(name)) for column, name in EPOCH_METRICS.items()} for row in logged.values()
        ),
        source=path,
        state=state,
        config=config,
        commit=str(config.get("code", {}).get("commit", "")),
        experiment=str(config.get("dvc", {}).get("experiment", "")),
        started_s=run.start_time.seconds + run.start_time.nanos / 1e9,
        logged_s=tuple(float(row["_timestamp"]) for row in logged.values()),
    )


def _finished_run(path: Path) -> TrainingRun:
    """The run that a checkpoint is of."""
    card = read_json(path)
    history = path.with_name(HISTORY)
    return TrainingRun(
        run_id=f"{card['run_key']}-{card['seed']}",
        row=card["row"],
        seed=int(card["seed"]),
        curve=tuple(_read_curve(history)),
        source=history,
        state="finished",
    )


def _reported_runs(path: Path) -> Iterator[TrainingRun]:
    """The runs in the learning curves of a row's report."""
    seeds = list(dict.fromkeys(line["run"] for line in read_csv_lines(path, "learning curves")[1]))
    for seed in seeds:
        curve = tuple(_read_curve(path, seed))
        yield TrainingRun(f"{path.stem}/run{seed}", path.stem, int(seed), curve, path, "finished")


def _read_curve(path: Path, run: str | None = None) -> Iterator[Record]:
    """The epochs in a file of one run, or of the one called `run` of several."""
    for line in read_csv_lines(path, "a learning curve")[1]:
        if run is None or line["run"] == run:
            yield {column: _finite(line[column] or None) for column in EPOCH_METRICS}


def _finite(value: Any) -> float | None:
    """The number, None where there is none that could be drawn."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a run."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
