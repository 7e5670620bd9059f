"""What lifting costs: minutes of 30 Hz keypoints to poses and files, and one frame of a live stream.

Writes reports/benchmarks/lift.json and prints it: `python -m experiments.speed.lift_speed`. The recording is a held-out
clip of the embedded data, repeated. Each length runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pipeline.lift.lifter import SHIPPED, Lifter
from pipeline.lift.outputs import write_lifted
from pipeline.lift.people import Recording, Track
from pipeline.poses.clips import read_split
from pipeline.system.files import write_json

PREPARED = Path("data/prepared") / SHIPPED.parent.name
REPORT = Path("reports/benchmarks/lift.json")
SIZE = (1000, 1000)
MINUTES = (1, 5, 10, 20)
OUTPUTS = ("npz", "json", "csv")
RATE_HZ = 30
STREAM_FRAMES = 600


def keypoints(frames: int) -> Float[np.ndarray, "F 17 3"]:
    """Pixels and confidence of the longest test clip, there and back again until there are enough."""
    clip = max(read_split(PREPARED / "test"), key=len)
    assert clip.confidence is not None
    once = np.concatenate([clip.pixels, clip.confidence[..., None]], axis=-1).astype(float)
    loop = np.concatenate([once, once[::-1]])
    return np.tile(loop, (frames // len(loop) + 1, 1, 1))[:frames]


def lift_minutes(minutes: int) -> dict[str, float]:
    """Seconds to lift and to write so many minutes, and the process's peak memory."""
    lifter = Lifter.load()
    array = keypoints(minutes * 60 * RATE_HZ)
    track = Track("0", "h36m17", 0, array[..., :2], array[..., 2])
    recording = Recording("clip", len(array), (track,), RATE_HZ, SIZE)
    start = time.perf_counter()
    lifted = lifter.lift(recording)
    done = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_lifted(Path(folder) / "lifted", lifted, OUTPUTS)
    written = time.perf_counter()
    return {
        "minutes": minutes,
        "frames": len(array),
        "lift_s": round(done - start, 2),
        "write_npz_json_csv_s": round(written - done, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def stream_frames(latency: int) -> dict[str, float]:
    """Milliseconds that a frame of a stream costs, over STREAM_FRAMES frames after a warm-up."""
    lifter = Lifter.load()
    stream = lifter.stream(layout="h36m17", image_size=SIZE, latency=latency)
    cost_ms = []
    for frame in keypoints(STREAM_FRAMES + 100):
        start = time.perf_counter()
        stream.push(frame)
        cost_ms.append(1000 * (time.perf_counter() - start))
    median, high = np.percentile(cost_ms[100:], [50, 95])
    return {
        "window_frames": lifter.card.frames,
        "latency_frames": latency,
        "median_ms": round(float(median), 2),
        "p95_ms": round(float(high), 2),
    }


def own_process(*arguments: str) -> dict[str, Any]:
    """What this module prints with these arguments, as JSON."""
    command = [sys.executable, "-m", "benchmarks.lift_speed", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    if len(sys.argv) == 3:
        what, number = sys.argv[1], int(sys.argv[2])
        print(json.dumps(lift_minutes(number) if what == "minutes" else stream_frames(number)))
        return
    result = {
        "how": "python -m experiments.speed.lift_speed; a process for each line, lifted with the shipped checkpoint",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "lift": [own_process("minutes", str(minutes)) for minutes in MINUTES],
        "stream": [own_process("stream", str(latency)) for latency in (0, 13)],
    }
    write_json(REPORT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
