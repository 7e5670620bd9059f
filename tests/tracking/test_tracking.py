"""Runs are tracked by the real wandb: offline, or against a server on 127.0.0.1 that refuses, hangs or answers."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from matplotlib.figure import Figure

from pipeline.tracking import service as wandb_service
from pipeline.tracking.run import BEST_IS_LOWEST, Run, start_run
from pipeline.tracking.wandb_files import read_records
from tests.fixtures.tracked_runs import clean_environment, of_kind, read_config, read_history, read_summary, wandb_files
from tests.fixtures.wandb_stand_in import API_KEY, StandIn, stand_in

RUN = {"row": "mocap-gt-f27", "name": "mocap-gt-f27/seed0", "job_type": "train", "run_id": "0f1e2d"}
EPOCHS = [
    {"epoch": 0, "train/loss": 0.5, "val/mpjpe_mm": 61.25, "val/p_mpjpe_mm": 48.5, "lr": 0.001, "grad_norm": 2.0},
    {"epoch": 1, "train/loss": 0.25, "val/mpjpe_mm": 45.125, "val/p_mpjpe_mm": 36.5, "lr": 0.0005, "grad_norm": 1.5},
    {"epoch": 2, "train/loss": 0.125, "val/mpjpe_mm": 47.5, "val/p_mpjpe_mm": 37.75, "lr": 0.00025, "grad_norm": 1.0},
]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with clean_environment(tmp_path / "home"):
        yield


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in ours(caplog) if record.levelno >= logging.WARNING]


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [
        record for record in caplog.records if record.name in ("pipeline.tracking.run", "pipeline.tracking.service")
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One offline run that uses everything, as a DVC experiment in a temporary copy of the repository starts it."""
    repository = tmp_path_factory.mktemp("repository")
    copy = tmp_path_factory.mktemp("copy")
    home = tmp_path_factory.mktemp("home")
    checkpoint = copy / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "weights.bin").write_bytes(b"first")
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    experiment = {"DVC_ROOT": str(repository), "DVC_EXP_NAME": "ultra-boon", "DVC_STAGE": "train@mocap-gt-f27-0"}
    with (
        clean_environment(home, **experiment),
        start_run(**RUN, config={"lr": 0.001, "model": {"depth": 4}}, folder=copy) as run,
    ):
        for values in EPOCHS:
            run.log(values)
        run.log({"epoch": 3, "train/loss": math.nan})
        run.table("val/actions", ["action", "mpjpe_mm"], [["Walking", 41.5], ["Jumping", 52.25]])
        run.figure("val/pose", figure)
        run.artifact("mocap-gt-f27-seed0", "model", checkpoint, {"epoch": 2})
        run.summarise({"test/mpjpe_mm": 46.5})
        (checkpoint / "weights.bin").write_bytes(b"overwritten")
        where = run.where
    return SimpleNamespace(repository=repository, copy=copy, home=home, where=where, file=wandb_files(repository)[0])


def test_the_commit_is_that_of_the_folder_that_a_stage_runs_in(tmp_path, monkeypatch) -> None:
    name = ["-c", "user.name=me", "-c", "user.email=me@mail.example"]
    for command in (["init", "-q"], [*name, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    identities: list[dict[str, dict[str, object]]] = []
    monkeypatch.setattr("pipeline.tracking.run.open_run", lambda *arguments: identities.append(arguments[-1]))
    monkeypatch.chdir(tmp_path)
    with start_run(**RUN, config={}, folder=tmp_path.parent):  # as POSELIFT_WORK has it: not in the repository
        pass
    assert identities[0]["config"]["code"] == {"commit": head.stdout.strip()}


def test_the_values_read_back_are_the_values_logged(recorded: SimpleNamespace) -> None:
    assert read_history(recorded.file)[:3] == EPOCHS


def test_a_loss_that_is_not_a_number_stays_visible(recorded: SimpleNamespace) -> None:
    assert math.isnan(float(read_history(recorded.file)[3]["train/loss"]))


def test_epoch_is_the_x_axis_of_every_chart(recorded: SimpleNamespace) -> None:
    metrics = of_kind(recorded.file, "metric")
    assert {metric.name or metric.glob_name: metric.step_metric for metric in metrics} == {
        "epoch": "",
        "*": "epoch",
        **dict.fromkeys(BEST_IS_LOWEST, "epoch"),
    }


def test_the_summary_has_the_best_and_the_last_validation_error(recorded: SimpleNamespace) -> None:
    summary = read_summary(recorded.file)
    assert summary["val/mpjpe_mm"] == {"min": 45.125, "last": 47.5}
    assert summary["val/p_mpjpe_mm"] == {"min": 36.5, "last": 37.75}
    assert summary["test/mpjpe_mm"] == 46.5


def test_a_run_is_found_by_its_row_stage_name_and_project(recorded: SimpleNamespace) -> None:
    (run,) = of_kind(recorded.file, "run")
    assert (run.run_group, run.job_type, run.display_name) == ("mocap-gt-f27", "train", "mocap-gt-f27/seed0")
    assert (run.run_id, run.project) == ("0f1e2d", "poselift")
    assert list(run.tags) == ["mocap", "gt", "f27", "ultra-boon"]


def test_the_config_has_the_parameters_and_what_dvc_says(recorded: SimpleNamespace) -> None:
    config = read_config(recorded.file)
    assert (config["lr"], config["model"]) == (0.001, {"depth": 4})
    assert config["dvc"] == {"experiment": "ultra-boon", "stage": "train@mocap-gt-f27-0"}


def test_a_table_keeps_its_columns_and_rows(recorded: SimpleNamespace) -> None:
    (path,) = recorded.file.parent.glob("files/media/table/val/*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["action", "mpjpe_mm"]
    assert table["data"] == [["Walking", 41.5], ["Jumping", 52.25]]


def test_a_figure_is_kept_as_a_picture(recorded: SimpleNamespace) -> None:
    (path,) = recorded.file.parent.glob("files/media/images/val/*.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_artifact_is_a_reference_to_the_checkpoint_as_it_was_when_logged(recorded: SimpleNamespace) -> None:
    (artifact,) = (record for record in of_kind(recorded.file, "artifact") if record.type == "model")
    (entry,) = artifact.manifest.contents
    metadata = json.loads(artifact.metadata)
    weights = [{"md5": hashlib.md5(b"first").hexdigest(), "relpath": "weights.bin"}]
    md5 = hashlib.md5(json.dumps(weights).encode()).hexdigest()
    assert (artifact.name, metadata["epoch"], metadata["dvc_md5"]) == ("mocap-gt-f27-seed0", 2, md5)
    assert (entry.path, entry.ref) == ("checkpoint", f"dvc://{md5}/checkpoint")


def test_everything_lies_in_the_repository_and_nothing_in_the_copy_or_the_home_folder(
    recorded: SimpleNamespace,
) -> None:
    assert [path.name for path in recorded.copy.iterdir()] == ["checkpoint"]
    assert list(recorded.home.iterdir()) == []
    assert [path.name for path in recorded.repository.iterdir()] == ["wandb"]


def test_where_names_the_folder_from_the_repository_root_and_how_to_upload_it(recorded: SimpleNamespace) -> None:
    folder = recorded.file.parent.relative_to(recorded.repository)
    assert recorded.where == f"offline run at {folder}; upload with: wandb sync {folder}"


def test_a_run_that_ends_well_has_exit_code_0(recorded: SimpleNamespace) -> None:
    assert [record.exit_code for record in of_kind(recorded.file, "exit")] == [0]


def test_a_torn_file_is_read_up_to_the_tear(recorded: SimpleNamespace, tmp_path: Path) -> None:
    torn = tmp_path / "torn.wandb"
    torn.write_bytes(recorded.file.read_bytes()[:-1])
    assert len(list(read_records(torn))) == len(list(read_records(recorded.file))) - 1


def test_a_file_that_is_not_of_wandb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wandb").write_bytes(b"hello")
    with pytest.raises(ValueError, match="expected a W&B file"):
        list(read_records(tmp_path / "x.wandb"))


def test_a_training_that_raises_is_recorded_as_failed_and_still_raises(tmp_path: Path) -> None:
    def train() -> None:
        with start_run(**RUN, config={}, folder=tmp_path) as run:
            run.log(EPOCHS[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    (file,) = wandb_files(tmp_path)
    assert [record.exit_code for record in of_kind(file, "exit")] == [1]
    assert read_history(file) == EPOCHS[:1]


def test_what_wandb_refuses_is_one_warning_per_kind_of_call_and_the_next_call_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        for _ in range(2):
            run.artifact("checkpoint", "model", tmp_path / "missing", {})
            run.table("val/actions", ["one column"], [["two", "values"]])
        run.log(EPOCHS[0])
    assert [message.split(" failed")[0] for message in warnings_in(caplog)] == ["W&B: artifact", "W&B: table"]
    assert read_history(wandb_files(tmp_path)[0]) == EPOCHS[:1]


def test_without_a_key_the_run_is_offline_and_nobody_is_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        assert str(run.where).startswith("offline run at wandb/")
    assert warnings_in(caplog) == ["W&B: no API key found, so this run is offline"]


@pytest.mark.parametrize("mode", ["online", None])
def test_a_server_that_refuses_means_offline_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        run.log(EPOCHS[0])
    (message,) = warnings_in(caplog)
    assert message.startswith("W&B: cannot go online, so this run is offline: AuthenticationError")
    assert read_history(wandb_files(tmp_path)[0]) == EPOCHS[:1]


def test_a_wandb_that_hangs_after_the_server_refused_is_left_alone_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, closes = threading.Event(), [wandb.teardown]
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "0.1")
    monkeypatch.setattr(wandb_service, "FINISH_GRACE_S", 3.0)
    closes.append(released.wait)
    monkeypatch.setattr("wandb.teardown", lambda: closes.pop()())
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        run.log(EPOCHS[0])
    released.set()
    (message,) = warnings_in(caplog)
    assert message.startswith("W&B: cannot go online, so this run is offline")
    assert read_history(wandb_files(tmp_path)[0]) == EPOCHS[:1]


def test_a_key_that_is_malformed_means_offline_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "too short")
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        assert str(run.where).startswith("offline run at wandb/")
    (message,) = warnings_in(caplog)
    assert "WANDB_API_KEY invalid" in message


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    with stand_in() as handler:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{handler.listener.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        yield handler


def test_online_where_is_the_address_of_the_run(
    server: type[StandIn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        run.log(EPOCHS[0])
        where = run.where
    assert where == f"{os.environ['WANDB_BASE_URL']}/somebody/poselift/runs/0f1e2d"
    assert warnings_in(caplog) == []


# "Viewer" is asked by the login, "UpsertBucket" when the run is made.
@pytest.mark.parametrize("operation", ["Viewer", "UpsertBucket"])
def test_a_server_that_accepts_and_says_nothing_means_offline_with_one_warning(
    server: type[StandIn], tmp_path: Path, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    server.hang_at = operation
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        run.log(EPOCHS[0])
    assert server.hang.is_set()
    (message,) = warnings_in(caplog)
    assert message.startswith("W&B: cannot go online, so this run is offline")
    assert read_history(wandb_files(tmp_path)[0]) == EPOCHS[:1]


def test_a_server_that_says_nothing_is_waited_for_beside_the_training_and_not_before_it(
    server: type[StandIn], tmp_path: Path
) -> None:
    server.hang_at = "Viewer"
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        assert server.hang.wait(30)
        for values in EPOCHS:
            run.log(values)
        assert not run._opened.is_set()
    assert read_history(wandb_files(tmp_path)[0]) == EPOCHS


def test_a_server_that_falls_silent_in_the_training_does_not_hold_up_its_end(
    server: type[StandIn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        assert run.where
        server.hang.set()
        run.log(EPOCHS[0])
    (folder,) = (tmp_path / "wandb").glob("run-*")
    expected = f"W&B: the server no longer answers; the run is on disk: wandb sync wandb/{folder.name}"
    assert warnings_in(caplog) == [expected]
    assert read_history(wandb_files(tmp_path, "run-*")[0]) == EPOCHS[:1]


def test_a_server_that_goes_away_in_the_training_does_not_hold_up_its_end(
    server: type[StandIn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        assert run.where
        server.listener.shutdown()
        server.listener.server_close()
        run.log(EPOCHS[0])
    (message,) = warnings_in(caplog)
    assert message.startswith("W&B: the server no longer answers; the run is on disk: wandb sync wandb/run-")
    assert read_history(wandb_files(tmp_path, "run-*")[0]) == EPOCHS[:1]


def test_a_key_that_is_revoked_in_the_training_costs_the_upload_alone_and_that_is_said(
    server: type[StandIn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        assert run.where
        server.refuse.set()
        for values in EPOCHS:
            run.log(values)
    (folder,) = (tmp_path / "wandb").glob("run-*")
    (message,) = warnings_in(caplog)
    assert message == (f"W&B: the server no longer takes the key; the run is on disk: wandb sync wandb/{folder.name}")
    assert read_history(wandb_files(tmp_path, "run-*")[0]) == EPOCHS


def test_a_server_that_is_slow_is_waited_for_and_has_it_all(
    server: type[StandIn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.delay_s = 0.3
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        for values in EPOCHS:
            run.log(values)
        assert run.where == f"{os.environ['WANDB_BASE_URL']}/somebody/poselift/runs/0f1e2d"
    assert warnings_in(caplog) == []
    assert read_history(wandb_files(tmp_path, "run-*")[0]) == EPOCHS


def test_without_wandb_the_training_runs_with_one_line_of_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.INFO), start_run(**RUN, config={}, folder=tmp_path) as run:
        use_every_method(run, tmp_path)
    assert [record.getMessage() for record in ours(caplog)] == ["W&B: wandb is not installed, nothing is tracked"]


def test_disabled_tracks_nothing_and_does_not_import_wandb(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.INFO), start_run(**RUN, config={}, folder=tmp_path / "no") as run:
        use_every_method(run, tmp_path)
    assert ours(caplog) == []
    assert not (tmp_path / "no").exists()


def use_every_method(run: Run, folder: Path) -> None:
    run.log({"epoch": 0, "train/loss": 0.5})
    run.summarise({"test/mpjpe_mm": 46.5})
    run.table("val/actions", ["action"], [["Walking"]])
    run.figure("val/pose", Figure())
    run.artifact("checkpoint", "model", folder, {})
    assert run.where is None


def test_a_folder_that_cannot_be_made_means_nothing_is_tracked_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wandb").write_text("a file in the way")
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        use_every_method(run, tmp_path)
    (message,) = warnings_in(caplog)
    assert message.startswith("W&B: nothing is tracked: FileExistsError")
    assert str(tmp_path / "wandb") in message


def test_a_folder_that_cannot_be_written_means_nothing_is_tracked_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tracking.service.os.access", lambda *_: False)  # chmod does not stop root
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        use_every_method(run, tmp_path)
    assert warnings_in(caplog) == [f"W&B: nothing is tracked: PermissionError: {tmp_path / 'wandb'} cannot be written"]


def test_a_wandb_that_cannot_start_even_offline_means_nothing_is_tracked_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("wandb.init", fail)
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        use_every_method(run, tmp_path)
    assert warnings_in(caplog) == [
        "W&B: nothing is tracked, cannot start even offline: OSError: no space left on device"
    ]


@pytest.mark.parametrize(("variable", "value"), [("WANDB_FINISH_TIMEOUT", "soon"), ("WANDB_MODE", "of line")])
def test_a_bad_setting_of_wandb_is_a_warning_and_the_training_runs(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with start_run(**RUN, config={}, folder=tmp_path) as run:
        run.log(EPOCHS[0])
    assert value in warnings_in(caplog)[0]


class ClosesWell(wandb.Run):
    """An offline run of wandb as it is closed; nothing has opened it."""

    offline = True

    def __init__(self) -> None:
        pass

    def finish(self, exit_code: int | None = None) -> None:
        pass


def test_a_wandb_that_never_closes_does_not_hold_up_the_training(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "0.1")
    monkeypatch.setattr(wandb_service, "FINISH_GRACE_S", 0.0)
    monkeypatch.setattr("wandb.teardown", released.wait)
    wandb_service.finish_run(ClosesWell(), exit_code=0)
    released.set()
    assert "closing it failed: TimeoutError" in warnings_in(caplog)[0]


def test_an_error_while_closing_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise SystemExit(3)

    wandb_service._set_environment(tmp_path)
    monkeypatch.setattr("wandb.teardown", fail)
    wandb_service.finish_run(ClosesWell(), exit_code=0)
    assert warnings_in(caplog) == ["W&B: the run may be incomplete, closing it failed: SystemExit: 3"]


def test_no_wait_is_without_limit_unless_the_user_says_so() -> None:
    waits = ("WANDB_INIT_TIMEOUT", "WANDB_HTTP_TIMEOUT", "WANDB_FINISH_TIMEOUT")
    assert all(0 < float(wandb_service.ENVIRONMENT[wait]) <= 60 for wait in waits)
