"""How tall people are: from limbs of known length in any posture, and scaled to what is stated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.lift.body.height import estimate_height_m, match_heights, parse_heights, scale_people
from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs.files import describe
from pipeline.lift.people import LiftOptions
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17, HUMANEVA_15, MPI_INF_3DHP_17
from pipeline.system.errors import UserError
from tests.fixtures.lifted_walker import lifted_person
from tests.fixtures.lifting import SIZE, recording_of, track_of, walker_keypoints, write_small_checkpoint
from tests.fixtures.walker import camera_at, walker_joints_world_m

# The average man and woman of ANSUR II: height, thigh, shank; and a trunk to the thorax joint, 0.611 of the legs.
MEAN_BODIES_M = {"man": (1.7562, 0.4125, 0.4155, 0.506), "woman": (1.6285, 0.3963, 0.3863, 0.478)}


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return Lifter.load(write_small_checkpoint(tmp_path_factory.mktemp("height") / "run0"))


def bend_at_random(thigh_m, shank_m, trunk_m, skeleton, *, frames=30):
    """Returns joints of a body of these limbs, each bone in a random direction in every frame."""
    lengths_m = {"Knee": thigh_m, "Foot": shank_m}
    thorax = "Thorax" if "Thorax" in skeleton.joints else "Neck"
    lengths_m |= {"Spine": 0.4 * trunk_m, thorax: (0.6 if "Spine" in skeleton.joints else 1.0) * trunk_m}
    joints_m = np.zeros((frames, len(skeleton.joints), 3))
    order = [skeleton.root]
    for joint in order:
        order += [child for child, parent in enumerate(skeleton.parents) if parent == joint]
    for joint in order[1:]:
        name = skeleton.joints[joint]
        length_m = lengths_m.get(name, lengths_m.get(name[1:], 0.2))
        bone_m = Rotation.random(frames, random_state=joint).apply([0, 0, length_m])
        joints_m[:, joint] = joints_m[:, skeleton.parents[joint]] + bone_m
    return joints_m


@pytest.mark.parametrize("skeleton", [H36M_17, HUMANEVA_15, MPI_INF_3DHP_17], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("body", MEAN_BODIES_M)
def test_the_average_adult_has_the_average_height_in_any_posture(body, skeleton):
    height_m, *limbs_m = MEAN_BODIES_M[body]
    assert estimate_height_m(bend_at_random(*limbs_m, skeleton), skeleton) == pytest.approx(height_m, rel=0.01)


def test_a_few_wild_and_missing_frames_do_not_change_the_height():
    joints_m = walker_joints_world_m(40)
    height_m = estimate_height_m(joints_m, H36M_17)
    joints_m[5:9] *= 3.0
    joints_m[20:30] = np.nan
    assert estimate_height_m(joints_m, H36M_17) == pytest.approx(height_m)
    assert np.isnan(estimate_height_m(np.full((4, 17, 3), np.nan), H36M_17))


def test_a_scaled_person_has_his_height_and_lies_on_the_same_pixels():
    tall, short = lifted_person(20, name="a"), lifted_person(20, name="b", start=1.0)
    (one, other), words = scale_people(
        [tall, short], {"b": 1.5}, H36M_17, unstated="as the model predicts it, which scales the distance too"
    )
    assert one is tall
    assert estimate_height_m(other.joints_camera_m, H36M_17) == pytest.approx(1.5)
    assert other.scale == pytest.approx(1.5 / estimate_height_m(short.joints_camera_m, H36M_17))
    camera = camera_at(0.5)
    pixels = project(other.joints_camera_m + other.root_camera_m[:, None], camera)
    np.testing.assert_allclose(pixels, short.pixels, atol=1e-9)
    assert words == [
        f"body size: scaled to the stated height, person b 1.50 m tall ({other.scale:.3f} times the model's size)",
        "body size: as the model predicts it, which scales the distance too, person a about 1.80 m tall",
    ]


def test_somebody_who_was_not_lifted_is_left_as_he_is():
    person = lifted_person(3)
    person = replace(person, joints_camera_m=np.full((3, 17, 3), np.nan), root_camera_m=np.full((3, 3), np.nan))
    (same,), words = scale_people([person], {person.person: 1.8}, H36M_17, unstated="")
    assert (same, words) == (person, [])


def test_the_height_reaches_poses_paths_floor_and_files(lifter):
    recording = recording_of(track_of(walker_keypoints(30)), track_of(walker_keypoints(30, start=1.0), person="b"))
    plain = lifter.lift(recording)
    stated = lifter.lift(recording, LiftOptions(body_height_m={"0": 1.62, "b": 1.9}))
    for before, after in zip(plain.people, stated.people, strict=True):
        np.testing.assert_allclose(after.joints_camera_m, before.joints_camera_m * after.scale)
        np.testing.assert_allclose(after.root_camera_m, before.root_camera_m * after.scale)
    known = json.loads(json.dumps(describe(stated), allow_nan=False))
    assert known["body_heights_m"] == [1.62, 1.9]
    assert known["body_scales"] == [person.scale for person in stated.people]
    assert any("stated height, person 0 1.62 m tall" in line for line in known["assumed"])
    assert describe(plain)["body_scales"] == [1.0, 1.0]


def test_one_height_is_everybodys_and_a_single_array_takes_one_too(lifter):
    keypoints = walker_keypoints(12)
    joints_m = lifter(keypoints, layout="h36m17", image_size=SIZE, options=LiftOptions(body_height_m=1.7))
    assert estimate_height_m(joints_m, H36M_17) == pytest.approx(1.7)
    assert match_heights(1.7, ["0", "b"], "walk.json") == {"0": 1.7, "b": 1.7}
    assert match_heights(None, ["0"], "walk.json") == {}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [([], None), (["1.78"], 1.78), (["0=1.78"], {"0": 1.78}), (["a=b=1.78", "1=1.6"], {"a=b": 1.78, "1": 1.6})],
)
def test_heights_are_read_from_the_command_line(texts, expected):
    assert parse_heights(texts) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["6ft"], r"body height: expected metres, as in 1\.78 or PERSON=1\.78, found '6ft'"),
        (["0="], r"expected metres, as in 1\.78 or PERSON=1\.78, found ''"),
        (["1.7", "1.8"], r"expected one of everybody or one of each person, found 1\.7, 1\.8"),
        (["0=1.7", "1.8"], r"expected one of everybody or one of each person, found 0=1\.7, 1\.8"),
        (["0=1.7", "0=1.8"], "expected one of everybody or one of each person"),
        (["178"], r"body height: expected 0\.5 to 2\.75 metres, found 178"),
        (["0=0.3"], r"body height: expected 0\.5 to 2\.75 metres, found 0\.3"),
        (["nan"], "expected 0.5 to 2.75 metres, found nan"),
        (["7=1.7"], r"walk\.json: body height: expected one of 0, b, found '7'"),
    ],
)
def test_heights_that_nobody_has_are_refused(texts, message):
    with pytest.raises(UserError, match=message):
        match_heights(parse_heights(texts), ["0", "b"], "walk.json")
