"""What is written is read back; what is damaged is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.poses.clips import Clip, check_clip, read_split, write_split
from pipeline.poses.geometry import Camera
from pipeline.prepare_data.licensed.human36m_files import cameras_of
from pipeline.system.errors import UserError


def clip(first_frame: int = 0, *, frames: int = 5, joints: int = 17, in_joints: int = 17, **changes: Any) -> Clip:
    random = np.random.default_rng(first_frame)
    values: dict[str, Any] = {
        "take": "Walking 1",
        "subset": "li",
        "subject": "S1",
        "action": "Walking",
        "camera": cameras_of("S1")[1],
        "rate_hz": 50.0,
        "first_frame": first_frame,
        "pixels": random.normal(size=(frames, in_joints, 2)).astype(np.float32),
        "joints_camera_m": random.normal(size=(frames, joints, 3)).astype(np.float32),
    }
    return Clip(**(values | changes))


def with_confidence(plain: Clip) -> Clip:
    confidence = np.random.default_rng(1).uniform(size=plain.pixels.shape[:2]).astype(np.float32)
    return replace(plain, confidence=confidence)


def assert_same(one: Clip, other: Clip) -> None:
    for key, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(other, key), value)
            assert getattr(other, key).dtype == value.dtype
        elif key != "camera":
            assert getattr(other, key) == value
            assert type(getattr(other, key)) is type(value)
    for key in ("name", "width_px", "height_px", "focal_px", "centre_px", "radial", "tangential"):
        assert getattr(one.camera, key) == getattr(other.camera, key)
    for key in ("rotation", "translation_m"):
        pose, other_pose = one.camera.camera_from_world, other.camera.camera_from_world
        np.testing.assert_array_equal(getattr(pose, key), getattr(other_pose, key))


@pytest.mark.parametrize("dress", [lambda plain: plain, with_confidence])
def test_clips_are_read_back_as_they_were_written(dress, tmp_path):
    clips = [dress(clip(0)), dress(clip(5, frames=1)), dress(clip(9, frames=30, take='Sitting "2"/é'))]
    write_split(tmp_path / "train", clips)
    again = read_split(tmp_path / "train")
    assert len(again) == 3
    for one, other in zip(clips, again, strict=True):
        assert_same(one, other)


def test_input_and_output_may_have_different_joints(tmp_path):
    one = clip(in_joints=17, joints=15)
    write_split(tmp_path / "train", [one])
    assert_same(one, read_split(tmp_path / "train")[0])


def test_a_camera_of_unknown_lens_is_kept(tmp_path):
    one = clip(camera=Camera("video.mp4", 1920, 1080))
    write_split(tmp_path / "train", [one])
    again = read_split(tmp_path / "train")[0]
    assert_same(one, again)
    assert again.camera.focal_px is None


def test_arrays_are_read_without_copying_the_files(tmp_path):
    write_split(tmp_path / "train", [clip(0), clip(5)])
    first, second = read_split(tmp_path / "train")
    assert np.shares_memory(first.pixels.base, second.pixels.base)
    assert not first.pixels.flags.writeable


def test_the_name_of_a_clip_says_take_camera_and_first_frame():
    assert clip(7).name == "Walking 1/55011271/7"
    assert len(clip(7, frames=3)) == 3


def test_no_clip_at_all_is_refused(tmp_path):
    with pytest.raises(UserError, match="validation: expected at least one clip, found none"):
        write_split(tmp_path / "validation", [])


def test_an_existing_folder_is_not_written_into(tmp_path):
    with pytest.raises(FileExistsError):
        write_split(tmp_path, [clip()])


def test_two_clips_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected clips of different names, found 'Walking 1/55011271/3' twice"):
        write_split(tmp_path / "train", [clip(0), clip(3), clip(3)])


@pytest.mark.parametrize("other", [clip(5, joints=15), clip(5, in_joints=16), with_confidence(clip(5))])
def test_clips_of_different_layouts_are_refused(other, tmp_path):
    with pytest.raises(UserError, match=r"expected one joint layout in all clips, found \[\("):
        write_split(tmp_path / "train", [clip(0), other])
    assert not (tmp_path / "train").exists()


@pytest.mark.parametrize("key", ["pixels", "joints_camera_m", "confidence"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_frame(key, number, tmp_path):
    bad = with_confidence(clip(0))
    getattr(bad, key)[3, 2] = number
    message = f"clip Walking 1/55011271/0: {key}: expected finite numbers, found NaN or infinity in frame 3"
    with pytest.raises(UserError, match=message):
        check_clip(bad)
    with pytest.raises(UserError, match=message):
        write_split(tmp_path / "train", [bad])


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(("pixels", "joints"), [(4, 5), (0, 0)])
def test_arrays_of_different_or_no_length_are_refused(pixels, joints):
    bad = clip(
        pixels=np.zeros((pixels, 17, 2), dtype=np.float32), joints_camera_m=np.zeros((joints, 17, 3), dtype=np.float32)
    )
    lengths = re.escape(f"{{'pixels': {pixels}, 'joints_camera_m': {joints}}}")
    with pytest.raises(UserError, match=f"expected arrays of one length over 0, found {lengths}"):
        check_clip(bad)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A split of two clips to damage."""
    write_split(tmp_path / "test", [with_confidence(clip(0)), with_confidence(clip(5))])
    return tmp_path / "test"


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("clips.json", "expected the list of clips, found FileNotFoundError"),
        ("pixels.npy", "expected a numpy array, found FileNotFoundError"),
        ("joints_camera_m.npy", "expected a numpy array, found FileNotFoundError"),
    ],
)
def test_a_missing_file_is_named(file, found, split):
    (split / file).unlink()
    with pytest.raises(UserError, match=re.escape(f"{split / file}: ") + found):
        read_split(split)


@pytest.mark.parametrize("file", ["pixels.npy", "joints_camera_m.npy", "confidence.npy"])
@pytest.mark.parametrize("bytes_left", [0, 20, -4])
def test_a_truncated_array_is_named(file, bytes_left, split):
    path = split / file
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(UserError, match=re.escape(f"{path}: expected a numpy array, found ")):
        read_split(split)


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("pixels.npy", lambda array: array[:-1], "float32 with 10 frames in 3 dimensions, found float32 (9, 17, 2)"),
        ("pixels.npy", lambda array: array.astype(float), "float32 with 10 frames in 3 dimensions, found float64"),
        ("pixels.npy", lambda array: array[..., 0], "float32 with 10 frames in 3 dimensions, found float32 (10, 17)"),
        ("joints_camera_m.npy", lambda array: array[1:], "float32 with 10 frames in 3 dimensions, found float32 (9,"),
        (
            "confidence.npy",
            lambda array: array[..., None],
            "float32 with 10 frames in 2 dimensions, found float32 (10,",
        ),
    ],
)
def test_an_array_of_another_size_or_type_is_named(file, change, expected, split):
    np.save(split / file, change(np.load(split / file)))
    with pytest.raises(UserError, match=re.escape(f"{split / file}: expected {expected}")):
        read_split(split)


def test_a_pickle_is_not_opened(split):
    np.save(split / "pixels.npy", np.array([{"a": 1}] * 10, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"pixels.npy: expected a numpy array, found ValueError"):
        read_split(split)


def test_a_number_that_went_bad_in_the_file_is_named(split):
    pixels = np.load(split / "pixels.npy")
    pixels[7, 0, 0] = np.nan
    np.save(split / "pixels.npy", pixels)
    with pytest.raises(UserError, match=r"clip Walking 1/55011271/5: pixels: expected finite numbers, .* in frame 2"):
        read_split(split)


@pytest.mark.parametrize(
    "change",
    [
        *(lambda entries, key=key: entries[1].pop(key) for key in ("take", "subset", "subject", "action", "rate_hz")),
        *(lambda entries, key=key: entries[1].pop(key) for key in ("first_frame", "frames", "camera")),
        lambda entries: entries[0]["camera"].pop("camera_from_world"),
        lambda entries: entries[0]["camera"].pop("radial"),
        lambda entries: entries[0].update(frames="many"),
        lambda entries: entries.append("clip"),
    ],
)
def test_a_damaged_list_of_clips_is_named(change: Callable[[list[Any]], Any], split):
    table = split / "clips.json"
    entries = json.loads(table.read_text(encoding="utf-8"))
    change(entries)
    table.write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{table}: expected the list of clips, found ")):
        read_split(split)


def test_a_truncated_list_of_clips_is_named(split):
    table = split / "clips.json"
    table.write_text(table.read_text(encoding="utf-8")[:-10], encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{table}: expected the list of clips, found JSONDecodeError")):
        read_split(split)
