"""Errors that a user can correct, and suggestions for misspelt names."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """A mistake or a circumstance that a user can correct: shown as one line, without a traceback.

    The message says what is wrong and what to do.
    """


class Interrupted(UserError):
    """The run was asked to stop, and has been saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


def require_several(rows: Any, who: str) -> None:
    """Raise UserError where `who` needs several rows (B, ...) to learn from and B is 1."""
    if len(rows) < 2 and rows.requires_grad:
        raise UserError(f"{who} compares the images of a batch, and here it has one: data.batch_size=2 or more")


def error_line(error: Exception) -> str:
    """An error in one line. An error that stops the program is raised again."""
    if getattr(error, "signal_number", None) is not None:
        raise error
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")


def similar(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """At most n names with a similar spelling."""
    return difflib.get_close_matches(name, sorted(set(names)), n=n, cutoff=0.6)


def suggest(name: str, names: Iterable[str], n: int = 3, listed: str = "see --help") -> str:
    """`did you mean a or b?`; without similar names all names; of many, how to list them (`listed`)."""
    names = sorted(set(names))
    if near := similar(name, names, n):
        return f"did you mean {' or '.join(near)}?"
    return f"there are: {', '.join(names)}" if len(names) <= 40 else f"there are {len(names)}: {listed}"
