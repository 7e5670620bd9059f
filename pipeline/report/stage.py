"""Stage report: the metrics of the rows listed in dvc.yaml become the results table, its figure, and a page.

Reads reports/{metrics,distributions,scenes}/<row>.json, reports/learning_curves/<row>.csv, the manifest of the row's
prepared data, and reports/published.csv (figures of others, marked as theirs). Writes reports/results.{md,csv,tex},
reports/index.html, a page of the whole result, and reports/figures/per_action.png. Rows of different protocols never
share a table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.config.params import load_params
from pipeline.config.rows import listed_rows, parse_row
from pipeline.poses.metrics import METRIC_TITLES
from pipeline.poses.row_metrics import (
    ExampleClips,
    RowDistributions,
    RowMetrics,
    describe_value,
    read_json_as,
    read_row_metrics,
    shared_protocol,
)
from pipeline.report.breakdowns import SHARE_TITLES, break_down, list_actions
from pipeline.report.page import Group, Manifest, Published, RowRecord, results_page
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import new_file, read_csv_lines, write_text
from pipeline.visualization.figures import new_figure
from pipeline.visualization.tables import format_mean_std, latex_table, markdown_table, put_between

ROW_COLUMNS = ("dataset", "2D", "frames", "model", "runs")
SENTENCES_SHOWN = 3  # of a list in the protocol; the metrics file has them all
PUBLISHED_COLUMNS = (
    "protocol", "method", "dataset", "keypoints", "frames", "mpjpe_mm", "mpjpe_std_mm", "p_mpjpe_mm", "runs", "source",
    "checked",
)  # fmt: skip
PUBLISHED_HEADER = ("method", "dataset", "2D", "frames", "MPJPE", "P-MPJPE", "runs", "published in", "checked in")
PUBLISHED_REMARKS = {  # by the protocol of the figures; each has a table of its own
    "camera": (
        "Other people's figures, as they printed them, on Human3.6M (test subjects S9 and S11, 15 actions): another "
        "dataset than the embedded one, so not to be compared with its rows. The network behind the 43.08 and 27.94 mm "
        "of the recipe was never published, so they are a target and not a reproduction. The last column says where a "
        "figure was looked up, or that nobody did."
    ),
    "image": (
        "Another protocol, not to be compared with the figures above: keypoints of a stacked hourglass network with "
        "their confidence, poses predicted in the image and brought to millimetres with the true depth of each frame, "
        "three takes left out."
    ),
}
README_MARKERS = (
    "<!-- results: written by `poselift readme` from reports/results.md -->",
    "<!-- end of results -->",
)


def report(*, params_path: Path, dvc_yaml: Path, reports: Path, prepared: Path) -> None:
    """Writes the table, its CSV and LaTeX twins, the figure and the page; `prepared` has the data of each row.

    Raises UserError if a listed row has no metrics or a file is damaged.
    """
    rows = list_table_rows(params_path=params_path, dvc_yaml=dvc_yaml)
    records = [read_record(row, reports=reports, prepared=prepared) for row in rows]
    groups, published = group_records(records), _read_published(reports / "published.csv")
    write_text(reports / "index.html", results_page(groups, published))
    write_text(reports / "results.tex", _latex(groups))
    write_text(reports / "results.md", _markdown(groups, published))
    write_text(reports / "results.csv", _csv([record.metrics for record in records]))
    _draw_per_action([record.metrics for record in records], reports / "figures" / "per_action.png")


def list_table_rows(*, params_path: Path, dvc_yaml: Path) -> list[str]:
    """Returns the rows listed in dvc.yaml, the one that the parameters select among them. Raises UserError."""
    params = load_params(params_path)
    return listed_rows(dvc_yaml, {key: getattr(params, key) for key in ("dataset", "keypoints", "frames", "model")})


def read_record(row: str, *, reports: Path, prepared: Path) -> RowRecord:
    """Reads all files of a row. Raises UserError naming the first that is missing or damaged."""
    return RowRecord(
        metrics=read_row_metrics(reports / "metrics" / f"{row}.json"),
        curves=_read_curves(reports / "learning_curves" / f"{row}.csv"),
        distributions=read_json_as(RowDistributions, reports / "distributions" / f"{row}.json", "error distributions"),
        scenes=read_json_as(ExampleClips, reports / "scenes" / f"{row}.json", "example clips"),
        manifest=read_json_as(Manifest, prepared / row / "manifest.json", "the manifest of prepared data"),
    )


def _read_curves(path: Path) -> tuple[dict[str, float | None], ...]:
    columns = ("run", "epoch", "train_mpjpe_mm", "val_mpjpe_mm")
    _, lines = read_csv_lines(path, "learning curves")
    try:
        return tuple({name: float(line[name]) if line[name] else None for name in columns} for line in lines)
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected learning curves, found {reason(error)}") from error


def group_records(records: Sequence[RowRecord]) -> list[Group]:
    """Returns the rows in groups of one protocol, in which they may be compared."""
    protocols: list[dict[str, object]] = []
    members: list[list[RowRecord]] = []
    for record in records:
        protocol = shared_protocol(record.metrics.protocol)
        if protocol not in protocols:
            protocols.append(protocol)
            members.append([])
        members[protocols.index(protocol)].append(record)
    return [_group(protocol, rows) for protocol, rows in zip(protocols, members, strict=True)]


def _group(protocol: dict[str, object], records: Sequence[RowRecord]) -> Group:
    """Returns the table of rows that share a protocol, and the protocol in words."""
    titles = {**SHARE_TITLES, **METRIC_TITLES}
    measured = records[0].metrics.by_name()
    metrics = [name for name in titles if name in measured]
    cells = []
    for record in records:
        row, values = parse_row(record.row), record.metrics.by_name()
        names = (row.dataset, row.keypoints, str(row.frames), row.model, str(len(record.metrics.mpjpe_mm.runs)))
        cells.append((*names, *(format_mean_std(values.get(name)) for name in metrics)))
    return Group(
        title=str(protocol["dataset"]),
        rows=tuple(records),
        header=(*ROW_COLUMNS, *(titles[name] for name in metrics)),
        cells=tuple(cells),
        protocol={key.replace("_", " "): describe_value(_shorten(value)) for key, value in protocol.items()},
    )


def _shorten(value: object) -> object:
    """Returns a list of whole sentences cut to the first ones, and everything else as it is."""
    if isinstance(value, tuple) and len(value) > SENTENCES_SHOWN and any(": " in str(item) for item in value):
        return (*value[:SENTENCES_SHOWN], f"and {len(value) - SENTENCES_SHOWN} more in the metrics file")
    return value


def _read_published(path: Path) -> tuple[Published, ...]:
    """Returns a table for each protocol. Raises UserError if the columns or a protocol are others."""
    columns, lines = read_csv_lines(path, "the published results")
    if tuple(columns) != PUBLISHED_COLUMNS:
        raise UserError(f"{path}: expected the columns {', '.join(PUBLISHED_COLUMNS)}, found {', '.join(columns)}")
    cells: dict[str, list[tuple[str, ...]]] = {protocol: [] for protocol in PUBLISHED_REMARKS}
    for line in lines:
        if line["protocol"] not in cells:
            expected = f"expected one of {', '.join(cells)}, found '{line['protocol']}'"
            raise UserError(f"{path}: protocol of {line['method']}: {expected}")
        spread = f" ± {line['mpjpe_std_mm']}" if line["mpjpe_std_mm"] else ""
        known = (line["frames"] or "–", line["mpjpe_mm"] + spread, line["p_mpjpe_mm"] or "–")
        names = (line["method"], line["dataset"], line["keypoints"])
        cells[line["protocol"]].append((*names, *known, line["runs"], line["source"], line["checked"]))
    return tuple(
        Published(remark, PUBLISHED_HEADER, tuple(cells[protocol])) for protocol, remark in PUBLISHED_REMARKS.items()
    )


def _markdown(groups: Sequence[Group], published: Sequence[Published]) -> str:
    units = "Errors in mm, MPJVE in mm per frame"
    parts = ["# Results", f"{units}; mean ± sample standard deviation over the runs (one run per seed)."]
    for group in groups:
        parts += [f"## {group.title}", markdown_table(group.header, group.cells)]
        parts += break_down(group.title, [record.metrics for record in group.rows])
        parts.append("Protocol:\n\n" + "\n".join(f"- {key}: {words}" for key, words in group.protocol.items()))
    parts.append("## Published by others")
    for block in published:
        parts += [block.remark, markdown_table(block.header, block.cells)]
    return "\n\n".join(parts) + "\n"


def _latex(groups: Sequence[Group]) -> str:
    spread = "mean ± sample standard deviation over the runs"
    tables = [
        latex_table(
            group.header,
            group.cells,
            text_columns=len(ROW_COLUMNS) - 1,  # all but the number of runs
            caption=f"{group.title}: errors in mm, MPJVE in mm per frame, {spread}.",
        )
        for group in groups
    ]
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(tables)


def _csv(rows: Sequence[RowMetrics]) -> str:
    metrics = (*METRIC_TITLES, *SHARE_TITLES)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{metric}{part}" for metric in metrics for part in ("", "_std")]
    writer.writerow(["row", "dataset", "keypoints", "frames", "model", "runs", *columns])
    for metrics_of_row in rows:
        row, values = parse_row(metrics_of_row.row), metrics_of_row.by_name()
        pairs = [(values[name].mean, values[name].std) if name in values else (None, None) for name in metrics]
        numbers = ["" if number is None else f"{number:.4f}" for pair in pairs for number in pair]
        runs = len(metrics_of_row.mpjpe_mm.runs)
        writer.writerow([row, row.dataset, row.keypoints, row.frames, row.model, runs, *numbers])
    return text.getvalue()


def _draw_per_action(rows: Sequence[RowMetrics], path: Path) -> None:
    """Draws a bar for each action and row, as high as its MPJPE, with the deviation over the runs."""
    actions = list_actions(rows)
    figure = new_figure(max(7.0, 1.1 * len(actions)), 4.0)  # 1.1 inches hold the bars and the name of an action
    axes = figure.add_subplot()
    width = 0.8 / len(rows)  # the rest, 0.2 of an action's place, is the gap to the next action
    for number, row in enumerate(rows):
        errors = {actions.index(action): metrics.mpjpe_mm for action, metrics in row.per_action.items()}
        axes.bar(
            np.array(list(errors)) + (number - (len(rows) - 1) / 2) * width,
            np.array([error.mean for error in errors.values()], dtype=float),
            width,
            yerr=[error.std or 0.0 for error in errors.values()],
            capsize=2,
            label=f"{row.row}: {format_mean_std(row.mpjpe_mm)} mm",
        )
    axes.set_xticks(range(len(actions)), actions, rotation=30, ha="right")
    axes.set_ylabel("MPJPE in mm, test split")
    axes.legend(title="average as in the table ± std over runs", fontsize=8, title_fontsize=8)
    with new_file(path) as partial:
        figure.savefig(partial, dpi=120, metadata={"Software": None})


def readme_with_results(readme: str, results: str) -> str:
    """Returns the README's text with the results table between its two markers.

    Raises UserError unless both markers are there once.
    """
    table = results.removeprefix("# Results\n\n").replace("\n## ", "\n### ").strip()
    return put_between(README_MARKERS, table, readme, where="README.md")
