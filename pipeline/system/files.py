"""Files and folders written whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.system.errors import UserError, reason


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`; it takes its place when the block ends well, else it is removed."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with _named(folder):
            yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for path in partial.rglob("*"):
        if path.is_file():
            _flush(path)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path beside `path`, of the same suffix, to write; it takes its place when the block ends well, else it goes.

    The folder of `path` is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with _named(path):
            yield partial
            _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write the file whole or not at all, its folder too if need be."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def map_array(path: Path) -> np.ndarray:
    """Returns the array in an npy file, mapped into memory. Raises UserError if the file is missing or damaged."""
    try:
        with np.errstate(over="ignore"):  # for a shape that nothing has
            return np.lib.format.open_memmap(path, mode="r")  # np.load would open archives too
    except (MemoryError, RecursionError) as error:  # the header is Python's notation, which Python parses
        raise UserError(f"{path}: expected a numpy array, found a header nested too deep") from error
    except Exception as error:  # the parser, the tokenizer and numpy raise whatever comes of the bytes
        raise UserError(f"{path}: expected a numpy array, found {reason(error)}") from error


def sha256_of(path: Path) -> str:
    """Hash of the file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def md5_as_dvc(path: Path) -> str:
    """The hash that DVC gives a file, or a folder: there of the sorted list of its files and hashes; no suffix."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(
        (file for file in path.rglob("*") if file.is_file()), key=lambda file: file.relative_to(path).as_posix()
    )
    entries = [{"md5": md5_as_dvc(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Within the block a full disk, which says not what it is full of, is an error that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
