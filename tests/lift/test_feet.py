"""The foot lock: a walker with planted feet in closed form, drifting and trembling, stands still again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pipeline.lift.body.feet import find_foot_rests, lock_feet, lock_run, measure_limbs
from pipeline.lift.lifter import Lifter
from pipeline.lift.people import LiftOptions
from pipeline.poses.geometry import RigidTransform
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.lifted_walker import lifted_person
from tests.fixtures.lifting import recording_of, track_of, walker_keypoints, write_small_checkpoint
from tests.fixtures.walker import BONES, RATE_HZ

FRAMES, STEP_S, STRIDE_M = 90, 0.5, 0.6
HIP, FEET = 0, [H36M_17.joints.index(name) for name in ("LFoot", "RFoot")]
LEGS = ([4, 5, 6], [1, 2, 3])  # hip, knee, foot of the left and of the right
STILL = RigidTransform()


def planted_walk():
    """Returns joints (F 17 3) of somebody who walks along +Y with constant limbs, and which foot stands when (F 2).

    In turn one foot stands and the other swings in an arc; the legs reach for the feet and the knees bend forward.
    """
    time = np.arange(FRAMES) / RATE_HZ / STEP_S
    step, share = np.floor(time), time - np.floor(time)
    joints_m = np.zeros((FRAMES, 17, 3))
    joints_m[:, HIP] = np.stack([0 * time, STRIDE_M * time / 2, 0 * time + 0.85], axis=-1)
    for joint, name in enumerate(H36M_17.joints):
        if name in BONES and name[1:] not in ("Knee", "Foot"):
            joints_m[:, joint] = joints_m[:, H36M_17.parents[joint]] + BONES[name][0]
    stands = np.stack([step % 2 == side for side in range(2)], axis=-1)
    for side, leg in enumerate(LEGS):
        last = step - (step % 2 != side)  # the step whose foot it put down
        going = np.where(stands[:, side], 0.0, share)
        forward_m = STRIDE_M * (last / 2 + going + 0.25)
        height_m = 0.25 * np.sin(np.pi * going)
        foot_m = np.stack([joints_m[:, leg[0], 0], forward_m, height_m], axis=-1)
        half_m = (foot_m - joints_m[:, leg[0]]) / 2
        lengths_m = np.linalg.norm(half_m, axis=-1, keepdims=True)
        across = np.cross(half_m / lengths_m, [1.0, 0, 0])
        joints_m[:, leg[1]] = joints_m[:, leg[0]] + half_m - across * np.sqrt(0.45**2 - lengths_m**2)
        joints_m[:, leg[2]] = foot_m
    return joints_m, stands


def as_person(joints_m):
    root_m = joints_m[:, HIP]
    return replace(lifted_person(len(joints_m)), joints_camera_m=joints_m - root_m[:, None], root_camera_m=root_m)


def lock(joints_m):
    (person,), words = lock_feet([as_person(joints_m)], H36M_17, STILL, rate_hz=RATE_HZ)
    return person.joints_camera_m + person.root_camera_m[:, None], words


def slide_m(joints_m, stands):
    """Returns how far feet move in all, in frames in which they stand, but for the two beside a step."""
    steps_m = np.linalg.norm(np.diff(joints_m[:, FEET], axis=0), axis=-1)
    inner = stands[1:] & stands[:-1] & np.roll(stands[1:], -1, axis=0) & np.roll(stands[:-1], 1, axis=0)
    return steps_m[inner].sum()


def drift_and_tremble(joints_m):
    random = np.random.default_rng(0)
    time = np.arange(FRAMES) / RATE_HZ
    drift_m = np.stack([0.05 * np.sin(3 * time), 0.04 * np.cos(4 * time), 0.02 * np.sin(5 * time)], axis=-1)
    return joints_m + drift_m[:, None] + random.normal(0, 0.001, joints_m.shape)


def test_the_fixture_walks_with_constant_limbs_and_knees_forward():
    joints_m, stands = planted_walk()
    for leg in LEGS:
        for upper, lower in pairwise(leg):
            np.testing.assert_allclose(np.linalg.norm(joints_m[:, lower] - joints_m[:, upper], axis=-1), 0.45)
        assert (joints_m[:, leg[1], 1] > joints_m[:, leg[0]][:, 1] - 0.2).all()
    assert slide_m(joints_m, stands) == 0


def test_a_clean_walk_is_left_as_it_is():
    joints_m, _ = planted_walk()
    locked_m, _ = lock(joints_m)
    np.testing.assert_allclose(locked_m, joints_m, atol=1e-6)


def test_sliding_feet_stand_still_and_limbs_are_constant():
    true_m, stands = planted_walk()
    lifted_m = drift_and_tremble(true_m)
    locked_m, words = lock(lifted_m)
    assert slide_m(lifted_m, stands) > 0.3
    assert slide_m(locked_m, stands) < 1e-9
    bones_m = np.stack([locked_m[:, child] - locked_m[:, parent] for parent, child in H36M_17.bones])
    lengths_m = np.linalg.norm(bones_m, axis=-1)
    np.testing.assert_allclose(lengths_m, np.tile(np.median(lengths_m, axis=1)[:, None], FRAMES), atol=1e-9)
    assert "feet: locked in 6 rests" in words


def test_locking_brings_the_body_nearer_to_the_truth():
    true_m, _ = planted_walk()
    lifted_m = drift_and_tremble(true_m)
    locked_m, _ = lock(lifted_m)
    off_m = [np.linalg.norm(np.diff(joints_m - true_m, axis=0), axis=-1).mean() for joints_m in (lifted_m, locked_m)]
    assert off_m[1] < 0.75 * off_m[0]  # the motion from frame to frame; where he is nobody knows better than before
    turned = np.cross(locked_m[:, 2] - locked_m[:, 1], locked_m[:, 3] - locked_m[:, 2])[:, 0]
    assert (turned < 0.01).all()  # no knee turned over


def test_a_leg_that_is_too_short_lowers_the_body_and_does_not_slide():
    true_m, stands = planted_walk()
    raised_m = 0.08 * np.sin(np.arange(FRAMES) / 5) ** 2
    lifted_m = true_m + raised_m[:, None, None] * [0, 0, 1]
    lifted_m[:, FEET] = true_m[:, FEET]  # with legs that are stretched now and then
    locked_m, _ = lock(lifted_m)
    assert slide_m(locked_m, stands) < 1e-9
    assert (lifted_m[:, HIP, 2] - locked_m[:, HIP, 2]).max() > 0.01
    assert np.abs(np.diff(locked_m[:, HIP, 2])).max() < 0.03


def test_a_knee_without_a_side_bends_to_where_the_pelvis_faces():
    joints_m = np.repeat(planted_walk()[0][:1], 30, axis=0)  # he faces +Y
    lengths_m = measure_limbs(joints_m, H36M_17)
    joints_m += (0.9 - joints_m[0, HIP, 2]) * np.array([0, 0, 1])
    for side, (hip, knee, foot) in enumerate(LEGS):
        joints_m[:, foot] = joints_m[:, hip] * [1, 1, 0] + [0, 0, 0.06 * (side == 0)]  # the left one on a step
        joints_m[:, knee] = (joints_m[:, hip] + joints_m[:, foot]) / 2
    rests = [(side, slice(0, 30)) for side in range(2)]
    locked_m = lock_run(joints_m, rests, lengths_m, H36M_17, rate_hz=RATE_HZ)
    np.testing.assert_allclose(locked_m[:, FEET], joints_m[:, FEET], atol=1e-9)
    assert (locked_m[:, 5, 1] > locked_m[:, 4, 1] + 0.1).all()


def test_gaps_stay_gaps_and_somebody_who_never_rests_keeps_his_motion():
    joints_m, _ = planted_walk()
    joints_m[20:25] = np.nan
    locked_m, _ = lock(joints_m)
    np.testing.assert_array_equal(np.isnan(locked_m), np.isnan(joints_m))
    flying_m = planted_walk()[0] + np.arange(FRAMES)[:, None, None] * [0.1, 0, 0]
    locked_m, words = lock(flying_m)
    assert "locked in 0 rests" in words
    np.testing.assert_allclose(locked_m, flying_m, atol=1e-9)
    nobody = replace(as_person(joints_m), root_camera_m=np.full((FRAMES, 3), np.nan))
    (same,), _ = lock_feet([nobody], H36M_17, STILL, rate_hz=RATE_HZ)
    assert same is nobody


def test_a_rest_with_a_short_tremble_is_one_rest():
    joints_m, _ = planted_walk()
    joints_m[7, FEET[0]] += 0.05
    rests = [rest for foot, rest in find_foot_rests(joints_m, H36M_17, rate_hz=RATE_HZ) if foot == 0]
    assert rests[0] == slice(0, 15)
    assert len(rests) == 3


def test_the_option_reaches_every_file_and_is_said(tmp_path):
    lifter = Lifter.load(write_small_checkpoint(tmp_path / "run0"))
    lifted = lifter.lift(recording_of(track_of(walker_keypoints(20))), LiftOptions(lock_feet=True))
    assert lifted.assumed[-1].startswith("feet: locked in")
    joints_m = lifted.people[0].joints_camera_m
    lengths_m = np.linalg.norm(joints_m[:, 2] - joints_m[:, 1], axis=-1)
    assert lengths_m == pytest.approx(measure_limbs(joints_m, H36M_17)[2])
    np.testing.assert_allclose(joints_m[:, HIP], 0, atol=1e-12)
