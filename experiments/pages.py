"""What the pages of the experiments share: records are read, values and tables are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.system.errors import UserError


def read_record(path: Path) -> dict[str, Any]:
    """Returns the record of a row. Raises UserError if the file is missing or is not JSON."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected the record of a row, found {type(error).__name__}") from error
    return content


def mean_and_std(value: Mapping[str, Any]) -> str:
    """Returns "mean ± sample standard deviation", the mean alone for a single run."""
    return f"{value['mean']:.1f}" + ("" if value["std"] is None else f" ± {value['std']:.1f}")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table in Markdown."""
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (header, ["---"] * len(header), *rows))
