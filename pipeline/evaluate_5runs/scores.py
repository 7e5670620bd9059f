"""Scores runs on test clips: each run in groups of frames and averaged over them, then mean and deviation over runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import EvaluationConfig
from pipeline.evaluate_5runs.distributions import error_distribution
from pipeline.evaluate_5runs.example_clips import choose_example_clips
from pipeline.evaluate_5runs.protocol import describe_protocol
from pipeline.poses.checkpoint import Card
from pipeline.poses.clips import Clip
from pipeline.poses.metrics import (
    JOINT,
    ClipScores,
    Means,
    Score,
    average_over_frames,
    average_over_groups,
    pool_by_key,
)
from pipeline.poses.predict import TrainedModel
from pipeline.poses.row_metrics import ErrorDistribution, ExampleClip, RowMetrics, mean_over_runs
from pipeline.poses.scores import score_actions
from pipeline.poses.windows import FrameTable, every_nth, frame_table
from pipeline.system.device import torch_device

log = logging.getLogger(__name__)

GROUPINGS: dict[str, Callable[[Clip, str], str]] = {
    "per_action": lambda clip, action: action,
    "per_subset": lambda clip, action: clip.subset,
    "per_subject": lambda clip, action: clip.subject,
    "per_subject_action": lambda clip, action: f"{clip.subject} {action}",
}
AVERAGED_GROUPS = {"actions": "per_action", "subjects": "per_subject", "subject_actions": "per_subject_action"}
RunScores = dict[str, dict[str, Means]]  # grouping or kind of average -> its groups -> metric -> value in mm or percent


@dataclass(frozen=True)
class CheckpointScores:
    """What the test split says about some checkpoints: their metrics, error distributions, and clips of the first."""

    config: EvaluationConfig
    cards: tuple[Card, ...]
    metrics: RowMetrics
    distributions: tuple[ErrorDistribution, ...]
    example_clips: tuple[ExampleClip, ...]


def score_models(
    models: Mapping[str, TrainedModel], clips: Sequence[Clip], config: EvaluationConfig, seeds: Sequence[int]
) -> CheckpointScores:
    """Scores trained models, given by a name for the log, on the same frames of the same clips."""
    cards = tuple(model.card for model in models.values())
    skeleton = cards[0].skeletons[1]
    table = frame_table(clips, root=skeleton.root, device=torch_device(config.device))
    scored = every_nth(table, config.evaluation.frame_step, fraction=config.evaluation.frame_fraction)
    is_scored, targets_m = scored.cpu().numpy(), table.pose_m.cpu().numpy()
    clip_ends = table.clip_first.cpu().numpy()[1:]

    runs, distributions = [], []
    example_clips: tuple[ExampleClip, ...] = ()
    evaluation = config.evaluation
    for name, model in models.items():
        poses_m = model.predict(
            table,
            flip_averaging=evaluation.flip_averaging,
            stride=evaluation.window_stride,
            wanted=scored,
            zero_root=evaluation.predicted_root == "zeroed",
        )
        predicted_m = poses_m.cpu().numpy()
        runs.append(_score_run(poses_m, clips, table, scored, config, skeleton.joints))
        distributions.append(error_distribution(predicted_m[is_scored], targets_m[is_scored], skeleton.joints))
        if not example_clips:
            split_m, split_scored = np.split(predicted_m, clip_ends), np.split(is_scored, clip_ends)
            example_clips = choose_example_clips(clips, split_m, split_scored, skeleton)
        mpjpe_mm = runs[-1]["averages"][config.evaluation.averaging]["mpjpe_mm"]
        log.info("%s %s: MPJPE %.2f mm", config.row, name, mpjpe_mm)
    protocol = describe_protocol(config, clips, seeds, scored_frames=int(scored.sum()))
    metrics = RowMetrics.model_validate({"row": config.row, "protocol": protocol, **_summarise_runs(runs, config)})
    return CheckpointScores(config, cards, metrics, tuple(distributions), example_clips)


def _score_run(
    poses_m: Float[Tensor, "N J_out 3"],
    clips: Sequence[Clip],
    table: FrameTable,
    scored: Bool[Tensor, " N"],
    config: EvaluationConfig,
    joints: Sequence[str],
) -> RunScores:
    """Returns one run's metrics in every grouping, their averages of every kind, and the error of each joint."""
    averaging = config.evaluation.averaging
    scores_by_action = score_actions(clips, poses_m, table, scored, pck_joints=config.pck_joints, joint_names=joints)
    metric_scores = [_select_metrics(scores, joints=False) for *_, scores in scores_by_action]
    if config.evaluation.frame_step > 1 or any(clip.scored is not None for clip in clips):
        # Velocities need frames that follow one another, and the scored ones do not.
        metric_scores = [scores | {"mpjve_mm": Score(0.0, 0)} for scores in metric_scores]
    joint_scores = [_select_metrics(scores, joints=True) for *_, scores in scores_by_action]
    keys = {name: [key(clip, action) for clip, action, _ in scores_by_action] for name, key in GROUPINGS.items()}
    joint_means = _average(joint_scores, averaging, keys)
    return {
        **{name: pool_by_key(metric_scores, keys[name]) for name in GROUPINGS},
        "averages": {name: _average(metric_scores, name, keys) for name in ("frames", *AVERAGED_GROUPS)},
        "per_joint": {name.removeprefix(JOINT): {"mpjpe_mm": error_mm} for name, error_mm in joint_means.items()},
    }


def _select_metrics(scores: ClipScores, *, joints: bool) -> ClipScores:
    """Returns the errors of single joints alone, or all scores but those."""
    return {name: score for name, score in scores.items() if name.startswith(JOINT) is joints}


def _average(scores: Sequence[ClipScores], averaging: str, keys: Mapping[str, Sequence[str]]) -> Means:
    """Returns the mean over all frames, or the unweighted mean over groups; `keys` names the groups of the scores."""
    if averaging == "frames":
        return average_over_frames(scores)
    return average_over_groups(pool_by_key(scores, keys[AVERAGED_GROUPS[averaging]]))


def _summarise_runs(runs: Sequence[RunScores], config: EvaluationConfig) -> dict[str, object]:
    """Returns the fields of `RowMetrics` that are averages over the runs."""
    summary = {
        grouping: {group: mean_over_runs([run[grouping][group] for run in runs]) for group in groups}
        for grouping, groups in runs[0].items()
    }
    averages = summary.pop("averages")
    over = {f"over_{averaging}": means for averaging, means in averages.items()}
    return {**averages[config.evaluation.averaging], **over, **summary}
