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
SETTINGS = ("one_vendor", "x86")
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
TIMED_ROW = "cmu-gt-f27-rayformer"
TURNS = 3
STEPS = (1, 31)
# Commits between which the rows were trained again with other rounding alone: wider instructions, Muon in bfloat16.
OTHER_ROUNDING = ("771f08c", "a8ae817")
RETRAINED = ("cmu-gt-f27-rayformer", "cmu-det-f27-rayformer")


def bits(processor: str | None, same_bits: str) -> dict[str, str]:
    """A hash of each part of what a small row writes on an emulated processor, or on this one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, epochs=1, windows_per_epoch=96, batch_windows=32)
        params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        params |= {"seeds": [0], "same_bits": same_bits}
        params["models"]["rayformer"] = {"width": 128, "depth": 1, "heads": 4}
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        emulator = [] if processor is None else ["qemu-x86_64", "-cpu", processor]
        for stage in STAGES:
            run([*emulator, sys.executable, "-m", "pipeline", *stage], folder)
        return {part: hash_of(sorted(folder.glob(pattern))) for part, pattern in COMPARED.items()}


def run(command: list[str], folder: Path, **variables: str) -> None:
    """Run it in the folder, without the limits that this process has; its log is shown if it fails."""
    limits = LIMITS | NUMPY_LIMIT
    kept = {variable: value for variable, value in environment(folder).items() if variable not in limits}
    done = subprocess.run(command, cwd=folder, env={**kept, **variables}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")


def hash_of(files: list[Path]) -> str:
    """The first digits of a hash of the files' contents, in order."""
    assert files
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def cpu_seconds() -> dict[str, list[float]]:
    """Of 30 steps of the default model on one thread, without limits and with each setting, in turns.

    The difference of a run of 31 steps and one of a single step: both start, validate and end alike.
    """
    seconds: dict[str, list[float]] = {"unlimited": [], **{setting: [] for setting in SETTINGS}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("pipeline", "models"):
            shutil.copytree(REPOSITORY / part, folder / part)
        (folder / "data").mkdir()
        (folder / "data" / "raw").symlink_to(REPOSITORY / "data" / "raw")
        params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
        params["datasets"]["cmu"] |= {"epochs": 1, "validation_step": 1000}
        params |= {"threads": 1, "device": "cpu", "seeds": [0]}
        program = [sys.executable, "-m", "pipeline"]
        for setting in SETTINGS:
            for steps in STEPS:
                params["datasets"]["cmu"]["windows_per_epoch"] = 96 * steps
                path = folder / "timed.yaml"
                path.write_text(yaml.safe_dump(params | {"same_bits": setting}), encoding="utf-8")
                run([*program, "prepare_data", TIMED_ROW, f"{setting}-{steps}", "--params", str(path)], folder)
        for turn in range(TURNS):
            for name in seconds:
                variables = UNLIMITED if name == "unlimited" else {}
                prepared, spent_s = "one_vendor" if name == "unlimited" else name, []
                for steps in STEPS:
                    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                    out = f"runs/{turn}/{name}-{steps}"
                    run([*program, "train", f"{prepared}-{steps}", out, "--seed", str(turn)], folder, **variables)
                    spent_s.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
                seconds[name].append(round(spent_s[1] - spent_s[0], 2))
    return seconds


def runs_of(commit: str, row: str) -> list[float]:
    """MPJPE in mm of a row's runs in the results of a commit."""
    command = ["git", "show", f"{commit}:reports/metrics/{row}.json"]
    shown = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    runs: list[float] = json.loads(shown.stdout)["mpjpe_mm"]["runs"]
    return runs


def section(record: dict[str, Any]) -> list[str]:
    """Of docs/reliability.md."""
    seconds = {name: median(values) for name, values in record["cpu_s"].items()}
    cost = {name: 100 * (seconds[name] / seconds["unlimited"] - 1) for name in SETTINGS}
    return [
        "## Bits on other processors",
        "",
        f"Written by `python -m tests.trials.processors` on {record['date']} ({record['processor']}, torch "
        f"{record['torch']}).",
        "A small row, from raw files to weights and their validation errors, on this processor and on emulated ones: a",
        "hash of what was written.",
        "Emulation computes as the processor does, but makes its approximate instructions exact.",
        "",
        "| `same_bits` | processor | prepared data | weights | errors |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {own['same_bits']} | {own['processor']} | {own['prepared']} | {own['weights']} | {own['curve']} |"
            for own in record["bits"]
        ),
        "",
        f"What the limits cost the training of the default model: `one_vendor` {cost['one_vendor']:+.0f} %, `x86` "
        f"{cost['x86']:+.0f} % of the CPU time without any (medians of {TURNS}, in turns). The default is",
        "`one_vendor`: what one processor made, another of the same vendor makes again, to the bit. For small matrices",
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
    """A line of the table."""
    moved = mean((new - old) ** 2 for old, new in zip(before, after, strict=True)) ** 0.5
    spreads = " | ".join(f"{mean(runs):.2f} ± {stdev(runs):.2f}" for runs in (before, after))
    return f"| {row} | {spreads} | {moved:.2f} |"


def main() -> None:
    """Write the record."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    if shutil.which("qemu-x86_64") is None:
        sys.exit("qemu-x86_64: expected QEMU's user emulation (Debian's package qemu-user), found none")
    rows = []
    for same_bits in SETTINGS:
        for processor in (None, *EMULATED):
            rows.append({"same_bits": same_bits, "processor": processor or "this", **bits(processor, same_bits)})
            print(rows[-1], flush=True)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bits": rows,
        "cpu_s": cpu_seconds(),
        "retrained": {row: {commit: runs_of(commit, row) for commit in OTHER_ROUNDING} for row in RETRAINED},
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def processor_name() -> str:
    """As Linux has it, and its widest instructions."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
    return f"{model}, {'AVX-512' if 'avx512dq' in info else 'AVX2'}, {os.cpu_count()} CPUs"


if __name__ == "__main__":
    main()
