"""Shows on W&B, every few epochs, how a run lifts a validation clip: its middle frame, and its middle seconds."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipeline.batches import Data
from pipeline.engine import predicted
from pipeline.figures import pose_figure
from pipeline.metrics import mpjpe_mm
from pipeline.params import TrainingConfig
from pipeline.people import Body, Scene
from pipeline.shown_clips import ASSUMED_HZ, SHOWN_S, upright
from pipeline.tracking import Run
from pipeline.viewer import viewer_page

LOOKS = 4  # in a run, the last after its last epoch


def track_look(run: Run, model: nn.Module, data: Data, config: TrainingConfig, *, epoch: int) -> None:
    """After epoch `epoch`, counted from 1, if it is one of a run's few: the first validation clip, lifted and true.

    Without flip averaging. The model draws no random numbers, so that it learns the same whether looked at or not.
    """
    last = config.training.epochs
    if not run.tracks or data.validation is None or epoch not in {last * look // LOOKS for look in range(1, LOOKS + 1)}:
        return
    clip, skeleton = data.validation_clips[0], data.out_skeleton
    rate_hz = clip.rate_hz or ASSUMED_HZ
    middle, half = len(clip) // 2, round(SHOWN_S * rate_hz / 2)
    frames = np.arange(max(0, middle - half), min(len(clip), middle + half))
    wanted = torch.zeros(len(data.validation), dtype=torch.bool, device=data.validation.screen.device)
    wanted[torch.from_numpy(frames)] = True  # the clip is the table's first
    poses_m = predicted(model, data.validation, data, config, wanted)
    lifted_m, true_m = (
        poses[torch.from_numpy(frames)].cpu().numpy().astype(np.float64) for poses in (poses_m, data.validation.pose_m)
    )
    errors_mm = mpjpe_mm(lifted_m, true_m)
    shown = int(np.flatnonzero(frames == middle)[0])
    title = f"{clip.name}, frame {middle}, after epoch {epoch}"
    run.figure("prediction", pose_figure(lifted_m[shown], true_m[shown], skeleton, title=title), epoch=epoch)
    joints_m = np.asarray(clip.joints_camera_m, dtype=np.float64)
    root_m, world_from_camera = joints_m[frames][:, skeleton.root, None], upright(clip, joints_m)
    scene = Scene(
        title=f"{clip.name}, after epoch {epoch}: {errors_mm.mean():.1f} mm",
        caption=f"{config.row}, a validation clip, without flip averaging. Colour: prediction; grey: truth.",
        rate_hz=rate_hz,
        bodies=(
            Body("prediction", skeleton, world_from_camera.apply(lifted_m + root_m).round(3)),
            Body("truth", skeleton, world_from_camera.apply(true_m + root_m).round(3), faint=True),
        ),
        error_mm=errors_mm.round(1),
    )
    run.page("validation_clip", viewer_page([scene], title=scene.title), epoch=epoch)
