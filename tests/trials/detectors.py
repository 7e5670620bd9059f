"""`python -m tests.trials.detectors`: do rtmlib and Ultralytics put joints where they are in the picture?

Needs `pip install rtmlib ultralytics` and the extra onnx. Their trained networks lie where packages do not, so the
networks here are made up: they see one person of 17 joints around the red square, in the form that the libraries read.
If it is not found, or elsewhere, then sizes, units, colours or scores are mixed up. Exits with 1 then.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.lift.video.detectors import detect_people
from pipeline.lift.video.frames import VideoFrame

SIZE_PX = (270, 480)  # width and height
SQUARE_PX, RED = 24, (220, 40, 40)
SCORE = 0.9
OFFSETS = np.stack([3.0 * np.sin(np.arange(17)), 2.0 * np.cos(np.arange(17))], axis=1)  # of joints, in network pixels
MOST_PX = 1.5


def main() -> int:
    """Returns the exit status."""
    status = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "both").mkdir()
        make_rtmo(folder / "rtmo.onnx")
        make_yolox(folder / "both" / "yolox_m.onnx")
        make_rtmpose(folder / "both" / "rtmpose-m.onnx")
        make_yolo_pose(folder / "yolo-pose.onnx")
        for detector, model in (("rtmlib", "rtmo.onnx"), ("rtmlib", "both"), ("ultralytics", "yolo-pose.onnx")):
            frames, centres_px = make_frames()
            found = [people for _, people in detect_people(frames, detector, folder / model)]
            empty, seen = found[0], found[1:]
            off_px = [np.abs(people[0][:, :2].mean(0) - centre_px).max()
                      for people, centre_px in zip(seen, centres_px, strict=True) if len(people) == 1]  # fmt: skip
            scores = np.array([person[:, 2] for people in seen for person in people])
            is_right = not empty and len(off_px) == len(centres_px) and max(off_px) < MOST_PX
            is_right = is_right and np.abs(scores - SCORE).max() < 0.1
            said = f"{len(off_px)} of {len(centres_px)} people found, at most {max(off_px, default=np.nan):.2f} px off"
            span = f"scores {scores.min():.2f} to {scores.max():.2f}"
            print(f"{detector}, {model}: {said}, {span}, {len(empty)} people in an empty picture")
            status |= not is_right
    return status


def make_frames() -> tuple[list[VideoFrame], list[np.ndarray]]:
    """Returns an empty picture and some with a red square, and where its middle is."""
    width_px, height_px = SIZE_PX
    pictures, centres_px = [np.full((height_px, width_px, 3), 40, np.uint8)], []
    for left, top in ((100, 200), (30, 40), (220, 400)):
        picture = pictures[0].copy()
        picture[top : top + SQUARE_PX, left : left + SQUARE_PX] = RED
        pictures.append(picture)
        centres_px.append(np.array([left, top]) + (SQUARE_PX - 1) / 2 + OFFSETS.mean(0))
    return [VideoFrame(number / 30, picture) for number, picture in enumerate(pictures)], centres_px


def make_rtmo(path: Path) -> None:
    """Writes a network with RTMO's outputs: boxes with scores, and joints with scores."""
    nodes = find_red(channel=2, threshold=130.0)
    nodes += [node("Concat", ["low", "high", "any"], "flat_box", axis=0),
              node("Reshape", ["flat_box", "box_shape"], "dets"), node("Add", ["centre_row", "offsets"], "places"),
              node("Concat", ["places", "scores"], "flat", axis=1),
              node("Reshape", ["flat", "joints_shape"], "keypoints")]  # fmt: skip
    write(path, nodes, (640, 640), {"dets": [1, 1, 5], "keypoints": [1, 1, 17, 3]})


def make_yolox(path: Path) -> None:
    """Writes a network with YOLOX's output: boxes with scores."""
    nodes = find_red(channel=2, threshold=130.0)
    nodes += [
        node("Concat", ["low", "high", "any"], "flat_box", axis=0),
        node("Reshape", ["flat_box", "box_shape"], "dets"),
    ]
    write(path, nodes, (640, 640), {"dets": [1, 1, 5]})


def make_rtmpose(path: Path) -> None:
    """Writes a network with RTMPose's outputs: how likely each joint is at each x and y, in half pixels."""
    nodes = find_red(channel=2, threshold=1.0)  # of a normalised picture
    nodes += [
        node("Add", ["centre_row", "offsets"], "places"),
        node("Split", ["places"], ["xs", "ys"], axis=1, num_outputs=2),
    ]
    for axis, steps in (("x", "steps_x"), ("y", "steps_y")):
        nodes += [node("Sub", [f"{axis}s", steps], f"off_{axis}"), node("Mul", [f"off_{axis}"] * 2, f"square_{axis}"),
                  node("Neg", [f"square_{axis}"], f"minus_{axis}"), node("Exp", [f"minus_{axis}"], f"peak_{axis}"),
                  node("Mul", [f"peak_{axis}", "score"], f"likely_{axis}"),
                  node("Unsqueeze", [f"likely_{axis}", "axis_0"], f"simcc_{axis}")]  # fmt: skip
    write(path, nodes, (256, 192), {"simcc_x": [1, 17, 384], "simcc_y": [1, 17, 512]})


def make_yolo_pose(path: Path) -> None:
    """Writes a network with the output of Ultralytics' pose networks: box, score, joints with scores, one a column."""
    nodes = find_red(channel=0, threshold=0.5)  # of an RGB picture from 0 to 1
    nodes += [node("Add", ["centre_row", "offsets"], "places"), node("Concat", ["places", "scores"], "joints", axis=1),
              node("Reshape", ["joints", "minus_1"], "flat"),
              node("Concat", ["centre", "size", "any", "flat"], "column", axis=0),
              node("Reshape", ["column", "column_shape"], "output0")]  # fmt: skip
    about = {"task": "pose", "stride": "32", "batch": "1", "imgsz": "[640, 640]", "names": "{0: 'person'}",
             "kpt_shape": "[17, 3]", "channels": "3", "args": "{}"}  # fmt: skip
    write(path, nodes, (640, 640), {"output0": [1, 56, 1]}, about=about)


def find_red(*, channel: int, threshold: float) -> list[onnx.NodeProto]:
    """Returns the part that all have: the middle of what is over the threshold in a channel, and if anything is."""
    return [
        node("Gather", ["input", f"channel_{channel}"], "red", axis=1),
        node("Sub", ["red", f"over_{threshold:g}"], "over"),
        node("Relu", ["over"], "bright"), node("ReduceSum", ["bright", "all_axes"], "sum", keepdims=0),
        node("Reshape", ["sum", "minus_1"], "total"), node("Max", ["total", "tiny"], "safe"),
        node("Mul", ["bright", "columns"], "by_x"), node("ReduceSum", ["by_x", "all_axes"], "sum_x", keepdims=0),
        node("Mul", ["bright", "rows"], "by_y"), node("ReduceSum", ["by_y", "all_axes"], "sum_y", keepdims=0),
        node("Reshape", ["sum_x", "minus_1"], "total_x"), node("Reshape", ["sum_y", "minus_1"], "total_y"),
        node("Concat", ["total_x", "total_y"], "totals", axis=0), node("Div", ["totals", "safe"], "centre"),
        node("Unsqueeze", ["centre", "axis_0"], "centre_row"), node("Sub", ["centre", "half"], "low"),
        node("Add", ["centre", "half"], "high"), node("Min", ["total", "score"], "any"),
    ]  # fmt: skip


def node(kind: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: int) -> onnx.NodeProto:
    """Returns a node of a graph."""
    return helper.make_node(kind, inputs, [outputs] if isinstance(outputs, str) else outputs, **attributes)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    size_px: tuple[int, int],
    outputs: dict[str, list[int]],
    *,
    about: dict[str, str] | None = None,
) -> None:
    """Writes a network that takes pictures of this height and width, with all constants that the parts above use."""
    height_px, width_px = size_px
    numbers = {
        "channel_0": [0], "channel_2": [2], "all_axes": [0, 1, 2, 3], "axis_0": [0], "minus_1": [-1],
        "box_shape": [1, 1, 5], "joints_shape": [1, 1, 17, 3], "column_shape": [1, 56, 1],
    }  # fmt: skip
    values = {
        "over_130": 130.0, "over_1": 1.0, "over_0.5": 0.5, "tiny": [1e-6], "score": [SCORE], "half": [60.0, 60.0],
        "size": [120.0, 120.0], "offsets": OFFSETS, "scores": np.full((17, 1), SCORE),
        "columns": np.arange(width_px), "rows": np.arange(height_px)[:, None],
        "steps_x": np.arange(2 * width_px)[None] / 2, "steps_y": np.arange(2 * height_px)[None] / 2,
    }  # fmt: skip
    used = {name for one in nodes for name in one.input}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items() if k in used]
    constants += [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in values.items() if k in used]
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, height_px, width_px])
    results = [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in outputs.items()]
    graph = helper.make_graph(nodes, "red", [picture], results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, about or {})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


if __name__ == "__main__":
    sys.exit(main())
