"""A lifter's output changes with its input as it should, whatever the weights are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.lifter import SHIPPED, Lifter
from pipeline.lift.people import LiftOptions
from pipeline.poses.geometry import Camera, project
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from tests.fixtures.lifting import SIZE, WALKER_CAMERA, recording_of, track_of, walker_keypoints, write_small_checkpoint

# Poses are float32 of up to 1 m, and pass through some tens of layers.
ATOL_M = 1e-5


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return Lifter.load(write_small_checkpoint(tmp_path_factory.mktemp("lift") / "run0"))


def test_poses_are_relative_to_the_root_one_for_each_frame(lifter):
    poses_m = lifter(walker_keypoints(20), layout="h36m17", image_size=SIZE)
    assert poses_m.shape == (20, 17, 3)
    assert np.isfinite(poses_m).all()
    np.testing.assert_array_equal(poses_m[:, 0], 0)


def test_a_flipped_image_gives_the_mirrored_pose(lifter):
    keypoints = walker_keypoints(20)
    flipped = keypoints[:, H36M_17.mirrored].copy()
    flipped[..., 0] = SIZE[0] - flipped[..., 0]
    mirrored_m = lifter(flipped, layout="h36m17", image_size=SIZE)[:, H36M_17.mirrored] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored_m, lifter(keypoints, layout="h36m17", image_size=SIZE), atol=ATOL_M)


def test_a_scaled_image_gives_the_same_pose(lifter):
    keypoints = walker_keypoints(20)
    larger = keypoints * [2.5, 2.5, 1]
    poses_m = lifter(larger, layout="h36m17", image_size=(2500, 2500))
    np.testing.assert_allclose(poses_m, lifter(keypoints, layout="h36m17", image_size=SIZE), atol=ATOL_M)


def test_a_cropped_image_gives_the_same_pose_if_the_lens_is_known(lifter):
    keypoints = walker_keypoints(20)
    camera = replace(WALKER_CAMERA, radial=(0.0,) * 3)
    assert camera.centre_px is not None
    cropped = replace(camera, width_px=900, centre_px=(camera.centre_px[0] - 100, camera.centre_px[1]))
    poses_m = lifter(keypoints - [100, 0, 0], layout="h36m17", image_size=(900, 1000), camera=cropped)
    reference_m = lifter(keypoints, layout="h36m17", image_size=SIZE, camera=camera)
    np.testing.assert_allclose(poses_m, reference_m, atol=ATOL_M)


def test_twice_the_rate_gives_the_same_poses_and_those_between(lifter):
    lifter = replace(lifter, passes=0)  # what is up is told from all that is seen
    keypoints = walker_keypoints(21)
    twice = np.repeat(keypoints, 2, axis=0)[:-1]
    twice[1::2] = (keypoints[1:] + keypoints[:-1]) / 2
    poses_m = lifter(twice, layout="h36m17", image_size=SIZE, rate_hz=60.0)
    reference_m = lifter(keypoints, layout="h36m17", image_size=SIZE, rate_hz=30.0)
    np.testing.assert_allclose(poses_m[::2], reference_m, atol=ATOL_M)
    np.testing.assert_allclose(poses_m[1::2], (reference_m[1:] + reference_m[:-1]) / 2, atol=ATOL_M)


@pytest.mark.parametrize("rate_hz", [12.5, 25.0, 29.97, 120.0])
@pytest.mark.parametrize("frames", [1, 2, 31])
def test_every_frame_of_any_rate_has_a_pose(lifter, rate_hz, frames):
    poses_m = lifter(walker_keypoints(frames), layout="h36m17", image_size=SIZE, rate_hz=rate_hz)
    assert poses_m.shape == (frames, 17, 3)
    assert np.isfinite(poses_m).all()


def test_pixels_without_confidence_count_as_certain(lifter):
    keypoints = walker_keypoints(5)
    certain = keypoints.copy()
    certain[..., 2] = 1
    np.testing.assert_array_equal(
        lifter(keypoints[..., :2], layout="h36m17", image_size=SIZE), lifter(certain, layout="h36m17", image_size=SIZE)
    )


def test_a_person_lifted_alone_and_among_others_is_the_same(lifter):
    lifter = replace(lifter, passes=0)  # what is up is told from all that is seen
    first, second = track_of(walker_keypoints(12)), track_of(walker_keypoints(15, start=1.0), person="b", first_frame=4)
    both = lifter.lift(recording_of(first, second))
    assert [(person.person, person.first_frame, len(person)) for person in both.people] == [("0", 0, 12), ("b", 4, 15)]
    alone = lifter.lift(recording_of(first, second), LiftOptions(persons=("b",)))
    np.testing.assert_allclose(alone.people[0].joints_camera_m, both.people[1].joints_camera_m, atol=ATOL_M)


def test_the_fitted_pose_lies_on_the_keypoints(lifter):
    camera = WALKER_CAMERA
    keypoints = walker_keypoints(12)
    lifted = lifter.lift(recording_of(track_of(keypoints)), LiftOptions(focal_px=float(camera.focal_px[0])))
    person = lifted.people[0]
    pixels = project(person.joints_camera_m + person.root_camera_m[:, None], lifted.camera)
    # An untrained pose fits only roughly; the person's place is right all the same.
    assert np.linalg.norm(pixels.mean(1) - keypoints[..., :2].mean(1), axis=-1).mean() < 30


def test_a_short_gap_is_filled_and_marked_and_a_long_one_stays_empty(lifter):
    keypoints = walker_keypoints(40)
    keypoints[5:8, 13] = np.nan
    keypoints[20:35] = np.nan
    person = lifter.lift(recording_of(track_of(keypoints))).people[0]
    assert person.filled[5:8, 13].all()
    assert person.filled.sum() == 3
    empty = np.isnan(person.joints_camera_m).all((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(empty), np.arange(20, 35))
    np.testing.assert_array_equal(np.isnan(person.root_camera_m).all(1), empty)


def test_what_comes_before_a_long_gap_does_not_depend_on_what_comes_after(lifter):
    lifter = replace(lifter, passes=0)  # what is up is told from all that is seen
    keypoints = walker_keypoints(40)
    keypoints[15:30] = np.nan
    whole_m = lifter(keypoints, layout="h36m17", image_size=SIZE)
    np.testing.assert_allclose(whole_m[:15], lifter(keypoints[:15], layout="h36m17", image_size=SIZE), atol=ATOL_M)


def test_keypoints_of_low_confidence_count_as_not_seen(lifter):
    keypoints = walker_keypoints(12)
    weak, hidden = keypoints.copy(), keypoints.copy()
    weak[4:6, 13, 2] = 0.2
    weak[4:6, 13, :2] += 300
    hidden[4:6, 13] = np.nan
    np.testing.assert_allclose(
        lifter(weak, layout="h36m17", image_size=SIZE), lifter(hidden, layout="h36m17", image_size=SIZE)
    )


def test_a_frame_with_less_than_half_of_the_joints_is_not_lifted(lifter):
    keypoints = walker_keypoints(30)
    keypoints[:, :9] = np.nan
    with pytest.raises(
        UserError, match=r"walk\.json: expected a person with at least half of the joints, found 47% of the joints seen"
    ):
        lifter.lift(recording_of(track_of(keypoints)))


def test_legs_outside_the_image_leave_the_rest_liftable(lifter):
    keypoints = walker_keypoints(12)
    keypoints[:, [2, 3, 5, 6]] = np.nan
    person = lifter.lift(recording_of(track_of(keypoints))).people[0]
    assert np.isfinite(person.joints_camera_m).all()
    assert np.isfinite(person.root_camera_m).all()
    assert np.isnan(person.pixels[:, 3]).all()


def test_what_was_assumed_is_said(lifter):
    lifted = lifter.lift(recording_of(track_of(walker_keypoints(12)), rate_hz=None))
    assert lifted.rate_hz == 30
    assert lifted.assumed[0] == "lens: a field of view of 60 degrees over the longer side (866 px)"
    assert lifted.assumed[1] == "rate: 30 Hz, the model's"
    assert lifted.assumed[2].startswith("body size:")
    known = lifter.lift(recording_of(track_of(walker_keypoints(12))), LiftOptions(focal_px=1145.0))
    assert len(known.assumed) == len(lifted.assumed) - 2


def test_a_camera_of_the_file_is_used_unless_another_lens_is_stated(lifter):
    camera = Camera("file", *SIZE, (900.0, 900.0), (500.0, 500.0))
    recording = replace(recording_of(track_of(walker_keypoints(12))), camera=camera)
    assert lifter.lift(recording).camera == camera
    assert lifter.lift(recording, LiftOptions(fov_deg=90.0)).camera.focal_px == pytest.approx((500, 500))


def test_smoothing_is_off_by_default_and_smooths(lifter):
    recording = recording_of(track_of(walker_keypoints(60, jitter_px=5.0)))
    plain, smooth = lifter.lift(recording), lifter.lift(recording, LiftOptions(smooth="savgol"))
    jerk = [np.abs(np.diff(lifted.people[0].joints_camera_m, 3, axis=0)).mean() for lifted in (plain, smooth)]
    assert jerk[1] < 0.5 * jerk[0]


def test_a_model_of_the_middle_frame_lifts_too(tmp_path):
    lifter = Lifter.load(write_small_checkpoint(tmp_path / "run0", "poseformer"))
    assert lifter.stride == 1
    assert np.isfinite(lifter(walker_keypoints(3), layout="h36m17", image_size=SIZE)).all()


def test_a_model_without_confidence_lifts_too(tmp_path):
    lifter = Lifter.load(write_small_checkpoint(tmp_path / "run0", "linear", in_channels=2))
    assert np.isfinite(lifter(walker_keypoints(3), layout="h36m17", image_size=SIZE)).all()


@pytest.mark.parametrize(
    ("keypoints", "layout", "message"),
    [
        (np.zeros((3, 17, 2)), "h36m16", "layout: expected one of .*, found 'h36m16'"),
        (np.zeros((3, 16, 2)), "h36m17", r"keypoints: expected an array of shape \(frames, 17, 2 or 3\).*, found"),
        (np.zeros((0, 17, 2)), "h36m17", "keypoints: expected an array of shape"),
        (np.full((3, 17, 3), 2.0), "h36m17", "keypoints: expected confidence from 0 to 1, found 2 to 2"),
        (np.full((3, 17, 2), np.nan), "h36m17", "keypoints: expected a person with at least half of the joints"),
        (np.zeros((3, 17, 3)), "h36m17", "keypoints: expected a person with at least half of the joints"),
        (np.full((3, 17, 2), 5000.0), "h36m17", "expected people in an image of 1000x1000 px, found 51 of 51"),
    ],
)
def test_arrays_that_cannot_be_lifted_are_refused(lifter, keypoints, layout, message):
    with pytest.raises(UserError, match=message):
        lifter(keypoints, layout=layout, image_size=SIZE)


def test_an_impossible_rate_is_not_taken_for_the_models(lifter):
    with pytest.raises(UserError, match="expected a rate in Hz over 0, found 0"):
        lifter(walker_keypoints(3), layout="h36m17", image_size=SIZE, rate_hz=0.0)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"tracks": ()}, {}, "expected at least one person, found none in 5 frames"),
        ({}, {"persons": ("7",)}, "person: expected one of 0, found '7'"),
        ({"image_size_px": None}, {}, "expected the size of the image, found none"),
        ({"rate_hz": 0.0}, {}, "expected a rate in Hz over 0, found 0"),
        ({}, {"smooth": "kalman"}, "smooth: expected one of one-euro, savgol, found 'kalman'"),
    ],
)
def test_recordings_and_options_that_cannot_be_lifted_are_refused(lifter, changes, options, message):
    recording = replace(recording_of(track_of(walker_keypoints(5))), **changes)
    with pytest.raises(UserError, match=message):
        lifter.lift(recording, LiftOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 10}, "stride: expected 1 to 9 frames, found 10"),
        ({"max_gap_s": -1.0}, "longest gap: expected seconds from 0, found -1"),
        ({"min_confidence": 2.0}, "least confidence: expected a number from 0 to 1, found 2"),
        ({"rate_hz": 0.0}, "expected the rate of its training data in Hz over 0, found 0"),
    ],
)
def test_a_lifter_refuses_impossible_settings(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        Lifter.load(write_small_checkpoint(tmp_path / "run0"), **options)


def test_the_rate_of_the_training_data_must_be_known_or_stated(tmp_path):
    folder = write_small_checkpoint(tmp_path / "run0", row="mpi_inf_3dhp-gt-f9-rayformer", rate_hz=None)
    with pytest.raises(UserError, match="expected the rate of its training data in Hz over 0, found none known"):
        Lifter.load(folder)
    assert Lifter.load(folder, rate_hz=25.0).rate_hz == 25


def test_a_missing_checkpoint_is_one_line_and_the_shipped_one_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"elsewhere: expected a checkpoint, found none$"):
        Lifter.load("elsewhere")
    with pytest.raises(UserError, match=f"fetch it with: dvc pull {SHIPPED}$"):
        Lifter.load()


def test_a_model_of_another_layout_takes_its_own_keypoints_only(tmp_path):
    lifter = Lifter.load(write_small_checkpoint(tmp_path / "run0", "linear", in_skeleton="humaneva15"))
    with pytest.raises(UserError, match="layout: expected 'humaneva15', which the model takes, found 'h36m17'"):
        lifter(walker_keypoints(3), layout="h36m17", image_size=SIZE)
