"""The one exception that means: the data or the parameters are wrong, not the program."""

from __future__ import annotations


class UserError(Exception):
    """Bad data or bad parameters; its text names the file or key, what was expected and what came.

    The command line prints the text as one line and exits with code 2.
    """
