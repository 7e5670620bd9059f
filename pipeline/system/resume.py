"""Where an unfinished training run keeps its state, so that it can go on after a crash.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from pipeline.system.archives import check_torch_archive
from pipeline.system.errors import reason
from pipeline.system.files import sha256_of

log = logging.getLogger(__name__)


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


def run_key(config: dict[str, Any], *, seed: int, files: list[Path]) -> str:
    """Hash of a run's configuration, its seed and the content of the files it depends on (data and code)."""
    contents = [(path.name, sha256_of(path)) for path in files]
    text = json.dumps([config, seed, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds the folder for this process; gives whether another process had to be waited for. Created if need be."""
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


def every(seconds: float) -> Callable[[], bool]:
    """A function that says whether more than that has passed since it last said so, or since now."""
    last = time.monotonic()

    def passed() -> bool:
        nonlocal last
        now = time.monotonic()
        over = now - last > seconds
        last = now if over else last
        return over

    return passed


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the saved state, whole or not at all; the one before it is kept until then and once more after.

    Raises OSError if it cannot be written, such as for want of space, and leaves nothing half-written then.
    """
    partial, current, previous = folder / "state.partial", folder / "state.pt", folder / "state.previous.pt"
    buffer = io.BytesIO()  # torch would hide why a file cannot be written
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
    """The newest state that can be read, or None. A damaged one is named in the log and the one before it is taken."""
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
    """Forget a finished run. The lock file stays: whoever waits on it must find the same file."""
    shutil.rmtree(folder, ignore_errors=True)
