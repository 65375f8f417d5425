"""What callbacks and entry points ask of loggers, on the first rank; each kind of logger registers its own way.

A kind of logger that cannot show a thing does nothing.
"""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any


@singledispatch
def picture(logger: Any, name: str, image: Any, batches: int) -> None:
    """Show a PIL image that the method made after `batches` of the run."""


@singledispatch
def table(logger: Any, name: str, columns: list[str], rows: list[list[Any]], image: Any, batches: int) -> None:
    """Show rows of PIL images and numbers; where there are no tables, `image`, which says the same."""
    picture(logger, name, image, batches)


@singledispatch
def summary(logger: Any, values: Mapping[str, float]) -> None:
    """Numbers of the whole run."""


@singledispatch
def artifact(logger: Any, file: Path, kind: str) -> None:
    """Keep a file with the run. `kind`: report or checkpoint."""


@singledispatch
def go_on(logger: Any, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """A run goes on after `batches`. `rows`: of metrics.csv up to there, for a logger that lost some of them."""


def log_missing_rows(logger: Any, batches: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the rows of metrics.csv that the logger lacks."""
    for row in rows:  # those that are there already are left out
        logger.log_metrics({name: float(value) for name, value in row.items() if name != "batch"}, int(row["batch"]))


@singledispatch
def close(logger: Any, failed: bool) -> str | None:
    """End what a later job of the same process would otherwise go on writing into; says where the run is seen."""
    return None
