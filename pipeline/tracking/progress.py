"""Shows how far a run is: a live line on a terminal, elsewhere one line per epoch in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

Record = Mapping[str, int | float | None]
ShowProgress = Callable[[float, Record | None, float], None]


@contextmanager
def progress_bar(name: str, epochs: int) -> Iterator[ShowProgress]:
    """Yields a function to be called with epochs done, the record of an epoch that has just ended, and the speed."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.1f}/{task.total:.0f}  {task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=epochs, numbers="")
        numbers = ""

        def show(epochs_done: float, record: Record | None, frames_per_s: float) -> None:
            nonlocal numbers
            if record is not None:
                numbers = f"train {record['train_mpjpe_mm']:.1f} mm"
                if record["val_mpjpe_mm"] is not None:
                    numbers += f"  val {record['val_mpjpe_mm']:.1f} mm"
                if bar.disable:
                    log.info("%s epoch %d/%d  %s  %.0f frames/s", name, epochs_done, epochs, numbers, frames_per_s)
            bar.update(task, completed=epochs_done, numbers=f"{numbers}  {frames_per_s:,.0f} frames/s")

        yield show
