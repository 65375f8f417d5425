"""What every method promises, checked for every row of cases.py."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn
from torch.optim import Optimizer

from tests.contract.cases import CASES
from unlabeled.configs import CONF
from unlabeled.contract import Case, checks
from unlabeled.contract.bench import changed, few
from unlabeled.contract.checks import StopAt as StopAt
from unlabeled.contract.checks import Watch as Watch
from unlabeled.contract.checks import assert_resumes as assert_resumes
from unlabeled.contract.checks import flat as flat
from unlabeled.contract.checks import run as run

# A row that only swaps stateless parts of its class is not resumed again.


def method_of(model: str) -> str:
    """The class of a model, as its file or the file that it inherits from names it."""
    text = (CONF / "model" / f"{model}.yaml").read_text()
    if found := re.search(r"^_target_: *(\S+)", text, re.M):
        return found[1]
    (parent,) = re.findall(r"^(?:defaults: *\[|  - )(\w+)@_here_", text, re.M)
    return method_of(parent)


def stateful(node: Any) -> set[str]:
    """Modules, functions that make some, and optimizers of a config: all that a checkpoint keeps."""
    if isinstance(node, dict):
        found = set().union(*(stateful(value) for value in node.values()))
        if "_target_" in node:
            made = get_object(node["_target_"])
            if not isinstance(made, type) or issubclass(made, nn.Module | Optimizer):
                found.add(node["_target_"])
        return found
    return set().union(*map(stateful, node)) if isinstance(node, list) else set()


@cache
def parts(model: str) -> set[str]:
    (case,) = (case for case in CASES if case.model == model)
    return stateful(OmegaConf.to_container(changed((f"model={model}", *few(case), *case.overrides)).model))


def resumed_in_others(case: Case) -> bool:
    """Whether all that it could lose is in earlier rows of its class that take the same turns."""
    alike = lambda other: (method_of(other.model), other.turns, other.still, other.roles)
    earlier = [other for other in CASES[: CASES.index(case)] if alike(other) == alike(case)]
    return bool(earlier) and parts(case.model) <= set().union(*(parts(other.model) for other in earlier))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("promise", checks.ALL, ids=lambda promise: promise.__name__)
def test_every_method_keeps_its_promises(promise: Callable[..., None], case: Case, build: Any, tmp_path: Path) -> None:
    if promise is not checks.a_resumed_run_ends_bitwise_equal or not resumed_in_others(case):
        promise(case, build, tmp_path)
