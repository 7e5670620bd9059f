"""Every detector's file gives the people who are in it, and nothing else does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.lift.formats import read_recording
from pipeline.lift.lift_file import lift_file
from pipeline.lift.lifter import Lifter
from pipeline.lift.people import InputOptions, LiftOptions
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import CASES, EMPTY, FRAMES, LOST, coco_results, mmpose, npz, openpose, walkers
from tests.fixtures.lifting import SIZE, write_small_checkpoint

SIZE_STATED = InputOptions(image_size_px=SIZE)
NPZ = ["npz"]
IDS = [f"{name}-{layout}-{writer.__name__}" for name, layout, writer, _ in CASES]


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return Lifter.load(write_small_checkpoint(tmp_path_factory.mktemp("lift") / "run0", "linear"))


@pytest.mark.parametrize("stated", [False, True], ids=["recognised", "stated"])
@pytest.mark.parametrize(("name", "layout", "writer", "confident"), CASES, ids=IDS)
def test_the_people_of_a_file_are_those_who_were_written(tmp_path, name, layout, writer, confident, stated):
    path = writer(tmp_path, layout)
    options = InputOptions(name, layout, image_size_px=SIZE) if stated else SIZE_STATED
    found = read_recording(path, options)
    assert found.frames == FRAMES
    assert found.image_size_px == SIZE
    assert len(found.tracks) == 2
    for track, expected in zip(found.tracks, walkers(layout), strict=True):
        assert (track.layout, track.first_frame, len(track)) == (layout, 0, FRAMES)
        seen = np.arange(FRAMES) != EMPTY
        np.testing.assert_allclose(track.pixels[seen], expected[seen, :, :2], atol=1e-3)
        np.testing.assert_allclose(track.confidence[seen], expected[seen, :, 2] if confident else 1, atol=1e-6)
        assert np.isnan(track.pixels[EMPTY]).all()
        assert not track.confidence[EMPTY].any()


def test_the_summary_explains_the_reading(tmp_path, lifter):
    people = walkers("coco17")
    people[0][:, 3, 2] = 0.1
    people[1][2:4] = np.nan
    stack = np.stack(people)
    np.savez(tmp_path / "a.npz", pixels=stack[..., :2], confidence=stack[..., 2])
    options = InputOptions(layout="coco17", image_size_px=SIZE)
    summary = lift_file(tmp_path / "a.npz", tmp_path / "out", lifter=lifter, input_options=options, outputs=NPZ)
    for line in (
        "  format: npz, recognised by its content",
        "  layout: coco17, stated",
        "  units: pixels, as in all such files; --units to change",
        f" of {FRAMES} frames in 3D, 100.0% of the joints seen, 0.0% of the keypoints filled in",
        "    not used: 5.9% of the joints, under --min-confidence 0.3",
        " frames in 3D, 83.3% of the joints seen, 16.7% of the keypoints filled in\n    not seen in 2 frames",
    ):
        assert line in summary


def test_a_doubt_stops_before_anything_is_written_unless_forced(tmp_path, lifter):
    shares = npz(tmp_path, "h36m17")
    with np.load(shares) as content:
        np.savez(shares, **{**content, "pixels": content["pixels"] / 1000})
    with pytest.raises(UserError, match=r"walk\.npz: expected people .*--units shares"):
        lift_file(shares, tmp_path / "out", lifter=lifter, input_options=SIZE_STATED, outputs=NPZ)
    assert not (tmp_path / "out").exists()
    force, stated = LiftOptions(force=True), InputOptions(image_size_px=SIZE, units="shares")
    lift_file(shares, tmp_path / "forced", lifter=lifter, input_options=SIZE_STATED, lift_options=force, outputs=NPZ)
    lift_file(shares, tmp_path / "right", lifter=lifter, input_options=stated, outputs=NPZ)
    lift_file(npz(tmp_path, "h36m17"), tmp_path / "px", lifter=lifter, input_options=SIZE_STATED, outputs=NPZ)
    found, wanted = (np.load(tmp_path / name / "poses.npz")["person0_joints_world_m"] for name in ("right", "px"))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_pictures_at_intervals_are_lifted_to_every_output(tmp_path, lifter):
    options = InputOptions(image_size_px=SIZE, rate_hz=0.5)
    outputs = ["npz", "json", "csv", "bvh", "glb", "html"]
    lift_file(
        npz(tmp_path, "h36m17"),
        tmp_path / "out",
        lifter=lifter,
        input_options=options,
        outputs=outputs,
    )
    with np.load(tmp_path / "out" / "poses.npz") as poses:  # where an untrained model puts somebody before the camera
        placed = np.isfinite(poses["person0_root_camera_m"])
        np.testing.assert_array_equal(np.isfinite(poses["person0_joints_world_m"])[:, 0], placed)
        assert placed.any()


def test_a_name_that_the_locale_does_not_know_is_written_as_it_is(tmp_path, lifter):
    """Python hands over bytes that the locale's encoding lacks as surrogates, which no file can hold."""
    npz(tmp_path, "h36m17").rename(tmp_path / "vidéo.npz")
    path = tmp_path / "vid\udcc3\udca9o.npz"
    lift_file(path, tmp_path / "out", lifter=lifter, input_options=SIZE_STATED, outputs=["npz", "html"])
    assert json.loads((tmp_path / "out" / "about.json").read_text(encoding="utf-8"))["source"].endswith("/vidéo.npz")


def test_one_of_the_people_can_be_chosen_by_his_id(tmp_path, lifter):
    path = coco_results(tmp_path, "coco17")
    chosen = LiftOptions(persons=("4",))
    summary = lift_file(path, tmp_path / "out", lifter=lifter, input_options=SIZE_STATED, lift_options=chosen)
    assert "1 of 2 people" in summary
    assert LOST < FRAMES  # his id was lost, and he was still followed


def test_what_is_stated_goes_before_what_the_file_says(tmp_path):
    found = read_recording(npz(tmp_path, "h36m17"), InputOptions(image_size_px=(640, 480), rate_hz=50.0))
    assert (found.rate_hz, found.image_size_px) == (50.0, (640, 480))
    assert read_recording(npz(tmp_path, "h36m17"), InputOptions(rate_hz=0.0)).rate_hz == 0  # which lift refuses


LENS = {"focal_px": [900.0, 910.0], "centre_px": [500.0, 490.0], "radial": [0.1, 0.0, 0.0], "tangential": [0.0, 1e-3]}
OPENCV = {"camera_matrix": [[900, 0, 500], [0, 910, 490], [0, 0, 1]], "dist_coeffs": [0.1, 0, 1e-3, 0, 0]}


@pytest.mark.parametrize("numbers", [LENS, OPENCV], ids=["by name", "as OpenCV has it"])
def test_a_camera_in_an_npz_file_or_beside_the_input_is_used(tmp_path, lifter, numbers):
    keypoints = walkers("h36m17")[0]
    np.savez(tmp_path / "a.npz", keypoints=keypoints, layout="h36m17", image_size=SIZE, **numbers)
    np.savez(tmp_path / "b.npz", keypoints=keypoints, layout="h36m17", image_size=SIZE)
    (tmp_path / "camera.json").write_text(json.dumps(numbers), encoding="utf-8")
    about = {}
    for name, camera_file in (("a", None), ("b", tmp_path / "camera.json")):
        options = InputOptions(camera_file=camera_file)
        lift_file(tmp_path / f"{name}.npz", tmp_path / name, lifter=lifter, input_options=options, outputs=NPZ)
        about[name] = json.loads((tmp_path / name / "about.json").read_text(encoding="utf-8"))
        assert about[name]["camera"] == LENS
        assert not any("lens" in assumption for assumption in about[name]["assumed"])
    options = InputOptions(camera_file=tmp_path / "a" / "about.json")  # what was written is itself a camera
    lift_file(tmp_path / "b.npz", tmp_path / "c", lifter=lifter, input_options=options, outputs=NPZ)
    np.testing.assert_array_equal(
        np.load(tmp_path / "a" / "poses.npz")["person0_joints_world_m"],
        np.load(tmp_path / "c" / "poses.npz")["person0_joints_world_m"],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"focal_px": 900}, "expected a camera's focal_px and centre_px, or camera_matrix"),
        ({"focal_px": 0, "centre_px": [500, 500]}, "expected a focal length over 0"),
        ({"camera_matrix": [[1, 0], [0, 1]]}, "expected a camera's focal_px"),
        ([900], "expected an object with a camera's numbers, found list"),
        (None, "camera.json: expected a camera as JSON, found no such file"),
    ],
)
def test_a_camera_that_is_none_is_refused(tmp_path, lifter, content, message):
    camera = tmp_path / "camera.json"
    options = InputOptions(image_size_px=SIZE, camera_file=camera if content is None else write(camera, content))
    with pytest.raises(UserError, match=message):
        lift_file(npz(tmp_path, "h36m17"), tmp_path / "out", lifter=lifter, input_options=options)
    assert not (tmp_path / "out").exists()


def test_a_path_may_be_text(tmp_path):
    assert read_recording(str(npz(tmp_path, "h36m17"))).tracks


def test_two_lenses_are_one_too_many(tmp_path, lifter):
    options, lens = InputOptions(camera_file=write(tmp_path / "camera.json", LENS)), LiftOptions(fov_deg=60.0)
    with pytest.raises(UserError, match="expected a camera or a focal length or field of view, found both"):
        lift_file(npz(tmp_path, "h36m17"), tmp_path / "out", lifter=lifter, input_options=options, lift_options=lens)


def test_openpose_scores_just_above_one_count_as_one(tmp_path):
    folder = openpose(tmp_path, "body25")
    path = folder / "walk_000000000000_keypoints.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["people"][0]["pose_keypoints_2d"][2] = 1.04
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_recording(folder, InputOptions()).tracks[0].confidence[0, 0] == 1


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


ONE = {"image_id": 0, "category_id": 1, "keypoints": [1.0] * 51, "score": 1}
BAD = {
    "cut off": ("a.json", '[{"image_id": 0, "keypo', "expected whole JSON"),
    "nested": ("a.json", "[" * 100_000, "expected whole JSON"),
    "of something else": ("a.json", {"rows": 3}, "expected keypoints of a tool that docs/keypoint_formats.md lists"),
    "empty list": ("a.json", [], "expected keypoints of a tool that docs/keypoint_formats.md lists"),
    "of 12 joints": ("a.json", [ONE | {"keypoints": [1.0] * 36}], "joints, or a --layout, found 12"),
    "of no whole joints": ("a.json", [ONE, ONE | {"keypoints": [1.0] * 50}], "entry 1: expected x, y and confidence"),
    "with words": ("a.json", [ONE | {"keypoints": ["x"] * 51}], "entry 0: expected numbers, found 'x'"),
    "without keypoints": (
        "a.json",
        [{"image_id": 0, "score": 1}],
        "expected entries with 'keypoints', found an object",
    ),
    "with image_id that is no frame": (
        "a.json",
        [ONE | {"image_id": name} for name in ("walk", "run")],
        "image_id: expected a frame number in the name, found none in 'walk'",
    ),
    "with frames far apart": ("a.json", [ONE, ONE | {"image_id": 10**9}], "expected numbers that follow each other"),
    "with scores in per cent": ("a.json", [ONE | {"keypoints": [1, 1, 87.0] * 17}], "expected confidences from 0 to 1"),
    "csv of one joint": ("a.csv", "frame,joint,x,y\n0,Hip,1,2\n", "joint names: expected joints such as .*, found Hip"),
    "csv of other joints": (
        "a.csv",
        "layout,frame,joint,x,y\ncoco17,0,Hip,1,2\n",
        "expected the joints of 'coco17', found Hip",
    ),
    "csv before the start": ("a.csv", "layout,frame,joint,x,y\ncoco17,-1,Nose,1,2\n", "expected numbers from 0"),
    "npz of text": ("a.npz", "hello", "expected a whole npz archive"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_keypoints_is_refused(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=message) as refused:
        read_recording(path, InputOptions())
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "openpsoe"}, "format: expected one of npz, hdf5, video"),
        ({"layout": "coco18"}, "layout: expected one of h36m17, coco17"),
        ({"layout": "body25"}, "frame 100: expected 25 joints of layout 'body25', found 17"),
        ({"format": "openpose"}, "frame 0: expected an entry with 'people' or 'bodies'"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        read_recording(coco_results(tmp_path, "coco17"), InputOptions(**options))


def test_shares_of_an_image_need_its_size(tmp_path):
    with pytest.raises(UserError, match="expected --image-size"):
        read_recording(write(tmp_path / "a.json", [{"landmarks": [[{"x": 0.5, "y": 0.5}] * 33]}]), InputOptions())


def test_an_empty_folder_or_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="found an empty folder"):
        read_recording(tmp_path, InputOptions())
    with pytest.raises(UserError, match="found none"):
        read_recording(tmp_path / "nowhere", InputOptions())


def test_two_files_of_one_frame_are_refused(tmp_path):
    folder = openpose(tmp_path, "body25")
    (folder / "walk_3_keypoints.json").write_text('{"people": []}', encoding="utf-8")
    with pytest.raises(UserError, match=r"expected each frame once, found 'walk_.*3_keypoints' and 'walk_3_keypoints'"):
        read_recording(folder, InputOptions())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda people: [], "expected at least one person, found none in 12 frames"),
        (
            lambda people: [person * [1, 1, 0] for person in people],
            "expected at least one person, none: of 22 detections",
        ),
        (
            lambda people: [person + np.array([5000, 0, 0]) for person in people],
            "expected people in an image of 1000x1000 px, found 3",
        ),
    ],
    ids=["nobody", "all confidences zero", "outside the image"],
)
def test_people_who_cannot_be_lifted_are_refused_and_nothing_is_written(tmp_path, lifter, monkeypatch, change, message):
    changed = change(walkers("coco17"))
    monkeypatch.setattr("tests.fixtures.keypoint_files.walkers", lambda layout: changed)
    path = mmpose(tmp_path, "coco17")
    with pytest.raises(UserError, match=message):
        lift_file(path, tmp_path / "out", lifter=lifter, input_options=SIZE_STATED)
    assert not (tmp_path / "out").exists()
