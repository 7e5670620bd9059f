"""Tool show: a row's prediction beside the truth for one prepared clip, to look at, with the error over time.

Reads data/prepared/<row>/ and data/checkpoints/<row>/run<k>/; writes one HTML page, film or picture. It is for looking
only: nothing is selected or reported by it, so it may open the test split as well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pipeline.config.params import EvaluationConfig, read_yaml, validated
from pipeline.mocap.cameras import read_clips
from pipeline.poses.clips import SPLITS, Clip
from pipeline.poses.geometry import RigidTransform
from pipeline.poses.metrics import mpjpe_mm
from pipeline.poses.predict import load_trained_model
from pipeline.poses.skeleton import Skeleton
from pipeline.poses.windows import frame_table
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import write_text
from pipeline.visualization.movie import write_movie, write_strip
from pipeline.visualization.scene import Body, Scene
from pipeline.visualization.viewer import viewer_page

log = logging.getLogger(__name__)

SUFFIXES = (".html", ".mp4", ".gif", ".png")
UPRIGHT = RigidTransform(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]))  # y down, z away -> Z up


@dataclass(frozen=True)
class Wanted:
    """What is asked of a clip; None: anything."""

    action: str | None = None
    subject: str | None = None
    camera: str | None = None
    take: str | None = None


def show(
    row: str, wanted: Wanted, *, split: str, run: int, prepared: Path, checkpoints: Path, out: Path | None
) -> Path:
    """The file written: `out`, or an HTML page in the working directory named after the row and the clip.

    Where several clips of the split fit, the first is shown, and how many others there are is logged. Raises UserError
    if none fits, saying what there is, or data or checkpoint are missing or do not fit each other.
    """
    if out is not None and out.suffix not in SUFFIXES:
        raise UserError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}, found '{out.suffix}'")
    folder = prepared / row
    if split not in SPLITS:
        raise UserError(f"split: expected one of {', '.join(SPLITS)}, found '{split}'")
    if not folder.is_dir():
        raise UserError(f"{folder}: expected prepared data, found none: poselift prepare_data {row} {folder}")
    path = folder / "evaluation.json"
    config = validated(EvaluationConfig, read_yaml(path), where=str(path))
    clips = read_clips(folder / split, detector_level=config.detector_level)
    clip = _chosen(clips, wanted, where=folder / split)
    scene = clip_scene(clip, folder, checkpoints / row / f"run{run}", split=split)
    if out is None:
        name = "-".join([row, f"run{run}", clip.take, clip.camera.name])
        out = Path(name.replace("/", "_").replace(" ", "_") + ".html")
    if out.suffix == ".html":
        write_text(out, viewer_page([scene], title=scene.title))
    elif out.suffix == ".png":
        write_strip(out, scene)
    else:
        write_movie(out, scene)
    return out


def clip_scene(clip: Clip, prepared: Path, checkpoint: Path, *, split: str) -> Scene:
    """The prediction of a checkpoint for one clip, the truth behind it, and the error of each frame.

    Both stand in the world with the true root, since the model predicts poses relative to the root; the error is that
    of the pose. Where the camera's place is not known, the camera frame is turned upright and the caption says so.
    """
    path = prepared / "evaluation.json"
    config = validated(EvaluationConfig, read_yaml(path), where=str(path))
    model = load_trained_model(checkpoint, device=torch_device(config.device))
    card = model.card
    in_skeleton, out_skeleton = card.skeletons
    found = (clip.pixels.shape[1], clip.joints_camera_m.shape[1], 2 if clip.confidence is None else 3)
    expected = (len(in_skeleton.joints), len(out_skeleton.joints), card.in_channels)
    if found != expected:
        raise UserError(
            f"{checkpoint}: expected a model of {found[0]} keypoints, {found[1]} joints and {found[2]} channels as in "
            f"the prepared data, found one of {expected[0]}, {expected[1]} and {expected[2]}"
        )
    torch.set_num_threads(config.threads)
    table = frame_table([clip], root=out_skeleton.root, device=torch_device(config.device))
    predicted = model.predict(
        table,
        flip_averaging=config.evaluation.flip_averaging,
        stride=config.evaluation.window_stride,
        zero_root=config.evaluation.predicted_root == "zeroed",
    )
    pose_m, true_m = predicted.cpu().numpy().astype(float), table.pose_m.cpu().numpy().astype(float)
    root_m = np.asarray(clip.joints_camera_m, dtype=float)[:, out_skeleton.root, None]
    world_from_camera, remark = _upright(clip, true_m + root_m)
    rate_hz, unknown = (clip.rate_hz, "") if clip.rate_hz else (30.0, " Rate unknown, played at 30 Hz.")
    run = checkpoint.name.replace("run", "run ")
    return Scene(
        title=f"{clip.subject} {clip.action}, camera {clip.camera.name}",
        caption=f"{split} clip {clip.name}, {len(clip)} frames. Colour: {card.row} {run}; grey: truth. "
        f"Both stand on the true root.{remark}{unknown}",
        rate_hz=rate_hz,
        bodies=(
            _body("prediction", out_skeleton, world_from_camera.apply(pose_m + root_m), clip, in_skeleton),
            Body("truth", out_skeleton, world_from_camera.apply(true_m + root_m), faint=True),
        ),
        image_size_px=(clip.camera.width_px, clip.camera.height_px),
        error_mm=mpjpe_mm(pose_m, true_m),
    )


def _body(
    name: str, skeleton: Skeleton, joints_world_m: Float[np.ndarray, "F J 3"], clip: Clip, in_skeleton: Skeleton
) -> Body:
    pixels = np.asarray(clip.pixels, dtype=float)
    return Body(name, skeleton, joints_world_m, pixels=pixels, in_skeleton=in_skeleton)


def _upright(clip: Clip, joints_camera_m: Float[np.ndarray, "F J 3"]) -> tuple[RigidTransform, str]:
    """The world from the clip's camera, and a remark if it is not the dataset's own."""
    camera_from_world = clip.camera.camera_from_world
    known = RigidTransform()
    if not np.array_equal(camera_from_world.rotation, known.rotation) or camera_from_world.translation_m.any():
        return camera_from_world.inverse(), ""
    lowest_m = np.percentile(UPRIGHT.apply(joints_camera_m)[..., 2].min(1), 5)
    shift_m = np.array([0.0, 0.0, -lowest_m])
    remark = " The camera's tilt is unknown: its frame is taken as level, its lowest feet as the ground."
    return RigidTransform(UPRIGHT.rotation, shift_m), remark


def _chosen(clips: Sequence[Clip], wanted: Wanted, *, where: Path) -> Clip:
    """The first clip that is as wanted. Raises UserError for the first wish that nothing meets, with what there is."""
    fitting = list(clips)
    for key in ("subject", "action", "take", "camera"):
        value = getattr(wanted, key)
        if value is None:
            continue
        names = sorted({name for clip in fitting for name in _names(clip, key)})
        fitting = [clip for clip in fitting if value in _names(clip, key)]
        if not fitting:
            met = [f"{other} {getattr(wanted, other)}" for other in ("subject", "action", "take", "camera")]
            before = met[: ("subject", "action", "take", "camera").index(key)]
            of = "".join(f" of {words}" for words in before if not words.endswith(" None"))
            raise UserError(f"{where}: {key}{of}: expected one of {', '.join(names)}, found '{value}'")
    if not fitting:
        raise UserError(f"{where}: expected a clip, found an empty split")
    if len(fitting) > 1:
        log.info("showing %s, the first of %d clips that fit", fitting[0].name, len(fitting))
    return fitting[0]


def _names(clip: Clip, key: str) -> list[str]:
    if key == "action":
        return list(clip.frames_per_action)
    return [clip.camera.name if key == "camera" else getattr(clip, key)]
