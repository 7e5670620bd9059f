"""Stage generalisation_report: what was measured under other conditions -> a figure for each factor and a page.

Reads results/<row>.json and, for the subsets of the capture, reports/metrics/<row>.json. Writes figures/<factor>.svg
and README.md, all of whose numbers are from those files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.figures import hide_frame, save_svg
from experiments.generalisation.factors import FACTORS
from pipeline.poses.row_metrics import MeanStd, RowMetrics, read_row_metrics
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, write_text
from pipeline.system.text_files import read_json
from pipeline.visualization.figures import new_figure
from pipeline.visualization.tables import format_mean_std, markdown_table

LINES = ("-", "--")
Records = Mapping[str, Mapping[str, Any]]  # row, without its dataset, -> content of its file
Points = Sequence[Mapping[str, Any]]  # the settings of a factor in the record of a row


def generalisation_report(rows: Sequence[str], *, results: Path, reports: Path, out: Path) -> None:
    """Writes the figures and the page of the rows given.

    Raises UserError if a row has no results or no metrics, or the rows differ in their factors.
    """
    names = {row: row.removeprefix("cmu-") for row in rows}  # the dataset is the same for all
    measured = {name: read_json(results / f"{row}.json", "the record of a row") for row, name in names.items()}
    metrics = {name: read_row_metrics(reports / "metrics" / f"{row}.json") for row, name in names.items()}
    factors = [list(record["factors"]) for record in measured.values()]
    if any(found != list(FACTORS) for found in factors):
        raise UserError(f"{results}: expected the factors {', '.join(FACTORS)} in every row, found {factors}")
    with new_folder(out / "figures") as figures:
        for factor in FACTORS:
            _draw_factor(factor, measured, figures / f"{factor}.svg")
    write_text(out / "README.md", _page(measured, metrics))


def _points(factor: str, record: Mapping[str, Any]) -> Points:
    points: Points = record["factors"][factor]["settings"]
    return points


def _curves(points: Points) -> list[str]:
    return list(dict.fromkeys(point["curve"] for point in points))


def _mpjpe_mm(point: Mapping[str, Any]) -> float:
    mean_mm: float = point["mpjpe_mm"]["mean"]
    return mean_mm


def _trained_mm(points: Points) -> float:
    return next(_mpjpe_mm(point) for point in points if point["trained"])


def _describe_setting(point: Mapping[str, Any]) -> str:
    return point["setting"] + (f" ({point['curve']})" if point["curve"] else "")


def settings_in_order(factor: str, measured: Records) -> list[str]:
    """Returns the settings of a factor as they stand along its axis, each once."""
    settings = [point["setting"] for record in measured.values() for point in _points(factor, record)]
    return sorted(dict.fromkeys(settings), key=_place_on_axis)


def _place_on_axis(label: str) -> float:
    """Returns where a setting stands: exact before all numbers, all after them, a range at its middle."""
    if label in ("exact", "all"):
        return -np.inf if label == "exact" else np.inf
    return float(np.mean([float(end) for end in label.split("–")]))


def _draw_factor(factor: str, measured: Records, path: Path) -> None:
    """Draws the error over the factor: lines are means over the runs, bands their sample standard deviation."""
    figure = new_figure(7.2, 3.5 + 0.35 * len(measured))
    axes = figure.add_subplot()
    labels = settings_in_order(factor, measured)
    worst = []
    for number, (row, record) in enumerate(measured.items()):
        points = _points(factor, record)
        for curve, line in zip(_curves(points), cycle(LINES), strict=False):  # lines do not end
            style: dict[str, Any] = {
                "color": f"C{number}",
                "linestyle": line,
                "label": ", ".join(filter(None, (row, curve))),
            }
            in_order = sorted((p for p in points if p["curve"] == curve), key=lambda p: labels.index(p["setting"]))
            _draw_curve(axes, in_order, labels, style)
        there = max(points, key=_mpjpe_mm)
        rise = _mpjpe_mm(there) / _trained_mm(points) - 1
        worst.append(f"{row}: at worst {100 * rise:+.0f} %, at {_describe_setting(there)}")
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel=FACTORS[factor].axis, ylabel="MPJPE, mm", ylim=(0, None))
    axes.grid(axis="y", color="0.9")
    axes.plot([], [], "o", color="0.3", markerfacecolor="white", markersize=9, label="as trained")
    hide_frame(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(FACTORS[factor].title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title("\n".join(worst), loc="left", fontsize=8)
    save_svg(figure, path)


def _draw_curve(axes: Axes, points: Points, labels: list[str], style: dict[str, Any]) -> None:
    x = np.array([labels.index(point["setting"]) for point in points])
    mean = np.array([_mpjpe_mm(point) for point in points])
    std = np.array([point["mpjpe_mm"]["std"] or 0.0 for point in points])
    axes.plot(x, mean, marker="o", markersize=4, **style)
    axes.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.2, linewidth=0)
    trained = np.array([point["trained"] for point in points])
    axes.plot(x[trained], mean[trained], "o", color=style["color"], markerfacecolor="white", markersize=9, zorder=3)


def _page(measured: Records, metrics: Mapping[str, RowMetrics]) -> str:
    protocol = next(iter(measured.values()))["protocol"]
    parts = [
        "# How far the models generalise",
        "Written by `dvc repro experiments/generalisation/dvc.yaml` from `results/`; do not edit. Errors are in mm: "
        f"mean ± sample standard deviation over {len(protocol['seeds'])} runs. " + protocol["in_words"],
        "## What falls apart",
        "For each factor the setting at which the error rises most over the trained condition, worst first:",
        _ranking(measured),
        "## Two aims",
        _aims(measured),
        "## Subsets of the capture",
        "On the whole test split, from `reports/metrics/`. The two subsets are two bodies and other actions; errors of "
        "actions and joints are in `reports/index.html`.",
        _subsets_table(metrics),
        *(part for factor in FACTORS for part in _section(factor, measured)),
    ]
    return "\n\n".join(parts) + "\n"


def _ranking(measured: Records) -> str:
    lines: list[tuple[float, list[str]]] = []
    for row, record in measured.items():
        for name, factor in FACTORS.items():
            points = _points(name, record)
            worst, trained_mm = max(points, key=_mpjpe_mm), _trained_mm(points)
            rise = _mpjpe_mm(worst) / trained_mm - 1
            figures = [f"{trained_mm:.1f}", f"{_mpjpe_mm(worst):.1f}", f"{100 * rise:+.0f} %"]
            lines.append((rise, [row, factor.title, _describe_setting(worst), *figures]))
    ordered = [cells for _, cells in sorted(lines, key=lambda line: -line[0])]
    return markdown_table(["row", "factor", "worst at", "as trained", "there", "rise"], ordered)


def _aims(measured: Records) -> str:
    """Returns a table of the two figures that a model is to keep: each rise below 10 %."""
    lines = []
    for row, record in measured.items():
        pairs = [("detector", "", "1", "1.6", "detector, k = 1 to k = 1.6")]
        for curve in _curves(_points("missing", record)):
            pairs.append(("missing", curve, "0", "10", f"10 % missing, {curve}"))
        for factor, curve, start, end, words in pairs:
            errors_mm = {p["setting"]: _mpjpe_mm(p) for p in _points(factor, record) if p["curve"] == curve}
            before_mm, after_mm = errors_mm[start], errors_mm[end]
            rise = after_mm / before_mm - 1
            verdict = "met" if rise < 0.1 else "missed"
            lines.append([row, words, f"{before_mm:.1f}", f"{after_mm:.1f}", f"{100 * rise:+.1f} %", verdict])
    return markdown_table(["row", "from, to", "before", "after", "rise", "below 10 %"], lines)


def _subsets_table(metrics: Mapping[str, RowMetrics]) -> str:
    subsets = list(next(iter(metrics.values())).per_subset)
    lines = [
        [row, *(format_mean_std(of_row.per_subset[name].mpjpe_mm, decimals=1) for name in subsets)]
        for row, of_row in metrics.items()
    ]
    return markdown_table(["row", *subsets], lines)


def _section(name: str, measured: Records) -> list[str]:
    factor, lines = FACTORS[name], []
    for row, record in measured.items():
        for point in _points(name, record):
            setting = point["setting"] + (" (as trained)" if point["trained"] else "")
            errors = [MeanStd(**point[metric]) for metric in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm")]
            lines.append([row, point["curve"] or "–", setting, *(format_mean_std(e, decimals=1) for e in errors)])
    frames = ", ".join(f"{row} {record['factors'][name]['frames']}" for row, record in measured.items())
    return [
        f"## {factor.title}",
        factor.text,
        f"![{factor.title}](figures/{name}.svg)",
        markdown_table(["row", "shown", factor.axis, "MPJPE", "P-MPJPE", "N-MPJPE"], lines),
        f"Frames scored under each setting: {frames}.",
    ]
