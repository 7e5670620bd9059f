"""Which processors compute the same bits, and what that costs: `python tests/processors.py`, some ten minutes.

A small pipeline runs on this processor and, under QEMU's user emulation (`qemu-x86_64`), on others; then the default
model is trained on this one with and without limits, in turns. The record goes to docs/reliability/processors.json.
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
from statistics import median
from typing import Any

import torch
import yaml
from small_project import REPOSITORY, ROW, environment, write_project

from pipeline.processor import LIMITS, NUMPY_LIMIT

RECORD = REPOSITORY / "docs" / "reliability" / "processors.json"
EMULATED = ("EPYC-Rome", "EPYC-Milan", "Haswell", "Broadwell", "Skylake-Client")  # QEMU 7 emulates no AVX-512
SETTINGS = ("one_vendor", "x86")
STAGES = (
    ("prepare_data", ROW, f"data/prepared/{ROW}"),
    ("train", f"data/prepared/{ROW}", f"data/checkpoints/{ROW}/run0", "--seed", "0"),
    ("evaluate_5runs", f"data/prepared/{ROW}", f"data/checkpoints/{ROW}"),
)
COMPARED = {
    "prepared": f"data/prepared/{ROW}/*/*",
    "weights": f"data/checkpoints/{ROW}/run0/weights.safetensors",
    "metrics": f"reports/metrics/{ROW}.json",
}
UNLIMITED = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "DEFAULT", "MKL_CBWR": "AUTO"}
TIMED_ROW = "cmu-gt-f27-rayformer"
TURNS = 3


def bits(processor: str | None, same_bits: str) -> dict[str, str]:
    """A hash of each part of what the small pipeline writes on an emulated processor, or on this one."""
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
    """Of training the default model on one thread for 2880 windows, without limits and with each setting, in turns."""
    seconds: dict[str, list[float]] = {"unlimited": [], **{setting: [] for setting in SETTINGS}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("pipeline", "models"):
            shutil.copytree(REPOSITORY / part, folder / part)
        (folder / "data").mkdir()
        (folder / "data" / "raw").symlink_to(REPOSITORY / "data" / "raw")
        params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
        params["datasets"]["cmu"] |= {"epochs": 1, "windows_per_epoch": 2880, "validation_step": 1000}
        params |= {"threads": 1, "device": "cpu", "seeds": [0]}
        for setting in SETTINGS:
            path = folder / f"{setting}.yaml"
            path.write_text(yaml.safe_dump(params | {"same_bits": setting}), encoding="utf-8")
            program = [sys.executable, "-m", "pipeline"]
            run([*program, "prepare_data", TIMED_ROW, setting, "--params", str(path)], folder)
        for turn in range(TURNS):
            for name in seconds:
                variables = UNLIMITED if name == "unlimited" else {}
                prepared = "one_vendor" if name == "unlimited" else name
                before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                run([*program, "train", prepared, f"runs/{turn}/{name}", "--seed", str(turn)], folder, **variables)
                seconds[name].append(round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, 2))
    return seconds


def section(record: dict[str, Any]) -> list[str]:
    """Of docs/reliability.md."""
    seconds = {name: median(values) for name, values in record["cpu_s"].items()}
    cost = {name: 100 * (seconds[name] / seconds["unlimited"] - 1) for name in SETTINGS}
    return [
        "## Bits on other processors",
        "",
        f"Written by `python tests/processors.py` on {record['date']} ({record['processor']}, torch "
        f"{record['torch']}).",
        "A small pipeline, raw files to metrics, on this processor and on emulated ones; a hash of what it wrote.",
        "Emulation computes as the processor does but for approximate instructions, which it makes exact.",
        "",
        "| `same_bits` | processor | prepared data | weights | metrics |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {own['same_bits']} | {own['processor']} | {own['prepared']} | {own['weights']} | {own['metrics']} |"
            for own in record["bits"]
        ),
        "",
        f"What the limits cost the training of the default model: `one_vendor` {cost['one_vendor']:+.0f} %, `x86` "
        f"{cost['x86']:+.0f} % of the CPU time without any (medians of {TURNS}, in turns). The default is",
        "`one_vendor`: what one processor made, another of the same vendor makes again, to the bit. For small matrices",
        "MKL takes another order of sums on Intel's processors than on AMD's; the last bit differs, and training",
        "carries that on. Processors without AVX2, other architectures and GPUs have bits of their own.",
    ]


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
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def processor_name() -> str:
    """As Linux has it, and its widest instructions."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
    return f"{model}, {'AVX-512' if 'avx512dq' in info else 'AVX2'}, {os.cpu_count()} CPUs"


if __name__ == "__main__":
    main()
