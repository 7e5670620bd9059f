"""Stage report: the metrics of the rows listed in dvc.yaml -> the results table, its figure, and a page of all.

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
from typing import Any

import numpy as np

from pipeline.config.params import load_params
from pipeline.config.rows import listed_rows, parse_row
from pipeline.poses.metrics import METRIC_TITLES, mean_std
from pipeline.report.page import Group, Published, RowRecord, results_page
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import new_file, read_csv_lines, read_json, write_text
from pipeline.visualization.figures import new_figure
from pipeline.visualization.tables import tex_table

SHARES = {"pck150": "PCK@150 (%)", "auc": "AUC (%)"}  # of the datasets that have them
SHOWN = 3  # of the differences from the published data
ROW_NAMES_IT = (
    "keypoints",
    "frames",
    "seeds",
    "clips",
    "scored",
)  # parts of the protocol in which rows of a table may differ
PUBLISHED = (
    "method",
    "dataset",
    "keypoints",
    "frames",
    "mpjpe_mm",
    "mpjpe_std_mm",
    "p_mpjpe_mm",
    "runs",
    "source",
)
Result = dict[str, Any]  # the content of reports/metrics/<row>.json
PUBLISHED_HEADER = ("method", "dataset", "2D", "frames", "MPJPE", "P-MPJPE", "runs", "published in")
PUBLISHED_REMARK = (
    "Other people's figures, as they printed them, on Human3.6M (test subjects S9 and S11, 15 actions): another "
    "dataset than the embedded one, so not to be compared with its rows. The first two are what this project sets "
    "out to reproduce."
)


def report(*, params_path: Path, dvc_yaml: Path, reports: Path, prepared: Path) -> None:
    """Write the table, its CSV and LaTeX twins, the figure and the page; `prepared` has the data of each row.

    Raises UserError if a listed row has no metrics or a file is damaged.
    """
    rows = rows_of_the_table(params_path=params_path, dvc_yaml=dvc_yaml)
    results = [_read_result(reports / "metrics" / f"{row}.json") for row in rows]
    published = _read_published(reports / "published.csv")
    records = [read_record(row, reports=reports, prepared=prepared) for row in rows]
    page = results_page(groups_of(records), Published(PUBLISHED_REMARK, PUBLISHED_HEADER, _published_cells(published)))
    write_text(reports / "index.html", page)
    write_text(reports / "results.tex", _tex(results))
    write_text(reports / "results.md", _markdown(results, published))
    write_text(reports / "results.csv", _results_csv(results))
    _write_per_action_figure(reports / "figures" / "per_action.png", results)


def rows_of_the_table(*, params_path: Path, dvc_yaml: Path) -> list[str]:
    """The rows listed in dvc.yaml, the one that the parameters select among them. Raises UserError."""
    params = load_params(params_path)
    return listed_rows(dvc_yaml, {key: getattr(params, key) for key in ("dataset", "keypoints", "frames", "model")})


def read_record(row: str, *, reports: Path, prepared: Path) -> RowRecord:
    """All that the files of a row say. Raises UserError naming the first that is missing or damaged."""
    return RowRecord(
        metrics=_read_result(reports / "metrics" / f"{row}.json"),
        curves=_read_curves(reports / "learning_curves" / f"{row}.csv"),
        distributions=_read_json(reports / "distributions" / f"{row}.json", ("edges_mm", "runs")),
        scenes=_read_json(reports / "scenes" / f"{row}.json", ("seed", "chosen", "skeleton", "clips")),
        manifest=_read_json(prepared / row / "manifest.json", ("splits", "dropped_frames", "sha256")),
    )


def _read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    expected = f"JSON with {', '.join(keys)}"
    content: dict[str, Any] = read_json(path, expected)
    try:
        for key in keys:
            content[key]
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected {expected}, found {reason(error)}") from error
    return content


def _read_curves(path: Path) -> tuple[dict[str, Any], ...]:
    columns = ("epoch", "train_mpjpe_mm", "val_mpjpe_mm")
    _, lines = read_csv_lines(path, "learning curves")
    try:
        return tuple({name: float(line[name]) if line[name] else None for name in columns} for line in lines)
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected learning curves, found {reason(error)}") from error


def groups_of(records: Sequence[RowRecord]) -> list[Group]:
    """The rows in groups of one protocol, in which they may be compared."""
    of_row = {record.row: record for record in records}
    groups = []
    for protocol, rows in _by_protocol([record.metrics for record in records]):
        header, cells = _headline(rows)
        words = {key.replace("_", " "): plain(_short(value)) for key, value in protocol.items()}
        own = tuple(of_row[result["row"]] for result in rows)
        groups.append(Group(protocol["dataset"], own, tuple(header), tuple(map(tuple, cells)), words))
    return groups


def _tex(results: Sequence[Result]) -> str:
    tables = []
    for protocol, rows in _by_protocol(results):
        header, cells = _headline(rows)
        caption = f"{protocol['dataset']}: errors in mm, mean ± sample standard deviation over the runs."
        tables.append(tex_table(header, cells, words=4, caption=caption))
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(tables)


def _headline(rows: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the main table of rows of one protocol."""
    shares = [share for share in SHARES if share in rows[0]]
    columns = [
        "dataset",
        "2D",
        "frames",
        "model",
        "runs",
        *(SHARES[share] for share in shares),
        *METRIC_TITLES.values(),
    ]
    return columns, [_result_cells(result, shares) for result in rows]


def _read_result(path: Path) -> Result:
    result: Result = read_json(path, "the metrics of a row")
    try:
        for key in ("row", "protocol", "per_action", "per_joint", *METRIC_TITLES):
            result[key]
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected the metrics of a row, found {reason(error)}") from error
    return result


def _read_published(path: Path) -> list[dict[str, str]]:
    columns, published = read_csv_lines(path, "the published results")
    if tuple(columns) != PUBLISHED:
        raise UserError(f"{path}: expected the columns {', '.join(PUBLISHED)}, found {', '.join(columns)}")
    return published


def _markdown(results: Sequence[Result], published: Sequence[dict[str, str]]) -> str:
    parts = ["# Results", "Errors in mm; mean ± sample standard deviation over the runs (one run per seed)."]
    for protocol, rows in _by_protocol(results):
        parts.append(f"## {protocol['dataset']}")
        parts.append(_table(*_headline(rows)))
        parts.extend(BREAKDOWNS.get(protocol["dataset"], _breakdown_by_action)(protocol, rows))
        parts.append(
            "Protocol:\n\n"
            + "\n".join(f"- {key.replace('_', ' ')}: {plain(_short(protocol[key]))}" for key in protocol)
        )
    parts.append("## Published by others")
    parts.append(PUBLISHED_REMARK)
    parts.append(_table(PUBLISHED_HEADER, _published_cells(published)))
    return "\n\n".join(parts) + "\n"


def _published_cells(published: Sequence[dict[str, str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            line["method"],
            line["dataset"],
            line["keypoints"],
            line["frames"],
            line["mpjpe_mm"] + (f" ± {line['mpjpe_std_mm']}" if line["mpjpe_std_mm"] else ""),
            line["p_mpjpe_mm"] or "–",
            line["runs"],
            line["source"],
        )
        for line in published
    )


def _breakdown_by_action(protocol: dict[str, Any], rows: Sequence[Result]) -> list[str]:
    actions = _actions(rows)
    return ["MPJPE per action:", _table(["row", *actions], _cells(rows, "per_action", actions, "mpjpe_mm"))]


def _breakdown_of_humaneva(protocol: dict[str, Any], rows: Sequence[Result]) -> list[str]:
    """Actions by subjects with the averages that papers print, for both metrics that papers print."""
    known = rows[0]["per_subject_action"]
    groups = [
        [f"{subject} {action}" for subject in ("S1", "S2", "S3") if f"{subject} {action}" in known]
        for action in ("Walking", "Jog", "Box", "ThrowCatch", "Gestures")
    ]
    keys = [key for group in groups for key in group]
    walk_and_jog, with_box = groups[0] + groups[1], groups[0] + groups[1] + groups[2]
    averages = {}
    if groups[0] and groups[1]:
        averages["mean of Walking, Jog"] = walk_and_jog
        if groups[2]:
            averages["mean of Walking, Jog, Box"] = with_box
    parts = []
    for metric in ("mpjpe_mm", "p_mpjpe_mm"):
        cells = _cells(rows, "per_subject_action", keys, metric)
        for result, line in zip(rows, cells, strict=True):
            line += [_mean_std(_mean_of_groups(result, own, metric)) for own in averages.values()]
        parts.append(f"{METRIC_TITLES[metric]} per action and subject (Validate; papers print either average):")
        columns = [" ".join(reversed(key.split())) for key in keys]
        parts.append(_table(["row", *columns, *averages], cells))
    return parts


def _mean_of_groups(result: Result, keys: Sequence[str], metric: str) -> dict[str, Any]:
    """Plain mean over groups of subject and action, run by run."""
    runs = [result["per_subject_action"][key][metric]["runs"] for key in keys]
    return mean_std([float(np.mean(values)) for values in zip(*runs, strict=True)])


def _breakdown_of_mpi_inf_3dhp(protocol: dict[str, Any], rows: Sequence[Result]) -> list[str]:
    """Both overall numbers that papers print, then the share of correct joints by scene, sequence and activity."""
    measures = {**SHARES, "mpjpe_mm": "MPJPE"}
    columns = [f"{name}, {kind}" for kind in ("frames pooled", "mean of sequences") for name in measures.values()]
    cells = [
        [_row_label(r), *(_mean_std(r[over][m]) for over in ("over_frames", "over_subjects") for m in measures)]
        for r in rows
    ]
    parts = ["Overall, over all valid frames and as plain mean over the six test sequences:"]
    parts.append(_table(["row", *columns], cells))
    for title, grouping in (("scene", "per_subset"), ("test sequence", "per_subject"), ("activity", "per_action")):
        groups = sorted({group for result in rows for group in result[grouping]}, key=_scene_first)
        parts.append(f"{SHARES['pck150']} per {title}:")
        parts.append(_table(["row", *groups], _cells(rows, grouping, groups, "pck150")))
    return parts


def _scene_first(group: str) -> tuple[int, str]:
    scenes = ("GS", "noGS", "Outdoor")
    return (scenes.index(group), "") if group in scenes else (len(scenes), group)


def _cells(rows: Sequence[Result], grouping: str, groups: Sequence[str], metric: str) -> list[list[str]]:
    """For each row its name and the metric of each group; a dash where it has no such group."""
    missing = {metric: {"mean": None}}
    return [
        [_row_label(result), *(_mean_std(result[grouping].get(group, missing)[metric]) for group in groups)]
        for result in rows
    ]


BREAKDOWNS = {"humaneva": _breakdown_of_humaneva, "mpi_inf_3dhp": _breakdown_of_mpi_inf_3dhp}


def _by_protocol(results: Sequence[Result]) -> list[tuple[dict[str, Any], list[Result]]]:
    """The results in groups that may share a table: equal in all of the protocol but what the row's name says."""
    groups: list[tuple[dict[str, Any], list[Result]]] = []
    for result in results:
        protocol = {key: value for key, value in result["protocol"].items() if key not in ROW_NAMES_IT}
        for known, rows in groups:
            if known == protocol:
                rows.append(result)
                break
        else:
            groups.append((protocol, [result]))
    return groups


def _result_cells(result: Result, shares: Sequence[str]) -> list[str]:
    row = parse_row(result["row"])
    runs = len(result["mpjpe_mm"]["runs"])
    names = [row.dataset, row.keypoints, str(row.frames), row.model, str(runs)]
    return [*names, *(_mean_std(result[metric]) for metric in (*shares, *METRIC_TITLES))]


def _row_label(result: Result) -> str:
    row = parse_row(result["row"])
    return f"{row.keypoints} f{row.frames} {row.model}"


def _actions(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(action for result in results for action in result["per_action"]))


def _mean_std(value: dict[str, Any]) -> str:
    if value["mean"] is None:
        return "–"
    return f"{value['mean']:.2f}" + ("" if value["std"] is None else f" ± {value['std']:.2f}")


def _short(value: object) -> object:
    """A list of whole sentences cut to the first ones; the metrics file has them all."""
    if isinstance(value, list) and len(value) > SHOWN and any(": " in str(item) for item in value):
        return [*value[:SHOWN], f"and {len(value) - SHOWN} more in the metrics file"]
    return value


def plain(value: object) -> str:
    """A value of a protocol in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value) or "none"
    return str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _results_csv(results: Sequence[Result]) -> str:
    header = ["row", "dataset", "keypoints", "frames", "model", "runs"]
    header += [f"{metric}{part}" for metric in (*METRIC_TITLES, *SHARES) for part in ("", "_std")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for result in results:
        row = parse_row(result["row"])
        values = [result.get(metric, {}).get(part) for metric in (*METRIC_TITLES, *SHARES) for part in ("mean", "std")]
        numbers = ["" if value is None else f"{value:.4f}" for value in values]
        runs = len(result["mpjpe_mm"]["runs"])
        writer.writerow([row, row.dataset, row.keypoints, row.frames, row.model, runs, *numbers])
    return text.getvalue()


def _write_per_action_figure(path: Path, results: Sequence[Result]) -> None:
    actions = _actions(results)
    figure = new_figure(max(7.0, 1.1 * len(actions)), 4.0)
    axes = figure.add_subplot()
    width = 0.8 / len(results)
    for place, result in enumerate(results):
        known = [
            (at, result["per_action"][action]["mpjpe_mm"])
            for at, action in enumerate(actions)
            if action in result["per_action"]
        ]
        axes.bar(
            np.array([at for at, _ in known]) + (place - (len(results) - 1) / 2) * width,
            [value["mean"] for _, value in known],
            width,
            yerr=[value["std"] or 0 for _, value in known],
            capsize=2,
            label=f"{result['row']}: {_mean_std(result['mpjpe_mm'])} mm",
        )
    axes.set_xticks(range(len(actions)), actions, rotation=30, ha="right")
    axes.set_ylabel("MPJPE in mm, test split")
    axes.legend(title="average as in the table ± std over runs", fontsize=8, title_fontsize=8)
    with new_file(path) as partial:
        figure.savefig(partial, dpi=120, metadata={"Software": None})


README_START, README_END = (
    "<!-- results: written by `poselift readme` from reports/results.md -->",
    "<!-- end of results -->",
)


def readme_with_results(readme: str, results: str) -> str:
    """The README's text with the results table between its two markers.

    Raises UserError unless both markers are there once.
    """
    if readme.count(README_START) != 1 or readme.count(README_END) != 1:
        raise UserError(f"README.md: expected the markers '{README_START}' and '{README_END}' once each")
    before, rest = readme.split(README_START)
    _, after = rest.split(README_END)
    table = results.removeprefix("# Results\n\n").replace("\n## ", "\n### ").strip()
    return f"{before}{README_START}\n\n{table}\n\n{README_END}{after}"
