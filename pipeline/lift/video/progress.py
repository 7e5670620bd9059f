"""Shows how far the detection in a video is, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.lift.video.frames import VideoFrame

REFRESH_S = 0.2


def show_progress(frames: Iterable[VideoFrame], name: str, duration_s: float | None) -> Iterator[VideoFrame]:
    """Yields the frames, and shows how many there were, how many in a second, and the time left.

    Drawn between two frames alone, as detectors divert what is written while they work.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=duration_s, numbers="")
        began_s = shown_s = time.monotonic()
        for number, frame in enumerate(frames):
            yield frame
            now_s = time.monotonic()
            if now_s - shown_s >= REFRESH_S:
                shown_s = now_s
                numbers = f"{number + 1:,} frames, {(number + 1) / (now_s - began_s):.1f} frames/s"
                bar.update(task, completed=frame.time_s, numbers=numbers, refresh=True)
