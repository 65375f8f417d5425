"""What is evaluated, and the passes over it: each made once, and shared by all that is measured.

Rows are worked on in blocks that no number of processes changes; the noise of a block is seeded by its first row. So
the same numbers come out of one process and of several.
"""

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from unlabeled.errors import UserError
from unlabeled.evaluation.features.extractors import Extractor
from unlabeled.evaluation.features.split import Features, pixels
from unlabeled.evaluation.ranks import Ranks
from unlabeled.seeding import mix, seed_noise

T = TypeVar("T")


class Study:
    """A method on its data, as evaluators see them (see `number.Evaluator`)."""

    def __init__(
        self,
        method: Any,  # in evaluation mode, on its device, without gradients
        data: Any,  # prepared: table(split), shape, classes, batch, keys
        split: str = "test",  # what is scored
        seed: int = 0,
        samples: int | None = None,  # images to draw; None: as many as there are held-out real ones, up to 10,000
        codes: int = 100_000,  # rows of a split to encode at most; of more, `seed` draws which
        extractor: Extractor | None = None,  # what image metrics see images through; None: they are left out
        untrained: Callable[[], Any] | None = None,  # the same method before training
        cache: Path | None = None,  # where what depends on the data alone is kept
        ranks: Ranks | None = None,
    ):
        if codes < 1:
            raise UserError(f"evaluation.codes={codes}: say 1 image or more")
        if samples is not None and samples < 1:
            raise UserError(f"evaluation.samples={samples}: say 1 image or more")
        self.method = method
        self.data = data
        self.split = split
        self.seed = seed
        self.samples = samples
        self.codes_limit = codes
        self.extractor = extractor
        self.untrained = untrained
        self.cache = cache
        self.ranks = ranks or Ranks()
        self.sampler = "own"  # where codes are drawn from, in words (sampler.py)
        self.transfer: Study | None = None  # the same method on other data, where its codes are probed too
        self.notes: list[str] = []  # what was left out, and what to do to have it: a line each
        self._once: dict[Any, Any] = {}

    @property
    def is_main(self) -> bool:
        """Whether this process does what is done once: fits, files, words. Every process makes every pass."""
        return self.ranks.is_main

    @property
    def device(self) -> torch.device:
        return self.method.device

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, by number; () where they have no names."""
        return tuple(getattr(self.data, "class_names", ()))

    def once(self, key: Any, work: Callable[[], T]) -> T:
        """What `work` gives, made at the first call under this key."""
        if key not in self._once:
            self._once[key] = work()
        return self._once[key]

    def table(self, split: str) -> Any:
        """A split's rows: len, and `batch(index)` (batches.py)."""
        return self.once(("table", split), lambda: self.data.table(split))

    @property
    def block(self) -> int:
        """Rows that are worked on together: 100 of 64x64 or less, fewer of larger images; a fact of the data alone."""
        area = prod(self.data.shape[1:])  # of points: 1
        return max(1, min(100, 100 * 64**2 // area))

    def blocks(self, n: int, title: str) -> Iterator[Tensor]:
        """This process's blocks of 0..n-1 under a progress bar, torch's noise seeded for each."""
        with tqdm(
            desc=title, total=n, unit="image", leave=False, disable=None if self.is_main else True, dynamic_ncols=True
        ) as bar:
            for block in self.ranks.blocks(n, self.block):
                seed_noise(self.seed, int(block[0]))
                yield block
                bar.update(len(block) * self.ranks.world)

    @torch.no_grad()
    def rows(self, n: int, work: Callable[[Tensor], tuple[Tensor, ...]], title: str) -> tuple[Tensor, ...]:
        """`work`'s tensors, a row for each of 0..n-1, in order, on the CPU; on every process.

        work: index (b,) -> tensors (b, ...). In evaluation mode no row depends on the rest of its block.
        """
        if n == 0:
            raise UserError(f"{title}: the {self.split} split is empty")
        own = [(int(block[0]), tuple(part.cpu() for part in work(block))) for block in self.blocks(n, title)]
        parts = sorted((part for held in self.ranks.gather(own) for part in held), key=lambda part: part[0])
        return tuple(torch.cat(column) for column in zip(*(values for _, values in parts), strict=True))

    def chosen(self, split: str) -> Tensor:
        """The rows of a split that are encoded: all, or `codes` drawn by the seed; ascending."""
        n = len(self.table(split))
        if n <= self.codes_limit:
            return torch.arange(n)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.seed, n)))
        return order[: self.codes_limit].sort().values

    def features(self, encode: Callable[[Tensor], Tensor], split: str, title: str) -> Features:
        """encode: x (B, C, H, W) -> (B, D), of the chosen rows of a split of `Images`, with their labels."""
        table, chosen = self.table(split), self.chosen(split)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            batch = table.batch(chosen[index])
            return encode(batch.x.to(self.device)).flatten(1).float(), batch.y

        h, y = self.rows(len(chosen), work, title)
        if not torch.isfinite(h).all():
            raise UserError("the features of some images are not finite: the checkpoint has diverged, take an earlier")
        return Features(h, y)

    def codes(self, split: str) -> Features:
        """The method's codes of a split (the chosen rows): `encode`'s, encoded once."""
        return self.once(("codes", split), lambda: self.features(self.method.encode, split, f"encoding {split}"))

    def raw(self, split: str) -> Features:
        """The pixels of the same rows."""
        return self.once(("raw", split), lambda: self.features(pixels, split, f"reading {split}"))
