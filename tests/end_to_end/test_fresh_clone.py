"""What a stranger gets: a clone without a network has the results, and the pipeline finds nothing to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.small_project import REPOSITORY, environment, stages_run


def without_network() -> list[str]:
    """A command's first words that take the network from it, where this machine allows that; else none."""
    words = ["unshare", "--map-root-user", "--net"]
    allowed = shutil.which(words[0]) and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if allowed else []


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of the last commit, its data pulled from the store inside it."""
    folder = tmp_path_factory.mktemp("fresh") / "poselift"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    run(folder, "dvc", "pull")
    return folder


def run(folder: Path, *command: str) -> str:
    """What the command printed; it has no network."""
    done = subprocess.run(
        [*without_network(), *command], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pipeline_finds_nothing_to_do(clone):
    log = run(clone, "dvc", "repro")
    assert stages_run(log) == []
    assert "didn't change, skipping" in log
    assert subprocess.run(["git", "diff", "--quiet"], cwd=clone).returncode == 0


def test_the_board_shows_the_shipped_result(clone):
    run(clone, sys.executable, "-m", "pipeline", "board", "--out", "board.html")
    page = (clone / "board.html").read_text(encoding="utf-8")
    for path in (clone / "reports" / "metrics").glob("*.json"):
        mean_mm = json.loads(path.read_text(encoding="utf-8"))["mpjpe_mm"]["mean"]
        assert path.stem in page
        assert f"{mean_mm:.2f} ± " in page
    assert not re.search(r'(?:src|href)="https?:', page)
