"""A tiny archive goes through the whole stage: what comes out adds up, is the same again, and is whole or not there."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from models import code_hash
from pipeline.config.params import EvaluationConfig, TrainingConfig, load_params, recipe_for
from pipeline.config.rows import parse_row
from pipeline.config.values import validated
from pipeline.mocap.cameras import read_clips
from pipeline.mocap.takes import read_take_split
from pipeline.poses.clips import SPLITS
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data import stage
from pipeline.prepare_data.stage import prepare_data
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml
from tests.fixtures.tiny_archive import FRAMES, TAKES, write_tiny_archive
from tests.fixtures.walker import contents

GT, DET = "mocap-gt-f27-linear", "mocap-det-f27-linear"


@pytest.fixture(scope="module")
def prepared(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the two rows prepared from the tiny archive; to be read, not changed."""
    folder = tmp_path_factory.mktemp("prepared")
    for row in (GT, DET):
        prepare_data(row, folder / row, params_path=write_params(folder), raw_folder=tiny_raw)
    return folder


def write_params(folder: Path, **changes: Any) -> Path:
    """The project's params.yaml, the keys of its dataset mocap changed."""
    content = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    content["datasets"]["mocap"] |= changes
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_the_folder_holds_three_splits_two_configurations_and_a_manifest(prepared):
    split_files = {f"{split}/{file}" for split in SPLITS for file in ("takes.json", "joints_world_m.npy")}
    for row in (GT, DET):
        assert set(contents(prepared / row)) == split_files | {"training.json", "evaluation.json", "manifest.json"}


def test_training_json_holds_what_is_given_and_the_architecture_completes_it(tiny_raw, tmp_path):
    params_path = write_params(tmp_path)
    content = yaml.safe_load(params_path.read_text(encoding="utf-8"))
    content["models"]["rayformer"] = {"depth": 1}
    params_path.write_text(yaml.safe_dump(content), encoding="utf-8")
    prepare_data("mocap-gt-f27-rayformer", tmp_path / "row", params_path=params_path, raw_folder=tiny_raw)
    training = json.loads((tmp_path / "row" / "training.json").read_text(encoding="utf-8"))
    assert training["hyperparameters"] == {"depth": 1}
    assert training["model_code"] == code_hash("rayformer")


@pytest.mark.parametrize("rate_hz", [30.0, 60.0])
def test_training_json_says_at_which_rate_and_with_which_lens_the_frames_were_seen(rate_hz, tiny_raw, tmp_path):
    prepare_data(GT, tmp_path / "row", params_path=write_params(tmp_path, rate_hz=rate_hz), raw_folder=tiny_raw)
    training = json.loads((tmp_path / "row" / "training.json").read_text(encoding="utf-8"))
    assert (training["rate_hz"], training["focal"]) == (rate_hz, 2.29)


@pytest.mark.parametrize("row", [GT, DET])
def test_the_manifest_counts_what_is_in_the_splits(row, prepared):
    manifest = manifest_of(prepared / row)
    assert manifest["row"] == row
    for split, counts in manifest["splits"].items():
        takes = read_take_split(prepared / row / split)
        assert counts["takes"] == len(takes)
        for kind in ("take", "subset", "subject", "action", "camera"):
            assert sum(counts[f"frames_per_{kind}"].values()) == counts["frames"]
        if split == "train":
            assert (counts["clips"], counts["frames"]) == (0, sum(map(len, takes)))
            continue
        clips = read_clips(prepared / row / split, detector_level=None)
        assert (counts["clips"], counts["frames"]) == (len(clips), sum(map(len, clips)))
        for camera, frames in counts["frames_per_camera"].items():
            assert frames == sum(len(clip) for clip in clips if clip.camera.name == camera)
    assert sum(counts["takes"] for counts in manifest["splits"].values()) == sum(map(len, TAKES.values()))


def test_every_frame_to_score_is_in_a_clip_or_counted_as_dropped(prepared):
    manifest = manifest_of(prepared / GT)
    scored = [manifest["splits"][split] for split in ("validation", "test")]
    kept, takes = (sum(counts[name] for counts in scored) for name in ("frames", "takes"))
    dropped = manifest["dropped_frames"]
    assert kept + dropped["total"] == takes * 4 * FRAMES  # of mocap_bodies, whose 30 Hz are kept
    assert dropped["total"] == sum(entry["frames"] for entry in dropped["takes"])
    assert all(entry["frames"] > 0 for entry in dropped["takes"])


def test_takes_are_in_the_split_that_their_folder_says(prepared):
    takes = {split: {take.name for take in read_take_split(prepared / GT / split)} for split in SPLITS}
    assert takes == {
        "train": set(TAKES["cmu_mocap"]),
        "validation": {"cmu_39_01"},
        "test": {"cmu_02_03", "cmu_05_02"},
    }


@pytest.mark.parametrize("row", [GT, DET])
def test_the_manifest_has_the_hash_of_every_other_file(row, prepared):
    files = contents(prepared / row)
    del files["manifest.json"]
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest_of(prepared / row)["sha256"] == hashes


def test_preparing_twice_gives_the_same_bytes(prepared, tiny_raw, tmp_path):
    prepare_data(DET, tmp_path / DET, params_path=write_params(tmp_path), raw_folder=tiny_raw)
    assert contents(tmp_path / DET) == contents(prepared / DET)


def test_exact_and_detected_rows_have_the_same_takes_which_are_stored_once_by_dvc(prepared):
    for split in SPLITS:
        assert contents(prepared / GT / split) == contents(prepared / DET / split)
    levels = [json.loads((prepared / row / "evaluation.json").read_text())["detector_level"] for row in (GT, DET)]
    assert levels == [None, 1.3]


def test_another_window_or_model_gets_the_same_clips(prepared, tiny_raw, tmp_path):
    prepare_data("mocap-gt-f9-poseformer", tmp_path / "out", params_path=write_params(tmp_path), raw_folder=tiny_raw)
    for split in SPLITS:
        assert contents(tmp_path / "out" / split) == contents(prepared / GT / split)


@pytest.mark.parametrize("keypoints", ["gt", "det"])
def test_one_more_take_changes_no_other_clip(keypoints, raw, prepared, tmp_path):
    row = f"mocap-{keypoints}-f27-linear"
    write_tiny_archive(raw, tmp_path / "raw", left_out=["train_walking_2"])
    prepare_data(row, tmp_path / row, params_path=write_params(tmp_path), raw_folder=tmp_path / "raw")
    compared = 0
    level = 1.3 if keypoints == "det" else None
    for split in ("validation", "test"):
        with_it = {clip.name: clip for clip in read_clips(prepared / row / split, detector_level=level)}
        without_it = {clip.name: clip for clip in read_clips(tmp_path / row / split, detector_level=level)}
        assert set(without_it) == {name for name, clip in with_it.items() if clip.take != "train_walking_2"}
        for name, clip in without_it.items():
            compared += 1
            for key in ("pixels", "joints_camera_m", "confidence"):
                np.testing.assert_array_equal(getattr(clip, key), getattr(with_it[name], key))
            assert (
                clip.camera.camera_from_world.rotation.tolist()
                == with_it[name].camera.camera_from_world.rotation.tolist()
            )
    assert compared >= 10


@pytest.mark.parametrize(("row", "channels"), [(GT, 2), (DET, 3)])
def test_the_configurations_are_the_parameters_of_the_row(row, channels, prepared):
    params = load_params(prepared / "params.yaml")
    recipe = recipe_for(parse_row(row), params, where="params.yaml").model_dump()
    training = validated(TrainingConfig, read_yaml(prepared / row / "training.json"), where="training.json")
    evaluation = validated(EvaluationConfig, read_yaml(prepared / row / "evaluation.json"), where="evaluation.json")
    assert training.row == evaluation.row == row
    assert (training.in_channels, training.in_skeleton, training.out_skeleton) == (channels, H36M_17.name, H36M_17.name)
    assert training.frames == evaluation.frames == 27
    assert training.threads == evaluation.threads == params.threads
    assert evaluation.selection == recipe["selection"]
    for part in (training.training.model_dump(), evaluation.evaluation.model_dump()):
        assert part.items() <= recipe.items()


def test_an_old_folder_is_replaced_whole(tiny_raw, tmp_path):
    (tmp_path / GT).mkdir()
    (tmp_path / GT / "old.txt").touch()
    prepare_data(GT, tmp_path / GT, params_path=write_params(tmp_path), raw_folder=tiny_raw)
    assert "old.txt" not in contents(tmp_path / GT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [GT, "params.yaml"]


def refuses(row: str, folder: Path, raw_folder: Path, message: str, **changes: Any) -> None:
    """That the stage refuses and leaves nothing behind, and what was there as it was."""
    out = folder / "prepared" / "row"
    out.mkdir(parents=True)
    (out / "old.txt").touch()
    with pytest.raises(UserError, match=message):
        prepare_data(row, out, params_path=write_params(folder, **changes), raw_folder=raw_folder)
    assert [path.name for path in out.parent.iterdir()] == ["row"]
    assert [path.name for path in out.iterdir()] == ["old.txt"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("coco-gt-f27-linear", "dataset: expected one of mocap, .*, found 'coco'"),
        ("mocap-cpn-f27-linear", "keypoints: expected one of gt, det for dataset mocap, found 'cpn'"),
        ("mocap-gt-f27-resnet", "model: expected one of .*, found 'resnet'"),
        ("mocap-gt-f26-linear", "frames: expected an odd number over 0 .*, found 26"),
        ("mocap-gt-linear", "row 'mocap-gt-linear': expected <dataset>-<keypoints>-f<frames>-<model>"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_name(row, message, tiny_raw, tmp_path):
    refuses(row, tmp_path, tiny_raw, message)


def test_a_dataset_with_parameters_but_no_reader_is_refused(tiny_raw, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SOURCES", {})
    refuses(GT, tmp_path, tiny_raw, "dataset mocap: expected one that can be read: ")


def test_a_bad_raw_file_leaves_nothing_behind(own_raw, tmp_path):
    path = own_raw / "mocap_bodies" / "cmu_05.npz"
    with np.load(path) as archive:
        joints = {name: values.astype(np.float32) for name, values in archive.items()}
    joints["cmu_05_02"][3, 7] = np.nan
    np.savez(path, **joints)
    refuses(GT, tmp_path, own_raw, "cmu_05.npz: take cmu_05_02: expected finite numbers, .* in frame 3")


def test_a_folder_with_nothing_to_test_on_is_refused_by_the_name_of_its_table(raw, tmp_path):
    write_tiny_archive(raw, tmp_path / "raw", left_out=["cmu_02_03", "cmu_05_02"])
    refuses(GT, tmp_path, tmp_path / "raw", r"cmu_mocap/takes\.csv: expected a take of split test, found none")


@pytest.mark.parametrize("split", ["train", "test"])
def test_takes_far_from_the_floor_leave_nothing_behind(split, own_raw, tmp_path):
    # Found out when all splits are written, and what cameras see of them is counted.
    for folder in own_raw.iterdir():
        with (folder / "takes.csv").open(newline="", encoding="utf-8") as file:
            lifted = [row for row in csv.DictReader(file) if row["split"] == split]
        for path in {folder / row["file"] for row in lifted}:
            with np.load(path) as archive:
                joints = {name: values + np.array([0.0, 0.0, 80_000.0]) for name, values in archive.items()}  # 20 m
            np.savez(path, **joints)
    refuses(GT, tmp_path, own_raw, f"expected a take of split {split} whose body a camera sees whole in a frame, found")


def test_the_best_epoch_cannot_be_selected_without_takes_to_validate_on(raw, tmp_path):
    write_tiny_archive(raw, tmp_path / "raw", left_out=["cmu_39_01"])
    message = "selection: expected takes to validate on for 'best_validation', found none"
    refuses(GT, tmp_path, tmp_path / "raw", message, selection="best_validation")
