"""scikit-learn's fits, as evaluators make them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """One thread, so that sums are the same on every machine. Gives the warnings, which are not shown: who fits says
    what matters in words of its own.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
