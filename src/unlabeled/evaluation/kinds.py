"""The kinds of data: what evaluation does with each."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from unlabeled.batches import Images, Paired, Points, Unpaired
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import pixels
from unlabeled.evaluation.figures.drawing import FigureSet, draw_domains, draw_images
from unlabeled.evaluation.figures.points import draw_points


class Table(Protocol):
    """The rows of a split. Those of single examples also have `labels`, of all, and `rows`, which of them these are."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Any:
        """The rows `index` (b,), as a batch of their kind (batches.py)."""


class Data(Protocol):
    """A prepared DataModule. Some have also class_names, class_subset, factors, attributes, num_labels, pairs_known."""

    batch: ClassVar[type]  # the kind, see batches.py
    shape: Any  # of an example: tuple[int, ...]
    classes: int | None
    keys: dict[str, str]  # split of the source -> key of its content

    @property
    def source(self) -> Any: ...  # with a name

    def table(self, split: str) -> Any:
        """A split, see `Table`."""


class Kind(NamedTuple):
    """One kind of example."""

    noun: str
    fields: tuple[str, ...]  # of a batch that hold examples; two fields are two domains
    visual: bool  # examples are images (C, H, W): extractors, similarities and grids take them
    figures: Callable[[Any, Any, Data], FigureSet]  # (method, batch, data) -> what the method can show of itself
    positions: Callable[[Sequence[int]], int]  # shape -> places of an example, which bound the size of a block
    size: Callable[[Sequence[int]], int] = math.prod  # shape -> what a log-likelihood is divided by
    raw: Callable[[Tensor], Tensor] | None = None  # x -> features (B, D) that codes have to beat; None: not probed
    raw_name: str = ""  # of these features

    @property
    def single(self) -> bool:
        """Whether examples stand alone, with labels."""
        return "x" in self.fields


def area(shape: Sequence[int]) -> int:
    """Pixels of an image (C, H, W)."""
    return math.prod(shape[1:])


KINDS: dict[type, Kind] = {
    Images: Kind("image", ("x",), True, draw_images, area, raw=pixels, raw_name="raw pixels"),
    Unpaired: Kind("image", ("a", "b"), True, draw_domains, area),
    Paired: Kind("image", ("a", "b"), True, draw_domains, area),
    Points: Kind("point", ("x",), False, draw_points, lambda shape: 1),
}


def kind_of(batch: type) -> Kind:
    """batch: a DataModule's, see batches.py."""
    if batch not in KINDS:
        raise UserError(f"no evaluation of batches of {batch.__name__}: enter them in unlabeled.evaluation.kinds.KINDS")
    return KINDS[batch]
