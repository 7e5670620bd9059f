"""Frames to score and actions inside a clip: stored, read back, checked and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.poses.clips import Clip, check_clip, read_split, write_split
from pipeline.poses.geometry import Camera
from pipeline.poses.scores import score_actions
from pipeline.poses.windows import every_nth, frame_table
from pipeline.system.errors import UserError

SCORED = np.array([False, True, True, False, True, True])
ACTIVITIES = ((0, "Sitting"), (2, "Sports"), (5, "Sitting"))


def clip(**changes: Any) -> Clip:
    """Six frames of two joints."""
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        "take": "TS1",
        "subset": "GS",
        "subject": "TS1",
        "action": "unlabelled",
        "camera": Camera("0", 2048, 2048),
        "rate_hz": None,
        "first_frame": 0,
        "pixels": random.uniform(0, 2048, (6, 2, 2)).astype(np.float32),
        "joints_camera_m": random.normal(size=(6, 2, 3)).astype(np.float32),
    }
    return Clip(**(values | changes))


def test_marks_activities_and_an_unknown_rate_survive_writing(tmp_path):
    written = [clip(scored=SCORED, activities=ACTIVITIES), clip(take="TS2", scored=~SCORED)]
    write_split(tmp_path / "test", written)
    for own, back in zip(written, read_split(tmp_path / "test"), strict=True):
        np.testing.assert_array_equal(back.scored, own.scored)
        assert back.activities == own.activities
        assert back.rate_hz is None


def test_clips_without_marks_are_written_without_a_file_for_them(tmp_path):
    write_split(tmp_path / "train", [clip(rate_hz=50.0)])
    assert {path.name for path in (tmp_path / "train").iterdir()} == {
        "clips.json", "pixels.npy", "joints_camera_m.npy"
    }  # fmt: skip
    (entry,) = json.loads((tmp_path / "train" / "clips.json").read_text(encoding="utf-8"))
    assert "activities" not in entry
    (back,) = read_split(tmp_path / "train")
    assert back.scored is None
    assert back.activities == ()


def test_a_split_has_marks_in_all_clips_or_in_none(tmp_path):
    with pytest.raises(UserError, match="expected one joint layout in all clips"):
        write_split(tmp_path / "test", [clip(scored=SCORED), clip(take="TS2")])


@pytest.mark.usefixtures("unchecked_shapes")
def test_marks_of_another_length_are_refused():
    with pytest.raises(UserError, match=r"clip TS1/0/0: expected arrays of one length over 0, found .*'scored': 5"):
        check_clip(clip(scored=SCORED[:5]))


@pytest.mark.parametrize("starts", [[1, 2], [0, 3, 2], [0, 0], [0, 6]])
def test_activities_out_of_order_are_refused(starts):
    with pytest.raises(UserError, match="clip TS1/0/0: activities: expected starts from 0 up, below 6, found"):
        check_clip(clip(activities=tuple((start, f"action {place}") for place, start in enumerate(starts))))


def test_a_damaged_file_of_marks_is_refused(tmp_path):
    write_split(tmp_path / "test", [clip(scored=SCORED)])
    np.save(tmp_path / "test" / "scored.npy", SCORED.astype(np.float32))
    with pytest.raises(UserError, match=r"scored.npy: expected bool with 6 frames in 1 dimensions, found float32"):
        read_split(tmp_path / "test")


def test_each_frame_shows_one_action():
    frames = clip(activities=ACTIVITIES).frames_per_action
    assert frames["Sitting"].tolist() == [True, True, False, False, False, True]
    assert frames["Sports"].tolist() == [False, False, True, True, True, False]
    assert {action: own.all() for action, own in clip().frames_per_action.items()} == {"unlabelled": True}


@pytest.mark.parametrize(("step", "marked"), [(1, [1, 2, 4, 5]), (2, [1, 4]), (3, [1, 5]), (9, [1])])
def test_every_nth_counts_scored_frames_and_begins_anew_in_each_clip(step, marked):
    table = frame_table([clip(), clip(take="TS2", scored=SCORED)], root=0, device=torch.device("cpu"))
    own = every_nth(table, step)
    assert torch.nonzero(own[:6])[:, 0].tolist() == list(range(0, 6, step))
    assert torch.nonzero(own[6:])[:, 0].tolist() == marked


def test_an_action_without_a_scored_frame_has_no_score():
    own = clip(scored=np.array([True, True, False, False, False, False]), activities=ACTIVITIES)
    table = frame_table([own], root=0, device=torch.device("cpu"))
    ((_, action, scores),) = score_actions([own], table.pose_m + 0.003, table, every_nth(table, 1))
    assert action == "Sitting"
    assert scores["mpjpe_mm"].frames == 2
    assert scores["mpjpe_mm"].mean == pytest.approx(3 * 3**0.5, abs=1e-3)


def test_a_clip_that_cannot_be_scored_is_named():
    own = replace(clip(), joints_camera_m=np.zeros((6, 2, 3), dtype=np.float32))
    table = frame_table([own], root=0, device=torch.device("cpu"))
    with pytest.raises(UserError, match="clip TS1/0/0: frame 0: all joints of the target are at one point"):
        score_actions([own], table.pose_m + torch.rand(6, 2, 3), table, every_nth(table, 1))
