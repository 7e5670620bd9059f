"""Reads BVH files: the positions of all joints over time, by name, as the file's own unit and axes have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from pymotion.io.bvh import BVH
from pymotion.ops.skeleton import fk

from pipeline.system.archives import read_confined


def read_bvh(path: Path) -> dict[str, Float[np.ndarray, "F 3"]]:
    """Returns the position of each joint in every frame; the end of a chain is called `<joint>_end`.

    Raises UserError if the file is missing, damaged, has two joints of one name, or takes absurd memory or time.
    """
    return read_confined(_read_bvh, path, expected="a whole BVH file")


def _read_bvh(path: Path) -> dict[str, Float[np.ndarray, "F 3"]]:
    bvh = BVH()
    bvh.load(str(path))
    rotations, positions, parents, offsets, ends, ends_parents = bvh.get_data()
    joints, matrices = fk(rotations, positions[:, 0], offsets, parents)
    names = [str(name) for name in bvh.data["names"]]
    if len(set(names)) < len(names):
        raise ValueError("two joints of one name")
    found = {name: joints[:, place] for place, name in enumerate(names)}
    for end, parent in zip(ends, ends_parents, strict=True):
        found[f"{names[parent]}_end"] = joints[:, parent] + matrices[:, parent] @ end
    return found
