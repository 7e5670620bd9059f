"""Take: motion capture of one person in the world; how takes are written to a folder and read back.

A split of motion capture is a folder with `joints_world_m.npy`, all takes one after the other, and `takes.json`, one
entry per take in the same order. It holds no camera: what a camera sees of a take is computed where it is needed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.poses.clips import read_frames
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import new_folder, read_json

TAKES, JOINTS = "takes.json", "joints_world_m.npy"
DESCRIPTION = ("name", "subset", "action", "split", "subject", "rate_hz")  # what takes.json says of a take


@dataclass(frozen=True)
class Take:
    """One recording of one person: joints of Human3.6M's 17 in the world (Z up, metres), at `rate_hz` frames a second.

    `split` is "train", "validation" or "test".
    """

    name: str
    subset: str
    action: str
    split: str
    subject: str
    rate_hz: float
    joints_world_m: Float[np.ndarray, "F 17 3"]

    def __len__(self) -> int:
        return len(self.joints_world_m)


def write_take_split(folder: Path, takes: Sequence[Take], *, may_be_empty: bool = False) -> None:
    """Writes the takes into the new folder `folder`, whole or not at all.

    Raises UserError if there is none (unless the split `may_be_empty`), a take has no frames or is not finite, or two
    have one name.
    """
    if not takes and not may_be_empty:
        raise UserError(f"{folder}: expected at least one take, found none")
    times = Counter(take.name for take in takes)
    if duplicates := sorted(name for name, count in times.items() if count > 1):
        raise UserError(f"{folder}: expected takes of different names, found '{duplicates[0]}' twice")
    for take in takes:
        if not len(take) or not np.isfinite(take.joints_world_m).all():
            raise UserError(f"take {take.name}: expected finite joints in one frame or more, found {len(take)} frames")
    with new_folder(folder) as partial:
        joints_m = [take.joints_world_m.astype(np.float32) for take in takes]
        np.save(partial / JOINTS, np.concatenate(joints_m) if takes else np.zeros((0, 17, 3), np.float32))
        entries = [{key: getattr(take, key) for key in DESCRIPTION} | {"frames": len(take)} for take in takes]
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        (partial / TAKES).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_take_split(folder: Path) -> list[Take]:
    """Reads the takes of a split; their joints are views of a file that is mapped into memory.

    Raises UserError if a file is missing, damaged or does not fit the other.
    """
    table = folder / TAKES
    entries = read_json(table, "the list of takes")
    try:
        lengths = [int(entry["frames"]) for entry in entries]
        described = [{key: entry[key] for key in DESCRIPTION} for entry in entries]
    except BAD_VALUE as error:
        raise UserError(f"{table}: expected the list of takes, found {reason(error)}") from error
    if not entries:
        return []
    joints_m = read_frames(folder / JOINTS, sum(lengths), ndim=3)
    ends = np.cumsum(lengths).tolist()
    return [
        Take(**values, joints_world_m=joints_m[end - length : end])
        for values, length, end in zip(described, lengths, ends, strict=True)
    ]
