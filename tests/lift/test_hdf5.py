"""HDF5 as SLEAP and DeepLabCut write it: files of their own libraries, and the same with parts changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.lift.formats import read_recording
from pipeline.lift.people import InputOptions, Recording
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import FRAMES, walkers

FILES = Path(__file__).parent / "files"
WALKERS = np.stack([np.round(person, 2) for person in walkers("h36m17")])
NOBODY, MOVED, BY_PX = 5, 3, 50  # a frame without people, one in which a user moved anna, and how far
LEFT_WRIST = 13


def read(path: Path, **options: Any) -> Recording:
    return read_recording(path, InputOptions(**options))


def with_a_label(person: int) -> np.ndarray:
    """Returns what SLEAP's files say of a walker."""
    meant = WALKERS[person].copy()
    if person == 0:
        meant[MOVED, :, :2] += BY_PX
        meant[MOVED, :, 2] = 1
        meant[MOVED, LEFT_WRIST] = [np.nan, np.nan, 0]
    meant[NOBODY] = [np.nan, np.nan, 0]
    return meant


def assert_is(recording: Recording, people: dict[str, np.ndarray], first_frame: int = 0) -> None:
    assert {track.person for track in recording.tracks} == set(people)
    for track in recording.tracks:
        assert (track.layout, track.first_frame) == ("h36m17", first_frame)
        np.testing.assert_allclose(track.pixels, people[track.person][..., :2], atol=1e-6)
        np.testing.assert_allclose(track.confidence, people[track.person][..., 2], atol=1e-6)


def test_a_project_of_sleap_has_labels_before_predictions_and_the_video():
    recording = read(FILES / "walk.slp")
    assert_is(recording, {"anna": with_a_label(0), "bo": with_a_label(1)})
    assert (recording.rate_hz, recording.image_size_px) == (25.0, (1000, 1000))
    assert recording.reading[0] == "format: hdf5, recognised by its content"


@pytest.mark.parametrize("dims", ["track xy node frame", "frame track node xy"])
def test_an_analysis_file_of_sleap_says_the_order_of_its_dimensions(tmp_path, dims):
    def turn(file: h5py.File) -> None:
        for name in ("tracks", "point_scores"):
            stored = json.loads(file[name].attrs["dims"])
            wanted = [axis for axis in dims.split() if axis in stored]
            replace(file, name, file[name][()].transpose([stored.index(axis) for axis in wanted]))
            file[name].attrs["dims"] = json.dumps(wanted)

    path = change(tmp_path, "walk.analysis.h5", turn)
    assert_is(read(path), {"anna": with_a_label(0), "bo": with_a_label(1)}, first_frame=10)


def test_a_table_of_deeplabcut_is_read_in_both_forms_of_pandas():
    assert_is(read(FILES / "table.h5"), {"id0": WALKERS[0], "id1": WALKERS[1]})
    certain = np.concatenate([WALKERS[0, ..., :2], np.ones((FRAMES, 17, 1))], axis=2)
    assert_is(read(FILES / "fixed.h5"), {"0": certain})  # placed by a user, in images that are named


def replace(group: h5py.Group, name: str, values: Any) -> None:
    del group[name]
    group[name] = values


def change(folder: Path, name: str, edit: Callable[[h5py.File], Any]) -> Path:
    """Returns a copy of a file with something changed."""
    shutil.copy(FILES / name, folder / name)
    with h5py.File(folder / name, "r+") as file:
        edit(file)
    return folder / name


def edit_table(name: str, **columns: Any) -> Callable[[h5py.File], None]:
    """Returns what sets columns of a table, each to a value or by a function of what it holds."""

    def edit(file: h5py.File) -> None:
        table = file[name][()]
        for column, value in columns.items():
            table[column] = value(table[column]) if callable(value) else value
        replace(file, name, table)

    return edit


def test_one_of_several_videos_of_a_project_is_chosen_by_name(tmp_path):
    def divide(file: h5py.File) -> None:
        edit_table("frames", video=lambda video: np.arange(len(video)) % 2)(file)
        videos = [json.dumps({"filename": f"C:\\films\\{name}.mp4", "backend": {}}) for name in "ab"]
        replace(file, "videos_json", np.array(videos, dtype="S"))

    path = change(tmp_path, "walk.slp", divide)
    with pytest.raises(UserError, match=r"videos_json: expected one video, found 2: a.mp4, b.mp4; choose one with --v"):
        read(path)
    first = read(path, video="a.mp4").tracks[0]
    seen = np.isfinite(first.pixels).all(-1).any(1)
    assert seen[:4].tolist() == [True, False, True, False]


def test_pixels_of_old_projects_are_counted_from_their_corners(tmp_path):
    path = change(tmp_path, "walk.slp", lambda file: file["metadata"].attrs.__setitem__("format_id", 1.0))
    meant = [with_a_label(person) - [0.5, 0.5, 0] for person in (0, 1)]
    assert_is(read(path), {"anna": meant[0], "bo": meant[1]})


def test_people_without_tracks_are_followed(tmp_path):
    path = change(tmp_path, "walk.slp", edit_table("instances", track=-1))
    found = sorted(read(path).tracks, key=lambda track: np.nanmin(track.pixels[..., 0]))
    for track, person in zip(found, (0, 1), strict=True):
        np.testing.assert_allclose(track.pixels, with_a_label(person)[..., :2], atol=1e-6)


def pickled_call(file: h5py.File) -> None:
    file["df_with_missing/table"].attrs["values_block_0_kind"] = np.bytes_(b"cos\nsystem\n(S'touch hacked'\ntR.")


def elsewhere(file: h5py.File) -> None:
    del file["tracks"]
    file["tracks"] = h5py.ExternalLink("other.h5", "tracks")


def table_elsewhere(file: h5py.File) -> None:
    file.move("df_with_missing", "other")
    file["df_with_missing"] = h5py.ExternalLink(str(FILES / "table.h5"), "df_with_missing")
    del file["other"]


# The file, what is changed in it, and what the refusal says.
DAMAGED: dict[str, tuple[str, Callable[[h5py.File], Any], str]] = {
    "a call in a pickle": ("table.h5", pickled_call, "found UnpicklingError: a call of 'os.system'"),
    "numbers of another file": ("walk.analysis.h5", elsewhere, "expected 'tracks' in the file itself"),
    "a table of another file": ("table.h5", table_elsewhere, "expected a file of SLEAP .* found df_with_missing"),
    "unknown dimensions": (
        "walk.analysis.h5", lambda f: f["tracks"].attrs.__setitem__("dims", '["time"]'), "'tracks': expected the dimen",
    ),
    "fewer names than joints": (
        "walk.analysis.h5", lambda f: replace(f, "node_names", np.array(["a"], "S")), "node_names to match, found",
    ),
    "a track that is not listed": ("walk.slp", edit_table("instances", track=7), "expected a track of the 2 in tracks"),
    "two skeletons": (
        "walk.slp", edit_table("instances", skeleton=lambda s: np.arange(len(s)) % 2), "expected people of one",
    ),
    "points of other people": (
        "walk.slp", edit_table("instances", point_id_end=9999), "expected as many joints as the file names, 17, found",
    ),
    "skeletons that are cut off": (
        "walk.slp", lambda f: f["metadata"].attrs.__setitem__("json", '{"skeletons": ['), "expected whole JSON",
    ),
    "something else": ("walk.slp", lambda f: [f.__delitem__(n) for n in ("instances", "frames")],
                       "expected a file of SLEAP .* or DeepLabCut, found metadata, points, pred_points"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_not_as_it_should_be_is_named(tmp_path, name):
    file, edit, says = DAMAGED[name]
    path = change(tmp_path, file, edit)
    with pytest.raises(UserError, match=says) as refused:
        read(path)
    assert "\n" not in str(refused.value)
