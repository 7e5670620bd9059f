"""Finds the training runs that a folder knows of, running ones among them, in wandb's files and the checkpoints.

A run is known by its id, `<run key>-<seed>`. W&B's file of it, online or offline, has the curve so far; a checkpoint
has the whole one. For rows without checkpoints the learning curves of the report are taken. Whether a run without an
end is running is told by its lock in `.work/`, which dies with its process.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from filelock import FileLock, Timeout

from pipeline.config.rows import CARD, HISTORY
from pipeline.report.experiments import flatten
from pipeline.system.errors import BAD_VALUE, UserError
from pipeline.system.files import read_csv_lines, read_json
from pipeline.tracking.run import EPOCH_METRICS
from pipeline.tracking.wandb_files import read_items, records_by_kind, wandb_root

log = logging.getLogger(__name__)

DATA_HASH = "data.manifest_sha256"  # of the prepared data, in a run's configuration
SHORTEST_EPOCH_S = 0.05  # epochs that are nearer to each other were logged again by a run that was resumed
WORDS_IN_LABEL = 3  # settings that tell series apart; more make no label
EpochRecord = dict[str, float | None]


@dataclass(frozen=True)
class TrainingRun:
    """A run as far as it has come. Times are seconds since 1970; without W&B's file of it, `config` is None."""

    run_id: str
    row: str
    seed: int
    curve: tuple[EpochRecord, ...]
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

    @property
    def ends_at_s(self) -> float | None:
        """When the run will end if its epochs take as long as the median so far; None before its second epoch."""
        epochs_s = [after - before for before, after in zip(self.logged_s[:-1], self.logged_s[1:], strict=True)]
        epochs_s = [epoch_s for epoch_s in epochs_s if epoch_s > SHORTEST_EPOCH_S]
        if not epochs_s or self.epochs_planned is None:
            return None
        return self.logged_s[-1] + median(epochs_s) * (self.epochs_planned - len(self.curve))

    @property
    def last_errors(self) -> list[str]:
        """The errors of the last epoch in words."""
        names = {"val_mpjpe_mm": "validation", "train_mpjpe_mm": "train"}
        last = self.curve[-1] if self.curve else {}
        return [f"{last[name]:.1f} mm {word}" for name, word in names.items() if last.get(name) is not None]


ReadFiles = dict[Path, tuple[tuple[int, int], tuple[TrainingRun, ...]]]  # by path: time and size when read; its runs


def find_training_runs(root: Path, files: ReadFiles) -> list[TrainingRun]:
    """Returns all runs below `root`, each once, the newest first. `files` keeps what was read of unchanged files."""
    runs: dict[str, TrainingRun] = {}
    for run in _read_all(wandb_root(root), "wandb/*run-*/*.wandb", files, _read_tracked_run):
        if run.run_id not in runs or run.started_s >= runs[run.run_id].started_s:
            runs[run.run_id] = run
    for run_id, run in runs.items():
        if run.state == "running" and not _is_locked(root / ".work" / f"{run_id.rpartition('-')[0]}.lock"):
            runs[run_id] = replace(run, state="stopped")
    for run in _read_all(root, f"data/checkpoints/*/run*/{CARD}", files, _read_checkpoint_run):
        known = runs.get(run.run_id)
        runs[run.run_id] = run if known is None else replace(known, curve=run.curve, source=run.source, state=run.state)
    with_checkpoint = {run.row for run in runs.values() if run.source.name == HISTORY}
    for run in _read_all(root, "reports/learning_curves/[!.]*.csv", files, _read_reported_runs):
        if run.row not in with_checkpoint:
            runs[run.run_id] = run
    return sorted(runs.values(), key=lambda run: (-run.started_s, run.row, run.seed))


def collect_curves(runs: Sequence[TrainingRun]) -> dict[str, list[dict[str, int | float | None]]]:
    """Returns the epochs of each series by its label, each with its `run`; series with a running run come first."""
    series = group_in_series(runs)
    labels = sorted(series, key=lambda label: all(run.state != "running" for run in series[label]))
    return {label: [{"run": run.seed, **epoch} for run in series[label] for epoch in run.curve] for label in labels}


def group_in_series(runs: Sequence[TrainingRun]) -> dict[str, list[TrainingRun]]:
    """Returns runs that differ in nothing but the seed together, under a label that no other series has.

    `runs` come newest first, and so do the series. Of the runs of one seed a series has the newest.
    """
    groups: dict[str, dict[int, TrainingRun]] = {}
    for run in runs:
        groups.setdefault(_key_without_seed(run), {}).setdefault(run.seed, run)
    series = [sorted(group.values(), key=lambda run: run.seed) for group in groups.values()]
    labels = [_label(same[0], [other[0] for other in series if other[0].row == same[0].row]) for same in series]
    counts: Counter[str] = Counter()
    for place, label in enumerate(labels):
        counts[label] += 1
        labels[place] = label if counts[label] == 1 else f"{label} ({counts[label]})"
    return dict(zip(labels, series, strict=True))


def _key_without_seed(run: TrainingRun) -> str:
    if run.config is None:
        return f"{run.row} from its checkpoint"
    return json.dumps([_settings(run), run.commit, run.experiment], sort_keys=True)


def _settings(run: TrainingRun) -> dict[str, object]:
    return {key: value for key, value in (run.config or {}).items() if key not in ("seed", "dvc", "code")}


def _label(run: TrainingRun, rivals: Sequence[TrainingRun]) -> str:
    """Returns the row's name, and what tells the run from its `rivals`, one of each series of the row."""
    if len(rivals) == 1:
        return run.row
    if run.config is None:
        return f"{run.row} · checkpoints"
    settings = flatten(_settings(run))
    rival_settings = [flatten(_settings(rival)) for rival in rivals if rival.config is not None]
    differing = [key for key in settings if len({str(rival.get(key)) for rival in rival_settings}) > 1]
    differing.sort(key=lambda key: key == DATA_HASH)  # last: any other setting says more
    words = [run.experiment, *(_setting_in_words(key, settings[key]) for key in differing[:WORDS_IN_LABEL])]
    return " · ".join([run.row, *(filter(None, words) if any(words) else [run.commit[:7]])])


def _setting_in_words(key: str, value: object) -> str:
    return f"data {str(value)[:7]}" if key == DATA_HASH else f"{key.rpartition('.')[2]} {value}"


def _read_all(
    root: Path, pattern: str, files: ReadFiles, read: Callable[[Path], Iterable[TrainingRun]]
) -> Iterator[TrainingRun]:
    """Yields the runs in the files of a pattern; a file that cannot be read is left out with one warning."""
    for path in sorted(root.glob(pattern)):
        state = (0, 0)
        try:
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if path not in files or files[path][0] != state:
                files[path] = (state, tuple(read(path)))
        except (UserError, OSError, ImportError, *BAD_VALUE) as error:
            if path not in files:
                log.warning("%s is left out: %s: %s", path, type(error).__name__, error)
            files[path] = (state, ())
        yield from files[path][1]


def _read_tracked_run(path: Path) -> Iterator[TrainingRun]:
    """Yields the run in a file of wandb; none if it is of another stage or has not written how it began."""
    records = records_by_kind(path)
    if "run" not in records or records["run"][0].job_type != "train":
        return
    run = records["run"][0]
    config = {key: value for key, value in read_items(run.config.update).items() if not key.startswith("_")}
    rows = [read_items(history.item) for history in records.get("history", [])]
    epochs = {row["epoch"]: row for row in rows if "train/mpjpe_mm" in row}  # figures and tables have other rows
    exit_codes = [record.exit_code for record in records.get("exit", [])]
    yield TrainingRun(
        run_id=run.run_id,
        row=str(config["row"]),
        seed=int(config["seed"]),
        curve=tuple({key: _finite(row.get(name)) for key, name in EPOCH_METRICS.items()} for row in epochs.values()),
        source=path,
        state="running" if not exit_codes else "finished" if exit_codes[-1] == 0 else "failed",
        config=config,
        commit=str(config.get("code", {}).get("commit", "")),
        experiment=str(config.get("dvc", {}).get("experiment", "")),
        started_s=run.start_time.seconds + run.start_time.nanos / 1e9,
        logged_s=tuple(float(row["_timestamp"]) for row in epochs.values()),
    )


def _read_checkpoint_run(path: Path) -> Iterator[TrainingRun]:
    """Yields the run whose checkpoint has this card."""
    card, history = read_json(path), path.with_name(HISTORY)
    run_id = f"{card['run_key']}-{card['seed']}"
    yield TrainingRun(run_id, card["row"], int(card["seed"]), _read_curve(history), history, "finished")


def _read_reported_runs(path: Path) -> Iterator[TrainingRun]:
    """Yields the runs in the learning curves of a row's report."""
    for seed in dict.fromkeys(line["run"] for line in read_csv_lines(path, "learning curves")[1]):
        run_id = f"{path.stem}/run{seed}"
        yield TrainingRun(run_id, path.stem, int(seed), _read_curve(path, seed), path, "finished")


def _read_curve(path: Path, run: str | None = None) -> tuple[EpochRecord, ...]:
    """Returns the epochs in a file of one run, or those of the one called `run` in a file of several.

    What a file of an older version does not have is None.
    """
    lines = [line for line in read_csv_lines(path, "a learning curve")[1] if run is None or line["run"] == run]
    return tuple({column: _finite(line.get(column) or None) for column in EPOCH_METRICS} for line in lines)


def _finite(value: str | int | float | None) -> float | None:
    """Returns the number, or None where there is none that could be drawn."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _is_locked(path: Path) -> bool:
    """Returns whether a process holds the lock of a run."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
