"""Joint angles: of bodies built from known angles by another way, of poses that anyone can name, and of a walker."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.lift.outputs.angles import ANGLES, LIMB_ANGLES, compute_angles_deg, write_angles
from pipeline.poses.skeleton import H36M_17, HUMANEVA_15, MPI_INF_3DHP_17
from pipeline.system.errors import UserError
from tests.fixtures.lifted_walker import lifted_person, lifted_walkers
from tests.fixtures.walker import RATE_HZ, walker_joints_world_m

FACING = Rotation.from_matrix(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]).T)  # forward, up, right
RANGES = {
    "pelvis_rotation": (-179, 179),
    "pelvis_obliquity": (-60, 60),
    "pelvis_tilt": (-80, 80),
    "trunk_flexion": (-60, 120),
    "trunk_bending": (-60, 60),
    "trunk_rotation": (-80, 80),
    "hip_flexion": (-40, 130),
    "hip_adduction": (-60, 40),
    "hip_rotation": (-60, 60),
    "knee_flexion": (31, 150),
    "shoulder_plane": (-80, 170),
    "shoulder_elevation": (21, 159),
    "shoulder_rotation": (-90, 90),
    "elbow_flexion": (31, 150),
}
STANDING = dict.fromkeys(RANGES, 0.0)


def turn(axes, *angles_deg):
    """Returns the rotation about moving axes, capital letters as in scipy."""
    return Rotation.from_euler(axes, angles_deg if len(axes) > 1 else angles_deg[0], degrees=True)


def build_body(right, left=None):
    """Returns joints (1, 17, 3) of a body with these angles, limbs of `left` on its left, by forward kinematics."""
    joints = {"Hip": np.zeros(3)}
    pelvis = FACING * turn("YXZ", right["pelvis_rotation"], right["pelvis_obliquity"], -right["pelvis_tilt"])
    chest = pelvis * turn("ZXY", -right["trunk_flexion"], right["trunk_bending"], right["trunk_rotation"])
    joints["Spine"] = pelvis.apply([0, 0.23, 0])
    joints["Thorax"] = joints["Spine"] + chest.apply([0, 0.25, 0])
    joints["Neck/Nose"] = joints["Thorax"] + chest.apply([0.05, 0.1, 0])
    joints["Head"] = joints["Thorax"] + chest.apply([0.05, 0.22, 0])
    for letter, mirror, angles in (("R", [1, 1, 1], right), ("L", [1, 1, -1], left or right)):
        thigh = turn("ZXY", angles["hip_flexion"], angles["hip_adduction"], angles["hip_rotation"])
        shank = thigh * turn("Z", -angles["knee_flexion"])
        arm = turn("YXY", angles["shoulder_plane"], -angles["shoulder_elevation"], angles["shoulder_rotation"])
        forearm = arm * turn("Z", angles["elbow_flexion"])
        chains = {
            "Hip Knee Foot": ("Hip", pelvis, [0, 0, 0.13], thigh.apply([0, -0.45, 0]), shank.apply([0, -0.44, 0])),
            "Shoulder Elbow Wrist": (
                "Thorax",
                chest,
                [0, -0.02, 0.17],
                arm.apply([0, -0.3, 0]),
                forearm.apply([0, -0.25, 0]),
            ),
        }
        for names, (parent, segment, *bones_m) in chains.items():
            place_m = joints[parent]
            for name, bone_m in zip(names.split(), bones_m, strict=True):
                place_m = joints[letter + name] = place_m + segment.apply(np.multiply(bone_m, mirror))
    return np.stack([joints[name] for name in H36M_17.joints])[None]


angle_sets = st.fixed_dictionaries({name: st.floats(*limits) for name, limits in RANGES.items()})


@settings(max_examples=60, deadline=None)
@given(angle_sets, angle_sets)
def test_the_angles_of_a_body_are_those_it_was_built_from(right, left):
    found = compute_angles_deg(build_body(right, left), H36M_17)
    for name in ANGLES:
        assert found[name] == pytest.approx(right[name], abs=1e-6), name
    for name in set(LIMB_ANGLES) - {"shank_tilt"}:
        assert found[f"{name}_r"] == pytest.approx(right[name], abs=1e-6), name
        assert found[f"{name}_l"] == pytest.approx(left[name], abs=1e-6), name


# In the world, Z up: he faces the camera, which looks along Y, so his left is at the camera's right, +X.
UPRIGHT_M = {
    "Hip": (0, 0, 0), "RHip": (-0.1, 0, 0), "LHip": (0.1, 0, 0), "RKnee": (-0.1, 0, -0.4), "LKnee": (0.1, 0, -0.4),
    "RFoot": (-0.1, 0, -0.8), "LFoot": (0.1, 0, -0.8), "Spine": (0, 0, 0.2), "Thorax": (0, 0, 0.5),
    "Neck/Nose": (0, 0, 0.6), "Head": (0, 0, 0.7), "RShoulder": (-0.2, 0, 0.5), "LShoulder": (0.2, 0, 0.5),
    "RElbow": (-0.2, 0, 0.2), "LElbow": (0.2, 0, 0.2), "RWrist": (-0.2, 0, -0.1), "LWrist": (0.2, 0, -0.1),
}  # fmt: skip
POSES = {
    "upright": ({}, dict.fromkeys(ANGLES, 0) | {"hip_flexion_r": 0, "knee_flexion_l": 0, "elbow_flexion_r": 0}),
    "right thigh level, shank hanging": (
        {"RKnee": (-0.1, -0.4, 0), "RFoot": (-0.1, -0.4, -0.4)},
        {"hip_flexion_r": 90, "hip_adduction_r": 0, "hip_rotation_r": 0, "knee_flexion_r": 90, "shank_tilt_r": 0},
    ),
    "left leg 45 degrees to the side": (
        {"LKnee": (0.5, 0, -0.4), "LFoot": (0.9, 0, -0.8)},
        {"hip_flexion_l": 0, "hip_adduction_l": -45, "knee_flexion_l": 0},
    ),
    "right knee before the foot": (
        {"RKnee": (-0.1, -0.4, -0.4)},
        {"hip_flexion_r": 45, "knee_flexion_r": 90, "shank_tilt_r": 45},
    ),
    "sitting with the left foot out": (
        {"LKnee": (0.1, -0.4, 0), "LFoot": (0.5, -0.4, -0.4)},
        {"hip_flexion_l": 90, "hip_rotation_l": 45, "knee_flexion_l": 90},
    ),
    "right arm level in front, left arm level to the side": (
        {"RElbow": (-0.2, -0.3, 0.5), "RWrist": (-0.2, -0.6, 0.5), "LElbow": (0.5, 0, 0.5), "LWrist": (0.8, 0, 0.5)},
        {"shoulder_elevation_r": 90, "shoulder_plane_r": 90, "elbow_flexion_r": 0, "shoulder_plane_l": 0},
    ),
    "left arm level to the side, forearm up: turned outwards": (
        {"LElbow": (0.5, 0, 0.5), "LWrist": (0.5, 0, 0.8)},
        {"shoulder_elevation_l": 90, "shoulder_plane_l": 0, "shoulder_rotation_l": -90, "elbow_flexion_l": 90},
    ),
    "chest bent to the right": (
        {"Thorax": (-0.3, 0, 0.2), "RShoulder": (-0.3, 0, 0.4), "LShoulder": (-0.3, 0, 0.0)},
        {"trunk_bending": 90, "trunk_flexion": 0, "pelvis_obliquity": 0},
    ),
    "chest bent forward": (
        {"Thorax": (0, -0.3, 0.2), "RShoulder": (-0.2, -0.3, 0.2), "LShoulder": (0.2, -0.3, 0.2)},
        {"trunk_flexion": 90, "trunk_bending": 0, "trunk_rotation": 0},
    ),
    "chest turned to the left": (
        {"RShoulder": (0, -0.2, 0.5), "LShoulder": (0, 0.2, 0.5)},
        {"trunk_rotation": 90, "trunk_flexion": 0},
    ),
    "pelvis forward, its right lower": (
        {"Spine": (-0.1, -np.sqrt(0.02), 0.1), "RHip": (-0.1, 0, -0.1), "LHip": (0.1, 0, 0.1)},
        {"pelvis_obliquity": 45, "pelvis_rotation": 0, "pelvis_tilt": 45},
    ),
}  # fmt: skip


@pytest.mark.parametrize("pose", POSES)
def test_poses_that_anyone_can_name_have_their_angles(pose):
    changes, expected = POSES[pose]
    joints_m = np.array([(UPRIGHT_M | changes)[name] for name in H36M_17.joints], dtype=float)[None]
    found = compute_angles_deg(joints_m, H36M_17)
    for name, angle_deg in expected.items():
        assert found[name] == pytest.approx(angle_deg, abs=1e-3), name


def test_a_walker_in_closed_form_has_the_angles_that_he_swings_by():
    phase = np.sin(2 * np.pi * np.arange(60) / RATE_HZ)
    found = compute_angles_deg(walker_joints_world_m(60), H36M_17)
    np.testing.assert_allclose(found["hip_flexion_r"], np.degrees(0.5 * phase), atol=1e-9)
    np.testing.assert_allclose(found["hip_flexion_l"], np.degrees(-0.5 * phase), atol=1e-9)
    np.testing.assert_allclose(found["hip_adduction_r"], 0, atol=1e-9)
    np.testing.assert_allclose(found["knee_flexion_r"], np.abs(np.degrees(0.1 * phase)), atol=1e-5)
    np.testing.assert_allclose(found["shank_tilt_l"], np.degrees(0.6 * phase), atol=1e-9)
    headings = np.unwrap(found["pelvis_rotation"], period=360)
    np.testing.assert_allclose(np.diff(headings), np.degrees(0.8 / RATE_HZ), atol=1e-9)  # he circles to his left


def test_the_page_defines_every_angle():
    page = (Path(__file__).parents[2] / "docs" / "biomechanics.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == [*ANGLES, *LIMB_ANGLES]


def test_what_joints_cannot_show_is_not_made_up():
    standing = compute_angles_deg(build_body(STANDING), H36M_17)
    for name in ("hip_rotation_r", "shoulder_plane_l", "shoulder_rotation_r"):
        assert np.isnan(standing[name]).all(), name
    on_his_side = compute_angles_deg(build_body(STANDING | {"pelvis_obliquity": 90.0}), H36M_17)
    assert np.isnan(on_his_side["shank_tilt_r"]).all()
    assert not any("ankle" in name for name in standing)


def test_another_layout_with_the_same_joints_has_the_same_angles_and_one_without_is_refused():
    joints_m = walker_joints_world_m(3)
    for found, expected in zip(
        compute_angles_deg(joints_m, MPI_INF_3DHP_17).values(),
        compute_angles_deg(joints_m, H36M_17).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="angles: expected a layout with Spine, found humaneva15"):
        compute_angles_deg(np.zeros((2, 15, 3)), HUMANEVA_15)


def test_the_table_has_a_line_for_each_person_and_frame_and_leaves_guesses_empty(tmp_path):
    first, late = lifted_person(4), lifted_person(3, name="late", first_frame=2, start=1.0)
    pixels = first.pixels.copy()
    pixels[1, H36M_17.joints.index("RFoot")] = np.nan
    lifted = lifted_walkers(replace(first, pixels=pixels), late, frames=6)
    write_angles(tmp_path / "angles.csv", lifted)
    with (tmp_path / "angles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["person"], row["frame"]) for row in rows] == [("person 1", str(f)) for f in range(4)] + [
        ("late", str(f)) for f in (2, 3, 4)
    ]
    assert float(rows[-1]["time_s"]) == pytest.approx(4 / RATE_HZ, abs=1e-6)
    assert len(rows[0]) == 3 + len(ANGLES) + 2 * len(LIMB_ANGLES)
    assert (rows[1]["knee_flexion_r_deg"], rows[1]["shank_tilt_r_deg"]) == ("", "")
    assert rows[1]["hip_flexion_r_deg"] != ""
    expected = compute_angles_deg(lifted.joints_world_m(late), H36M_17)["hip_flexion_l"]
    np.testing.assert_allclose([float(row["hip_flexion_l_deg"]) for row in rows[4:]], expected, atol=1e-3)
