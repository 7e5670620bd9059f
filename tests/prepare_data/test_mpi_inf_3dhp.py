"""MPI-INF-3DHP: both formats give the same clips, PCK and AUC are the dataset's own, what is wrong is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from pipeline.poses.geometry import project
from pipeline.poses.metrics import clip_scores
from pipeline.poses.scores import score_actions
from pipeline.poses.skeleton import MPI_INF_3DHP_17
from pipeline.poses.windows import every_nth, frame_table
from pipeline.prepare_data.doctor import examine
from pipeline.prepare_data.licensed import mpi_inf_3dhp
from pipeline.prepare_data.licensed import mpi_inf_3dhp_files as files
from pipeline.prepare_data.prepared import Prepared
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from tests.fixtures import mpi_inf_3dhp as fixture
from tests.fixtures.four_stages import cells_of, four_stages
from tests.fixtures.networks import trained_model

TRAIN, TEST = "data_train_3dhp.npz", "data_test_3dhp.npz"
SEQUENCE = "mpi_inf_3dhp/S1/Seq1"
TEST_SET = "mpi_inf_3dhp/mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set"
# Of our joints, what the walker behind the fixture calls them.
LANDMARKS = {"Pelvis": "pelvis", "Spine": "spine", "Neck": "neck", "Head": "head", "HeadTop": "head_top"}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release; to be read, not changed."""
    folder = tmp_path_factory.mktemp("released")
    fixture.write_release(folder / "mpi_inf_3dhp")
    return folder


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives; to be read, not changed."""
    folder = tmp_path_factory.mktemp("archived")
    fixture.write_archives(folder / "mpi_inf_3dhp")
    return folder


def prepare(raw_folder: Path, **changes: Any) -> Prepared:
    arguments: dict[str, Any] = {"keypoints": "gt", "target": "univ_annot3", "validation_takes": ()}
    return mpi_inf_3dhp.prepare(raw_folder / "mpi_inf_3dhp", **(arguments | changes))


@pytest.fixture(scope="module")
def prepared(released: Path) -> Prepared:
    """What is prepared of the release."""
    return prepare(released)


def copied(raw_folder: Path, tmp_path: Path) -> Path:
    """A copy of the raw files that a test may damage."""
    return shutil.copytree(raw_folder, tmp_path / "raw")


def read_train(raw_folder: Path) -> list[files.Recording]:
    return list(files.read_train(raw_folder / "mpi_inf_3dhp", "univ_annot3"))


def read_test(raw_folder: Path) -> list[files.Recording]:
    return list(files.read_test(raw_folder / "mpi_inf_3dhp", "univ_annot3"))


def assert_refused(read: Callable[[Path], Any], raw_folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(raw_folder)


def assert_same_clips(prepared: Prepared, other: Prepared) -> None:
    for split in ("train", "test"):
        assert len(prepared.splits[split]) == len(other.splits[split]) > 0
        for clip, twin in zip(prepared.splits[split], other.splits[split], strict=True):
            assert (clip.name, clip.rate_hz, clip.subset) == (twin.name, twin.rate_hz, twin.subset)
            np.testing.assert_array_equal(clip.pixels, twin.pixels)
            np.testing.assert_array_equal(clip.joints_camera_m, twin.joints_camera_m)
            np.testing.assert_array_equal(clip.scored, twin.scored)


def test_release_and_archives_give_the_same_clips_bit_for_bit_and_so_does_what_is_exported(
    released, archived, prepared, tmp_path
):
    assert_same_clips(prepare(archived), prepared)
    for origin in (released, archived):
        out = tmp_path / origin.name
        files.write_archives(origin / "mpi_inf_3dhp", out / "mpi_inf_3dhp", keypoints=["gt"])
        assert_same_clips(prepare(out), prepared)


def test_exported_archives_have_what_other_people_read(released, tmp_path):
    files.write_archives(released / "mpi_inf_3dhp", tmp_path, keypoints=["gt"])
    train, test = (read_object_npz(tmp_path / name)["data"] for name in (TRAIN, TEST))
    cameras, rate_hz = train["S1 Seq2"]
    assert rate_hz == 50
    assert list(cameras) == ["0", "1", "2", "4", "5", "6", "7", "8"]
    expected = fixture.train_archive()["S1 Seq2"][0]["8"]
    for key in ("data_2d", "data_3d"):
        np.testing.assert_allclose(cameras["8"][key], expected[key], rtol=1e-6)
    np.testing.assert_array_equal(test["TS5"]["valid"], fixture.valid_frames("TS5"))


def test_the_doctor_names_what_is_missing_and_what_differs(released, archived, tmp_path):
    lines, whole = examine("mpi_inf_3dhp", tmp_path)
    assert not whole
    assert lines[-1] == "Missing: train sequences, test sequences. See docs/datasets/mpi_inf_3dhp.md."
    lines, whole = examine("mpi_inf_3dhp", released)
    assert not whole
    assert any(line.startswith("  found    TS[1-6]/annot_data.mat: 6 files, ") for line in lines)
    assert "  TS1: expected 6151 frames and 603 valid ones, found 14 and 4" in lines
    lines, _ = examine("mpi_inf_3dhp", archived)
    assert any(line.startswith("  found    data_train_3dhp.npz: 1 file, ") for line in lines)


def test_every_joint_is_the_one_that_its_name_says_and_the_pelvis_comes_first(released):
    clip = prepare(released, target="annot3").splits["train"][0]
    assert MPI_INF_3DHP_17.root == 0
    points = fixture.walk_m(fixture.TRAIN_FRAMES, rate_hz=25.0, phase=0)
    for place, name in enumerate(MPI_INF_3DHP_17.joints):
        world_m = points[LANDMARKS.get(name, name)]
        expected_m = fixture.camera(0).camera_from_world.apply(world_m)
        np.testing.assert_allclose(clip.joints_camera_m[:, place], expected_m, atol=1e-5)


def test_the_relevant_joints_are_those_of_the_two_published_orders():
    names_17 = [fixture.NAMES_28[joint] for joint in files.RELEVANT]
    assert names_17[:5] == ["head_top", "neck", "RShoulder", "RElbow", "RWrist"]
    assert names_17[14:] == ["pelvis", "spine", "head"]
    ours = [names_17[joint] for joint in mpi_inf_3dhp.H36M_ORDER]
    assert ours == [LANDMARKS.get(name, name) for name in MPI_INF_3DHP_17.joints]


def test_the_skeleton_hangs_together_as_the_dataset_says():
    published = (1, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, 14, 14, 1)
    order = mpi_inf_3dhp.H36M_ORDER
    parents = [-1 if published[joint] == joint else order.index(published[joint]) for joint in order]
    assert tuple(parents) == MPI_INF_3DHP_17.parents
    left, right = (5, 6, 7, 11, 12, 13), (2, 3, 4, 8, 9, 10)
    assert {order.index(joint) for joint in left} == set(MPI_INF_3DHP_17.left)
    assert {order.index(joint) for joint in right} == set(MPI_INF_3DHP_17.right)


def test_pck_leaves_out_pelvis_spine_and_head():
    counted = {MPI_INF_3DHP_17.joints[joint] for joint in mpi_inf_3dhp.PCK_JOINTS}
    assert set(MPI_INF_3DHP_17.joints) - counted == {"Pelvis", "Spine", "Head"}


def test_pck_and_auc_of_the_golden_poses_survive_the_reordering():
    steps = np.arange(3 * 17 * 3).reshape(3, 17, 3)
    target_m = np.sin(0.37 * steps)
    predicted_m = 0.9 * target_m + 0.05 * np.cos(0.91 * steps)
    order = list(mpi_inf_3dhp.H36M_ORDER)
    scores = clip_scores(predicted_m[:, order], target_m[:, order], pck_joints=mpi_inf_3dhp.PCK_JOINTS)
    assert scores["pck150"].mean == pytest.approx(66.66666666666666, abs=1e-12)
    assert scores["auc"].mean == pytest.approx(24.88479262672811, abs=1e-12)
    assert scores["mpjpe_mm"].mean == pytest.approx(125.8828175476434, abs=1e-10)


def test_the_two_targets_differ_and_the_one_in_true_size_projects_onto_the_keypoints(released, prepared):
    true = prepare(released, target="annot3")
    for clip in true.splits["train"][::7]:
        pixels = project(clip.joints_camera_m.astype(np.float64), clip.camera)
        np.testing.assert_allclose(pixels, clip.pixels, atol=0.01)  # float32 metres and pixels
    assert prepared.target.startswith("univ_annot3: ")
    assert true.target.startswith("annot3: ")
    for clip, twin in zip(prepared.splits["test"], true.splits["test"], strict=True):
        np.testing.assert_array_equal(clip.pixels, twin.pixels)
        pose_m, true_m = (joints_m - joints_m[:, :1] for joints_m in (clip.joints_camera_m, twin.joints_camera_m))
        np.testing.assert_allclose(pose_m, fixture.UNIVERSAL_SCALE * true_m, atol=1e-5)


def test_eight_of_fourteen_cameras_are_used_and_their_lenses_read(prepared):
    clips = [clip for clip in prepared.splits["train"] if clip.take == "S3 Seq2"]
    assert [clip.camera.name for clip in clips] == ["0", "1", "2", "4", "5", "6", "7", "8"]
    assert clips[4].camera.focal_px == (1495.0, 1495.0)
    assert clips[4].camera.centre_px == (1029.0, 1024.0)
    assert {clip.rate_hz for clip in clips} == {50.0}


def test_without_a_calibration_file_the_lens_is_unknown(released, tmp_path):
    folder = copied(released, tmp_path) / "mpi_inf_3dhp"
    (folder / "S1/Seq1/camera.calibration").unlink()
    camera = next(files.read_train(folder, "univ_annot3")).camera
    assert (camera.name, camera.width_px, camera.focal_px, camera.centre_px) == ("0", 2048, None, None)


def test_a_test_sequence_has_its_image_size_and_its_scene_as_subset(prepared):
    expected = {f"TS{n}": (2048, 2048) if n < 5 else (1920, 1080) for n in range(1, 7)}
    clips = prepared.splits["test"]
    assert {clip.take: (clip.camera.width_px, clip.camera.height_px) for clip in clips} == expected
    assert [clip.subset for clip in clips] == ["GS", "GS", "noGS", "noGS", "Outdoor", "Outdoor"]


def test_validation_takes_leave_the_train_split(released):
    prepared = prepare(released, validation_takes=["S8 Seq2"])
    assert {clip.take for clip in prepared.splits["validation"]} == {"S8 Seq2"}
    assert len(prepared.splits["validation"]) == 8
    assert "S8 Seq2" not in {clip.take for clip in prepared.splits["train"]}


def test_activities_change_inside_a_sequence_and_archives_have_none(archived, prepared):
    for clip in prepared.splits["test"]:
        numbers = fixture.activity(clip.take)
        for number, name in enumerate(files.ACTIVITIES):
            frames = clip.frames_per_action.get(name, np.zeros(len(clip), dtype=bool))
            np.testing.assert_array_equal(frames, numbers == number)
    assert {recording.activities for recording in read_test(archived)} == {()}
    assert {clip.action for clip in prepared.splits["test"]} == {"unlabelled"}


def random_poses_m(table, seed=0):
    return table.pose_m + 0.1 * torch.randn(table.pose_m.shape, generator=torch.Generator().manual_seed(seed))


def test_only_valid_frames_are_scored_and_activities_add_up_to_the_whole(prepared):
    clips = prepared.splits["test"]
    table = frame_table(clips, root=0, device=torch.device("cpu"))
    poses_m = random_poses_m(table)
    parts = score_actions(clips, poses_m, table, every_nth(table, 1), pck_joints=prepared.pck_joints)
    first = 0
    for clip in clips:
        valid = first + np.flatnonzero(fixture.valid_frames(clip.take))
        expected = clip_scores(poses_m[valid].numpy(), table.pose_m[valid].numpy(), pck_joints=prepared.pck_joints)
        own = [scores for part, _, scores in parts if part is clip]
        for metric in ("mpjpe_mm", "p_mpjpe_mm", "pck150", "auc"):
            assert sum(score[metric].frames for score in own) == len(valid)
            assert sum(score[metric].total for score in own) == pytest.approx(expected[metric].total)
        activities = {action for part, action, _ in parts if part is clip}
        assert activities == {files.ACTIVITIES[fixture.activity(clip.take)[at - first]] for at in valid}
        first += len(clip)


def test_a_frame_step_counts_along_the_valid_frames(prepared):
    clips = prepared.splits["test"]
    table = frame_table(clips, root=0, device=torch.device("cpu"))
    marked = every_nth(table, 2).numpy().reshape(len(clips), -1)
    for clip, own in zip(clips, marked, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(own), np.flatnonzero(fixture.valid_frames(clip.take))[::2])


class MeanOfWindow(torch.nn.Module):
    """Predicts, for every joint, the mean of all keypoints of its window."""

    predicts = "middle_frame"

    def forward(self, screen):
        mean = screen.mean((1, 2))
        return torch.cat([mean, mean[:, :1]], dim=-1)[:, None, None].expand(-1, 1, 17, 3)


def test_frames_that_are_not_valid_are_context(prepared):
    clips = prepared.splits["test"]
    table = frame_table(clips, root=0, device=torch.device("cpu"))
    whole, scored = (
        trained_model(MeanOfWindow(), frames=5, skeleton=MPI_INF_3DHP_17.name).predict(
            table, flip_averaging=False, wanted=wanted
        )
        for wanted in (None, every_nth(table, 1))
    )
    assert not table.scored.all()
    torch.testing.assert_close(scored[table.scored], whole[table.scored], rtol=0, atol=0)
    middle = clips[0].pixels[3:8].mean((0, 1))[0] / 1024 - 1  # frame 5 of TS1 is valid, 3, 4, 6 and 7 are not
    assert fixture.valid_frames("TS1")[3:8].tolist() == [0, 0, 1, 0, 0]
    assert float(scored[5, 0, 0]) == pytest.approx(float(middle), abs=1e-5)


def test_every_sequence_of_another_length_is_named(prepared):
    differences = prepared.differences
    assert len(differences) == 16 + 6 + 1
    assert "S1 Seq2: expected 12430 frames in each camera, found 10" in differences
    assert "TS6: expected 492 frames and 452 valid ones, found 14 and 5" in differences
    assert differences[-1] == "train sequences: expected 1052736 frames in all, found 1280"


def test_the_published_counts_add_up_to_the_published_totals():
    frames = sum(frames for frames, _ in files.TRAIN_TAKES.values())
    assert frames * len(files.CAMERAS) == files.TRAIN_FRAMES == 1_052_736
    assert sum(valid for _, valid, _ in files.TEST_TAKES.values()) == 2_929


def test_a_sequence_of_the_published_length_is_not_named_but_another_frame_rate_is(archived, tmp_path):
    content = fixture.evaluation_archive()
    frames = np.arange(320) % fixture.TEST_FRAMES
    content["TS5"] = {key: array[frames] for key, array in content["TS5"].items()}
    content["TS5"]["valid"] = (np.arange(320) < 276).astype(float)
    folder = copied(archived, tmp_path)
    np.savez(folder / "mpi_inf_3dhp" / TEST, data=content)
    content = fixture.train_archive()
    content["S2 Seq1"][1] = 50
    np.savez(folder / "mpi_inf_3dhp" / TRAIN, data=content)
    differences = prepare(folder).differences
    assert not any(line.startswith("TS5") for line in differences)
    assert "S2 Seq1: expected 25 frames per second, found 50" in differences


def with_nan(array):
    array = array.copy()
    array.reshape(len(array), -1)[4, 2] = np.nan
    return array


# What is wrong with the first train sequence, its camera 7, the train archive or the test archive.
WRONG_SEQUENCES: list[tuple[Any, str]] = [
    (lambda take: take[:1], "expected .cameras, frames per second., found list"),
    (lambda take: [take[0], "fast"], "expected frames per second, found 'fast'"),
    (lambda take: take[0].pop("7") and take, "expected the cameras 0, 1, 2, 4, 5, 6, 7, 8, found 0, 1,"),
    (lambda take: take[0].update({"3": take[0]["2"]}) or take, "expected the cameras 0, .*, found 0, .*, 8, 3"),
    (lambda take: take[0].update({"7": 3}) or take, "camera 7: expected 'data_2d', found int"),
]
WRONG_CAMERAS: list[tuple[Any, str]] = [
    (lambda c: c.pop("data_2d"), "expected 'data_2d', found data_3d"),
    (lambda c: c.update(data_2d=c["data_2d"][:-1]), "expected keypoints and poses of as many frames, found 9 and 10"),
    (lambda c: c.update(data_3d=np.zeros((10, 28, 3))),
     r"data_3d: expected numbers of the shape \(any, 17, 3\), found \(10, 28, 3\)"),
    (lambda c: c.update(data_3d=with_nan(c["data_3d"])),
     "data_3d: expected finite numbers, found NaN or infinity in frame 4"),
    (lambda c: c.update(data_2d=c["data_2d"] / 1024 - 1),
     "expected keypoints in an image of 2048 x 2048 pixels, found"),
]  # fmt: skip
WRONG_TESTS: list[tuple[Any, str]] = [
    (lambda c: c.pop("TS4"), "expected the sequences TS1, .* 'TS4' is missing"),
    (lambda c: c["TS4"].pop("valid"), "TS4: expected 'valid', found data_2d, data_3d"),
    (lambda c: c["TS4"].update(valid=np.zeros(14)), r"TS4: valid: expected 0 and 1, at least one 1, found \[0.0\]"),
    (lambda c: c["TS4"].update(valid=np.full(14, 2)), r"TS4: valid: expected 0 and 1, at least one 1, found \[2.0\]"),
    (lambda c: c["TS4"].update(valid=np.ones(13)), r"TS4: valid: expected .* shape \(14\), found \(13,\)"),
    (lambda c: c["TS5"].update(data_2d=c["TS5"]["data_2d"] + [0, 700]),
     "TS5: expected keypoints in an image of 1920 x 1080 pixels, found their median at"),
]  # fmt: skip


def test_what_is_wrong_in_the_train_archive_is_named(archived, tmp_path):
    sequence, cases = fixture.train_archive()["S1 Seq1"], []
    good = dict.fromkeys(files.TRAIN_TAKES, sequence)  # stored once, and so read fast
    for change, message in WRONG_SEQUENCES:
        cases.append((good | {"S1 Seq1": change(deepcopy(sequence))}, f"S1 Seq1: {message}"))
    for change, message in WRONG_CAMERAS:
        cameras, rate_hz = deepcopy(sequence)
        change(cameras["7"])
        cases.append((good | {"S1 Seq1": [cameras, rate_hz]}, f"S1 Seq1: camera 7: {message}"))
    folder = copied(archived, tmp_path)
    without = {take: content for take, content in good.items() if take != "S3 Seq1"}
    cases += [
        (without, "npz: expected the sequences S1 Seq1, .* 'S3 Seq1' is missing"),
        (good | {"S9 Seq1": 1}, "expected the sequences S1 Seq1, .* 'S9 Seq1' is unknown"),
        ("of another dataset", "data_train_3dhp.npz: expected the sequences .* in 'data'; 'S1 Seq1' is missing"),
    ]
    for content, message in cases:
        np.savez(folder / "mpi_inf_3dhp" / TRAIN, data=content)
        assert_refused(prepare, folder, message)


def test_what_is_wrong_in_the_test_archive_is_named(archived, tmp_path):
    folder, good = copied(archived, tmp_path), fixture.evaluation_archive()
    for change, message in WRONG_TESTS:
        content = deepcopy(good)
        change(content)
        np.savez(folder / "mpi_inf_3dhp" / TEST, data=content)
        assert_refused(prepare, folder, message)


def test_archives_that_are_cut_off_missing_or_without_the_target_are_refused(archived, tmp_path):
    with pytest.raises(UserError, match=r"expected TS1/annot_data.mat and the others for the target annot3, found no"):
        prepare(archived, target="annot3")
    assert_refused(prepare, tmp_path, r"expected data_test_3dhp.npz or TS1/annot_data.mat and the others, found nei")
    folder = copied(archived, tmp_path)
    path = folder / "mpi_inf_3dhp" / TRAIN
    path.write_bytes(path.read_bytes()[:5000])
    assert_refused(prepare, folder, r"data_train_3dhp.npz: expected a whole npz archive")
    path.unlink()
    assert_refused(prepare, folder, r"expected data_train_3dhp.npz or S1/Seq1/annot.mat and the others, found nei")


def narrow_cell(cells: np.ndarray) -> np.ndarray:
    cells[6, 0] = cells[6, 0][:, :34]
    return cells


WRONG_ANNOTATIONS: list[tuple[str, Any, str]] = [
    ("annot2", lambda v: v[:13], r"annot2: expected a cell for each of 14 cameras, found \(13, 1\)"),
    ("annot2", narrow_cell, r"annot2: camera 6: expected numbers of the shape \(any, 56\), found \(10, 34\)"),
    ("cameras", lambda v: v[:, :13], r"cameras: expected 0 to 13, found \[0, 1, 2"),
    ("univ_annot3", None, r"annot.mat: expected the variable 'univ_annot3', found"),
]
WRONG_CALIBRATIONS = [
    ("size        2048 2048", "size        1280 720", r"camera 0: expected images of \(2048, 2048\) pixels, found"),
    ("name          8", "name          18", "expected the cameras 0, .*, found no camera 8"),
    ("intrinsic   1", "intrinsic   x", "expected a camera calibration, found ValueError"),
]


def test_what_is_wrong_in_a_train_file_is_named(released, tmp_path):
    folder = copied(released, tmp_path)
    path, test_file = folder / SEQUENCE / "annot.mat", folder / TEST_SET / "TS1/annot_data.mat"
    for name, change, message in WRONG_ANNOTATIONS:
        variables = {key: v for key, v in scipy.io.loadmat(released / SEQUENCE / "annot.mat").items() if key[0] != "_"}
        value = variables.pop(name)
        scipy.io.savemat(path, variables | ({name: change(value)} if change else {}))
        assert_refused(read_train, folder, message)
    cut_off = (released / SEQUENCE / "annot.mat").read_bytes()[:-3000]
    for content, found in ((cut_off, ""), (test_file.read_bytes(), "NotImpl")):  # a test file is of another version
        path.write_bytes(content)
        message = f"S1/Seq1/annot.mat: expected a whole MATLAB file of version 5 to 7, found {found}"
        assert_refused(read_train, folder, message)
    path.unlink()
    assert_refused(read_train, folder, r"mpi_inf_3dhp: expected S1/Seq1/annot.mat, found no such file")


@pytest.mark.parametrize(("old", "new", "message"), WRONG_CALIBRATIONS)
def test_what_is_wrong_in_a_calibration_file_is_named(old, new, message, released, tmp_path):
    folder = copied(released, tmp_path)
    path = folder / SEQUENCE / "camera.calibration"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert_refused(read_train, folder, rf"S1/Seq1/camera.calibration: {message}")


WRONG_VARIABLES: list[tuple[str, Any, str]] = [
    ("activity_annotation", np.full((14, 1), 8.0), "activity_annotation: frame 0: expected 1 to 7, found 8"),
    ("activity_annotation", np.zeros((14, 1)), "activity_annotation: frame 2: expected 1 to 7, found 0"),
    ("activity_annotation", np.ones((13, 1)), r"activity_annotation: expected .* \(14, 1\), found \(13, 1\)"),
    ("valid_frame", None, r"annot_data.mat: expected the variable 'valid_frame', found activity_annotation, "),
    ("annot2", np.zeros((14, 17, 2)), r"annot2: expected .* \(any, 1, 17, 2\), found \(14, 17, 2\)"),
    ("univ_annot3", np.full((14, 1, 17, 3), "x", dtype="S1"), "'univ_annot3': expected numbers in the file itself"),
    ("annot2", h5py.ExternalLink("other.mat", "annot2"), "'annot2': expected an array in the file, found External"),
    ("annot2", h5py.SoftLink("/annot3"), "'annot2': expected an array in the file, found SoftLink"),
]


def test_what_is_wrong_in_a_test_file_is_named(released, tmp_path):
    folder = copied(released, tmp_path)
    path, good = folder / TEST_SET / "TS1/annot_data.mat", released / TEST_SET / "TS1/annot_data.mat"
    for name, value, message in WRONG_VARIABLES:
        shutil.copy(good, path)
        with h5py.File(path, "r+") as file:
            del file[name]
            if value is not None:
                file[name] = value
        assert_refused(read_test, folder, message)
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        del file["annot2"]
        file.create_dataset("annot2", (14, 1, 17, 2), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    assert_refused(read_test, folder, "'annot2': expected numbers in the file itself, found float64")
    scipy.io.savemat(path, {"annot2": np.zeros((14, 34))})
    assert_refused(read_test, folder, "annot_data.mat: expected a whole MATLAB file of version 7.3, found OSE")


def test_two_copies_of_a_test_sequence_and_a_missing_one_are_refused(released, tmp_path):
    folder = copied(released, tmp_path)
    shutil.copytree(folder / TEST_SET / "TS2", folder / "mpi_inf_3dhp" / "TS2")
    assert_refused(read_test, folder, "expected one TS2/annot_data.mat, found .*/TS2/annot_data.mat and .*test_s")
    shutil.rmtree(folder / "mpi_inf_3dhp" / "TS2")
    shutil.rmtree(folder / TEST_SET / "TS2")
    assert_refused(read_test, folder, r"mpi_inf_3dhp: expected TS2/annot_data.mat, found no such file")


def test_other_keypoints_and_an_unknown_validation_take_are_refused(archived):
    with pytest.raises(UserError, match="keypoints of mpi_inf_3dhp: expected one of gt, found 'cpn'"):
        prepare(archived, keypoints="cpn")
    with pytest.raises(UserError, match="validation_takes: expected train sequences such as 'S8 Seq2', found 'TS1'"):
        prepare(archived, validation_takes=["TS1"])


def test_a_row_goes_through_all_stages_to_the_official_table(released, tmp_path):
    metrics, markdown = four_stages("mpi_inf_3dhp-gt-f9-linear", tmp_path, raw_folder=released)
    valid = {take: int(fixture.valid_frames(take).sum()) for take in files.TEST_TAKES}
    assert metrics["protocol"]["scored"] == sum(valid.values())
    assert metrics["protocol"]["target"].startswith("univ_annot3")
    assert "14 joints" in metrics["protocol"]["pck"]
    assert metrics["protocol"]["root"].endswith("predicted root zeroed")
    assert metrics["mpjve_mm"]["mean"] is None  # valid frames do not follow one another
    for metric in ("pck150", "auc", "mpjpe_mm"):
        per_take = {take: own[metric]["mean"] for take, own in metrics["per_subject"].items()}
        pooled = sum(valid[take] * value for take, value in per_take.items()) / sum(valid.values())
        assert metrics[metric]["mean"] == metrics["over_frames"][metric]["mean"] == pytest.approx(pooled)
        assert metrics["over_subjects"][metric]["mean"] == pytest.approx(np.mean(list(per_take.values())))
        assert set(metrics["per_subset"]) == {"GS", "noGS", "Outdoor"}
        indoors = [take for take in valid if take in ("TS1", "TS2")]
        scene = sum(valid[take] * per_take[take] for take in indoors) / sum(valid[take] for take in indoors)
        assert metrics["per_subset"]["GS"][metric]["mean"] == pytest.approx(scene)
    assert set(metrics["per_action"]) <= set(files.ACTIVITIES[1:])
    overall = cells_of(markdown.split("Overall, over all valid frames")[1].split("per scene")[0], "gt f9 linear")
    kinds = [(over, metric) for over in ("over_frames", "over_subjects") for metric in ("pck150", "auc", "mpjpe_mm")]
    assert overall == [round(metrics[over][metric]["mean"], 2) for over, metric in kinds]
    scenes = cells_of(markdown.split("per scene:")[1].split("per test sequence")[0], "gt f9 linear")
    assert scenes == [round(metrics["per_subset"][s]["pck150"]["mean"], 2) for s in ("GS", "noGS", "Outdoor")]


def test_the_mean_of_sequences_can_be_the_headline(archived, tmp_path):
    row = "mpi_inf_3dhp-gt-f3-linear"
    metrics, _ = four_stages(row, tmp_path, raw_folder=archived, averaging="subjects", frame_step=2)
    assert metrics["mpjpe_mm"]["mean"] == metrics["over_subjects"]["mpjpe_mm"]["mean"]
    assert metrics["protocol"]["averaging"].startswith("frames pooled within a subject or test sequence")
    every_other = [(int(fixture.valid_frames(take).sum()) + 1) // 2 for take in files.TEST_TAKES]
    assert metrics["protocol"]["scored"] == sum(every_other)
