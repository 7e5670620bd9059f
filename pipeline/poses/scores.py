"""Scores predicted poses of clips: every metric for every action of every clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.poses.clips import Clip
from pipeline.poses.metrics import ClipScores, clip_scores
from pipeline.poses.windows import FrameTable
from pipeline.system.errors import UserError


def score_actions(
    clips: Sequence[Clip],
    poses_m: Float[Tensor, "N J_out 3"],
    table: FrameTable,
    wanted: Bool[Tensor, " N"],
    *,
    pck_joints: Sequence[int] = (),
    joint_names: Sequence[str] = (),
) -> list[tuple[Clip, str, ClipScores]]:
    """Returns (clip, action, scores) for every action of every clip: every metric over its wanted frames.

    `pck_joints` and `joint_names` add metrics as in `clip_scores`. An action without wanted frames is left out. Raises
    UserError naming a clip that cannot be scored.
    """
    predicted_m, targets_m, chosen = poses_m.cpu().numpy(), table.pose_m.cpu().numpy(), wanted.cpu().numpy()
    scores = []
    for clip, first, last in zip(clips, table.clip_first.tolist(), table.clip_last.tolist(), strict=True):
        for action, shows_it in clip.frames_per_action.items():
            own = first + np.flatnonzero(chosen[first : last + 1] & shows_it)
            if not len(own):
                continue
            try:
                own_scores = clip_scores(
                    predicted_m[own], targets_m[own], pck_joints=pck_joints, joint_names=joint_names
                )
            except UserError as error:
                raise UserError(f"clip {clip.name}: {error}") from error
            scores.append((clip, action, own_scores))
    return scores
