"""What a user can put right."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake or a circumstance that a user can mend: shown as one line, without a traceback.

    The message says what is wrong and what to do.
    """


def nearest(name: str, names: Iterable[str], n: int = 3) -> str:
    """`did you mean a, b?`, or all names where none is near and they are few."""
    names = sorted(set(names))
    near = difflib.get_close_matches(name, names, n=n, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are: {', '.join(names)}" if len(names) <= 40 else ""
