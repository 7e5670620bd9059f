"""Stage curves_report: what the networks scored after each budget -> a page with tables, and a figure.

All numbers are from the files of the other stages, all words of networks from curves.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.compute.settings import (
    ChooseRate,
    ChosenRate,
    Curves,
    StepCost,
    name_row,
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

Records = Mapping[str, Mapping[str, Mapping[int, RowMetrics]]]  # by keypoints, by network, by minutes

KEYPOINTS = {"det": "keypoints of the simulated detector", "gt": "exact keypoints"}


def curves_report(folder: Path) -> None:
    """Writes README.md and figures/curves.svg into the folder of curves.yaml, from the records below it.

    Raises UserError if a network has no cost, no rate or no metrics of a budget.
    """
    curves = read_curves(folder / "curves.yaml")
    costs = read_step_costs(folder / "cost.json", curves.networks)
    rows = {
        keypoints: {network: name_row(keypoints, network) for network in curves.networks}
        for keypoints in curves.budgets
    }
    rates = {
        keypoints: {network: read_rate(folder / "rates" / f"{row}.json") for network, row in named.items()}
        for keypoints, named in rows.items()
    }
    records = {
        keypoints: {
            network: {minutes: read_row_metrics(folder / "results" / f"{row}-{minutes}.json") for minutes in budgets}
            for network, row in rows[keypoints].items()
        }
        for keypoints, budgets in curves.budgets.items()
    }
    with new_folder(folder / "figures") as figures:
        _draw(curves, records, figures / "curves.svg")
    parts = [
        *_introduction(curves, records),
        _table_of_costs(curves, costs),
        "M products: million multiplications for a window of 27 frames, which gives 27 poses, of PoseFormer one. CPU "
        "ms: of a training step, for each of its windows.",
    ]
    for keypoints in curves.budgets:
        words = KEYPOINTS[keypoints]
        parts += [
            f"## {words[0].upper()}{words[1:]}",
            _table_of_errors(curves, costs, rates[keypoints], records, keypoints=keypoints),
        ]
    parts.append(
        "*: the smallest or the largest of the rates that were tried, so that a better one may lie beyond. A last "
        "column near 1 would say that the curve is flat: more time brings no more."
    )
    write_text(folder / "README.md", "\n\n".join(parts) + "\n")


def _introduction(curves: Curves, records: Records) -> list[str]:
    choice = curves.choose_rate
    protocol = next(iter(next(iter(next(iter(records.values())).values())).values())).protocol
    seeds = "; ".join(
        f"{keypoints}: " + ", ".join(f"{minutes} min {len(found)}" for minutes, found in budgets.items())
        for keypoints, budgets in curves.budgets.items()
    )
    return [
        "# Error against compute",
        "Written by the stage curves_report of `dvc.yaml` from the networks of `curves.yaml`; do not edit. MPJPE on "
        "the test split in mm, people whom training never saw, after so many CPU minutes of one thread: mean ± sample "
        f"standard deviation over the seeds (as many as: {seeds}). Scored: {protocol.scored_frames}. Every budget is a "
        "run of its own whose rate falls to zero at its end. All networks take Muon for the matrices of their blocks "
        "and AdamW for the rest, the same augmentation and the same loss; both rates are the recipe's times the best "
        f"of {', '.join(f'{factor:g}' for factor in choice.factors)} on validation takes at {choice.minutes} minutes. "
        "A budget is counted in steps, from the CPU time of a step with the networks measured in turns on one machine, "
        "see `cost.json`; starting, reading and validating are not in it.",
        "![Error against CPU minutes](figures/curves.svg)",
    ]


def _table_of_costs(curves: Curves, costs: Mapping[str, StepCost]) -> str:
    lines = [
        [
            entry.words,
            f"{costs[network].parameters:,}",
            f"{costs[network].multiplications_per_window / 1e6:.1f}",
            f"{1000 * costs[network].cpu_s_per_step / costs[network].windows_per_step:.1f}",
        ]
        for network, entry in curves.networks.items()
    ]
    return markdown_table(["network", "parameters", "M products", "CPU ms"], lines)


def _table_of_errors(
    curves: Curves,
    costs: Mapping[str, StepCost],
    rates: Mapping[str, ChosenRate],
    records: Records,
    *,
    keypoints: str,
) -> str:
    budgets = list(curves.budgets[keypoints])
    header = ["network", "rate", *(f"{minutes} min" for minutes in budgets)]
    header += [f"windows, {budgets[-1]} min", f"{budgets[-1]} min / {budgets[-2]} min"]
    lines = []
    for network, entry in curves.networks.items():
        cost, scores = costs[network], [records[keypoints][network][minutes].mpjpe_mm for minutes in budgets]
        means_mm = [_mean(score.values()) for score in scores]
        lines.append(
            [
                entry.words,
                _rate(rates[network].factor, curves.choose_rate),
                *(format_mean_std(score, decimals=1) for score in scores),
                f"{cost.steps(budgets[-1]) * cost.windows_per_step:,}",
                f"{means_mm[-1] / means_mm[-2]:.2f}",
            ]
        )
    return markdown_table(header, lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rate(factor: float, choice: ChooseRate) -> str:
    return f"× {factor:g}{'*' * (factor in (min(choice.factors), max(choice.factors)))}"


def _draw(curves: Curves, records: Records, path: Path) -> None:
    """Draws a panel for each kind of keypoints: the mean of each network over the budgets, and a dot for each seed."""
    figure = new_figure(7.6, 4.4)
    panels = figure.subplots(1, len(curves.budgets), sharey=True, squeeze=False)[0]
    for axes, (keypoints, budgets) in zip(panels, curves.budgets.items(), strict=True):
        for number, (network, entry) in enumerate(curves.networks.items()):
            colour = body_colours(number, people=len(curves.networks)).middle
            runs_mm = {minutes: records[keypoints][network][minutes].mpjpe_mm.values() for minutes in budgets}
            means_mm = [_mean(values) for values in runs_mm.values()]
            axes.plot(list(runs_mm), means_mm, "-", color=colour, linewidth=1.6, label=entry.words)
            for minutes, values in runs_mm.items():
                axes.plot([minutes] * len(values), values, "o", color=colour, markersize=3.5)
        axes.set_title(KEYPOINTS[keypoints], fontsize=9)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(list(budgets), [str(minutes) for minutes in budgets], minor=False)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.tick_params(labelsize=8, which="both")
        axes.set_xlabel("CPU minutes of one thread; dots: seeds", fontsize=8)
        hide_frame(axes)
    panels[0].set_ylabel("MPJPE, mm", fontsize=8)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7, frameon=False
    )
    save_svg(figure, path)
