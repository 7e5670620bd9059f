"""The viewer in a real browser: it draws, plays, scrubs, obeys keys, and asks the network for nothing."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.outputs.scene import build_scene
from pipeline.visualization.framing import frame_scene
from pipeline.visualization.palette import PEOPLE, SINGLE, TRUTH
from pipeline.visualization.viewer import scene_json, viewer_element, viewer_page, viewer_parts
from tests.fixtures.browser import PHONE, opened
from tests.fixtures.lifted_walker import lifted_person, lifted_walkers
from tests.fixtures.scenes import walking_scene
from tests.fixtures.walker import camera_at, walker_joints_world_m

VIEWER = ".poselift-viewer"
SPACE, PICTURE, CURVE = f"{VIEWER} figure:first-child canvas", f"{VIEWER} .pl-picture canvas", f"{VIEWER} .pl-curve"
# How many points of a canvas are of (about) a colour given as [red, green, blue], and their mean place.
FIND = """([canvas, colour]) => {
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0, x = 0, y = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 250 || colour.some((part, c) => Math.abs(data[i + c] - part) > 12)) continue;
    count++; x += (i / 4) % width; y += Math.floor(i / 4 / width);
  }
  return [count, x / count, y / count];
}"""
LEFT, RIGHT, TRUE_POSE, ORANGE = (
    [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for colour in (SINGLE[0].left, SINGLE[0].right, TRUTH[0], PEOPLE[1][0].left)
)


def page_of(tmp_path, *scenes, title="scenes"):
    path = tmp_path / "scenes.html"
    path.write_text(viewer_page(scenes, title=title), encoding="utf-8")
    return path


def drawn(page, selector):
    return page.locator(selector).first.evaluate("canvas => canvas.toDataURL()")


def find(page, selector, colour):
    canvas = page.locator(selector).first.element_handle()
    return page.evaluate(FIND, [canvas, colour])


def frame(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(page.locator(VIEWER).first.get_attribute("data-frame"))


def numbers(packed):
    return np.frombuffer(b64decode(packed["data"]), f"<{packed['type']}") / packed["steps"]


def test_a_single_scene_plays_by_itself_and_stops_at_a_key(tmp_path, browser):
    with opened(browser, page_of(tmp_path, walking_scene())) as page:
        page.wait_for_function(f"Number(document.querySelector('{VIEWER}').dataset.frame) > 2")
        page.keyboard.press("Space")
        stopped, picture = frame(page), drawn(page, SPACE)
        page.wait_for_timeout(150)
        assert frame(page) == stopped
        page.get_by_role("button", name="play").click()
        page.wait_for_function(f"Number(document.querySelector('{VIEWER}').dataset.frame) != {stopped}")
        assert drawn(page, SPACE) != picture
        page.wait_for_function(
            f"Number(document.querySelector('{VIEWER}').dataset.frame) < {stopped}"
        )  # from the start


def test_keys_and_scrubber_go_to_frames_and_change_what_is_drawn(tmp_path, browser):
    with opened(browser, page_of(tmp_path, walking_scene(), walking_scene(title="another"))) as page:
        page.locator(VIEWER).first.focus()
        pictures = {}
        for key, expected in [("End", 39), ("ArrowLeft", 38), ("Shift+ArrowLeft", 8), ("Home", 0), ("ArrowRight", 1)]:
            page.keyboard.press(key)
            assert frame(page) == expected
            pictures[expected] = [drawn(page, canvas) for canvas in (SPACE, PICTURE, CURVE)]
        assert all(len({picture[place] for picture in pictures.values()}) == 5 for place in range(3))
        page.get_by_role("slider", name="frame").first.fill("20")
        assert frame(page) == 20
        assert "21 / 40" in page.locator(f"{VIEWER} .pl-time").first.inner_text()
        assert "40.5 mm" in page.locator(f"{VIEWER} .pl-error").first.inner_text()
        assert page.locator(VIEWER).nth(1).get_attribute("data-frame") == "0"  # the other scene is not touched


def test_drag_turns_wheel_zooms_and_r_resets(tmp_path, browser):
    with opened(browser, page_of(tmp_path, walking_scene(), walking_scene())) as page:
        box = page.locator(SPACE).first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        frame(page)
        first, height = drawn(page, SPACE), find(page, SPACE, LEFT)[0]
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 90, y + 20)
        page.mouse.up()
        frame(page)
        assert drawn(page, SPACE) != first
        page.keyboard.press("r")
        frame(page)
        assert drawn(page, SPACE) == first
        page.mouse.wheel(0, -200)
        frame(page)
        assert find(page, SPACE, LEFT)[0] > 1.3 * height
        page.locator(f"{VIEWER} .pl-reset").first.click()
        frame(page)
        assert drawn(page, SPACE) == first


def test_left_is_left_and_up_is_up_as_in_the_video(tmp_path, browser):
    scene = walking_scene()
    with opened(browser, page_of(tmp_path, scene, scene)) as page:
        frame(page)
        in_space, in_picture = ([find(page, canvas, side) for side in (LEFT, RIGHT)] for canvas in (SPACE, PICTURE))
        assert all(count > 50 for count, *_ in in_space + in_picture)
        assert (in_space[0][1] - in_space[1][1]) * (in_picture[0][1] - in_picture[1][1]) > 0
        pixels = scene.bodies[0].pixels[0]
        assert (in_picture[0][1] - in_picture[1][1]) * (pixels[[4, 5, 6]] - pixels[[1, 2, 3]]).mean(0)[0] > 0
        shadow = page.evaluate(
            FIND.replace("< 250", "> 60 || data[i + 3] < 20"), [page.query_selector(SPACE), [23, 32, 51]]
        )
        assert shadow[2] > in_space[0][2]  # the ground is below


def test_a_frame_without_the_person_draws_the_truth_alone(tmp_path, browser):
    with opened(browser, page_of(tmp_path, walking_scene(gap=slice(10, 20)), walking_scene())) as page:
        page.get_by_role("slider", name="frame").first.fill("15")
        frame(page)
        assert find(page, SPACE, LEFT)[0] == 0
        assert find(page, SPACE, TRUE_POSE)[0] > 50
        assert page.locator(f"{VIEWER} .pl-error b").first.inner_text() == "–"
        page.get_by_role("slider", name="frame").first.fill("25")
        frame(page)
        assert find(page, SPACE, LEFT)[0] > 50


def test_people_have_colours_of_their_own_and_can_be_hidden(tmp_path, browser):
    with opened(browser, page_of(tmp_path, walking_scene(people=3), walking_scene())) as page:
        frame(page)
        assert find(page, SPACE, ORANGE)[0] > 20
        page.get_by_role("button", name="person 2").click()
        frame(page)
        assert find(page, SPACE, ORANGE)[0] == 0
        assert page.get_by_role("button", name="person 2").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize(("scheme", "viewport"), [("light", None), ("dark", None), ("dark", PHONE)])
def test_both_themes_fit_a_desk_and_a_phone(tmp_path, scheme, viewport, browser):
    with opened(browser, page_of(tmp_path, walking_scene(people=2)), scheme=scheme, viewport=viewport) as page:
        frame(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = page.locator(VIEWER).evaluate("element => getComputedStyle(element).backgroundColor")
        light = sum(int(part) for part in background[4:-1].split(",")) / 3
        assert light > 200 if scheme == "light" else light < 60
        assert page.locator(SPACE).bounding_box()["height"] > 250
        names = page.evaluate(
            f"[...document.querySelectorAll('{VIEWER} :is(button,input,select,canvas)')]"
            ".map((e) => e.getAttribute('aria-label') || e.textContent)"
        )
        assert all(names)


def test_who_wants_less_motion_is_not_played_at(tmp_path, browser):
    with opened(browser, page_of(tmp_path, walking_scene())) as page:
        page.emulate_media(reduced_motion="reduce")
        page.reload()
        page.wait_for_timeout(200)
        assert page.locator(VIEWER).get_attribute("data-playing") == "false"
        assert find(page, SPACE, LEFT)[0] > 50


def test_another_page_mounts_viewers_where_it_likes(tmp_path, browser):
    parts = viewer_parts()
    path = tmp_path / "page.html"
    path.write_text(
        f"<!doctype html><meta charset=utf-8><style>{parts.css}</style><h1>Mine</h1>{viewer_element(walking_scene(5))}"
        f"<div id=own></div><script>{parts.js}</script>"
        f"<script>mountViewer(document.getElementById('own'), {scene_json(walking_scene(6, title='own'))})</script>",
        encoding="utf-8",
    )
    with opened(browser, path) as page:
        assert page.locator(VIEWER).count() == 2
        assert page.locator("h2").all_inner_texts() == ["a walker", "own"]
        assert page.locator(VIEWER).nth(1).get_attribute("data-frame") == "0"


def test_positions_are_kept_to_the_millimetre_and_gaps_are_gaps():
    scene = walking_scene(12, gap=slice(3, 5))
    far = replace(scene, bodies=(replace(scene.bodies[0], joints_world_m=scene.bodies[0].joints_world_m + 100.0),))
    for own in (scene, far):
        packed = json.loads(scene_json(own))["bodies"][0]["joints"]
        found = numbers(packed).reshape(12, 17, 3)
        kept = np.r_[0:3, 5:12]
        np.testing.assert_allclose(found[kept], own.bodies[0].joints_world_m[kept], atol=0.00051)
        assert (found[3:5] == np.iinfo(packed["type"]).min / 1000).all()


def test_no_text_of_a_scene_can_end_the_script():
    text = "</script><script>alert(1)</script><!--"
    scene = replace(walking_scene(3, title=text), caption=text)
    assert "<" not in scene_json(scene)
    assert json.loads(scene_json(scene))["title"] == text
    assert viewer_page([scene], title=text).count("<script>alert") == 0


def test_bodies_of_unequal_length_are_a_mistake():
    scene = walking_scene(6)
    with pytest.raises(ValueError, match="a walker: expected bodies and errors of equally many frames"):
        scene_json(replace(scene, error_mm=np.zeros(5)))


def test_a_lifted_recording_becomes_a_scene_of_its_whole_length():
    late = lifted_person(10, name="late", first_frame=15)
    lifted = lifted_walkers(lifted_person(30), late, frames=30)
    scene = build_scene(lifted)
    assert [body.name for body in scene.bodies] == ["person 1", "late"]
    assert np.flatnonzero(np.isfinite(scene.bodies[1].joints_world_m).all((1, 2))).tolist() == list(range(15, 25))
    np.testing.assert_allclose(scene.bodies[0].joints_world_m, walker_joints_world_m(30), atol=1e-9)
    np.testing.assert_array_equal(scene.bodies[1].pixels[15:25], late.pixels)
    assert scene.caption == "2 people, lifted to 3D at 30 Hz. Assumed: a lens of 50 degrees."


def test_the_first_view_is_the_cameras():
    right = camera_at(0.5).camera_from_world.rotation[0]
    yaw = frame_scene(walking_scene(60)).yaw
    assert [np.cos(yaw), np.sin(yaw)] == pytest.approx(right[:2], abs=0.15)  # he is not on its axis


def test_without_keypoints_the_first_view_is_from_the_front():
    scene = walking_scene(5)
    scene = replace(scene, bodies=scene.bodies[-1:])
    yaw = frame_scene(scene).yaw - np.radians(30)
    # At first the walker goes towards +x, so his left is +y, which is to be on the right of the picture.
    assert [np.cos(yaw), np.sin(yaw)] == pytest.approx([0, 1], abs=0.05)


def test_people_who_walk_away_are_followed_and_stay_within_the_picture():
    scene = walking_scene(90)
    moved = scene.bodies[-1].joints_world_m + np.linspace(0, 20, 90)[:, None, None] * [1, 0, 0]
    view = frame_scene(replace(scene, bodies=(replace(scene.bodies[-1], joints_world_m=moved),)))
    assert view.centre_m[-1, 0] - view.centre_m[0, 0] > 15
    assert view.radius_m < 6
    assert np.ptp(view.centre_m[:, 2]) == 0
