"""Written poses say what they are, and hold what was lifted."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs import write_lifted
from pipeline.lift.outputs.files import describe, find_guessed_joints, write_csv, write_json, write_npz
from pipeline.system.errors import UserError
from tests.fixtures.lifting import recording_of, track_of, walker_keypoints, write_small_checkpoint

WRIST = 13


@pytest.fixture(scope="module")
def lifted(tmp_path_factory):
    """Two people; of the first a wrist is missing for long and two frames are empty, the second comes later."""
    lifter = Lifter.load(write_small_checkpoint(tmp_path_factory.mktemp("files") / "run0"), max_gap_s=0.1)
    first, second = walker_keypoints(30), walker_keypoints(5, start=1.0)
    first[5:7, WRIST], first[10:20, WRIST], first[22:26] = np.nan, np.nan, np.nan
    return lifter.lift(recording_of(track_of(first), track_of(second, person="b", first_frame=20)))


def test_what_is_known_is_written_in_words_and_units(lifted):
    known = describe(lifted)
    assert known["axes"]["camera"].startswith("x right, y down, z forward")
    assert known["axes"]["world"].startswith("Z up")
    assert known["units"]["_m"] == "metres"
    assert known["joints"][0] == "Hip"
    assert known["parents"][1] == 0
    assert known["model"]["model"] == "rayformer"
    assert known["assumed"] == list(lifted.assumed)
    assert (known["rate_hz"], known["model_rate_hz"], known["frames"]) == (30, 30, 30)
    json.dumps(known, allow_nan=False)


def test_joints_without_a_keypoint_are_guesses_and_others_not(lifted):
    guessed = find_guessed_joints(lifted, lifted.people[0])
    expected = np.zeros((30, 17), dtype=bool)
    expected[10:20, WRIST] = True
    expected[22:26] = True
    np.testing.assert_array_equal(guessed, expected)


def test_npz_holds_the_poses_with_guesses_left_empty_and_is_read_without_pickle(lifted, tmp_path):
    write_npz(tmp_path / "poses.npz", lifted)
    with np.load(tmp_path / "poses.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["about"])) == json.loads(json.dumps(describe(lifted)))
        pose_m = arrays["person0_joints_camera_m"]
        person = lifted.people[0]
        seen = ~find_guessed_joints(lifted, person)
        np.testing.assert_array_equal(pose_m[seen], person.joints_camera_m[seen])
        assert np.isnan(pose_m[~seen]).all()
        assert arrays["person0_filled"][5:7, WRIST].all()
        assert arrays["person1_first_frame"] == 20
        np.testing.assert_array_equal(arrays["person1_joints_world_m"], lifted.joints_world_m(lifted.people[1]))


def test_json_holds_the_same_to_a_hundredth_of_a_millimetre(lifted, tmp_path):
    write_json(tmp_path / "poses.json", lifted)
    content = json.loads((tmp_path / "poses.json").read_text())
    assert content["assumed"] == list(lifted.assumed)
    second = content["people"][1]
    assert (second["person"], second["first_frame"]) == ("b", 20)
    np.testing.assert_allclose(second["joints_camera_m"], lifted.people[1].joints_camera_m, atol=1e-5)
    first = content["people"][0]
    assert first["joints_world_m"][23][0] == [None] * 3
    assert first["joints_world_m"][12][WRIST] == [None] * 3
    assert first["filled"][5][WRIST] is True


def test_csv_has_a_line_for_each_person_frame_and_joint(lifted, tmp_path):
    write_csv(tmp_path / "poses.csv", lifted)
    with (tmp_path / "poses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (30 + 5) * 17
    row = rows[30 * 17 + 2 * 17 + WRIST]
    assert (row["person"], row["frame"], row["joint"], float(row["time_s"])) == ("b", "22", "LWrist", 0.733333)
    person = lifted.people[1]
    world_m = lifted.joints_world_m(person)[2, WRIST]
    np.testing.assert_allclose([float(row[f"{axis}_world_m"]) for axis in "xyz"], world_m, atol=1e-5)
    camera_m = (person.joints_camera_m + person.root_camera_m[:, None])[2, WRIST]
    np.testing.assert_allclose([float(row[f"{axis}_camera_m"]) for axis in "xyz"], camera_m, atol=1e-5)
    empty = rows[23 * 17]
    assert empty["x_world_m"] == ""
    assert rows[5 * 17 + WRIST]["filled"] == "1"


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["npz"], "expected a new folder or one written by lift, found 'thesis.txt' in it"),
        (["npz", "hmtl"], "outputs: expected some of npz, .*, found 'hmtl'"),
        (["overlay"], "outputs: expected the video in Lifted.filmed_on, for the overlay, found none"),
    ],
)
def test_a_program_is_refused_what_the_command_is_and_loses_nothing(lifted, tmp_path, outputs, message):
    if outputs == ["npz"]:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        write_lifted(tmp_path / "mine", lifted, outputs)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_program_writes_again_into_what_it_wrote(lifted, tmp_path):
    write_lifted(str(tmp_path / "walk"), lifted, ["npz", "csv"])
    write_lifted(tmp_path / "walk", lifted, ["npz"])
    assert sorted(path.name for path in (tmp_path / "walk").iterdir()) == ["about.json", "poses.npz"]
