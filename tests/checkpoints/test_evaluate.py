"""One checkpoint on the prepared data of a row: the numbers are right, and what does not fit is refused."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.__main__ import main
from pipeline.checkpoints.evaluate import evaluate
from pipeline.checkpoints.import_checkpoint import Description, import_checkpoint
from pipeline.config.params import Evaluation, EvaluationConfig
from pipeline.poses.checkpoint import load_checkpoint, write_checkpoint
from pipeline.poses.clips import Clip, write_split
from pipeline.poses.geometry import screen_from_pixels
from pipeline.prepare_data.licensed.human36m_files import cameras_of
from pipeline.system.errors import UserError
from pipeline.system.files import sha256_of, write_json
from tests.fixtures.networks import make_card
from tests.fixtures.poseformer_bin import SMALL, random_poseformer, save, upstream_content
from tests.fixtures.walker import change_json

torch.set_num_threads(1)
ROW = "h36m-gt-f9-poseformer"
ACTIONS = {"Walking": 12, "Eating": 7}


def clips() -> list[Clip]:
    """A clip of each action: keypoints and joints of no meaning."""
    random = np.random.default_rng(5)
    return [
        Clip(
            take=f"{action} 1",
            subset="h36m",
            subject="S9",
            action=action,
            camera=cameras_of("S9")[0],
            rate_hz=50.0,
            first_frame=0,
            pixels=random.uniform(200, 800, (frames, 17, 2)).astype(np.float32),
            joints_camera_m=random.normal(size=(frames, 17, 3)).astype(np.float32),
        )
        for action, frames in ACTIONS.items()
    ]


def prepare(folder: Path, **changes: Any) -> Path:
    """The prepared data of ROW, as far as an evaluation needs them."""
    evaluation = Evaluation(
        flip_averaging=False, window_stride=1, frame_step=1, predicted_root="kept", averaging="actions"
    )
    config = {
        "row": ROW,
        "dataset": "h36m",
        "keypoints": "gt",
        "target": "joints of the suit",
        "in_skeleton": "h36m17",
        "out_skeleton": "h36m17",
        "frames": 9,
        "threads": 1,
        "device": "cpu",
        "selection": "last",
        "pck_joints": (),
        "evaluation": evaluation,
    }
    write_split(folder / "test", clips())
    write_json(folder / "evaluation.json", EvaluationConfig(**(config | {"model_code": "0123"} | changes)).model_dump())
    return folder


def mean_error_mm(model: torch.nn.Module, clip: Clip) -> float:
    """MPJPE of a clip, window by window: its ends are repeated beyond them, poses are relative to joint 0."""
    screen = torch.from_numpy(screen_from_pixels(clip.pixels, clip.camera))
    errors: list[Tensor] = []
    for frame in range(len(clip)):
        window = screen[torch.arange(frame - 4, frame + 5).clamp(0, len(clip) - 1)]
        true_m = torch.from_numpy(clip.joints_camera_m[frame] - clip.joints_camera_m[frame, 0])
        with torch.no_grad():
            errors.append(torch.linalg.norm(model(window[None])[0, 0] - true_m, dim=-1).mean())
    return 1000 * torch.stack(errors).double().mean().item()


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """An imported checkpoint that says it is for ROW."""
    path = save(upstream_content(random_poseformer()), tmp_path / "gt9f.bin")
    import_checkpoint(path, tmp_path / "gt9f", Description("h36m", "gt", heads=2))
    return tmp_path / "gt9f"


def own_checkpoint(folder: Path, **changes: Any) -> Path:
    """A checkpoint as training writes it."""
    hyperparameters = {key: SMALL[key] for key in ("embed_dim_ratio", "depth", "heads")}
    card = make_card("poseformer", **{"row": ROW, "seed": 3, "hyperparameters": hyperparameters} | changes)
    folder.mkdir()
    model = random_poseformer(frames=card.frames, in_channels=card.in_channels)
    write_checkpoint(folder, model.state_dict(), card)
    return folder


def test_an_imported_checkpoint_gets_the_errors_of_its_predictions(public: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "prepared" / ROW)
    text = evaluate(public, ROW, prepared=tmp_path / "prepared", reports=tmp_path / "reports", out=None)

    path = tmp_path / "reports" / "evaluations" / ROW / "gt9f.json"
    result = json.loads(path.read_text())
    model, _ = load_checkpoint(public, device=torch.device("cpu"))
    expected = {clip.action: mean_error_mm(model, clip) for clip in clips()}
    for action, error_mm in expected.items():
        assert result["per_action"][action]["mpjpe_mm"]["mean"] == pytest.approx(error_mm, rel=1e-5)
    mean_mm = sum(expected.values()) / 2  # over the actions, though one is longer
    assert result["mpjpe_mm"] == {
        "mean": pytest.approx(mean_mm, rel=1e-5),
        "std": None,
        "runs": [pytest.approx(mean_mm, rel=1e-5)],
    }

    assert result["row"] == ROW
    origin = result["checkpoint"]["imported_from"]
    assert (origin["file"], origin["sha256"]) == ("gt9f.bin", sha256_of(tmp_path / "gt9f.bin"))
    assert result["checkpoint"]["weights_sha256"] == sha256_of(public / "weights.safetensors")
    protocol = result["protocol"]
    assert protocol["selection"] == "not known: weights imported from gt9f.bin"
    assert protocol["seeds"] == []
    assert (protocol["dataset"], protocol["keypoints"], protocol["frames"]) == ("h36m", "gt", 9)
    assert protocol["scored"] == sum(ACTIONS.values())

    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == [f"{ROW},", "weights", "for", ROW]
    assert lines[2] == ["MPJPE", "mm", "P-MPJPE", "mm", "N-MPJPE", "mm", "MPJVE", "mm"]
    for line, action in zip(lines[3:5], sorted(ACTIONS), strict=True):
        assert line[:2] == [action, f"{expected[action]:.2f}"]
    assert lines[5][:3] == ["all", "(actions)", f"{mean_mm:.2f}"]
    assert "keypoints: gt" in text
    assert text.endswith(f"written to {path}")


def test_a_checkpoint_of_ours_is_scored_too_and_a_folder_and_file_can_be_named(tmp_path: Path) -> None:
    folder, out = prepare(tmp_path / "anywhere"), tmp_path / "mine.json"
    checkpoint = own_checkpoint(tmp_path / "run3")
    evaluate(checkpoint, str(folder), prepared=tmp_path, reports=tmp_path / "reports", out=out)
    result = json.loads(out.read_text())
    assert result["protocol"]["seeds"] == [3]
    assert result["protocol"]["selection"] == "weights of the last epoch"
    assert not (tmp_path / "reports").exists()


def test_a_checkpoint_of_another_dataset_is_scored_and_says_so(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "prepared")
    checkpoint = own_checkpoint(tmp_path / "run3", row="humaneva-gt-f9-poseformer")
    text = evaluate(checkpoint, str(folder), prepared=tmp_path, reports=tmp_path, out=None)
    assert text.startswith(f"{ROW}, weights for humaneva-gt-f9-poseformer\n")
    name = "humaneva-gt-f9-poseformer-run3.json"
    result = json.loads((tmp_path / "evaluations" / ROW / name).read_text())
    assert result["protocol"]["selection"] == "as for row humaneva-gt-f9-poseformer"


@pytest.mark.parametrize(
    ("of_data", "of_checkpoint", "message"),
    [
        ({"keypoints": "cpn_ft_h36m_dbb"}, {}, "keypoints: expected cpn_ft_h36m_dbb as in the prepared data, found gt"),
        ({"frames": 27}, {}, "frames: expected 27 as in the prepared data, found 9"),
        ({"in_skeleton": "coco17"}, {}, "input layout: expected coco17 as in the prepared data, found h36m17"),
        (
            {"out_skeleton": "mpi_inf_3dhp17"},
            {},
            "output layout: expected mpi_inf_3dhp17 as in the prepared data, found h36m17",
        ),
        ({}, {"in_channels": 3}, "input channels: expected 2 as in the prepared data, found 3"),
    ],
)
def test_a_checkpoint_for_other_data_is_refused_and_not_scored(
    of_data: Any, of_checkpoint: Any, message: str, tmp_path: Path
) -> None:
    folder = prepare(tmp_path / "prepared", **of_data)
    checkpoint = own_checkpoint(tmp_path / "run3", **of_checkpoint)
    with pytest.raises(UserError, match=f"run3: {message}$"):
        evaluate(checkpoint, str(folder), prepared=tmp_path, reports=tmp_path / "reports", out=None)
    assert not (tmp_path / "reports").exists()


def test_data_that_are_not_prepared_are_asked_for(public: Path, tmp_path: Path) -> None:
    where = tmp_path / "prepared"
    with pytest.raises(UserError, match=f"{ROW}: expected prepared data, found none: poselift prepare_data {ROW} "):
        evaluate(public, ROW, prepared=where, reports=tmp_path, out=None)
    with pytest.raises(UserError, match="row 'h36m': expected <dataset>-<keypoints>-f<frames>-<model>"):
        evaluate(public, "h36m", prepared=where, reports=tmp_path, out=None)


# The command line.


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `poselift` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["poselift", *map(str, arguments)])
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # it would outlive the test
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def test_the_commands_import_and_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path / "data" / "prepared" / ROW)
    save(upstream_content(random_poseformer()), tmp_path / "gt9f.bin")
    monkeypatch.chdir(tmp_path)
    stated = ["--dataset", "h36m", "--keypoints", "gt", "--heads", "2"]
    assert run(monkeypatch, "import-checkpoint", "gt9f.bin", "data/checkpoints/gt9f", *stated) == 0
    assert run(monkeypatch, "evaluate", "data/checkpoints/gt9f", ROW) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{ROW}, weights for {ROW}\n")
    assert "Walking " in output
    assert (tmp_path / "reports" / "evaluations" / ROW / "gt9f.json").exists()


def test_weights_that_predict_no_metres_are_refused(public: Path, tmp_path: Path) -> None:
    change_json(public / "card.json", output_unit="half_image_widths")
    folder = prepare(tmp_path / "prepared")
    with pytest.raises(UserError, match=r"gt9f: expected weights that predict metres, found half image widths .* lift"):
        evaluate(public, str(folder), prepared=tmp_path, reports=tmp_path, out=None)


def test_a_mismatch_is_one_line_and_exit_code_2(
    public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(tmp_path / "prepared", keypoints="cpn_ft_h36m_dbb")
    assert run(monkeypatch, "evaluate", public, folder) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"poselift: {public}: keypoints: expected cpn_ft_h36m_dbb as in the prepared data, found gt\n"
    )


def test_a_bad_file_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.bin").write_bytes(b"PK\x03\x04")
    stated = ["--dataset", "h36m", "--keypoints", "gt"]
    assert run(monkeypatch, "import-checkpoint", tmp_path / "a.bin", tmp_path / "out", *stated) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"poselift: {tmp_path / 'a.bin'}: expected a whole file of torch.save, found ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_has_to_be_stated_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "import-checkpoint", tmp_path / "a.bin", tmp_path / "out") == 2
    assert "--dataset" in capsys.readouterr().err
