"""Distances of the distributions of generated and real images."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.capabilities import Reconstructs, Samples, Translates, TranslatesBack
from unlabeled.errors import UserError, suggest
from unlabeled.evaluation.features.extraction import Stream, subset
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.metrics.comparison import METRICS, compare
from unlabeled.evaluation.study import Study

LIMIT = 10_000  # images that are drawn by default
CLOSENESS = ("fid", "kid", "precision", "recall", "density", "coverage")  # of a translation


class Distribution:
    """The metrics of `compare` for samples, reconstructions and translations.

    Samples and translations are compared with the images of `reference`, translations with those of their domain. For
    `reconstruction_fid`, the field's rFID, reconstructions are compared with their own inputs.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "fid": Headline(10, "Fréchet distance of {generated} to {reference}"),
        "translation_fid": Headline(120, "Fréchet distance of {generated} to {reference}"),
        "precision": Headline(170, "samples that lie among real images"),
        "recall": Headline(180, "real images that lie among samples"),
    }

    def __init__(self, metrics: Sequence[str] | None = None, reference: str = "train"):
        for name in metrics or ():
            if name not in METRICS:
                raise UserError(f"evaluation.evaluators.distribution.metrics: {name}: {suggest(name, METRICS)}")
        self.metrics, self.reference = metrics, reference

    def applies(self, study: Study) -> bool:
        if study.extractor is None or not study.kind.visual:
            return False
        return isinstance(study.method, Samples | Reconstructs if study.kind.single else Translates)

    def measure(self, study: Study) -> list[Metric]:
        method, split, reference = study.method, study.split, self.reference
        numbers: list[Metric] = []
        if study.kind.single:
            n = min(images(study, split).n, LIMIT) if study.samples is None else study.samples
            if isinstance(method, Samples):
                real, floor = images(study, reference), self.floor(study, n)
                found = measured(study, drawn(study, n), real, floor, metrics=self.metrics)
                numbers += [replace(number, facts=number.facts | {"sampler": study.sampler}) for number in found]
            if isinstance(method, Reconstructs) and "fid" in (self.metrics or METRICS):
                real = images(study, split, n=n)
                floor = self.floor(study, real.n, reference)
                given = changed(study, real, "reconstructions", method.reconstruct)
                numbers += measured(study, given, real, floor, "reconstruction_", ("fid",))
        else:
            limit = LIMIT if study.samples is None else study.samples
            chosen = [name for name in CLOSENESS if name in (self.metrics or METRICS)]
            ways = [("translation_", "a", "b", method.translate)]
            if isinstance(method, TranslatesBack):
                ways.append(("translation_back_", "b", "a", method.translate_back))
            for prefix, start, end, translate in ways:
                source = images(study, split, start, limit)
                given = changed(study, source, "translations", translate)
                real, floor = images(study, reference, end), self.floor(study, source.n, domain=end)
                numbers += measured(study, given, real, floor, prefix, chosen, unchanged=source)
        return numbers

    def floor(self, study: Study, n: int, split: str | None = None, domain: str = "x") -> Stream | None:
        """As many real images that are not in the reference."""
        return None if study.split == self.reference else images(study, split or study.split, domain, n)


def measured(
    study: Study,
    generated: Stream,
    reference: Stream,
    floor: Stream | None,
    prefix: str = "",
    *metrics: Any,
    **more: Any,
) -> list[Metric]:
    """`compare`, or a note if there are too few images."""
    few = next((stream for stream in (generated, reference) if stream.n < 2), None)
    if few is None:
        return compare(study, generated, reference, floor, prefix, *metrics, **more)
    study.notes.append(
        f"no {prefix}fid or similar: a distribution needs two images at least, and {few.name} has {few.n}"
    )
    return []


class Folders:
    """The images of a folder against the study's split."""

    headlines: ClassVar[dict[str, Headline]] = Distribution.headlines

    def __init__(self, table: Any, metrics: Sequence[str] | None = None):
        self.table, self.metrics = table, metrics  # table: len, and `batch(index)` of `Images`

    def applies(self, study: Study) -> bool:
        return study.extractor is not None

    def measure(self, study: Study) -> list[Metric]:
        samples = Stream("samples", len(self.table), lambda index: self.table.batch(index).x)
        return compare(study, samples, images(study, study.split), metrics=self.metrics)


def images(study: Study, split: str, domain: str = "x", n: int | None = None) -> Stream:
    """Real images of a split: all, or n of them drawn by the seed. domain: the batch's field.

    If a method was trained on some classes only, the images of these classes.
    """
    table = study.table(split)
    rows = getattr(table, f"rows_{domain}", getattr(table, "rows", None))
    count = len(table) if rows is None else len(rows)
    wanted = torch.arange(count)
    only = getattr(study.data, "class_subset", None)
    if only:
        wanted = torch.isin(table.labels.cpu()[table.rows], torch.tensor(only)).nonzero()[:, 0]
    chosen = wanted[subset(study.seed, len(wanted), len(wanted) if n is None else n)]
    keys = getattr(study.data, "keys", None)
    key = None
    if keys and rows is not None:
        content = hashlib.sha256(rows[chosen].numpy().tobytes()).hexdigest()
        key = f"{sorted(keys.items())} {split} {domain} {tuple(study.data.shape)} {content}"
    name = split if domain == "x" else f"{split} {domain}"
    return Stream(name, len(chosen), lambda index: getattr(table.batch(chosen[index]), domain), key)


def drawn(study: Study, n: int) -> Stream:
    """Samples; whole blocks are drawn and cut, so that the first ones do not depend on n."""
    return Stream("samples", n, lambda index: study.method.sample(study.block)[: len(index)])


def changed(study: Study, source: Stream, what: str, work: Callable[[Tensor], Tensor]) -> Stream:
    """The outputs of a method for each image."""
    return Stream(f"{what} of {source.name}", source.n, lambda index: work(source.images(index).to(study.device)))
