"""The whole pipeline under the real DVC, in a throw-away copy of the project with a tiny archive and tiny models."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.prepare_data.stage import prepare_data
from pipeline.train.stage import train
from tests.fixtures.small_project import (
    REPOSITORY,
    ROW,
    SEEDS,
    environment,
    hashes,
    stages_run,
    write_project,
    write_python,
)
from tests.fixtures.walker import contents

TRAINING = {"epochs": 2, "windows_per_epoch": 64, "batch_windows": 32}
MANIFEST = {"report": {"data/prepared"}}  # the manifest, which the page shows, has the hashes of all that is prepared

# The first run that has saved its state in mid-epoch takes all of DVC with it.
DEADLY = """
saves = 0

def save_then_die(folder, state, save=stage.save_state):
    global saves
    save(folder, state)
    saves += 1
    if saves == 4:
        os.killpg(0, 9)

stage.SAVE_EVERY_S, stage.save_state = -1.0, save_then_die
"""


class Project:
    """A throw-away copy of the project, and DVC in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def dvc(self, *arguments: str, umask: int = -1, **variables: str) -> subprocess.CompletedProcess[str]:
        """`dvc <arguments>`, with these variables in its environment."""
        return subprocess.run(
            ["dvc", *arguments],
            cwd=self.folder,
            env=environment(self.folder) | variables,
            capture_output=True,
            text=True,
            start_new_session=True,
            umask=umask,
            check=False,
        )

    def status(self) -> dict[str, set[str]]:
        """For each stage that is not up to date what has changed, without its commands."""
        answer = json.loads(self.dvc("status", "--json").stdout)
        return {
            stage: {file for part in parts if isinstance(part, dict) for files in part.values() for file in files}
            for stage, parts in answer.items()
        }

    def change(self, key: str, value: Any) -> None:
        """Another value for a parameter of the dataset."""
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["datasets"]["mocap"][key] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def project(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with one row in its table, a tiny archive and tiny parameters."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder, **TRAINING)
    return Project(folder)


@pytest.fixture(scope="module")
def killed_and_resumed(project: Project) -> SimpleNamespace:
    """`dvc repro`, killed in the middle of training, then `dvc repro` again to the end."""
    write_python(project.folder, DEADLY)
    killed = project.dvc("repro")
    left = {str(path.relative_to(project.folder)) for path in project.folder.rglob("*")}
    shutil.rmtree(project.folder / ".programs")
    return SimpleNamespace(killed=killed, left=left, resumed=project.dvc("repro"))


def test_a_power_cut_in_mid_training_leaves_no_half_run(killed_and_resumed):
    assert killed_and_resumed.killed.returncode == -signal.SIGKILL
    assert f"data/prepared/{ROW}/train" in killed_and_resumed.left
    assert f"data/checkpoints/{ROW}" not in killed_and_resumed.left
    assert [path for path in killed_and_resumed.left if path.endswith("/state.pt")]


def test_the_pipeline_goes_on_after_it_and_repeats_no_finished_run(killed_and_resumed):
    resumed = killed_and_resumed.resumed
    assert resumed.returncode == 0, resumed.stderr
    trained = [f"train@{ROW}-{seed}" for seed in SEEDS]
    assert stages_run(resumed.stdout) == [*trained, f"evaluate_5runs@{ROW}", "report"]
    assert re.search("run [01] goes on in epoch 2, step 1", resumed.stderr)
    assert "run 1 was trained beside another one" in resumed.stderr


def test_it_ends_with_the_bytes_of_an_undisturbed_run_of_the_stages(project, killed_and_resumed, tiny_raw, tmp_path):
    prepared, checkpoints = tmp_path / "prepared", tmp_path / "checkpoints"
    prepare_data(ROW, prepared, params_path=project.folder / "params.yaml", raw_folder=tiny_raw)
    for seed in SEEDS:
        train(prepared, checkpoints / f"run{seed}", seed=seed, work_folder=tmp_path / "work")
    reports, work = tmp_path / "reports", tmp_path / "work"
    evaluate_5runs(prepared, checkpoints, seeds=SEEDS, reports=reports, work_folder=work)
    assert contents(project.folder / "data" / "prepared" / ROW) == contents(prepared)
    assert contents(project.folder / "data" / "checkpoints" / ROW) == contents(checkpoints)
    for path, content in contents(reports).items():
        assert (project.folder / "reports" / path).read_bytes() == content, path


def test_the_table_is_made_of_the_metrics(project, killed_and_resumed):
    reports = project.folder / "reports"
    result = json.loads((reports / "metrics" / f"{ROW}.json").read_text(encoding="utf-8"))
    assert result["protocol"]["seeds"] == list(SEEDS)
    value = f"{result['mpjpe_mm']['mean']:.2f} ± {result['mpjpe_mm']['std']:.2f}"
    table = " ".join((reports / "results.md").read_text(encoding="utf-8").split())  # without the padding of cells
    assert f"| mocap | gt | 9 | rayformer | 2 | {value} |" in table
    assert (reports / "figures" / "per_action.png").is_file()
    assert f"<td>{value}</td>" in (reports / "index.html").read_text(encoding="utf-8")
    assert value.replace("±", r"$\pm$") in (reports / "results.tex").read_text(encoding="utf-8")


def test_a_second_repro_runs_nothing_and_changes_no_byte(project, killed_and_resumed):
    before = hashes(project.folder)
    again = project.dvc("repro")
    assert again.returncode == 0
    assert stages_run(again.stdout) == []
    assert "Data and pipelines are up to date." in again.stdout
    assert hashes(project.folder) == before


def test_in_another_folder_time_zone_language_and_umask_it_writes_the_same_bytes(project, killed_and_resumed, tmp_path):
    elsewhere = Project(tmp_path / "Übung 2, späte Läufe")
    write_project(elsewhere.folder, **TRAINING)
    language = turkish(tmp_path / "languages")
    ran = elsewhere.dvc("repro", umask=0o077, TZ="Pacific/Chatham", PYTHONHASHSEED="7", COLUMNS="40", **language)
    assert ran.returncode == 0, ran.stderr
    assert hashes(elsewhere.folder) == hashes(project.folder)


def turkish(folder: Path) -> dict[str, str]:
    """Variables for a language of other decimal points and capitals; of plain ASCII where the system has no sources."""
    folder.mkdir()
    command = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
    made = shutil.which("localedef") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    return {"LOCPATH": str(folder), "LC_ALL": "tr_TR.UTF-8"} if made else {"LC_ALL": "C"}


TRAINED = {f"train@{ROW}-{seed}" for seed in SEEDS}


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("pipeline/train/losses.py", TRAINED),
        ("pipeline/poses/geometry.py", {f"prepare_data@{ROW}", *TRAINED, f"evaluate_5runs@{ROW}", "report"}),
        ("pipeline/mocap/motions.py", {f"prepare_data@{ROW}", *TRAINED, f"evaluate_5runs@{ROW}"}),
        ("pipeline/system/files.py", set()),  # a log line, a progress bar, a call of W&B decide no number
        ("pipeline/tracking/progress.py", set()),
        ("pipeline/tracking/run.py", set()),
        ("pipeline/lift/lifter.py", set()),
        ("pipeline/visualization/figures.py", {"report"}),
    ],
)
def test_a_changed_file_makes_stale_the_stages_whose_numbers_it_may_decide(file, stale, project, killed_and_resumed):
    path = project.folder / file
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n# changed\n", encoding="utf-8")
    try:
        assert set(project.status()) == stale
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_new_or_changed_model_retrains_no_row_of_another(project, killed_and_resumed):
    mixste = project.folder / "models" / "mixste.py"
    before = mixste.read_text(encoding="utf-8")
    mixste.write_text(f"{before}\n# changed\n", encoding="utf-8")
    (project.folder / "models" / "another.py").write_text('"""Another network."""\n', encoding="utf-8")
    prepared = project.dvc("repro", f"prepare_data@{ROW}")
    assert stages_run(prepared.stdout) == [f"prepare_data@{ROW}"]
    assert project.status() == {}
    rayformer = project.folder / "models" / "rayformer.py"
    unchanged = rayformer.read_text(encoding="utf-8")
    rayformer.write_text(f"{unchanged}\n# changed\n", encoding="utf-8")
    project.dvc("repro", f"prepare_data@{ROW}")
    assert set(project.status()) == {*TRAINED, f"evaluate_5runs@{ROW}", "report"}
    mixste.write_text(before, encoding="utf-8")
    rayformer.write_text(unchanged, encoding="utf-8")
    (project.folder / "models" / "another.py").unlink()
    project.dvc("repro", f"prepare_data@{ROW}")


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        ("lr", 0.01, {f"train@{ROW}-{seed}": {f"data/prepared/{ROW}/training.json"} for seed in SEEDS} | MANIFEST),
        ("window_stride", 3, {f"evaluate_5runs@{ROW}": {f"data/prepared/{ROW}/evaluation.json"}} | MANIFEST),
    ],
)
def test_a_changed_parameter_makes_stale_what_it_touches(key, value, stale, project, killed_and_resumed):
    before = (project.folder / "params.yaml").read_text(encoding="utf-8")
    project.change(key, value)
    prepared = project.dvc("repro", f"prepare_data@{ROW}")
    assert stages_run(prepared.stdout) == [f"prepare_data@{ROW}"]
    assert project.status() == stale
    (project.folder / "params.yaml").write_text(before, encoding="utf-8")


def test_training_does_not_depend_on_the_test_split_nor_on_how_it_is_scored():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    prepared = {
        name: {str(path).rpartition("/")[2] for path in stage["deps"] if str(path).startswith("data/prepared/")}
        for name, stage in stages.items()
    }
    assert prepared["train"] == {"train", "validation", "training.json"}
    assert prepared["evaluate_5runs"] == {"test", "evaluation.json"}
    assert prepared["report"] == set()


def test_the_list_of_rows_that_the_report_depends_on_is_that_of_dvc_yaml():
    assert (REPOSITORY / "reports" / "rows.yaml").resolve() == REPOSITORY / "dvc.yaml"


def test_a_seed_more_trains_its_run_alone_and_a_damaged_run_comes_from_the_cache(project, killed_and_resumed):
    """Comes last, as the project has three runs then."""
    checkpoints, params = project.folder / "data" / "checkpoints" / ROW, project.folder / "params.yaml"
    before, text = contents(checkpoints), params.read_text(encoding="utf-8")
    params.write_text(text.replace("seeds:\n- 0\n- 1\n", "seeds:\n- 0\n- 1\n- 2\n"), encoding="utf-8")
    (checkpoints / "run1" / "weights.safetensors").write_bytes(b"damaged")
    more = project.dvc("repro", f"evaluate_5runs@{ROW}")
    assert stages_run(more.stdout) == [f"train@{ROW}-2", f"evaluate_5runs@{ROW}"]
    assert "run 2 epoch 2/2" in more.stderr
    assert not re.search("run [01] epoch", more.stderr)
    after = contents(checkpoints)
    assert {name for name in after if name not in before} == {
        f"run2/{name}" for name in ("card.json", "history.csv", "weights.safetensors")
    }
    assert before.items() <= after.items()
