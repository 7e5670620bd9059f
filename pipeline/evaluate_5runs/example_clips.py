"""Clips of a test split to look at: which are the best, median and worst, and their poses small enough for git."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.poses.clips import Clip
from pipeline.poses.metrics import MM_PER_M, mpjpe_mm
from pipeline.poses.skeleton import Skeleton
from pipeline.visualization.scene import ASSUMED_HZ, SHOWN_S, world_from_camera_of

EACH = 2  # clips of each rank
LONGER_THAN_S = 2.0
SHOWN_HZ = 15.0
CHOSEN = (
    f"By the MPJPE of the clip's scored frames, among clips of more than {LONGER_THAN_S:g} s (all, if none is): the "
    f"{EACH} lowest, the {EACH} nearest the median and the {EACH} highest, of different actions where there are as "
    f"many; shown are the middle {SHOWN_S:g} s at {SHOWN_HZ:g} Hz or the next rate above that divides the clip's."
)


def shown_clips(
    clips: Sequence[Clip],
    predicted_m: Sequence[Float[np.ndarray, "_ J 3"]],
    scored: Sequence[Bool[np.ndarray, " _"]],
    skeleton: Skeleton,
) -> dict[str, Any]:
    """The chosen clips with predicted and true joints in whole mm: upright world, Z up, both on the true root.

    `predicted_m` has all frames of each clip, root-relative in the camera frame. The record says how clips were chosen.
    """
    true_m = [np.asarray(clip.joints_camera_m, dtype=np.float64) for clip in clips]
    relative_m = [joints - joints[:, skeleton.root, None] for joints in true_m]
    errors_mm = [
        mpjpe_mm(own[kept], target[kept]) for own, target, kept in zip(predicted_m, relative_m, scored, strict=True)
    ]
    entries = []
    for rank, place in _ranked(clips, errors_mm):
        clip, kept = clips[place], np.flatnonzero(scored[place])
        frames, rate_hz = _thinned(kept, clip.rate_hz or ASSUMED_HZ)
        root_m = true_m[place][:, skeleton.root, None]
        world_from_camera = world_from_camera_of(clip, true_m[place])
        entries.append(
            {
                "rank": rank,
                "clip": clip.name,
                "subject": clip.subject,
                "action": _action(clip),
                "camera": clip.camera.name,
                "mpjpe_mm": round(float(errors_mm[place].mean()), 2),
                "scored_frames": len(kept),
                "rate_hz": rate_hz,
                "rate_known": clip.rate_hz is not None,
                "error_mm": mpjpe_mm(predicted_m[place][frames], relative_m[place][frames]).round(1).tolist(),
                "predicted_mm": _whole_mm(world_from_camera.apply(predicted_m[place][frames] + root_m[frames])),
                "true_mm": _whole_mm(world_from_camera.apply(true_m[place][frames])),
            }
        )
    return {"chosen": CHOSEN, "skeleton": skeleton.name, "clips": entries}


def compact_json(record: dict[str, Any]) -> str:
    """The record in few bytes: one line per clip and one for the rest."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":"), allow_nan=False) for entry in record["clips"])
    rest = json.dumps({key: value for key, value in record.items() if key != "clips"}, allow_nan=False)
    return f'{rest[:-1]}, "clips": [\n{lines}\n]}}\n'


def _ranked(clips: Sequence[Clip], errors_mm: Sequence[Float[np.ndarray, " _"]]) -> list[tuple[str, int]]:
    """(rank, place) of the chosen clips, none twice."""
    known = [place for place, errors in enumerate(errors_mm) if len(errors)]
    long = [place for place in known if len(clips[place]) > LONGER_THAN_S * (clips[place].rate_hz or ASSUMED_HZ)]
    places = long or known
    means = {place: float(errors_mm[place].mean()) for place in places}
    median = float(np.median(list(means.values())))
    distances = {
        "best": lambda place: means[place],
        "worst": lambda place: -means[place],
        "median": lambda place: abs(means[place] - median),
    }
    taken: set[int] = set()
    ranked = {}
    for rank, distance in distances.items():
        free = sorted((place for place in places if place not in taken), key=lambda place: (distance(place), place))
        first_of_action = list({_action(clips[place]): place for place in reversed(free)}.values())
        first_of_action.sort(key=free.index)
        ranked[rank] = [*first_of_action, *(p for p in free if p not in first_of_action)][:EACH]
        taken |= set(ranked[rank])
    return [(rank, place) for rank in ("best", "median", "worst") for place in ranked[rank]]


def _action(clip: Clip) -> str:
    return ", ".join(clip.frames_per_action)


def _thinned(kept: Int[np.ndarray, " K"], rate_hz: float) -> tuple[Int[np.ndarray, " S"], float]:
    """Frames to show of those scored, and how many come in a second."""
    scored_hz = rate_hz / float(np.median(np.diff(kept))) if len(kept) > 1 else rate_hz
    step = max(1, int(scored_hz // SHOWN_HZ))
    frames = kept[::step]
    count = max(1, round(SHOWN_S * scored_hz / step))
    first = max(0, (len(frames) - count) // 2)
    return frames[first : first + count], round(scored_hz / step, 4)


def _whole_mm(joints_m: Float[np.ndarray, "S J 3"]) -> list[list[list[int]]]:
    return np.round(joints_m * MM_PER_M).astype(int).tolist()
