"""Features of many images, extracted once in bounded memory and cached on disk where they depend only on the data."""

import hashlib
import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unlabeled.batches import to_uint8
from unlabeled.errors import UserError
from unlabeled.evaluation.stats.moments import ClassSums, Moments
from unlabeled.evaluation.study import Study
from unlabeled.files import atomic
from unlabeled.seeding import mix

LAYOUT = 2  # increase it when the content of an extraction changes
FIRST = 16  # images that are kept as pixels


class Stream(NamedTuple):
    """Images for the extractor. In one study, equal names and counts mean equal images."""

    name: str
    n: int
    images: Callable[[Tensor], Tensor]  # index (b,) of 0..n-1 -> (b, C, H, W), floats in [-1, 1] or uint8 levels
    key: str | None = None  # of the content: equal keys, equal images. None: not cached on disk


class Extraction(NamedTuple):
    """The result of a stream."""

    n: int
    moments: Moments  # of all images
    classes: ClassSums | None  # of all images, if the extractor classifies
    rows: Tensor  # (m,) ascending: the images whose features are kept
    h: Tensor  # (m, D) float32, of these images
    logits: Tensor | None  # (m, K) float32, of these images, if the extractor classifies
    first: Tensor  # (at most 16, C, H, W) uint8, the first of these images


def subset(seed: int, n: int, limit: int) -> Tensor:
    """`limit` of 0..n-1, ascending. For equal seeds and n, a smaller subset is part of a larger one."""
    if n <= limit:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, n)))[:limit].sort().values


def extraction(study: Study, stream: Stream, keep: int) -> Extraction | None:
    """Features of the stream by `study.extractor`, at most `keep` rows of them; None except on the main process.

    All processes call this together.
    """
    return study.once(("extraction", stream.name, stream.n, keep), lambda: _kept(study, stream, keep))


def _kept(study: Study, stream: Stream, keep: int) -> Extraction | None:
    if stream.n < 2:
        raise UserError(f"{stream.name}: {stream.n} image(s), and a distribution needs at least 2")
    if study.cache is None or stream.key is None:
        return _seen(study, stream, keep)
    extractor = study.extractor
    assert extractor is not None
    depends = [LAYOUT, stream.key, stream.n, keep, study.seed, "uint8", "float32", version("torch")]
    depends += [extractor.name, extractor.digest, extractor.dim, extractor.classes, extractor.facts]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:16]
    file = Path(study.cache) / f"{re.sub(r'[^a-z0-9]+', '-', stream.name.lower())}-{digest}.pt"
    found = _read(file) if study.is_main else None
    if study.ranks.gather(found is not None)[0]:  # the main process decides: only it reads the file
        return found
    made = _seen(study, stream, keep)
    if made is not None:
        _write(file, made, study.notes)
    return made


@torch.no_grad()
def _seen(study: Study, stream: Stream, keep: int) -> Extraction | None:
    extractor, n = study.extractor, stream.n
    assert extractor is not None
    rows = subset(study.seed, n, keep)
    kept = torch.zeros(n, dtype=torch.bool).index_fill_(0, rows, True)
    last = int(rows[:FIRST][-1])
    moments = Moments(extractor.dim)
    classes = ClassSums(n, extractor.classes) if extractor.classes else None
    held: list[tuple[Tensor, ...]] = []  # of each block: rows, features, first images, logits
    for index in study.blocks(n, f"{stream.name} through {extractor.name}"):
        x = stream.images(index)
        if not moments.n:
            extractor.check(tuple(x.shape[1:]))
        levels = quantised(x, stream.name, int(index[0]))
        h, logits = extractor(levels)
        if not torch.isfinite(h).all():
            raise UserError(f"{stream.name}: {extractor.name} gives features that are not finite: check its weights")
        moments.update(h)
        if classes is not None:
            assert logits is not None
            classes.update(index, logits)
        chosen = kept[index]
        shown = index[chosen] <= last
        where = chosen.to(h.device)
        block = (index[chosen], h[where].float().cpu(), levels[chosen.to(levels.device)].cpu()[shown])
        held.append(block if logits is None else (*block, logits[where].float().cpu()))
    own = (moments.to("cpu"), classes, held)
    del held
    parts = study.ranks.gather(own)
    if not study.is_main:
        return None
    for other, other_classes, _ in parts[1:]:
        moments.merge(other)
        if classes is not None:
            classes.merge(other_classes)
    blocks = sorted(
        (block for *_, held in parts for block in held if len(block[0])), key=lambda block: int(block[0][0])
    )
    h, first, *more = (torch.cat(each) for each in list(zip(*blocks, strict=True))[1:])
    return Extraction(n, moments, classes, rows, h, more[0] if more else None, first)


def quantised(x: Tensor, name: str, start: int) -> Tensor:
    """uint8 levels of images. `start`: number of the first, for the error if their values are no levels."""
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise UserError(f"{name}: images are {x.dtype}; give floats in [-1, 1] or uint8 levels")
    flat = x.flatten(1)
    wrong = ~torch.isfinite(flat).all(1)
    if wrong.any():
        i = start + int(wrong.nonzero()[0])
        raise UserError(
            f"{name}: {int(wrong.sum())} of {len(x)} images hold values that are not finite, the first is image {i}: "
            "the checkpoint has diverged, take an earlier"
        )
    outside = (flat.abs() > 1 + 1 / 127.5).double().mean(1)  # by more than one grey level
    if outside.mean() > 0.01:
        i = int(outside.argmax())
        low, high = float(flat[i].min()), float(flat[i].max())
        raise UserError(
            f"{name}: {float(outside.mean()):.0%} of the values lie outside [-1, 1] (image {start + i}: {low:.3g} to "
            f"{high:.3g}): scale the images, 0 is middle grey"
        )
    return to_uint8(x)


def _read(file: Path) -> Extraction | None:
    """The file's content; None if it is missing or damaged."""
    try:
        held = torch.load(file, weights_only=True)
        moments = Moments(0)
        moments.n, moments.total, moments.outer = held["n"], held["total"], held["outer"]
        classes = None
        if "p" in held:
            classes = ClassSums(held["n"], held["p"].shape[1])
            classes.p, classes.entropy = held["p"], held["entropy"]
        return Extraction(held["n"], moments, classes, held["rows"], held["h"], held.get("logits"), held["first"])
    except Exception:  # damaged files raise many kinds of error
        return None


def _write(file: Path, made: Extraction, notes: list[str]) -> None:
    held = {
        "n": made.n,
        "total": made.moments.total,
        "outer": made.moments.outer,
        "rows": made.rows,
        "h": made.h,
        "first": made.first,
    }
    if made.classes is not None:
        held |= {"p": made.classes.p, "entropy": made.classes.entropy, "logits": made.logits}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file, shared=True) as out:
            torch.save(held, out)
    except (OSError, RuntimeError) as error:  # torch raises the latter on a full disk
        notes.append(f"{file.parent} cannot cache the features of {made.n} images: {error}")
