"""What other conditions do to a film, against closed forms: where joints are seen, which bones change, what hides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.generalisation.conditions import (
    CAPTURE_HZ,
    Condition,
    View,
    change_body,
    cut_excerpts,
    film_excerpts,
    place_changed_cameras,
)
from pipeline.mocap.cameras import AIM_HEIGHT_M, place_cameras
from pipeline.mocap.cameras import film as film_take
from pipeline.mocap.takes import Take
from pipeline.poses.clips import check_clip
from pipeline.poses.frames import resample
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from tests.fixtures.walker import walker_joints_world_m

TRAINED_HZ = 30.0
EXACT = Condition(rate_hz=TRAINED_HZ, shown_hz=TRAINED_HZ, level=None)


def at_capture_rate(frames: int, **walk: float) -> np.ndarray:
    """The walker at 60 Hz, linear between his frames."""
    joints_m = walker_joints_world_m(frames // 2 + 1, **walk)
    return resample(joints_m, rate_hz=30.0, wanted_hz=60.0)[:frames]


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    return [
        Take(f"{action}_{start}", "li", action, "test", "1", 60.0, at_capture_rate(301, start=start))
        for action in ("walking", "waiting")
        for start in (0.0, 1.0)
    ]


def cut(takes, *views, per_action=6):
    return cut_excerpts(takes, {View(), *views}, rate_hz=TRAINED_HZ, per_action=per_action)


def film(chosen, condition):
    return list(film_excerpts(chosen, condition, trained_hz=TRAINED_HZ))


def bone_lengths_m(joints_m):
    return {joint: np.linalg.norm(joints_m[:, joint] - joints_m[:, parent], axis=-1) for parent, joint in H36M_17.bones}


def test_without_changes_the_film_is_that_of_prepare_data(takes):
    for clip in film(cut(takes), EXACT):
        take = next(take for take in takes if take.name == clip.take)
        joints_m = resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=TRAINED_HZ)
        prepared, _ = film_take(replace(take, rate_hz=TRAINED_HZ, joints_world_m=joints_m), detector_level=None)
        (whole,) = [one for one in prepared if one.camera.name == clip.camera.name]
        scored_at = clip.first_frame * int(TRAINED_HZ) // int(CAPTURE_HZ)
        start = scored_at - int(np.flatnonzero(clip.scored)[0])
        part = slice(start, start + len(clip))
        np.testing.assert_allclose(clip.pixels, whole.pixels[part], atol=1e-3)
        np.testing.assert_allclose(clip.joints_camera_m, whole.joints_camera_m[part], atol=1e-6)
        check_clip(clip)


@pytest.mark.parametrize("raised_m", [-0.7, 0.5, 2.0])
def test_a_raised_camera_sees_the_aim_in_the_middle_and_whoever_stands_before_it_lower(takes, raised_m):
    (trained, *_), path_m = (
        place_changed_cameras(takes[0], View(), rate_hz=TRAINED_HZ),
        takes[0].joints_world_m[::2, 0, :2],
    )
    position_m = trained.camera_from_world.inverse().translation_m
    aim_m = np.append((path_m.min(0) + path_m.max(0)) / 2, AIM_HEIGHT_M)
    across_m = np.linalg.norm(position_m[:2] - aim_m[:2])
    # A point between the camera and the aim, at the aim's height: the angle under the axis is a difference of two.
    nearer_m = aim_m + np.append(0.3 * (position_m[:2] - aim_m[:2]), 0.0)
    height_m = position_m[2] + raised_m
    raised = place_changed_cameras(takes[0], View(height_m=height_m), rate_hz=TRAINED_HZ)[0]
    seen_m = raised.camera_from_world.apply(np.stack([aim_m, nearer_m]))
    np.testing.assert_allclose(seen_m[0, :2], 0, atol=1e-9)
    drop_m = height_m - AIM_HEIGHT_M
    below = np.arctan2(drop_m, 0.7 * across_m) - np.arctan2(drop_m, across_m)
    assert seen_m[1, 1] / seen_m[1, 2] == pytest.approx(np.tan(below))
    lens = replace(raised, radial=(0.0, 0.0, 0.0), tangential=(0.0, 0.0))
    before = replace(trained, radial=(0.0, 0.0, 0.0), tangential=(0.0, 0.0))
    lower = project(seen_m, lens)[1, 1] > project(trained.camera_from_world.apply(nearer_m[None]), before)[0, 1]
    assert lower == (raised_m > 0)


def test_a_view_changes_what_it_names_and_nothing_else(takes):
    for trained, moved in zip(
        place_cameras(takes[0].name, takes[0].joints_world_m[::2]),
        place_changed_cameras(takes[0], View(distance_m=8.0, focal=1.5), rate_hz=TRAINED_HZ),
        strict=True,
    ):
        path_m = takes[0].joints_world_m[::2, 0, :2]
        middle_m = (path_m.min(0) + path_m.max(0)) / 2
        was_m, is_m = (camera.camera_from_world.inverse().translation_m for camera in (trained, moved))
        assert is_m[2] == pytest.approx(was_m[2])
        assert np.linalg.norm(is_m[:2] - middle_m) == pytest.approx(8.0)
        directions = [(place_m[:2] - middle_m) / np.linalg.norm(place_m[:2] - middle_m) for place_m in (was_m, is_m)]
        np.testing.assert_allclose(directions[0], directions[1])
        np.testing.assert_allclose(np.divide(moved.focal_px, trained.focal_px), 1.5)


def test_a_rolled_camera_turns_the_image_clockwise_about_its_axis(takes):
    upright, rolled = (
        place_changed_cameras(takes[0], View(roll_deg=roll), rate_hz=TRAINED_HZ)[1] for roll in (0.0, 90.0)
    )
    joints_m = takes[0].joints_world_m
    x, y, z = np.moveaxis(upright.camera_from_world.apply(joints_m), -1, 0)
    np.testing.assert_allclose(rolled.camera_from_world.apply(joints_m), np.stack([-y, x, z], -1), atol=1e-9)


def test_limbs_scale_the_bones_they_name_and_no_other():
    joints_m = walker_joints_world_m(40)
    before = bone_lengths_m(joints_m)
    after = bone_lengths_m(change_body(joints_m, View(legs=1.2, arms=0.8)))
    names = {"RKnee": 1.2, "RFoot": 1.2, "LKnee": 1.2, "LFoot": 1.2}
    names |= {"RElbow": 0.8, "RWrist": 0.8, "LElbow": 0.8, "LWrist": 0.8}
    for joint, length_m in before.items():
        np.testing.assert_allclose(after[joint], names.get(H36M_17.joints[joint], 1.0) * length_m)


def test_longer_legs_stand_on_the_same_floor():
    joints_m = walker_joints_world_m(40)
    assert change_body(joints_m, View(legs=1.3))[..., 2].min() == pytest.approx(joints_m[..., 2].min())


def test_another_size_is_of_the_whole_body_and_the_same_path():
    joints_m = walker_joints_world_m(40)
    small_m = change_body(joints_m, View(body=0.6))
    np.testing.assert_allclose(small_m - small_m[:, :1], 0.6 * (joints_m - joints_m[:, :1]), atol=1e-12)
    np.testing.assert_allclose(small_m[:, 0, :2], joints_m[:, 0, :2])
    np.testing.assert_allclose(small_m[..., 2], 0.6 * joints_m[..., 2], atol=1e-12)


@pytest.mark.parametrize("shown", ["interpolated", "middle"])
def test_as_many_joints_are_missing_as_was_asked_and_the_others_are_as_they_were(takes, shown):
    chosen = cut(takes)
    seen = Condition(rate_hz=TRAINED_HZ, shown_hz=TRAINED_HZ, level=1.0)
    hidden = replace(seen, missing=0.2, missing_shown=shown)
    before, after = (film(chosen, condition) for condition in (seen, hidden))
    gone = np.concatenate([clip.confidence == 0 for clip in after])
    assert gone.mean() == pytest.approx(0.2, rel=0.1)
    pixels_before, pixels_after = (np.concatenate([clip.pixels for clip in clips]) for clips in (before, after))
    np.testing.assert_array_equal(pixels_after[~gone], pixels_before[~gone])
    middle = np.where(gone[..., None], np.nan, pixels_before)
    is_middle = np.isclose(pixels_after, np.nanmean(middle, 1, keepdims=True), atol=1e-3).all(-1)
    assert is_middle[gone].mean() == pytest.approx(1.0 if shown == "middle" else 0.0, abs=0.01)


@pytest.mark.parametrize("shown", ["as it is", "resampled"])
@pytest.mark.parametrize("rate_hz", [15.0, 25.0, 50.0, 60.0])
def test_all_rates_are_scored_at_the_same_instants(takes, rate_hz, shown):
    chosen = cut(takes)
    other = replace(EXACT, rate_hz=rate_hz, shown_hz=rate_hz if shown == "as it is" else TRAINED_HZ)
    trained, clips = (film(chosen, condition) for condition in (EXACT, other))
    for excerpt, one, two in zip(chosen, trained, clips, strict=True):
        assert one.scored.sum() == two.scored.sum() == excerpt.scored_frames
        np.testing.assert_allclose(one.joints_camera_m[one.scored], two.joints_camera_m[two.scored], atol=1e-6)
        np.testing.assert_allclose(one.pixels[one.scored], two.pixels[two.scored], atol=1e-3)


@pytest.mark.parametrize("frames", [1, 3, 27, 1000])
def test_short_clips_hold_each_scored_instant_once(takes, frames):
    chosen = cut(takes)
    whole = film(chosen, EXACT)
    short = film(chosen, replace(EXACT, frames=frames))
    assert {len(clip) for clip in short} <= {frames, *map(len, whole)}
    assert all(clip.scored.sum() == 1 and len(clip) <= frames for clip in short)
    truth, cut_short = (np.concatenate([c.joints_camera_m[c.scored] for c in clips]) for clips in (whole, short))
    np.testing.assert_array_equal(truth, cut_short)


def test_excerpts_are_seen_by_every_view_and_spread_evenly(takes):
    near = View(distance_m=3.0)
    chosen = cut(takes, near, per_action=5)
    assert [excerpt.take.action for excerpt in chosen] == ["walking"] * 5 + ["waiting"] * 5
    assert len({(e.take.name, e.camera, e.scored) for e in chosen}) == 10
    for view in (View(), near):
        for clip in film(chosen, replace(EXACT, view=view)):
            assert ((clip.pixels >= 0) & (clip.pixels <= [clip.camera.width_px, clip.camera.height_px])).all()


def test_an_action_that_no_camera_sees_is_refused(takes):
    with pytest.raises(UserError, match="expected frames of action walking that all views see, found none"):
        cut(takes, View(distance_m=0.5))


def test_errors_of_the_detector_grow_with_its_level_and_are_drawn_alike(takes):
    chosen = cut(takes)
    exact = film(chosen, EXACT)
    low, high = (film(chosen, replace(EXACT, level=k)) for k in (1.0, 2.0))
    ratios = [
        np.median(np.abs(two.pixels - true.pixels) / np.abs(one.pixels - true.pixels))
        for true, one, two in zip(exact, low, high, strict=True)
    ]
    np.testing.assert_allclose(ratios, 2.0, rtol=1e-3)
