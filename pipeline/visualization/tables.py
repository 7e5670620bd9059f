"""Formats results as tables: Markdown for pages and the README, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import LATEX_ESCAPE_RULES, tabulate

from pipeline.poses.row_metrics import MeanStd
from pipeline.system.errors import UserError

Cells = Sequence[Sequence[object]]


def format_mean_std(value: MeanStd | None, *, decimals: int = 2) -> str:
    """Returns "mean ± deviation", the mean alone where there was one run, and a dash where there is no value."""
    if value is None or value.mean is None:
        return "–"
    deviation = "" if value.std is None else f" ± {value.std:.{decimals}f}"
    return f"{value.mean:.{decimals}f}{deviation}"


def markdown_table(header: Sequence[str], rows: Cells) -> str:
    """Returns a table in the Markdown that GitHub shows."""
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def latex_table(header: Sequence[str], rows: Cells, *, text_columns: int, caption: str) -> str:
    """Returns a LaTeX `table` that needs the package booktabs.

    The first `text_columns` columns are set to the left, the others to the right.
    """
    alignment = ["left"] * text_columns + ["right"] * (len(header) - text_columns)
    body = tabulate(rows, header, tablefmt="latex_booktabs", disable_numparse=True, colalign=alignment)
    escaped = "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in caption)
    table = f"\\begin{{table}}\n\\centering\n\\caption{{{escaped}}}\n{body}\n\\end{{table}}\n"
    return table.replace("±", r"$\pm$").replace("–", "--")


def put_between(markers: tuple[str, str], table: str, page: str, *, where: str) -> str:
    """Returns the page's text with the table between its two markers, in place of what stands there.

    Raises UserError, naming `where`, unless both markers are there once.
    """
    start, end = markers
    if page.count(start) != 1 or page.count(end) != 1:
        raise UserError(f"{where}: expected the markers '{start}' and '{end}' once each")
    before, rest = page.split(start)
    return f"{before}{start}\n\n{table}\n\n{end}{rest.split(end)[1]}"
