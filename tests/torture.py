"""Kills, full disks and other mishaps, for real: what survives them. Takes many minutes; apart from the test suite.

`python tests/torture.py` runs a small full pipeline undisturbed, then kills it at seeded random instants and runs
`dvc repro` once more each time; then training is run out of disk, stopped, started twice. The record goes to
docs/reliability/crashes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml
from small_project import REPOSITORY, environment, hashes, stages_run, write_project, write_python
from walker import contents, write_prepared

RECORD = REPOSITORY / "docs" / "reliability" / "crashes.json"
KINDS = ("stage", "dvc", "both")
TRAINING = {"epochs": 10, "windows_per_epoch": 128, "batch_windows": 16}

# Stands in for `python`: training saves its state after every step, so that kills fall into that too.
SAVING_PYTHON = """#!{executable}
import os, runpy, sys
sys.argv, sys.path[0] = sys.argv[2:], os.getcwd()  # as `-m pipeline` has them
if sys.argv[1:2] == ["train"]:
    from pipeline import engine

    engine.SAVE_EVERY_S = -1.0
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


def start_repro(folder: Path) -> subprocess.Popen[str]:
    """`dvc repro` in a session of its own."""
    return subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def recorded(folder: Path) -> set[str]:
    """Names of the stages that DVC knows to be finished."""
    try:
        return set(yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"])
    except FileNotFoundError:
        return set()


def stage_process(session: int) -> tuple[int, str] | None:
    """The process of the running stage in a session, and its name; None between stages."""
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or os.getsid(int(entry.name)) != session:
                continue
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ProcessLookupError):
            continue
        if "pipeline" in words and words[0] == sys.executable:
            return int(entry.name), words[words.index("pipeline") + 1]
    return None


def killed_at(folder: Path, instant_s: float, kind: str) -> dict[str, Any]:
    """Start `dvc repro`, kill -9 what `kind` says after so many seconds, and run `dvc repro` to the end."""
    process = start_repro(folder)
    time.sleep(instant_s)
    stage = stage_process(process.pid)
    while kind != "dvc" and stage is None and process.poll() is None:  # between two stages
        time.sleep(0.02)
        stage = stage_process(process.pid)
    before, running = recorded(folder), stage[1] if stage else None
    partial = [path.name for path in folder.rglob("*.partial*") if ".dvc" not in path.parts]
    alive = process.poll() is None
    if kind == "both":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "dvc":
        process.kill()
    elif stage:
        os.kill(stage[0], signal.SIGKILL)
    process.wait()
    orphan = stage_process(process.pid)
    after = start_repro(folder)
    log, _ = after.communicate()
    if process.stdout is not None:
        process.stdout.close()
    again = stages_run(log)
    return {
        "instant_s": round(instant_s, 2),
        "killed": kind,
        "running": running,
        "was_alive": alive,
        "half_written": partial,
        "orphan_ran_on": orphan is not None,
        "finished_before": len(before),
        "repeated": sorted(before & set(again)),
        "exit_code": after.returncode,
        "log": "" if after.returncode == 0 else log[-2000:],
        "orphan_left": stage_process(process.pid) is not None,
    }


def undisturbed(folder: Path) -> float:
    """Make the projects `template`, in which nothing has run, and `calm`, in which all has; seconds that took."""
    write_project(folder / "template", **TRAINING)
    write_python(folder / "template", SAVING_PYTHON)
    calm = shutil.copytree(folder / "template", folder / "calm", symlinks=True)
    started = time.monotonic()
    log, _ = start_repro(calm).communicate()
    duration_s = time.monotonic() - started
    assert set(stages_run(log)) == recorded(calm), log
    return duration_s


def kills(folder: Path, duration_s: float, *, tries: int, seed: int, jobs: int) -> dict[str, Any]:
    """The pipeline killed at `tries` instants of `duration_s` seconds, drawn from `seed`; `jobs` at the same time."""
    wanted, draw = hashes(folder / "calm"), random.Random(seed)
    instants = [draw.uniform(0.05, 0.95) * duration_s for _ in range(tries)]

    def attempt(number: int) -> dict[str, Any]:
        own = shutil.copytree(folder / "template", folder / f"try{number}", symlinks=True)
        record = killed_at(own, instants[number], KINDS[number % len(KINDS)])
        found = hashes(own)
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        record |= {"different": different, "survived": not different and record["exit_code"] == 0}
        print(json.dumps(record), flush=True)
        shutil.rmtree(own)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        records = list(pool.map(attempt, range(tries)))
    return {"seed": seed, "undisturbed_s": round(duration_s, 1), "files": len(wanted), "tries": records}


def train_command(prepared: Path, folder: Path) -> list[str]:
    """One run into `folder`/run, its state in `folder`/work."""
    run = ["train", str(prepared), str(folder / "run"), "--work", str(folder / "work")]
    return [sys.executable, "-m", "pipeline", *run]


def trained(prepared: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own."""
    env = os.environ | {"WANDB_MODE": "disabled"}
    command = train_command(prepared, folder)
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)


def on_own_disk(prepared: Path, folder: Path, wanted: dict[str, bytes], *, full: bool) -> dict[str, Any]:
    """A run on a disk that is full or may not be written; then that is put right, and it runs again."""
    disk = folder / ("full" if full else "read_only")
    disk.mkdir()
    size = "64k" if full else "64m"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        return {"skipped": "file systems may not be mounted here"}
    try:
        if not full:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        failed = trained(prepared, disk)
        left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())
        subprocess.run(["mount", "-o", "remount,rw,size=64m", disk], check=True)
        again = trained(prepared, disk)
        same = again.returncode == 0 and contents(disk / "run") == wanted
    finally:
        subprocess.run(["umount", disk], check=True)
    return {
        "exit_code": failed.returncode,
        "last_line": failed.stderr.strip().splitlines()[-1].replace(str(folder), "..."),
        "half_a_run_left": any(name.startswith("run/") for name in left),
        "afterwards_same_bytes": same,
    }


def stopped(prepared: Path, folder: Path, wanted: dict[str, bytes], number: signal.Signals) -> dict[str, Any]:
    """A run that gets a signal as soon as it has a state, and then runs again."""
    own = folder / number.name
    process = subprocess.Popen(
        train_command(prepared, own), cwd=REPOSITORY, env=os.environ | {"WANDB_MODE": "disabled"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list((own / "work").glob("*/state.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, log = process.communicate()
    again = trained(prepared, own)
    return {
        "exit_code": process.returncode,
        "last_line": log.strip().splitlines()[-1],
        "went_on": "goes on in epoch" in again.stderr,
        "afterwards_same_bytes": contents(own / "run") == wanted,
    }


def at_once(folder: Path) -> dict[str, Any]:
    """Two `dvc repro` at the same time, then one that finishes what the refused one left."""
    own = shutil.copytree(folder / "template", folder / "at_once", symlinks=True)
    both = [start_repro(own), start_repro(own)]
    logs = [process.communicate()[0] for process in both]
    last = start_repro(own)
    log, _ = last.communicate()
    twice = sorted(name for name in set(stages_run(logs[0])) if sum(name in stages_run(text) for text in logs) > 1)
    return {
        "exit_codes": sorted(process.returncode for process in both),
        "stages_run_twice": twice,
        "then_exit_code": last.returncode,
        "then_run": stages_run(log),
        "same_bytes": hashes(own) == hashes(folder / "calm"),
    }


def all_records(tries: int, seed: int, jobs: int) -> dict[str, Any]:
    """Everything, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = write_prepared(folder / "prepared", epochs=60)
        trained(prepared, folder / "calm_run")
        wanted = contents(folder / "calm_run" / "run")
        mishaps: dict[str, Callable[[], dict[str, Any]]] = {
            "disk full": lambda: on_own_disk(prepared, folder, wanted, full=True),
            "read-only folder": lambda: on_own_disk(prepared, folder, wanted, full=False),
            "SIGTERM": lambda: stopped(prepared, folder, wanted, signal.SIGTERM),
            "SIGINT": lambda: stopped(prepared, folder, wanted, signal.SIGINT),
        }
        others = {}
        for name, mishap in mishaps.items():
            others[name] = mishap()
            print(name, json.dumps(others[name]), flush=True)
        duration_s = undisturbed(folder)
        others["two dvc repro at once"] = at_once(folder)
        print(json.dumps(others["two dvc repro at once"]), flush=True)
        killed = kills(folder, duration_s, tries=tries, seed=seed, jobs=jobs)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), **versions, "kill -9": killed, "others": others}


def section(record: dict[str, Any]) -> list[str]:
    """Of docs/reliability.md."""
    killed = record["kill -9"]
    tries = killed["tries"]
    survived = sum(one["survived"] for one in tries)
    repeated = sum(bool(one["repeated"]) for one in tries)
    orphans = sum(one["orphan_ran_on"] for one in tries)
    lines = [
        "## Kills and other mishaps",
        "",
        f"`make torture`, {record['date']}: {record['cpus']} CPUs, Python {record['python']}, torch {record['torch']}.",
        "Every try is in [crashes.json](reliability/crashes.json).",
        "",
        f"A small pipeline from raw files to the table, {killed['undisturbed_s']} s undisturbed, was killed at "
        f"{len(tries)} random instants (seed {killed['seed']}), and `dvc repro` was typed once more. "
        f"**{survived} of {len(tries)}** ended with all {killed['files']} files, weights and metrics among them, "
        f"byte for byte as undisturbed. Stages that DVC had recorded as finished were repeated in {repeated} tries. "
        f"In {orphans} a stage ran on without its dvc when the second one began.",
        "",
        "| killed | while running | at s | half-written files | finished stages | repeated | same bytes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in tries:
        cells = (
            one["killed"], one["running"] or "dvc between stages", one["instant_s"], len(one["half_written"]),
            one["finished_before"], len(one["repeated"]), "yes" if one["survived"] else "NO",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| mishap | what happened |", "| --- | --- |"]
    for name, found in record["others"].items():
        said = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in found.items())
        lines.append(f"| {name} | {said} |")
    return lines


def main() -> None:
    """Run it all, or the short form, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of their instants")
    parser.add_argument("--jobs", type=int, default=1, help="kills at the same time, each in a project of its own")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record")
    options = parser.parse_args()
    record = all_records(options.tries, options.seed, options.jobs)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    tries = record["kill -9"]["tries"]
    if not all(one["survived"] and not one["repeated"] for one in tries):
        raise SystemExit(f"torture: not every kill was survived, see {options.out}")


if __name__ == "__main__":
    main()
