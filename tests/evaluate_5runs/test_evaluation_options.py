"""What can be chosen for an evaluation does what its name says, stands in the protocol and keeps rows apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config.params import Evaluation, load_params
from pipeline.evaluate_5runs.protocol import select_actions
from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.poses import metrics
from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera
from pipeline.report.stage import report
from pipeline.system.errors import UserError
from pipeline.tracking.run import Run
from tests.fixtures import human36m as fixtures
from tests.fixtures.four_stages import PROJECT, four_stages, write_params

ROW = "h36m-gt-f9-linear"
PROTOCOL = {
    "dataset", "split", "target", "joints", "keypoints", "frames", "rate_hz", "root", "flip_averaging", "averaging",
    "actions", "scored_frames", "excluded_takes", "not_as_published", "selection", "clips", "scored", "seeds", "spread",
}  # fmt: skip


def clip(action: str, frames: int, **changes: object) -> Clip:
    values = {
        "take": f"{action} of {frames}",
        "subset": "all",
        "subject": "S1",
        "action": action,
        "camera": Camera(name="left", width_px=10, height_px=10),
        "rate_hz": 50.0,
        "first_frame": 0,
        "pixels": np.zeros((frames, 2, 2), dtype=np.float32),
        "joints_camera_m": np.zeros((frames, 2, 3), dtype=np.float32),
    }
    return Clip(**(values | changes))  # type: ignore[arg-type]


def test_actions_are_chosen_by_their_whole_names() -> None:
    clips = [clip("Sitting", 3), clip("SittingDown", 4), clip("Walking", 5)]
    assert select_actions(clips, "all", where=Path("x")) == clips
    chosen = select_actions(clips, ("Sitting", "Walking"), where=Path("x"))
    assert [own.action for own in chosen] == ["Sitting", "Walking"]
    with pytest.raises(UserError, match="x: actions: expected some of Sitting, SittingDown, Walking, found 'Walk'"):
        select_actions(clips, ("Sitting", "Walk"), where=Path("x"))


def test_frames_of_other_actions_in_a_chosen_clip_stay_as_context() -> None:
    mixed = clip("Sports", 6, activities=((0, "Sports"), (4, "Sitting")), scored=np.array([0, 1, 1, 1, 1, 0], bool))
    (chosen,) = select_actions([mixed], ("Sports",), where=Path("x"))
    assert len(chosen) == 6
    assert chosen.scored is not None
    assert chosen.scored.tolist() == [False, True, True, True, False, False]


def test_the_mean_of_the_joints_errors_is_the_mean_per_joint_position_error() -> None:
    random = np.random.default_rng(0)
    predicted_m, target_m = random.normal(size=(2, 5, 4, 3))
    scores = metrics.clip_scores(predicted_m, target_m, joint_names=("Hip", "Knee", "Foot", "Head"))
    joints = {name: score for name, score in scores.items() if name.startswith(metrics.JOINT)}
    assert sorted(joints) == ["joint Foot", "joint Head", "joint Hip", "joint Knee"]
    assert joints["joint Knee"].frames == 5
    assert joints["joint Knee"].mean == pytest.approx(
        1000 * np.linalg.norm((predicted_m - target_m)[:, 1], axis=-1).mean()
    )
    mean = np.mean([score.mean for score in joints.values() if score.mean is not None])
    assert mean == pytest.approx(scores["mpjpe_mm"].mean)


@pytest.mark.parametrize(
    "options", [{"frame_fraction": 0.0}, {"frame_fraction": 1.5}, {"actions": []}, {"actions": "Sitting"}]
)
def test_bad_options_are_refused_by_name(options: dict[str, object], tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(UserError, match=rf"params\.yaml: datasets\.h36m\.{name}"):
        load_params(write_params(tmp_path, ROW, **options))


def test_every_evaluation_option_is_in_params_yaml_for_every_dataset() -> None:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for recipe in content["datasets"].values():
        assert set(Evaluation.model_fields) <= set(recipe)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a folder in which a row has gone through all stages."""
    folder = tmp_path_factory.mktemp("project")
    fixtures.write_cdf(folder / "raw" / "h36m")
    four_stages(ROW, folder, raw_folder=folder / "raw")
    return folder


def read(folder: Path, row: str = ROW) -> dict:
    return json.loads((folder / "reports" / "metrics" / f"{row}.json").read_text(encoding="utf-8"))


def evaluate_with(project: Path, folder: Path, **options: object) -> dict:
    """Returns the metrics of the same runs, evaluated with other options."""
    prepared = folder / "prepared"
    prepared.mkdir()
    (prepared / "test").symlink_to(project / "prepared" / ROW / "test")
    config = json.loads((project / "prepared" / ROW / "evaluation.json").read_text(encoding="utf-8"))
    config["evaluation"] |= options
    (prepared / "evaluation.json").write_text(json.dumps(config), encoding="utf-8")
    checkpoints = project / "checkpoints" / ROW
    evaluate_5runs(prepared, checkpoints, seeds=(0, 1), reports=folder / "reports", work_folder=folder / ".work")
    return read(folder)


def test_runs_that_are_scored_otherwise_are_tracked_as_another_run(project, tmp_path, monkeypatch) -> None:
    ids: list[object] = []

    @contextmanager
    def start_run(**identity: object) -> Iterator[Run]:
        ids.append(identity["run_id"])
        yield Run()

    monkeypatch.setattr("pipeline.tracking.run.start_run", start_run)
    choices: list[dict[str, object]] = [{}, {}, {"flip_averaging": False}]
    for place, options in enumerate(choices):
        (tmp_path / str(place)).mkdir()
        evaluate_with(project, tmp_path / str(place), **options)
    assert ids[0] == ids[1] != ids[2]


def test_the_metrics_file_names_the_whole_protocol(project: Path) -> None:
    result = read(project)
    assert set(result["protocol"]) == PROTOCOL
    assert result["protocol"]["target"].startswith("17 of the 32 joints of the motion capture")
    assert result["protocol"]["actions"] == sorted(result["per_action"])
    assert set(result["per_subject"]) == {"S9", "S11"}


def test_errors_per_joint_are_averaged_as_the_headline(project: Path) -> None:
    result = read(project)
    joints = [joint["mpjpe_mm"]["mean"] for joint in result["per_joint"].values()]
    assert len(joints) == 17
    assert np.mean(joints) == pytest.approx(result["mpjpe_mm"]["mean"])


@pytest.mark.parametrize("averaging", ["frames", "subjects", "subject_actions"])
def test_errors_per_joint_follow_the_averaging(averaging: str, project: Path, tmp_path: Path) -> None:
    result = evaluate_with(project, tmp_path, averaging=averaging)
    joints = [joint["mpjpe_mm"]["mean"] for joint in result["per_joint"].values()]
    assert np.mean(joints) == pytest.approx(result["mpjpe_mm"]["mean"])


def test_chosen_actions_alone_are_scored_and_stated(project: Path, tmp_path: Path) -> None:
    result, everything = evaluate_with(project, tmp_path, actions=["Sitting"]), read(project)
    assert set(result["per_action"]) == {"Sitting"}
    assert result["per_action"]["Sitting"] == everything["per_action"]["Sitting"]
    assert result["mpjpe_mm"] == everything["per_action"]["Sitting"]["mpjpe_mm"]
    assert result["protocol"]["actions"] == ["Sitting"]
    assert result["protocol"]["scored"] == 4 * 15


def test_a_quick_evaluation_says_so(project: Path, tmp_path: Path) -> None:
    result = evaluate_with(project, tmp_path, frame_fraction=0.5, frame_step=2)
    assert result["protocol"]["scored_frames"] == "one frame in 2, of one stretch of 0.5 of each clip"
    assert 0 < result["protocol"]["scored"] < 0.3 * fixtures.TEST_FRAMES
    assert result["mpjve_mm"]["mean"] is None


@pytest.mark.parametrize(
    "options",
    [{"actions": ["Sitting", "Walking"]}, {"frame_fraction": 0.5}, {"frame_step": 2}, {"flip_averaging": False},
     {"predicted_root": "zeroed"}, {"averaging": "frames"}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_rows_evaluated_in_different_ways_share_no_table(options: dict, project: Path, tmp_path: Path) -> None:
    other = "h36m-gt-f9-poseformer"
    changed = evaluate_with(project, tmp_path, **options) | {"row": other}
    reports = tmp_path / "reports"
    for path in list(reports.glob("*/*")):
        shutil.copy(path, path.with_name(other + path.suffix))
    shutil.copytree(project / "reports", reports, dirs_exist_ok=True)
    (reports / "metrics" / f"{other}.json").write_text(json.dumps(changed), encoding="utf-8")
    for row in (ROW, other):
        (tmp_path / "of_rows" / row).mkdir(parents=True)
        shutil.copy(project / "prepared" / ROW / "manifest.json", tmp_path / "of_rows" / row)
    rows = {"stages": {"evaluate_5runs": {"matrix": {"row": [ROW, other]}}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(rows), encoding="utf-8")
    (reports / "published.csv").write_bytes((PROJECT / "reports" / "published.csv").read_bytes())
    report(
        params_path=write_params(tmp_path, ROW),
        dvc_yaml=tmp_path / "dvc.yaml",
        reports=reports,
        prepared=tmp_path / "of_rows",
    )
    table = (reports / "results.md").read_text(encoding="utf-8")
    assert table.count("\n## h36m\n") == 2
