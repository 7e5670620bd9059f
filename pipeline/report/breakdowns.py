"""Breaks the results of each dataset down as its papers do: tables per action, subject, scene or test sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config.rows import parse_row
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.poses.row_metrics import MeanStd, Metrics, RowMetrics, mean_std
from pipeline.visualization.tables import format_mean_std, markdown_table

SHARE_TITLES = {"pck150": "PCK@150 (%)", "auc": "AUC (%)"}  # metrics of the datasets that define them
HUMANEVA_ACTIONS = ("Walking", "Jog", "Box", "ThrowCatch", "Gestures")
HUMANEVA_SUBJECTS = ("S1", "S2", "S3")
HUMANEVA_AVERAGES = (("Walking", "Jog"), ("Walking", "Jog", "Box"))  # papers print either
MPI_INF_3DHP_SCENES = ("GS", "noGS", "Outdoor")  # green screen, none, outdoors: in the order that papers print


def break_down(dataset: str, rows: Sequence[RowMetrics]) -> list[str]:
    """Returns the paragraphs and tables that break down the results of rows that share a protocol."""
    if dataset == "humaneva":
        return [part for metric in ("mpjpe_mm", "p_mpjpe_mm") for part in _break_down_humaneva(rows, metric)]
    if dataset == "mpi_inf_3dhp":
        return _break_down_mpi_inf_3dhp(rows)
    parts = ["MPJPE per action:", _table(rows, "per_action", list_actions(rows), "mpjpe_mm")]
    if groups := _groups_of_actions(rows):
        parts += ["Unweighted mean over the actions of a group:", _table_of_groups(rows, groups)]
    return parts


def list_actions(rows: Sequence[RowMetrics]) -> list[str]:
    """Returns the actions that any of the rows has, each once."""
    return list(dict.fromkeys(action for row in rows for action in row.per_action))


def _groups_of_actions(rows: Sequence[RowMetrics]) -> dict[str, list[str]]:
    """Returns the actions by what stands before the slash in their names, such as seen and unseen motions."""
    groups: dict[str, list[str]] = {}
    for action in list_actions(rows):
        if "/" in action:
            groups.setdefault(action.partition("/")[0], []).append(action)
    return groups


def _table_of_groups(rows: Sequence[RowMetrics], groups: dict[str, list[str]]) -> str:
    """Returns a table with a line for each row, and MPJPE and P-MPJPE of each group of actions."""
    metrics = ("mpjpe_mm", "p_mpjpe_mm")
    header = ["row", *(f"{group} motions, {METRIC_TITLES[metric]}" for group in groups for metric in metrics)]
    lines = [
        [
            _label(row),
            *(
                format_mean_std(_average_groups(row.per_action, actions, metric))
                for actions in groups.values()
                for metric in metrics
            ),
        ]
        for row in rows
    ]
    return markdown_table(header, lines)


def _break_down_humaneva(rows: Sequence[RowMetrics], metric: str) -> list[str]:
    """Returns a table of actions by subjects with the averages that papers print."""
    known = rows[0].per_subject_action
    groups_of_action = {
        action: [f"{subject} {action}" for subject in HUMANEVA_SUBJECTS if f"{subject} {action}" in known]
        for action in HUMANEVA_ACTIONS
    }
    groups = [group for groups in groups_of_action.values() for group in groups]
    header = ["row", *(" ".join(reversed(group.split())) for group in groups)]
    lines = [[_label(row), *_cells(row.per_subject_action, groups, metric)] for row in rows]
    for actions in HUMANEVA_AVERAGES:
        if all(groups_of_action[action] for action in actions):
            averaged = [group for action in actions for group in groups_of_action[action]]
            header.append(f"mean of {', '.join(actions)}")
            for row, line in zip(rows, lines, strict=True):
                line.append(format_mean_std(_average_groups(row.per_subject_action, averaged, metric)))
    title = f"{METRIC_TITLES[metric]} per action and subject (Validate; papers print either average):"
    return [title, markdown_table(header, lines)]


def _average_groups(grouping: dict[str, Metrics], groups: Sequence[str], metric: str) -> MeanStd:
    """Returns the unweighted mean over groups of frames, averaged in each run before over the runs."""
    runs = [grouping[group].by_name()[metric].runs for group in groups]
    return mean_std([float(np.mean(values)) for values in zip(*runs, strict=True)])


def _break_down_mpi_inf_3dhp(rows: Sequence[RowMetrics]) -> list[str]:
    """Returns both overall numbers that papers print, then the PCK by scene, test sequence and activity."""
    titles = {**SHARE_TITLES, "mpjpe_mm": "MPJPE"}
    kinds = ("frames pooled", "mean of sequences")
    header = ["row", *(f"{title}, {kind}" for kind in kinds for title in titles.values())]
    lines = []
    for row in rows:
        values = [over.by_name()[name] for over in (row.over_frames, row.over_subjects) for name in titles]
        lines.append([_label(row), *map(format_mean_std, values)])
    parts = ["Overall, over all valid frames and as plain mean over the six test sequences:"]
    parts.append(markdown_table(header, lines))
    for title, grouping in (("scene", "per_subset"), ("test sequence", "per_subject"), ("activity", "per_action")):
        groups = sorted({group for row in rows for group in getattr(row, grouping)}, key=_scene_order)
        parts += [f"{SHARE_TITLES['pck150']} per {title}:", _table(rows, grouping, groups, "pck150")]
    return parts


def _scene_order(group: str) -> tuple[int, str]:
    """Returns a key that sorts scenes as papers print them, and all else by name."""
    if group in MPI_INF_3DHP_SCENES:
        return MPI_INF_3DHP_SCENES.index(group), ""
    return len(MPI_INF_3DHP_SCENES), group


def _table(rows: Sequence[RowMetrics], grouping: str, groups: Sequence[str], metric: str) -> str:
    """Returns a table of one metric with a line for each row and a column for each group of the grouping."""
    lines = [[_label(row), *_cells(getattr(row, grouping), groups, metric)] for row in rows]
    return markdown_table(["row", *groups], lines)


def _cells(grouping: dict[str, Metrics], groups: Sequence[str], metric: str) -> list[str]:
    """Returns the metric of each group; a dash where there is no such group."""
    return [format_mean_std(grouping[group].by_name()[metric] if group in grouping else None) for group in groups]


def _label(row: RowMetrics) -> str:
    name = parse_row(row.row)
    return f"{name.keypoints} f{name.frames} {name.model}"
