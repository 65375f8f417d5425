"""Whether a method draws the class that it is asked for: by an extractor that tells dark images from bright ones."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from unlabeled.batches import Images
from unlabeled.data.kinds.images import ImageTable
from unlabeled.evaluation.metrics.class_accuracy import ClassAccuracy
from unlabeled.evaluation.study import Study
from unlabeled.nn.layers.labels import Classes


class Brightness:
    name, digest, dim, classes, facts = "brightness", "0", 1, 2, {}

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        h = levels.float().mean((1, 2, 3))[:, None] / 255
        return h, torch.cat([0.5 - h, h - 0.5], 1)


class Data:
    """One bright image in four is labelled dark; images without a class count for nothing."""

    batch, shape, keys = Images, (1, 128, 128), {}  # of which a block has 25: an odd number

    def __init__(self, labelled: bool = True) -> None:
        y = torch.tensor([0, 1, 1, 0] * 25 + [-1] * 7)
        bright = torch.tensor([0, 1, 1, 1] * 25 + [0] * 7)
        self.images = ImageTable(
            (255 * bright).to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4), y if labelled else y * 0 - 1
        )

    def table(self, split: str) -> Any:
        return self.images


class Drawer:
    device, classes = torch.device("cpu"), 2

    def __init__(self, brightness: list[float], seen: tuple[int, ...] = (0, 1)):
        self.labels = Classes("drawer", 2)
        self.labels.restrict(torch.tensor(seen))
        self.brightness, self.asked = torch.tensor(brightness), torch.zeros(0, dtype=torch.int64)

    def sample_class(self, y: Tensor) -> Tensor:
        self.asked = torch.cat([self.asked, y])
        return (2 * self.brightness[y] - 1)[:, None, None, None].expand(-1, 1, 4, 4)


def measured(brightness: list[float], *seen: int, samples: int = 250, **data: Any) -> tuple[Any, Drawer]:
    method = Drawer(brightness, seen or (0, 1))
    (number,) = ClassAccuracy().measure(Study(method, Data(**data), extractor=Brightness(), samples=samples))
    return number, method


@pytest.mark.parametrize(
    ("brightness", "value"),
    [([0.1, 0.9], 100), ([0.9, 0.1], 0), ([0.9, 0.9], 50)],
    ids=["right", "names of its own", "one class"],
)
def test_what_is_drawn_is_what_was_asked_for(brightness: list[float], value: float) -> None:
    number, method = measured(brightness)
    assert (number.name, number.unit, number.value) == ("sample_accuracy[brightness]", "%", value)
    assert number.facts["baseline_value"] == 75 and number.facts["images"] == 250
    assert number.facts["baseline_images"] == 100
    assert method.asked.bincount().tolist() == [125, 125]


def test_without_a_labelled_image_nothing_stands_beside_it() -> None:
    number, _ = measured([0.0, 1.0], labelled=False)
    assert number.value == 100 and not any(key.startswith("baseline") for key in number.facts)
    one, _ = measured([0.0, 1.0], samples=1)
    assert one.value == 100 and one.facts["standard_error"] is None and one.facts["standard_error_reason"]


def test_only_classes_that_were_trained_on_are_asked_for() -> None:
    number, method = measured([0.9, 0.9], 1)
    assert number.value == 100 and method.asked.unique().tolist() == [1]
    assert number.facts["baseline_value"] == 100


def test_it_needs_an_extractor_of_the_datas_own_classes() -> None:
    applies = lambda method, extractor: ClassAccuracy().applies(Study(method, Data(), extractor=extractor))
    assert applies(Drawer([0, 1]), Brightness())
    others = SimpleNamespace(classes=1008), SimpleNamespace(classes=None), None
    assert not any(applies(Drawer([0, 1]), other) for other in others)
    assert not applies(SimpleNamespace(device=torch.device("cpu"), classes=2), Brightness())
