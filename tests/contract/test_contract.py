"""What every method promises, checked for every row of cases.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.cases import CASES
from unlabeled.contract import Case, checks
from unlabeled.contract.checks import StopAt as StopAt
from unlabeled.contract.checks import Watch as Watch
from unlabeled.contract.checks import assert_resumes as assert_resumes
from unlabeled.contract.checks import flat as flat
from unlabeled.contract.checks import run as run


def has_no_state_of_its_own(case: Case, build: Any, folder: Path) -> None:
    """The class of the row that it is like, parts with parameters or buffers of its kinds, its optimizers."""
    (full,) = (row for row in CASES if row.model == case.like and not row.like)
    own, others = (stateful(build(row)[0]) for row in (case, full))
    assert own <= others, own - others


def stateful(method: Any) -> set[type]:
    optimizers = method.configure_optimizers()
    parts = {type(part) for part in method.modules() if part._parameters or part._buffers}
    return {type(method), *parts, *map(type, optimizers if isinstance(optimizers, list) else [optimizers])}


def promises(case: Case) -> list[Callable[..., None]]:
    """All; of a row that differs from another in a part without state, no resumed run."""
    if not case.like:
        return list(checks.ALL)
    light = {checks.a_resumed_run_ends_bitwise_equal: has_no_state_of_its_own}
    return [light.get(promise, promise) for promise in checks.ALL]


# Row by row, since the promises of a row look at one run; rows that are like another next to it, which share its config
ROWS = [
    pytest.param(case, promise, id=f"{case}-{promise.__name__}")
    for case in sorted(CASES, key=lambda case: (case.like or case.model, bool(case.like)))
    for promise in promises(case)
]


@pytest.mark.parametrize(("case", "promise"), ROWS)
def test_every_method_keeps_its_promises(case: Case, promise: Callable[..., None], build: Any, tmp_path: Path) -> None:
    promise(case, build, tmp_path)
