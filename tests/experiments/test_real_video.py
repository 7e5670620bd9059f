"""The reference of the trial on real video against people and cameras that are known; the page against its record."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from experiments.real_video.detect import read_calibration
from experiments.real_video.detections import IMAGE_SIZE_PX, read_detections
from experiments.real_video.measure import (
    Scene,
    aim_camera,
    derive_joints,
    find_parts,
    place_mediapipe,
    score_poses,
)
from experiments.real_video.records import Trial
from experiments.real_video.reference import LIMBS, PART_OF, read_reference, swap_parts, triangulate_person
from experiments.real_video.report import MARKERS, errors_table, page_of
from experiments.real_video.views import refine_cameras, triangulate
from pipeline.lift.input import build_camera
from pipeline.lift.layouts import MEDIAPIPE_33
from pipeline.lift.video import mediapipe_model
from pipeline.lift.video.mediapipe_model import download
from pipeline.poses.geometry import RigidTransform, camera_from_world_looking_at, project
from pipeline.poses.row_metrics import read_json_as
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from pipeline.visualization.tables import put_between

HERE = Path("experiments/real_video")
CAMERAS = [
    camera_from_world_looking_at(np.array([x, y, z]), np.array([0.0, 0.0, 1.0]))
    for x, y, z in ((4.0, 1.0, 1.8), (-1.0, 4.0, 1.5), (-4.0, -1.0, 2.0), (1.0, -4.0, 1.7))
]
FRAMES = 60


def rays_of(points_m: np.ndarray) -> np.ndarray:
    seen_m = np.stack([camera.apply(points_m) for camera in CAMERAS])
    return seen_m[..., :2] / seen_m[..., 2:]


@pytest.fixture
def body_m() -> np.ndarray:
    """33 landmarks of somebody who sways slowly: left at x > 0, mirrored at x < 0."""
    drawn = np.random.default_rng(0).uniform([0.05, -0.2, 0.0], [0.4, 0.2, 1.8], (33, 3))
    for left, right in zip(MEDIAPIPE_33.left, MEDIAPIPE_33.right, strict=True):
        drawn[right] = drawn[left] * [-1, 1, 1]
    sway = 0.1 * np.sin(2 * np.pi * np.arange(FRAMES) / 60)
    return drawn + sway[:, None, None] * [1.0, 0.5, 0.0]


def test_triangulation_finds_the_points_and_ignores_a_view_that_disagrees(body_m):
    rays = rays_of(body_m)
    trust = np.ones(rays.shape[:-1])
    np.testing.assert_allclose(triangulate(rays, trust, CAMERAS), body_m, atol=1e-5)
    rays[2] += 0.2  # 340 px
    np.testing.assert_allclose(triangulate(rays, trust, CAMERAS), body_m, atol=5e-3)
    trust[2] = 0
    np.testing.assert_allclose(triangulate(rays, trust, CAMERAS), body_m, atol=1e-5)


def test_refining_cameras_undoes_what_turned_one_of_them(body_m):
    turn = Rotation.from_rotvec([0.02, -0.03, 0.05]).as_matrix()
    calibrated = [CAMERAS[0], RigidTransform(turn @ CAMERAS[1].rotation, CAMERAS[1].translation_m), *CAMERAS[2:]]
    points_m = body_m[None, ::10]
    rays = np.concatenate([np.moveaxis(rays_of(points_m), 0, 1)] * 2, axis=1)
    refined, off_px, before_px = refine_cameras(rays, np.ones(rays.shape[:-1]), calibrated)
    assert before_px.max() > 5
    assert off_px.max() < 1
    found_m = triangulate(rays[0, :4], np.ones(rays[0, :4].shape[:-1]), refined)
    distances_m, true_m = (np.linalg.norm(m[0, :, None] - m[0], axis=-1) for m in (found_m, points_m[0]))
    np.testing.assert_allclose(distances_m, true_m, rtol=0.01, atol=0.002)


def test_exchanged_sides_and_other_people_are_found_and_do_not_move_the_reference(body_m):
    rays = np.concatenate([rays_of(body_m)] * 2)
    is_swapped = np.zeros((8, FRAMES, 3), dtype=bool)
    is_swapped[5, 20:30, 2] = is_swapped[1, 40:45, 1] = True  # the legs as followed, the arms as found alone
    rays = swap_parts(rays, is_swapped)
    rays[[2, 6], 50:] += 0.3  # somebody half a metre away
    path_m, sd_m, left_out_m, is_person, found = triangulate_person(rays, np.ones(rays.shape[:-1]), CAMERAS)
    assert (found == is_swapped[4:]).all()
    expected = np.ones((4, FRAMES), dtype=bool)
    expected[2, 50:] = False
    assert (is_person == expected).all()
    limbs = list(LIMBS)
    assert np.linalg.norm(path_m - body_m, axis=-1)[5:-5, limbs].max() < 0.005
    assert left_out_m[:, 5:-5, limbs].max() < 0.02
    assert sd_m[5:-5, limbs].max() < 0.02


def test_a_landmark_that_one_view_alone_has_is_known_to_be_unknown(body_m):
    rays, trust = np.concatenate([rays_of(body_m)] * 2), np.ones((8, FRAMES, 33))
    rays += np.random.default_rng(1).normal(0, 0.002, rays.shape)
    trust[[0, 1, 2, 4, 5, 6], :, 15] = 0
    _, sd_m, *_ = triangulate_person(rays, trust, CAMERAS)
    assert np.median(sd_m[:, 15]) > 1
    assert np.median(sd_m[:, 16]) < 0.02


def test_parts_are_the_scale_and_the_rotation_that_were_put_in(body_m):
    true_m = derive_joints(body_m)
    true_m = true_m - true_m[:, :1]
    rotation = Rotation.from_rotvec([0.0, 0.0, 25.0], degrees=True)
    pose_m = 1.2 * rotation.apply(true_m.reshape(-1, 3)).reshape(true_m.shape)
    parts = find_parts(pose_m, true_m)
    assert (parts.size, parts.pitch_deg, parts.yaw_deg, parts.roll_deg) == (1.2, 0.0, 0.0, 25.0)
    assert parts.aligned_mm == 0.0
    assert parts.turned_mm == pytest.approx(200 * np.linalg.norm(true_m, axis=-1).mean(), abs=0.1)
    assert find_parts(1.2 * true_m, true_m).scaled_mm == 0.0


def scene_of(body_m: np.ndarray, *, camera_from_world: RigidTransform) -> Scene:
    camera, _ = build_camera(IMAGE_SIZE_PX)
    marks_m = camera_from_world.apply(body_m)
    marks_px = np.concatenate([project(marks_m, camera), np.ones((FRAMES, 33, 1))], axis=-1)
    never = np.zeros((FRAMES, 3), dtype=bool)
    return Scene(marks_px, marks_m, never, derive_joints(marks_m), camera, camera_from_world)


def test_the_truth_has_no_error_and_lies_where_its_keypoints_say(body_m):
    scene = scene_of(body_m, camera_from_world=CAMERAS[0])
    pose_m, root_m = place_mediapipe(scene)
    scored = np.arange(FRAMES) % 20 > 2
    errors = score_poses(pose_m, root_m, scene.true_m, scored=scored)
    assert errors.root_mm < 50  # sums of landmarks project onto the sums of their pixels but for perspective
    assert errors.model_copy(update={"root_mm": 0.0}) == type(errors)(**dict.fromkeys(type(errors).model_fields, 0.0))
    shifted_m = pose_m + np.array([0.0, 0.03, 0.04])
    assert score_poses(shifted_m, root_m, scene.true_m, scored=scored).mpjpe_mm == 50.0


def test_the_aimed_camera_has_the_path_in_its_middle_and_up_above(body_m):
    roll = Rotation.from_rotvec([0.1, 0.2, 0.5]).as_matrix()
    rolled = RigidTransform(roll @ CAMERAS[1].rotation, roll @ CAMERAS[1].translation_m)
    scene = scene_of(body_m, camera_from_world=rolled)
    aimed_from_camera = aim_camera(scene).inverse()
    middle_m = aimed_from_camera.apply(scene.true_m[:, 0].mean(0))
    np.testing.assert_allclose(middle_m[:2], 0, atol=1e-9)
    up = aimed_from_camera.rotation @ rolled.rotation[:, 2]
    assert up[0] == pytest.approx(0, abs=1e-9)
    assert up[1] < 0
    assert np.linalg.det(aimed_from_camera.rotation) == pytest.approx(1)


def test_a_calibration_of_qualisys_is_read_as_a_camera_that_looks_at_what_it_saw():
    # At (0, -2, 1) m, looking along world y: its own x is the world's, its y is up, and it looks along -z.
    text = b"""<calibration><cameras><camera>
      <transform r11="1" r12="0" r13="0" r21="0" r22="0" r23="1" r31="0" r32="-1" r33="0" x="0" y="-2000" z="1000"/>
      <intrinsic focalLengthU="64000" focalLengthV="64000" centerPointU="32000" centerPointV="64000"
       radialDistortion1="0.1" radialDistortion2="0.2" tangentalDistortion1="0.3" tangentalDistortion2="0.4"/>
    </camera></cameras></calibration>"""
    matrices, coefficients, rotations, translations_m = read_calibration(text)
    np.testing.assert_allclose(matrices[0], [[1000, 0, 500], [0, 1000, 1000], [0, 0, 1]])
    np.testing.assert_allclose(coefficients[0], [0.1, 0.2, 0.3, 0.4, 0])
    seen_m = RigidTransform(rotations[0], translations_m[0]).apply(np.array([0.5, 3.0, 2.0]))
    np.testing.assert_allclose(seen_m, [0.5, -1.0, 5.0])  # right, up, ahead


def test_joints_are_derived_of_all_landmarks_as_of_keypoints(body_m):
    joints_m = dict(zip(H36M_17.joints, np.moveaxis(derive_joints(body_m), 1, 0), strict=True))
    np.testing.assert_allclose(joints_m["Hip"], body_m[:, 23:25].mean(1))
    np.testing.assert_allclose(joints_m["Thorax"], body_m[:, 11:13].mean(1))
    np.testing.assert_allclose(joints_m["LWrist"], body_m[:, 15])


def test_the_page_and_the_guide_show_the_record():
    trial = read_json_as(Trial, HERE / "results.json", "the record")
    assert (HERE / "README.md").read_text(encoding="utf-8") == page_of(trial)
    guide = Path("docs/lift.md").read_text(encoding="utf-8")
    assert put_between(MARKERS, errors_table(trial), guide, where="docs/lift.md") == guide


def test_what_is_stored_fits_together():
    detections, reference = read_detections(HERE / "detections.npz"), read_reference(HERE / "reference.npz")
    assert detections.followed_px.shape[:3] == (*reference.is_person.shape,)
    assert (PART_OF == [0] * 11 + [1] * 12 + [2] * 10).all()
    turned = [
        a.rotation @ b.rotation.T
        for a, b in zip(reference.cameras_from_world, detections.cameras_from_world, strict=True)
    ]
    assert max(np.degrees(Rotation.from_matrix(turned).magnitude())) < 4


@pytest.mark.parametrize("read", [read_detections, read_reference])
def test_without_what_an_earlier_stage_writes_a_line_names_it(read, tmp_path):
    with pytest.raises(UserError, match=r"gone\.npz: expected what the stage \w+ writes, found none"):
        read(tmp_path / "gone.npz")


def test_a_package_that_is_another_or_cannot_be_had_is_refused(tmp_path, monkeypatch):
    def pip(command, **_):
        Path(command[command.index("--dest") + 1], "some.whl").write_bytes(b"other")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(mediapipe_model.subprocess, "run", pip)
    with pytest.raises(UserError, match=r"some==1: expected a file with SHA-256 abc, found some\.whl with d9298a"):
        download("some==1", tmp_path, sha256="abc")
    monkeypatch.setattr(mediapipe_model.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(UserError, match="some==1: expected pip to download it"):
        download("some==1", tmp_path, sha256="abc")
