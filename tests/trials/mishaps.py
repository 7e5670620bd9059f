"""A training run that meets a full disk, too little memory, a signal or a clock that jumps, and then runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fixtures.small_project import REPOSITORY
from tests.fixtures.walker import contents, write_prepared

# Runs as `-m pipeline` does, but a training saves its state after every step.
SAVING = """
import runpy
from pipeline.train import loop, stage
stage.SAVE_EVERY_S = -1.0
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""
# The same, but from its third step on a training gets no more memory than it has.
LIMITED = """
import resource, runpy, sys
from pipeline.train import loop, stage
steps, step, stage.SAVE_EVERY_S = 0, loop._step, -1.0

def limited(*values, **options):
    global steps
    steps += 1
    if steps == 3:
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    return step(*values, **options)

loop._step = limited
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
JUMPS = ("-400d", "+4000d", "+0")


def train_command(prepared: Path, folder: Path) -> list[str]:
    """Trains a run into `folder`/out/run, its state in `folder`/work."""
    return ["train", str(prepared), str(folder / "out" / "run"), "--seed", "0", "--work", str(folder / "work")]


def trained(prepared: Path, folder: Path, *start: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Trains in a process of its own that `start` begins; its state is saved after every step."""
    command = [sys.executable, *(start or ("-c", SAVING)), *train_command(prepared, folder)]
    env = os.environ | {"WANDB_MODE": "disabled"} | variables
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)


def failed_and_repeated(
    prepared: Path, folder: Path, failed: subprocess.CompletedProcess[str], wanted: dict[str, bytes]
) -> dict[str, Any]:
    """Returns what a failed run said and left, and whether it ends as it should when it runs again."""
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    lines = failed.stderr.strip().splitlines()
    again = trained(prepared, folder)
    return {
        "exit_code": failed.returncode,
        "last_line": lines[-1].replace(str(folder.parent), "..."),
        "traceback": any("Traceback" in line for line in lines),
        "half_a_run_left": bool(left),
        "afterwards_same_bytes": again.returncode == 0 and contents(folder / "out" / "run") == wanted,
    }


@contextmanager
def disk(folder: Path, size: str) -> Iterator[bool]:
    """Mounts a file system of its own in the new folder `folder`; returns whether that could be done."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def change_disk(folder: Path, options: str) -> None:
    """Mounts it with other options, with its files."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def bad_disk(
    prepared: Path, folder: Path, wanted: dict[str, bytes], part: str, *, size: str = "64m", read_only: bool = False
) -> dict[str, Any]:
    """Trains a run whose `part`, "work" or "out", lies on a disk that is full or read-only until that is put right."""
    with disk(folder / part, size) as mounted:
        if not mounted:
            return {"skipped": "file systems may not be mounted here"}
        if read_only:
            change_disk(folder / part, "ro")
        failed = trained(prepared, folder)
        change_disk(folder / part, "rw,size=64m")
        return failed_and_repeated(prepared, folder, failed, wanted)


def full_disk_of_wandb(prepared: Path, folder: Path, wanted: dict[str, bytes], *, size: str) -> dict[str, Any]:
    """Trains a run while the disk of its offline W&B run is full from the beginning, or soon."""
    with disk(folder / "wandb", size) as mounted:
        if not mounted:
            return {"skipped": "file systems may not be mounted here"}
        ran = trained(prepared, folder, WANDB_MODE="offline")
        said = [line for line in ran.stderr.splitlines() if "W&B" in line and "offline run at" not in line]
        return {
            "exit_code": ran.returncode,
            "said": "; ".join(said).replace(str(folder.parent), "..."),
            "same_bytes": contents(folder / "out" / "run") == wanted,
        }


def too_little_memory(folder: Path) -> dict[str, Any]:
    """Trains a run of large batches that gets no more memory from its third step on, until it runs again."""
    prepared = write_prepared(
        folder / "prepared", frames=27, lengths=(1500, 1200, 900), epochs=2, batch_windows=3000, windows_per_epoch=9000
    )
    trained(prepared, folder / "calm")
    failed = trained(prepared, folder / "short", "-c", LIMITED)
    return failed_and_repeated(prepared, folder / "short", failed, contents(folder / "calm" / "out" / "run"))


def stopped(prepared: Path, folder: Path, wanted: dict[str, bytes], number: signal.Signals) -> dict[str, Any]:
    """Trains a run that gets a signal as soon as it has a state, and then runs again."""
    command = [sys.executable, "-c", SAVING, *train_command(prepared, folder)]
    env = os.environ | {"WANDB_MODE": "disabled"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stderr=subprocess.PIPE, text=True)
    while not list((folder / "work").glob("*/state.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, log = process.communicate()
    again = trained(prepared, folder)
    return {
        "exit_code": process.returncode,
        "last_line": log.strip().splitlines()[-1],
        "went_on": "goes on in epoch" in again.stderr,
        "afterwards_same_bytes": contents(folder / "out" / "run") == wanted,
    }


@contextmanager
def jumping_clock(folder: Path) -> Iterator[dict[str, str]]:
    """Returns variables for programs whose clock is a year behind, ten years ahead and right in turn, every second."""
    now = folder / "clock"
    now.write_text(JUMPS[0], encoding="utf-8")
    ended = threading.Event()

    def jump() -> None:
        place = 0
        while not ended.wait(1.0):
            place += 1
            now.write_text(JUMPS[place % len(JUMPS)], encoding="utf-8")

    thread = threading.Thread(target=jump)
    thread.start()
    try:
        yield {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(now),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    finally:
        ended.set()
        thread.join()
