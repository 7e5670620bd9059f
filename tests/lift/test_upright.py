"""Up and the floor: from real motion, from still people, and from nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.lift.scene.upright import fit_upright
from pipeline.poses.frames import resample
from pipeline.poses.geometry import RigidTransform, camera_from_world_looking_at
from pipeline.poses.skeleton import H36M_17

RATE_HZ = 30.0
FEET = [H36M_17.joints.index(name) for name in ("LFoot", "RFoot")]


def tilt_deg(found: RigidTransform, camera_from_world: RigidTransform) -> float:
    """The angle between the true up and the one found."""
    true_up = camera_from_world.rotation[:, 2]
    return float(np.degrees(np.arccos(np.clip(found.rotation[2] @ true_up, -1, 1))))


@pytest.fixture(scope="module")
def walk_m(takes):
    take = (
        takes["test_walking_1"]
        if "test_walking_1" in takes
        else next(t for t in takes.values() if t.action == "walking")
    )
    return resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=RATE_HZ)


@pytest.mark.parametrize("rate_hz", [0.2, 1.0, 1.9, 5.0])
def test_pictures_at_intervals_of_somebody_who_stands_tell_up_too(walk_m, rate_hz):
    camera = camera_from_world_looking_at(walk_m[0, 0] + [5.0, 0.0, 0.7], walk_m[0, 0])
    still_m = np.repeat(walk_m[:1], 12, axis=0)
    found, evidence = fit_upright([camera.apply(still_m)], H36M_17, rate_hz=rate_hz)
    assert tilt_deg(found, camera) < 8
    assert np.isfinite(found.translation_m).all()
    assert "resting feet" in evidence


@pytest.mark.parametrize("height_m", [0.5, 1.6, 3.0])
def test_a_real_walk_seen_by_a_tilted_camera_tells_up_to_four_degrees(walk_m, height_m):
    camera = camera_from_world_looking_at(walk_m[0, 0] + [5.0, 0.0, height_m - 0.9], walk_m[:, 0].mean(0))
    found, evidence = fit_upright([camera.apply(walk_m)], H36M_17, rate_hz=RATE_HZ)
    assert tilt_deg(found, camera) < 4
    assert "people upright" in evidence


def test_the_world_is_a_rotation_with_feet_on_the_floor_and_the_camera_at_its_height(walk_m):
    camera = camera_from_world_looking_at(walk_m[0, 0] + [5.0, 0.0, 0.7], walk_m[:, 0].mean(0))
    found, _ = fit_upright([camera.apply(walk_m)], H36M_17, rate_hz=RATE_HZ)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    lower_foot_m = found.apply(camera.apply(walk_m))[:, FEET, 2].min(1)
    assert abs(np.median(lower_foot_m)) < 0.05
    assert found.apply(np.zeros(3))[2] > 0.5


def test_two_people_on_one_floor_agree_with_one(walk_m):
    camera = camera_from_world_looking_at(walk_m[0, 0] + [5.0, 0.0, 0.7], walk_m[:, 0].mean(0))
    one_m = camera.apply(walk_m)
    alone, _ = fit_upright([one_m], H36M_17, rate_hz=RATE_HZ)
    absent = np.full_like(one_m, np.nan)
    beside, _ = fit_upright([one_m, absent], H36M_17, rate_hz=RATE_HZ)
    np.testing.assert_allclose(beside.rotation, alone.rotation)


def test_one_frame_of_one_person_moves_up_only_a_little(walk_m):
    camera = camera_from_world_looking_at(walk_m[0, 0] + [5.0, 0.0, 0.7], walk_m[0, 0])
    found, _ = fit_upright([camera.apply(walk_m)[:1]], H36M_17, rate_hz=RATE_HZ)
    assert tilt_deg(found, camera) < 10


@pytest.fixture(scope="module")
def bowing_m(walk_m):
    """Four seconds of somebody who stands, and for three of them bends forward by 75 degrees at the hips."""
    standing_m = walk_m[0].copy()
    for child, parent in enumerate(H36M_17.parents):
        if H36M_17.joints[child] in ("RKnee", "LKnee", "RFoot", "LFoot", "Spine", "Thorax"):
            length_m = np.linalg.norm(walk_m[0, child] - walk_m[0, parent])
            down = H36M_17.joints[child].endswith(("Knee", "Foot"))
            standing_m[child] = standing_m[parent] + [0.0, 0.0, -length_m if down else length_m]
    still_m = np.repeat(standing_m[None], 120, axis=0)
    across = standing_m[H36M_17.joints.index("LHip")] - standing_m[H36M_17.joints.index("RHip")]
    bow = Rotation.from_rotvec(np.radians(75) * across / np.linalg.norm(across))
    above, hip_m = slice(H36M_17.joints.index("Spine"), None), standing_m[0]
    still_m[30:, above] = hip_m + bow.apply(standing_m[above] - hip_m)
    return still_m


def test_who_bends_most_of_the_time_tells_up_by_when_he_stands(bowing_m):
    camera = camera_from_world_looking_at(bowing_m[0, 0] + [4.0, 3.0, 1.5], bowing_m[0, 0])
    found, _ = fit_upright([camera.apply(bowing_m)], H36M_17, rate_hz=RATE_HZ)
    assert tilt_deg(found, camera) < 6  # by the mean line from his feet to his chest it would be 19


def test_up_is_surer_of_somebody_who_stands_than_of_who_bends(bowing_m):
    camera = camera_from_world_looking_at(bowing_m[0, 0] + [4.0, 3.0, 1.5], bowing_m[0, 0])
    off_deg = []
    for frames in (slice(0, 30), slice(30, 60)):
        _, evidence = fit_upright([camera.apply(bowing_m[frames])], H36M_17, rate_hz=RATE_HZ)
        off_deg.append(int(evidence.split()[-2]))
    assert off_deg[0] < 12 < off_deg[1]


def test_without_anyone_upright_the_camera_is_level():
    lying_m = np.zeros((5, 17, 3))
    lying_m[:, :, 0] = np.linspace(0, 1.7, 17)
    found, evidence = fit_upright([lying_m + np.array([0, 1.0, 4.0])], H36M_17, rate_hz=RATE_HZ)
    np.testing.assert_allclose(found.rotation, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)
    assert found.translation_m[2] == pytest.approx(1.0)
    assert evidence == "nobody stands upright: the camera is taken to be level"
