"""A method built as train.py builds it, on a few images, from what is stated of it."""

import copy
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlabeled import configs
from unlabeled.app.cli import main as cli
from unlabeled.app.run.build import build
from unlabeled.app.run.checks import located
from unlabeled.batches import Images, Paired, Points, Unpaired
from unlabeled.contract.measures import Measure
from unlabeled.errors import UserError

Built = tuple[Any, Any, dict[str, Any]]  # method, data, config
Build = Callable[..., Built]  # case, *overrides, run="run"

VALUE = re.compile(r"\w+(\.\w+)+=(?!.*\$\{)")  # a word that changes a value and chooses no file

TINY = [
    "data=digits",
    "~data.source",
    "+data.source={_target_: unlabeled.contract.tiny.Tiny, n: 8, unlabelled: null}",
    "data.batch_size=8",
    "data.classes=2",
    "data_root=unused",
]
TINY_UNPAIRED = [
    "data=plain2striped",
    "~data.source",
    "+data.source={_target_: unlabeled.contract.tiny.Tiny, splits: [train_a, train_b, val_a, val_b, test_a, test_b]}",
    "data.size=32",
    "data.shape=[1,32,32]",
    "data.batch_size=2",
    "data_root=unused",
]
TINY_PAIRED = ["data=plain2striped_pairs", *TINY_UNPAIRED[1:]]
TINY_POINTS = ["data=rings", "data.train=8", "data.val=8", "data.test=8", "data.batch_size=8"]
# a tiny source for each kind
TINY_OF = {"images": TINY, "points": TINY_POINTS, "unpaired": TINY_UNPAIRED, "paired": TINY_PAIRED}


@dataclass(frozen=True)
class Case:
    """What a method promises. Where a fact is None, it is not held against anything, or found out."""

    model: str  # conf/model/<model>.yaml
    can: set | None = None  # capabilities, exactly
    falls: dict[Measure, list[str]] | None = None  # measure -> overrides it is measured under
    overrides: list[str] = field(default_factory=list)  # smaller networks
    turns: dict[str, list[int]] | None = field(
        default_factory=dict
    )  # child -> whether it moves at each of the first 3 batches, where not at all of them
    still: set[str] | None = field(default_factory=set)  # children no optimizer owns
    roles: dict[str, int] = field(default_factory=dict)  # child -> optimizers that own it, where these are not one
    data: str = "images"  # the kind, of TINY_OF
    epochs: int = 30  # of one batch, to learn it
    like: str | None = None  # another model, of the same class, that differs in parts without state only
    of_two: list[str] = field(default_factory=list)  # overrides where a batch has two images

    def __str__(self) -> str:
        return self.model


class Bench:
    """Builds methods, each in a folder of its own below `folder`; `packed` keeps what is packed of their data."""

    def __init__(self, folder: Path, packed: Path) -> None:
        self.folder, self.packed = folder, packed

    def resolve(self, *overrides: str, run: str = "run") -> dict[str, Any]:
        """The resolved config of some overrides, with a run folder of its own."""
        config = changed(overrides)
        config.run, config.data_packed = str(self.folder / run), str(self.packed)
        (self.folder / run).mkdir(exist_ok=True)
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        plain["names"] = {"model": "m", "data": "d", "trainer": "cpu", "overrides": list(overrides)}
        return plain  # type: ignore[return-value]

    def build(self, case: Case, *overrides: str, run: str = "run") -> Built:
        """(method, data, config) of a case on a few images."""
        config = self.resolve(f"model={case.model}", *few(case), *case.overrides, *overrides, run=run)
        data, method = build(config)
        return method, data, config


def changed(overrides: tuple[str, ...]) -> DictConfig:
    """What `composed` returns, as a copy. The last words, where they only change values, are not composed anew."""
    count = len(overrides)
    while count and VALUE.match(overrides[count - 1]):
        count -= 1
    config = copy.deepcopy(composed(overrides[:count]))
    for word in OverridesParser.create().parse_overrides(list(overrides[count:])):
        try:
            OmegaConf.update(config, word.key_or_group, word.value())
        except OmegaConfBaseException:  # Hydra says it better
            return copy.deepcopy(composed(overrides))
    return config


@functools.cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(configs.CONF), version_base="1.3"):
        return compose("train", [cli.shorthand(word) for word in overrides])


def few(case: Case) -> list[str]:
    """Words that choose data of the case's kind, unless it has its own."""
    if any(word.startswith("data=") for word in case.overrides):
        return []
    return TINY_OF[case.data]


def kind(model: str) -> list[str]:
    """`few` of a model, by the kind of batch that its class learns from. Raises UserError."""
    wanted = located(composed((f"model={model}",)).model._target_).batch
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for each, words in zip((Images, Points, Unpaired, Paired), TINY_OF.values(), strict=True):
        if each in wanted:
            return words
    names = " or ".join(each.__name__ for each in wanted)
    raise UserError(f"model={model} learns from {names}, of which there are no tiny data here: say data=NAME too")
