"""Reads folders of motion capture: takes.csv, skeleton.json and the files that they name -> 17 joints in the world.

takes.csv has a line for each take (a person's recording): its name, the file that it is in, who it is of, the action,
the split, and the rate. skeleton.json says what the files hold and of which of their joints Human3.6M's 17 are made.
A file is an .npz archive with an array of joints for each take under its name, or a .bvh or .amc file of one take.
docs/add_a_dataset.md tells how to make such a folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pipeline.config.values import Positive, Values, validated
from pipeline.mocap.takes import Take
from pipeline.poses.clips import SPLITS
from pipeline.poses.frames import resample
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data.amc import read_amc
from pipeline.prepare_data.bvh import read_bvh
from pipeline.prepare_data.prepared import Prepared
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from pipeline.system.files import read_csv_lines, read_json

COLUMNS = ("name", "file", "subject", "action", "split", "rate_hz")
OF_ONE_TAKE = (".bvh", ".amc")  # the endings of files that hold a take each
SAME_RATE = 0.01  # Frame Time has so few digits that its rate is known to a part of this: 0.033 is 30.3 frames a second
UNUSED = "unused"  # the split of takes that are left out
KEYPOINTS = ("gt", "det")
LEG_AND_TRUNK = ((4, 5), (5, 6), (0, 7), (7, 8))  # bones which together are about two thirds of a person's height
SHORTEST_M, LONGEST_M = 0.5, 2.0  # of those bones: a small child's and more than the tallest person's


def _the_same_names() -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in H36M_17.joints}


class SkeletonFile(Values):
    """The content of skeleton.json.

    `names` are the joints of the arrays in .npz files, in their order; the others have names of their own. `joints`
    says for each of Human3.6M's 17 joints which joint of the files it is, or of which the middle; without it the files
    have the 17 by their names.
    """

    unit_mm: Positive
    up: Literal["y", "z"]
    names: tuple[str, ...] = H36M_17.joints
    joints: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=_the_same_names)


@dataclass(frozen=True)
class _Line:
    """One line of takes.csv."""

    name: str
    file: str
    subject: str
    action: str
    split: str
    rate_hz: float


def prepare(raw_folder: Path, folders: Sequence[str], *, keypoints: str, rate_hz: float) -> Prepared:
    """Reads every take of the folders below `raw_folder` at `rate_hz`, by the split that its folder says.

    Keypoints "gt" are exact projections, "det" those of a simulated detector. Raises UserError for other keypoints, two
    takes of one name, none to train on or to test on, and whatever `read_takes` finds wrong.
    """
    if keypoints not in KEYPOINTS:
        raise UserError(f"keypoints: expected one of {', '.join(KEYPOINTS)} for dataset mocap, found '{keypoints}'")
    takes: dict[str, list[Take]] = {split: [] for split in SPLITS}
    folder_of: dict[str, Path] = {}
    for folder in (raw_folder / name for name in folders):
        for take in read_takes(folder):
            if other := folder_of.get(take.name):
                raise UserError(
                    f"{folder / 'takes.csv'}: take {take.name}: expected a name of its own, found in {other}"
                )
            folder_of[take.name] = folder
            joints_world_m = resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=rate_hz).astype(np.float32)
            takes[take.split].append(replace(take, rate_hz=rate_hz, joints_world_m=joints_world_m))
    for split in ("train", "test"):
        if not takes[split]:
            tables = ", ".join(str(raw_folder / name / "takes.csv") for name in folders)
            raise UserError(f"{tables}: expected a take of split {split}, found none")
    return Prepared(in_skeleton=H36M_17, out_skeleton=H36M_17, target="joints of the capture's skeleton", takes=takes)


def read_takes(folder: Path) -> Iterator[Take]:
    """Yields the takes of a folder in the order of takes.csv, without the unused ones: Z up, metres, floor at Z = 0.

    Raises UserError naming the file and the line, take or key if something is missing, damaged, not finite, a subject
    is in two splits, a BVH file has another rate than its line, or a body is so large or small that the unit must be
    another.
    """
    skeleton = _read_skeleton(folder / "skeleton.json")
    open_file, arrays = "", {}
    for line in _read_lines(folder / "takes.csv"):
        path = folder / line.file
        if line.split == UNUSED:
            continue
        if path.suffix == ".bvh":
            rate_hz, joints = read_bvh(path)
            if abs(rate_hz / line.rate_hz - 1) > SAME_RATE:
                expected = f"{line.rate_hz:g} frames a second, as takes.csv says of take {line.name}"
                raise UserError(f"{path}: Frame Time: expected {expected}, found {rate_hz:.4g}; correct the wrong one")
        elif path.suffix == ".amc":
            joints = read_amc(path)
        else:
            if line.file != open_file:
                open_file, arrays = line.file, read_object_npz(path)
            joints = _named_joints(arrays.get(line.name), skeleton, where=f"{path}: '{line.name}'")
        yield Take(
            name=line.name,
            subset=folder.name,
            action=line.action,
            split=line.split,
            subject=line.subject,
            rate_hz=line.rate_hz,
            joints_world_m=_to_world_m(joints, skeleton, where=f"{path}: take {line.name}"),
        )


def _read_skeleton(path: Path) -> SkeletonFile:
    skeleton = validated(SkeletonFile, read_json(path, "how the joints of the files become the 17"), where=str(path))
    if wrong := sorted(set(H36M_17.joints) ^ set(skeleton.joints)):
        expected = ", ".join(H36M_17.joints)
        raise UserError(
            f"{path}: joints: expected each of {expected} once and no other, found a difference: {wrong[0]}"
        )
    return skeleton


def _read_lines(path: Path) -> list[_Line]:
    columns, rows = read_csv_lines(path, "the table of takes")
    if missing := [column for column in COLUMNS if column not in columns]:
        raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}, found no {missing[0]}")
    if not rows:
        raise UserError(f"{path}: expected one line per take, found none")
    lines = []
    split_of: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{path}: line {number}"
        if row["file"] != Path(row["file"]).name or not row["file"].endswith((".npz", *OF_ONE_TAKE)):
            expected = f"an .npz, {' or '.join(OF_ONE_TAKE)} file"
            raise UserError(f"{where}: file: expected {expected} beside the table, found '{row['file']}'")
        if row["split"] not in (*SPLITS, UNUSED):
            raise UserError(f"{where}: split: expected {', '.join(SPLITS)} or {UNUSED}, found '{row['split']}'")
        for column in ("name", "subject", "action"):
            if not row[column]:
                raise UserError(f"{where}: {column}: expected a name, found none")
        if row["split"] != UNUSED and split_of.setdefault(row["subject"], row["split"]) != row["split"]:
            expected = f"{split_of[row['subject']]}, as in the lines before of subject {row['subject']}"
            raise UserError(f"{where}: split: expected {expected}, found {row['split']}; nobody may be in two splits")
        try:
            rate_hz = float(row["rate_hz"])
        except ValueError:
            rate_hz = math.nan
        if not 0 < rate_hz < math.inf:
            raise UserError(f"{where}: rate_hz: expected a number over 0, found '{row['rate_hz']}'")
        lines.append(_Line(**{column: row[column] for column in COLUMNS[:-1]}, rate_hz=rate_hz))
    return lines


def _named_joints(array: object, skeleton: SkeletonFile, *, where: str) -> dict[str, Float[np.ndarray, "F 3"]]:
    shape = ("frames", len(skeleton.names), 3)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(
            f"{where}: expected an array of joints, found {'none' if array is None else type(array).__name__}"
        )
    if array.ndim != 3 or array.shape[1:] != shape[1:] or not len(array):
        raise UserError(f"{where}: expected shape ({', '.join(map(str, shape))}), found {array.shape}")
    return {name: array[:, place].astype(np.float64) for place, name in enumerate(skeleton.names)}


def _to_world_m(
    joints: dict[str, Float[np.ndarray, "F 3"]], skeleton: SkeletonFile, *, where: str
) -> Float[np.ndarray, "F 17 3"]:
    """Returns the 17 joints with Z up, in metres."""
    for name, sources in skeleton.joints.items():
        if missing := [source for source in sources if source not in joints]:
            known = ", ".join(joints)
            raise UserError(f"{where}: {name}: expected joint '{missing[0]}' of skeleton.json among {known}")
    chosen = [[joints[source] for source in skeleton.joints[name]] for name in H36M_17.joints]
    joints_m = np.stack([np.mean(sources, axis=0) for sources in chosen], axis=1) * skeleton.unit_mm / 1000
    if not np.isfinite(joints_m).all():
        bad = int(np.flatnonzero(~np.isfinite(joints_m).all((1, 2)))[0])
        raise UserError(f"{where}: expected finite numbers, found NaN or infinity in frame {bad}")
    if skeleton.up == "y":  # a turn about x
        joints_m = np.stack([joints_m[..., 0], -joints_m[..., 2], joints_m[..., 1]], axis=-1)
    bones_m = [np.linalg.norm(joints_m[:, end] - joints_m[:, start], axis=-1) for start, end in LEG_AND_TRUNK]
    length_m = float(np.median(np.sum(bones_m, axis=0)))
    if not SHORTEST_M < length_m < LONGEST_M:
        expected = f"{SHORTEST_M} to {LONGEST_M} m from foot to thorax along the bones"
        raise UserError(f"{where}: expected {expected}, found {length_m:.3g} m; unit_mm of skeleton.json says the unit")
    return joints_m
