"""The exception that means that data or parameters are wrong, not the program; and any exception said in one line."""

from __future__ import annotations

LONGEST = 1000
# What comes of values of another kind, size or depth than expected.
BAD_VALUE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class UserError(Exception):
    """Bad data or bad parameters; its text names the file or key, what was expected and what came.

    The command line prints the text as one line and exits with code 2. What it quotes from a file may be anything: line
    breaks become spaces, other letters that are not printed their codes, and a text over LONGEST is cut in its middle.
    """

    def __init__(self, text: str) -> None:
        line = make_printable(text)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")


def reason(error: BaseException) -> str:
    """Returns the kind of an exception and the beginning of its text in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def make_printable(text: str) -> str:
    """Returns a text as one line: line breaks become spaces, other letters that are not printed their codes."""
    return "".join(letter if letter.isprintable() else _harmless(letter) for letter in text)


def _harmless(letter: str) -> str:
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()
