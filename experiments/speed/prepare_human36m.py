"""Time and peak memory of preparing data of Human3.6M's size: 7 subjects, 209 takes, 2.1 million frames over cameras.

Writes synthetic archives (a walker, noisy keypoints) into a temporary folder, prepares a row of them and prints what it
took: `python -m experiments.speed.prepare_human36m [keypoints]`. Needs 1.5 GB of disk.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from einops import rearrange

from pipeline.mocap.lenses import LENSES
from pipeline.prepare_data.human36m import KNOWN_FRAMES, TEST_SUBJECTS
from pipeline.prepare_data.human36m_files import ACTIONS, CORRUPT, KEPT_JOINTS, LABELLED, project_take
from pipeline.prepare_data.stage import prepare_data

ROW = "h36m-{}-f81-poseformer"
PROJECT = Path(__file__).parents[2]
NOISE_PX = 3.0


def lengths() -> dict[tuple[str, str], int]:
    """Frames of every take, so that the totals are those of Human3.6M."""
    takes = [(s, a + number) for s in LABELLED for a in ACTIONS for number in ("", " 1") if (s, a + number) != CORRUPT]
    frames: dict[tuple[str, str], int] = {}
    for split, total in KNOWN_FRAMES.items():
        own = [key for key in takes if (key[0] in TEST_SUBJECTS) == (split == "test")]
        share, rest = divmod(total // len(LENSES), len(own))
        frames |= {key: share + (number < rest) for number, key in enumerate(own)}
    return frames


def walker_m(frames: int, phase: float) -> np.ndarray:
    """(frames, 32, 3) in the world: a standing body that goes around the origin and swings."""
    time_s = np.arange(frames)[:, None] / 50
    joint = np.arange(32)
    x = 0.5 * np.cos(0.7 * time_s + phase) + 0.2 * np.sin(joint + 5 * time_s)
    y = 0.5 * np.sin(0.7 * time_s + phase) + 0.2 * np.cos(2 * joint + 5 * time_s)
    z = 0.1 + 1.6 * (joint % 17) / 17 + 0.03 * np.cos(10 * time_s)
    return rearrange([x, y, np.broadcast_to(z, x.shape)], "c f j -> f j c").astype(np.float32)


def write_archives(folder: Path, keypoints: str) -> None:
    """data_3d_h36m.npz and one file of keypoints, some of them longer than the motion."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    poses: dict[str, dict[str, np.ndarray]] = {subject: {} for subject in LABELLED}
    seen: dict[str, dict[str, list[np.ndarray]]] = {subject: {} for subject in LABELLED}
    for number, ((subject, take), frames) in enumerate(lengths().items()):
        poses[subject][take] = walker_m(frames, phase=number)
        if keypoints != "gt":
            more = [np.concatenate([px, px[-2:]]) for px in project_take(subject, poses[subject][take])]
            seen[subject][take] = [px + random.normal(scale=NOISE_PX, size=px.shape).astype(np.float32) for px in more]
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=np.array(poses))
    if keypoints != "gt":
        symmetry = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
        metadata = {"layout_name": "h36m", "num_joints": len(KEPT_JOINTS), "keypoints_symmetry": symmetry}
        np.savez_compressed(
            folder / f"data_2d_h36m_{keypoints}.npz", positions_2d=np.array(seen), metadata=np.array(metadata)
        )


def main(keypoints: str) -> None:
    """Print what preparing took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.fork() == 0:  # so that writing the archives does not count
            write_archives(folder / "raw" / "h36m", keypoints)
            os._exit(0)
        os.wait()
        megabytes = sum(path.stat().st_size for path in folder.rglob("*.npz")) / 1e6
        print(f"raw files: {megabytes:.0f} MB; {os.cpu_count()} CPUs, Python {platform.python_version()}")
        started = time.monotonic()
        params = PROJECT / "params.yaml"
        prepare_data(ROW.format(keypoints), folder / "prepared", params_path=params, raw_folder=folder / "raw")
        took_s = time.monotonic() - started
        written = sum(path.stat().st_size for path in (folder / "prepared").rglob("*.npy")) / 1e6
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # Linux counts in kilobytes
    print(f"prepared: {written:.0f} MB of {sum(KNOWN_FRAMES.values())} frames in {took_s:.0f} s, peak {peak_mb:.0f} MB")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["cpn_ft_h36m_dbb"]))
