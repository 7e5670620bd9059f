"""SIGTERM, as a cluster sends it, and SIGINT, as Ctrl-C does: noticed, so that a run can save its state and leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stop:
    """The signal that came, if one did."""

    number: int | None = None

    @property
    def name(self) -> str:
        """Such as SIGTERM."""
        return "the signal of another rank" if self.number is None else signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as shells have it; SIGTERM's where another rank got it."""
        return 128 + (self.number or signal.SIGTERM)


@contextmanager
def noticed() -> Iterator[Stop]:
    """Within the block the first SIGTERM or SIGINT is noted and does nothing else; a second one acts as ever.

    Outside the main thread, where signals do not arrive, none is noted.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        stop.number = number
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
