"""What lifting costs: up to an hour of 30 Hz keypoints from file to files, and one frame of a live stream.

The recording is a held-out clip of the embedded data, repeated.
"""

from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pipeline.lift.formats import read_recording
from pipeline.lift.lifter import SHIPPED, Lifter
from pipeline.lift.outputs import DEFAULT_OUTPUTS, write_lifted
from pipeline.lift.people import InputOptions
from pipeline.mocap.cameras import read_clips
from pipeline.poses.clips import Clip
from pipeline.system.files import read_json

PREPARED = SHIPPED.parent / "prepared"
SIZE_PX = (1000, 1000)
RECORDINGS = ((1, 1), (10, 1), (60, 1), (60, 2))  # minutes, people
LATENCIES = (0, 13)  # frames: the least, and half a window, with which the model sees all that it sees of a recording
RATE_HZ = 30
STREAM_FRAMES, WARM_UP_FRAMES = 600, 100


def measure_lift_speed() -> dict[str, Any]:
    """Returns the costs of lifting RECORDINGS and of streaming with LATENCIES.

    Each is measured in a process of its own, whose peak memory is then its own. Raises UserError if the row of the
    shipped checkpoint is not prepared.
    """
    load = os.getloadavg()[0]
    return {
        "how": "python -m experiments bench --only lift_speed; a process for each line, the shipped checkpoint",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "outputs": ", ".join(DEFAULT_OUTPUTS),
        "lift": [_in_new_process(lift_minutes, minutes, people) for minutes, people in RECORDINGS],
        "stream": [_in_new_process(stream_frames, latency) for latency in LATENCIES],
    }


def _in_new_process(measure: Any, *arguments: int) -> dict[str, int | float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        measured: dict[str, int | float] = process.submit(measure, *arguments).result()
    return measured


def lift_minutes(minutes: int, people: int) -> dict[str, int | float]:
    """Returns the core seconds that so many minutes of people take from a keypoint file to files, and the peak memory.

    The outputs are those that `poselift lift` writes by default. Both are of this process alone; another one opens the
    file for it and holds the file's arrays.
    """
    lifter = Lifter.load()
    with tempfile.TemporaryDirectory() as name:
        keypoints, lifted_into = Path(name) / "keypoints.npz", Path(name) / "lifted"
        write_keypoints(keypoints, minutes * 60 * RATE_HZ, people=people)
        start = time.process_time()
        recording = read_recording(keypoints, InputOptions())
        read = time.process_time()
        lifted = lifter.lift(recording)
        done = time.process_time()
        write_lifted(lifted_into, lifted, DEFAULT_OUTPUTS)
        written = time.process_time()
    return {
        "minutes": minutes,
        "people": len(lifted.people),
        "frames": lifted.frames,
        "read_core_s": round(read - start, 2),
        "lift_core_s": round(done - read, 2),
        "write_core_s": round(written - done, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def write_keypoints(path: Path, frames: int, *, people: int) -> None:
    """Writes an npz file of people who all do the same for so many frames, see `repeat_keypoints`."""
    keypoints = np.stack([repeat_keypoints(frames).astype(np.float32)] * people)
    pixels, confidence = keypoints[..., :2], keypoints[..., 2]
    np.savez(path, pixels=pixels, confidence=confidence, layout="h36m17", rate_hz=float(RATE_HZ), image_size=SIZE_PX)


def stream_frames(latency: int) -> dict[str, int | float]:
    """Returns the milliseconds that a frame of a stream costs, after a warm-up."""
    lifter = Lifter.load()
    stream = lifter.stream(layout="h36m17", image_size=SIZE_PX, latency=latency)
    cost_ms = []
    for frame in repeat_keypoints(STREAM_FRAMES + WARM_UP_FRAMES):
        start = time.perf_counter()
        stream.push(frame)
        cost_ms.append(1000 * (time.perf_counter() - start))
    median, high = np.percentile(cost_ms[WARM_UP_FRAMES:], [50, 95])
    return {
        "window_frames": lifter.card.frames,
        "latency_frames": latency,
        "median_ms": round(float(median), 2),
        "p95_ms": round(float(high), 2),
    }


def repeat_keypoints(frames: int) -> Float[np.ndarray, "F 17 3"]:
    """Returns pixels and confidence of the longest test clip, there and back again until there are enough frames."""
    clip = max(read_test_clips(), key=len)
    assert clip.confidence is not None
    there = np.concatenate([clip.pixels, clip.confidence[..., None]], axis=-1).astype(float)
    return np.resize(np.concatenate([there, there[::-1]]), (frames, *there.shape[1:]))


def read_test_clips() -> list[Clip]:
    """Reads the test clips of the row of the shipped checkpoint. Raises UserError if it is not prepared."""
    level = read_json(PREPARED / "evaluation.json", "how a row is scored")["detector_level"]
    return read_clips(PREPARED / "test", detector_level=level)
