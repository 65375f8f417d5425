"""A method on its data, and the passes over it, each made once and shared by all evaluators.

Rows are processed in blocks that do not depend on the number of processes; the noise of a block is seeded by its first
row. So one process and several give the same numbers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from unlabeled.errors import UserError
from unlabeled.evaluation.features.extractors import Extractor
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.kinds import Data, Kind, kind_of
from unlabeled.evaluation.ranks import Ranks
from unlabeled.seeding import mix, seed_noise

if TYPE_CHECKING:
    from unlabeled.evaluation.metrics.comparison import Nearest

T = TypeVar("T")


class Study:
    """What evaluators see, see `metric.Evaluator`."""

    def __init__(
        self,
        method: Any,  # in evaluation mode, on its device, without gradients
        data: Data,  # prepared
        split: str = "test",  # what is scored
        seed: int = 0,
        samples: int | None = None,  # examples to draw; None: as many as there are held-out real ones, up to 10,000
        codes: int = 100_000,  # rows of a split to encode at most, drawn by the seed
        extractor: Extractor | None = None,  # of the features that image metrics compare; None: they are left out
        untrained: Callable[[], Any] | None = None,  # the same method before training
        cache: Path | None = None,  # folder of results that depend only on the data
        ranks: Ranks | None = None,
    ):
        if codes < 1:
            raise UserError(f"evaluation.codes={codes}: say 1 or more")
        if samples is not None and samples < 1:
            raise UserError(f"evaluation.samples={samples}: say 1 or more")
        self.method = method
        self.data = data
        self.kind: Kind = kind_of(data.batch)
        self.split = split
        self.seed = seed
        self.samples = samples
        self.codes_limit = codes
        self.extractor = extractor
        self.untrained = untrained
        self.cache = cache
        self.ranks = ranks or Ranks()
        self.sampler = "own"  # the distribution that codes are drawn from, in words (sampler.py)
        self.transfer: Study | None = None  # the same method on other data, where its codes are probed too
        self.nearest: Nearest | None = None  # found by metrics.comparison, for the figure
        self.notes: list[str] = []  # a line for each result that was left out, and how to get it
        self._once: dict[Any, Any] = {}

    @property
    def is_main(self) -> bool:
        """Whether this process fits, writes and prints. Every process takes part in every pass."""
        return self.ranks.is_main

    @property
    def device(self) -> torch.device:
        return self.method.device

    @property
    def classes(self) -> int:
        """The number of classes; 0 where there are none."""
        return self.data.classes or 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by number; () where they have none."""
        return tuple(getattr(self.data, "class_names", ()))

    def once(self, key: Any, work: Callable[[], T]) -> T:
        """The result of `work`, computed at the first call with this key."""
        if key not in self._once:
            self._once[key] = work()
        return self._once[key]

    def table(self, split: str) -> Any:
        """A split's rows: len, and `batch(index)` (batches.py)."""
        return self.once(("table", split), lambda: self.data.table(split))

    @property
    def block(self) -> int:
        """Rows that are processed together: 100 of 64x64 positions or less, fewer of larger examples."""
        return max(1, min(100, 100 * 64**2 // self.kind.positions(self.data.shape)))

    def blocks(self, n: int, title: str) -> Iterator[Tensor]:
        """This process's blocks of 0..n-1 under a progress bar, torch's noise seeded for each."""
        with tqdm(
            desc=title,
            total=n,
            unit=self.kind.noun,
            leave=False,
            disable=None if self.is_main else True,
            dynamic_ncols=True,
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
        """encode: x (B, ...) -> (B, D). Of the chosen rows of a split of single examples, with their labels."""
        table, chosen = self.table(split), self.chosen(split)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            batch = table.batch(chosen[index])
            return encode(batch.x.to(self.device)).flatten(1).float(), batch.y

        h, y = self.rows(len(chosen), work, title)
        if not torch.isfinite(h).all():
            raise UserError(
                f"the features of some {self.kind.noun}s are not finite: the checkpoint has diverged, take an earlier"
            )
        return Features(h, y)

    def codes(self, split: str) -> Features:
        """The method's codes of the chosen rows of a split, encoded once."""
        return self.once(("codes", split), lambda: self.features(self.method.encode, split, f"encoding {split}"))

    def raw(self, split: str) -> Features:
        """The kind's raw features of the same rows."""
        raw = self.kind.raw
        assert raw is not None  # asked by evaluators of kinds that have them
        return self.once(("raw", split), lambda: self.features(raw, split, f"reading {split}"))
