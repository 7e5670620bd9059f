"""Detects people in the frames of a video with networks of MMPose in ONNX, run by rtmlib, an optional package."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.lift.video.frames import People, VideoFrame
from pipeline.system.errors import UserError


def detect_people(frames: Iterable[VideoFrame], model: Path) -> Iterator[tuple[VideoFrame, People]]:
    """Yields each frame with the people in it: pixels and confidence of the joints that the network was trained for.

    `model` is an RTMO network, which finds people and joints, or a folder of a YOLOX network, which finds people, and
    an RTMPose network, which finds the joints of each. The thresholds of rtmlib say who is a person. Raises UserError
    if `model` is neither.
    """
    detect = _load_both(model) if model.is_dir() else _load_one(model)
    for frame in frames:
        yield frame, detect(np.ascontiguousarray(frame.picture[..., ::-1]))  # BGR, as OpenCV reads and rtmlib expects


def _load_one(model: Path) -> Callable[[UInt8[np.ndarray, "H W 3"]], People]:
    from rtmlib import RTMO

    network = _load(RTMO, model, outputs=2)

    def detect(picture: UInt8[np.ndarray, "H W 3"]) -> People:
        people = _as_keypoints(*network(picture))
        return [person for person in people if person[:, 2].any()]  # nobody is one person of zeros

    return detect


def _load_both(folder: Path) -> Callable[[UInt8[np.ndarray, "H W 3"]], People]:
    from rtmlib import YOLOX, RTMPose

    boxes_of = _load(YOLOX, _find_one(folder, "yolox*.onnx"), outputs=1)
    joints_of = _load(RTMPose, _find_one(folder, "rtmpose*.onnx"), outputs=2)

    def detect(picture: UInt8[np.ndarray, "H W 3"]) -> People:
        boxes = boxes_of(picture)
        return _as_keypoints(*joints_of(picture, bboxes=boxes)) if len(boxes) else []  # else it takes the whole picture

    return detect


def _as_keypoints(pixels: Float[np.ndarray, "P J 2"], scores: Float[np.ndarray, "P J"]) -> People:
    return list(np.concatenate([pixels, scores[..., None]], axis=-1).astype(float))


def _find_one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(f"{folder}: expected one file {pattern}, found {len(found)}")
    return found[0]


def _load(network: Any, path: Path, *, outputs: int) -> Any:
    """Returns rtmlib's wrapper of a network that takes pictures of one size, which the file tells."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, of several kinds
        raise UserError(f"{path}: expected a network in ONNX, found: {' '.join(str(error).split())}") from error
    shape, count = session.get_inputs()[0].shape, len(session.get_outputs())
    is_picture = len(shape) == 4 and all(isinstance(side, int) for side in shape[2:])
    if not is_picture or count != outputs:
        expected = f"a network of the kind {network.__name__}, with pictures of one size and {outputs} outputs"
        raise UserError(f"{path}: expected {expected}, found an input of {shape} and {count} outputs")
    height_px, width_px = shape[2:]
    # rtmlib has the size as height and width for networks that see whole pictures, as width and height for RTMPose.
    size_px = (width_px, height_px) if network.__name__ == "RTMPose" else (height_px, width_px)
    with contextlib.redirect_stdout(io.StringIO()):  # on which it says what it loads
        return network(str(path), model_input_size=size_px, backend="onnxruntime", device="cpu")
