"""The overlay: people where they are in the video, on the frame that they were seen in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.lift.lift_file import lift_file
from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs.scene import choose_pictures
from pipeline.lift.people import FilmedOn, InputOptions, Lifted
from pipeline.lift.video.frames import VideoFrame
from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from pipeline.visualization.overlay import project_visible, write_overlay
from pipeline.visualization.palette import SINGLE
from pipeline.visualization.scene import Body, Scene
from tests.fixtures.lifting import walker_keypoints, write_small_checkpoint
from tests.fixtures.videos import write_video
from tests.fixtures.walker import walker_joints_world_m
from tests.visualization.test_movie import decoded, places

SIZE = (640, 360)
CAMERA = Camera("lens", *SIZE, (600.0, 600.0), (320.0, 180.0), camera_from_world=RigidTransform(
    np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), np.array([0.0, 0.9, 5.0])
))  # fmt: skip


QUARTER_TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def made_lifted(frames, rate_hz):
    """Nobody in so many frames: what choosing pictures looks at."""
    return Lifted("clip", frames, rate_hz, SIZE, H36M_17, H36M_17, CAMERA, RigidTransform(), (), (), {})


def video_of(times_s, size=SIZE):
    """Frames of which each is as bright as its number."""
    return [VideoFrame(float(time_s), np.full((size[1], size[0], 3), n, np.uint8)) for n, time_s in enumerate(times_s)]


def chosen(times_s, lifted, *, numbered, size=SIZE):
    pictures = choose_pictures(video_of(times_s, size), lifted, FilmedOn(Path("clip.mp4"), numbered))
    # Not strict: zip asks for one picture more than there are frames, and so the count at the end is checked.
    return [int(picture[0, 0, 0]) for picture, _ in zip(pictures, range(lifted.frames), strict=False)]


def test_of_a_variable_rate_the_picture_nearest_in_time_is_taken():
    times_s = np.array([0.0, 0.033, 0.066, 0.166, 0.2, 0.507, 0.535, 0.55])
    lifted = made_lifted(56, 100.0)
    nearest = [int(np.abs(times_s - k / 100).argmin()) for k in range(56)]
    assert chosen(times_s, lifted, numbered=False) == nearest


def test_keypoints_of_a_file_belong_to_frames_by_number():
    assert chosen([0.0, 0.5, 0.51, 2.0], made_lifted(4, 30.0), numbered=True) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [3, 6])
def test_a_video_of_more_or_fewer_frames_than_the_keypoints_is_refused(count):
    pictures = choose_pictures(video_of(np.arange(count) / 30), made_lifted(4, 30.0), FilmedOn(Path("clip.mp4"), True))
    with pytest.raises(UserError, match=rf"clip\.mp4: expected a video of 4 frames, .* found {count}"):
        list(pictures)


def test_a_video_of_another_shape_is_refused_and_a_smaller_copy_is_not():
    assert chosen([0.0], made_lifted(1, 30.0), numbered=True, size=(320, 180)) == [0]
    with pytest.raises(UserError, match="expected pictures in the shape of 640x360, found 360x640"):
        chosen([0.0], made_lifted(1, 30.0), numbered=True, size=(360, 640))


@pytest.mark.parametrize("brightness", [10, 245])
def test_bodies_are_drawn_where_the_camera_sees_them_on_dark_and_on_bright_pictures(tmp_path, brightness):
    joints_m = walker_joints_world_m(2)
    joints_m = (joints_m - joints_m[:, :1] * [1, 1, 0]) @ QUARTER_TURN  # sides side by side
    pixels = np.stack([project_visible(CAMERA.camera_from_world.apply(frame), CAMERA) for frame in joints_m])
    scene = Scene("a walker", "Drawn.", 30.0, (Body("0", H36M_17, joints_m, pixels=pixels, in_skeleton=H36M_17),))
    picture = np.full((SIZE[1], SIZE[0], 3), brightness, np.uint8)
    write_overlay(tmp_path / "walk.mp4", scene, CAMERA, [picture, picture])
    _, pictures = decoded(tmp_path / "walk.mp4")
    video = pictures[0][:, :1280]
    assert pictures.shape[1:3] == (720, 1920)
    assert abs(int(np.median(video)) - brightness) < 8  # the video's own frame, as bright as it was
    for side, joints in (("left", H36M_17.left), ("right", H36M_17.right)):
        colour = [int(getattr(SINGLE[0], side)[i : i + 2], 16) for i in (1, 3, 5)]
        found = places(video, colour)[:, ::-1]
        for joint in joints:
            assert np.linalg.norm(found - 2 * pixels[0, joint], axis=1).min() < 4
        lowest, highest = 2 * pixels[0, list(joints)].min(0) - 8, 2 * pixels[0, list(joints)].max(0) + 8
        assert ((found > lowest) & (found < highest)).mean() > 0.9  # the rest goes to the middle


def test_who_is_behind_the_camera_or_not_there_is_not_drawn():
    joints_m = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, -1.0], [np.nan, 0.0, 5.0]])
    np.testing.assert_array_equal(project_visible(joints_m, CAMERA), [[320, 180], [np.nan] * 2, [np.nan] * 2])


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return Lifter.load(write_small_checkpoint(tmp_path_factory.mktemp("overlay") / "run0"))


def write_keypoints(path, frames, **more):
    np.savez(path, keypoints=walker_keypoints(frames), layout="h36m17", image_size=[1000, 1000], **more)
    return path


def test_a_keypoint_file_needs_its_video_which_is_as_fast(tmp_path, lifter):
    source = write_keypoints(tmp_path / "keypoints.npz", 120)
    video = write_video(tmp_path / "clip.mp4", np.arange(120) / 60)
    on_video, on_absent = InputOptions(overlay_on=video), InputOptions(overlay_on=tmp_path / "absent.mp4")
    with pytest.raises(UserError, match=r"keypoints\.npz: expected --overlay-on and the video of its keypoints"):
        lift_file(source, tmp_path / "out", lifter=lifter, outputs=["overlay"])
    with pytest.raises(UserError, match=r"absent\.mp4: expected a video, found none"):
        lift_file(source, tmp_path / "out", lifter=lifter, input_options=on_absent, outputs=["overlay"])
    with pytest.raises(UserError, match=r"clip\.mp4: expected the video of keypoints at 30 Hz, .* --rate-hz 60"):
        lift_file(source, tmp_path / "out", lifter=lifter, input_options=on_video, outputs=["overlay"])
    with pytest.raises(UserError, match=r"clip\.mp4: expected pictures in the shape of 1000x1000, found 96x64"):
        lift_file(
            source,
            tmp_path / "out",
            lifter=lifter,
            input_options=replace(on_video, rate_hz=60.0),
            outputs=["overlay"],
        )
    assert not (tmp_path / "out").exists()
