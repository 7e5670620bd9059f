"""The metrics of a row are those that a slow second computation gives, and what does not fit is refused first."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file

from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.poses.checkpoint import load_checkpoint
from pipeline.poses.clips import Clip, read_split
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from pipeline.train.stage import train
from tests.fixtures.tracked_runs import of_kind, read_config, read_summary
from tests.fixtures.walker import change_json, contents, write_prepared

SEEDS = (0, 3)
VARIANTS: dict[str, dict[str, Any]] = {
    "every_frame": {"model": "rayformer"},
    "middle_frame": {"model": "poseformer", "evaluation": {"flip_averaging": False, "predicted_root": "kept"}},
    "every_second_frame": {"model": "rayformer", "with_confidence": True, "evaluation": {"frame_step": 2}},
    "tiles_longer_than_the_window": {"model": "rayformer", "evaluation": {"window_stride": 99}},
}
Poses = Float[np.ndarray, "F 17 3"]


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Makes for each variant a folder with prepared data, two trained runs and their evaluation, not to be changed."""
    folder = tmp_path_factory.mktemp("rows")
    for name, options in VARIANTS.items():
        write_prepared(folder / name / "prepared", epochs=1, **options)
        for seed in SEEDS:
            run = folder / name / "checkpoints" / f"run{seed}"
            train(folder / name / "prepared", run, seed=seed, work_folder=folder / name / ".work")
        evaluate_row(folder / name)
    return {name: folder / name for name in VARIANTS}


def evaluate_row(folder: Path, *, seeds: tuple[int, ...] = SEEDS) -> dict[str, bytes]:
    """Evaluates the row in `folder` and returns the bytes of its reports."""
    evaluate_5runs(
        folder / "prepared",
        folder / "checkpoints",
        seeds=seeds,
        reports=folder / "reports",
        work_folder=folder / ".work",
    )
    return contents(folder / "reports")


@pytest.fixture
def row_copy(rows: dict[str, Path], tmp_path: Path) -> Path:
    """Copies a row, without its reports, for a test to damage."""
    copied = shutil.copytree(rows["every_frame"], tmp_path / "row")
    shutil.rmtree(copied / "reports")
    return copied


def read_metrics(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "reports" / "metrics").iterdir()
    return json.loads(path.read_text(encoding="utf-8"))


@torch.no_grad()
def lift_frame(model: torch.nn.Module, clip: Clip, frame: int, *, tile: int) -> Float[np.ndarray, "17 3"]:
    """Lifts one frame alone, from the window in whose middle its tile lies."""
    middle, place = frame, 0
    if model.predicts == "every_frame":
        middle = frame // tile * tile + tile // 2
        place = frame - middle + 4
    frames = [min(max(number, 0), len(clip) - 1) for number in range(middle - 4, middle + 5)]
    screen = clip.pixels[frames] / np.float32(500) - np.array([1, 0.9], dtype=np.float32)
    if clip.confidence is not None:
        screen = np.concatenate([screen, clip.confidence[frames][..., None]], -1)
    return model(torch.from_numpy(screen)[None])[0, place].double().numpy()


def mirror(values: np.ndarray) -> np.ndarray:
    """Exchanges left and right, one joint at a time."""
    out = values.copy()
    for left, right in zip(H36M_17.left, H36M_17.right, strict=True):
        out[..., left, :], out[..., right, :] = values[..., right, :], values[..., left, :]
    out[..., 0] = -out[..., 0]
    return out


def mirror_clip(clip: Clip) -> Clip:
    pixels = mirror(clip.pixels - np.array([500, 0], dtype=np.float32)) + np.array([500, 0], dtype=np.float32)
    confidence = clip.confidence
    if confidence is not None:
        confidence = mirror(np.stack([np.zeros_like(confidence), confidence], -1))[..., 1]
    return Clip(**{**vars(clip), "pixels": pixels.astype(np.float32), "confidence": confidence})


def align(pose_m: Float[np.ndarray, "17 3"], true_m: Float[np.ndarray, "17 3"]) -> Float[np.ndarray, "17 3"]:
    """Aligns a single pose by a similarity (Kabsch 1976 with scale)."""
    pose, true = pose_m - pose_m.mean(0), true_m - true_m.mean(0)
    left, stretch, right = np.linalg.svd(pose.T @ true)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    scale = (stretch * np.diag(flip)).sum() / (pose**2).sum()
    return scale * pose @ left @ flip @ right + true_m.mean(0)


def clip_errors_mm(pose_m: Poses, true_m: Poses) -> dict[str, list[float]]:
    """Returns the errors of each scored frame of a clip; the mean velocity error stands for every frame."""
    frames = range(len(true_m))
    scaled = [pose_m[t] * (pose_m[t] * true_m[t]).sum() / (pose_m[t] ** 2).sum() for t in frames]
    drift = [pose_m[t + 1] - pose_m[t] - true_m[t + 1] + true_m[t] for t in frames[:-1]]
    velocities = [1000 * float(np.linalg.norm(step, axis=-1).mean()) for step in drift]
    return {
        "mpjpe_mm": [1000 * float(np.linalg.norm(pose_m[t] - true_m[t], axis=-1).mean()) for t in frames],
        "p_mpjpe_mm": [
            1000 * float(np.linalg.norm(align(pose_m[t], true_m[t]) - true_m[t], axis=-1).mean()) for t in frames
        ],
        "n_mpjpe_mm": [1000 * float(np.linalg.norm(scaled[t] - true_m[t], axis=-1).mean()) for t in frames],
        "mpjve_mm": [mean(velocities)] * len(true_m) if velocities else [],
    }


def score_run_slowly(folder: Path, seed: int, options: dict[str, Any]) -> list[tuple[Clip, dict[str, list[float]]]]:
    """Returns the errors of one run, clip by clip and frame by frame."""
    evaluation = {"flip_averaging": True, "window_stride": 3, "frame_step": 1, "predicted_root": "zeroed"}
    evaluation |= options.get("evaluation", {})
    model, _ = load_checkpoint(folder / "checkpoints" / f"run{seed}", device=torch.device("cpu"))
    tile = min(int(evaluation["window_stride"]), 9)
    scored = []
    for clip in read_split(folder / "prepared" / "test"):
        frames = list(range(0, len(clip), int(evaluation["frame_step"])))
        pose_m = np.stack([lift_frame(model, clip, frame, tile=tile) for frame in frames])
        if evaluation["flip_averaging"]:
            other = mirror_clip(clip)
            pose_m = (pose_m + mirror(np.stack([lift_frame(model, other, frame, tile=tile) for frame in frames]))) / 2
        if evaluation["predicted_root"] == "zeroed":
            pose_m[:, 0] = 0
        true_m = (clip.joints_camera_m - clip.joints_camera_m[:, :1])[frames].astype(np.float64)
        scored.append((clip, clip_errors_mm(pose_m, true_m)))
    return scored


@pytest.mark.parametrize("name", VARIANTS)
def test_every_number_is_that_of_a_slow_computation_frame_by_frame(name, rows):
    result = read_metrics(rows[name])
    runs = [score_run_slowly(rows[name], seed, VARIANTS[name]) for seed in SEEDS]
    unmeasured = {"mpjve_mm"} if name == "every_second_frame" else set()
    groups = {
        "per_action": lambda clip: clip.action,
        "per_subset": lambda clip: clip.subset,
        "per_subject": lambda clip: clip.subject,
        "over_frames": lambda clip: None,
    }
    for metric in METRIC_TITLES:
        for group, key in groups.items():
            for chosen in {key(clip) for clip, _ in runs[0]}:
                errors = [[e for c, own in run if key(c) == chosen for e in own[metric]] for run in runs]
                found = (result[group] if chosen is None else result[group][chosen])[metric]
                if metric in unmeasured or not errors[0]:
                    assert found == {"mean": None, "std": None, "runs": [None, None]}
                else:
                    assert found["runs"] == pytest.approx([mean(own) for own in errors], rel=2e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_headline_is_the_unweighted_mean_over_actions(name, rows):
    result = read_metrics(rows[name])
    assert set(result["per_action"]) == {"walking", "running"}
    for metric in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm"):
        per_run = zip(*(means[metric]["runs"] for means in result["per_action"].values()), strict=True)
        assert result[metric]["runs"] == pytest.approx([mean(values) for values in per_run])
        assert result[metric]["mean"] != pytest.approx(result["over_frames"][metric]["mean"])


def test_the_spread_is_the_sample_standard_deviation_over_the_runs(rows):
    result = read_metrics(rows["every_frame"])
    for values in (
        result["mpjpe_mm"],
        result["per_action"]["walking"]["p_mpjpe_mm"],
        result["over_frames"]["mpjve_mm"],
    ):
        assert len(values["runs"]) == 2
        assert values["mean"] == pytest.approx(mean(values["runs"]))
        assert values["std"] == pytest.approx(stdev(values["runs"]))
        assert values["std"] > 0


def test_one_run_has_no_spread(row_copy):
    evaluate_row(row_copy, seeds=(3,))
    result = read_metrics(row_copy)
    assert result["mpjpe_mm"]["std"] is None
    assert result["protocol"]["seeds"] == [3]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_second_evaluation_gives_the_same_bytes(name, rows):
    before = contents(rows[name] / "reports")
    assert evaluate_row(rows[name]) == before


def test_without_every_frame_there_is_no_velocity(rows):
    result = read_metrics(rows["every_second_frame"])
    text = json.dumps({key: value for key, value in result.items() if key != "protocol"})
    nothing = '"mpjve_mm": {"mean": null, "std": null, "runs": [null, null]}'
    assert text.count('"mpjve_mm"') == text.count(nothing) > 5
    assert result["mpjpe_mm"]["mean"] > 0


@pytest.mark.parametrize(("name", "scored"), [("every_frame", 25 + 7 + 1 + 12), ("every_second_frame", 13 + 4 + 1 + 6)])
def test_the_protocol_says_how_the_row_was_scored(name, scored, rows):
    protocol = read_metrics(rows[name])["protocol"]
    assert protocol["split"] == "test"
    assert protocol["dataset"] == "walker"
    assert protocol["target"] == "joints of a walker in closed form"
    assert (protocol["joints"], protocol["frames"], protocol["rate_hz"]) == (17, 9, [30.0])
    assert (protocol["clips"], protocol["scored"], protocol["seeds"]) == (4, scored, [0, 3])
    assert protocol["root"].endswith("predicted root zeroed")
    assert protocol["flip_averaging"] is True
    assert protocol["selection"] == "weights of the last epoch"
    assert "sample standard deviation" in protocol["spread"]
    assert "unweighted mean over actions" in protocol["averaging"]


@pytest.mark.parametrize("name", ["every_frame", "every_second_frame"])
def test_the_tables_for_plots_equal_the_record(name, rows):
    result, reports = read_metrics(rows[name]), rows[name] / "reports"
    (path,) = (reports / "per_action").iterdir()
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["action"] for line in lines] == list(result["per_action"])
    for line in lines:
        for metric in METRIC_TITLES:
            expected = result["per_action"][line["action"]][metric]["mean"]
            assert line[metric] == ("" if expected is None else repr(expected))
    (path,) = (reports / "learning_curves").iterdir()
    curves = path.read_text(encoding="utf-8").splitlines()
    histories = [(rows[name] / "checkpoints" / f"run{seed}" / "history.csv").read_text().splitlines() for seed in SEEDS]
    assert curves[0] == f"run,{histories[0][0]}"
    assert curves[1:] == [f"{seed},{line}" for seed, own in zip(SEEDS, histories, strict=True) for line in own[1:]]


def test_the_headline_file_equals_the_record(rows):
    result = read_metrics(rows["every_frame"])
    (path,) = (rows["every_frame"] / "reports" / "headline").iterdir()
    headline = json.loads(path.read_text(encoding="utf-8"))
    expected = {metric: result[metric]["mean"] for metric in METRIC_TITLES} | {
        "mpjpe_mm_std": result["mpjpe_mm"]["std"]
    }
    assert headline == expected


def test_only_the_test_split_is_opened(row_copy, rows):
    for part in ("train", "validation"):
        shutil.rmtree(row_copy / "prepared" / part)
    (row_copy / "prepared" / "training.json").unlink()
    assert evaluate_row(row_copy) == contents(rows["every_frame"] / "reports")


def test_the_tracked_summary_and_table_equal_the_record(row_copy, monkeypatch):
    for variable, value in {"MODE": "offline", "DIR": str(row_copy), "FINISH_TIMEOUT": "20"}.items():
        monkeypatch.setenv(f"WANDB_{variable}", value)
    monkeypatch.setenv("HOME", str(row_copy))
    evaluate_row(row_copy)
    result = read_metrics(row_copy)
    (file,) = (row_copy / "wandb").glob("offline-run-*/*.wandb")
    summary = read_summary(file)
    for metric in METRIC_TITLES:
        assert summary[f"test/{metric}"] == result[metric]["mean"]
    assert summary["test/mpjpe_mm_std"] == result["mpjpe_mm"]["std"]
    (table,) = (file.parent / "files" / "media" / "table" / "test").glob("per_action*.json")
    content = json.loads(table.read_text(encoding="utf-8"))
    assert content["columns"] == ["action", *METRIC_TITLES]
    means = {action: [own[metric]["mean"] for metric in METRIC_TITLES] for action, own in result["per_action"].items()}
    assert content["data"] == [[action, *own] for action, own in means.items()]
    assert read_config(file)["seeds"] == list(SEEDS)
    assert of_kind(file, "exit")[0].exit_code == 0


def drop_tensor(path: Path) -> None:
    weights = load_file(path)
    weights.pop("norm.weight")
    save_file(weights, path)


def add_tensor(path: Path) -> None:
    save_file({**load_file(path), "extra.weight": torch.zeros(2)}, path)


def cut_joints(folder: Path) -> None:
    pixels = np.load(folder / "pixels.npy")
    np.save(folder / "pixels.npy", pixels[:, :16])


def cut_output_joints(folder: Path) -> None:
    joints_m = np.load(folder / "joints_camera_m.npy")
    np.save(folder / "joints_camera_m.npy", joints_m[:, :16])


def add_confidence(folder: Path) -> None:
    frames = len(np.load(folder / "pixels.npy"))
    np.save(folder / "confidence.npy", np.ones((frames, 17), dtype=np.float32))


WEIGHTS = "checkpoints/run3/weights.safetensors"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda row: shutil.rmtree(row / "checkpoints" / "run3"), r"run3/card\.json: expected a .*YAML file, found "),
        (lambda row: (row / WEIGHTS).unlink(), r"run3/weights\.safetensors: expected a safetensors file, found FileNo"),
        (
            lambda row: os.truncate(row / WEIGHTS, 999),
            r"run3/weights\.safetensors: expected a safetensors file, found ",
        ),
        (
            lambda row: drop_tensor(row / WEIGHTS),
            r"run3/weights\.safetensors: norm\.weight: expected \(16,\), found no",
        ),
        (
            lambda row: add_tensor(row / WEIGHTS),
            r"weights\.safetensors: extra\.weight: expected no such tensor, found ",
        ),
        (
            lambda row: change_json(row / "checkpoints/run3/card.json", row="walker-gt-f9-linear"),
            r"run3: row: expected walker-gt-f9-rayformer as in the prepared data, found walker-gt-f9-linear$",
        ),
        (
            lambda row: change_json(row / "checkpoints/run3/card.json", seed=0),
            r"run3: seed: expected 3 as in the prepared data, found 0$",
        ),
        (
            lambda row: cut_joints(row / "prepared" / "test"),
            r"run0: input joints: expected 16 as in the prepared data, found 17$",
        ),
        (
            lambda row: cut_output_joints(row / "prepared" / "test"),
            r"run0: output joints: expected 16 as in the prepared data, found 17$",
        ),
        (
            lambda row: add_confidence(row / "prepared" / "test"),
            r"run0: input channels: expected 3 as in the prepared data, found 2$",
        ),
        (lambda row: shutil.rmtree(row / "prepared" / "test"), r"test/clips\.json: expected the list of clips, found "),
        (lambda row: (row / "prepared/evaluation.json").unlink(), r"evaluation\.json: expected a .*YAML file, found "),
        (
            lambda row: change_json(row / "prepared/evaluation.json", evaluation={"frame_step": 0}),
            r"evaluation\.json: evaluation\.frame_step: expected .*greater than or equal to 1, found 0$",
        ),
        (
            lambda row: (row / "checkpoints/run0/history.csv").unlink(),
            r"run0/history\.csv: expected the run's learning",
        ),
        (
            lambda row: (row / "checkpoints/run0/history.csv").write_text(""),
            r"run0/history\.csv: expected the run's learning curve, found ValueError",
        ),
        (
            lambda row: (row / "checkpoints/run0/history.csv").write_text("epoch,loss\n1,2\n"),
            r"run0/history\.csv: expected the columns epoch, train_loss_m, .*, found epoch, loss$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(damage, complaint, row_copy):
    damage(row_copy)
    with pytest.raises(UserError, match=complaint):
        evaluate_row(row_copy)
    assert not (row_copy / "reports").exists()
