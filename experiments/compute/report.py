"""Stage curves_report: what the rows scored after each budget -> a page with a table, and a figure.

All numbers are from the files of the other stages, all words of rows from curves.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.compute.settings import (
    ChooseRate,
    ChosenRate,
    Curves,
    StepCost,
    read_curves,
    read_rate,
    read_step_costs,
)
from experiments.figures import hide_frame, save_svg
from pipeline.poses.row_metrics import RowMetrics, read_row_metrics
from pipeline.system.files import new_folder, write_text
from pipeline.visualization.figures import new_figure
from pipeline.visualization.palette import body_colours
from pipeline.visualization.tables import format_mean_std, markdown_table

Records = Mapping[str, Mapping[int, RowMetrics]]  # by row, by minutes


def curves_report(folder: Path) -> None:
    """Writes README.md and figures/curves.svg into the folder of curves.yaml, from the records below it.

    Raises UserError if a row has no cost, no rate or no metrics of a budget.
    """
    curves = read_curves(folder / "curves.yaml")
    costs = read_step_costs(folder / "cost.json", curves.rows)
    rates = {row: read_rate(folder / "rates" / f"{row}.json") for row in curves.rows}
    records = {
        row: {minutes: read_row_metrics(folder / "results" / f"{row}-{minutes}.json") for minutes in curves.budgets}
        for row in curves.rows
    }
    with new_folder(folder / "figures") as figures:
        _draw(curves, records, figures / "curves.svg")
    write_text(folder / "README.md", _page(curves, costs, rates, records))


def _page(curves: Curves, costs: Mapping[str, StepCost], rates: Mapping[str, ChosenRate], records: Records) -> str:
    protocol = next(iter(next(iter(records.values())).values())).protocol
    budgets = list(curves.budgets)
    choice = curves.choose_rate
    header = ["network", "parameters", "M products", "CPU ms", "rate", *(f"{minutes} min" for minutes in budgets)]
    header += [f"windows, {budgets[-1]} min", f"{budgets[-1]} min / {budgets[-2]} min"]
    lines = []
    for row, entry in curves.rows.items():
        cost, scores = costs[row], [records[row][minutes].mpjpe_mm for minutes in budgets]
        means_mm = [score.values() for score in scores]
        ratio = (sum(means_mm[-1]) / len(means_mm[-1])) / (sum(means_mm[-2]) / len(means_mm[-2]))
        lines.append(
            [
                entry.words,
                f"{cost.parameters:,}",
                f"{cost.multiplications_per_window / 1e6:.1f}",
                f"{1000 * cost.cpu_s_per_step / cost.windows_per_step:.1f}",
                _rate(rates[row].factor, choice),
                *(format_mean_std(score, decimals=1) for score in scores),
                f"{cost.steps(budgets[-1]) * cost.windows_per_step:,}",
                f"{ratio:.2f}",
            ]
        )
    seeds = ", ".join(f"{minutes} min {len(found)}" for minutes, found in curves.budgets.items())
    parts = [
        "# Error against compute",
        "Written by the stage curves_report of `dvc.yaml` from the rows of `curves.yaml`; do not edit. MPJPE on the "
        "test split in mm, people whom training never saw, keypoints of the simulated detector, after so many CPU "
        f"minutes of one thread: mean ± sample standard deviation over the seeds ({seeds}). Scored: "
        f"{protocol.scored_frames}. Every budget is a run of its own whose rate falls to zero at its end. All networks "
        "take Muon for the matrices of their blocks and AdamW for the rest, the same augmentation and the same loss; "
        f"both rates are the recipe's times the best of {', '.join(f'{factor:g}' for factor in choice.factors)} on "
        f"validation takes at {choice.minutes} minutes. A budget is counted in steps, from the CPU time of a step with "
        "the networks measured in turns; starting, reading and validating are not in it.",
        "![Error against CPU minutes](figures/curves.svg)",
        markdown_table(header, lines),
        "M products: million multiplications for a window of 27 frames, which gives 27 poses, of PoseFormer one. CPU "
        "ms: of a training step, for each of its windows. *: the smallest or the largest of the rates that were tried, "
        "so that a better one may lie beyond. A last column near 1 would say that the curve is flat: more "
        "time brings no more.",
    ]
    return "\n\n".join(parts) + "\n"


def _rate(factor: float, choice: ChooseRate) -> str:
    return f"× {factor:g}{'*' * (factor in (min(choice.factors), max(choice.factors)))}"


def _draw(curves: Curves, records: Records, path: Path) -> None:
    """Draws the mean of each row over the budgets, both axes logarithmic, and a dot for each seed."""
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    for number, (row, entry) in enumerate(curves.rows.items()):
        colour = body_colours(number, people=len(curves.rows)).middle
        runs_mm = {minutes: records[row][minutes].mpjpe_mm.values() for minutes in curves.budgets}
        means_mm = [sum(values) / len(values) for values in runs_mm.values()]
        axes.plot(list(runs_mm), means_mm, "-", color=colour, linewidth=1.6, label=entry.words)
        for minutes, values in runs_mm.items():
            axes.plot([minutes] * len(values), values, "o", color=colour, markersize=3.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(curves.budgets), [str(minutes) for minutes in curves.budgets], minor=False)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.tick_params(labelsize=8, which="both")
    axes.set_xlabel("CPU minutes of one thread; dots: seeds", fontsize=8)
    axes.set_ylabel("MPJPE, mm", fontsize=8)
    axes.legend(fontsize=7, frameon=False)
    hide_frame(axes)
    save_svg(figure, path)
