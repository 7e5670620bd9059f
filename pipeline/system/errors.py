"""The one exception that means: the data or the parameters are wrong, not the program."""

from __future__ import annotations

LONGEST = 1000


class UserError(Exception):
    """Bad data or bad parameters; its text names the file or key, what was expected and what came.

    The command line prints the text as one line and exits with code 2. What it quotes from a file may be anything: line
    breaks become spaces, other letters that are not printed their codes, and a text over LONGEST is cut in its middle.
    """

    def __init__(self, text: str) -> None:
        line = "".join(letter if letter.isprintable() else _harmless(letter) for letter in text)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")


def _harmless(letter: str) -> str:
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()
