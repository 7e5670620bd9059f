"""What tracking costs a training: without it, with W&B offline, and with servers that hang, are silent or refuse.

Writes reports/benchmarks/tracking.json and prints it: `python -m experiments.speed.tracking_cost`. Steps are real ones
of the default row, in turns in one process; what a run costs besides, once, is measured in a process for each case.
Processor time is of the training's own thread, which other programs and W&B's thread do not add to, and of all.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from models import build
from pipeline.config.params import TrainingConfig, read_yaml, validated
from pipeline.system.files import write_json
from pipeline.tracking.pictures import middle_frames, track_validation_clip
from pipeline.tracking.run import start_run
from pipeline.train.batches import Data, read_data
from pipeline.train.loop import fit, predict_validation_clip

PREPARED = Path("data/prepared/cmu-gt-f27-rayformer")
REPORT = Path("reports/benchmarks/tracking.json")
STEPS = 24
TURNS = 5
CASES = ("disabled", "offline", "hanging", "silent", "refusing")


class Refusing(BaseHTTPRequestHandler):
    """Refuses every key."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def environment(case: str) -> Iterator[None]:
    """Where W&B is to go in this case, and the server there: none of the user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "DVC_"))}
    if case in ("disabled", "offline"):
        with mock.patch.dict(os.environ, kept | {"WANDB_MODE": case}, clear=True):
            yield
        return
    with refusing_server() if case == "refusing" else dumb_server(answers_nothing=case == "silent") as port:
        online = {"WANDB_MODE": "online", "WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "0" * 40}
        with mock.patch.dict(os.environ, kept | online, clear=True):
            yield


@contextmanager
def refusing_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def dumb_server(*, answers_nothing: bool) -> Iterator[int]:
    """Accepts connections, and closes them without a word, or keeps them without one."""
    held: list[Any] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if answers_nothing:
                connection.close()
            else:
                held.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


def prepared() -> tuple[Data, TrainingConfig]:
    """The default row, of which one epoch of STEPS steps is trained by one thread."""
    torch.set_num_threads(1)
    config = validated(TrainingConfig, read_yaml(PREPARED / "training.json"), where=str(PREPARED))
    windows = STEPS * config.training.batch_windows
    short = config.training.model_copy(update={"epochs": 1, "windows_per_epoch": windows})
    config = config.model_copy(update={"training": short, "threads": 1})
    return read_data(PREPARED, config, torch.device("cpu"), mapped_in=Path()), config


def run_case(case: str, data: Data, config: TrainingConfig) -> dict[str, float]:
    """Seconds of an epoch beside this kind of tracking, and of what comes before and after it."""
    torch.manual_seed(0)
    joints = {"in_joints": len(data.in_skeleton.joints), "out_joints": len(data.out_skeleton.joints)}
    model = build(
        config.model, frames=config.frames, in_channels=config.in_channels, **joints, **config.hyperparameters
    )
    with tempfile.TemporaryDirectory() as name, environment(case):
        state = Path(name) / "state"
        state.mkdir()
        opened = start_run(row="bench", name="bench", job_type="train", run_id="bench", config={}, folder=Path(name))
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        start, all_start = time.perf_counter(), time.process_time()
        with opened as run:
            ready, own = time.perf_counter(), time.thread_time()
            all_own = time.process_time()
            fit(model, data, config, seed=0, folder=state, tracked=run, look=lambda epoch: None)
            steps = {
                "epoch_wall_s": time.perf_counter() - ready,
                "epoch_thread_s": time.thread_time() - own,
                "epoch_process_s": time.process_time() - all_own,
            }
            trained = time.perf_counter()
            looked_at = time.thread_time()
            clip = data.validation_clips[0]
            predicted_m, true_m = predict_validation_clip(model, data, config, middle_frames(clip))
            track_validation_clip(run, clip, predicted_m, true_m, data.out_skeleton, row=config.row, epoch=1)
            look_s, looked = time.thread_time() - looked_at, time.perf_counter()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return steps | {
            "look_thread_s": look_s,
            "start_wall_s": ready - start,
            "finish_wall_s": time.perf_counter() - looked,
            "all_process_s": time.process_time() - all_start,
            "wandb_process_s": after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime,
            "whole_wall_s": time.perf_counter() - start - (looked - trained),
        }


def in_turns() -> dict[str, Any]:
    """Of each case the median, over the turns, of its epoch's seconds over those of the same turn without tracking."""
    data, config = prepared()
    for case in CASES:
        run_case(case, data, config)  # wandb is imported by now
    turns = []
    for turn in range(TURNS):
        order = CASES[turn % len(CASES) :] + CASES[: turn % len(CASES)]
        turns.append({case: run_case(case, data, config) for case in order})
    found = {}
    for case in CASES:
        found[case] = {
            key.removeprefix("epoch_").removesuffix("_s") + "_percent": percent_slower(
                [one[case][key] / one["disabled"][key] for one in turns]
            )
            for key in ("epoch_thread_s", "epoch_process_s", "epoch_wall_s")
        } | {"look_ms": round(1000 * statistics.median(one[case]["look_thread_s"] for one in turns), 1)}
    seconds = statistics.median(one["disabled"]["epoch_thread_s"] for one in turns)
    return {"epoch_of": f"{STEPS} steps and one validation", "epoch_thread_s": round(seconds, 3), "cases": found}


def percent_slower(ratios: list[float]) -> dict[str, float]:
    """Of ratios of seconds: median, and the quartiles around it."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median": round(100 * (middle - 1), 2), "from": round(100 * (low - 1), 2), "to": round(100 * (high - 1), 2)}


def main() -> None:
    if len(sys.argv) == 2:
        print(json.dumps(run_case(sys.argv[1], *prepared())))
        return
    load = os.getloadavg()[0]
    turns = in_turns()
    once = {}
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.tracking_cost", case]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        once[case] = {key: round(value, 2) for key, value in json.loads(printed.splitlines()[-1]).items()}
    result = {
        "how": "python -m experiments.speed.tracking_cost",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start",
        "turns": TURNS,
        "slower_than_without_tracking": turns,
        "one_run_in_a_process_of_its_own": once,
    }
    write_json(REPORT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
