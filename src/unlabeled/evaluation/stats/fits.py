"""The setting of scikit-learn's fits."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """One thread, so that sums are the same on every machine; warnings are collected and not shown."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
