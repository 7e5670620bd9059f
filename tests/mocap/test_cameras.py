"""Virtual cameras stand where they should, drop exactly what they do not see, and depend on the take's name alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.mocap.cameras import Take, film, generator_named, place_cameras
from pipeline.mocap.lenses import LENSES
from pipeline.poses.clips import check_clip
from pipeline.poses.geometry import frames_in_view, project


def walker(name: str = "walker", *, frames: int = 60, speed_mps: float = 1.0) -> Take:
    """A stiff 1.7 m figure that glides along +x from the origin, at 60 Hz."""
    body_m = np.zeros((17, 3))
    body_m[:, 2] = np.linspace(0.0, 1.7, 17)
    body_m[:, 1] = np.linspace(-0.3, 0.3, 17)
    path_m = np.zeros((frames, 1, 3))
    path_m[:, 0, 0] = np.arange(frames) * speed_mps / 60
    return Take(name, "li", "walking", "train", "35", 60.0, body_m + path_m)


@pytest.fixture(scope="module")
def some_takes(takes) -> list[Take]:
    return list(takes.values())[::10]


def test_a_generator_is_named_by_all_its_names():
    draws = {generator_named(*names).integers(1 << 60) for names in (("a",), ("b",), ("a", "c"), ("c", "a"))}
    assert len(draws) == 4
    assert generator_named("a", "c").integers(1 << 60) == generator_named("a", "c").integers(1 << 60)


def test_the_seed_of_a_name_never_changes():
    # Prepared data of earlier versions can be made again only as long as this holds.
    assert generator_named("test_walking_1").uniform(0, 360) == pytest.approx(283.3501376384)


def test_cameras_stand_upright_around_the_path_at_human36m_distances(some_takes):
    for take in some_takes:
        path_m = take.joints_world_m[:, 0, :2]
        target_m = np.append((path_m.min(0) + path_m.max(0)) / 2, 0.9)
        cameras = place_cameras(take.name, take.joints_world_m)
        positions_m = np.array([camera.camera_from_world.inverse().translation_m for camera in cameras])
        distances_m = np.linalg.norm((positions_m - target_m)[:, :2], axis=-1)
        assert ((distances_m >= 4.5) & (distances_m <= 6.0)).all()
        assert ((positions_m[:, 2] >= 1.5) & (positions_m[:, 2] <= 1.8)).all()
        for camera in cameras:
            on_axis = camera.camera_from_world.apply(target_m)
            np.testing.assert_allclose(on_axis[:2], 0, atol=1e-9)
            assert on_axis[2] > 0
            assert camera.camera_from_world.rotation[0, 2] == pytest.approx(0, abs=1e-12)
            assert camera.camera_from_world.rotation[1, 2] < -0.9


def test_cameras_have_the_lenses_of_human36m():
    cameras = place_cameras("walker", walker().joints_world_m)
    assert [
        replace(camera, camera_from_world=lens.camera_from_world) for camera, lens in zip(cameras, LENSES, strict=True)
    ] == list(LENSES)


def test_two_cameras_stand_in_front_and_two_behind(some_takes):
    # Azimuths 70, -70, 110, -110 degrees from a heading, each within 15 degrees.
    for take in some_takes:
        path_m = take.joints_world_m[:, 0, :2]
        cameras = place_cameras(take.name, take.joints_world_m)
        positions_m = np.array([camera.camera_from_world.inverse().translation_m[:2] for camera in cameras])
        across_m = positions_m - (path_m.min(0) + path_m.max(0)) / 2
        azimuths_deg = np.degrees(np.arctan2(across_m[:, 1], across_m[:, 0]))
        gaps_deg = np.diff(azimuths_deg) % 360
        assert (np.abs(gaps_deg - [220, 180, 140]) <= 30).all()


def test_no_two_cameras_stand_equally_far_from_their_target(some_takes):
    # Each camera of each take draws its own place.
    depths_m = {
        round(float(camera.camera_from_world.apply(np.append((path_m.min(0) + path_m.max(0)) / 2, 0.9))[2]), 9)
        for take in some_takes
        for path_m in [take.joints_world_m[:, 0, :2]]
        for camera in place_cameras(take.name, take.joints_world_m)
    }
    assert len(depths_m) == 4 * len(some_takes)


def test_headings_are_spread_all_around(takes):
    firsts = [place_cameras(take.name, take.joints_world_m)[0] for take in takes.values()]
    forward = np.array([camera.camera_from_world.rotation[2, :2] for camera in firsts])
    headings = np.arctan2(forward[:, 1], forward[:, 0])
    assert abs(np.exp(1j * headings).mean()) < 0.2
    assert len(set(headings.round(6))) == len(takes)


@pytest.mark.parametrize("detector_level", [None, 1.3])
def test_dropped_and_kept_frames_are_all_frames(detector_level, some_takes):
    for take in some_takes:
        clips, dropped = film(take, rate_hz=30.0, detector_level=detector_level)
        frames = len(take.joints_world_m[::2])
        assert list(dropped) == [lens.name for lens in LENSES]
        for camera, missing in dropped.items():
            kept = [clip for clip in clips if clip.camera.name == camera]
            numbers = [clip.first_frame + offset for clip in kept for offset in range(len(clip))]
            assert len(set(numbers)) == len(numbers) == frames - missing
            assert set(numbers) <= set(range(frames))


def test_every_kept_joint_is_inside_the_image_and_in_front_of_the_camera(some_takes):
    for take in some_takes:
        for clip in film(take, rate_hz=30.0, detector_level=None)[0]:
            check_clip(clip)
            size_px = [clip.camera.width_px, clip.camera.height_px]
            assert ((clip.pixels >= 0) & (clip.pixels <= size_px)).all()
            assert clip.joints_camera_m[..., 2].min() > 1
            # Far off the axis the lens polynomial folds back into the image; nothing seen is there.
            rays = clip.joints_camera_m[..., :2] / clip.joints_camera_m[..., 2:]
            assert np.abs(rays).max() < 0.5


def test_exact_keypoints_are_the_projected_joints(some_takes):
    for take in some_takes:
        for clip in film(take, rate_hz=30.0, detector_level=None)[0]:
            assert clip.confidence is None
            projected = project(clip.joints_camera_m.astype(np.float64), clip.camera)
            np.testing.assert_allclose(clip.pixels, projected, rtol=0, atol=1e-3)


def test_joints_are_those_of_the_take_from_the_first_frame_on(some_takes):
    cut = 0
    for take in some_takes:
        for clip in film(take, rate_hz=20.0, detector_level=None)[0]:
            shown = take.joints_world_m[::3][clip.first_frame : clip.first_frame + len(clip)]
            joints_world_m = clip.camera.camera_from_world.inverse().apply(clip.joints_camera_m.astype(np.float64))
            np.testing.assert_allclose(joints_world_m, shown, rtol=0, atol=2e-6)
            cut += clip.first_frame > 0
    assert cut  # some clips must begin later, else the test shows nothing


def test_a_clip_ends_only_where_the_body_leaves_the_image():
    # 16 m along +x: on both sides of the middle the figure walks out of every camera's image.
    take = walker(frames=600, speed_mps=1.6)
    clips, dropped = film(take, rate_hz=60.0, detector_level=None)
    assert all(missing > 0 for missing in dropped.values())
    for camera in place_cameras(take.name, take.joints_world_m):
        seen = frames_in_view(camera.camera_from_world.apply(take.joints_world_m), camera)
        mine = [clip for clip in clips if clip.camera.name == camera.name]
        for clip in mine:
            end = clip.first_frame + len(clip)
            assert seen[clip.first_frame : end].all()
            assert clip.first_frame == 0 or not seen[clip.first_frame - 1]
            assert end == len(seen) or not seen[end]


def test_a_clip_says_what_it_shows():
    clips, dropped = film(walker(), rate_hz=30.0, detector_level=None)
    assert dropped == {lens.name: 0 for lens in LENSES}
    assert [clip.name for clip in clips] == [f"walker/{lens.name}/0" for lens in LENSES]
    assert {(clip.subset, clip.subject, clip.action, clip.rate_hz) for clip in clips} == {
        ("li", "li-35", "walking", 30.0)
    }


def test_a_detector_changes_the_keypoints_and_nothing_else(some_takes):
    for take in some_takes[:4]:
        exact, exactly_dropped = film(take, rate_hz=30.0, detector_level=None)
        detected, dropped = film(take, rate_hz=30.0, detector_level=1.0)
        assert dropped == exactly_dropped
        for one, other in zip(exact, detected, strict=True):
            assert one.name == other.name
            np.testing.assert_array_equal(one.joints_camera_m, other.joints_camera_m)
            assert not np.array_equal(one.pixels, other.pixels)
            assert other.confidence is not None
            check_clip(other)


def test_filming_twice_gives_the_same_and_another_name_gives_another_view():
    first, again, other = (film(walker(name), rate_hz=30.0, detector_level=1.0)[0] for name in ("a", "a", "b"))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        assert not np.allclose(one.joints_camera_m, three.joints_camera_m, atol=0.01)


def test_the_cameras_of_one_take_are_detected_independently():
    exact = film(walker(), rate_hz=60.0, detector_level=None)[0]
    detected = film(walker(), rate_hz=60.0, detector_level=1.0)[0]
    errors = [(two.pixels - one.pixels).ravel() for one, two in zip(exact, detected, strict=True)]
    assert np.abs(np.corrcoef(errors) - np.eye(4)).max() < 0.5
