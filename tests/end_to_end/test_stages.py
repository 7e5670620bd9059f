"""What each stage depends on: rooms, which hold all that it imports and that decides its numbers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
WATCHING = {"system", "config", "tracking", "visualization"}  # rooms that decide no number
ENTRIES = {
    "prepare_data": "pipeline.prepare_data.stage",
    "train": "pipeline.train.runs",
    "evaluate_5runs": "pipeline.evaluate_5runs.stage",
    "report": "pipeline.report.stage",
}


def source_of(module: str) -> Path | None:
    """The file of a module of this project."""
    path = REPOSITORY / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports_of(path: Path) -> set[str]:
    """Modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.split(".")[0] in ("pipeline", "models") and source_of(name)}
    return found


def room_of(module: str) -> str:
    """`poses` of pipeline.poses.clips; `models` of models.rayformer."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else parts[0]


def closure_of(entry: str) -> set[str]:
    """All modules that a stage imports; what rooms that only watch import in their turn does not count."""
    found: set[str] = set()
    waiting = {entry}
    while waiting:
        module = waiting.pop()
        path = source_of(module)
        if module in found or path is None:
            continue
        found.add(module)
        if room_of(module) not in WATCHING:
            waiting |= imports_of(path)
    return found


def rooms_of(stage: str) -> set[str]:
    """The rooms that dvc.yaml lists for a stage; the model's code is in training.json and evaluation.json."""
    deps = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    code = {str(path).removeprefix("pipeline/") for path in deps if str(path).startswith(("pipeline/", "models"))}
    return code | ({"models"} if stage in ("train", "evaluate_5runs") else set())


@pytest.mark.parametrize("stage", ENTRIES)
def test_all_that_decides_a_stages_numbers_lies_in_its_rooms(stage):
    rooms = {room_of(module) for module in closure_of(ENTRIES[stage])} - WATCHING - {"pipeline"}
    assert rooms <= rooms_of(stage)


@pytest.mark.parametrize("stage", ENTRIES)
def test_a_stage_depends_on_folders_that_are_there_and_on_no_single_file(stage):
    for room in rooms_of(stage):
        assert (REPOSITORY / "pipeline" / room).is_dir() or room == "models"


def test_a_run_goes_on_only_with_the_code_that_its_stage_depends_on():
    from pipeline.train.job import ROOMS

    assert set(ROOMS) | {"models"} == rooms_of("train")
