"""docs/reliability.md from the records in docs/reliability/. `python -m tests.trials.reliability_page` writes it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
RECORDS = REPOSITORY / "docs" / "reliability"
PAGE = REPOSITORY / "docs" / "reliability.md"
# The record <name>.json and the module here that makes it; its `section` gives the lines of a section.
MAKERS = {
    "crashes": "torture",
    "mutants": "mutants",
    "processors": "processors",
    "pythons": "pythons",
    "fuzzing": "fuzz",
}


def page() -> str:
    """The page of the records that are there, and of what was found."""
    lines = [
        "# Reliability",
        "",
        "After a crash, a full disk or a killed process, type the command again:",
        "",
        "```sh",
        "dvc repro",
        "```",
        "",
        "Training goes on from its last saved state, and all files come out the same to the byte. This page shows",
        "what was tried to make that fail, and what else could spoil a result: changed formulas, other processors and",
        "Pythons, and hostile files.",
        "",
        "Each section is written from a record in `docs/reliability/`, which the command in it makes; the page is",
        "written from all of them by `python -m tests.trials.reliability_page`.",
    ]
    for name, module in MAKERS.items():
        path = RECORDS / f"{name}.json"
        if path.is_file():
            lines += [
                "",
                *importlib.import_module(f"tests.trials.{module}").section(
                    json.loads(path.read_text(encoding="utf-8"))
                ),
            ]
    found = json.loads((RECORDS / "found.json").read_text(encoding="utf-8"))
    lines += ["", "## Faults that were found and mended", "", "| found by | what | now |", "| --- | --- | --- |"]
    lines += [f"| {one['by']} | {one['what']} | {one['now']} |" for one in found]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
