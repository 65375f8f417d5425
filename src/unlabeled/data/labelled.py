"""Data modules of labelled examples: class names, a subset of classes, few labels."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from unlabeled.data.labels import class_name, class_numbers, listing
from unlabeled.data.loader import Table
from unlabeled.data.module import print_note
from unlabeled.data.packed import PackedData
from unlabeled.data.store import Packed
from unlabeled.errors import UserError
from unlabeled.seeding import mix


class LabelledTable(Table, Protocol):
    rows: Tensor  # (len,) int64: where its rows lie in the arrays
    labels: Tensor  # of the arrays' rows


class LabelledData(PackedData):
    """Examples with labels that unsupervised methods ignore.

    With `num_labels` training sees that many labels, and -1 for all other examples. Labelled examples are repeated
    until they are `labelled_share` of an epoch, which has every other example once. Evaluation sees all labels, also
    those of training examples.
    """

    def __init__(
        self,
        *common: Any,  # see PackedData
        class_names: Sequence[str] | None = None,  # by number; None: the source's own names, if any
        class_subset: int
        | str
        | Sequence[int | str]
        | None = None,  # classes whose examples train and val keep; test keeps all
        num_labels: int | None = None,  # labels that training sees, as many of each class; None: all there are
        label_seed: int = 0,  # decides which these are
        labelled_share: float = 0.5,  # of an epoch, where `num_labels` is given
        **named: Any,
    ):
        super().__init__(*common, **named)
        if num_labels is not None and (type(num_labels) is not int or num_labels < 1):
            raise UserError(f"data.num_labels={num_labels}: say how many labels training sees, data.num_labels=100")
        if not 0 <= labelled_share < 1:
            raise UserError(f"data.labelled_share={labelled_share}: 0 or more, and less than 1")
        self.num_labels, self.label_seed, self.labelled_share = num_labels, label_seed, labelled_share
        self.given_names = tuple(map(str, class_names or ()))
        if len(set(self.given_names)) < len(self.given_names):
            raise UserError(f"data.class_names={list(self.given_names)}: two of them are the same")
        if self.classes and len(self.given_names) > self.classes:
            n = len(self.given_names)
            raise UserError(
                f"data.classes={self.classes}, but there are {n} ({listing(self.given_names)}): say data.classes={n}"
            )
        one = isinstance(class_subset, str) or not isinstance(class_subset, Sequence)
        self.chosen: Sequence[Any] | None = None  # names or numbers of the classes that training sees
        if class_subset is not None:
            self.chosen = (class_subset,) if one else class_subset  # type: ignore[assignment]
        if self.chosen is not None and (not self.chosen or not all(map(_names_a_class, self.chosen))):
            raise UserError(
                f"data.class_subset={class_subset}: say the name or the number of a class, data.class_subset=0, "
                "or several, data.class_subset=[0,1]"
            )

    def make_table(self, packed: Packed, labels: Tensor, rows: Tensor | None) -> LabelledTable:
        """A table of these rows (None: all) with these labels, one a packed example."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        first = not self._summarized
        if self.chosen and self.class_names:  # otherwise the files that name them may be yet to come
            class_numbers(self.chosen, self.class_names, "data.class_subset", self.source.name)
        super().prepare_data()
        if self.classes is None:
            self.classes = len(self.class_names) or None
        for note in self.notes() if first else ():
            print_note(note)

    def notes(self) -> Iterator[str]:
        """Settings that may mean something else than the user thinks."""
        names = self.class_names
        if unknown := [name for name in self.source_names if name not in names]:
            yield (
                f"data={self.source.name} has classes that are not among data.class_names, and whose {self.noun} count "
                f"as without a class: {listing(unknown)}"
            )
        for one in self.chosen or ():
            (number,) = class_numbers([one], names, "data.class_subset", self.source.name)
            if isinstance(one, int) and one != number:
                yield f"data.class_subset={one}: the class named {one}, which has the number {number}"

    @property
    def source_names(self) -> tuple[str, ...]:
        """The source's own class names, by its own numbers; () where they have none."""
        names = getattr(self.source, "class_names", None)
        return tuple(names(self.root)) if names else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by number; () where they have none."""
        return self.given_names or self.source_names

    @cached_property
    def class_subset(self) -> tuple[int, ...] | None:
        """The numbers of the classes that training sees; None: all."""
        if self.chosen is None:
            return None
        return class_numbers(self.chosen, self.class_names, "data.class_subset", self.source.name)

    def pack(self, split: str) -> Packed:
        if split not in self._packs and self.given_names and self.source_names not in ((), self.given_names):
            # another folder than the one whose classes were counted numbers its classes differently
            number = {name: i for i, name in enumerate(self.given_names)}
            known = [number.get(name, -1) for name in self.source_names]
            relabelled = torch.tensor([*known, -1])  # the last of label -1
            packed = super().pack(split)
            key = f"{packed.key}-{hashlib.sha256(repr(self.given_names).encode()).hexdigest()[:8]}"
            arrays = packed.arrays | {"labels": relabelled[packed.labels]}
            self._packs[split], self.keys[split] = packed._replace(arrays=arrays, key=key), key
        return super().pack(split)

    @property
    def factors(self) -> dict[str, int] | None:
        """The known factors that examples are drawn from, by the labels' columns: name -> number of values."""
        return getattr(self.source, "factors", None)

    @property
    def attributes(self) -> tuple[str, ...] | None:
        """Names of the labels' columns, where they are binary attributes."""
        return getattr(self.source, "attributes", None)

    def table(self, split: str) -> LabelledTable:
        own, rows = self.divide(split)
        packed = self.pack(own)
        if self.classes and packed.labels.ndim == 1 and (found := int(packed.labels.max()) + 1) > self.classes:
            raise UserError(f"data.classes={self.classes}, but there are {found}: say data.classes={found}")
        if self.class_subset is not None and split != "test":
            rows = torch.arange(len(packed.labels)) if rows is None else rows
            rows = rows[torch.isin(packed.labels[rows], self.known(self.class_subset))]
        return self.make_table(packed, packed.labels, rows)

    def training(self) -> LabelledTable:
        table = self.table("train")
        if self.num_labels is None:
            return table
        y = table.labels.cpu()
        labelled = self.labelled(table.rows, y)
        seen = torch.full_like(y, -1)
        seen[labelled] = y[labelled]
        others = table.rows[~torch.isin(table.rows, labelled)]
        count = max(round(len(others) * self.labelled_share / (1 - self.labelled_share)), len(labelled))
        repeated = labelled[torch.arange(count) % len(labelled)]
        return self.make_table(self.pack(self.divide("train")[0]), seen, torch.cat([others, repeated]))

    def labelled(self, rows: Tensor, y: Tensor) -> Tensor:
        """`num_labels` of the rows, as many of each class, drawn by `label_seed`; y: the class of every example."""
        name = f"data.num_labels={self.num_labels}: data={self.source.name}"
        if y.ndim != 1 or not (y[rows] >= 0).any():
            raise UserError(f"{name} has no class for each of its {self.noun}: leave data.num_labels out")
        found = y[rows][y[rows] >= 0].unique(return_counts=True)
        each, rest = divmod(self.num_labels or 0, len(found[0]))
        if rest or not each:
            raise UserError(f"{name} has {len(found[0])} classes: say a multiple of that")
        if each > (least := int(found[1].min())):
            rare = class_name(int(found[0][found[1].argmin()]), self.class_names)
            raise UserError(f"{name} has {least} training {self.noun} of class {rare}: say fewer labels")
        order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(mix(self.label_seed, 3)))]
        return torch.cat([order[y[order] == c][:each] for c in found[0].tolist()])

    def known(self, classes: tuple[int, ...]) -> Tensor:
        """These classes, if training examples have them."""
        labels = self.pack("train").labels
        found = labels[labels >= 0].unique().tolist() if labels.ndim == 1 else []
        if not found:
            raise UserError(f"data.class_subset: the {self.noun} of data={self.source.name} have no class each")
        if missing := sorted(set(classes) - set(found)):
            names = self.class_names
            name = class_name(missing[0], names)
            if names:
                there = f"training {self.noun} are of {listing([class_name(c, names) for c in found])}"
            else:
                there = f"there are {len(found)}, {found[0]} to {found[-1]}"
            raise UserError(f"data.class_subset: data={self.source.name} has no class {name}: {there}")
        return torch.tensor(classes)

    def training_classes(self) -> Tensor | None:
        """The classes that training examples have, ascending; None where they have no class each."""
        table = self.table("train")
        if table.labels.ndim != 1:
            return None
        found = table.labels.cpu()[table.rows].unique()
        found = found[found >= 0]
        return found if len(found) else None


def _names_a_class(one: Any) -> bool:
    return (type(one) is int and one >= 0) or (isinstance(one, str) and bool(one))
