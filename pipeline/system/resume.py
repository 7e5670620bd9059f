"""Keeps the state of an unfinished training run, so that it can go on after a crash or a signal.

The folder lies outside the pipeline's outputs (DVC deletes those before it runs a stage again). Its name is the hash of
all that determines the result, so a changed parameter never meets an old state. A lock keeps a second writer out.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.system.archives import check_torch_archive
from pipeline.system.errors import reason
from pipeline.system.files import sha256_of

log = logging.getLogger(__name__)


def run_key(config: Mapping[str, object], *, seed: int, files: list[Path]) -> str:
    """Returns a hash of a run's configuration, its seed and the content of the files it depends on (data and code)."""
    contents = [(path.name, sha256_of(path)) for path in files]
    text = json.dumps([config, seed, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def hold_lock(folder: Path) -> Iterator[bool]:
    """Holds the folder for this process; yields whether another process had to be waited for. Makes it if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
        waited = False
    except Timeout:
        log.warning("another process is training this run; waiting for it to end (%s)", folder)
        lock.acquire()
        waited = True
    try:
        yield waited
    finally:
        lock.release()


def save_state(folder: Path, state: dict[str, object]) -> None:
    """Writes the state, whole or not at all; the one before it is kept as state.previous.pt.

    Raises OSError if it cannot be written, such as for want of space, and leaves nothing half-written then.
    """
    import torch

    partial, current, previous = folder / "state.partial", folder / "state.pt", folder / "state.previous.pt"
    buffer = io.BytesIO()  # torch itself hides why a file cannot be written
    torch.save(state, buffer)
    try:
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(partial)) from error
    if current.exists():
        current.replace(previous)
    partial.replace(current)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Returns the newest state that can be read, or None; a damaged one is named in the log."""
    import torch  # here, as whoever only asks for a key or a lock should not wait for it

    for name in ("state.pt", "state.previous.pt"):
        path = folder / name
        if not path.exists():
            continue
        try:
            check_torch_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever comes of the bytes
            log.warning("%s: expected a saved state, found %s; trying the one before", path, reason(error))
    return None


def remove_state(folder: Path) -> None:
    """Removes the state of a finished run. The lock file stays: whoever waits on it must find the same file."""
    shutil.rmtree(folder, ignore_errors=True)


class Interval:
    """So many seconds, which begin again when somebody asked and they had passed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = time.monotonic()

    def has_passed(self) -> bool:
        """Returns whether the seconds have passed, and starts them again if so."""
        now = time.monotonic()
        passed = now - self.started > self.seconds
        if passed:
            self.started = now
        return passed


@dataclass
class Stop:
    """The signal that came, SIGTERM as a cluster sends it or SIGINT as Ctrl-C does, if one did."""

    number: int | None = None

    @property
    def name(self) -> str:
        """Returns the signal's name, such as SIGTERM."""
        return "the signal of another rank" if self.number is None else signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """Returns 128 and the number of the signal, as shells do; SIGTERM's where another rank got it."""
        return 128 + (self.number or signal.SIGTERM)


@contextmanager
def stop_on_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Yields `stop`, or a new one, which takes the first SIGTERM or SIGINT within the block; a second one acts as ever.

    So a run can save its state and leave. Outside the main thread, where signals do not arrive, it takes none.
    """
    stop = stop or Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore_handlers() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def take(number: int, frame: object) -> None:
        stop.number = number
        restore_handlers()

    for number in handlers:
        signal.signal(number, take)
    try:
        yield stop
    finally:
        restore_handlers()
