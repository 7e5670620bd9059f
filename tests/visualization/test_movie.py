"""Films and strips, decoded again: right rate and length, people upright, left on the left, nothing half-written."""

from __future__ import annotations

import re
import resource
import subprocess
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from matplotlib.image import imread

from pipeline.system.errors import UserError
from pipeline.visualization.framing import frame_scene
from pipeline.visualization.movie import write_movie, write_strip
from pipeline.visualization.palette import SINGLE
from pipeline.visualization.panels import _perspective
from tests.fixtures.scenes import walking_scene

LEFT, RIGHT, MIDDLE = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in SINGLE[0])


def decoded(path):
    """What the film says of itself, and its pictures (F H W 3)."""
    call = [get_ffmpeg_exe(), "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(call, check=True, capture_output=True, timeout=60)
    about = result.stderr.decode().split("Output #0")[0]
    width, height = map(int, re.search(r" (\d\d+)x(\d\d+)", about).groups())
    return about, np.frombuffer(result.stdout, "u1").reshape(-1, height, width, 3)


def places(picture, colour):
    """Rows and columns of the points that are (about) of a colour."""
    return np.argwhere(np.abs(picture.astype(int) - colour).max(-1) < 30)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "walk.mp4"
    write_movie(path, walking_scene(12))
    return decoded(path)


def test_a_film_has_every_frame_at_the_scenes_rate(film):
    about, pictures = film
    assert "Video: h264" in about
    assert " 30 fps" in about
    assert "Duration: 00:00:00.40" in about
    assert pictures.shape == (12, 720, 1280, 3)
    assert all((before != after).any() for before, after in pairwise(pictures))


def test_the_film_shows_left_where_the_video_does_and_feet_below(film):
    _, pictures = film
    scene = walking_scene(12)
    picture = pictures[0]
    space, flat = picture[80:590, 20:780], picture[80:590, 792:]
    pixels = scene.bodies[0].pixels[0]
    side = np.sign(pixels[[4, 5, 6]].mean(0)[0] - pixels[[1, 2, 3]].mean(0)[0])
    for panel in (space, flat):
        assert side * (places(panel, LEFT).mean(0)[1] - places(panel, RIGHT).mean(0)[1]) > 0
    head, limbs = places(space, MIDDLE), np.concatenate([places(space, LEFT), places(space, RIGHT)])
    assert head[:, 0].min() < limbs[:, 0].min()
    assert limbs[:, 0].max() > head[:, 0].max() + 100


def test_a_person_has_a_head_in_every_frame(film):
    _, pictures = film
    for picture in pictures:
        space = picture[80:590, 20:780]
        middle = places(space, MIDDLE)
        top = middle[middle[:, 0] < middle[:, 0].min() + 20]
        assert np.ptp(top[:, 1]) > 20  # a neck is thinner


def test_people_near_and_far_are_wholly_in_the_picture_and_fill_it(tmp_path):
    scene = walking_scene(6, people=2)
    near, far, _ = scene.bodies
    away_m = np.array([0.0, 6.0, 0.0])
    people = (near, replace(far, joints_world_m=far.joints_world_m + away_m, pixels=None))
    write_movie(tmp_path / "walk.mp4", replace(scene, bodies=people, error_mm=None))
    _, pictures = decoded(tmp_path / "walk.mp4")
    panel = pictures[0][92:668, 22:926].astype(int)
    coloured = np.argwhere(np.ptp(panel, axis=-1) > 60)
    assert coloured.min() > 10
    assert (coloured.max(0) < np.array(panel.shape[:2]) - 10).all()
    assert (np.ptp(coloured, axis=0) / panel.shape[:2]).max() > 0.5


def test_a_metre_across_is_as_long_as_a_metre_up():
    scene = walking_scene(5)
    view = frame_scene(scene)
    across = np.array([np.cos(view.yaw), np.sin(view.yaw), 0])
    ends = view.centre_m[0] + 0.01 * np.stack([0 * across, across, [0, 0, 1]])
    origin, right, up = _perspective(ends, view.centre_m[0], view.yaw, 3.0, (400.0, 300.0))[:, :2]
    assert np.linalg.norm(right - origin) == pytest.approx(np.linalg.norm(up - origin), rel=0.02)
    assert up[1] < origin[1]
    assert right[0] > origin[0]


def test_a_gif_lasts_as_long_as_the_scene(tmp_path):
    write_movie(tmp_path / "walk.gif", walking_scene(12))
    about, pictures = decoded(tmp_path / "walk.gif")
    assert float(re.search(r"Duration: 00:00:(\S+),", about)[1]) == pytest.approx(0.4, abs=0.03)
    assert pictures.shape == (12, 360, 640, 3)
    assert len(places(pictures[0], LEFT)) > 30


def test_people_who_are_not_there_are_not_drawn(tmp_path):
    scene = walking_scene(4, gap=slice(1, 3))
    write_movie(tmp_path / "walk.mp4", scene)
    _, pictures = decoded(tmp_path / "walk.mp4")
    assert [len(places(picture[80:590, 20:780], LEFT)) > 0 for picture in pictures] == [True, False, False, True]


def test_a_strip_shows_frames_from_the_first_to_the_last(tmp_path):
    write_strip(tmp_path / "walk.png", walking_scene(30), pictures=4)
    picture = (imread(tmp_path / "walk.png")[..., :3] * 255).round()
    assert picture.shape == (448, 940, 3)
    panels = [picture[74:404, 10 + 230 * place : 240 + 230 * place] for place in range(4)]
    assert all(len(places(panel, LEFT)) > 50 for panel in panels)
    write_strip(tmp_path / "short.png", walking_scene(2))
    assert imread(tmp_path / "short.png").shape[1] == 2 * 230 + 20


@pytest.mark.parametrize("name", ["walk.avi", "walk"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"expected a film's name to end in \.mp4 or \.gif, found"):
        write_movie(tmp_path / name, walking_scene(2))
    with pytest.raises(UserError, match=r"expected a picture's name to end in \.png, found"):
        write_strip(tmp_path / name, walking_scene(2))
    assert list(tmp_path.iterdir()) == []


# The library leaves the pipe of an encoder that has ended to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_film_that_cannot_be_encoded_leaves_nothing(tmp_path):
    endless = replace(walking_scene(2), rate_hz=1e-9)  # which the encoder takes for no rate at all
    with pytest.raises(UserError, match=r"walk\.mp4: expected the film to be encoded, found: .*Broken pipe$"):
        write_movie(tmp_path / "walk.mp4", endless)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["walk.mp4", "walk.gif"])
def test_a_film_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=rf"^{tmp_path / name}: expected "):
            write_movie(tmp_path / name, walking_scene(12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_no_caption_is_cut_but_takes_lines_and_the_panels_keep_their_size(tmp_path):
    long = replace(walking_scene(2), caption="Assumed: a lens of some degrees. " * 12)
    for name, scene in (("short.png", walking_scene(2)), ("long.png", long)):
        write_strip(tmp_path / name, scene)
    short, long = (imread(tmp_path / name)[..., :3] for name in ("short.png", "long.png"))
    more = len(long) - len(short)
    assert more > 14 * 4
    np.testing.assert_array_equal(long[74 + more :], short[74:])
    assert (long[50 : 60 + more] < 0.9).any((1, 2)).mean() > 0.4  # text in all of it
