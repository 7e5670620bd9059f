"""Queues of DVC whose workers share a stage or are killed, and a search that is interrupted: what fails, what is left.

`python -m tests.trials.workers race`: experiments that share stages go through four workers at once, on a disk that
is slow to write the run cache; with DVC as published, then with the DVC of `make setup`.
`python -m tests.trials.workers killed`: of four queued experiments of a tiny row, SIGKILL ends the trainer of the
first, the DVC of the second and the worker of the third; the queue then goes on.
`python -m tests.trials.workers search`: Optuna and DVC run a search of 16 trials of a tiny row, which Ctrl-C stops in
one training and SIGKILL in another; typed again, it goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import dvc
import yaml

from pipeline.train.runs import GRACE_S
from tests.fixtures.small_project import REPOSITORY, ROW, copy_of_repository, environment, write_project, write_python
from tests.trials.torture import members, stage_process
from tests.trials.two_machines import TINY, run

LONGEST_S = GRACE_S + 30.0  # that a training may take to save its state and leave, on a machine that is busy
WORKERS = 4
VICTIMS = {"trainer": "train", "DVC": "exec-run", "worker": "queue-worker"}  # and a word of its command
SLOW_DVC = """#!{python}
import os, sys, time
sys.path.insert(0, {library!r})
from dvc.utils import serialize
write = serialize.dump_yaml

def write_slowly(path, *content, **options):
    if not str(path).endswith(".tmp"):
        return write(path, *content, **options)
    with open(path, "w"):
        time.sleep({seconds})
        if os.path.exists(path):  # else what is written now has no name any more
            write(path, *content, **options)

serialize.dump_yaml = write_slowly
from dvc.cli import main
sys.exit(main())
"""
SWEEP = "experiments/sweeps/search.yaml"
NOTE_TRAININGS = """
if sys.argv[3:4] == ["train"]:
    print(os.environ["DVC_EXP_NAME"], file=open(os.environ["DVC_ROOT"] + "/trainings", "a"))
"""


def write_searched(folder: Path) -> Path:
    """Writes a project of a tiny row, in which every training that starts notes its experiment in `trainings`."""
    write_project(folder, **TINY)
    copy_of_repository(("experiments/__main__.py", "experiments/sweeps"), folder)
    write_python(folder, NOTE_TRAININGS)
    with (folder / ".gitignore").open("a", encoding="utf-8") as file:
        file.write("/.programs\n/trainings\n/search.log\n/.of_dvc\n")
    run(folder, "git add --all", "git commit --quiet --message project")
    return folder


def search(folder: Path, trials: int) -> str:
    """Runs a search that is interrupted twice in the new project `folder`, and returns what it found in the end."""
    project = write_searched(folder)
    for stop, done in ((signal.SIGINT, trials // 4), (signal.SIGKILL, trials // 2)):
        process = start_search(project, trials)
        wait_for_training(process, project, done)
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)  # as a terminal does
        else:
            process.kill()
        process.wait()
        took_s = wait_until_alone(process.pid)
        print(f"{stop.name} after {done} trials: no process is left after {took_s:.0f} s", flush=True)
    process = start_search(project, trials)
    process.wait()
    return (project / "search.log").read_text(encoding="utf-8")


def wait_until_alone(session: int) -> float:
    """Returns how many seconds it took all processes of a session to end by themselves."""
    started = time.monotonic()
    while left := members(session):
        assert time.monotonic() < started + LONGEST_S, left
        time.sleep(0.1)
    return time.monotonic() - started


def start_search(project: Path, trials: int) -> subprocess.Popen[bytes]:
    """Types the search, in a session of its own; what it says goes to search.log."""
    command = [sys.executable, "-m", "experiments", "sweep", SWEEP, ROW, "--trials", str(trials)]
    with (project / "search.log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command, cwd=project, env=environment(project), stdout=log, stderr=log, start_new_session=True
        )


def trials_in(project: Path) -> int:
    """Returns how many trials of the search that runs, or ran last, have a score."""
    return (project / "search.log").read_text(encoding="utf-8").count(": validation MPJPE ")


def wait_for_training(process: subprocess.Popen[bytes], project: Path, trials: int) -> None:
    """Waits until so many trials have a score and the next one trains."""
    while trials_in(project) < trials or (stage_process(process.pid) or ("", ""))[1] != "train":
        assert process.poll() is None, (project / "search.log").read_text(encoding="utf-8")
        time.sleep(0.05)


def race(folder: Path, rounds: int, *, seconds: float, published: bool) -> list[str]:
    """Returns the state of each experiment of so many rounds of a queue, in new projects under `folder`.

    `seconds` are what an entry of the run cache takes to be written.
    """
    library = Path(dvc.__path__[0])
    if published:
        library = shutil.copytree(library, folder / "published" / "dvc")
        command = ["git", "apply", "--reverse", str(REPOSITORY / "requirements" / "dvc.patch")]
        subprocess.run(command, cwd=library.parent, check=True)
    states = []
    for number in range(rounds):
        project = write_shared_stages(folder / f"{'published' if published else 'patched'}-{number}")
        program = SLOW_DVC.format(python=sys.executable, library=str(library.parent), seconds=seconds)
        (project / ".programs" / "dvc").write_text(program, encoding="utf-8")
        (project / ".programs" / "dvc").chmod(0o755)
        run(project, f"dvc exp run --quiet --queue -S x={','.join(map(str, range(1, WORKERS + 1)))}")
        start_workers(project, WORKERS)
        states += list(wait_for_queue(project).values())
        print(states, flush=True)
    return states


def write_shared_stages(folder: Path) -> Path:
    """Writes a project of two stages that experiments with another x share, and one that they do not."""
    (folder / ".programs").mkdir(parents=True)
    stages = {
        "first": {"cmd": "cp input first", "deps": ["input"], "outs": ["first"]},
        "second": {"cmd": "cp first second", "deps": ["first"], "outs": ["second"]},
        "own": {"cmd": "cp params.yaml own", "deps": ["second"], "params": ["x"], "outs": ["own"]},
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (folder / "params.yaml").write_text("x: 0\n", encoding="utf-8")
    (folder / "input").write_text("input\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/.programs\n/.of_dvc\n", encoding="utf-8")
    run(folder, "git init --quiet", "dvc init --quiet", "git add --all", "git commit --quiet --message project")
    return folder


def start_workers(project: Path, jobs: int) -> None:
    """Starts the workers of a project's queue, which would hold a pipe open to whoever starts them."""
    command, nowhere = ["dvc", "queue", "start", "--jobs", str(jobs)], subprocess.DEVNULL
    subprocess.run(command, cwd=project, env=environment(project), stdout=nowhere, stderr=nowhere, check=True)


def states_of(project: Path) -> dict[str, str]:
    """Returns the state of each experiment of the queue, by name: Queued, Running, Success or Failed."""
    lines = run(project, "dvc queue status").splitlines()
    return {words[1]: words[-1] for words in map(str.split, lines[1:]) if len(words) > 3 and words[0] != "Worker"}


def wait_for_queue(project: Path) -> dict[str, str]:
    """Waits until no experiment is queued or running, and returns their states."""
    while {"Queued", "Running"} & set((states := states_of(project)).values()):
        time.sleep(1)
    return states


def killed(folder: Path) -> None:
    """Kills the trainer, the DVC and the worker of queued experiments in the new project `folder`.

    Raises AssertionError if a process is left, if the queue does not go on, or if a run that has ended trains again.
    """
    project = write_searched(folder)
    rates = {f"killed-{victim}": 0.001 * (1 + number) for number, victim in enumerate(VICTIMS)} | {"last": 0.009}
    options = {name: f"-S seeds=[0] -S datasets.mocap.lr={lr} train@{ROW}-0" for name, lr in rates.items()}
    for name, words in options.items():
        run(project, f"dvc exp run --quiet --queue --name {name} {words}")
    start_workers(project, 1)
    for victim, word in VICTIMS.items():
        trainer = wait_for_process(project, "train")
        os.kill(wait_for_process(project, word), signal.SIGKILL)
        took_s = wait_until_gone(trainer)
        print(f"SIGKILL of the {victim}: its training is gone after {took_s:.0f} s", flush=True)
    while processes_of(project):
        time.sleep(0.5)
    print(f"no process is left: {states_of(project)}", flush=True)
    start_workers(project, 1)
    while (states := states_of(project))["last"] != "Success":
        time.sleep(1)
    assert states == {"killed-trainer": "Failed", "killed-DVC": "Failed", "killed-worker": "Running", "last": "Success"}
    run(project, "dvc queue kill killed-worker")
    assert states_of(project)["killed-worker"] == "Success"  # says DVC, though nobody has collected it
    run(project, f"dvc exp run --name again {options['killed-worker']}")
    assert trainings_in(project).count("killed-worker") == 1
    assert "again" not in trainings_in(project)
    print("the queue went on; what the dead worker's experiment had trained was not trained again")


def processes_of(project: Path) -> dict[int, list[str]]:
    """Returns the words of the commands of the living processes of a project, by their numbers."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and os.fsencode(project / ".of_dvc") in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode().split("\0")
    return {number: words for number, words in found.items() if words != [""]}  # which the dead have none of


def wait_for_process(project: Path, word: str) -> int:
    """Returns the number of the project's process that has a word in its command, once there is one."""
    while True:
        for number, words in processes_of(project).items():
            if word in words:
                return number
        time.sleep(0.05)


def wait_until_gone(number: int) -> float:
    """Returns how many seconds it took a process to end."""
    started = time.monotonic()
    while Path(f"/proc/{number}/cmdline").exists() and Path(f"/proc/{number}/cmdline").read_bytes():
        time.sleep(0.05)
    return time.monotonic() - started


def trainings_in(project: Path) -> list[str]:
    """Returns the experiments whose trainings have begun, once for each time."""
    return (project / "trainings").read_text(encoding="utf-8").split()


def main() -> None:
    """Tries what is asked for; ends with an exception where something fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["race", "killed", "search"])
    parser.add_argument("--rounds", type=int, default=5, help="of the race, for each DVC")
    parser.add_argument("--seconds", type=float, default=5.0, help="to write an entry; more on a machine that is busy")
    parser.add_argument("--trials", type=int, default=16, help="of the search")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "race":
            for published in (True, False):
                states = race(folder, options.rounds, seconds=options.seconds, published=published)
                print(f"{'as published' if published else 'patched'}: {states.count('Failed')} of {len(states)} failed")
            assert set(states) == {"Success"}
        elif options.what == "killed":
            killed(folder / "project")
        else:
            said = search(folder / "project", options.trials)
            rows = re.findall(r"^\|.*\|$", said, flags=re.MULTILINE)[2:]
            trained = trainings_in(folder / "project")
            print(said)
            print(f"{len(rows)} trials, {len(trained)} trainings begun")
            assert len(rows) == options.trials
            assert len(trained) <= options.trials + 2  # the two that were interrupted, again


if __name__ == "__main__":
    main()
