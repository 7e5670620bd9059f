"""The job scripts, run by bash with stand-ins for SLURM's programs; `python -m tests.trials.slurm` has SLURM itself."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import typer

from pipeline.__main__ import app

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "experiments" / "slurm").glob("train_*.sh"))
JOB = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "8"}
# A training that leaves as `python -m pipeline train` does: with 143 when SIGTERM came, with 0 at its end.
PYTHON = "#!/bin/bash\ntrap 'sleep 0.3; exit 143' TERM\ntouch started\nfor _ in $(seq 15); do sleep 0.1; done\n"


@pytest.fixture
def job(tmp_path: Path) -> subprocess.Popen[str]:
    """The array's script as it trains."""
    for name, text in (("python", PYTHON), ("scontrol", '#!/bin/bash\necho "scontrol $*"\n')):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    job = subprocess.Popen(
        ["bash", SCRIPTS[-1], "ROW"],
        cwd=tmp_path,
        env=os.environ | JOB | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "started").exists():
        assert job.poll() is None
        time.sleep(0.01)
    return job


def test_a_job_near_its_time_limit_saves_and_goes_back_to_the_queue_as_a_task_of_its_array(job):
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate()
    assert said == "scontrol requeue 7_3\n"
    assert job.returncode == 143


def test_a_job_that_meets_its_limit_while_it_saves_waits_for_its_training(job):
    job.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    assert job.communicate()[0] == "scontrol requeue 7_3\n"


def test_a_cancelled_job_waits_for_its_training_and_stays_cancelled(job):
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate()
    assert said == ""
    assert job.returncode == 0  # the stand-in, which SLURM would have signalled itself, came to its end


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_starts_a_command_that_can_be_typed(script):
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    words = shlex.split(re.sub(r"\$\{?seed\}?", "0", text[text.index("-m pipeline") :]))
    command = typer.main.get_command(app).commands[words[2]]
    assert command.make_context(words[2], words[3:]).params["seed"] == 0
