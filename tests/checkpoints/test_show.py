"""Tool show: the clip that was asked for, its prediction beside its truth, in the world, and its error."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.checkpoints.show import Selection, clip_scene, show
from pipeline.poses.checkpoint import build_model, write_checkpoint
from pipeline.poses.clips import read_split
from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.poses.metrics import mpjpe_mm
from pipeline.system.errors import UserError
from tests.fixtures.browser import opened
from tests.fixtures.networks import make_card
from tests.fixtures.walker import change_json, walker_clip, write_prepared

ROW = "walker-gt-f9-rayformer"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Prepared data of a row of walkers, and a checkpoint without training."""
    folder = tmp_path_factory.mktemp("show")
    write_prepared(folder / "prepared" / ROW)
    card = make_card("rayformer", row=ROW)
    torch.manual_seed(0)
    checkpoint = folder / "checkpoints" / ROW / "run0"
    checkpoint.mkdir(parents=True)
    write_checkpoint(checkpoint, build_model(card).state_dict(), card)
    return folder


def show_clip(folders, selection, **changes):
    where = {"run": 0, "out": folders / "out.html"} | changes
    return show(ROW, selection, prepared=folders / "prepared", checkpoints=folders / "checkpoints", **where)


def scene_of(folders, clip):
    return clip_scene(clip, folders / "prepared" / ROW, folders / "checkpoints" / ROW / "run0", split="validation")


def test_prediction_and_truth_stand_in_the_world_and_the_error_is_theirs(folders):
    clip = read_split(folders / "prepared" / ROW / "validation")[0]
    scene = scene_of(folders, clip)
    prediction, truth = scene.bodies
    world_m = clip.camera.camera_from_world.inverse().apply(clip.joints_camera_m.astype(float))
    np.testing.assert_allclose(truth.joints_world_m, world_m, atol=1e-5)
    np.testing.assert_allclose(prediction.joints_world_m[:, 0], world_m[:, 0], atol=1e-5)
    assert truth.faint
    assert not prediction.faint
    np.testing.assert_allclose(scene.error_mm, mpjpe_mm(prediction.joints_world_m, truth.joints_world_m), rtol=1e-4)
    np.testing.assert_array_equal(prediction.pixels, clip.pixels)
    assert "Colour: walker-gt-f9-rayformer run 0; grey: truth." in scene.caption


def test_without_the_cameras_place_people_stand_upright_and_the_caption_says_so(folders):
    clip = walker_clip(20, angle=0.5)
    unknown = Camera(**{**vars(clip.camera), "camera_from_world": RigidTransform()})
    level = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # of a camera at breast height that looks ahead
    joints_m = clip.joints_camera_m @ np.eye(3, dtype=np.float32)
    scene = scene_of(folders, type(clip)(**{**vars(clip), "camera": unknown, "joints_camera_m": joints_m}))
    truth_m = scene.bodies[1].joints_world_m
    assert "tilt is unknown" in scene.caption
    assert (truth_m[:, 10, 2] > 1.2).all()
    assert np.percentile(truth_m[..., 2].min(1), 5) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(truth_m - truth_m[:, :1], (joints_m - joints_m[:, :1]) @ level, atol=1e-5)


def test_a_page_of_the_clip_opens(folders, browser):
    path = show_clip(folders, Selection(action="running"))
    with opened(browser, path) as page:
        assert "running" in page.locator("h2").inner_text()
        assert page.locator(".poselift-viewer .pl-curve").is_visible()


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_films_and_pictures_are_written_by_their_suffix(folders, suffix):
    path = show_clip(folders, Selection(action="running"), out=folders / f"clip{suffix}")
    assert path.read_bytes()[:8] == {".mp4": b"\0\0\0 ftyp", ".png": b"\x89PNG\r\n\x1a\n"}[suffix]


@pytest.mark.parametrize(
    ("selection", "complaint"),
    [
        (Selection(action="dancing"), "action: expected one of running, walking, found 'dancing'"),
        (Selection(subject="person 9"), "subject: expected one of person 0, person 1, found 'person 9'"),
        (Selection(action="running", camera="x"), "camera of action running: expected one of at_2.5, found 'x'"),
        (Selection(subject="person 0", take="t"), "take of subject person 0: expected one of walk_0, found 't'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(folders, selection, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        show_clip(folders, selection)


def test_a_wrong_split_suffix_or_row_is_refused(folders):
    with pytest.raises(UserError, match="split: expected one of train, validation, test, found 'dev'"):
        show_clip(folders, Selection(split="dev"))
    with pytest.raises(UserError, match=r"out\.pdf: expected a name that ends in \.html, \.mp4, \.gif, \.png"):
        show_clip(folders, Selection(), out=folders / "out.pdf")
    with pytest.raises(UserError, match=r"none: expected prepared data, found none: poselift prepare_data"):
        show("none", Selection(), run=0, prepared=folders, checkpoints=folders)


def test_a_model_of_other_keypoints_is_refused(folders):
    with pytest.raises(UserError, match="expected a model of 17 keypoints, 17 joints and 3 channels as in the prep"):
        scene_of(folders, walker_clip(9, with_confidence=True))


def test_weights_that_predict_no_metres_are_refused(folders, tmp_path):
    checkpoint = shutil.copytree(folders / "checkpoints" / ROW / "run0", tmp_path / "run0")
    change_json(checkpoint / "card.json", output_unit="half_image_widths")
    with pytest.raises(UserError, match=r"run0: expected weights that predict metres, found half image widths .* lift"):
        clip_scene(walker_clip(9), folders / "prepared" / ROW, checkpoint, split="validation")


def test_the_command_says_what_it_wrote(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = ["--prepared", str(folders / "prepared"), "--checkpoints", str(folders / "checkpoints")]
    result = CliRunner().invoke(app, ["show", ROW, "--split", "test", "--subject", "person 1", *where])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == f"{ROW}-run0-walk_1-at_2.5.html"
    assert (tmp_path / result.output.strip()).is_file()
