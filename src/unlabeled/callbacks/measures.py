"""Evaluation metrics during training."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

from unlabeled.callbacks.pace import Budget
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback, data_of, is_ending
from unlabeled.errors import UserError
from unlabeled.evaluation.features.extractors import Extractor
from unlabeled.evaluation.metric import Evaluator, Metric
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.study import Study
from unlabeled.files import write_json
from unlabeled.seeding import seed_noise


class Measures(Callback):
    """Runs evaluators on validation examples after every `every` epochs and after the last; never on test examples.

    Recorded as val/NAME without the name's brackets: val/fid for fid[inception]. FOLDER/measures.json holds the latest
    numbers with all facts. Averaged weights are measured where a run keeps them. The noise is the same each time, so
    that measurements compare.
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        folder: str,
        every: int = 5,  # epochs
        samples: int = 2500,  # to draw, for evaluators that sample
        codes: int = 5000,  # examples of a split to encode at most
        extractor: Extractor | str | None = None,  # or a name that `choose` finds one for
        extractor_weights: str | None = None,
    ):
        if every < 1:
            raise UserError(f"callbacks.measures.every={every}: say 1 epoch or more")
        self.evaluators = dict(evaluators)
        self.folder = Path(folder)
        self.every = every
        self.samples, self.codes = samples, codes
        self.extractor, self.extractor_weights = extractor, extractor_weights
        # (name, weights, ranks, notes) -> Extractor or None; set by the program, called by all ranks
        self.choose: Callable[[str, str | None, Ranks, list[str]], Extractor | None] | None = None
        self.notes: list[str] = []  # why there is no extractor
        self.measured = False  # whether the latest validation was measured
        self.epochs = 0  # done at the latest measurement
        self._group: Any = None
        self._printed: set[str] = set()

    def ranks(self, trainer: Trainer) -> Ranks:
        return Ranks(trainer.global_rank, trainer.world_size, self._group)

    def study(self, trainer: Trainer, method: Any) -> Study:
        data = data_of(trainer)
        study = Study(
            method,
            data,
            split="val",
            samples=self.samples,
            codes=self.codes,
            extractor=None if isinstance(self.extractor, str) else self.extractor,
            cache=Path(data.packed) / "evaluation",
            ranks=self.ranks(trainer),
        )
        study.notes += self.notes
        return study

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        """Find the extractor, and raise UserError where nothing could ever be measured."""
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo")
        if self.choose and isinstance(self.extractor, str):
            self.extractor = self.choose(self.extractor, self.extractor_weights, self.ranks(trainer), self.notes)
        study = self.study(trainer, method)
        names = ", ".join(self.evaluators)
        if not len(study.table("val")):
            raise UserError(f"callbacks.measures ({names}) needs validation images: say data.val=0.1")
        if not any(evaluator.applies(study) for evaluator in self.evaluators.values()):
            why = study.notes[-1] if study.notes else f"{type(method).__name__} on these data has none of the numbers"
            raise UserError(f"callbacks.measures: none of its evaluators ({names}) applies: {why}")

    def on_validation_epoch_end(self, trainer: Trainer, method: Any) -> None:
        done = callback(trainer, Budget).done.epochs
        due = done // self.every > self.epochs // self.every or is_ending(trainer)
        self.measured = due and not trainer.sanity_checking
        if self.measured:
            self.epochs = done
            self._measure(trainer, method)

    def _measure(self, trainer: Trainer, method: Any) -> None:
        study = self.study(trainer, method)
        found: list[Metric] = []
        for evaluator in self.evaluators.values():
            if evaluator.applies(study):
                seed_noise(study.seed)
                found += evaluator.measure(study)
        found = study.ranks.gather(found)[0]  # the main rank's
        numbers = dict(zip(short_names([number.name for number in found]), found, strict=True))
        records = callback(trainer, Records)
        records.higher |= {name for name, number in numbers.items() if number.better == "higher"}
        records.add(trainer, method, {name: number.value for name, number in numbers.items()})
        if study.is_main:
            self._write(numbers, study.notes)

    def _write(self, numbers: dict[str, Metric], notes: list[str]) -> None:
        for note in notes:
            if note not in self._printed:
                print(f"note: {note}", file=sys.stderr, flush=True)
        self._printed |= set(notes)
        content = {"epoch": self.epochs, "numbers": {k: asdict(n) for k, n in numbers.items()}, "notes": notes}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "measures.json", content)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]


def short_names(names: list[str]) -> list[str]:
    """fid[inception] -> val/fid; with brackets where two would be equal."""
    bare = [name.partition("[")[0] for name in names]
    return [f"val/{b if bare.count(b) == 1 else name}" for b, name in zip(bare, names, strict=True)]
