"""The real wandb sends to a server on 127.0.0.1: what arrives is what was logged, at once or uploaded later."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.api import DVCFileSystem
from matplotlib.figure import Figure

from pipeline.tracking.dashboard import TITLE, curve_panels, save_dashboard
from pipeline.tracking.run import start_run
from tests.experiments.test_sweeps import SWEEPS, TARGET, read_sweep
from tests.fixtures.small_project import REPOSITORY, ROW, write_project
from tests.fixtures.tracked_runs import clean_environment, of_kind, wandb_files
from tests.fixtures.wandb_stand_in import API_KEY, ENTITY, StandIn, stand_in
from tests.tracking.test_tracking import EPOCHS, RUN, warnings_in
from tests.trials.two_machines import run

WANDB = str(Path(sys.executable).with_name("wandb"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[type[StandIn]]:
    # With a patch of its own: that of the test would be undone after the environment and leave its variables behind.
    with (
        clean_environment(tmp_path / "home", WANDB_HTTP_TIMEOUT="10", WANDB_FINISH_TIMEOUT="30"),
        stand_in() as handler,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{handler.listener.server_port}")
        patched.setenv("WANDB_API_KEY", API_KEY)
        patched.chdir(tmp_path)
        yield handler


def train(folder: Path) -> None:
    """A run of everything that a training logs."""
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    checkpoint = folder / "run0"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.bin").write_bytes(b"weights")
    with start_run(**RUN, config={"lr": 0.001}, folder=folder) as run:
        for values in EPOCHS:
            run.log(values)
        run.histogram("val/error", [1, 2], [0.0, 1.0, 2.0])
        run.figure("prediction", figure, epoch=2)
        run.page("validation_clip", "<p>a clip</p>", epoch=2)
        run.artifact("mocap-gt-f27-run0", "checkpoint", checkpoint, {"epoch": 2})
        run.summarise({"test/mpjpe_mm": 46.5})


def seen(server: type[StandIn]) -> dict[str, Any]:
    """What somebody who opens the run sees, without the times and the names of this machine."""
    (streams,) = server.streams.values()
    history = [json.loads(line) for _, line in sorted(streams["wandb-history.jsonl"].items())]
    summary = json.loads(streams["wandb-summary.json"][max(streams["wandb-summary.json"])])
    runs = [variables for operation, variables in server.asked if operation == "UpsertBucket"]
    configs = [json.loads(variables["config"]) for variables in runs if variables.get("config")]
    about = ("name", "project", "groupName", "displayName", "jobType", "tags")
    return {
        "history": [without_times(row) for row in history],
        "summary": without_times(summary),
        "config": {key: value for key, value in configs[-1].items() if key != "_wandb"},
        "about": {key: runs[0].get(key) for key in about},
        "media": {name for name in server.files if name.startswith("media/")},
        "artifacts": [variables["input"]["digest"] for name, variables in server.asked if name == "CreateArtifact"],
    }


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("_timestamp", "_runtime", "_wandb")}


def test_the_server_has_the_values_logged(server, tmp_path):
    train(tmp_path)
    history = seen(server)["history"]
    assert [{key: row[key] for key in EPOCHS[0]} for row in history[: len(EPOCHS)]] == EPOCHS


def test_a_run_that_was_interrupted_goes_on_as_the_same_run_with_its_whole_curve(server, tmp_path):
    for epochs in (EPOCHS[:2], EPOCHS):  # the engine logs what a resumed run has behind it once more
        with start_run(**RUN, config={}, folder=tmp_path) as run:
            for values in epochs:
                run.log(values)
    found = seen(server)
    assert [row["_step"] for row in found["history"]] == [0, 1, 2, 3, 4]
    assert [row["epoch"] for row in found["history"]] == [0, 1, 0, 1, 2]
    assert found["summary"]["val/mpjpe_mm"] == {"min": 45.125, "last": 47.5}


def test_a_run_uploaded_later_looks_as_one_that_was_online(server, tmp_path, monkeypatch):
    train(tmp_path / "online")
    online = seen(server)
    server.asked.clear()
    server.streams.clear()
    server.files.clear()
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tmp_path / "offline")
    assert not server.streams
    monkeypatch.delenv("WANDB_MODE")
    upload(tmp_path / "offline")
    assert seen(server) == online


def upload(folder: Path) -> None:
    """Uploads the one run that was tracked offline in a folder."""
    (file,) = wandb_files(folder)
    uploaded = subprocess.run([WANDB, "sync", str(file.parent)], capture_output=True, text=True, check=False)
    assert uploaded.returncode == 0, uploaded.stderr


def test_a_run_that_was_begun_offline_and_uploaded_goes_on_online_as_the_same_run(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        run.log(EPOCHS[0])
    upload(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        for values in EPOCHS:
            run.log(values)
    found = seen(server)  # of one run
    assert [row["epoch"] for row in found["history"]] == [0, 0, 1, 2]
    assert found["summary"]["val/mpjpe_mm"] == {"min": 45.125, "last": 47.5}


def fail(folder: Path) -> None:
    """A training that raises after an epoch."""
    with start_run(**RUN, config={}, folder=folder) as run:
        run.log(EPOCHS[0])
        raise ZeroDivisionError


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_training_that_fails_is_failed_on_the_server_at_once_or_when_it_is_uploaded(
    mode, server, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path)
    if mode == "offline":
        upload(tmp_path)
    assert server.exit_codes == {RUN["run_id"]: 1}


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_training_that_is_killed_ends_without_a_word_and_has_failed_when_it_is_uploaded(mode, server, tmp_path):
    """W&B's server calls a run crashed whose signs of life end without an exit code."""
    program = f"""
import time
from pathlib import Path
from pipeline.tracking.run import start_run
with start_run(**{RUN!r}, config={{}}, folder=Path({str(tmp_path)!r})) as run:
    run.log({EPOCHS[0]!r})
    time.sleep(600)
"""
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY), "WANDB_MODE": mode}
    training = subprocess.Popen([sys.executable, "-c", program], env=variables)
    while not (
        server.streams[RUN["run_id"]].get("wandb-history.jsonl")
        if mode == "online"
        else any(of_kind(path, "history") for path in wandb_files(tmp_path))
    ):
        assert training.poll() is None
        time.sleep(0.05)
    of_wandb = re.findall(r"\d+", subprocess.check_output(["pgrep", "--parent", str(training.pid)], text=True))
    training.kill()
    training.wait()
    while any(Path(f"/proc/{number}").exists() for number in of_wandb):
        time.sleep(0.05)
    if mode == "offline":
        upload(tmp_path)
    assert server.exit_codes == ({} if mode == "online" else {RUN["run_id"]: 1})
    assert server.streams[RUN["run_id"]]["wandb-history.jsonl"]


def test_lineage_leads_from_the_data_over_the_checkpoint_to_its_evaluation_and_its_table(server, tmp_path):
    manifest = tmp_path / "data" / "prepared" / RUN["row"] / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}", encoding="utf-8")
    train(tmp_path / "training")
    evaluation = {**RUN, "run_id": "evaluated", "job_type": "evaluate_5runs"}
    with start_run(**evaluation, config={}, folder=tmp_path) as run:
        run.used("mocap-gt-f27-run0", "checkpoint", tmp_path / "training" / "run0", {"epoch": 2})
        run.table("test/per_action", ["action", "mpjpe_mm"], [["walk", 40.0]])
    (table,) = [wanted for wanted in server.artifacts.values() if wanted["artifactTypeName"] == "run_table"]
    assert table["runName"] == "evaluated"
    names = {identity: wanted["artifactCollectionName"] for identity, wanted in server.artifacts.items()}
    used = [variables["input"] for operation, variables in server.asked if operation == "UseArtifact"]
    assert [(one["runName"], names[one["artifactID"]]) for one in used] == [
        (RUN["run_id"], "mocap-gt-f27-data"),
        ("evaluated", "mocap-gt-f27-data"),
        ("evaluated", "mocap-gt-f27-run0"),
    ]
    assert len(names) == 2 + 1  # what is used is what was logged, the same digest; and the table


def test_a_server_that_does_not_record_a_use_costs_one_warning(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pipeline.tracking.run.USE_LIMIT_S", 0.5)
    train(tmp_path / "training")
    caplog.clear()
    server.hang_at = "ArtifactType"
    with start_run(**{**RUN, "run_id": "evaluated"}, config={}, folder=tmp_path) as run:
        for _ in range(3):
            run.used("mocap-gt-f27-run0", "checkpoint", tmp_path / "training" / "run0", {"epoch": 2})
    said = [message for message in warnings_in(caplog) if "used failed" in message]
    assert said == ["W&B: used failed, training goes on: TimeoutError: no answer in 0.5 s"]


def test_the_dashboard_is_saved_as_a_workspace_and_a_report(server, tmp_path):
    results = tmp_path / "results.md"
    results.write_text("# Results\n", encoding="utf-8")
    addresses = list(save_dashboard(results, entity=ENTITY, project="poselift"))
    views = {
        variables["type"]: variables
        for operation, variables in server.asked
        if operation.lower().startswith("upsertview")
    }
    assert (views["project-view"]["displayName"], views["runs"]["displayName"]) == (TITLE, f"{TITLE}: results")
    for view in views.values():
        assert all(f'"{panel.y[0]}"' in view["spec"] for panel in curve_panels())
    assert all(f"{ENTITY}/poselift" in address for address in addresses)


@pytest.mark.stories
def test_an_agent_of_a_sweep_trains_an_experiment_that_is_judged_by_its_validation_error(server, tmp_path, monkeypatch):
    root = tmp_path / "project"
    write_project(root, epochs=1, windows_per_epoch=64, batch_windows=32, validation_step=16)
    sweep = read_sweep(SWEEPS[0])
    sweep["command"] = [part.replace(TARGET, f"train@{ROW}-0") for part in sweep["command"]]
    (root / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    run(root, "git add --all", "git commit --quiet --message project")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    started = subprocess.run([WANDB, "sweep", "sweep.yaml"], cwd=root, capture_output=True, text=True, check=True)
    assert f"wandb agent {ENTITY}/poselift/sweep1" in started.stderr
    trial = {
        "type": "run",
        "run_id": "trial1",
        "program": sweep["program"],
        "args": {"datasets.mocap.lr": {"value": 0.5}},
    }
    server.trials.append(trial)
    agent = ["agent", "--count", "1", f"{ENTITY}/poselift/sweep1"]
    subprocess.run([WANDB, *agent], cwd=root, capture_output=True, check=True)
    assert {variables["name"] for operation, variables in server.asked if operation == "UpsertBucket"} == {"trial1"}
    (name,) = run(root, "dvc exp list --name-only").split()
    card = json.loads(DVCFileSystem(root, rev=name).read_text(f"data/checkpoints/{ROW}/run0/card.json"))
    summary = seen(server)["summary"]
    assert summary[sweep["metric"]["name"]] == card["validation_mpjpe_mm"]
    assert not [key for key in summary if key.startswith("test/")]
    assert yaml.safe_load(DVCFileSystem(root, rev=name).read_text("params.yaml"))["datasets"]["mocap"]["lr"] == 0.5
