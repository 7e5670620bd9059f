"""Stage generalisation_report: what was measured under other conditions -> a figure for each factor and a page.

Reads results/<row>.json. Writes figures/<factor>.svg and README.md, all of whose numbers are from those files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.figures import hide_frame, save_svg
from experiments.generalisation.factors import FACTORS
from experiments.generalisation.records import RowScores, SettingScores
from pipeline.poses.row_metrics import read_json_as
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, write_text
from pipeline.visualization.figures import new_figure
from pipeline.visualization.tables import format_mean_std, markdown_table

LINES = ("-", "--")
Records = Mapping[str, RowScores]  # by the row without its dataset


def generalisation_report(rows: Sequence[str], *, results: Path, out: Path) -> None:
    """Writes the figures and the page of the rows given.

    Raises UserError if a row has no results, or the rows differ in their factors.
    """
    records = {  # the dataset is the same for all
        row.removeprefix("mocap-"): read_json_as(RowScores, results / f"{row}.json", "the record of a row")
        for row in rows
    }
    factors = [list(record.factors) for record in records.values()]
    if any(found != list(FACTORS) for found in factors):
        raise UserError(f"{results}: expected the factors {', '.join(FACTORS)} in every row, found {factors}")
    with new_folder(out / "figures") as figures:
        for factor in FACTORS:
            _draw_factor(factor, records, figures / f"{factor}.svg")
    write_text(out / "README.md", _page(records))


def settings_in_order(factor: str, records: Records) -> list[str]:
    """Returns the settings of a factor as they stand along its axis, each once."""
    labels = {point.setting for record in records.values() for point in record.factors[factor].settings}
    return sorted(labels, key=_place_on_axis)


def _place_on_axis(label: str) -> float:
    """Returns where a setting stands: exact before all numbers, all after them, a range at its middle."""
    if label in ("exact", "all"):
        return -np.inf if label == "exact" else np.inf
    return float(np.mean([float(end) for end in label.split("–")]))


def _draw_factor(factor: str, records: Records, path: Path) -> None:
    """Draws the error over the factor: lines are means over the runs, bands their sample standard deviation."""
    figure = new_figure(7.2, 3.5 + 0.35 * len(records))
    axes = figure.add_subplot()
    labels = settings_in_order(factor, records)
    worst = []
    for number, (row, record) in enumerate(records.items()):
        scores = record.factors[factor]
        for curve, line in zip(scores.curves, cycle(LINES), strict=False):  # lines do not end
            label = ", ".join(filter(None, (row, curve)))
            points = sorted((p for p in scores.settings if p.curve == curve), key=lambda p: labels.index(p.setting))
            _draw_curve(axes, points, labels, f"C{number}", line, label)
        worst.append(f"{row}: at worst {100 * scores.rise:+.0f} %, at {scores.worst.words}")
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel=FACTORS[factor].axis, ylabel="MPJPE, mm", ylim=(0, None))
    axes.grid(axis="y", color="0.9")
    axes.plot([], [], "o", color="0.3", markerfacecolor="white", markersize=9, label="as trained")
    hide_frame(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(FACTORS[factor].title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title("\n".join(worst), loc="left", fontsize=8)
    save_svg(figure, path)


def _draw_curve(
    axes: Axes, points: Sequence[SettingScores], labels: list[str], colour: str, line: str, label: str
) -> None:
    x = np.array([labels.index(point.setting) for point in points])
    mean = np.array([point.mean_mm for point in points])
    std = np.array([point.mpjpe_mm.std or 0.0 for point in points])
    axes.plot(x, mean, marker="o", markersize=4, color=colour, linestyle=line, label=label)
    axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    trained = np.array([point.trained for point in points])
    axes.plot(x[trained], mean[trained], "o", color=colour, markerfacecolor="white", markersize=9, zorder=3)


def _page(records: Records) -> str:
    first = next(iter(records.values()))
    parts = [
        "# How far the models generalise",
        "Written by `dvc repro experiments/generalisation/dvc.yaml` from `results/`; do not edit. Errors are in mm: "
        f"mean ± sample standard deviation over {len(first.seeds)} runs. {first.how}",
        "## What falls apart",
        "For each factor the setting at which the error rises most over the trained condition, worst first:",
        _ranking(records),
        "## Two aims",
        _aims(records),
        *(part for factor in FACTORS for part in _section(factor, records)),
    ]
    return "\n\n".join(parts) + "\n"


def _ranking(records: Records) -> str:
    found = [
        (row, FACTORS[name].title, scores) for row, record in records.items() for name, scores in record.factors.items()
    ]
    lines = []
    for row, title, scores in sorted(found, key=lambda one: -one[2].rise):
        errors_mm = [f"{error_mm:.1f}" for error_mm in (scores.trained_mm, scores.worst.mean_mm)]
        lines.append([row, title, scores.worst.words, *errors_mm, f"{100 * scores.rise:+.0f} %"])
    return markdown_table(["row", "factor", "worst at", "as trained", "there", "rise"], lines)


def _aims(records: Records) -> str:
    """Returns a table of the two figures that a model is to keep: each rise below 10 %."""
    lines = []
    for row, record in records.items():
        pairs = [("detector", "", "1", "1.6", "detector, k = 1 to k = 1.6")]
        for curve in record.factors["missing"].curves:
            pairs.append(("missing", curve, "0", "10", f"10 % missing, {curve}"))
        for factor, curve, start, end, words in pairs:
            errors_mm = {p.setting: p.mean_mm for p in record.factors[factor].settings if p.curve == curve}
            before_mm, after_mm = errors_mm[start], errors_mm[end]
            rise = after_mm / before_mm - 1
            verdict = "met" if rise < 0.1 else "missed"
            lines.append([row, words, f"{before_mm:.1f}", f"{after_mm:.1f}", f"{100 * rise:+.1f} %", verdict])
    return markdown_table(["row", "from, to", "before", "after", "rise", "below 10 %"], lines)


def _section(name: str, records: Records) -> list[str]:
    factor, lines = FACTORS[name], []
    for row, record in records.items():
        for point in record.factors[name].settings:
            setting = point.setting + (" (as trained)" if point.trained else "")
            errors = (point.mpjpe_mm, point.p_mpjpe_mm, point.n_mpjpe_mm)
            lines.append([row, point.curve or "–", setting, *(format_mean_std(error, decimals=1) for error in errors)])
    frames = ", ".join(f"{row} {record.factors[name].frames}" for row, record in records.items())
    return [
        f"## {factor.title}",
        factor.text,
        f"![{factor.title}](figures/{name}.svg)",
        markdown_table(["row", "shown", factor.axis, "MPJPE", "P-MPJPE", "N-MPJPE"], lines),
        f"Frames scored under each setting: {frames}.",
    ]
