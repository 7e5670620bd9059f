"""Computes joint angles of lifted people after the conventions of the ISB, as far as joints alone show them.

Segments have axes x forward, y up and z right, from the joints as follows. A layout without feet, hands and bony
landmarks has no ankle angle, no pronation, and no turn of a straight limb about itself; those cells stay empty.
Sources: Wu et al. 2002 and 2005, ISB recommendations on joint coordinate systems I and II; Baker 2001 for the pelvis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Float

from pipeline.lift.outputs.files import collect_arrays, write_table
from pipeline.lift.people import Lifted
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError

BENT_DEG = 30.0  # a limb that bends less does not show its turn about itself
POLE_DEG = 20.0  # an arm nearer to the trunk's axis than this has no plane of elevation
HORIZONTAL = 0.5  # least horizontal part of the line through the hips, so that there is a forward
DECIMALS = 3
WORLD_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])  # towards the camera, up, right of these
# For each angle, in degrees, what it is and what it is not. Those of limbs are given for right and left.
ANGLES = {
    "pelvis_rotation": "pelvis about the vertical (sequence Y X Z); 0 faces the camera, positive to the person's left",
    "pelvis_obliquity": "pelvis about its forward axis, positive with the right hip lower",
    "pelvis_tilt": "pelvis about the line through the hips, positive forward; its up is the line from the hips to the "
    "spine joint, so it differs from that of ASIS and PSIS by a constant of the person, and lumbar bending shows in it",
    "trunk_flexion": "thorax in the pelvis (sequence Z X Y), positive forward; thorax: from the spine joint to the "
    "thorax joint, turned as the line through the shoulders",
    "trunk_bending": "thorax in the pelvis, positive to the right",
    "trunk_rotation": "thorax in the pelvis, positive to the left; shoulders drawn forward or back count as turned",
}
LIMB_ANGLES = {
    "hip_flexion": "thigh in the pelvis (sequence Z X Y), positive forward; the pelvis' constant is in it too",
    "hip_adduction": "thigh in the pelvis, positive towards the middle",
    "hip_rotation": "thigh in the pelvis, positive inwards; known where the knee bends by 30 degrees or more",
    "knee_flexion": "angle between thigh and shank, 0 when straight; overstretched is not told from bent",
    "shank_tilt": "shank to the vertical in the plane that the pelvis faces, positive with the knee before the ankle: "
    "the ankle's dorsiflexion while the foot lies flat on level ground, and else not",
    "shoulder_plane": "plane of the upper arm's elevation in the thorax (sequence Y X Y): 0 to the side, 90 forward, "
    "-90 back; unknown within 20 degrees of the trunk's axis",
    "shoulder_elevation": "upper arm to the thorax' axis: 0 hanging, 90 level; of the whole shoulder girdle",
    "shoulder_rotation": "upper arm about itself, positive inwards, 0 with the bent forearm in front of the upper arm "
    "(second option of the ISB); known where the elbow bends by 30 degrees or more and the plane is known",
    "elbow_flexion": "angle between upper arm and forearm, 0 when straight",
}
SIDES = {"r": ("R", 1.0), "l": ("L", -1.0)}
NEEDED = ("Spine", *(side + name for side in "LR" for name in ("Hip", "Knee", "Foot", "Shoulder", "Elbow", "Wrist")))


def write_angles(path: Path, lifted: Lifted) -> None:
    """Writes a line for each person and frame; cells of angles that are not known are empty.

    Raises UserError if the layout lacks a joint that the angles need.
    """
    columns = [*ANGLES, *(f"{name}_{side}" for side in SIDES for name in LIMB_ANGLES)]
    header = ["person", "frame", "time_s", *(f"{column}_deg" for column in columns)]
    write_table(path, header, _list_rows(lifted, columns))


def _list_rows(lifted: Lifted, columns: Sequence[str]) -> Iterator[list[object]]:
    for person in lifted.people:
        joints_m = collect_arrays(lifted, person)["joints_world_m"]
        angles_deg = compute_angles_deg(joints_m, lifted.out_skeleton)
        table = np.stack([angles_deg[column] for column in columns], axis=1).round(DECIMALS) + 0.0
        for number, row in enumerate(table.tolist(), start=person.first_frame):
            yield [person.person, number, round(number / lifted.rate_hz, 6), *row]


def compute_angles_deg(
    joints_world_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton
) -> dict[str, Float[np.ndarray, " F"]]:
    """Returns the ANGLES, and the LIMB_ANGLES with _r and _l behind their names, in degrees; NaN where not known.

    `joints_world_m` are in an upright world, Z up, the camera looking along Y. Raises UserError if the skeleton lacks a
    joint that the angles need.
    """
    thorax = next((name for name in ("Thorax", "Neck") if name in skeleton.joints), None)
    missing = [name for name in NEEDED if name not in skeleton.joints] + ([] if thorax else ["Thorax"])
    if thorax is None or missing:
        raise UserError(f"angles: expected a layout with {', '.join(missing)}, found {skeleton.name}")
    at = {name: joints_world_m[:, joint] for joint, name in enumerate(skeleton.joints)}
    root_m = joints_world_m[:, skeleton.root]
    with np.errstate(invalid="ignore"):
        right = _unit(at["RHip"] - at["LHip"])
        forward = _unit(np.cross(at["Spine"] - root_m, right))
        pelvis = np.stack([forward, np.cross(right, forward), right], axis=1)
        up = _unit(at[thorax] - at["Spine"])
        forward = _unit(np.cross(up, at["RShoulder"] - at["LShoulder"]))
        chest = np.stack([forward, up, np.cross(forward, up)], axis=1)
        angles = _pelvis_angles(pelvis) | _trunk_angles(pelvis, chest)
        for side, (letter, sign) in SIDES.items():
            hip, knee, foot, shoulder, elbow, wrist = (
                at[letter + name] for name in ("Hip", "Knee", "Foot", "Shoulder", "Elbow", "Wrist")
            )
            leg = _express(pelvis, knee - hip, sign), _express(pelvis, foot - knee, sign)
            arm = _express(chest, elbow - shoulder, sign), _express(chest, wrist - elbow, sign)
            limbs = _leg_angles(*leg) | _arm_angles(*arm) | {"shank_tilt": _shank_tilt(knee - foot, right)}
            angles |= {f"{name}_{side}": values for name, values in limbs.items()}
    return {name: np.degrees(values) for name, values in angles.items()}


def _pelvis_angles(pelvis: Float[np.ndarray, "F 3 3"]) -> dict[str, Float[np.ndarray, " F"]]:
    """Returns the angles of R = Ry(rotation) Rx(obliquity) Rz(-tilt), whose columns are the pelvis' axes."""
    turned = einsum(WORLD_AXES, pelvis, "row c, f column c -> row column f")
    return {
        "pelvis_rotation": np.arctan2(turned[0, 2], turned[2, 2]),
        "pelvis_obliquity": np.arctan2(-turned[1, 2], np.hypot(turned[0, 2], turned[2, 2])),
        "pelvis_tilt": -np.arctan2(turned[1, 0], turned[1, 1]),
    }


def _trunk_angles(
    pelvis: Float[np.ndarray, "F 3 3"], chest: Float[np.ndarray, "F 3 3"]
) -> dict[str, Float[np.ndarray, " F"]]:
    """Returns the angles of R = Rz(-flexion) Rx(bending) Ry(rotation), the chest's axes in the pelvis."""
    turned = einsum(pelvis, chest, "f row c, f column c -> row column f")
    return {
        "trunk_flexion": -np.arctan2(-turned[0, 1], turned[1, 1]),
        "trunk_bending": np.arctan2(turned[2, 1], np.hypot(turned[0, 1], turned[1, 1])),
        "trunk_rotation": np.arctan2(-turned[2, 0], turned[2, 2]),
    }


def _leg_angles(thigh: Float[np.ndarray, "3 F"], shank: Float[np.ndarray, "3 F"]) -> dict[str, Float[np.ndarray, " F"]]:
    """Returns the angles of R = Rz(flexion) Rx(adduction) Ry(rotation) of a right thigh in the pelvis, and the knee's.

    `thigh` and `shank` point down the limb, in the axes of the pelvis. A bent knee leaves the ankle behind the thigh.
    """
    bend = _bend(thigh, shank)
    y = -thigh
    x = -_across(shank, thigh)
    z = np.cross(x, y, axis=0)
    return {
        "hip_flexion": np.arctan2(-y[0], y[1]),
        "hip_adduction": np.arctan2(y[2], np.hypot(y[0], y[1])),
        "hip_rotation": np.where(bend >= np.radians(BENT_DEG), np.arctan2(-x[2], z[2]), np.nan),
        "knee_flexion": bend,
    }


def _arm_angles(
    upper_arm: Float[np.ndarray, "3 F"], forearm: Float[np.ndarray, "3 F"]
) -> dict[str, Float[np.ndarray, " F"]]:
    """Returns the angles of R = Ry(plane) Rx(-elevation) Ry(rotation) of a right arm in the chest, and the elbow's.

    Both point down the limb, in the axes of the chest. A bent elbow has the forearm before the upper arm.
    """
    bend = _bend(upper_arm, forearm)
    y = -upper_arm
    x = _across(forearm, upper_arm)
    z = np.cross(x, y, axis=0)
    elevation = np.arccos(np.clip(y[1], -1, 1))
    has_plane = np.abs(elevation - np.pi / 2) <= np.radians(90 - POLE_DEG)
    turn = np.arctan2(-x[1], z[1])
    return {
        "shoulder_plane": np.where(has_plane, np.arctan2(-y[0], -y[2]), np.nan),
        "shoulder_elevation": elevation,
        "shoulder_rotation": np.where(has_plane & (bend >= np.radians(BENT_DEG)), turn, np.nan),
        "elbow_flexion": bend,
    }


def _shank_tilt(upwards: Float[np.ndarray, "F 3"], right: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, " F"]:
    forward = np.cross([0.0, 0.0, 1.0], right)
    faces = np.linalg.norm(forward, axis=1) >= HORIZONTAL
    tilt = np.arctan2(einsum(upwards, _unit(forward), "f c, f c -> f"), upwards[:, 2])
    return np.where(faces, tilt, np.nan)


def _express(
    axes: Float[np.ndarray, "F 3 3"], vectors: Float[np.ndarray, "F 3"], sign: float
) -> Float[np.ndarray, "3 F"]:
    """Returns directions in the axes of a segment; those of a left limb (`sign` -1) mirrored to the right."""
    inside = einsum(axes, _unit(vectors), "f row c, f c -> row f")
    return inside * rearrange(np.array([1.0, 1.0, sign]), "row -> row 1")


def _across(vectors: Float[np.ndarray, "3 F"], along: Float[np.ndarray, "3 F"]) -> Float[np.ndarray, "3 F"]:
    """Returns unit vectors: the part of `vectors` across `along`."""
    across = vectors - along * (vectors * along).sum(0)
    return across / np.linalg.norm(across, axis=0)


def _bend(upper: Float[np.ndarray, "3 F"], lower: Float[np.ndarray, "3 F"]) -> Float[np.ndarray, " F"]:
    return np.arctan2(np.linalg.norm(np.cross(upper, lower, axis=0), axis=0), (upper * lower).sum(0))


def _unit(vectors: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    """Returns vectors of length 1; NaN where they have no length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
