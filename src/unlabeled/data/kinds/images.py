"""Single images: packed as bytes, taken by index, converted to [-1, 1] where they are wanted."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images, from_uint8
from unlabeled.data.labels import listed, name_of, numbers
from unlabeled.data.module import CPU, TableData, tell
from unlabeled.data.store import Packed, Source, pack
from unlabeled.data.summary import left_out, told
from unlabeled.errors import UserError
from unlabeled.seeding import mix


def take(images: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Rows of uint8 images (N, C, H, W) as floats (B, C, H, W) in [-1, 1] on `device`."""
    return from_uint8(images.index_select(0, rows.to(images.device)).to(device))


class ImageTable:
    """Images and their labels."""

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor | None = None, device: torch.device = CPU):
        self.images = images  # (N, C, H, W) uint8
        self.labels = labels.to(device)  # (N,) or (N, A) int64
        self.rows = torch.arange(len(images)) if rows is None else rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Images:
        rows = self.rows.index_select(0, index)
        return Images(take(self.images, rows, self.device), self.labels.index_select(0, rows.to(self.device)))


class PackedData(TableData):
    """What the kinds of images share: packing, and moving to the device."""

    def __init__(
        self,
        source: Source,
        root: str | Path,  # where the original files lie, or go
        shape: tuple[int, int, int],  # (C, H, W)
        batch_size: int,  # per process
        size: int | None = None,  # the side of square images, which the config's `shape` reads
        classes: int | None = None,  # number of classes; None where there are no class labels
        epochs: int | None = None,  # a usual length of training on this data, which budget.epochs reads
        packed: str | Path | None = None,  # where the packed arrays go; default: root/packed
        val: float = 0.1,  # part of train that becomes val, where the source has no val of its own
        test: float = 0.2,  # part that becomes test, where the source has no test of its own
        split_seed: int = 0,  # decides which these are; apart from `seed`, so that seeds share a split
        seed: int = 0,  # decides the order of batches
        augment: Callable[[Any], Any] | None = None,  # batch -> batch, on training batches only
        device_gib: float = 4.0,  # GiB: splits move to the accelerator whole until this is used up
    ):
        super().__init__(source, root, batch_size, classes, packed, split_seed, seed, augment)
        channels, height, width = shape
        self.shape = (channels, height, width)
        self.val, self.test = val, test
        self.device_gib = device_gib
        self._packs: dict[str, Packed] = {}
        self._told = False  # whether what was found has been said
        self._resident: dict[str, Tensor] = {}  # key -> array on the training device

    def prepare_data(self) -> None:
        if self.batch_size < 1 or not (0 <= self.val < 1 and 0 <= self.test < 1):
            raise UserError("data.batch_size must be at least 1, data.val and data.test shares in [0, 1)")
        for split in self.source.splits:
            self.pack(split)
        if not self._told and any(packed.new for packed in self._packs.values()):
            tell(told(self))
        self._told = True

    def pack(self, split: str) -> Packed:
        """A split of the source, packed and memory-mapped."""
        if split not in self._packs:
            self._packs[split] = pack(self.source, self.root, self.packed, split, self.shape)
            self.keys[split] = self._packs[split].key
        return self._packs[split]

    def left_out(self) -> str:
        """Files and folders that are not among the images, and why; "" where all are."""
        return left_out(self)

    def resident(self, packed: Packed) -> Tensor:
        """The images on the training device as long as the budget lasts, else as they are."""
        if packed.key not in self._resident:
            taken = sum(array.nbytes for array in self._resident.values())
            if self.device.type == "cpu" or taken + packed.images.nbytes > self.device_gib * 2**30:
                return packed.images
            self._resident[packed.key] = packed.images.to(self.device)
        return self._resident[packed.key]

    def cut(self, n: int, held_out: float) -> tuple[Tensor, Tensor]:
        """Rows of n, split by `split_seed` into (kept, held out), each in ascending order."""
        order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.split_seed, n)))
        m = max(round(n * held_out), 1 if held_out and n > 1 else 0)
        return order[m:].sort().values, order[:m].sort().values

    def divide(self, split: str, suffix: str = "") -> tuple[str, Tensor | None]:
        """(source split, rows) that make up our split; suffix is "_a" or "_b" where there are two domains."""
        if split not in ("train", "val", "test"):
            raise UserError(f"no split {split!r}: say train, val or test")
        own = f"{split}{suffix}"
        train = f"train{suffix}"
        if split != "train" and own in self.source.splits:
            return own, None
        rows = torch.arange(len(self.pack(train).images))
        if f"test{suffix}" not in self.source.splits:
            kept, held_out = self.cut(len(rows), self.test)
            if split == "test":
                return train, rows[held_out]
            rows = rows[kept]
        if f"val{suffix}" not in self.source.splits:
            kept, held_out = self.cut(len(rows), self.val)
            rows = rows[held_out] if split == "val" else rows[kept]
        return train, rows


class ImageData(PackedData):
    """Single images, with labels that unsupervised methods ignore.

    With `num_labels` training sees the classes of so many images and -1 for all others, and comes across the labelled
    ones so often that they are `labelled_share` of its batches: an epoch is every other image once. Evaluation, on
    training images too, sees every label there is.
    """

    batch = Images

    def __init__(
        self,
        *common: Any,  # see PackedData
        class_names: Sequence[str] | None = None,  # the classes by number; None: as the source calls them, if it does
        class_subset: int
        | str
        | Sequence[int | str]
        | None = None,  # classes whose images train and val keep; test keeps all
        num_labels: int | None = None,  # labels that training sees, as many of each class; None: all there are
        label_seed: int = 0,  # decides which these are
        labelled_share: float = 0.5,  # of the images that training comes across, where `num_labels` is given
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
                f"data.classes={self.classes}, but there are {n} ({listed(self.given_names)}): say data.classes={n}"
            )
        self.wanted = (
            None
            if class_subset is None
            else (class_subset,)
            if isinstance(class_subset, str) or not isinstance(class_subset, Sequence)
            else class_subset
        )
        if self.wanted is not None and (not self.wanted or not all(map(_names_a_class, self.wanted))):
            raise UserError(
                f"data.class_subset={class_subset}: say the name or the number of a class, data.class_subset=0, "
                "or several, data.class_subset=[0,1]"
            )

    def prepare_data(self) -> None:
        told = self._told
        if self.wanted and self.class_names:  # otherwise they may have names when they lie there
            numbers(self.wanted, self.class_names, "data.class_subset", self.source.name)
        super().prepare_data()
        if self.classes is None:
            self.classes = len(self.class_names) or None
        for note in () if told else self.notes():
            tell(note)

    def notes(self) -> Iterator[str]:
        """What may be meant otherwise than it is taken."""
        names = self.class_names
        if unknown := [name for name in self.source_names if name not in names]:
            yield (
                f"data={self.source.name} has classes that are not among data.class_names, and whose images count as "
                f"without a class: {listed(unknown)}"
            )
        for one in self.wanted or ():
            (number,) = numbers([one], names, "data.class_subset", self.source.name)
            if isinstance(one, int) and one != number:
                yield f"data.class_subset={one}: the class named {one}, which has the number {number}"

    @property
    def source_names(self) -> tuple[str, ...]:
        """What the source calls its classes, by its own numbers; () where they have no names."""
        names = getattr(self.source, "class_names", None)
        return tuple(names(self.root)) if names else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, by number; () where they have no names."""
        return self.given_names or self.source_names

    @cached_property
    def class_subset(self) -> tuple[int, ...] | None:
        """The numbers of the classes that training sees; None: all."""
        if self.wanted is None:
            return None
        return numbers(self.wanted, self.class_names, "data.class_subset", self.source.name)

    def pack(self, split: str) -> Packed:
        if split not in self._packs and self.given_names and self.source_names not in ((), self.given_names):
            # another folder than the one whose classes were counted: its numbers are its own
            number = {name: i for i, name in enumerate(self.given_names)}
            numbers = torch.tensor([*(number.get(name, -1) for name in self.source_names), -1])  # the last of label -1
            packed = super().pack(split)
            key = f"{packed.key}-{hashlib.sha256(repr(self.given_names).encode()).hexdigest()[:8]}"
            self._packs[split], self.keys[split] = packed._replace(labels=numbers[packed.labels], key=key), key
        return super().pack(split)

    @property
    def factors(self) -> dict[str, int] | None:
        """Where images are drawn from known factors, the labels' columns: name -> number of values."""
        return getattr(self.source, "factors", None)

    @property
    def attributes(self) -> tuple[str, ...] | None:
        """Where labels are attributes that images have or have not: the columns' names."""
        return getattr(self.source, "attributes", None)

    def table(self, split: str) -> ImageTable:
        own, rows = self.divide(split)
        packed = self.pack(own)
        if self.classes and packed.labels.ndim == 1 and (found := int(packed.labels.max()) + 1) > self.classes:
            raise UserError(f"data.classes={self.classes}, but there are {found}: say data.classes={found}")
        if self.class_subset is not None and split != "test":
            rows = torch.arange(len(packed.labels)) if rows is None else rows
            rows = rows[torch.isin(packed.labels[rows], self.known(self.class_subset))]
        return ImageTable(self.resident(packed), packed.labels, rows, self.device)

    def training(self) -> ImageTable:
        table = self.table("train")
        if self.num_labels is None:
            return table
        y = table.labels.cpu()
        kept = self.labelled(table.rows, y)
        seen = torch.full_like(y, -1)
        seen[kept] = y[kept]
        others = table.rows[~torch.isin(table.rows, kept)]
        often = round(len(others) * self.labelled_share / (1 - self.labelled_share))
        again = kept[torch.arange(max(often, len(kept))) % len(kept)]
        return ImageTable(table.images, seen, torch.cat([others, again]), self.device)

    def labelled(self, rows: Tensor, y: Tensor) -> Tensor:
        """`labels` of the rows, as many of each class, drawn by `label_seed`; y: the class of every image."""
        name = f"data.num_labels={self.num_labels}: data={self.source.name}"
        if y.ndim != 1 or not (y[rows] >= 0).any():
            raise UserError(f"{name} has no class for each image: leave data.num_labels out")
        found = y[rows][y[rows] >= 0].unique(return_counts=True)
        each, rest = divmod(self.num_labels or 0, len(found[0]))
        if rest or not each:
            raise UserError(f"{name} has {len(found[0])} classes: say a multiple of that")
        if each > (least := int(found[1].min())):
            rare = name_of(int(found[0][found[1].argmin()]), self.class_names)
            raise UserError(f"{name} has {least} training images of class {rare}: say fewer labels")
        order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(mix(self.label_seed, 3)))]
        return torch.cat([order[y[order] == c][:each] for c in found[0].tolist()])

    def known(self, classes: tuple[int, ...]) -> Tensor:
        """These classes, if the training images have them."""
        labels = self.pack("train").labels
        found = labels[labels >= 0].unique().tolist() if labels.ndim == 1 else []
        if not found:
            raise UserError(f"data.class_subset: the images of data={self.source.name} have no class each")
        if missing := sorted(set(classes) - set(found)):
            names = self.class_names
            name = name_of(missing[0], names)
            if names:
                there = f"training images are of {listed([name_of(c, names) for c in found])}"
            else:
                there = f"there are {len(found)}, {found[0]} to {found[-1]}"
            raise UserError(f"data.class_subset: data={self.source.name} has no class {name}: {there}")
        return torch.tensor(classes)

    def training_classes(self) -> Tensor | None:
        """The classes that training images have, ascending; None where images have no class each."""
        table = self.table("train")
        if table.labels.ndim != 1:
            return None
        found = table.labels.cpu()[table.rows].unique()
        found = found[found >= 0]
        return found if len(found) else None


def _names_a_class(one: Any) -> bool:
    return (type(one) is int and one >= 0) or (isinstance(one, str) and bool(one))
