"""Decides which frames of a test split are scored, and says in words how: the protocol in the record of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.config.params import Evaluation, EvaluationConfig
from pipeline.poses.clips import Clip
from pipeline.poses.metrics import AUC_THRESHOLDS_MM, PCK_THRESHOLD_MM
from pipeline.poses.row_metrics import Protocol
from pipeline.system.errors import UserError

AVERAGING = {
    "actions": "frames pooled within an action (all subjects and cameras), then unweighted mean over actions",
    "frames": "all scored frames pooled",
    "subjects": "frames pooled within a subject or test sequence, then unweighted mean over those",
    "subject_actions": "frames pooled within an action of a subject (all cameras), then unweighted mean over those",
}
SELECTION = {
    "last": "weights of the last epoch",
    "best_validation": "epoch of the lowest validation MPJPE; validation takes are held out of the train split",
}


def select_actions(clips: Sequence[Clip], actions: str | Sequence[str], *, where: Path) -> list[Clip]:
    """Returns the clips that show one of `actions`; their frames of other actions are not scored, only seen.

    Raises UserError naming an action that is in no clip: names are compared whole, "Sitting" is not "SittingDown".
    """
    if actions == "all":
        return list(clips)
    known = sorted({action for clip in clips for action in clip.frames_per_action})
    for action in actions:
        if action not in known:
            raise UserError(f"{where}: actions: expected some of {', '.join(known)}, found '{action}'")
    selected = []
    for clip in clips:
        frames_of_actions = [frames for action, frames in clip.frames_per_action.items() if action in actions]
        if len(frames_of_actions) == len(clip.frames_per_action):
            selected.append(clip)
        elif frames_of_actions:
            scored = np.logical_or.reduce(frames_of_actions)
            selected.append(replace(clip, scored=scored if clip.scored is None else scored & clip.scored))
    return selected


def describe_protocol(
    config: EvaluationConfig, clips: Sequence[Clip], seeds: Sequence[int], *, scored_frames: int
) -> Protocol:
    """Returns the protocol by which runs of these seeds are scored on `scored_frames` frames of the clips."""
    evaluation = config.evaluation
    actions = sorted({action for clip in clips for action in clip.frames_per_action})
    if evaluation.actions != "all":
        actions = sorted(evaluation.actions)
    names_actions = "actions" in evaluation.averaging or evaluation.actions != "all"
    pck = {"pck": _describe_pck(len(config.pck_joints))} if config.pck_joints else {}
    return Protocol(
        dataset=config.dataset,
        split="test",
        target=config.target,
        joints=clips[0].joints_camera_m.shape[1],
        keypoints=config.keypoints,
        frames=config.frames,
        rate_hz=tuple(sorted({clip.rate_hz or "unknown" for clip in clips}, key=str)),
        root=f"relative to the root joint, which counts in the mean; predicted root {evaluation.predicted_root}",
        flip_averaging=evaluation.flip_averaging,
        averaging=AVERAGING[evaluation.averaging],
        actions=tuple(actions) if names_actions else "all",
        scored_frames=_describe_scored_frames(clips, evaluation),
        excluded_takes=config.excluded_takes,
        not_as_published=config.differences,
        selection=SELECTION[config.selection],
        clips=len(clips),
        scored=scored_frames,
        seeds=tuple(seeds),
        spread="sample standard deviation over the runs",
        **pck,
    )


def _describe_scored_frames(clips: Sequence[Clip], evaluation: Evaluation) -> str:
    frame = "frame" if clips[0].scored is None else "frame marked as valid by the dataset (all are context)"
    step, fraction = evaluation.frame_step, evaluation.frame_fraction
    words = f"every {frame} once" if step == 1 else f"one {frame} in {step}"
    return words if fraction == 1 else f"{words}, of one stretch of {fraction:g} of each clip"


def _describe_pck(joints: int) -> str:
    return (
        f"share of {joints} joints with an error strictly below {PCK_THRESHOLD_MM:g} mm; AUC: its mean "
        f"over {len(AUC_THRESHOLDS_MM)} thresholds from {AUC_THRESHOLDS_MM[0]:g} to {AUC_THRESHOLDS_MM[-1]:g} mm"
    )
