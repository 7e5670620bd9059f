"""Nothing of whose machine it was is left in what is written: no key, name of a person, computer or folder."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.tracked_runs import read_config

REPOSITORY = Path(__file__).parents[2]
KEY, USER, FOLDER = "5ec2e7" * 6 + "5ec2", "planted-user", "planted-folder"
# Where wandb uploads a table from: the path is what `wandb sync` goes by.
STAGED = re.compile(rb"/[ -~]+/wandb/artifacts/staging/\w+")
STAGES = """
import logging, sys
from pathlib import Path
from tests.fixtures.four_stages import _four_stages, write_params
from pipeline.report.board import write_board
from pipeline.tracking.pictures import track_evaluation_pictures
logging.basicConfig(level=logging.INFO, format="%(message)s")
row, folder = sys.argv[1], Path(sys.argv[2])
params = write_params(folder, row)
_four_stages(row, folder, folder / "raw", params)
track_evaluation_pictures(row, reports=folder / "reports", folder=folder)
write_board(Path(), Path("board.html"))
"""


@pytest.fixture(scope="module")
def written(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What prepare_data, train, evaluate_5runs, report and board leave, and what they print, by name."""
    folder = tmp_path_factory.mktemp("x") / FOLDER
    shutil.copytree(tiny_raw, folder / "raw")
    remote = f"https://{USER}:{KEY}@git.example/poselift.git"
    for command in ("init", f"remote add origin {remote}", "commit --allow-empty -m first"):
        name = ["-c", f"user.name={USER}", "-c", f"user.email={USER}@mail.example"]
        subprocess.run(["git", *name, *command.split()], cwd=folder, check=True, capture_output=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "WANDB_"))}
    planted = {"USER": USER, "LOGNAME": USER, "USERNAME": USER, "HOME": str(folder / ".home"), "WANDB_API_KEY": KEY}
    paths = str(REPOSITORY)
    answer = subprocess.run(
        [sys.executable, "-c", STAGES, "mocap-gt-f9-linear", str(folder)],
        env={**kept, **planted, "PYTHONPATH": paths, "WANDB_MODE": "offline"},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode()
    mine = {"raw", ".git", ".home"}
    files = [path for path in folder.rglob("*") if not mine & set(path.relative_to(folder).parts)]
    links = {str(path.relative_to(folder)): bytes(path.readlink()) for path in files if path.is_symlink()}
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}
    return {**contents, **links, "stdout": answer.stdout, "stderr": answer.stderr}


@pytest.mark.parametrize("part", ["reports/", "checkpoints/", "prepared/", "wandb/", "board.html", "stderr"])
def test_no_key_person_computer_or_folder_is_in_what_is_written(part: str, written: dict[str, bytes]) -> None:
    secrets = {KEY, KEY[:12], USER, FOLDER, sys.prefix, str(REPOSITORY), f"{socket.gethostname()}-"}
    own = {name: STAGED.sub(b"", content) for name, content in written.items() if name.startswith(part)}
    assert own
    found = [(name, secret) for name, content in own.items() for secret in secrets if secret.encode() in content]
    assert not found


def test_what_is_written_is_of_every_kind(written: dict[str, bytes]) -> None:
    suffixes = {Path(name).suffix for name in written}
    assert {".json", ".safetensors", ".html", ".md", ".csv", ".tex", ".png", ".npy", ".wandb"} <= suffixes
    assert len([name for name in written if name.endswith(".wandb")]) == 4  # two seeds, the evaluation, its pictures


def test_a_run_says_which_commit_it_is_of(written: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "a.wandb").write_bytes(next(content for name, content in written.items() if name.endswith(".wandb")))
    assert len(read_config(tmp_path / "a.wandb")["code"]["commit"]) == 40
