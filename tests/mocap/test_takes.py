"""Takes come back as they were written, and whatever does not fit is refused by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.mocap.cameras import film, read_clips
from pipeline.mocap.takes import read_take_split, write_take_split
from pipeline.poses.clips import write_split
from pipeline.system.errors import UserError
from tests.fixtures.walker import walker_clips, walker_takes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A split of two takes."""
    write_take_split(tmp_path / "split", walker_takes((5, 8)))
    return tmp_path / "split"


def test_takes_are_read_as_they_were_written(folder):
    for read, written in zip(read_take_split(folder), walker_takes((5, 8)), strict=True):
        np.testing.assert_array_equal(read.joints_world_m, written.joints_world_m)
        assert replace(read, joints_world_m=written.joints_world_m) == written


def test_a_split_may_have_no_takes(tmp_path):
    with pytest.raises(UserError, match="expected at least one take, found none"):
        write_take_split(tmp_path / "empty", [])
    write_take_split(tmp_path / "empty", [], may_be_empty=True)
    assert read_take_split(tmp_path / "empty") == []
    assert read_clips(tmp_path / "empty", detector_level=None) == []


def test_clips_of_takes_are_what_the_cameras_see_and_clips_of_video_are_as_they_are(folder, tmp_path):
    seen = [clip.name for take in walker_takes((5, 8)) for clip in film(take, detector_level=None)[0]]
    assert [clip.name for clip in read_clips(folder, detector_level=None)] == seen
    write_split(tmp_path / "video", walker_clips((6,)))
    assert [clip.name for clip in read_clips(tmp_path / "video", detector_level=None)] == [walker_clips((6,))[0].name]


def test_two_takes_of_one_name_are_refused(tmp_path):
    (take,) = walker_takes((5,))
    with pytest.raises(UserError, match="expected takes of different names, found 'walk_0' twice"):
        write_take_split(tmp_path / "split", [take, take])
    assert not (tmp_path / "split").exists()


def test_a_take_that_is_not_finite_is_refused(tmp_path):
    (take,) = walker_takes((5,))
    joints_m = take.joints_world_m.copy()
    joints_m[2, 3] = np.nan
    with pytest.raises(UserError, match="take walk_0: expected finite joints in one frame or more, found 5 frames"):
        write_take_split(tmp_path / "split", [replace(take, joints_world_m=joints_m)])


def test_a_list_that_does_not_fit_the_frames_is_refused(folder):
    entries = json.loads((folder / "takes.json").read_text(encoding="utf-8"))
    entries[0]["frames"] += 1
    (folder / "takes.json").write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(UserError, match=r"joints_world_m\.npy: expected float32 with 14 frames .* \(13, 17, 3"):
        read_take_split(folder)


@pytest.mark.parametrize("content", ["{", "[{}]", '[{"frames": "many"}]'])
def test_a_damaged_list_is_named(folder, content):
    (folder / "takes.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"takes\.json: expected the list of takes, found|takes\.json: expected a"):
        read_take_split(folder)
