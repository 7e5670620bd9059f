"""The command line: its stages by name, and one line with exit code 2 for whatever the user got wrong."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.__main__ import main
from tests.fixtures.walker import write_prepared

REPOSITORY = Path(__file__).parents[2]
STAGES = ("prepare_data", "train", "evaluate_5runs", "report")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the project's parameters and nothing else, and do not change how the tests log."""
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


def run(*arguments: str) -> int:
    """Exit code of `poselift <arguments>`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["poselift", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def test_help_lists_the_four_stages_by_their_names(capsys):
    assert run("--help") == 0
    words = capsys.readouterr().out.split()
    for stage in STAGES:
        assert stage in words


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_explains_itself(stage, capsys):
    assert run(stage, "--help") == 0
    assert stage in capsys.readouterr().out


def test_the_stages_of_dvc_yaml_are_commands_of_the_same_name():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert tuple(stages) == STAGES
    for name, stage in stages.items():
        assert stage["cmd"].split()[:4] == ["python", "-m", "pipeline", name]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("prepare_data nonsense out", "row 'nonsense': expected <dataset>-<keypoints>-f<frames>-<model>"),
        ("prepare_data mocap-gt-f8-linear out", "frames: expected an odd number over 0"),
        ("prepare_data mocap-gt-f9-posformer out", "params.yaml: model: expected one of linear, poseformer, hmsft"),
        ("prepare_data kitti-gt-f9-linear out", "params.yaml: dataset: expected one of mocap, "),
        ("prepare_data mocap-cpn-f9-linear out", "keypoints"),
        ("prepare_data mocap-gt-f9-linear out", "data/raw/mocap_bodies"),
        ("prepare_data mocap-gt-f9-linear out --params nowhere.yaml", "nowhere.yaml: expected a "),
        ("train nowhere out", "nowhere/training.json: expected a "),
        ("train nowhere out --seed 0", "nowhere/training.json: expected a "),
        ("train nowhere out --params nowhere.yaml", "nowhere.yaml: expected a "),
        ("evaluate_5runs nowhere nowhere", "nowhere/evaluation.json: expected a "),
        ("evaluate_5runs nowhere nowhere --params nowhere.yaml", "nowhere.yaml: expected a "),
        (
            "lift keypoints.npz --out lifted",
            "data/lifter/run0: expected the model, found none; poselift fetch REPOSITORY",
        ),
        ("fetch nowhere", "nowhere: expected a repository that git can clone, found fatal: repository 'nowhere' does"),
        ("report", "json: expected the metrics of a row, found FileNotFoundError"),
        ("report --dvc-yaml nowhere.yaml", "nowhere.yaml: expected a YAML file, found no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, complaint, capsys):
    before = sorted(Path().iterdir())
    assert run(*arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("poselift: ")
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("arguments", ["train", "train somewhere", "fly", "train a b --seed -1", "train a b --seed x"])
def test_a_command_that_is_not_understood_has_exit_code_2(arguments, capsys):
    assert run(*arguments.split()) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_run_is_trained_and_its_state_kept_where_it_is_said(tmp_path, monkeypatch):
    write_prepared(tmp_path / "prepared", model="linear")
    assert run("train", "prepared", "run7", "--seed", "7") == 0
    assert {path.name for path in Path("run7").iterdir()} == {"weights.safetensors", "card.json", "history.csv"}
    assert Path(".work").is_dir()
    monkeypatch.setenv("POSELIFT_WORK", "elsewhere")
    assert run("train", "prepared", "run8", "--seed", "8") == 0
    assert len(list(Path("elsewhere").iterdir())) == 1
    monkeypatch.delenv("POSELIFT_WORK")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    assert run("train", "prepared", "run9", "--seed", "9") == 0
    assert len(list((tmp_path / "root" / ".work").iterdir())) == 1


def test_letters_that_the_terminal_lacks_are_written_as_their_codes(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("train", "vidéo", "out") == 2
    terminal.flush()
    assert terminal.buffer.getvalue().startswith(rb"poselift: vid\xe9o/training.json: expected a ")


def test_python_m_pipeline_ends_with_code_2_and_one_line_too(tmp_path):
    command = [sys.executable, "-m", "pipeline", "train", str(tmp_path / "nowhere"), str(tmp_path / "out")]
    process = subprocess.run(command, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.startswith(f"poselift: {tmp_path}/nowhere/training.json: expected a ")
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR])
def test_a_disk_or_folder_that_cannot_be_written_is_one_line(number, capsys, monkeypatch, tmp_path):
    error = OSError(number, os.strerror(number), "data/run0/state.partial")
    monkeypatch.setattr("pipeline.train.runs.train_run", raising(error))
    (tmp_path / "prepared").mkdir()
    assert run("train", "prepared", "run0", "--seed", "0") == 1
    assert capsys.readouterr().err == f"poselift: {os.strerror(number)}: data/run0/state.partial\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), ""),
        (MemoryError("Unable to allocate 3.50 GiB for an array with shape (1,)"), " (Unable to allocate 3.50 GiB)"),
        (RuntimeError("can't allocate memory: you tried to allocate 96 bytes."), " (tried to allocate 96 bytes)"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0"),
            " (Tried to allocate 2.00 MiB)",
        ),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_helps(error, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.train.runs.train_run", raising(error))
    (tmp_path / "prepared").mkdir()
    assert run("train", "prepared", "run0", "--seed", "0") == 1
    hint = "micro_batches in params.yaml takes the batches of a training in parts"
    assert capsys.readouterr().err == f"poselift: out of memory{said}; {hint}\n"


def test_an_error_of_the_program_is_not_taken_for_too_little_memory(monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.train.runs.train_run", raising(RuntimeError("shapes differ")))
    (tmp_path / "prepared").mkdir()
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("train", "prepared", "run0", "--seed", "0")


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
