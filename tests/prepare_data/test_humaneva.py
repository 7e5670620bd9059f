"""HumanEva-I: both formats give the same clips, what is left out is counted, what is wrong is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from pipeline.poses.geometry import project
from pipeline.poses.skeleton import COCO_17, HUMANEVA_15
from pipeline.prepare_data.doctor import examine
from pipeline.prepare_data.licensed import PLACEMENTS, humaneva
from pipeline.prepare_data.licensed import humaneva_files as files
from pipeline.prepare_data.prepared import Prepared
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from tests.fixtures.four_stages import cells_of, four_stages
from tests.fixtures.humaneva import GT_METADATA, RUNS, lens, write_archives, write_converted

USUAL = ("Walking", "Jog", "Box")
DETECTED = "detectron_pt_coco"
POSES, EXACT = "data_3d_humaneva15.npz", "data_2d_humaneva15_gt.npz"
COCO = f"data_2d_humaneva15_{DETECTED}.npz"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives; to be read, not changed."""
    folder = tmp_path_factory.mktemp("raw")
    write_archives(folder / "humaneva")
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MATLAB files; to be read, not changed."""
    folder = tmp_path_factory.mktemp("converted")
    write_converted(folder / "humaneva")
    return folder


def prepare(raw_folder: Path, **changes: Any) -> Prepared:
    arguments: dict[str, Any] = {
        "keypoints": "gt", "train_actions": USUAL, "scored_actions": USUAL, "validation_takes": ()
    }  # fmt: skip
    return humaneva.prepare(raw_folder / "humaneva", **(arguments | changes))


def changed(raw: Path, tmp_path: Path, archive: str, change: Any) -> Path:
    """A copy of the archives, one of them passed through `change`."""
    folder = shutil.copytree(raw, tmp_path / "raw")
    path = folder / "humaneva" / archive
    members = read_object_npz(path)
    np.savez_compressed(path, **(change(members) or members))
    return folder


def clips_by_name(prepared: Prepared) -> dict[str, Any]:
    return {f"{split}/{clip.name}": clip for split, clips in prepared.splits.items() for clip in clips}


def assert_same_clips(prepared: Prepared, other: Prepared) -> None:
    clips, twins = clips_by_name(prepared), clips_by_name(other)
    assert list(clips) == list(twins)
    for name, clip in clips.items():
        np.testing.assert_array_equal(clip.pixels, twins[name].pixels)
        np.testing.assert_array_equal(clip.joints_camera_m, twins[name].joints_camera_m)
        assert clip.pixels.dtype == clip.joints_camera_m.dtype == np.float32
        assert clip.camera.name == twins[name].camera.name
        assert (clip.subject, clip.action, clip.rate_hz) == (twins[name].subject, twins[name].action, 60.0)


def test_archives_and_matlab_files_give_the_same_clips_bit_for_bit_and_so_does_what_is_exported(
    raw, converted, tmp_path
):
    assert_same_clips(prepare(raw), prepare(converted))
    for origin, names in ((raw, ["gt", DETECTED]), (converted, ["gt"])):
        out = tmp_path / origin.name
        files.write_archives(origin / "humaneva", out / "humaneva", keypoints=names)
        for keypoints in names:
            assert_same_clips(prepare(out, keypoints=keypoints), prepare(origin, keypoints=keypoints))


def test_exported_archives_have_what_other_people_read(converted, tmp_path):
    files.write_archives(converted / "humaneva", tmp_path / "out", keypoints=["gt"])
    written = read_object_npz(tmp_path / "out" / EXACT)
    assert written["metadata"] == GT_METADATA
    assert set(written["positions_2d"]) == set(files.RECORDINGS)
    assert isinstance(written["positions_2d"]["Train/S1"]["Walking 1 chunk0"], list)
    assert read_object_npz(tmp_path / "out" / POSES)["positions_3d"]["Validate/S3"]["Jog 1 chunk1"].shape == (10, 15, 3)


def test_the_doctor_names_what_is_missing_and_what_differs(raw, converted, tmp_path):
    lines, whole = examine("humaneva", tmp_path)
    assert not whole
    assert lines[-1] == "Missing: poses. See docs/datasets/humaneva.md."
    assert any("from humaneva.is.tue.mpg.de, after registration" in line for line in lines)
    lines, whole = examine("humaneva", raw)
    assert not whole
    assert "  found    data_3d_humaneva15.npz: 1 file, 0.0 MB" in lines
    assert "  Train/S1 Walking: expected 613 frames in each camera, found 23" in lines
    lines, _ = examine("humaneva", converted)
    assert any(line.startswith("  found    converted_15j/*/S[123]/*_1.mat: 28 files, ") for line in lines)


def test_poses_in_the_camera_frame_project_onto_the_keypoints(raw):
    for clip in prepare(raw).splits["train"]:
        pixels_px = project(clip.joints_camera_m.astype(np.float64), lens(clip.camera))
        np.testing.assert_allclose(pixels_px, clip.pixels, atol=0.01)  # float32 metres and pixels


def test_a_camera_turns_points_by_the_inverse_quaternion_of_the_table():
    point_m = np.array([0.1, 0.2, 1.0])
    for subject, placements in PLACEMENTS["humaneva"].items():
        for camera in humaneva.cameras_of(subject):
            w, *vector = placements[camera.name]["world_from_camera_wxyz"]
            u, x_m = -np.array(vector), point_m - np.array(placements[camera.name]["position_mm"]) / 1000
            expected_m = x_m + 2 * (w * np.cross(u, x_m) + np.cross(u, np.cross(u, x_m)))
            found_m = camera.camera_from_world.apply(point_m)
            np.testing.assert_allclose(found_m, expected_m, atol=1e-6)
            assert (camera.width_px, camera.height_px, camera.focal_px) == (640, 480, None)


def test_the_second_subject_has_other_cameras_than_the_first_and_third():
    first, second, third = (humaneva.cameras_of(subject)[0].camera_from_world for subject in ("S1", "S2", "S3"))
    np.testing.assert_array_equal(first.translation_m, third.translation_m)
    assert (first.translation_m != second.translation_m).all()


def test_train_is_trained_on_validate_is_the_test_split_and_chunks_keep_their_numbers(raw):
    prepared = prepare(raw)
    assert {clip.take.split("/")[0] for clip in prepared.splits["train"]} == {"Train"}
    assert {clip.take.split("/")[0] for clip in prepared.splits["test"]} == {"Validate"}
    assert prepared.splits["validation"] == []
    names = {clip.take for clip in prepared.splits["train"] if clip.subject == "S1"}
    expected = {"Walking 1 chunk0", "Walking 1 chunk2", "Jog 1 chunk1", "Box 1 chunk0", "Box 1 chunk2"}
    assert names == {f"Train/S1 {chunk}" for chunk in expected}


def test_detections_have_17_joints_and_poses_15(raw):
    prepared = prepare(raw, keypoints=DETECTED)
    assert (prepared.in_skeleton, prepared.out_skeleton) == (COCO_17, HUMANEVA_15)
    exact = clips_by_name(prepare(raw))
    for name, clip in clips_by_name(prepared).items():
        assert clip.pixels.shape[1:] == (17, 2)
        np.testing.assert_array_equal(clip.joints_camera_m, exact[name].joints_camera_m)


@pytest.mark.parametrize("source", ["archives", "converted"])
def test_every_frame_is_in_a_clip_or_dropped_with_a_reason(source, raw, converted):
    prepared = prepare(raw, keypoints=DETECTED) if source == "archives" else prepare(converted)
    kept = sum(len(clip) for clips in prepared.splits.values() for clip in clips)
    dropped = sum(entry.frames for entry in prepared.dropped)
    per_subject = sum(abs(length) for runs in RUNS.values() for length in runs)
    recorded = 2 * 3 * (3 * per_subject - sum(map(abs, RUNS["ThrowCatch"])))  # S3 has no ThrowCatch
    extra = 0
    if source == "archives":  # a chunk without poses, S4 in two cameras, an unlabelled trial in three
        extra = 3 * RUNS["Box"][0] + 5 * RUNS["Walking"][0]
    assert kept + dropped == recorded + extra


def test_what_is_dropped_says_why(raw):
    reasons = {entry.take: entry.reason for entry in prepare(raw, keypoints=DETECTED).dropped if entry.frames}
    assert reasons["Train/S1 Box 1 chunk4"] == "keypoints of a chunk that is not among the poses"
    assert reasons["Unlabeled/S4 Walking 1"] == "keypoints of frames without motion capture"
    assert reasons["Unlabeled/Validate/S2 Jog 1 chunk0"] == "keypoints of frames without motion capture"
    assert reasons["Train/S1 Gestures 1 chunk0"] == "action not among datasets.humaneva.train_actions"


def test_poses_without_keypoints_are_dropped_by_name(raw, tmp_path):
    def change(members):
        del members["positions_2d"]["Train/S2"]["Box 1 chunk2"]

    prepared = prepare(changed(raw, tmp_path, EXACT, change))
    entries = [entry for entry in prepared.dropped if entry.take == "Train/S2 Box 1 chunk2"]
    assert [(entry.camera, entry.frames) for entry in entries] == [("C1", 1), ("C2", 1), ("C3", 1)]
    assert entries[0].reason == "poses of a chunk that is not among the keypoints"


def test_keypoints_beyond_the_end_are_cut_and_counted(raw, tmp_path):
    def change(members):
        arrays = members["positions_2d"]["Train/S2"]["Box 1 chunk0"]
        arrays[1] = np.concatenate([arrays[1], arrays[1][-1:]])

    prepared = prepare(changed(raw, tmp_path, EXACT, change))
    (entry,) = [entry for entry in prepared.dropped if entry.frames and entry.reason.startswith("keypoints beyond")]
    assert (entry.take, entry.camera, entry.frames) == ("Train/S2 Box 1 chunk0", "C2", 1)
    exact = clips_by_name(prepare(raw))
    for name, clip in clips_by_name(prepared).items():
        np.testing.assert_array_equal(clip.pixels, exact[name].pixels)


def test_only_train_actions_are_trained_on_and_the_damaged_recording_is_not_missed(raw):
    prepared = prepare(raw, train_actions=["Gestures"], scored_actions=["Box"])
    assert {clip.action for clip in prepared.splits["train"]} == {"Gestures"}
    assert {clip.action for clip in prepared.splits["test"]} == set(files.ACTIONS)
    prepared = prepare(raw, train_actions=["ThrowCatch"], scored_actions=["ThrowCatch"])
    assert {clip.subject for clip in prepared.splits["train"]} == {"S1", "S2"}
    for key, name in (("train_actions", "train_actions"), ("scored_actions", "actions")):
        with pytest.raises(UserError, match=rf"humaneva.{name}: expected actions of Walking, .*, found 'Walk'"):
            prepare(raw, **{key: ["Walk"]})


def test_validation_takes_leave_the_train_split(raw):
    take = "Train/S2 Walking 1 chunk2"
    prepared = prepare(raw, validation_takes=[take])
    assert {clip.take for clip in prepared.splits["validation"]} == {take}
    assert take not in {clip.take for clip in prepared.splits["train"]}
    for other in ("Validate/S2 Walking 1 chunk2", "S2 Walking 1 chunk2", "Train/S1 Gestures 1 chunk0"):
        with pytest.raises(UserError, match=f"expected chunks of Train that are trained on, found '{other}'"):
            prepare(raw, validation_takes=[other])


def test_the_published_ranges_are_compared_recording_by_recording(tmp_path):
    whole = {("Train/S1", "Walking"): (613,), ("Validate/S3", "Box"): (200, -7, 300)}
    write_converted(tmp_path / "humaneva", runs_of=whole)
    differences = prepare(tmp_path).differences
    named = {line.split(":")[0] for line in differences}
    expected = {
        f"{recording} {action}"
        for recording in files.RECORDINGS
        for action in files.ACTIONS
        if (recording[-2:], action) != files.NOT_RELEASED and (recording, action) not in whole
    }
    assert named == expected
    assert "Validate/S1 Walking: expected 585 frames in each camera, found 23" in differences


def test_more_valid_frames_than_the_release_has_are_named_without_unlabelled_ones(raw, tmp_path):
    def lengthen(array):
        return np.concatenate([array] * 40)  # 480 of 443

    def change(members):
        chunks = members["positions_3d" if "positions_3d" in members else "positions_2d"]["Validate/S3"]
        chunk = chunks["Walking 1 chunk0"]
        chunks["Walking 1 chunk0"] = lengthen(chunk) if isinstance(chunk, np.ndarray) else list(map(lengthen, chunk))

    assert prepare(raw).differences == []
    folder = changed(changed(raw, tmp_path / "a", POSES, change), tmp_path / "b", EXACT, change)
    expected = ["Validate/S3 Walking: expected 1 to 443 valid frames in each camera, found 489"]
    assert prepare(folder).differences == expected


def with_nan(array):
    array = array.copy()
    array[4, 2] = np.nan
    return array


def pose(change):
    """Replaces the poses of a chunk by what `change` makes of them."""
    return lambda members: replace_chunk(members["positions_3d"], change)


def pixels(change):
    """Replaces the keypoints of a chunk by what `change` makes of them."""
    return lambda members: replace_chunk(members["positions_2d"], change)


def replace_chunk(recordings, change):
    recordings["Train/S1"]["Jog 1 chunk1"] = change(recordings["Train/S1"]["Jog 1 chunk1"])


JOG = "Train/S1 Jog 1 chunk1"
WRONG_ARCHIVES: list[tuple[str, Any, str]] = [
    (POSES, lambda m: {"positions_2d": {}}, "data_3d_.*: expected 'positions_3d' by subject and take, found positions"),
    (POSES, lambda m: {"positions_3d": {"S1": {"Walking": np.zeros((2, 32, 3))}}},
     "expected the recordings Train/S1, .*, found S1"),
    (POSES, lambda m: {"positions_3d": {}}, r"expected the recordings .*, found nothing \(the conversion found no"),
    (POSES, lambda m: m["positions_3d"].pop("Validate/S2") and None, "expected the recordings .*, found Train/S1"),
    (POSES, lambda m: m["positions_3d"].update({"Train/S4": {}}), "expected the recordings .*, found 'Train/S4'"),
    (POSES, pose(lambda array: np.zeros((10, 20, 3), np.float32)),
     rf"{JOG}: expected numbers of the shape \(any, 15, 3\), found \(10, 20, 3\)"),
    (POSES, pose(lambda array: "pose"), f"{JOG}: expected numbers .*, found str"),
    (POSES, pose(with_nan), f"{JOG}: expected finite numbers, found NaN or infinity in frame 4"),
    (POSES, lambda m: m["positions_3d"]["Train/S1"].update({"Walking": np.zeros((2, 15, 3), np.float32)}),
     "Train/S1: expected chunks such as 'Walking 1 chunk0' .*, found 'Walking'"),
    (POSES, lambda m: m["positions_3d"]["Validate/S3"].pop("Jog 1 chunk1").any() and None,
     "Validate/S3: expected at least one chunk of 'Jog' with poses and keypoints, found none"),
    (EXACT, lambda m: {"positions_2d": m["positions_2d"]}, "data_2d_.*: 'metadata': expected num_joints and"),
    (EXACT, lambda m: m["metadata"].update(layout_name="openpose"), "expected the keypoint layout .*'openpose'"),
    (EXACT, lambda m: m["metadata"].update(layout_name="coco"),
     "expected the keypoint layout humaneva15, coco, h36m, found 15 joints, .* called 'coco'"),
    (EXACT, lambda m: m["metadata"]["keypoints_symmetry"].reverse(),
     r"expected the keypoint layout .*, left \[5, 6, .* called 'humaneva15'"),
    (EXACT, pixels(lambda arrays: arrays * 2), f"{JOG}: expected keypoints in 3 cameras, found 6"),
    (EXACT, pixels(lambda arrays: None), f"{JOG}: expected keypoints in 3 cameras, found NoneType"),
    (EXACT, pixels(lambda arrays: [array[:-1] for array in arrays]),
     f"gt: {JOG}: camera C1: expected keypoints of all 10 frames of the motion, found 9"),
    (EXACT, pixels(lambda arrays: [arrays[0], with_nan(arrays[1]), arrays[2]]),
     f"{JOG}: camera C2: expected finite numbers, found NaN or infinity in frame 4"),
    (EXACT, pixels(lambda arrays: [array * 3 for array in arrays]),
     "C1: expected keypoints in an image of 640 x 480 pixels, found their median at"),
    (EXACT, pixels(lambda arrays: [array / 640 for array in arrays]),
     "C1: expected keypoints in an image of 640 x 480 pixels, found all of them within 0.* pixels of height"),
    (EXACT, lambda m: m["positions_2d"].update({"S1": {}}),
     "data_2d_.*: expected the recordings Train/S1, .*, found 'S1'"),
    (EXACT, lambda m: m["positions_2d"].update({"Train/S1": []}), "Train/S1: expected takes by name, found list"),
]  # fmt: skip


@pytest.mark.parametrize("archive", [POSES, EXACT])
def test_what_is_wrong_in_an_archive_is_named(archive, raw, tmp_path):
    path = shutil.copytree(raw, tmp_path / "raw") / "humaneva" / archive
    for change, message in [(change, message) for name, change, message in WRONG_ARCHIVES if name == archive]:
        members = read_object_npz(raw / "humaneva" / archive)
        np.savez(path, **(change(members) or members))
        with pytest.raises(UserError, match=message):
            prepare(tmp_path / "raw")
    path.write_bytes((raw / "humaneva" / archive).read_bytes()[:900])
    with pytest.raises(UserError, match=rf"{archive}: expected a whole npz archive"):
        prepare(tmp_path / "raw")


def test_what_is_missing_is_named_with_what_is_there(raw, tmp_path):
    found = rf"expected the keypoints 'cpn', found no such file \(there are: {DETECTED}, gt\)"
    with pytest.raises(UserError, match=rf"data_2d_humaneva15_cpn.npz: {found}"):
        prepare(raw, keypoints="cpn")
    with pytest.raises(UserError, match=r"humaneva: expected data_3d_humaneva15.npz or converted_15j, found neither"):
        prepare(tmp_path)


WRONG_VARIABLES: list[tuple[Any, str]] = [
    (lambda v: {"poses_3d": v["poses_3d"]}, "Jog_1.mat: expected the variable 'poses_2d', found poses_3d"),
    (lambda v: v | {"poses_2d": v["poses_2d"][:, :-1]},
     r"poses_2d: expected numbers of the shape \(3, 13, 15, 2\), found \(3, 12, 15, 2\)"),
    (lambda v: v | {"poses_3d": np.nan_to_num(v["poses_3d"])},
     "expected NaN in poses_3d and poses_2d alike, found one alone in frame 0"),
    (lambda v: v | {"poses_3d": "x"}, "poses_3d: expected numbers of the shape .*, found an array of <U1"),
]  # fmt: skip


def test_what_is_wrong_in_the_matlab_files_is_named(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "raw")
    path = folder / "humaneva" / "converted_15j" / "Train" / "S2" / "Jog_1.mat"
    good = path.read_bytes()
    variables = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
    for change, message in WRONG_VARIABLES:
        scipy.io.savemat(path, change(variables))
        with pytest.raises(UserError, match=message):
            prepare(folder)
    path.write_bytes(good[:700])
    with pytest.raises(UserError, match=r"Jog_1.mat: expected a whole MATLAB file of version 5 to 7, found"):
        prepare(folder)
    path.rename(path.with_name("Jog_2.mat"))
    with pytest.raises(UserError, match=r"Jog_2.mat: expected trial 1 of Walking, "):
        prepare(folder)
    shutil.rmtree(path.parent)
    with pytest.raises(UserError, match=r"Train/S2: expected one file per action, such as Walking_1.mat, found none"):
        prepare(folder)


def test_a_row_goes_through_all_stages_to_the_table_of_the_papers(raw, tmp_path):
    metrics, markdown = four_stages("humaneva-gt-f9-linear", tmp_path, raw_folder=raw)
    cells = metrics["per_subject_action"]
    assert set(cells) == {f"{subject} {action}" for subject in ("S1", "S2", "S3") for action in USUAL}
    mean = np.mean([cell["mpjpe_mm"]["mean"] for cell in cells.values()])
    assert metrics["mpjpe_mm"]["mean"] == pytest.approx(mean)
    assert metrics["protocol"]["averaging"].startswith("frames pooled within an action of a subject")
    for name, metric in (("MPJPE", "mpjpe_mm"), ("P-MPJPE", "p_mpjpe_mm")):
        table = markdown.split(f"\n{name} per action and subject")[1].split("PE per action and subject")[0]
        header = "| row | Walking S1 | Walking S2 | Walking S3 | Jog S1 | Jog S2 | Jog S3 | Box S1 | Box S2 | Box S3 |"
        assert f"{header} mean of Walking, Jog | mean of Walking, Jog, Box |" in table
        *values, walk_and_jog, with_box = cells_of(table, "gt f9 linear")
        expected = [cells[f"S{subject} {action}"][metric]["mean"] for action in USUAL for subject in (1, 2, 3)]
        assert values == [round(value, 2) for value in expected]
        assert walk_and_jog == pytest.approx(np.mean(expected[:6]), abs=0.005)
        assert with_box == pytest.approx(np.mean(expected), abs=0.005)


def test_a_row_of_detections_goes_through_all_stages(raw, tmp_path):
    row = f"humaneva-{DETECTED}-f3-linear"
    changes = {"epochs": 1, "windows_per_epoch": 64, "actions": ["Walking", "Jog"]}
    metrics, markdown = four_stages(row, tmp_path, raw_folder=raw, **changes)
    assert len(metrics["per_subject_action"]) == 6
    assert metrics["protocol"]["joints"] == 15
    assert "mean of Walking, Jog |" in markdown
    assert "Box" not in markdown.split("Protocol:")[0]
