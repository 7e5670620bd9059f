"""Text files that may hold anything -> plain values: JSON, YAML and CSV, refused in one line if they are damaged."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.system.errors import UserError
from pipeline.system.untrusted import check_weight

MAX_YAML_BYTES = 2 << 20  # the longest file of the project, dvc.lock, has 30 KB
MAX_YAML_VALUES = 500_000
# What comes of values of another kind, size or depth than expected.
BAD_VALUE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def read_json(path: Path, expected: str = "whole JSON") -> Any:
    """The content of a JSON file. Raises UserError if it is missing, damaged or nested absurdly deep."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML (or JSON) file: plain values alone.

    Raises UserError if it is missing or damaged, has tags that make objects, or is absurdly large, also where that is
    by values that refer to each other.
    """
    if not path.exists():
        raise UserError(f"{path}: expected a YAML file, found no such file")
    try:
        size = path.stat().st_size
        content = _plain_yaml(path) if size <= MAX_YAML_BYTES else None
    except (OSError, yaml.YAMLError, *BAD_VALUE) as error:
        raise UserError(f"{path}: expected a readable YAML file, found {reason(error)}") from error
    if size > MAX_YAML_BYTES:
        raise UserError(f"{path}: expected at most {MAX_YAML_BYTES} bytes of YAML, found {size}")
    return content


def _plain_yaml(path: Path) -> Any:
    """What yaml.safe_load gives, looked at for aliases of aliases before anything is made of them."""
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        check_weight(node, items=MAX_YAML_VALUES, array_bytes=0, where=str(path), parts=_nodes)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _nodes(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


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


def reason(error: BaseException) -> str:
    """What went wrong, in short; of text that cannot be decoded not the text itself."""
    words = f"{type(error).__name__}: {error}"
    return " ".join(words.split())[:200]
