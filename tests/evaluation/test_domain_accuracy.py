"""Domain accuracy: of translators whose number is known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from unlabeled.batches import Images, Unpaired
from unlabeled.data.kinds.pairs import UnpairedTable
from unlabeled.errors import UserError
from unlabeled.evaluation.metrics.domain_accuracy import DomainAccuracy
from unlabeled.evaluation.study import Study

TINY = {"batches": 40, "batch_size": 16, "width": 4}


class Domains:
    """Noise; in domain b the right half is brighter than the left half, in a it is not."""

    batch: type = Unpaired
    shape = (1, 16, 16)
    classes = None
    keys: dict[str, str] = {}
    source = SimpleNamespace(name="halves")

    def table(self, split: str) -> UnpairedTable:
        generator = torch.Generator().manual_seed(len(split))
        a, b = (torch.randint(60, 140, (n, *self.shape), generator=generator).byte() for n in (60, 45))
        b[..., 8:] += 100
        return UnpairedTable(a, b)


class Translator:
    device = torch.device("cpu")

    def __init__(self, shift: float):
        self.shift = shift

    def translate(self, a: Tensor) -> Tensor:
        """The first half of the images of a batch into domain b; a batch of 60 is one block."""
        b = a.clone()
        b[: len(a) // 2, ..., 8:] += self.shift
        return b.clamp(-1, 1)

    def translate_back(self, b: Tensor) -> Tensor:
        return b.flip(3) * 0 - 0.2


def measured(method: Any, seed: int = 0) -> dict[str, Any]:
    study = Study(method, Domains(), seed=seed)
    assert DomainAccuracy(**TINY).applies(study)
    return {number.name: number for number in DomainAccuracy(**TINY).measure(study)}


def test_it_is_the_share_that_looks_like_the_other_domain() -> None:
    numbers = measured(Translator(100 / 127.5))
    there, back = numbers["domain_accuracy"], numbers["domain_accuracy_back"]
    assert there.value == 50 and there.facts["baseline_value"] == 0 and there.facts["images"] == 60
    assert back.value == 100 and back.facts["baseline_value"] == 0 and back.facts["images"] == 45
    assert there.facts["classifier_accuracy"] == 100 and there.facts["classifier_images"] == 105
    assert measured(Translator(0.0))["domain_accuracy"].value == 0


def test_a_seed_decides_and_leaves_the_noise_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    found = DomainAccuracy(**TINY).classifier(Study(Translator(0.0), Domains(), seed=1))
    assert torch.equal(torch.rand(3), expected)
    again = DomainAccuracy(**TINY).classifier(Study(Translator(0.0), Domains(), seed=1))
    other = DomainAccuracy(**TINY).classifier(Study(Translator(0.0), Domains(), seed=2))
    assert torch.equal(found.head.weight, again.head.weight) and not torch.equal(found.head.weight, other.head.weight)


def test_it_needs_a_translator_and_two_domains() -> None:
    assert not DomainAccuracy().applies(Study(SimpleNamespace(device="cpu"), Domains()))
    single = Domains()
    single.batch = Images
    assert not DomainAccuracy().applies(Study(Translator(0.0), single))
    for wrong in ({"batches": 0}, {"batch_size": 1}, {"width": 0}, {"side": -1}):
        with pytest.raises(UserError, match="at least"):
            DomainAccuracy(**wrong)
