"""Writes files and folders whole or not at all, hashes them, and reads JSON, YAML, CSV and arrays or refuses them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.system.errors import BAD_VALUE, UserError, reason

MAX_YAML_BYTES = 2 << 20  # the longest file of the project, dvc.lock, has 30 KB
MAX_YAML_ALIASES = 10  # dvc.yaml has 2; ten that refer to each other make at most 36 copies of anything


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, which takes the place of `folder` when the block ends well; else it is removed.

    Whoever is killed on the way leaves the old one, the new one or none, not a part of one.
    """
    partial, replaced = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "replaced.partial"))
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with _error_names(folder):
            yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for path in partial.rglob("*"):
        if path.is_file():
            _flush(path)
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields a path to write, which takes the place of `path` when the block ends well; else it is removed.

    It has the same suffix. The folder of `path` is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with _error_names(path):
            yield partial
            _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, and makes its folder if need be."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Writes `content` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, expected: str = "whole JSON") -> Any:
    """Returns the content of a JSON file. Raises UserError if it is missing, damaged or nested absurdly deep."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error


def read_yaml(path: Path) -> Any:
    """Returns the content of a YAML (or JSON) file: plain values alone.

    Raises UserError if it is missing or damaged, has tags that make objects, is absurdly large, or has so many aliases
    that what they refer to could be.
    """
    if not path.exists():
        raise UserError(f"{path}: expected a YAML file, found no such file")
    try:
        if (size := path.stat().st_size) > MAX_YAML_BYTES:
            raise UserError(f"{path}: expected at most {MAX_YAML_BYTES} bytes of YAML, found {size}")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_FewAliasesLoader)
    except (OSError, yaml.YAMLError, *BAD_VALUE) as error:
        raise UserError(f"{path}: expected a readable YAML file, found {reason(error)}") from error


class _FewAliasesLoader(yaml.SafeLoader):
    """Reads what yaml.safe_load does with at most MAX_YAML_ALIASES, none within what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes the next value. Raises ComposerError for an alias that is not admitted."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self.aliases += is_alias
        if self.aliases > MAX_YAML_ALIASES:
            raise yaml.composer.ComposerError(problem=f"more than {MAX_YAML_ALIASES} aliases")
        if is_alias and node is not None and node.end_mark is None:  # not read to its end yet
            raise yaml.composer.ComposerError(problem="an alias within what it refers to")
        return node


def read_csv_lines(path: Path, expected: str) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the columns of a CSV file, and its lines by column, all as text.

    Raises UserError if it is missing or damaged, two columns have one name, or a line is not of all columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            lines = [line for line in reader if line]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise UserError(f"{path}: expected columns of different names, found '{twice}' twice")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise UserError(f"{path}: line {number}: expected {len(columns)} values, found {len(line)}")
    return columns, [dict(zip(columns, line, strict=True)) for line in lines]


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
    """Returns the hash of the file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def md5_as_dvc(path: Path) -> str:
    """Returns the hash that DVC gives a file, or without its suffix a folder: of the list of its files and hashes."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(
        (file for file in path.rglob("*") if file.is_file()), key=lambda file: file.relative_to(path).as_posix()
    )
    entries = [{"md5": md5_as_dvc(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()


@contextmanager
def _error_names(path: Path) -> Iterator[None]:
    """Lets an error within the block that names no file, such as of a full disk, name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
