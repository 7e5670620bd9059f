"""The machine a benchmark runs on: what it is, how fast it multiplies matrices and copies, and how long things take."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MATRIX = {"cpu": 2048, "cuda": 8192}  # rows of the square matrices whose product is the peak
COPIED_BYTES = 1 << 28


def described(device: torch.device) -> dict[str, Any]:
    """Processor or card, cores, memory, torch, date, and how busy the machine is by itself."""
    on_gpu = device.type == "cuda"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "card": torch.cuda.get_device_name(device) if on_gpu else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "").lower() or None,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "load": load(),
    }


def load() -> float:
    """Processes that ran or waited to, on average over the last minute."""
    return round(os.getloadavg()[0], 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def file_name(machine: Mapping[str, Any]) -> str:
    """What the machine's report is called."""
    words = machine["card"] or f"{machine['processor']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def clock(device: torch.device) -> float:
    """Seconds, after all that the device was given is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes once."""
    start = clock(device)
    work()
    return clock(device) - start


@dataclass(frozen=True)
class Times:
    """How long a piece of work took each time: by the wall's clock, and in seconds of all processors' time."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    @property
    def best_s(self) -> float:
        """Of the fastest time, on a machine that others use too the one least disturbed."""
        return min(self.wall_s)


def in_turns(
    cases: Mapping[str, Callable[[], object]], device: torch.device, *, turns: int, warm_up: int = 1
) -> dict[str, Times]:
    """The times of each case in each turn, the cases one after the other within a turn; without those to warm up."""
    taken = {name: Times() for name in cases}
    for turn in range(-warm_up, turns):
        for name, work in cases.items():
            before = time.process_time()
            spent = seconds(work, device)
            if turn >= 0:
                taken[name].wall_s.append(spent)
                taken[name].processor_s.append(time.process_time() - before)
    return taken


def compared(taken: Mapping[str, Times], *, ours: str, yardstick: str) -> dict[str, float]:
    """How many times as fast ours is: by the fastest turns, in the turns where it was least and most so.

    And by the least processor time, which waiting for other people's programs does not add to.
    """
    fast, slow = taken[ours], taken[yardstick]
    pairs = [other / own for other, own in zip(slow.wall_s, fast.wall_s, strict=True)]
    return {
        "ratio": slow.best_s / fast.best_s,
        "lowest": min(pairs),
        "highest": max(pairs),
        "by_processor_time": min(slow.processor_s) / min(fast.processor_s),
    }


def matrices(device: torch.device, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two large square matrices, whose product shows the machine's peak."""
    size, dtype = MATRIX[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return left, right


def matmul_peak(device: torch.device, precision: str) -> float:
    """Floating-point operations per second in the product of two large square matrices, the best of eight."""
    left, right = matrices(device, precision)
    return 2 * len(left) ** 3 / min(seconds(lambda: left @ right, device) for _ in range(8))


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second read and written in a copy that fits no cache, the best of eight."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source), device) for _ in range(8))
    return 2 * COPIED_BYTES / best


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations in the products of matrices that `work` computes: two for each multiply and add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def saved_bytes(model: nn.Module, example: torch.Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass, besides the weights."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held on to, so that its number is not given out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(example)
    return sum(storage.nbytes() for storage in kept.values())
