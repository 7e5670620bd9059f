"""Sends to W&B what an evaluation left to look at: how errors are distributed, and clips as pages that play."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.files import md5_as_dvc
from pipeline.shown_clips import clip_scenes
from pipeline.tracking import start_run
from pipeline.viewer import viewer_page


def track_looks(row: str, *, reports: Path, folder: Path) -> None:
    """A run of its own in the group of the row, from the row's distributions and scenes under `reports`.

    Histograms pool the runs: MPJPE of a frame, and error of each joint, in mm. Files of wandb go to `folder`.
    """
    distributions = json.loads((reports / "distributions" / f"{row}.json").read_text(encoding="utf-8"))
    path = reports / "scenes" / f"{row}.json"
    scenes = json.loads(path.read_text(encoding="utf-8"))
    edges_mm, runs = distributions["edges_mm"], list(distributions["runs"].values())
    counts = {"test/frame_mpjpe_mm": [run["frame_mpjpe_mm"]["counts"] for run in runs]}
    for joint in runs[0]["joint_error_mm"]:
        counts[f"test/joint_error_mm/{joint}"] = [run["joint_error_mm"][joint]["counts"] for run in runs]
    with start_run(
        row=row,
        name=f"{row}/looks",
        job_type="looks",
        run_id=f"{md5_as_dvc(path)[:16]}-looks",
        config={"row": row, "seed": scenes["seed"]},
        folder=folder,
        notes=scenes["chosen"],
    ) as tracked:
        for name, own in counts.items():
            tracked.histogram(name, [sum(bin_counts) for bin_counts in zip(*own, strict=True)], edges_mm)
        for place, scene in enumerate(clip_scenes(row, scenes)):
            rank = scenes["clips"][place]["rank"]
            tracked.page(f"clips/{place}_{rank}", viewer_page([scene], title=scene.title))
