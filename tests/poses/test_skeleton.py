"""The joint layouts are trees with a mirror."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.poses.skeleton import H36M_17, SKELETONS, Skeleton

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


@ALL
def test_every_joint_hangs_from_the_one_root(skeleton: Skeleton):
    assert skeleton.parents.count(-1) == 1
    for joint in range(len(skeleton.joints)):
        steps = 0
        while joint != skeleton.root:
            joint = skeleton.parents[joint]
            steps += 1
            assert 0 <= joint < len(skeleton.joints)
            assert steps < len(skeleton.joints)


@ALL
def test_every_joint_but_the_root_has_one_bone_to_its_parent(skeleton: Skeleton):
    children = [child for _, child in skeleton.bones]
    assert sorted([*children, skeleton.root]) == list(range(len(skeleton.joints)))
    assert all(skeleton.parents[child] == parent for parent, child in skeleton.bones)


@ALL
def test_bones_along_the_way_from_the_root_add_up_to_a_joint(skeleton: Skeleton):
    positions_m = np.random.default_rng(0).normal(size=(len(skeleton.joints), 3))
    bones_m = np.array(skeleton.bone_from_joint) @ positions_m
    ends = {child: (parent, bone_m) for (parent, child), bone_m in zip(skeleton.bones, bones_m, strict=True)}
    for joint in range(len(skeleton.joints)):
        walked_m, at = positions_m[skeleton.root].copy(), joint
        while at != skeleton.root:
            at, bone_m = ends[at]
            walked_m += bone_m
        assert walked_m == pytest.approx(positions_m[joint])


@ALL
def test_mirroring_twice_changes_nothing(skeleton: Skeleton):
    assert [skeleton.mirrored[joint] for joint in skeleton.mirrored] == list(range(len(skeleton.joints)))


@ALL
def test_a_joint_and_its_mirror_image_hang_from_mirror_images(skeleton: Skeleton):
    for parent, child in skeleton.bones:
        assert skeleton.parents[skeleton.mirrored[child]] == skeleton.mirrored[parent]


@ALL
def test_joint_names_are_unique_and_one_for_each_parent(skeleton: Skeleton):
    assert len(set(skeleton.joints)) == len(skeleton.joints) == len(skeleton.parents)


@ALL
def test_skeletons_are_found_by_their_own_names(skeleton: Skeleton):
    assert SKELETONS[skeleton.name] is skeleton


def test_the_names_of_human36m_say_left_and_right():
    for joint, name in enumerate(H36M_17.joints):
        side = joint in H36M_17.left, joint in H36M_17.right
        assert side == (name in ("LHip", "LKnee", "LFoot", "LShoulder", "LElbow", "LWrist"), name.startswith("R"))
        if side[1]:
            assert H36M_17.joints[H36M_17.mirrored[joint]] == "L" + name[1:]


def test_human36m_has_the_published_order():
    # VideoPose3D's 17-joint order of Human3.6M, which every published result uses.
    assert H36M_17.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert H36M_17.left == (4, 5, 6, 11, 12, 13)
    assert H36M_17.right == (1, 2, 3, 14, 15, 16)
    assert H36M_17.root == 0
