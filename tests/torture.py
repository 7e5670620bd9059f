"""Kills, full disks and other mishaps, for real: what survives them. Takes many minutes; apart from the test suite.

`python tests/torture.py` runs a small full pipeline undisturbed, then kills it at seeded random instants and runs
`dvc repro` once more each time; then training is run out of disk, stopped, started twice. The record goes to
docs/reliability.json, the page to docs/reliability.md.
"""

from __future__ import annotations

import argparse
import hashlib
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
from tiny_archive import VALIDATION_TAKE, write_tiny_archive
from walker import contents, write_prepared

REPOSITORY = Path(__file__).parents[1]
COPIED = ("pipeline", "models", "dvc.yaml", ".dvcignore", ".gitignore", "reports/published.csv", "reports/rows.yaml")
ROW = "cmu-gt-f9-rayformer"
KINDS = ("stage", "dvc", "both")
COMPARED = ("data/prepared", "data/checkpoints", "reports")

# Stands in for `python`: training saves its state after every step, so that kills fall into that too.
SAVING_PYTHON = """#!{executable}
import os, runpy, sys
sys.argv, sys.path[0] = sys.argv[2:], os.getcwd()  # as `-m pipeline` has them
if sys.argv[1:2] == ["train"]:
    from pipeline import engine

    engine.SAVE_EVERY_S = -1.0
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


def write_project(folder: Path) -> None:
    """The project with a tiny archive and tiny parameters, nothing of which has run."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, folder / name, follow_symlinks=False)
    write_tiny_archive(REPOSITORY / "data" / "raw" / "cmu_mocap", folder / "data" / "raw" / "cmu_mocap")
    lines = (folder / "dvc.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.lstrip().startswith("- cmu-"))
    (folder / "dvc.yaml").write_text(kept, encoding="utf-8")
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    content |= {"dataset": "cmu", "keypoints": "gt", "frames": 9, "model": "rayformer", "seeds": [0, 1]}
    content |= {"threads": 1, "device": "cpu"}
    content["models"]["rayformer"] = {"width": 16, "depth": 1, "heads": 2}
    small = {"validation_takes": [VALIDATION_TAKE], "epochs": 10, "windows_per_epoch": 128, "batch_windows": 16}
    content["datasets"]["cmu"] |= small
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    programs = folder / ".programs"
    programs.mkdir()
    (programs / "python").write_text(SAVING_PYTHON.format(executable=sys.executable), encoding="utf-8")
    (programs / "python").chmod(0o755)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["dvc", "init", "--quiet"], cwd=folder, env=environment(folder), check=True)


def environment(folder: Path) -> dict[str, str]:
    """For programs of the project in `folder`: nothing tracked, nothing shared with other folders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "WANDB_"))}
    own = {f"DVC_{name}_DIR": str(folder / ".of_dvc" / name) for name in ("SITE_CACHE", "GLOBAL_CONFIG")}
    paths = [str(folder / ".programs"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**kept, **own, "PATH": os.pathsep.join(paths), "DVC_NO_ANALYTICS": "1", "WANDB_MODE": "disabled"}


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


def stages_run(log: str) -> list[str]:
    """Names of the stages that a `dvc repro` ran, in order."""
    return [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage ")]


def recorded(folder: Path) -> set[str]:
    """Names of the stages that DVC knows to be finished."""
    try:
        return set(yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"])
    except FileNotFoundError:
        return set()


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file that the pipeline wrote."""
    files = [path for part in COMPARED for path in sorted((folder / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
    write_project(folder / "template")
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


def page(record: dict[str, Any]) -> str:
    """docs/reliability.md."""
    killed = record["kill -9"]
    tries = killed["tries"]
    survived = sum(one["survived"] for one in tries)
    repeated = sum(bool(one["repeated"]) for one in tries)
    orphans = sum(one["orphan_ran_on"] for one in tries)
    lines = [
        "# What survives what",
        "",
        f"Written by `make torture` on {record['date']} ({record['cpus']} CPUs, Python {record['python']}, torch "
        f"{record['torch']}) from reliability.json, which has every try.",
        "",
        "## kill -9",
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
    lines += ["", "## Other mishaps", "", "| mishap | what happened |", "| --- | --- |"]
    for name, found in record["others"].items():
        said = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in found.items())
        lines.append(f"| {name} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it all, or the short form, and write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of their instants")
    parser.add_argument("--jobs", type=int, default=1, help="kills at the same time, each in a project of its own")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs", help="folder for the record and the page")
    options = parser.parse_args()
    record = all_records(options.tries, options.seed, options.jobs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "reliability.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (options.out / "reliability.md").write_text(page(record), encoding="utf-8")
    tries = record["kill -9"]["tries"]
    if not all(one["survived"] and not one["repeated"] for one in tries):
        raise SystemExit("torture: not every kill was survived, see reliability.md")


if __name__ == "__main__":
    main()
