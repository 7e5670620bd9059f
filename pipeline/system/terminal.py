"""Keeps what libraries in C write to the terminal away from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def divert_stderr(file: IO[bytes]) -> Iterator[None]:
    """Sends all that is written to this process's stderr into `file`, also by libraries in C, which sys.stderr cannot.

    For short calls: other threads' stderr is diverted with it.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
