"""ONNX files compute what torch computes, for any number of windows and, where the model can, of frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from models import MODELS
from pipeline.__main__ import app
from pipeline.checkpoints.onnx import OPSET, export_onnx, takes_any_frames
from pipeline.lift.lifter import Lifter
from pipeline.system.errors import UserError
from tests.fixtures.lifting import SIZE, walker_keypoints, write_small_checkpoint

ATOL_M = 1e-4
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "lift_with_onnxruntime.py"


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """A checkpoint and its ONNX file."""
    folder = tmp_path_factory.mktemp("onnx")
    checkpoint = write_small_checkpoint(folder / "run0", request.param)
    # While torch traces the model its sizes are symbols, which the checks of shapes do not know.
    jaxtyping.config.update("jaxtyping_disable", True)
    result = CliRunner().invoke(app, ["export-onnx", str(checkpoint), str(folder / "model.onnx")])
    jaxtyping.config.update("jaxtyping_disable", False)
    assert result.exit_code == 0
    assert f"opset {OPSET}" in result.output
    return checkpoint, folder / "model.onnx"


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_the_file_is_valid_of_the_stated_opset_and_whole_in_itself(exported):
    checkpoint, path = exported
    onnx.checker.check_model(path, full_check=True)
    assert {opset.domain: opset.version for opset in onnx.load(path).opset_import}[""] == OPSET
    assert {file.name for file in path.parent.iterdir()} == {"run0", "model.onnx"}
    about = session(path).get_modelmeta().custom_metadata_map
    assert json.loads(about["rate_hz"]) == 30
    assert json.loads(about["card"])["model"] == Lifter.load(checkpoint).card.model


@pytest.mark.parametrize("windows", [1, 5])
@pytest.mark.parametrize("frames", [1, 9, 14])
def test_onnxruntime_computes_what_torch_computes(exported, windows, frames):
    checkpoint, path = exported
    model = Lifter.load(checkpoint).model
    if not takes_any_frames(model.network) and frames != 9:
        pytest.skip("takes windows of its own length only")
    screen = torch.randn(windows, frames, 17, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected_m = model.network(screen).numpy()
    (pose_m,) = session(path).run(None, {"screen": screen.numpy()})
    np.testing.assert_allclose(pose_m, expected_m, atol=ATOL_M)


def test_the_example_lifts_without_torch(exported, tmp_path):
    checkpoint, path = exported
    keypoints = walker_keypoints(15)
    np.save(tmp_path / "keypoints.npy", keypoints)
    arguments = [str(path), str(tmp_path / "keypoints.npy"), "1000x1000", str(tmp_path / "poses.npy")]
    blocked = "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", blocked, str(EXAMPLE), *arguments]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    poses_m = np.load(tmp_path / "poses.npy")
    lifter = Lifter.load(checkpoint, stride=1)
    # Without the average over the mirror image, which is the lifter's alone: a symmetric input shows it to be the same.
    stream = torch.from_numpy(keypoints).float()
    stream[..., 0] = stream[..., 0] / SIZE[0] * 2 - 1
    stream[..., 1] = stream[..., 1] / SIZE[0] * 2 - SIZE[1] / SIZE[0]
    index = (torch.arange(15)[:, None] + torch.arange(9) - 4).clamp(0, 14)
    with torch.no_grad():
        expected_m = lifter.model.network(stream[index])
    expected_m = expected_m[:, expected_m.shape[1] // 2]
    assert poses_m.shape == expected_m.shape
    # Frames repeated at the ends are equally alike, and which of them MotionAGFormer takes hangs on the last bit.
    compared = slice(4, 11) if lifter.card.model == "motionagformer" else slice(None)
    np.testing.assert_allclose(poses_m[compared], expected_m[compared], atol=ATOL_M)


def test_what_cannot_be_exported_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nothing: expected a checkpoint, found none"):
        export_onnx(tmp_path / "nothing", tmp_path / "model.onnx")
    checkpoint = write_small_checkpoint(tmp_path / "run0", "linear")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a file that can be written, found"):
        export_onnx(checkpoint, tmp_path / "file" / "model.onnx")


def test_weights_that_predict_no_metres_are_refused(tmp_path):
    checkpoint = write_small_checkpoint(tmp_path / "run0", "linear", output_unit="half_image_widths")
    with pytest.raises(UserError, match=r"run0: expected weights that predict metres, found half image widths .* lift"):
        export_onnx(checkpoint, tmp_path / "model.onnx")


def test_without_the_optional_packages_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"expected the optional packages, found none: pip install \.\[onnx\]"):
        export_onnx(write_small_checkpoint(tmp_path / "run0", "linear"), tmp_path / "model.onnx")
