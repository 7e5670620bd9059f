"""Tables keep their cells and columns, and LaTeX reads them as text."""

from __future__ import annotations

import pytest

from pipeline.poses.row_metrics import MeanStd, mean_std
from pipeline.system.errors import UserError
from pipeline.visualization.tables import format_mean_std, latex_table, markdown_table, put_between


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (mean_std([1.0, 2.0, 3.0]), 2, "2.00 ± 1.00"),
        (mean_std([34.56]), 1, "34.6"),
        (MeanStd(mean=None, std=None, runs=(None, None)), 2, "–"),
        (None, 2, "–"),
    ],
)
def test_a_mean_stands_with_its_deviation_where_there_is_one(value, decimals, text):
    assert format_mean_std(value, decimals=decimals) == text


def test_a_markdown_table_has_a_rule_and_aligned_cells_that_stay_as_they_are():
    lines = markdown_table(["row", "27"], [["gt", "34.10"], ["a longer row", 5]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == {"|", "-"}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cells[0], *cells[2:]] == [["row", "27"], ["gt", "34.10"], ["a longer row", "5"]]


def test_a_latex_table_escapes_its_cells_and_caption():
    text = latex_table(["row", "MPJPE (%)"], [["a_b", "1.00 ± 0.10"], ["c&d", "–"]], text_columns=1, caption="x_y 50 %")
    assert r"\begin{tabular}{lr}" in text
    assert r"\caption{x\_y 50 \%}" in text
    for cell in (r"a\_b", r"c\&d", r"1.00 $\pm$ 0.10", "--", r"MPJPE (\%)"):
        assert cell in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [line.replace(r"\&", "").count("&") for line in lines] == [1, 1, 1]
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_a_table_takes_the_place_of_what_stands_between_the_markers_of_a_page():
    once = put_between(("<s>", "<e>"), "new", "before\n<s>\n\nold\n\n<e>\nafter\n", where="page.md")
    assert once == "before\n<s>\n\nnew\n\n<e>\nafter\n"
    assert put_between(("<s>", "<e>"), "new", once, where="page.md") == once


@pytest.mark.parametrize("page", ["", "<s>", "<e>", "<s> <e> <s>", "<s> <e> <e>"])
def test_a_page_without_a_marker_or_with_one_twice_is_refused(page):
    with pytest.raises(UserError, match=r"^page\.md: expected the markers '<s>' and '<e>' once each$"):
        put_between(("<s>", "<e>"), "new", page, where="page.md")
