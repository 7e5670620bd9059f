"""Reads AMC files, motion as angles, with the ASF file that has their skeleton: the positions of all joints over time.

Acclaim's format, in which the CMU graphics lab's motion capture comes: a bone turns about its start by C M C^-1, where
C is the turn of its `axis` and M that of the angles of the frame, and its children turn with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pipeline.system.archives import read_confined
from pipeline.system.errors import UserError

ROOT = "root"
ANGLES, MOVES = ("rx", "ry", "rz"), ("tx", "ty", "tz")


def read_amc(path: Path) -> dict[str, Float[np.ndarray, "F 3"]]:
    """Returns the position of `root` and of the end of each bone, by its name, in every frame, in the skeleton's unit.

    The skeleton lies beside the file: walk.asf for walk.amc, or, as at CMU, 01.asf for 01_02.amc. Its unit is that of
    its numbers divided by the `length` of its `:units`: inches at CMU. Raises UserError if a file is missing, damaged,
    does not fit the other, or takes absurd memory or time.
    """
    skeletons = [path.with_suffix(".asf"), path.with_name(f"{path.stem.partition('_')[0]}.asf")]
    found = [skeleton for skeleton in skeletons if skeleton.is_file()]
    if not found:
        names = " or ".join(dict.fromkeys(skeleton.name for skeleton in skeletons))
        raise UserError(f"{path}: expected its skeleton beside it, {names}, found none")
    skeleton = found[0]
    return read_confined(
        _read_amc, path, str(skeleton.absolute()), expected=f"an AMC file of the skeleton {skeleton.name}"
    )


@dataclass(frozen=True)
class _Bone:
    """A bone of the skeleton as it stands at rest: what follows it, its end from its start, its axes, its freedoms."""

    name: str
    end: Float[np.ndarray, "3"]
    axes: Rotation
    order: str  # of the turns about x, y and z
    freedoms: tuple[str, ...]


def _read_amc(path: Path, skeleton_path: str) -> dict[str, Float[np.ndarray, "F 3"]]:
    sections = _sections(Path(skeleton_path).read_text(encoding="utf-8"))
    if missing := [name for name in ("root", "bonedata", "hierarchy") if name not in sections]:
        raise ValueError(f"no :{missing[0]} in {Path(skeleton_path).name}")
    units = dict(line.split(maxsplit=1) for line in sections.get("units", []))
    degrees = units.get("angle", "deg").startswith("deg")
    bones = {bone.name: bone for bone in _read_bones(sections, degrees=degrees, length=float(units.get("length", 1)))}
    frames = list(_read_frames(path.read_text(encoding="utf-8")))
    if not frames:
        raise ValueError("no frames")
    moves = {name: _values(frames, bone) for name, bone in bones.items()}
    root = bones[ROOT]
    turns = {ROOT: _turns(root, moves[ROOT], degrees=degrees)}
    joints = {ROOT: root.end + np.stack([moves[ROOT][name] for name in MOVES], -1) / float(units.get("length", 1))}
    for parent, children in _hierarchy(sections["hierarchy"]):
        for child in children:
            turns[child] = turns[parent] * _turns(bones[child], moves[child], degrees=degrees)
            joints[child] = joints[parent] + turns[child].apply(bones[child].end)
    return joints


def _sections(text: str) -> dict[str, list[str]]:
    """Returns the lines below each keyword of an ASF file."""
    lines: list[str] = []  # what stands before the first keyword
    sections: dict[str, list[str]] = {}
    for line in (line.split("#")[0].strip() for line in text.splitlines()):
        if line.startswith(":"):
            keyword, _, rest = line[1:].partition(" ")
            lines = sections.setdefault(keyword, [])
            line = rest.strip()
        if line:
            lines.append(line)
    return sections


def _read_bones(sections: dict[str, list[str]], *, degrees: bool, length: float) -> Iterator[_Bone]:
    root = {line.split()[0]: line.split()[1:] for line in sections["root"]}
    order = root["axis"][0]
    position, orientation = (np.array(root[key], float) for key in ("position", "orientation"))
    freedoms = tuple(word.lower() for word in root["order"])
    yield _Bone(ROOT, position / length, _rotation(order, orientation, degrees=degrees), order, freedoms)
    for block in re.findall(r"\bbegin\b(.*?)\bend\b", "\n".join(sections["bonedata"]), flags=re.DOTALL):
        fields = {line.split()[0]: line.split()[1:] for line in block.splitlines() if line.strip()}
        *turn, order = fields["axis"]
        direction = np.array(fields["direction"], float)
        yield _Bone(
            fields["name"][0],
            direction / np.linalg.norm(direction) * float(fields["length"][0]) / length,
            _rotation(order, np.array(turn, float), degrees=degrees),
            order,
            tuple(word.lower() for word in fields.get("dof", [])),
        )


def _hierarchy(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    for line in lines:
        parent, *children = line.split()
        if parent not in ("begin", "end"):
            yield parent, children


def _read_frames(text: str) -> Iterator[dict[str, list[float]]]:
    """Yields for each frame the numbers of each bone."""
    frame: dict[str, list[float]] | None = None
    for line in text.splitlines():
        name, *numbers = line.split() or ["#"]
        if name.isdigit():
            if frame is not None:
                yield frame
            frame = {}
        elif frame is not None and name != "#":
            frame[name] = [float(number) for number in numbers]
    if frame is not None:
        yield frame


def _values(frames: list[dict[str, list[float]]], bone: _Bone) -> dict[str, Float[np.ndarray, " F"]]:
    """Returns what a bone does over time: each of its freedoms, and zeros for those that it has not."""
    if bone.name != ROOT and set(bone.freedoms) - set(ANGLES):
        raise ValueError(f"{bone.name} moves otherwise than by {', '.join(ANGLES)}")
    numbers = [frame.get(bone.name, []) if bone.freedoms else [] for frame in frames]
    for number, found in enumerate(numbers, start=1):
        if len(found) != len(bone.freedoms):
            raise ValueError(f"{len(found)} and not {len(bone.freedoms)} numbers for {bone.name} in frame {number}")
    values = np.array(numbers, float)
    zeros = dict.fromkeys((*ANGLES, *MOVES), np.zeros(len(frames)))
    return zeros | {name: values[:, place] for place, name in enumerate(bone.freedoms)}


def _turns(bone: _Bone, values: dict[str, Float[np.ndarray, " F"]], *, degrees: bool) -> Rotation:
    """Returns by how much a bone is turned from rest, relative to the one that it hangs from."""
    moved = _rotation(bone.order, np.stack([values[name] for name in ANGLES], -1), degrees=degrees)
    return bone.axes * moved * bone.axes.inv()


def _rotation(order: str, angles: Float[np.ndarray, "*F 3"], *, degrees: bool) -> Rotation:
    """Returns turns about the fixed axes in the given order, such as "XYZ", by angles about x, y and z."""
    places = ["xyz".index(axis) for axis in order.lower()]
    return Rotation.from_euler(order.lower(), angles[..., places], degrees=degrees)
