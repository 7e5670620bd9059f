"""Chooses clips of a test split to look at (the best, median and worst) and makes their poses small enough for git."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.poses.clips import Clip
from pipeline.poses.metrics import MM_PER_M, mpjpe_mm
from pipeline.poses.row_metrics import ExampleClip, ExampleClips, JointsMm, Rank
from pipeline.poses.skeleton import Skeleton
from pipeline.visualization.scene import ASSUMED_HZ, SHOWN_S, world_from_camera_of

CLIPS_PER_RANK = 2
LONGER_THAN_S = 2.0
SHOWN_HZ = 15.0
CHOICE = (
    f"By the MPJPE of the clip's scored frames, among clips of more than {LONGER_THAN_S:g} s (all, if none is): the "
    f"{CLIPS_PER_RANK} lowest, the {CLIPS_PER_RANK} nearest the median and the {CLIPS_PER_RANK} highest, of different "
    f"actions where there are as many; shown are the middle {SHOWN_S:g} s at {SHOWN_HZ:g} Hz or the next rate above "
    "that divides the clip's."
)


def choose_example_clips(
    clips: Sequence[Clip],
    predicted_m: Sequence[Float[np.ndarray, "_ J 3"]],
    scored: Sequence[Bool[np.ndarray, " _"]],
    skeleton: Skeleton,
) -> tuple[ExampleClip, ...]:
    """Returns the best, median and worst clips, with predicted and true joints on the true root.

    `predicted_m` has all frames of each clip, root-relative in the camera frame; `scored` marks those to look at.
    """
    true_m = [np.asarray(clip.joints_camera_m, dtype=np.float64) for clip in clips]
    relative_m = [joints_m - joints_m[:, skeleton.root, None] for joints_m in true_m]
    errors_mm = {
        number: float(mpjpe_mm(predicted_m[number][is_scored], relative_m[number][is_scored]).mean())
        for number, is_scored in enumerate(scored)
        if is_scored.any()
    }
    examples = []
    for rank, number in _rank_clips(clips, errors_mm):
        clip, clip_scored = clips[number], np.flatnonzero(scored[number])
        frames, rate_hz = _thin_frames(clip_scored, clip.rate_hz or ASSUMED_HZ)
        root_m = true_m[number][:, skeleton.root, None]
        world_from_camera = world_from_camera_of(clip, true_m[number])
        example = ExampleClip(
            rank=rank,
            clip=clip.name,
            subject=clip.subject,
            action=_actions(clip),
            camera=clip.camera.name,
            mpjpe_mm=round(errors_mm[number], 2),
            scored_frames=len(clip_scored),
            rate_hz=rate_hz,
            rate_known=clip.rate_hz is not None,
            error_mm=mpjpe_mm(predicted_m[number][frames], relative_m[number][frames]).round(1).tolist(),
            predicted_mm=_whole_mm(world_from_camera.apply(predicted_m[number][frames] + root_m[frames])),
            true_mm=_whole_mm(world_from_camera.apply(true_m[number][frames])),
        )
        examples.append(example)
    return tuple(examples)


def compact_json(examples: ExampleClips) -> str:
    """Returns the record in few bytes: one line for each clip and one for the rest."""
    lines = [json.dumps(clip.model_dump(), separators=(",", ":"), allow_nan=False) for clip in examples.clips]
    clips = ",\n".join(lines)
    heading = json.dumps(examples.model_dump(exclude={"clips"}), allow_nan=False)
    return f'{heading[:-1]}, "clips": [\n{clips}\n]}}\n'


def _rank_clips(clips: Sequence[Clip], errors_mm: dict[int, float]) -> list[tuple[Rank, int]]:
    """Returns (rank, number) of the chosen clips, none twice, the best first. `errors_mm` has the clips by number."""
    long = [n for n in errors_mm if len(clips[n]) > LONGER_THAN_S * (clips[n].rate_hz or ASSUMED_HZ)]
    candidates_mm = {number: errors_mm[number] for number in long or errors_mm}
    median_mm = float(np.median(list(candidates_mm.values())))
    distances_mm: dict[Rank, dict[int, float]] = {
        "best": candidates_mm,
        "worst": {number: -error_mm for number, error_mm in candidates_mm.items()},
        "median": {number: abs(error_mm - median_mm) for number, error_mm in candidates_mm.items()},
    }
    free = set(candidates_mm)
    chosen = {}
    for rank, distance_mm in distances_mm.items():  # the median is last, so that it takes no best or worst clip
        nearest = sorted(free, key=lambda number: (distance_mm[number], number))
        chosen[rank] = _prefer_other_actions(nearest, clips)[:CLIPS_PER_RANK]
        free -= set(chosen[rank])
    return [(rank, number) for rank in get_args(Rank) for number in chosen[rank]]


def _prefer_other_actions(numbers: Sequence[int], clips: Sequence[Clip]) -> list[int]:
    """Returns the first clip of each action, then the other clips, in the order given."""
    first_of_action: dict[str, int] = {}
    for number in numbers:
        first_of_action.setdefault(_actions(clips[number]), number)
    return [*first_of_action.values(), *(n for n in numbers if n not in first_of_action.values())]


def _actions(clip: Clip) -> str:
    return ", ".join(clip.frames_per_action)


def _thin_frames(scored: Int[np.ndarray, " K"], rate_hz: float) -> tuple[Int[np.ndarray, " S"], float]:
    """Returns those of the scored frames that are shown, and how many of them make a second."""
    scored_hz = rate_hz / float(np.median(np.diff(scored))) if len(scored) > 1 else rate_hz
    step = max(1, int(scored_hz // SHOWN_HZ))
    frames = scored[::step]
    count = max(1, round(SHOWN_S * scored_hz / step))
    first = max(0, (len(frames) - count) // 2)
    return frames[first : first + count], round(scored_hz / step, 4)


def _whole_mm(joints_m: Float[np.ndarray, "S J 3"]) -> JointsMm:
    return tuple(tuple(map(tuple, joints)) for joints in np.round(joints_m * MM_PER_M).astype(int).tolist())
