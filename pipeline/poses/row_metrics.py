"""Defines the files that evaluate_5runs writes about a row, so that whoever reads one validates it against one schema.

They are metrics/<row>.json (`RowMetrics`), distributions/<row>.json (`RowDistributions`) and scenes/<row>.json
(`ExampleClips`) under reports/. Fields stand in the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, StrictBool, StrictFloat, StrictInt

from pipeline.config.values import Values, validated
from pipeline.system.files import read_json

Finite = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Rank = Literal["best", "median", "worst"]
JointsMm = tuple[tuple[tuple[StrictInt, StrictInt, StrictInt], ...], ...]  # frames, joints, coordinates
V = TypeVar("V", bound=Values)


class MeanStd(Values):
    """A metric over repeated runs: its mean, its sample standard deviation (n - 1) and its value in each run.

    The deviation of a single run is None, and all numbers of a metric that has no value.
    """

    mean: Finite | None
    std: Finite | None
    runs: tuple[Finite | None, ...]

    def values(self) -> list[float]:
        """Returns the values of the runs that have one."""
        return [value for value in self.runs if value is not None]


class Metrics(Values):
    """The metrics of some frames. The shares of correct joints are None for datasets that do not define them."""

    mpjpe_mm: MeanStd
    p_mpjpe_mm: MeanStd
    n_mpjpe_mm: MeanStd
    mpjve_mm: MeanStd
    pck150: MeanStd | None = None
    auc: MeanStd | None = None

    def by_name(self) -> dict[str, MeanStd]:
        """Returns the metrics that the dataset defines, by their names."""
        values = {name: getattr(self, name) for name in Metrics.model_fields}
        return {name: value for name, value in values.items() if value is not None}


class JointError(Values):
    """The error of one joint."""

    mpjpe_mm: MeanStd


class Protocol(Values):
    """How a row was scored: everything a reader must know before he sets its numbers beside others."""

    dataset: str
    split: Literal["test"]
    target: str
    joints: StrictInt
    keypoints: str
    frames: StrictInt
    rate_hz: tuple[Finite | Literal["unknown"], ...]
    root: str
    flip_averaging: StrictBool
    averaging: str
    actions: tuple[str, ...] | Literal["all"]
    pck: str | None = None
    scored_frames: str
    excluded_takes: tuple[str, ...]
    not_as_published: tuple[str, ...]
    selection: str
    clips: StrictInt
    scored: StrictInt
    seeds: tuple[StrictInt, ...]
    spread: str


class _Heading(Values):
    row: str
    protocol: Protocol


class RowMetrics(Metrics, _Heading):  # in this order the fields of the heading come first
    """The record of a row: its metrics averaged as the protocol says, in groups of frames, and averaged otherwise."""

    per_action: dict[str, Metrics]
    per_subset: dict[str, Metrics]
    per_subject: dict[str, Metrics]
    per_subject_action: dict[str, Metrics]
    over_actions: Metrics
    over_frames: Metrics
    over_subjects: Metrics
    over_subject_actions: Metrics
    per_joint: dict[str, JointError]


class Distribution(Values):
    """How many errors lie between neighbouring edges, how many at the last edge or above, and quantiles in mm."""

    counts: tuple[StrictInt, ...]
    beyond: StrictInt
    quantiles: dict[str, Finite]


class ErrorDistribution(Values):
    """The errors of one run: of each frame (its MPJPE), and of each joint in each frame."""

    frame_mpjpe_mm: Distribution
    joint_error_mm: dict[str, Distribution]


class RowDistributions(Values):
    """The error distributions of a row's runs, by seed."""

    row: str
    edges_mm: tuple[Finite, ...]
    frames: str
    runs: dict[str, ErrorDistribution]


class ExampleClip(Values):
    """A clip to look at: the joints predicted and true in whole mm, in a world with Z up, and the error over time."""

    rank: Rank
    clip: str
    subject: str
    action: str
    camera: str
    mpjpe_mm: Finite
    scored_frames: StrictInt
    rate_hz: Finite
    rate_known: StrictBool
    error_mm: tuple[Finite, ...]
    predicted_mm: JointsMm
    true_mm: JointsMm


class ExampleClips(Values):
    """The best, median and worst clips of the run `seed`; `chosen` says in words how they were chosen."""

    row: str
    seed: StrictInt
    chosen: str
    skeleton: str
    clips: tuple[ExampleClip, ...]


def read_row_metrics(path: Path) -> RowMetrics:
    """Reads a row's metrics. Raises UserError naming the file and the first wrong key."""
    return read_json_as(RowMetrics, path, "the metrics of a row")


def read_json_as(kind: type[V], path: Path, content: str) -> V:
    """Reads a JSON file of the given kind; `content` says in words what it should hold.

    Raises UserError naming the file, and the first key that is missing, unknown or wrong.
    """
    return validated(kind, read_json(path, content), where=str(path))


def mean_over_runs(runs: Sequence[Mapping[str, float | None]]) -> dict[str, MeanStd]:
    """Returns each number that the runs have, by its name, as mean and deviation over the runs."""
    return {name: mean_std([run[name] for run in runs]) for name in runs[0]}


def mean_std(values: Sequence[float | None]) -> MeanStd:
    """Returns mean and sample standard deviation of one value per run; where a run has none, there is no mean.

    Raises ValueError if there are no runs.
    """
    if not values:
        raise ValueError("expected at least one run, found none")
    measured = [value for value in values if value is not None]
    if len(measured) < len(values):
        return MeanStd(mean=None, std=None, runs=tuple(values))
    std = float(np.std(measured, ddof=1)) if len(measured) > 1 else None
    return MeanStd(mean=float(np.mean(measured)), std=std, runs=tuple(measured))


ROW_KEYS = ("keypoints", "frames", "seeds", "clips", "scored")  # in which the rows of one table may differ


def shared_protocol(protocol: Protocol) -> dict[str, object]:
    """Returns the protocol without what may differ between the rows of one table."""
    return protocol.model_dump(exclude=set(ROW_KEYS), exclude_unset=True)


def describe_value(value: object) -> str:
    """Returns a value of a protocol in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value) or "none"
    return str(value)
