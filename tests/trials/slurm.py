"""SLURM itself, on this machine as several nodes: jobs that are disturbed end with the bytes of undisturbed runs.

`python -m tests.trials.slurm`, as root, with slurm-wlm and munge of Debian; about ten minutes. The scripts of
experiments/slurm train a tiny row: all seeds as an array of jobs, of which one meets its time limit, the node of one
crashes and that of one is set down; and one run on two nodes, with a rank killed, a node crashed, the time limit met.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.fixtures.slurm_cluster import Cluster, ask, enter_namespaces, slurm_cluster, wait_until
from tests.fixtures.small_project import (
    ROW,
    copy_of_repository,
    environment,
    hashes,
    stages_run,
    write_project,
    write_python,
)
from tests.fixtures.walker import contents

NODES = [f"n{number}" for number in range(1, 7)]
SEEDS = (0, 1, 2)
TRAINING = {"epochs": 10, "windows_per_epoch": 128, "batch_windows": 16}  # 80 steps
# Makes disturbed runs last two minutes and more, whatever the machine, so that all that is to happen to them does.
SLOW = """
import time
from pipeline.train import loop

def slow_step(*arguments, step=loop._step, **options):
    time.sleep(1.5)
    return step(*arguments, **options)

stage.SAVE_EVERY_S, loop._step = 1.0, slow_step
"""


def write_slurm_project(folder: Path) -> None:
    """The project with a tiny row of three seeds, prepared, and the scripts of the jobs."""
    write_project(folder, **TRAINING)
    copy_of_repository(["experiments/slurm"], folder)
    params = folder / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("- 0\n- 1\n", "- 0\n- 1\n- 2\n"), encoding="utf-8")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()  # the jobs have this process's environment
    dvc(folder, f"repro --quiet prepare_data@{ROW}")


def copy_project(template: Path, folder: Path, *, slow: bool) -> Path:
    """Copies the project; its trainings are slow where they are to be disturbed."""
    shutil.copytree(template, folder, symlinks=True)
    if slow:
        write_python(folder, SLOW)
    return folder


def dvc(folder: Path, command: str) -> str:
    """Returns what a command of DVC printed."""
    return ask(f"dvc {command}", folder, environment(folder))


def submit(folder: Path, options: str, script: str, words: str) -> str:
    """Submits a job and returns its number."""
    python = folder / ".programs" / "python"
    variables = environment(folder) | ({"PYTHON_EXEC": str(python)} if python.exists() else {})  # torchrun's python
    return ask(f"sbatch --parsable {options} experiments/slurm/{script} {ROW} {words}", folder, variables)


def state_of(job: str) -> dict[str, str]:
    """Returns what SLURM knows of a job, such as its JobState, Restarts and NodeList."""
    return dict(re.findall(r"(\S+?)=(\S*)", ask(f"scontrol show job --oneliner {job}")))


def wait_for_ends() -> None:
    """Waits until no job runs or waits."""
    wait_until(lambda: ask("squeue --noheader") == "", "the jobs to end")


def wait_for_states(folder: Path, count: int) -> None:
    """Waits until so many runs of a project have saved a state twice."""

    def are_there() -> bool:
        assert ask("squeue --noheader"), f"all jobs ended, and {folder.name} has no state"
        return len(list(folder.glob(".work/*/state.previous.pt"))) == count

    wait_until(are_there, f"the states in {folder.name}")


def shorten_limit(job: str) -> None:
    """Shortens the time limit of a running job so that SLURM sends its signal within a minute: 60 to 90 s before."""
    hours, minutes, _ = map(int, state_of(job)["RunTime"].split(":"))
    ask(f"scontrol update JobId={job} TimeLimit={60 * hours + minutes + 2}")


def lengthen_limit(job: str) -> None:
    """Waits until a job has met its time limit, and gives it an hour for the rest."""
    wait_until(lambda: int(state_of(job)["Restarts"]) > 0, f"job {job} to meet its time limit")
    ask(f"scontrol update JobId={job} TimeLimit=60")


def set_down_and_up(cluster: Cluster, node: str) -> None:
    """Sets a node down as an administrator does, and up again when SLURM has taken its job away."""
    ask(f"scontrol update NodeName={node} State=down Reason=trial")
    wait_until(lambda: cluster.states()[node] == "down", f"the jobs of {node} to end")
    ask(f"scontrol update NodeName={node} State=resume")


def crash_and_restart(cluster: Cluster, node: str) -> None:
    """Ends a node at once, and starts it again when SLURM has seen that it is gone."""
    cluster.crash(node)
    wait_until(lambda: cluster.states()[node].startswith("down"), f"SLURM to miss {node}")
    cluster.start(node)


def kill_rank(folder: Path, rank: int) -> None:
    """Kills the process of a rank that trains in a project."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in words and (entry / "cwd").resolve() == folder.resolve():
                os.kill(int(entry.name), signal.SIGKILL)
                return
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise AssertionError(f"rank {rank} does not run")


def assert_went_on(job: str, log: Path, *, put_back: bool, saved: bool) -> None:
    """Raises AssertionError unless a run went on from a state, after SLURM put its job back, or saved it on SIGTERM."""
    state, text = state_of(job), log.read_text(encoding="utf-8")
    assert state["JobState"] == "COMPLETED", state
    assert (int(state["Restarts"]) > 0) == put_back, state
    assert "goes on in epoch" in text, text
    assert ("state saved after step" in text) == saved, text


def try_array(cluster: Cluster, template: Path, folder: Path) -> None:
    """Trains the seeds of the row as an array of jobs, each of which is disturbed, and makes the table of them."""
    calm, project = (copy_project(template, folder / name, slow=name == "array") for name in ("calm", "array"))
    dvc(calm, "repro --quiet")
    array = submit(project, "--array=0-2", "train_seeds.sh", "")
    wait_for_states(project, len(SEEDS))
    nodes = [state_of(f"{array}_{seed}")["NodeList"] for seed in SEEDS]
    shorten_limit(f"{array}_0")
    set_down_and_up(cluster, nodes[1])
    crash_and_restart(cluster, nodes[2])
    lengthen_limit(f"{array}_0")
    wait_for_ends()
    for seed in SEEDS:
        log = project / f"slurm-{array}_{seed}.out"
        assert_went_on(f"{array}_{seed}", log, put_back=True, saved=seed == 0)
    for seed in SEEDS:
        dvc(project, f"commit --force --quiet train@{ROW}-{seed}")
    ran = stages_run(dvc(project, "repro"))
    assert ran == [f"evaluate_5runs@{ROW}", "report"], ran
    assert hashes(project) == hashes(calm)
    print(f"array: the time limit, a node set down and a crashed node; then {' and '.join(ran)} made the same table")


def try_two_nodes(cluster: Cluster, template: Path, folder: Path) -> None:
    """Trains one run on two nodes, undisturbed and disturbed in three ways at the same time."""
    ways = ("undisturbed", "time limit", "killed rank", "crashed node")
    projects = {way: copy_project(template, folder / way.replace(" ", "_"), slow=way != ways[0]) for way in ways}
    options = "--gpus-per-node=1 --cpus-per-task=4"
    jobs = {ways[0]: submit(projects[ways[0]], options, "train_on_nodes.sh", "0")}
    wait_for_ends()
    for way in ways[1:]:
        jobs[way] = submit(projects[way], options, "train_on_nodes.sh", "0")
    for way in ways[1:]:
        wait_for_states(projects[way], 1)
    shorten_limit(jobs["time limit"])
    kill_rank(projects["killed rank"], 1)
    _, second = ask(f"scontrol show hostnames {state_of(jobs['crashed node'])['NodeList']}").split()
    crash_and_restart(cluster, second)
    lengthen_limit(jobs["time limit"])
    wait_for_ends()
    expected = contents(projects[ways[0]] / "data" / "checkpoints" / ROW / "run0")
    for way in ways[1:]:
        log = projects[way] / f"slurm-{jobs[way]}.out"
        assert_went_on(jobs[way], log, put_back=way != "killed rank", saved=way == "time limit")
        assert contents(projects[way] / "data" / "checkpoints" / ROW / "run0") == expected, way
        print(f"two nodes, {way}: the bytes of an undisturbed run on two nodes")


def main() -> None:
    """Tries it; ends with an exception where something fails."""
    if sys.argv[1:] != ["inside"]:
        enter_namespaces("tests.trials.slurm")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, slurm_cluster(Path(name) / "slurm", NODES) as cluster:
        template = Path(name) / "project"
        write_slurm_project(template)
        try_array(cluster, template, Path(name))
        try_two_nodes(cluster, template, Path(name))
        print(f"{ask('sbatch --version')}, torch {torch.__version__}: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
