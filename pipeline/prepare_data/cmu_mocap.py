"""CMU motion capture as embedded in data/raw/cmu_mocap: angle rows -> Human3.6M's 17 joints in the world.

World frame of the result: Z up, right-handed, metres, floor at Z = 0. The archive's README states both conversions, the
three defects of the public benchmark they mend, and the source of the data.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pipeline.mocap.takes import Take
from pipeline.poses.clips import SPLITS
from pipeline.poses.frames import resample
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data.prepared import Prepared
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import read_csv_lines, read_json

COLUMNS = ("name", "file", "subset", "action", "split", "subject", "fps", "frames", "body_scale", "floor_mm")
NUMBERS: dict[str, type[int] | type[float]] = {"fps": float, "frames": int, "body_scale": float, "floor_mm": float}
SUBSETS = ("li", "daz")
KEYPOINTS = ("gt", "det")
CHANNELS = tuple(axis + kind for kind in ("position", "rotation") for axis in "XYZ")

# For each Human3.6M joint the source joint it is, or the two whose middle it is.
H36M_FROM_LI: tuple[tuple[str, ...], ...] = (
    ("LeftUpLeg", "RightUpLeg"), ("RightUpLeg",), ("RightLeg",), ("RightFoot",), ("LeftUpLeg",), ("LeftLeg",),
    ("LeftFoot",), ("Spine",), ("Neck", "Neck1"), ("Head",), ("Head_End",), ("LeftArm",), ("LeftForeArm",),
    ("LeftFingerBase",), ("RightArm",), ("RightForeArm",), ("RightFingerBase",),
)  # fmt: skip
HEAD_TOP = "head_top"  # a joint that the skeleton has not
H36M_FROM_DAZ: tuple[tuple[str, ...], ...] = (
    ("lThigh", "rThigh"), ("rThigh",), ("rShin",), ("rFoot",), ("lThigh",), ("lShin",), ("lFoot",), ("abdomen",),
    ("lCollar", "rCollar"), ("head",), (HEAD_TOP,), ("lShldr",), ("lForeArm",), ("lHand",), ("rShldr",),
    ("rForeArm",), ("rHand",),
)  # fmt: skip
DAZ_HEAD_TOP_CM = (0.0, 13.0, 0.0)  # from the head joint, in the head's frame


def prepare(folder: Path, *, keypoints: str, rate_hz: float, validation_takes: Collection[str]) -> Prepared:
    """Reads every sequence as a take at `rate_hz`; `validation_takes` leave the published train split.

    Keypoints "gt" are exact projections, "det" those of a simulated detector. Raises UserError for other keypoints, a
    validation take that is not a train take, and whatever `read_takes` finds wrong.
    """
    if keypoints not in KEYPOINTS:
        raise UserError(f"keypoints: expected one of {', '.join(KEYPOINTS)} for dataset cmu, found '{keypoints}'")
    rows = _read_sequence_table(folder / "sequences.csv")
    unknown = sorted(set(validation_takes) - {row["name"] for row in rows if row["split"] == "train"})
    if unknown:
        raise UserError(f"datasets.cmu.validation_takes: expected takes of the train split, found '{unknown[0]}'")
    takes: dict[str, list[Take]] = {split: [] for split in SPLITS}
    for take in read_takes(folder):
        joints_world_m = resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=rate_hz).astype(np.float32)
        split = "validation" if take.name in validation_takes else take.split
        takes[split].append(replace(take, rate_hz=rate_hz, joints_world_m=joints_world_m))
    return Prepared(in_skeleton=H36M_17, out_skeleton=H36M_17, target="joints of the capture's skeleton", takes=takes)


def read_takes(folder: Path) -> Iterator[Take]:
    """Every sequence of the archive, converted, in the order of sequences.csv.

    Raises UserError if a file is missing, truncated, of another shape than sequences.csv says, or not finite.
    """
    skeletons = _read_skeletons(folder / "skeletons.json")
    for row in _read_sequence_table(folder / "sequences.csv"):
        motion = _read_motion(folder / row["file"], row["name"], int(row["frames"]), skeletons[row["subset"]]["width"])
        if row["subset"] == "li":
            joints_mm = _li_joints_mm(motion, skeletons["li"], body_scale=float(row["body_scale"]))
        else:
            joints_mm = _daz_joints_mm(motion, skeletons["daz"])
        joints_mm[..., 2] -= float(row["floor_mm"])
        yield Take(
            name=row["name"],
            subset=row["subset"],
            action=row["action"],
            split=row["split"],
            subject=f"{row['subset']}-{row['subject'] or 'unknown'}",
            rate_hz=float(row["fps"]),
            joints_world_m=joints_mm / 1000,
        )


def _read_sequence_table(path: Path) -> list[dict[str, str]]:
    columns, rows = read_csv_lines(path, "the table of sequences")
    if tuple(columns) != COLUMNS:
        raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}, found {', '.join(columns)}")
    if not rows:
        raise UserError(f"{path}: expected one line per sequence, found none")
    for line, row in enumerate(rows, start=2):
        if row["file"] != Path(row["file"]).name:
            raise UserError(f"{path}: line {line}: file: expected the name of a file beside it, found '{row['file']}'")
        if row["subset"] not in SUBSETS or row["split"] not in ("train", "test"):
            found = f"subset '{row['subset']}', split '{row['split']}'"
            raise UserError(f"{path}: line {line}: expected subset li or daz and split train or test, found {found}")
        for column, kind in NUMBERS.items():
            try:
                number = kind(row[column])
            except ValueError:
                number = math.nan
            expected = "a number" if column == "floor_mm" else "a number over 0"
            if not math.isfinite(number) or (number <= 0 and column != "floor_mm"):
                raise UserError(f"{path}: line {line}: {column}: expected {expected}, found '{row[column]}'")
    return rows


def _read_skeletons(path: Path) -> dict[str, dict]:
    skeletons: dict[str, dict] = read_json(path, "the skeletons li and daz")
    try:
        for subset, used in (("li", H36M_FROM_LI), ("daz", H36M_FROM_DAZ)):
            _check_skeleton(skeletons[subset], {name for names in used for name in names} - {HEAD_TOP})
        li, daz = (skeletons[subset] for subset in SUBSETS)
        corrected = {name: _checked_offsets(offset, (3,)) for name, offset in dict(li["corrected_offsets"]).items()}
        li["corrected_offsets"], li["width"] = corrected, 3 + 3 * len(li["names"])
        daz["channels"] = [list(channels) for channels in daz["channels"]]
        if len(daz["channels"]) != len(daz["names"]):
            raise ValueError(f"channels of {len(daz['channels'])} joints of {len(daz['names'])}")
        daz["width"] = sum(len(channels) for channels in daz["channels"])
        unknown = next((name for channels in daz["channels"] for name in channels if name not in CHANNELS), None)
        if unknown is not None:
            raise ValueError(f"the channel {unknown!r}, which is none of {', '.join(CHANNELS)}")
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected the skeletons li and daz, found {reason(error)}") from error
    return skeletons


def _check_skeleton(skeleton: dict, used: Collection[str]) -> None:
    """Turn the values that both skeletons have into lists and numbers. Raises one of BAD_VALUE if that cannot be."""
    skeleton["names"], skeleton["parents"] = names, parents = list(skeleton["names"]), list(skeleton["parents"])
    skeleton["offsets"] = _checked_offsets(skeleton["offsets"], (len(names), 3))
    skeleton["unit_mm"] = float(skeleton["unit_mm"])
    if not (math.isfinite(skeleton["unit_mm"]) and skeleton["unit_mm"] > 0):
        raise ValueError(f"a unit of {skeleton['unit_mm']} mm")
    if missing := sorted(set(used) - set(names)):
        raise ValueError(f"no joint {missing[0]!r}")
    if len(parents) != len(names) or len(set(names)) != len(names):
        raise ValueError(f"{len(names)} names, {len(set(names))} of them different, and {len(parents)} parents")
    for joint, parent in enumerate(parents[1:], start=1):
        if type(parent) is not int or not 0 <= parent < joint:
            raise ValueError(f"{parent!r} as the parent of joint {joint}, which is none before it")


def _checked_offsets(offsets: object, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(offsets, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"offsets of shape {array.shape}, or not finite, in place of {shape}")
    return array


def _read_motion(path: Path, name: str, frames: int, width: int) -> Float[np.ndarray, "F W"]:
    motion = read_object_npz(path, only=name).get(name)
    if motion is None:
        raise UserError(f"{path}: expected an array '{name}', found none of that name")
    if not isinstance(motion, np.ndarray):
        raise UserError(f"{path}: '{name}': expected numbers, found {type(motion).__name__}")
    if motion.shape != (frames, width) or motion.dtype != np.float32:
        found = f"{motion.dtype} {motion.shape}"
        raise UserError(f"{path}: '{name}': expected float32 {(frames, width)}, found {found}")
    if not np.isfinite(motion).all():
        bad = int(np.flatnonzero(~np.isfinite(motion).all(1))[0])
        raise UserError(f"{path}: '{name}': expected finite numbers, found NaN or infinity in row {bad}")
    return motion.astype(np.float64)


def _li_joints_mm(
    motion: Float[np.ndarray, "F W"], skeleton: dict, *, body_scale: float
) -> Float[np.ndarray, "F 17 3"]:
    """Exponential maps of the benchmark of Li et al. 2018, its three published defects corrected."""
    names, parents = skeleton["names"], skeleton["parents"]
    offsets = dict(zip(names, skeleton["offsets"], strict=True)) | skeleton["corrected_offsets"]
    # The rows are for row vectors; the transposed rotation is that of the negated vector.
    vectors = -rearrange(motion[:, 3:], "f (j v) -> (f j) v", v=3)
    local = rearrange(Rotation.from_rotvec(vectors).as_matrix(), "(f j) r c -> f j r c", f=len(motion))
    rotations = [_amc_root_rotation(local[:, 0])]
    positions = {names[0]: motion[:, :3]}
    for joint in range(1, len(names)):
        parent = parents[joint]
        positions[names[joint]] = positions[names[parent]] + rotations[parent] @ (offsets[names[joint]] * body_scale)
        rotations.append(rotations[parent] @ local[:, joint])
    return _h36m_z_up_mm(positions, H36M_FROM_LI, unit_mm=skeleton["unit_mm"])


def _daz_joints_mm(motion: Float[np.ndarray, "F W"], skeleton: dict) -> Float[np.ndarray, "F 17 3"]:
    """Plain BVH: channels multiply left to right; the root's position channels add to its offset."""
    names, parents = skeleton["names"], skeleton["parents"]
    rotations: list[np.ndarray] = []
    positions: dict[str, np.ndarray] = {}
    column = 0
    for joint, (name, channels) in enumerate(zip(names, skeleton["channels"], strict=True)):
        values = dict(zip(channels, rearrange(motion[:, column : column + len(channels)], "f c -> c f"), strict=True))
        column += len(channels)
        local = np.broadcast_to(np.eye(3), (len(motion), 3, 3))
        offset_cm = np.broadcast_to(skeleton["offsets"][joint], (len(motion), 3))
        for channel, value in values.items():
            axis, kind = "XYZ".index(channel[0]), channel[1:]
            if kind == "rotation":
                local = local @ Rotation.from_euler(channel[0].lower(), value, degrees=True).as_matrix()
            else:
                offset_cm = offset_cm + np.eye(3)[axis] * value[:, None]
        if joint == 0:
            positions[name] = offset_cm
            rotations.append(local)
        else:
            parent = parents[joint]
            moved = einsum(rotations[parent], offset_cm, "f row column, f column -> f row")
            positions[name] = positions[names[parent]] + moved
            rotations.append(rotations[parent] @ local)
    positions[HEAD_TOP] = positions["head"] + rotations[names.index("head")] @ np.array(DAZ_HEAD_TOP_CM)
    return _h36m_z_up_mm(positions, H36M_FROM_DAZ, unit_mm=skeleton["unit_mm"])


def _h36m_z_up_mm(
    positions: dict[str, np.ndarray], joints: tuple[tuple[str, ...], ...], *, unit_mm: float
) -> Float[np.ndarray, "F 17 3"]:
    y_up = np.stack([np.mean([positions[name] for name in names], axis=0) for names in joints], axis=1)
    x, y, z = rearrange(y_up, "f j xyz -> xyz f j")
    return unit_mm * np.stack([x, -z, y], axis=-1)


def _amc_root_rotation(published: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F 3 3"]:
    """The root rotation that the AMC angles mean: Rz Ry Rx, where the benchmark composed Rz Rx Ry."""
    a = np.arcsin(np.clip(published[:, 2, 1], -1, 1))  # rounding may leave 1 + 1e-7
    b = np.arctan2(-published[:, 2, 0], published[:, 2, 2])
    c = np.arctan2(-published[:, 0, 1], published[:, 1, 1])
    turned = np.abs(b) > np.pi / 2
    a = np.where(turned, np.pi - a, a)
    b = np.where(turned, b - np.copysign(np.pi, b), b)
    c = np.where(turned, c + np.pi, c)
    return Rotation.from_euler("ZYX", np.stack([c, b, a], -1)).as_matrix()
