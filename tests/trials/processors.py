"""Which processors compute the same bits, and what that costs: `python -m tests.trials.processors`, some ten minutes.

A small row is prepared and trained on this processor and, under QEMU's user emulation (`qemu-x86_64`), on others; then
the default model is trained on this one with and without limits, in turns. The record is
docs/reliability/processors.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
import yaml

from pipeline.system.device import LIMITS, NUMPY_LIMIT
from tests.fixtures.small_project import REPOSITORY, ROW, environment, write_project

RECORD = REPOSITORY / "docs" / "reliability" / "processors.json"
EMULATED = ("EPYC-Rome", "EPYC-Milan", "Haswell", "Skylake-Client")  # QEMU 7 emulates no AVX-512
STAGES = (
    ("prepare_data", ROW, f"data/prepared/{ROW}"),
    ("train", f"data/prepared/{ROW}", f"data/checkpoints/{ROW}/run0", "--seed", "0"),
)
COMPARED = {
    "prepared": f"data/prepared/{ROW}/*/*",
    "weights": f"data/checkpoints/{ROW}/run0/weights.safetensors",
    "curve": f"data/checkpoints/{ROW}/run0/history.csv",
}
UNLIMITED = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "DEFAULT", "MKL_CBWR": "AUTO"}
TIMED_ROW = "mocap-gt-f27-rayformer"
TURNS = 3
STEPS = (1, 31)
# Commits between which the rows were trained again with other rounding alone: wider instructions, Muon in bfloat16.
OTHER_ROUNDING = ("771f08c", "a8ae817")
RETRAINED = ("mocap-gt-f27-rayformer", "mocap-det-f27-rayformer")


def hash_outputs(processor: str | None) -> dict[str, str]:
    """Returns a hash of each part of what a small row writes on an emulated processor, or on this one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, epochs=1, windows_per_epoch=96, batch_windows=32)
        params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        params["seeds"] = [0]
        params["models"]["rayformer"] = {"width": 128, "depth": 1, "heads": 4}
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        emulator = [] if processor is None else ["qemu-x86_64", "-cpu", processor]
        for stage in STAGES:
            run([*emulator, sys.executable, "-m", "pipeline", *stage], folder)
        return {part: hash_files(sorted(folder.glob(pattern))) for part, pattern in COMPARED.items()}


def run(command: list[str], folder: Path, **variables: str) -> None:
    """Runs a command in the folder without the limits that this process has; its log is shown if it fails."""
    limits = LIMITS | NUMPY_LIMIT
    kept = {variable: value for variable, value in environment(folder).items() if variable not in limits}
    done = subprocess.run(command, cwd=folder, env={**kept, **variables}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")


def hash_files(files: list[Path]) -> str:
    """Returns the first digits of a hash of the files' contents, in order."""
    assert files
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def measure_cpu_s() -> dict[str, list[float]]:
    """Returns the CPU seconds of 30 steps of the default model on one thread, without limits and with them, in turns.

    It is the difference of a run of 31 steps and one of a single step: both start, validate and end alike.
    """
    seconds: dict[str, list[float]] = {"unlimited": [], "limited": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("pipeline", "models"):
            shutil.copytree(REPOSITORY / part, folder / part)
        (folder / "data").mkdir()
        (folder / "data" / "raw").symlink_to(REPOSITORY / "data" / "raw")
        params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
        params["datasets"]["mocap"] |= {"epochs": 1, "validation_step": 1000}
        params |= {"threads": 1, "device": "cpu", "seeds": [0]}
        program = [sys.executable, "-m", "pipeline"]
        for steps in STEPS:
            params["datasets"]["mocap"]["windows_per_epoch"] = 96 * steps
            path = folder / "timed.yaml"
            path.write_text(yaml.safe_dump(params), encoding="utf-8")
            run([*program, "prepare_data", TIMED_ROW, str(steps), "--params", str(path)], folder)
        for turn in range(TURNS):
            for name, variables in (("unlimited", UNLIMITED), ("limited", {})):
                spent_s = []
                for steps in STEPS:
                    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                    out = f"runs/{turn}/{name}-{steps}"
                    run([*program, "train", str(steps), out, "--seed", str(turn)], folder, **variables)
                    spent_s.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
                seconds[name].append(round(spent_s[1] - spent_s[0], 2))
    return seconds


def read_runs_mm(commit: str, row: str) -> list[float]:
    """Returns the MPJPE of a row's runs in the results of a commit."""
    command = ["git", "show", f"{commit}:reports/metrics/{row}.json"]
    shown = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    runs: list[float] = json.loads(shown.stdout)["mpjpe_mm"]["runs"]
    return runs


def section(record: dict[str, Any]) -> list[str]:
    """Returns the lines of docs/reliability.md about processors."""
    cost = 100 * (median(record["cpu_s"]["limited"]) / median(record["cpu_s"]["unlimited"]) - 1)
    return [
        "## Bits on other processors",
        "",
        f"Written by `python -m tests.trials.processors` on {record['date']} ({record['processor']}, torch "
        f"{record['torch']}).",
        "A small row, from raw files to weights and their validation errors, on this processor and on emulated ones: a",
        "hash of what was written.",
        "Emulation computes as the processor does, but makes its approximate instructions exact.",
        "",
        "| processor | prepared data | weights | errors |",
        "| --- | --- | --- | --- |",
        *(f"| {row['processor']} | {row['prepared']} | {row['weights']} | {row['curve']} |" for row in record["bits"]),
        "",
        f"Libraries are limited to AVX2, which costs the training of the default model {cost:+.0f} % of the CPU time",
        f"without limits (medians of {TURNS}, in turns). So what one processor made, another of the same vendor makes",
        "again, to the bit. For small matrices",
        "MKL takes another order of sums on Intel's processors than on AMD's; the last bit differs, and training",
        "carries that on. Processors without AVX2, other architectures and GPUs have bits of their own.",
        "",
        "### What the last digit means",
        "",
        "Rows of that day, trained once more from the same seeds with other rounding alone. A run comes out",
        "as if it had another seed; the digits behind the point of a mean of five are good for the spread beside it.",
        "",
        "| row | MPJPE in mm | with other rounding | a run moved by (root mean square) |",
        "| --- | --- | --- | --- |",
        *(retrained_line(row, *found.values()) for row, found in record["retrained"].items()),
        "",
        "This is the tolerance for another processor and for a GPU too, which round otherwise and nothing else: a run",
        "may move by twice the last column, the mean of five by that column. It has not been measured on a GPU yet;",
        "`dvc exp run --temp -S device=cuda`, then `dvc exp show`, do so where there is one.",
    ]


def retrained_line(row: str, before: list[float], after: list[float]) -> str:
    """Returns a line of the table of retrained rows."""
    moved = mean((new - old) ** 2 for old, new in zip(before, after, strict=True)) ** 0.5
    spreads = " | ".join(f"{mean(runs):.2f} ± {stdev(runs):.2f}" for runs in (before, after))
    return f"| {row} | {spreads} | {moved:.2f} |"


def main() -> None:
    """Writes the record."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    if shutil.which("qemu-x86_64") is None:
        sys.exit("qemu-x86_64: expected QEMU's user emulation (Debian's package qemu-user), found none")
    rows = []
    for processor in (None, *EMULATED):
        rows.append({"processor": processor or "this", **hash_outputs(processor)})
        print(rows[-1], flush=True)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bits": rows,
        "cpu_s": measure_cpu_s(),
        "retrained": {row: {commit: read_runs_mm(commit, row) for commit in OTHER_ROUNDING} for row in RETRAINED},
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def processor_name() -> str:
    """Returns the processor's name as Linux has it, and its widest instructions."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
    return f"{model}, {'AVX-512' if 'avx512dq' in info else 'AVX2'}, {os.cpu_count()} CPUs"


if __name__ == "__main__":
    main()
