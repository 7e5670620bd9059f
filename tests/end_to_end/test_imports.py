"""Each outside world has one door. The order of imports between rooms is a contract in pyproject.toml."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted([*(REPOSITORY / "pipeline").rglob("*.py"), *(REPOSITORY / "models").rglob("*.py")])


def module_name(path: Path) -> str:
    """As Python names it: pipeline.prepare_data.cmu_mocap."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in it; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_pipeline_loads_no_library_before_it_limits_the_processor():
    assert list(imported(REPOSITORY / "pipeline" / "__init__.py")) == ["pipeline.system.device.limit_instructions"]


@pytest.mark.parametrize(
    ("package", "doors"),
    [
        ("wandb", {"pipeline.tracking.run", "pipeline.tracking.service", "pipeline.tracking.wandb_files"}),
        ("typer", {"pipeline.__main__", "pipeline.checkpoints.commands", "pipeline.lift.command"}),
        # To read what others wrote without executing it, and to pass plain values between two own processes.
        ("pickle", {"pipeline.system.archives"}),
    ],
)
def test_a_package_comes_in_by_its_doors_alone(package, doors):
    users = {module_name(path) for path in MODULES if package in {name.split(".")[0] for name in imported(path)}}
    assert users == doors


def test_models_need_torch_and_little_else():
    allowed = {"models", "torch", "einops", "jaxtyping", "pydantic", *sys.stdlib_module_names}
    for path in MODULES:
        if module_name(path).split(".")[0] == "models":
            assert {name.split(".")[0] for name in imported(path)} <= allowed, path


def test_only_the_command_line_prints():
    for path in MODULES:
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        prints = any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)
        doors = ("pipeline.__main__", "pipeline.checkpoints.commands", "pipeline.lift.command")
        assert not prints or module_name(path) in doors, path
