"""Tool export-onnx: a checkpoint as an ONNX file, which onnxruntime and others run without torch."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from pipeline.lift.lifter import Lifter
from pipeline.poses.checkpoint import Card, check_metres
from pipeline.system.errors import UserError
from pipeline.system.files import new_file

OPSET = 18


def export_onnx(checkpoint: Path, out: Path) -> str:
    """Writes the model of the folder `checkpoint` to the file `out`; returns a line about what goes in and comes out.

    The file's metadata hold what a caller needs: names of the joints, the rate and lens of the training data. Raises
    UserError if there is no such checkpoint, its poses are not in metres, the optional packages are missing, or the
    file cannot be written.
    """
    lifter = Lifter.load(checkpoint)
    card = lifter.card
    check_metres(card, where=checkpoint)
    in_skeleton, out_skeleton = card.skeletons
    metadata = {
        "rate_hz": lifter.rate_hz,
        "focal": lifter.settings.focal,
        "frames": card.frames,
        "keypoints": in_skeleton.joints,
        "joints": out_skeleton.joints,
        "card": card.model_dump(),
    }
    write_onnx(out, lifter.model.network, card, metadata={key: json.dumps(value) for key, value in metadata.items()})
    batch = "(batch, frames" if takes_any_frames(lifter.model.network) else f"(batch, {card.frames}"
    keypoints, joints = len(in_skeleton.joints), len(out_skeleton.joints)
    axes = f"screen {batch}, {keypoints}, {card.in_channels}) to pose_m (batch, frames, {joints}, 3)"
    return f"{out}: {card.model}, opset {OPSET}, {axes}"


def takes_any_frames(model: nn.Module) -> bool:
    """Returns whether the model takes windows of any number of frames. See models/__init__.py."""
    return model.predicts == "every_frame" and not getattr(model, "fixed_frames", False)


def write_onnx(path: Path, model: nn.Module, card: Card, *, metadata: dict[str, str]) -> None:
    """Writes `model`, which takes any number of windows and, where it can, of frames; whole or not at all."""
    try:
        import onnxscript  # noqa: F401  # which torch's exporter needs
    except ImportError as error:
        raise UserError("export-onnx: expected the optional packages, found none: pip install .[onnx]") from error
    any_frames = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} if takes_any_frames(model) else {0: Dim.DYNAMIC}
    screen = torch.zeros(2, max(card.frames, 2), len(card.skeletons[0].joints), card.in_channels)
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # they log every step, and what is not installed
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch 2.13 about its own code
        warnings.filterwarnings("ignore", "Guards may run slower", RuntimeWarning)  # on Python 3.13.0
        program = torch.onnx.export(
            model.eval(),
            (screen,),
            input_names=["screen"],
            output_names=["pose_m"],
            dynamic_shapes={"screen": any_frames},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata)
    try:
        with new_file(path) as partial:
            program.save(partial)
    except OSError as error:
        raise UserError(f"{path}: expected a file that can be written, found {error.strerror}") from error
