"""The results as LaTeX tables for papers; they need the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
}


def tex_text(text: str) -> str:
    """The text as LaTeX sets it, every sign that LaTeX would read as its own escaped."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def tex_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int, caption: str) -> str:
    r"""A `table` with booktabs rules. The first `words` columns are set to the left, the others to the right."""
    columns = "l" * words + "r" * (len(header) - words)
    lines = [" & ".join(map(tex_text, line)) + r" \\" for line in (header, *rows)]
    body = "\n".join(lines[1:])
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{tex_text(caption)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]}\n\\midrule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )
