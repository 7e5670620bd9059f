"""The machine that a benchmark runs on: what it is, how fast it multiplies matrices, and how long things take."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils import benchmark
from torch.utils.flop_counter import FlopCounterMode

Case = TypeVar("Case")
Record = dict[str, str | int | float]  # a line of a table of what was measured
MATRIX = {"cpu": 2048, "cuda": 8192}  # rows of the square matrices whose product is the peak: large enough for it


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Returns what the machine is, torch and its threads, the date, and the load: how many processes run or wait."""
    return {
        "processor": _processor(),
        "cores": os.sysconf("SC_NPROCESSORS_ONLN"),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def file_name(machine: Mapping[str, Any]) -> str:
    """Returns what the report of a machine is called."""
    words = machine["card"] or f"{machine['processor']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def fastest_s(cases: Mapping[Case, Callable[[], object]], *, turns: int) -> dict[Case, float]:
    """Returns the fastest time of each case in seconds, the cases being run one after the other in every turn.

    So programs that share the machine disturb all cases alike, and the fastest time is the one least disturbed. A turn
    before them warms up and is not counted.
    """
    seconds: dict[Case, list[float]] = {name: [] for name in cases}
    for turn in range(-1, turns):
        for name, work in cases.items():
            start = benchmark.timer()  # waits for the GPU
            work()
            spent = benchmark.timer() - start
            seconds[name] += [spent] if turn >= 0 else []
    return {name: min(times) for name, times in seconds.items()}


def matrix_product(device: torch.device, precision: str) -> tuple[Callable[[], object], int]:
    """Returns a product of two large matrices, which runs at the machine's peak, and its floating-point operations."""
    size, dtype = MATRIX[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right, 2 * size**3


def count_operations(work: Callable[[], object]) -> int:
    """Returns the floating-point operations in the products of matrices: two for each multiply and add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
