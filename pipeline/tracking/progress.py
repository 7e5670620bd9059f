"""Shows how far runs are: a live line for each on a terminal, elsewhere one line per epoch in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

Record = Mapping[str, int | float | None]
ShowProgress = Callable[[float, Record | None, float], None]
ProgressBar = Callable[[str, int], AbstractContextManager[ShowProgress]]


class RunProgress(NamedTuple):
    """How far a run is: epochs done and planned, the record of an epoch that has just ended, and the speed."""

    name: str
    epochs: int
    epochs_done: float
    record: Record | None
    frames_per_s: float


@contextmanager
def progress_display() -> Iterator[Callable[[RunProgress], None]]:
    """Yields a function to be called with how far one of the runs is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.1f}/{task.total:.0f}  {task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    numbers: dict[str, str] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        def show(run: RunProgress) -> None:
            name, epochs, epochs_done, record, frames_per_s = run
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=epochs, numbers="")
            if record is not None:
                numbers[name] = f"train {record['train_mpjpe_mm']:.1f} mm"
                if record["val_mpjpe_mm"] is not None:
                    numbers[name] += f"  val {record['val_mpjpe_mm']:.1f} mm"
                if bar.disable:
                    said = f"{numbers[name]}  {frames_per_s:.0f} frames/s"
                    log.info("%s epoch %d/%d  %s", name, epochs_done, epochs, said)
            said = f"{numbers.get(name, '')}  {frames_per_s:,.0f} frames/s"
            bar.update(tasks[name], completed=epochs_done, numbers=said)

        yield show


@contextmanager
def progress_bar(name: str, epochs: int) -> Iterator[ShowProgress]:
    """Yields a function to be called with epochs done, the record of an epoch that has just ended, and the speed."""
    with progress_display() as show:
        yield lambda epochs_done, record, frames_per_s: show(
            RunProgress(name, epochs, epochs_done, record, frames_per_s)
        )
