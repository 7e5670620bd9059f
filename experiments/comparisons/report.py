"""Stage comparisons_report: what the rows scored -> a page with tables, and a figure.

All numbers are from the files of the stages compare and training_cost, all words from rows.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.comparisons.rows import Comparisons, read_comparisons
from experiments.figures import hide_frame, save_svg
from pipeline.config.rows import parse_row
from pipeline.poses.row_metrics import RowMetrics, read_row_metrics
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, write_text
from pipeline.system.text_files import read_json
from pipeline.visualization.figures import new_figure
from pipeline.visualization.tables import format_mean_std, markdown_table

Records = Mapping[str, RowMetrics]


@dataclass(frozen=True)
class Difference:
    """The difference of a row's MPJPE from its reference's for each seed, in mm.

    It `stands_out` if its mean is larger than the deviation of the differences and than those of both rows.
    """

    runs_mm: tuple[float, ...]
    mean_mm: float
    std_mm: float
    stands_out: bool


def comparisons_report(folder: Path) -> None:
    """Writes README.md and figures/differences.svg into the folder of rows.yaml, from the records below it.

    Raises UserError if a row has no metrics or no cost, or the seeds of a comparison differ.
    """
    comparisons = read_comparisons(folder / "rows.yaml")
    records = {row: read_row_metrics(folder / "results" / f"{row}.json") for row in comparisons.rows}
    costs = read_json(folder / "cost.json", "the costs of the rows")
    if missing := [row for row in records if row not in costs]:
        raise UserError(f"{folder / 'cost.json'}: expected the cost of {missing[0]}, found none; run training_cost")
    seconds = {row: f"{costs[row]['cpu_s_per_run']:.0f}" for row in records}
    with new_folder(folder / "figures") as figures:
        _draw_differences(comparisons, records, figures / "differences.svg")
    write_text(folder / "README.md", _page(comparisons, records, seconds))


def difference(row: RowMetrics, reference: RowMetrics) -> Difference:
    """Returns how a row differs from its reference. Raises UserError if they are not of the same two or more seeds."""
    seeds, expected = (list(record.protocol.seeds) for record in (row, reference))
    if seeds != expected or len(seeds) < 2:
        raise UserError(f"row {row.row}: expected the seeds of {reference.row}, {expected}, found {seeds}")
    row_mm, reference_mm = (np.array(record.mpjpe_mm.values()) for record in (row, reference))
    runs_mm = row_mm - reference_mm
    mean_mm, std_mm = float(runs_mm.mean()), float(runs_mm.std(ddof=1))
    spread_mm = max(std_mm, row.mpjpe_mm.std or 0.0, reference.mpjpe_mm.std or 0.0)
    return Difference(tuple(runs_mm.tolist()), mean_mm, std_mm, abs(mean_mm) > spread_mm)


def _page(comparisons: Comparisons, records: Records, seconds: Mapping[str, str]) -> str:
    protocol = next(iter(records.values())).protocol
    parts = [
        "# What each part buys, and the peers",
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
            found = difference(records[row], records[group.reference])
            cells = _cells(row, comparisons, records, seconds)
            verdict = "yes" if found.stands_out else "no"
            lines.append([*cells, f"{found.mean_mm:+.1f} ± {found.std_mm:.1f}", verdict])
        parts += [f"## {group.title}", group.text, markdown_table(header, lines)]
    return "\n\n".join(parts) + "\n"


def _cells(row: str, comparisons: Comparisons, records: Records, seconds: Mapping[str, str]) -> list[str]:
    error_mm = records[row].mpjpe_mm
    mean_and_std = format_mean_std(error_mm, decimals=1)
    return [comparisons.rows[row].words, row, seconds[row], str(len(error_mm.runs)), mean_and_std]


def _draw_differences(comparisons: Comparisons, records: Records, path: Path) -> None:
    """Draws a bar for each row's difference from its reference, and a dot for each seed's."""
    pairs = [(row, group.reference) for name, group in comparisons.groups.items() for row in comparisons.rows_of(name)]
    figure = new_figure(7.2, 1.2 + 0.3 * len(pairs))
    axes = figure.add_subplot()
    for place, (row, reference) in enumerate(pairs):
        found = difference(records[row], records[reference])
        colour = "tab:red" if found.mean_mm > 0 else "tab:green"
        axes.barh(place, found.mean_mm, 0.7, color=colour if found.stands_out else "0.75")
        axes.plot(found.runs_mm, [place] * len(found.runs_mm), "o", color="0.2", markersize=3)
    labels = [f"{row} against {parse_row(reference).model}" for row, reference in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="0.2", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=5)  # differences of parts are of a few mm, those of peers of a hundred
    axes.set_xticks([-5, 0, 5, 20, 100], ["-5", "0", "5", "20", "100"], minor=False)
    axes.set_xlabel("difference of the MPJPE, mm; dots: seeds, grey: within the spread", fontsize=8)
    hide_frame(axes)
    save_svg(figure, path)
