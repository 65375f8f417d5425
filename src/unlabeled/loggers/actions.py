"""Actions of callbacks and entry points on loggers, on the first rank; each kind of logger registers its own way.

A logger without a way to show something does nothing.
"""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any


@singledispatch
def picture(logger: Any, name: str, image: Any, batches: int) -> None:
    """Show a PIL image, made after `batches` of the run."""


@singledispatch
def table(logger: Any, name: str, columns: list[str], rows: list[list[Any]], image: Any, batches: int) -> None:
    """Show rows of PIL images and numbers; without tables, the `image` of the same content."""
    picture(logger, name, image, batches)


@singledispatch
def summary(logger: Any, values: Mapping[str, float]) -> None:
    """Numbers of the whole run."""


@singledispatch
def artifact(logger: Any, file: Path, kind: str) -> None:
    """Keep a file with the run. `kind`: report or checkpoint."""


@singledispatch
def go_on(logger: Any, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """A run goes on after `batches`. `rows`: of metrics.csv up to there, for a logger that lacks some of them."""


def log_missing_rows(logger: Any, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the rows of metrics.csv that the logger lacks."""
    for row in rows:  # the logger skips those that it has
        logger.log_metrics({name: float(value) for name, value in row.items() if name != "batch"}, int(row["batch"]))


@singledispatch
def close(logger: Any, failed: bool) -> str | None:
    """End the run of this logger; returns the address or command to see it by."""
    return None
