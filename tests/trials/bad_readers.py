"""Readers that end, fill or hang their process, for the child process that reads foreign files."""

from __future__ import annotations

import os
from pathlib import Path


def ends(path: Path) -> None:
    """Ends its process."""
    os._exit(3)


def fills(path: Path) -> None:
    """Takes all the memory there is."""
    bytearray(64 << 30)


def turns(path: Path) -> None:
    """Never comes back."""
    while True:
        pass


def doubles(path: Path, number: float) -> list[float]:
    """Returns twice the number."""
    return [2 * number]
