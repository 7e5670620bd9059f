"""What a source makes of its raw files: clips or takes by split, and what was left out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.mocap.takes import Take
from pipeline.poses.clips import SPLITS, Clip
from pipeline.poses.skeleton import Skeleton


@dataclass(frozen=True)
class Dropped:
    """Frames of the raw data that are in no clip, and why."""

    take: str
    camera: str
    frames: int
    reason: str


@dataclass(frozen=True)
class Prepared:
    """What a source makes of its raw files. `target` says in words what the true joints are.

    `pck_joints` are those that the dataset's own PCK and AUC count, empty if it has none. `differences` names what is
    not as the dataset is known to be, a line each; `excluded_takes` are whole takes of the test split left out.
    Motion capture has `takes` in place of `splits`; cameras see them where they are read.
    """

    in_skeleton: Skeleton
    out_skeleton: Skeleton
    target: str
    splits: dict[str, list[Clip]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    dropped: list[Dropped] = field(default_factory=list)
    pck_joints: tuple[int, ...] = ()
    differences: list[str] = field(default_factory=list)
    excluded_takes: list[str] = field(default_factory=list)
    takes: dict[str, list[Take]] | None = None
