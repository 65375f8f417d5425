"""A kind of data is one entry in a table: here one of tokens, which no evaluator has heard of."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from unlabeled.app.run.checks import check_code
from unlabeled.batches import Images, Points, Unpaired
from unlabeled.capabilities import code_width
from unlabeled.errors import UserError
from unlabeled.evaluation.figures.drawing import FigureSet
from unlabeled.evaluation.figures.evaluation import draw_figures
from unlabeled.evaluation.kinds import KINDS, Kind, kind_of
from unlabeled.evaluation.metrics.clustering import Clustering
from unlabeled.evaluation.metrics.probe import Probe
from unlabeled.evaluation.metrics.reconstruction import Reconstruction
from unlabeled.evaluation.study import Study


class Tokens(NamedTuple):
    x: Tensor  # (B, T) int64
    y: Tensor  # (B,)


class Reader:
    """Encodes tokens as how often each of four occurs, and knows no floats."""

    device = torch.device("cpu")

    def encode(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.int64
        return torch.nn.functional.one_hot(x, 4).float().mean(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.argmax(1)[:, None].expand(-1, 16)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Sentences:
    batch, shape, classes, keys = Tokens, (16,), 2, {}
    source = SimpleNamespace(name="sentences")

    def table(self, split: str) -> Any:
        y = torch.arange(40) % 2
        x = torch.randint(0, 2, (40, 16), generator=torch.Generator().manual_seed(0)) + 2 * y[:, None]
        return Rows(x, y)


class Rows:
    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.labels, self.rows = x, y, torch.arange(len(x))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Tokens:
        return Tokens(self.x[index], self.labels[index])


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    drawn = lambda method, batch, data: FigureSet()
    raw = lambda x: torch.nn.functional.one_hot(x, 4).float().sum(1)
    words = Kind("sentence", ("x",), False, drawn, lambda shape: shape[0], raw=raw, raw_name="bag of words")
    monkeypatch.setitem(KINDS, Tokens, words)
    return Study(Reader(), Sentences())


def test_evaluators_ask_the_table(study: Study) -> None:
    assert study.block == 100 and not Reconstruction().applies(study)
    numbers = [*Probe(labels=[], logistic=[]).measure(study), *Clustering(n_init=1).measure(study)]
    facts = {number.name: number.facts["baseline"] for number in numbers}
    assert set(facts.values()) == {"bag of words"} and {"knn_accuracy", "kmeans_accuracy"} <= set(facts)
    assert next(number.value for number in numbers if number.name == "knn_accuracy") == 100
    assert code_width(study.method, study.table("test").batch(torch.arange(1)).x) == 4
    assert draw_figures(study) == {} and not study.notes


def test_a_code_may_be_wider_than_a_sentence(study: Study) -> None:
    model = OmegaConf.create({"latent_dim": 32, "encoder": {}, "decoder": {}})
    check_code(model, [16], study.kind)
    with pytest.raises(UserError, match="an image has 16 numbers"):
        check_code(model, [1, 4, 4], KINDS[Images])


def test_a_kind_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(UserError, match="no evaluation of batches of Tokens"):
        kind_of(Tokens)


@pytest.mark.parametrize(
    ("kind", "shape", "positions"), [(Images, (3, 8, 4), 32), (Unpaired, (1, 8, 8), 64), (Points, (2,), 1)]
)
def test_blocks_are_sized_by_positions(kind: type, shape: tuple[int, ...], positions: int) -> None:
    assert kind_of(kind).positions(shape) == positions
