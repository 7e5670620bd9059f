"""Writes lifted people as BVH: a skeleton of constant limb lengths, its root's path and its joints' rotations.

Y up, metres, so that Blender's importer with its default settings puts the person upright and life-size on the ground.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pipeline.lift.outputs.rig import Rig, build_rig, fit_rotations, turn_y_up
from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.poses.frames import find_runs
from pipeline.system.errors import UserError
from pipeline.system.files import write_text

ORDER = "ZXY"  # of a joint's rotations: about its z, then its x as z has turned it, then its y as both have
END_M = 0.05  # length of the bone drawn beyond the last joint of a limb, where nothing was lifted


def write_bvh(path: Path, lifted: Lifted, person: LiftedPerson) -> list[Path]:
    """Writes the person's motion and returns the files written.

    BVH knows no gaps: where frames without the person lie in between, each run of frames becomes a file, named after
    `path` and the run's first frame in the recording, as in walk_from12.bvh. All have the same limbs.
    Raises UserError if no frame of the person was lifted.
    """
    joints_m = turn_y_up(lifted.joints_world_m(person))
    whole = np.isfinite(joints_m).all((1, 2))
    if not whole.any():
        raise UserError(f"{path}: expected a frame in which {person.person} was lifted, found none")
    rig = build_rig(joints_m[whole], lifted.out_skeleton)
    runs = find_runs(whole)
    written = []
    for run in runs:
        rotations = fit_rotations(joints_m[run], rig)
        file = path if len(runs) == 1 else path.with_stem(f"{path.stem}_from{person.first_frame + run.start}")
        root_m = joints_m[run, lifted.out_skeleton.root]
        write_text(file, _hierarchy(rig) + _motion(root_m, rotations, rate_hz=lifted.rate_hz))
        written.append(file)
    return written


def _hierarchy(rig: Rig) -> str:
    lines = ["HIERARCHY"]

    def add(node: int, indent: str) -> None:
        root = rig.parents[node] < 0
        inner = indent + "  "
        lines.append(f"{indent}{'ROOT' if root else 'JOINT'} {rig.names[node]}")
        lines.append(f"{indent}{{")
        lines.append(f"{inner}OFFSET {_numbers(rig.offsets_m[node])}")
        position = "Xposition Yposition Zposition " if root else ""
        rotation = " ".join(f"{axis}rotation" for axis in ORDER)
        lines.append(f"{inner}CHANNELS {6 if root else 3} {position}{rotation}")
        children = rig.children(node)
        for child in children:
            add(child, inner)
        if not children:
            length_m = np.linalg.norm(rig.offsets_m[node])
            beyond = rig.offsets_m[node] / length_m if length_m > 0 else np.array([0.0, 1.0, 0.0])
            lines.extend(
                [f"{inner}End Site", f"{inner}{{", f"{inner}  OFFSET {_numbers(END_M * beyond)}", f"{inner}}}"]
            )
        lines.append(f"{indent}}}")

    add(0, "")
    return "\n".join(lines) + "\n"


def _numbers(values: Float[np.ndarray, "3"]) -> str:
    return " ".join(f"{value:.6f}" for value in values + 0.0)


def _motion(root_m: Float[np.ndarray, "F 3"], rotations: Float[np.ndarray, "F N 4"], *, rate_hz: float) -> str:
    angles = rearrange(_angles_deg(rotations), "f n angle -> f (n angle)")
    text = io.StringIO()
    np.savetxt(text, np.concatenate([root_m, angles], axis=1) + 0.0, fmt="%.6f")
    return f"MOTION\nFrames: {len(root_m)}\nFrame Time: {1 / rate_hz:.9f}\n{text.getvalue()}"


def _angles_deg(rotations: Float[np.ndarray, "F N 4"]) -> Float[np.ndarray, "F N 3"]:
    """Returns angles in the order of ORDER that change as little as they can from frame to frame."""
    frames = len(rotations)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # any split of the angle is right there
        angles = Rotation.from_quat(rearrange(rotations, "f n c -> (f n) c")).as_euler(ORDER, degrees=True)
    angles = rearrange(angles, "(f n) angle -> f n angle", f=frames)
    for frame in range(1, frames):  # the same rotation has two sets of angles, and each angle its turns
        same = angles[frame], angles[frame] * [1, -1, 1] + 180
        near = [choice - 360 * np.round((choice - angles[frame - 1]) / 360) for choice in same]
        away = [np.abs(choice - angles[frame - 1]).sum(-1, keepdims=True) for choice in near]
        angles[frame] = np.where(away[0] <= away[1], *near)
    return angles
