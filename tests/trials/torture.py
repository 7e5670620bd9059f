"""Kills, full disks and other mishaps, for real: what survives them. Takes many minutes; apart from the test suite.

`python -m tests.trials.torture` runs a small full pipeline undisturbed, then kills it at seeded random instants and
runs `dvc repro` once more each time (kills); kills each stage at its changes to files (deaths); runs training out of
disk and memory, stops it (mishaps); and runs the pipeline twice at once and under a wrong clock (pipelines). The record
goes to docs/reliability/crashes.json.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
import yaml

from tests.fixtures.small_project import REPOSITORY, environment, hashes, stages_run, write_project, write_python
from tests.fixtures.tiny_archive import write_tiny_archive
from tests.fixtures.walker import contents, write_prepared
from tests.trials.crash_points import KINDS as DEATHS
from tests.trials.crash_points import attempt, calm, four_stages, places, repeated_with_dvc
from tests.trials.mishaps import (
    FAKETIME,
    bad_disk,
    full_disk_of_wandb,
    jumping_clock,
    stopped,
    too_little_memory,
    trained,
)

RECORD = REPOSITORY / "docs" / "reliability" / "crashes.json"
KINDS = ("stage", "dvc", "both", "run")  # run: one of the processes in which runs train side by side
STAGES = ("prepare_data", "train", "evaluate_5runs", "report", "dvc")
TRAINING = {"epochs": 10, "windows_per_epoch": 128, "batch_windows": 16}

SAVING = "stage.SAVE_EVERY_S = -1.0"  # after every step, so that kills fall into that too
LONGEST_S = 30.0  # that a process may take to leave when the one that started it was killed


def start_repro(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """`dvc repro` in a session of its own."""
    return subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment(folder) | variables,
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


def members(session: int) -> dict[int, list[str]]:
    """The words of the commands of a session's living processes, by their numbers."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ProcessLookupError):
            continue
    return {number: words for number, words in found.items() if words != [""]}  # which the dead have none of


def stage_process(session: int) -> tuple[int, str] | None:
    """The process of the running stage in a session, and its name; None between stages."""
    for number, words in members(session).items():
        if "pipeline" in words and words[0] == sys.executable:
            return number, words[words.index("pipeline") + 1]
    return None


def run_process(session: int) -> tuple[int, str] | None:
    """A process of a session that trains a run beside others."""
    return next(((number, "a run") for number, words in members(session).items() if is_run(words)), None)


def is_run(words: list[str]) -> bool:
    """Returns whether a command is that of a run beside others, as multiprocessing starts it."""
    return any("spawn_main" in word for word in words)


def left_alone(session: int) -> bool:
    """Returns whether all processes of a session end by themselves within LONGEST_S."""
    ends = time.monotonic() + LONGEST_S
    while members(session) and time.monotonic() < ends:
        time.sleep(0.1)
    return not members(session)


def killed_at(folder: Path, instant_s: float, kind: str) -> dict[str, Any]:
    """Start `dvc repro`, kill -9 what `kind` says after so many seconds, and run `dvc repro` to the end."""
    process = start_repro(folder)
    time.sleep(instant_s)
    find = run_process if kind == "run" else stage_process
    stage = find(process.pid)
    while kind != "dvc" and stage is None and process.poll() is None:  # between two stages
        time.sleep(0.02)
        stage = find(process.pid)
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
    orphan = stage_process(process.pid) or run_process(process.pid)
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
        "orphan_left": not left_alone(process.pid),
    }


def undisturbed(folder: Path) -> float:
    """Make the projects `template`, in which nothing has run, and `calm`, in which all has; seconds that took."""
    write_project(folder / "template", **TRAINING)
    write_python(folder / "template", SAVING)
    calm = shutil.copytree(folder / "template", folder / "calm", symlinks=True)
    started = time.monotonic()
    log, _ = start_repro(calm).communicate()
    duration_s = time.monotonic() - started
    assert set(stages_run(log)) == recorded(calm), log
    return duration_s


def kills(folder: Path, *, tries: int, seed: int, jobs: int) -> dict[str, Any]:
    """The pipeline killed at `tries` instants, drawn from `seed`; `jobs` at the same time."""
    duration_s = undisturbed(folder)
    wanted, draw = hashes(folder / "calm"), random.Random(seed)
    instants = [draw.uniform(0.05, 0.95) * duration_s for _ in range(tries)]

    def attempt(number: int) -> dict[str, Any]:
        own = shutil.copytree(folder / "template", folder / f"try{number}", symlinks=True)
        record = killed_at(own, instants[number], KINDS[number % len(KINDS)])
        found = hashes(own)
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        ended_well = record["exit_code"] == 0 and not record["orphan_left"]
        record |= {"different": different, "survived": not different and ended_well}
        print(json.dumps(record), flush=True)
        shutil.rmtree(own)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        records = list(pool.map(attempt, range(tries)))
    return {"seed": seed, "undisturbed_s": round(duration_s, 1), "files": len(wanted), "tries": records}


def pipelines(folder: Path) -> dict[str, Any]:
    """Two `dvc repro` at the same time, and one under a clock that jumps by years."""
    undisturbed(folder)
    own = shutil.copytree(folder / "template", folder / "at_once", symlinks=True)
    both = [start_repro(own), start_repro(own)]
    logs = [process.communicate()[0] for process in both]
    last = start_repro(own)
    log, _ = last.communicate()
    twice = sorted(name for name in set(stages_run(logs[0])) if sum(name in stages_run(text) for text in logs) > 1)
    found: dict[str, Any] = {}
    found["two dvc repro at once"] = {
        "exit_codes": sorted(process.returncode for process in both),
        "stages_run_twice": twice,
        "then_exit_code": last.returncode,
        "then_run": stages_run(log),
        "same_bytes": hashes(own) == hashes(folder / "calm"),
    }
    found["clock that jumps by years"] = {"skipped": "libfaketime is not installed here"}
    if FAKETIME.is_file():
        own = shutil.copytree(folder / "template", folder / "clock_project", symlinks=True)
        with jumping_clock(folder) as variables:
            first = start_repro(own, **variables)
            first.communicate()
            again = start_repro(own, **variables)
            log, _ = again.communicate()
        found["clock that jumps by years"] = {
            "exit_code": first.returncode,
            "then_exit_code": again.returncode,
            "then_run": stages_run(log),
            "same_bytes": hashes(own) == hashes(folder / "calm"),
        }
    return {"tried": found}


def deaths(folder: Path, names: Sequence[str], *, share: float, seed: int) -> dict[str, Any]:
    """Stages, and DVC with stages that take no time, killed at the first and last change to each file.

    Tried is a `share` of these ways to die, drawn from `seed`.
    """
    (folder / "stages").mkdir()
    write_tiny_archive(REPOSITORY / "data" / "raw", folder / "raw")
    stages = four_stages(folder / "stages", folder / "raw") | {"dvc": repeated_with_dvc(folder)}
    records: dict[str, list[dict[str, Any]]] = {}
    ways: dict[str, int] = {}
    for name in names:
        stage = stages[name]
        files, wanted = calm(stage, folder / "calm_stage")
        all_ways = [(at, kind) for at in places(files) for kind in DEATHS]
        drawn = sorted(random.Random(seed).sample(all_ways, round(share * len(all_ways))))
        tried = [
            attempt(stage, folder / "killed_stage", wanted, at=at, file=files[at], kind=kind) for at, kind in drawn
        ]
        records[name] = [death._asdict() | {"survived": death.survived} for death in tried]
        ways[name] = len(all_ways)
        print(name, len(tried), [death for death in tried if not death.survived or death.remedy], flush=True)
    return {"seed": seed, "ways": ways, "tried": records}


def mishaps(folder: Path) -> dict[str, Any]:
    """A training run under all of them."""
    prepared = write_prepared(folder / "prepared", epochs=60)
    trained(prepared, folder / "calm_run")
    wanted = contents(folder / "calm_run" / "out" / "run")
    tried: dict[str, Callable[[Path], dict[str, Any]]] = {
        "disk full for the state": lambda own: bad_disk(prepared, own, wanted, "work", size="64k"),
        "disk full for the checkpoint": lambda own: bad_disk(prepared, own, wanted, "out", size="16k"),
        "read-only folder": lambda own: bad_disk(prepared, own, wanted, "work", read_only=True),
        "disk full for W&B": lambda own: full_disk_of_wandb(prepared, own, wanted, size="4k"),
        "disk soon full for W&B": lambda own: full_disk_of_wandb(prepared, own, wanted, size="64k"),
        "too little memory": too_little_memory,
        "SIGTERM": lambda own: stopped(prepared, own, wanted, signal.SIGTERM),
        "SIGINT": lambda own: stopped(prepared, own, wanted, signal.SIGINT),
    }
    found = {}
    for name, mishap in tried.items():
        found[name] = mishap(folder / name)
        print(name, json.dumps(found[name]), flush=True)
    return {"tried": found}


def section(record: dict[str, Any]) -> list[str]:
    """Of docs/reliability.md."""
    lines = [
        "## Kills and other mishaps",
        "",
        "`make torture` makes all of this; `python -m tests.trials.torture deaths` one part. Every try is in",
        "[crashes.json](reliability/crashes.json).",
        *killed_at_random(record["kills"]),
        *(killed_at_changes(record["deaths"]) if "deaths" in record else []),
        "",
        "### Other mishaps",
        "",
        f"{made(record['mishaps'])} A small training run meets each and runs again when the cause is gone.",
        "",
        "| mishap | what happened |",
        "| --- | --- |",
    ]
    for name, found in [*record["mishaps"]["tried"].items(), *record["pipelines"]["tried"].items()]:
        said = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in found.items())
        lines.append(f"| {name} | {said} |")
    return lines


def made(part: dict[str, Any]) -> str:
    """When, and on what."""
    return f"{part['date']}, {part['cpus']} CPUs, Python {part['python']}, torch {part['torch']}."


def killed_at_random(part: dict[str, Any]) -> list[str]:
    """The kills at random instants."""
    tries = part["tries"]
    survived = sum(one["survived"] for one in tries)
    repeated = sum(bool(one["repeated"]) for one in tries)
    orphans, left = (sum(one[key] for one in tries) for key in ("orphan_ran_on", "orphan_left"))
    said = (
        f"{made(part)} A small pipeline from raw files to the table, {part['undisturbed_s']} s undisturbed, was killed "
        f"at {len(tries)} random instants (seed {part['seed']}), and `dvc repro` was typed once more. "
        f"**{survived} of {len(tries)}** ended with all {part['files']} files, weights and metrics among them, byte "
        f"for byte as undisturbed. Stages that DVC had recorded as finished were repeated in {repeated} tries. "
        f"When the second `dvc repro` began, a process was still ending in {orphans} tries; at the end one remained in "
        f"{left}."
    )
    lines = [
        "",
        "### kill -9 at random instants",
        "",
        *wrap(said, 118),
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
    return lines


def killed_at_changes(part: dict[str, Any]) -> list[str]:
    """The kills at changes to files."""
    said = (
        f"{made(part)} Random instants miss what takes a moment. So each stage was killed right before the first and "
        "the last change to each of its files (made, opened, renamed, removed), and in the write that follows; so was "
        "DVC, with stages that take no time, while it commits outputs and writes dvc.lock. Then the stage, or "
        "`dvc repro`, ran again."
    )
    if any(len(tried) < part["ways"][name] for name, tried in part["tried"].items()):
        said += f" Those tried were drawn among these ways to die (seed {part['seed']})."
    lines = [
        "",
        "### kill -9 at each change to a file",
        "",
        *wrap(said, 118),
        "",
        "| killed | ways to die | tried | died | half-written files with a final name | same bytes in the end |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    by_hand = []
    for name, tried in part["tried"].items():
        died = [one for one in tried if one["died"]]
        half_written = sum(bool(one["half_written"]) for one in died)
        same = sum(one["same_bytes"] for one in died)
        cells = (name, part["ways"][name], len(tried), len(died), half_written, f"{same} of {len(died)}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        by_hand += [one for one in died if one["remedy"]]
    if by_hand:
        (remedy,) = {one["remedy"] for one in by_hand}
        said = (
            f"After {len(by_hand)} of these `dvc repro` refused to start: DVC writes `.dvc/tmp/rwlock` in place, and "
            "had not finished; or had left an empty folder or half a file where its cache has the runs. "
            f"`{remedy}` and `dvc repro` did the rest in "
            f"{sum(one['then_exit_code'] == 0 and one['same_bytes'] for one in by_hand)} of them."
        )
        lines += ["", *wrap(said, 118)]
    return lines


def main() -> None:
    """Run the parts, and write them into the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["kills", "deaths", "mishaps", "pipelines"])
    parser.add_argument("--tries", type=int, default=20, help="how many kills at random instants")
    parser.add_argument("--seed", type=int, default=0, help="of their instants, and of which deaths are tried")
    parser.add_argument("--share", type=float, default=1.0, help="of all deaths that is tried")
    parser.add_argument("--jobs", type=int, default=1, help="kills at the same time, each in a project of its own")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record; parts that are not run stay in it")
    parser.add_argument("--stages", nargs="*", default=STAGES, help="those whose deaths are tried; others stay")
    options = parser.parse_args()
    work: dict[str, Callable[[Path], dict[str, Any]]] = {
        "kills": lambda folder: kills(folder, tries=options.tries, seed=options.seed, jobs=options.jobs),
        "deaths": lambda folder: deaths(folder, options.stages, share=options.share, seed=options.seed),
        "mishaps": mishaps,
        "pipelines": pipelines,
    }
    record = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as name:
            found = work[part](Path(name))
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
        if part == "deaths":
            before = record.get(part, {})
            found |= {key: before.get(key, {}) | found[key] for key in ("ways", "tried")}
        record[part] = {"date": time.strftime("%Y-%m-%d"), **machine, **found}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    tries = record.get("kills", {"tries": []})["tries"]
    tries += [
        one | {"repeated": []} for tried in record.get("deaths", {"tried": {}})["tried"].values() for one in tried
    ]
    if not all(one["survived"] and not one["repeated"] for one in tries):
        raise SystemExit(f"torture: not every kill was survived, see {options.out}")


if __name__ == "__main__":
    main()
