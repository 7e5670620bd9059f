"""BVH read back by another library: the same joints where the lifted person had them, his limbs made constant."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymotion.io.bvh import BVH
from pymotion.ops.skeleton import fk
from scipy.spatial.transform import Rotation

from pipeline.lift.outputs.bvh import write_bvh
from pipeline.lift.outputs.rig import build_rig, fit_rotations, name_bone, turn_y_up
from pipeline.poses.geometry import RigidTransform
from pipeline.poses.skeleton import H36M_17, HUMANEVA_15, MPI_INF_3DHP_17, MPII_16
from pipeline.system.errors import UserError
from tests.fixtures.lifted_walker import lifted_person, lifted_walkers
from tests.fixtures.walker import BONES, RATE_HZ

NAMES = [name_bone(H36M_17, joint) for joint in range(17)]
STILL = RigidTransform()


def read_back(path):
    """Returns the positions (F J 3) of every named joint in a BVH file, by PyMotion, and the file's content."""
    bvh = BVH()
    bvh.load(str(path))
    rotations, positions, parents, offsets, _, _ = bvh.get_data()
    joints_m, _ = fk(rotations, positions[:, 0], offsets, parents)
    return dict(zip(bvh.data["names"].tolist(), np.moveaxis(joints_m, 1, 0), strict=True)), bvh.data


def fix_limb_lengths(joints_m, skeleton):
    """Returns the joints with every bone as long as its median: written apart from the module that is tested."""
    constant_m = joints_m.copy()
    order = [skeleton.root]
    for joint in order:
        order += [child for child, parent in enumerate(skeleton.parents) if parent == joint]
    for child in order[1:]:
        parent = skeleton.parents[child]
        bone_m = joints_m[:, child] - joints_m[:, parent]
        length_m = np.linalg.norm(bone_m, axis=1, keepdims=True)
        constant_m[:, child] = constant_m[:, parent] + bone_m / length_m * np.median(length_m)
    return constant_m


def turn_to_bvh(joints_world_m):
    return joints_world_m[..., [0, 2, 1]] * [1, 1, -1]


def write(tmp_path, joints_world_m, skeleton):
    """Writes a person whose joints these are and returns the only file."""
    frames = len(joints_world_m)
    root_m = joints_world_m[:, skeleton.root]
    person = replace(lifted_person(frames), joints_camera_m=joints_world_m - root_m[:, None], root_camera_m=root_m)
    lifted = replace(lifted_walkers(person, frames=frames), out_skeleton=skeleton, world_from_camera=STILL)
    (path,) = write_bvh(tmp_path / "p.bvh", lifted, person)
    return path


def test_a_walker_comes_back_to_the_millimetre(tmp_path):
    person = lifted_person(60)
    lifted = lifted_walkers(person, frames=60)
    (path,) = write_bvh(tmp_path / "walk.bvh", lifted, person)
    joints_m, content = read_back(path)
    expected_m = turn_to_bvh(lifted.joints_world_m(person))  # the walker's limbs are constant
    for joint, name in enumerate(NAMES):
        np.testing.assert_allclose(joints_m[name], expected_m[:, joint], atol=1e-4)
    assert content["frame_time"] == pytest.approx(1 / RATE_HZ)
    assert len(content["rotations"]) == 60


@pytest.mark.parametrize("skeleton", [H36M_17, HUMANEVA_15, MPI_INF_3DHP_17, MPII_16], ids=lambda s: s.name)
def test_any_motion_of_any_layout_comes_back_with_constant_limbs(tmp_path, skeleton):
    generator = np.random.default_rng(1)
    joints_m = np.cumsum(generator.normal(size=(40, len(skeleton.joints), 3)), axis=0) * 0.1 + generator.normal(
        size=(1, len(skeleton.joints), 3)
    )
    joints_m = joints_m.astype(np.float64)
    read_m, _ = read_back(write(tmp_path, joints_m, skeleton))
    expected_m = turn_to_bvh(fix_limb_lengths(joints_m, skeleton))
    for joint in range(len(skeleton.joints)):
        np.testing.assert_allclose(read_m[name_bone(skeleton, joint)], expected_m[:, joint], atol=1e-3)


def test_limbs_are_as_long_as_their_median(tmp_path):
    _, content = read_back(write(tmp_path, walker_of_changing_size(), H36M_17))
    offsets_m = dict(zip(content["names"].tolist(), content["offsets"], strict=True))
    assert offsets_m["RightLeg"] == pytest.approx([0, -0.45, 0], abs=1e-5)
    assert offsets_m["LeftForeArm"] == pytest.approx([np.linalg.norm(BONES["LElbow"][0]), 0, 0], abs=1e-5)
    assert offsets_m["LeftPelvis"] == pytest.approx([0, 0, 0])


def walker_of_changing_size():
    joints_m = lifted_walkers(lifted_person(5), frames=5).joints_world_m(lifted_person(5))
    return joints_m * np.array([0.8, 1.0, 1.0, 1.0, 1.3])[:, None, None]


def test_bones_have_the_names_that_programs_know_and_the_collarbones_move_with_the_chest(tmp_path):
    person = lifted_person(5)
    (path,) = write_bvh(tmp_path / "walk.bvh", lifted_walkers(person, frames=5), person)
    _, content = read_back(path)
    names, parents = content["names"].tolist(), content["parents"].tolist()
    parent_of = {name: names[parent] for name, parent in zip(names[1:], parents[1:], strict=True)}
    chains = {
        "HeadTop_End Head Neck Spine Hips",
        *(f"{side}Hand {side}ForeArm {side}Arm {side}Shoulder Spine Hips" for side in ("Left", "Right")),
        *(f"{side}Foot {side}Leg {side}UpLeg {side}Pelvis Hips" for side in ("Left", "Right")),
    }
    for chain in chains:
        for child, parent in pairwise(chain.split()):
            assert parent_of[child] == parent
    assert set(names) == {name for chain in chains for name in chain.split()}


def test_the_chest_turns_with_the_shoulders_and_the_neck_does_not():
    person = lifted_person(30)
    joints_m = lifted_walkers(person, frames=30).joints_world_m(person)
    turn = Rotation.from_euler("z", np.linspace(0, 40, 30), degrees=True)
    arms = [H36M_17.joints.index(side + name) for side in "LR" for name in ("Shoulder", "Elbow", "Wrist")]
    for joint in arms:
        joints_m[:, joint] = joints_m[:, 8] + turn.apply(joints_m[:, joint] - joints_m[:, 8])
    rig = build_rig(turn_y_up(joints_m), H36M_17)
    rotations = fit_rotations(turn_y_up(joints_m), rig)
    first, last = (Rotation.from_quat(rotations[frame]) for frame in (0, -1))
    turned_deg = dict(zip(rig.names, np.degrees((last * first.inv()).magnitude()), strict=True))
    assert turned_deg["Spine"] == pytest.approx(40, abs=1)
    assert turned_deg["Neck"] < 20  # not for itself, but it leans forward, seen from a chest that turns below it


def test_up_is_up_and_left_is_left(tmp_path):
    person = lifted_person(30)
    (path,) = write_bvh(tmp_path / "walk.bvh", lifted_walkers(person, frames=30), person)
    joints_m, _ = read_back(path)
    assert (joints_m["HeadTop_End"][:, 1] > 1.5).all()
    assert (joints_m["LeftFoot"][:, 1] < 0.3).all()
    # He walks about the origin with it on his left, towards +x at first, which is the direction of -z x y.
    leftwards_m = joints_m["LeftArm"] - joints_m["RightArm"]
    walked_m = np.gradient(joints_m["Hips"], axis=0)
    assert (np.cross([0.0, 1.0, 0.0], walked_m) * leftwards_m).sum(1).min() > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_angles_turn_no_faster_than_the_limbs(seed):
    from pipeline.lift.outputs.bvh import _angles_deg

    generator = np.random.default_rng(seed)
    lifted = lifted_walkers(lifted_person(60, start=float(generator.uniform(0, 9))), frames=60)
    joints_m = turn_y_up(lifted.joints_world_m(lifted.people[0]))
    rotations = fit_rotations(joints_m, build_rig(joints_m, H36M_17))
    assert np.abs(np.diff(_angles_deg(rotations), axis=0)).max() < 25  # a swing of 0.7 rad at 1 Hz makes 9 a frame
    assert (np.einsum("fnc,fnc->fn", rotations[1:], rotations[:-1]) > 0.99).all()


def test_a_bone_without_length_keeps_its_direction(tmp_path):
    person = lifted_person(6)
    joints_m = lifted_walkers(person, frames=6).joints_world_m(person)
    joints_m[:, 10] = joints_m[:, 9]  # no neck
    joints_m[2, 3] = joints_m[2, 2]  # a shin lost in one frame
    read_m, content = read_back(write(tmp_path, joints_m, H36M_17))
    np.testing.assert_allclose(read_m["HeadTop_End"], read_m["Head"], atol=1e-6)
    assert np.isfinite(content["rotations"]).all()
    thigh_m, shin_m = read_m["RightLeg"][2] - read_m["RightUpLeg"][2], read_m["RightFoot"][2] - read_m["RightLeg"][2]
    np.testing.assert_allclose(shin_m, thigh_m, atol=1e-4)  # both measure 0.45 m


def test_each_run_between_gaps_becomes_a_file(tmp_path):
    person = lifted_person(30, first_frame=100)
    joints_m = person.joints_camera_m.copy()
    joints_m[10:14] = np.nan
    joints_m[0] = np.nan
    person = replace(person, joints_camera_m=joints_m)
    lifted = lifted_walkers(person, frames=140)
    files = write_bvh(tmp_path / "walk.bvh", lifted, person)
    assert [file.name for file in files] == ["walk_from101.bvh", "walk_from114.bvh"]
    contents = [read_back(file)[1] for file in files]
    assert [len(content["rotations"]) for content in contents] == [9, 16]
    np.testing.assert_array_equal(contents[0]["offsets"], contents[1]["offsets"])


def test_somebody_who_was_never_lifted_is_refused(tmp_path):
    person = lifted_person(4)
    person = replace(person, root_camera_m=np.full((4, 3), np.nan))
    with pytest.raises(UserError, match=r"walk\.bvh: expected a frame in which person 1 was lifted, found none"):
        write_bvh(tmp_path / "walk.bvh", lifted_walkers(person, frames=4), person)
    assert list(tmp_path.iterdir()) == []
