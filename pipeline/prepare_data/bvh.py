"""Reads BVH files: the rate, and the positions of all joints over time, by name, in the file's own unit and axes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pipeline.system.archives import read_confined

MOTION = re.compile(r"^\s*MOTION\s+Frames:\s*(\d+)\s+Frame\s+Time:\s*(\S+)", flags=re.MULTILINE)
AXES = "XYZ"
CHANNELS = {f"{axis}{kind}" for axis in AXES for kind in ("position", "rotation")}


def read_bvh(path: Path) -> tuple[float, dict[str, Float[np.ndarray, "F 3"]]]:
    """Returns frames per second and each joint's position in every frame; the end of a chain is called `<joint>_end`.

    A joint may have any channels in any order: positions take the place of its offset, rotations follow one another as
    they are listed. Raises UserError if the file is missing, damaged, has more or fewer numbers than its frames and
    channels take, two joints of one name, or takes absurd memory or time.
    """
    return read_confined(_read_bvh, path, expected="a whole BVH file")


@dataclass
class _Joint:
    """A joint or the end of a chain: the number of the one that it hangs from, its offset from that, its channels."""

    name: str
    parent: int | None
    offset: list[float] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)


def _read_bvh(path: Path) -> tuple[float, dict[str, Float[np.ndarray, "F 3"]]]:
    text = path.read_text(encoding="utf-8")
    motion = MOTION.search(text)
    if motion is None:
        raise ValueError("no MOTION with Frames and Frame Time")
    joints = _read_hierarchy(text[: motion.start()])
    if len({joint.name for joint in joints}) < len(joints):
        raise ValueError("two joints of one name")
    frames, channels = int(motion[1]), sum(len(joint.channels) for joint in joints)
    numbers = np.array(text[motion.end() :].split(), float)
    if not frames or len(numbers) != frames * channels:
        raise ValueError(f"{len(numbers)} numbers for {frames} frames of {channels} channels")
    frame_time_s = float(motion[2])
    if not 0 < frame_time_s < np.inf:
        raise ValueError(f"a Frame Time of {motion[2]} seconds")
    return 1 / frame_time_s, _positions(joints, numbers.reshape(frames, channels))


def _read_hierarchy(text: str) -> list[_Joint]:
    """Returns the joints and ends of chains, each after the one that it hangs from."""
    joints: list[_Joint] = []
    branch: list[int] = []  # from the root to the joint whose block is read
    words = iter(text.split())
    for word in words:
        if word in ("ROOT", "JOINT", "End"):
            name = " ".join(takewhile(lambda part: part != "{", words))
            name = f"{joints[branch[-1]].name}_end" if word == "End" else name
            joints.append(_Joint(name, branch[-1] if branch else None))
            branch.append(len(joints) - 1)
        elif word == "OFFSET":
            joints[branch[-1]].offset = [float(next(words)) for _ in range(3)]
        elif word == "CHANNELS":
            joints[branch[-1]].channels = [next(words) for _ in range(int(next(words)))]
        elif word == "}":
            branch.pop()
    for joint in joints:
        if not joint.offset or set(joint.channels) - CHANNELS:
            raise ValueError(f"no OFFSET or unknown CHANNELS of {joint.name}")
    if branch:
        raise ValueError(f"no end of {joints[branch[-1]].name}")
    return joints


def _positions(joints: list[_Joint], values: Float[np.ndarray, "F C"]) -> dict[str, Float[np.ndarray, "F 3"]]:
    positions: list[Float[np.ndarray, "F 3"]] = []
    turns: list[Rotation] = []
    channel = 0
    for joint in joints:
        place = np.tile(np.array(joint.offset), (len(values), 1))
        turn = Rotation.identity(len(values))
        for name in joint.channels:
            axis, kind = name[0], name[1:]
            if kind == "position":
                place[:, AXES.index(axis)] = values[:, channel]
            else:
                turn = turn * Rotation.from_euler(axis, values[:, channel], degrees=True)
            channel += 1
        if joint.parent is not None:
            place = positions[joint.parent] + turns[joint.parent].apply(place)
            turn = turns[joint.parent] * turn
        positions.append(place)
        turns.append(turn)
    return {joint.name: place for joint, place in zip(joints, positions, strict=True)}
