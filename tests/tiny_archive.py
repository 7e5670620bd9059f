"""A tiny archive in the format of data/raw/cmu_mocap: the first frames of a few of its sequences."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Both subsets, both splits, and a take to validate on.
TAKES = ("train_walking_1", "train_walking_2", "train_walking_3", "test_walking_1", "martial_03", "martial_08")
VALIDATION_TAKE = "train_walking_3"
FRAMES = 40


def write_tiny_archive(raw_cmu: Path, folder: Path, names: Sequence[str] = TAKES) -> None:
    """Cut the sequences called `names` out of the archive `raw_cmu` into the new folder `folder`."""
    folder.mkdir(parents=True)
    shutil.copy(raw_cmu / "skeletons.json", folder)
    with (raw_cmu / "sequences.csv").open(newline="", encoding="utf-8") as file:
        rows = [row | {"frames": str(FRAMES)} for row in csv.DictReader(file) if row["name"] in names]
    with (folder / "sequences.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for archive in {row["file"] for row in rows}:
        with np.load(raw_cmu / archive, allow_pickle=False) as motions:
            cut = {row["name"]: motions[row["name"]][:FRAMES] for row in rows if row["file"] == archive}
        np.savez(folder / archive, **cut)
