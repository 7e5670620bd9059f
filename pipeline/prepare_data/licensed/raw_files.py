"""Describes the raw files of a dataset: what they are called, and who distributes them under which terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RawFiles:
    """A file, or files of a kind; `pattern` is relative to the dataset's folder.

    `expected` is how many there are in the whole dataset, None if it does not matter. `origin` says where their owner
    distributes them or how they are made, `terms` under which terms.
    """

    pattern: str
    content: str
    origin: str
    terms: str
    expected: int | None = None


@dataclass(frozen=True)
class Need:
    """Something that a purpose needs, and the files that have it: all of them together, or any kind alone."""

    what: str
    needed_for: str
    files: tuple[RawFiles, ...]
    any_one: bool = False
    optional: bool = False


@dataclass(frozen=True)
class RawDataset:
    """The raw files of one dataset, below `folder` of the raw folder. `page` is its documentation.

    `check` reads what is there and yields a line for each thing that is not as the dataset is known to be; it is called
    when all that every row needs is there, and raises UserError for a file that cannot be read. `find` gives the files
    of a pattern; what it gives may lie deeper than the pattern says.
    """

    title: str
    folder: str
    page: str
    needs: tuple[Need, ...]
    check: Callable[[Path], list[str]]
    find: Callable[[Path, str], list[Path]] = lambda folder, pattern: sorted(folder.glob(pattern))
