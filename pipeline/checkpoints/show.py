"""Tool show: a row's prediction beside the truth for one prepared clip, with the error over time.

Reads data/prepared/<row>/ and data/checkpoints/<row>/run<k>/; writes one HTML page, film or picture. It is to be looked
at: nothing is selected or reported by it, so it may open the test split as well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pipeline.config.params import EvaluationConfig
from pipeline.config.rows import refuse_missing_data
from pipeline.config.values import validated
from pipeline.mocap.cameras import read_clips
from pipeline.poses.checkpoint import Card, check_metres
from pipeline.poses.clips import SPLITS, Clip
from pipeline.poses.metrics import mpjpe_mm
from pipeline.poses.predict import TrainedModel, load_trained_model
from pipeline.poses.windows import frame_table
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml, write_text
from pipeline.visualization.movie import write_movie, write_strip
from pipeline.visualization.scene import ASSUMED_HZ, Body, Scene, has_known_place, world_from_camera_of
from pipeline.visualization.viewer import viewer_page

log = logging.getLogger(__name__)

SUFFIXES = (".html", ".mp4", ".gif", ".png")
KEYS = ("subject", "action", "take", "camera")
TILT_UNKNOWN = " The camera's tilt is unknown: its frame is taken as level, its lowest feet as the ground."


@dataclass(frozen=True)
class Selection:
    """Which clip of a split is meant; None: any."""

    action: str | None = None
    subject: str | None = None
    camera: str | None = None
    take: str | None = None
    split: str = "validation"


def show(
    row: str, selection: Selection, *, run: int, prepared: Path, checkpoints: Path, out: Path | None = None
) -> Path:
    """Writes the file `out`, or an HTML page in the working directory named after the row and the clip; returns it.

    Where several clips of the split fit, the first is shown, and how many others there are is logged. Raises UserError
    if none fits, saying what there is, or data or checkpoint are missing or do not fit each other.
    """
    if out is not None and out.suffix not in SUFFIXES:
        raise UserError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}, found '{out.suffix}'")
    folder = prepared / row
    if selection.split not in SPLITS:
        raise UserError(f"split: expected one of {', '.join(SPLITS)}, found '{selection.split}'")
    refuse_missing_data(folder, row)
    clips = read_clips(folder / selection.split, detector_level=_read_config(folder).detector_level)
    clip = select_clip(clips, selection, where=folder / selection.split)
    scene = clip_scene(clip, folder, checkpoints / row / f"run{run}", split=selection.split)
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
    """Returns the prediction of a checkpoint for one clip, the truth behind it, and the error of each frame.

    Both stand in the world with the true root, since the model predicts poses relative to the root; the error is that
    of the pose. Where the camera's place is not known, the camera frame is turned upright and the caption says so.
    """
    config = _read_config(prepared)
    model = load_trained_model(checkpoint, device=torch_device(config.device))
    card = model.card
    check_metres(card, where=checkpoint)
    _check_fit(card, clip, where=checkpoint)
    pose_m, true_m = _predict(model, clip, config)
    in_skeleton, out_skeleton = card.skeletons
    root_m = np.asarray(clip.joints_camera_m, dtype=float)[:, out_skeleton.root, None]
    world_from_camera = world_from_camera_of(clip, true_m + root_m)
    remark = "" if has_known_place(clip.camera) else TILT_UNKNOWN
    if not clip.rate_hz:
        remark += f" Rate unknown, played at {ASSUMED_HZ:g} Hz."
    pixels = np.asarray(clip.pixels, dtype=float)
    prediction_m, truth_m = (world_from_camera.apply(joints_m + root_m) for joints_m in (pose_m, true_m))
    return Scene(
        title=f"{clip.subject} {clip.action}, camera {clip.camera.name}",
        caption=f"{split} clip {clip.name}, {len(clip)} frames. Colour: {card.row} "
        f"{checkpoint.name.replace('run', 'run ')}; grey: truth. Both stand on the true root.{remark}",
        rate_hz=clip.rate_hz or ASSUMED_HZ,
        bodies=(
            Body("prediction", out_skeleton, prediction_m, pixels=pixels, in_skeleton=in_skeleton),
            Body("truth", out_skeleton, truth_m, faint=True),
        ),
        image_size_px=(clip.camera.width_px, clip.camera.height_px),
        error_mm=mpjpe_mm(pose_m, true_m),
    )


def _read_config(prepared: Path) -> EvaluationConfig:
    path = prepared / "evaluation.json"
    return validated(EvaluationConfig, read_yaml(path), where=str(path))


def _check_fit(card: Card, clip: Clip, *, where: Path) -> None:
    in_skeleton, out_skeleton = card.skeletons
    found = (clip.pixels.shape[1], clip.joints_camera_m.shape[1], 2 if clip.confidence is None else 3)
    expected = (len(in_skeleton.joints), len(out_skeleton.joints), card.in_channels)
    if found != expected:
        raise UserError(
            f"{where}: expected a model of {found[0]} keypoints, {found[1]} joints and {found[2]} channels as in "
            f"the prepared data, found one of {expected[0]}, {expected[1]} and {expected[2]}"
        )


def _predict(
    model: TrainedModel, clip: Clip, config: EvaluationConfig
) -> tuple[Float[np.ndarray, "F J 3"], Float[np.ndarray, "F J 3"]]:
    """Returns the predicted and the true pose of each frame, relative to the root."""
    torch.set_num_threads(config.threads)
    table = frame_table([clip], root=model.card.skeletons[1].root, device=torch_device(config.device))
    predicted_m = model.predict(
        table,
        flip_averaging=config.evaluation.flip_averaging,
        stride=config.evaluation.window_stride,
        zero_root=config.evaluation.predicted_root == "zeroed",
    )
    return predicted_m.cpu().numpy().astype(float), table.pose_m.cpu().numpy().astype(float)


def select_clip(clips: Sequence[Clip], selection: Selection, *, where: Path) -> Clip:
    """Returns the first clip that fits. Raises UserError for the first key that nothing fits, with what there is."""
    fitting, met = list(clips), ""
    for key in KEYS:
        if (value := getattr(selection, key)) is None:
            continue
        names = sorted({name for clip in fitting for name in _names(clip, key)})
        fitting = [clip for clip in fitting if value in _names(clip, key)]
        if not fitting:
            raise UserError(f"{where}: {key}{met}: expected one of {', '.join(names)}, found '{value}'")
        met += f" of {key} {value}"
    if not fitting:
        raise UserError(f"{where}: expected a clip, found an empty split")
    if len(fitting) > 1:
        log.info("showing %s, the first of %d clips that fit", fitting[0].name, len(fitting))
    return fitting[0]


def _names(clip: Clip, key: str) -> list[str]:
    """Returns the values of a clip for a key: it may show several actions."""
    if key == "action":
        return list(clip.frames_per_action)
    return [clip.camera.name if key == "camera" else getattr(clip, key)]
