"""Writing splits clip by clip: the files are those that numpy would write of the whole, and a split may be empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.poses.clips import Clip, read_split, write_split
from pipeline.poses.geometry import Camera
from pipeline.system.errors import UserError


def clip(take: str, frames: int) -> Clip:
    random = np.random.default_rng(frames)
    pixels = random.normal(size=(frames, 4, 2)).astype(np.float32)
    joints_camera_m = random.normal(size=(3, 5, frames)).astype(np.float32).T  # not contiguous
    camera = Camera(name="left", width_px=10, height_px=20)
    return Clip(take, "all", "S1", "Walking", camera, 50.0, 0, pixels, joints_camera_m, scored=pixels[:, 0, 0] > 0)


def test_a_split_is_what_numpy_writes_of_all_clips_end_to_end(tmp_path: Path) -> None:
    clips = [clip("a", 3), clip("b", 1000), clip("c", 1)]
    write_split(tmp_path / "train", clips)
    for name in ("pixels", "joints_camera_m", "scored"):
        whole = np.concatenate([getattr(clip, name) for clip in clips])
        np.save(tmp_path / "whole.npy", np.ascontiguousarray(whole))
        assert (tmp_path / "train" / f"{name}.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not (tmp_path / "train" / "confidence.npy").exists()


def test_an_empty_split_is_written_and_read_if_it_may_be_empty(tmp_path: Path) -> None:
    write_split(tmp_path / "validation", [], may_be_empty=True)
    assert read_split(tmp_path / "validation") == []
    with pytest.raises(UserError, match="train: expected at least one clip, found none"):
        write_split(tmp_path / "train", [])
