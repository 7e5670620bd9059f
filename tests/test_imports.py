"""Modules import downwards only, and each outside world has one door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Each module may import those of the lines above its own. A new module gets its place here.
LAYERS = (
    ("processor",),
    ("errors", "files", "progress", "skeleton", "charts", "results_tex", "wandb_files", "experiments", "wandb_service"),
    ("untrusted",),
    ("confined", "text_files"),
    ("geometry", "rows", "metrics", "losses", "raw_files", "device", "stop_signals"),
    ("human36m_cameras", "params", "clips", "detector_noise", "raw_arrays", "torch_file", "people", "ranks"),
    ("virtual_cameras", "bodies", "windows", "fresh_noise", "human36m_files", "humaneva_files", "mpi_inf_3dhp_files"),
    ("root_path", "keypoint_layouts"),
    ("framing", "distributions", "tracks", "lifted_files"),
    ("sources", "refilming", "model_input", "upright", "smoothing", "video_keypoints"),
    ("checkpoint", "optimization", "working_state", "tracking", "figures", "viewer", "rig", "movie", "shown_clips"),
    ("streaming", "lift_input", "keypoint_files", "conditions", "results_page", "training_runs"),
    ("tracked_looks",),
    ("batches",),
    ("engine",),
    ("training_looks",),
    ("prepare_data", "train", "evaluate_5runs", "report", "doctor", "import_checkpoint"),
    ("evaluate", "bvh", "gltf", "show", "lift", "generalise", "generalisation_report"),
    ("training_cost", "ablation_report"),
    ("export_onnx", "lift_recording", "board_page", "bench", "checkpoint_list"),
    ("board", "publish", "dashboard"),
    ("__main__",),
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
MODULES = sorted([*(REPOSITORY / "pipeline").rglob("*.py"), *(REPOSITORY / "models").rglob("*.py")])


def module_name(path: Path) -> str:
    """As Python names it: pipeline.sources.cmu_mocap."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in it; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pipeline_part(name: str) -> str:
    """The module or package of `pipeline` that a full name lies in."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_what_lies_below_it(path):
    importer = pipeline_part(module_name(path))
    found = {pipeline_part(name) for name in imported(path) if name.split(".")[0] == "pipeline"}
    if module_name(path).split(".")[0] == "models":
        assert not found
        return
    if importer == "":
        assert found <= {"processor"}, "pipeline/__init__.py loads no library"
        return
    for below in found - {importer}:  # the parts of a package may import each other
        assert LEVEL[below] < LEVEL[importer], f"{importer} imports {below}"


def test_every_module_has_a_level():
    parts = {pipeline_part(module_name(path)) for path in MODULES if module_name(path).startswith("pipeline.")}
    assert parts == set(LEVEL)


@pytest.mark.parametrize(
    ("package", "doors"),
    [
        ("wandb", {"pipeline.tracking", "pipeline.wandb_files", "pipeline.wandb_service"}),
        ("typer", {"pipeline.__main__"}),
        # To read what others wrote without executing it, and to pass plain values between two own processes.
        ("pickle", {"pipeline.untrusted", "pipeline.confined"}),
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
        assert not prints or module_name(path) == "pipeline.__main__", path
