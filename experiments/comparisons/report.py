"""Stage comparisons_report: what the rows scored -> a page with tables, and a figure.

All numbers are from the files of the stages compare and training_cost, all words from rows.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from experiments.comparisons.rows import Comparisons, read_comparisons
from experiments.figures import hide_frame, save_svg
from pipeline.config.rows import parse_row
from pipeline.poses.row_metrics import RowMetrics, read_row_metrics
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, read_json, write_text
from pipeline.visualization.figures import new_figure
from pipeline.visualization.tables import format_mean_std, markdown_table

Records = Mapping[str, RowMetrics]  # by row


def comparisons_report(folder: Path) -> None:
    """Writes README.md and figures/differences.svg into the folder of rows.yaml, from the records below it.

    Raises UserError if a row has no metrics or no cost, or the seeds of a comparison differ.
    """
    comparisons = read_comparisons(folder / "rows.yaml")
    records = {row: read_row_metrics(folder / "results" / f"{row}.json") for row in comparisons.rows}
    costs = read_json(folder / "cost.json", "what a run of each row costs")
    if missing := [row for row in records if row not in costs]:
        raise UserError(f"{folder / 'cost.json'}: expected the cost of {missing[0]}, found none; run training_cost")
    seconds = {row: f"{costs[row]['cpu_s_per_run']:.0f}" for row in records}
    with new_folder(folder / "figures") as figures:
        _draw_differences(comparisons, records, figures / "differences.svg")
    write_text(folder / "README.md", _page(comparisons, records, seconds))


def difference_mm(row: RowMetrics, reference: RowMetrics) -> Float[np.ndarray, " R"]:
    """Returns the difference of a row's MPJPE from its reference's for each seed.

    Raises UserError if they are not of the same two or more seeds.
    """
    seeds, expected = list(row.protocol.seeds), list(reference.protocol.seeds)
    if seeds != expected or len(seeds) < 2:
        raise UserError(f"row {row.row}: expected the seeds of {reference.row}, {expected}, found {seeds}")
    return np.array(row.mpjpe_mm.values()) - np.array(reference.mpjpe_mm.values())


def stands_out(row: RowMetrics, reference: RowMetrics) -> bool:
    """Returns whether the mean difference is larger than the deviation of differences and than those of both rows."""
    runs_mm = difference_mm(row, reference)
    spreads_mm = [np.std(values, ddof=1) for values in (runs_mm, row.mpjpe_mm.values(), reference.mpjpe_mm.values())]
    return bool(abs(runs_mm.mean()) > max(spreads_mm))


def _page(comparisons: Comparisons, records: Records, seconds: Mapping[str, str]) -> str:
    protocol = next(iter(records.values())).protocol
    parts = [
        "# What each part buys",
        "Written by the stage comparisons_report of `dvc.yaml` from the rows of `rows.yaml`; do not edit. MPJPE on the "
        "test split in mm, keypoints of the simulated detector: mean ± sample standard deviation over the runs, a seed "
        "each. The runs are short, so the errors are above those of the results table, and what pays off only in long "
        f"training does not show. Scored: {protocol.scored_frames}. Differences are taken seed by seed; one stands "
        "out if its mean is larger than its own deviation and than those of both rows. CPU seconds are those of the "
        "training steps of one run on one thread, measured in turns (`cost.json`).",
        "![Differences from the reference](figures/differences.svg)",
    ]
    header = ["what", "row", "CPU s", "runs", "MPJPE", "difference", "stands out"]
    for name, group in comparisons.groups.items():
        lines = [[*_cells(group.reference, comparisons, records, seconds), "", ""]]
        for row in comparisons.rows_of(name):
            pair = records[row], records[group.reference]
            runs_mm = difference_mm(*pair)
            found = f"{runs_mm.mean():+.1f} ± {runs_mm.std(ddof=1):.1f}"
            verdict = "yes" if stands_out(*pair) else "no"
            lines.append([*_cells(row, comparisons, records, seconds), found, verdict])
        parts += [f"## {group.title}", group.text, markdown_table(header, lines)]
    return "\n\n".join(parts) + "\n"


def _cells(row: str, comparisons: Comparisons, records: Records, seconds: Mapping[str, str]) -> list[str]:
    errors_mm = records[row].mpjpe_mm
    mean = format_mean_std(errors_mm, decimals=1)
    return [comparisons.rows[row].words, row, seconds[row], str(len(errors_mm.runs)), mean]


def _draw_differences(comparisons: Comparisons, records: Records, path: Path) -> None:
    """Draws a bar for each row's difference from its reference, and a dot for each seed's."""
    pairs = [(row, group.reference) for name, group in comparisons.groups.items() for row in comparisons.rows_of(name)]
    figure = new_figure(7.2, 1.2 + 0.3 * len(pairs))
    axes = figure.add_subplot()
    for place, (row, reference) in enumerate(pairs):
        pair = records[row], records[reference]
        runs_mm = difference_mm(*pair)
        colour = "tab:red" if runs_mm.mean() > 0 else "tab:green"
        axes.barh(place, runs_mm.mean(), 0.7, color=colour if stands_out(*pair) else "0.75")
        axes.plot(runs_mm, [place] * len(runs_mm), "o", color="0.2", markersize=3)
    labels = [f"{row} against {parse_row(reference).model}" for row, reference in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="0.2", linewidth=0.8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("difference of the MPJPE, mm; dots: seeds, grey: within the spread", fontsize=8)
    hide_frame(axes)
    save_svg(figure, path)
