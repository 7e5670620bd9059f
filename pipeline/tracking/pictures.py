"""Sends pictures and playable clips to W&B: a validation clip during training, test clips after an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from pipeline.poses.clips import Clip
from pipeline.poses.metrics import mpjpe_mm
from pipeline.poses.row_metrics import ExampleClips, RowDistributions, read_json_as
from pipeline.poses.skeleton import Skeleton
from pipeline.system.files import md5_as_dvc
from pipeline.tracking.run import Run, start_run
from pipeline.visualization.scene import ASSUMED_HZ, SHOWN_S, Body, Scene, clip_scenes, world_from_camera_of

PICTURES_PER_RUN = 4  # the last one after the last epoch


def is_picture_epoch(epoch: int, epochs: int) -> bool:
    """Returns whether a run of so many epochs sends its validation clip after epoch `epoch`, which counts from 1."""
    return epoch in {epochs * number // PICTURES_PER_RUN for number in range(1, PICTURES_PER_RUN + 1)}


def middle_frames(clip: Clip) -> Int[np.ndarray, " S"]:
    """Returns the numbers of the frames in the middle `SHOWN_S` seconds of a clip."""
    middle, half = len(clip) // 2, round(SHOWN_S * (clip.rate_hz or ASSUMED_HZ) / 2)
    return np.arange(max(0, middle - half), min(len(clip), middle + half))


def track_validation_clip(
    run: Run,
    clip: Clip,
    predicted_m: Float[np.ndarray, "S J 3"],
    true_m: Float[np.ndarray, "S J 3"],
    skeleton: Skeleton,
    *,
    epoch: int,
) -> None:
    """Sends a picture of the clip's middle frame and a page that plays its `middle_frames`.

    Poses are root-relative, in the camera frame.
    """
    from pipeline.visualization.figures import pose_figure  # here, as untracked runs need not wait for matplotlib
    from pipeline.visualization.viewer import viewer_page

    frames, middle = middle_frames(clip), len(clip) // 2
    errors_mm = mpjpe_mm(predicted_m, true_m)
    place = int(np.flatnonzero(frames == middle)[0])
    title = f"{clip.name}, frame {middle}, after epoch {epoch}"
    run.figure("prediction", pose_figure(predicted_m[place], true_m[place], skeleton, title=title), epoch=epoch)
    joints_m = np.asarray(clip.joints_camera_m, dtype=np.float64)
    root_m, world_from_camera = joints_m[frames][:, skeleton.root, None], world_from_camera_of(clip, joints_m)
    scene = Scene(
        title=f"{clip.name}, after epoch {epoch}: {errors_mm.mean():.1f} mm",
        caption="A validation clip, without flip averaging. Colour: prediction; grey: truth.",
        rate_hz=clip.rate_hz or ASSUMED_HZ,
        bodies=(
            Body("prediction", skeleton, world_from_camera.apply(predicted_m + root_m).round(3)),
            Body("truth", skeleton, world_from_camera.apply(true_m + root_m).round(3), faint=True),
        ),
        error_mm=errors_mm.round(1),
    )
    run.page("validation_clip", viewer_page([scene], title=scene.title), epoch=epoch)


def track_evaluation_pictures(row: str, *, reports: Path, folder: Path) -> None:
    """Sends a run of histograms and clips, in the group of the row, from the files of the row under `reports`.

    Histograms pool the runs: MPJPE of a frame, and error of each joint, in mm. Files of wandb go to `folder`.
    """
    from pipeline.visualization.viewer import viewer_page

    distributions = read_json_as(RowDistributions, reports / "distributions" / f"{row}.json", "error distributions")
    path = reports / "scenes" / f"{row}.json"
    scenes = read_json_as(ExampleClips, path, "example clips")
    runs = list(distributions.runs.values())
    histograms = {"test/frame_mpjpe_mm": [run.frame_mpjpe_mm for run in runs]}
    for joint in runs[0].joint_error_mm:
        histograms[f"test/joint_error_mm/{joint}"] = [run.joint_error_mm[joint] for run in runs]
    with start_run(
        row=row,
        name=f"{row}/pictures",
        job_type="pictures",
        run_id=f"{md5_as_dvc(path)[:16]}-pictures",
        config={"row": row, "seed": scenes.seed, "chosen": scenes.chosen},
        folder=folder,
    ) as tracked:
        for name, histogram_of_each_run in histograms.items():
            counts = np.sum([histogram.counts for histogram in histogram_of_each_run], axis=0)
            tracked.histogram(name, counts.tolist(), distributions.edges_mm)
        for place, scene in enumerate(clip_scenes(row, scenes)):
            rank = scenes.clips[place].rank
            tracked.page(f"clips/{place}_{rank}", viewer_page([scene], title=scene.title))
