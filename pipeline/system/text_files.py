"""Text files that may hold anything -> plain values: JSON, YAML and CSV, refused in one line if they are damaged."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.system.errors import BAD_VALUE, UserError, reason

MAX_YAML_BYTES = 2 << 20  # the longest file of the project, dvc.lock, has 30 KB
MAX_YAML_ALIASES = 10  # dvc.yaml has 2; ten that refer to each other make at most 36 copies of anything


def read_json(path: Path, expected: str = "whole JSON") -> Any:
    """The content of a JSON file. Raises UserError if it is missing, damaged or nested absurdly deep."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML (or JSON) file: plain values alone.

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
    """What yaml.safe_load reads with, with at most MAX_YAML_ALIASES."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Composes the next value. Raises ComposerError where there are too many aliases, or one is within itself."""
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_YAML_ALIASES:
                raise yaml.composer.ComposerError(problem=f"more than {MAX_YAML_ALIASES} aliases")
        return super().compose_node(parent, index)


def csv_lines(path: Path, expected: str) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV file and its lines by column, all as text; a line that is not of all columns is refused.

    Raises UserError if it is missing or damaged, or two columns have one name.
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
