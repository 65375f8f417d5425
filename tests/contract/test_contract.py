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


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("promise", checks.ALL, ids=lambda promise: promise.__name__)
def test_every_method_keeps_its_promises(promise: Callable[..., None], case: Case, build: Any, tmp_path: Path) -> None:
    promise(case, build, tmp_path)
