"""The dvc.yaml files of the experiments parse, name what there is, and leave only results behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from experiments.__main__ import app
from experiments.comparisons.rows import read_comparisons
from experiments.compute.settings import read_curves
from pipeline.__main__ import app as pipeline_app

REPOSITORY = Path(__file__).parents[2]
FILES = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "experiments").rglob("dvc.yaml"))


@pytest.fixture(scope="module")
def stages() -> dict[str, dict[str, PipelineStage]]:
    """The stages of each dvc.yaml of the repository by their names, as DVC reads them."""
    found: dict[str, dict[str, PipelineStage]] = {}
    with Repo(str(REPOSITORY)) as repository:
        for stage in repository.index.stages:
            if isinstance(stage, PipelineStage):
                found.setdefault(str(Path(stage.path_in_repo).as_posix()), {})[stage.name] = stage
    return found


def dependencies(stage: PipelineStage) -> set[str]:
    return {Path(dep.fspath).relative_to(REPOSITORY).as_posix() for dep in stage.deps}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_stage_runs_a_command_that_there_is_on_files_that_there_are(path, stages):
    commands = {
        "experiments": {command.name for command in app.registered_commands},
        "pipeline": {command.name for command in pipeline_app.registered_commands},
    }
    everywhere = {Path(out.fspath) for found in stages.values() for stage in found.values() for out in stage.outs}
    for stage in stages[path.as_posix()].values():
        words = stage.cmd.split()
        assert (words[:2], words[3] in commands[words[2]]) == (["python", "-m"], True)
        for name in dependencies(stage):
            file = REPOSITORY / name
            made = everywhere | {place.parent for place in everywhere}
            assert file.exists() or {file, *file.parents} & made, f"{stage.name}: {name}"


def test_there_is_a_stage_for_each_declared_row_that_leaves_its_metrics_alone(stages):
    found = stages["experiments/comparisons/dvc.yaml"]
    rows = list(read_comparisons(REPOSITORY / "experiments/comparisons/rows.yaml").rows)
    assert [name.partition("@")[2] for name in found if name.startswith("compare@")] == rows
    for row in rows:
        (out,) = found[f"compare@{row}"].outs
        assert (Path(out.fspath).relative_to(REPOSITORY).as_posix(), out.use_cache) == (
            f"experiments/comparisons/results/{row}.json",
            False,
        )


def test_the_curves_have_the_declared_networks_and_budgets():
    declared = read_curves(REPOSITORY / "experiments/compute/curves.yaml")
    matrix = yaml.safe_load((REPOSITORY / "experiments/compute/dvc.yaml").read_text(encoding="utf-8"))["stages"]
    networks = [*declared.networks]
    assert matrix["choose_rate"]["matrix"] == {"keypoints": [*declared.budgets], "network": networks}
    for keypoints, budgets in declared.budgets.items():
        assert matrix[f"curve_{keypoints}"]["matrix"] == {"network": networks, "minutes": [*budgets]}


def test_a_row_depends_on_the_code_and_parameters_that_a_row_of_the_table_depends_on(stages):
    row = stages["experiments/comparisons/dvc.yaml"]["compare@mocap-det-f27-default"]
    table = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    rooms = {"models", *(f"pipeline/{room}" for room in ("poses", "mocap", "prepare_data", "train", "evaluate_5runs"))}
    assert rooms <= dependencies(row)
    params = {key for dep in row.deps for key in getattr(dep, "params", None) or ()}
    assert {*table["prepare_data"]["params"]} - {"datasets", "threads"} <= params


def test_the_rows_that_are_measured_under_other_conditions_are_shown(stages):
    found = stages["experiments/generalisation/dvc.yaml"]
    rows = [name.partition("@")[2] for name in found if name.startswith("generalise@")]
    assert found["generalisation_report"].cmd.split()[4:] == rows
    assert {f"prepare_data@{row}" for row in rows} <= set(stages["dvc.yaml"])


def test_every_artifact_of_the_registry_is_what_stages_write():
    with Repo(str(REPOSITORY)) as repository:
        artifacts = repository.artifacts.read()["dvc.yaml"]  # warns of names that cannot be registered
        written = {Path(out.fspath).relative_to(REPOSITORY) for out in repository.index.outs}
    rows = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["matrix"]["row"]
    assert "lifter" in artifacts
    assert {*artifacts} <= {*rows, "lifter"}
    for name, artifact in artifacts.items():
        assert any({path, path.parent} & {Path(artifact.path)} for path in written), name
