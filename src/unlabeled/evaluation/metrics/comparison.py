"""Generated images against real ones: every metric of two sets of features, each with its floor."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.evaluation.features.extraction import Extraction, Stream, extraction, quantised, subset
from unlabeled.evaluation.metric import Metric
from unlabeled.evaluation.stats.moments import SPLITS, ClassSums, Moments, frechet
from unlabeled.evaluation.stats.neighbors import (
    BALL,
    MANIFOLD,
    SUBSET,
    SUBSETS,
    FeatureSet,
    between,
    kernel_distance,
    nearer,
    search,
    subsets,
    within,
)
from unlabeled.evaluation.study import Study

COMPARED = 10_000  # features of each set that distances are taken between
SEARCHED = 60_000  # images of the reference among which the nearest of a sample is looked for

PAIRWISE = ("kid", "precision", "recall", "density", "coverage", "memorization")
METRICS = ("fid", "inception_score", *PAIRWISE)
LOWER = ("fid", "kid")


class Nearest(NamedTuple):
    """The first samples, and the image of the reference nearest to each in features."""

    samples: Tensor  # (n, C, H, W) uint8
    neighbors: Tensor  # (n, C, H, W) uint8
    rows: Tensor  # (n,) their numbers in the reference
    distance: Tensor  # (n,)


class Comparison(NamedTuple):
    """One set of images against the reference."""

    values: dict[str, float]  # metric -> value
    facts: dict[str, dict[str, Any]]  # metric -> how it was measured
    distance: Tensor  # (m,) squared, of each compared image to the nearest of the reference
    nearest: Tensor  # (m,) the number of that


def compare(
    study: Study,
    generated: Stream,
    reference: Stream,  # real images
    floor: Stream | None = None,  # real images that the reference does not hold; None: a part of it against the rest
    prefix: str = "",  # of the names
    metrics: Sequence[str] | None = None,  # of METRICS; None: all that there can be
    unchanged: Stream | None = None,  # the inputs of the generated images: then the baseline, instead of the floor
) -> list[Metric]:
    """Every metric of the generated images, with that of real ones as a floor. Each stream is extracted once.

    fid, inception_score: see stats/moments.py; kid, precision, recall, density, coverage: see stats/neighbors.py.
    memorization: % of all pairs of a sample and an unseen image (of `floor`) in which the sample is nearer to its
    nearest image of the reference: 50 if samples are as near as unseen images are, 100 for copies. After
    Meehan et al. 2020, https://arxiv.org/abs/2004.05675, section 3.1.
    """
    if floor is not None and floor.n < 2:
        floor = None
    extractor = study.extractor
    assert extractor is not None
    chosen = list(METRICS if metrics is None else metrics)
    if "inception_score" in chosen and not extractor.classes:
        if metrics is not None:
            raise UserError(
                f"inception_score needs the logits of a classifier, and {extractor.name} has none: take another "
                "evaluation.extractor, or leave it out of the metrics"
            )
        chosen.remove("inception_score")
        study.notes.append(f"no inception_score: {extractor.name} gives no logits; an extractor that classifies does")
    real = extraction(study, reference, SEARCHED if "memorization" in chosen else COMPARED)
    streams = {"generated": generated, "floor": floor, "unchanged": unchanged}
    seen = {role: extraction(study, stream, COMPARED) for role, stream in streams.items() if stream is not None}
    if real is None:
        return []  # only the main process has something to compare
    found = judge(study, {role: other for role, other in seen.items() if other is not None}, real, chosen)
    ours, floor_facts = found["generated"], dict[str, Any]()
    if floor is not None:
        floor_facts = {"floor_images": floor.n, "floor_of": floor.name}
    elif real.n >= 4:
        part, rest = parted(study.seed, real, generated.n)
        found["floor"] = judge(study, {"floor": part}, rest, chosen)["floor"]
        floor_facts = {"floor_images": part.n, "floor_of": f"a part of {reference.name} against the rest"}
    if "memorization" in chosen:
        if floor is not None:
            ours.values["memorization"] = nearer(ours.distance, found["floor"].distance)
            ours.facts["memorization"]["unseen_images"] = len(found["floor"].distance)
        samples = seen["generated"].first  # type: ignore[union-attr]
        rows = ours.nearest[: len(samples)]
        neighbors = quantised(reference.images(rows), reference.name, 0).cpu()
        study.nearest = Nearest(samples, neighbors, rows, ours.distance[: len(samples)].sqrt())

    shared = {
        "split": study.split,
        "images": generated.n,
        "generated": generated.name,
        "reference": reference.name,
        "real_images": reference.n,
        "data": getattr(getattr(study.data, "source", None), "name", None),
        "data_keys": dict(getattr(study.data, "keys", None) or {}),
        "extractor": {"name": extractor.name, "digest": extractor.digest, "features": extractor.dim, **extractor.facts},
        "levels": "rounded to uint8",
        "seed": study.seed,
    }
    numbers = []
    for name in chosen:
        if name not in ours.values:
            continue
        beside: dict[str, Any] = {}
        if name == "memorization":
            beside = {"baseline": "unseen images", "baseline_value": 50.0}
        elif "floor" in found and name in found["floor"].values:
            value = found["floor"].values[name]
            n = floor_facts["floor_images"]
            real_ones = "real images" if n == generated.n else f"{n:,} real images"
            beside = {"floor": value, "baseline": real_ones, "baseline_value": value} | floor_facts
        if unchanged is not None:
            beside |= {"baseline": "left as it is", "baseline_value": found["unchanged"].values[name]}
        better: Literal["lower", "higher"] | None = "lower" if name in LOWER else "higher"
        if name == "memorization":
            better = None  # 50 is what unseen images have
        unit = "%" if name == "memorization" else ""
        label = f"{prefix}{name}[{extractor.name}]"
        numbers.append(Metric(label, ours.values[name], unit, better, shared | ours.facts.get(name, {}) | beside))
    if "inception_score" in chosen and "inception_score" not in ours.values:
        study.notes.append(
            f"no {prefix}inception_score[{extractor.name}]: it is a mean over {SPLITS} splits, and of a split with one "
            f"image it is 1; take {2 * SPLITS} images or more, not {generated.n}"
        )
    if "fid" in chosen:
        for what, n in (("generated", generated.n), ("real", reference.n)):
            if n <= extractor.dim:
                study.notes.append(
                    f"{prefix}fid[{extractor.name}] is unreliable: {n} {what} images are few for a covariance of "
                    f"{extractor.dim} features; take more images, or an extractor with fewer features"
                )
    return numbers


def judge(
    study: Study, others: dict[str, Extraction], real: Extraction, metrics: Sequence[str]
) -> dict[str, Comparison]:
    """Each role's images against the real ones, whose own statistics are computed once."""
    nothing = torch.zeros(0)
    found = {role: Comparison({}, {}, nothing, nothing) for role in others}
    for role, other in others.items():
        if "fid" in metrics:
            found[role].values["fid"] = frechet(other.moments, real.moments)
        if "inception_score" in metrics:
            classes = other.classes
            assert classes is not None
            if classes.meaningful:
                found[role].values["inception_score"], spread = classes.score()
                found[role].facts["inception_score"] = {"splits": classes.splits, "spread": spread}
    if not set(metrics) & set(PAIRWISE):
        return found

    device = study.device if study.device.type == "cuda" else torch.device("cpu")
    compared = torch.ones(len(real.rows), dtype=torch.bool)
    if len(real.rows) > COMPARED:
        compared = torch.isin(real.rows, subset(study.seed, real.n, COMPARED))
    centre = real.h[compared].double().mean(0)
    y = FeatureSet(real.h[compared], centre, device)
    members = {role: subsets(len(other.h), len(y)) for role, other in others.items()}
    own_y = within(y, torch.cat([of_y for _, of_y in members.values()], 1))
    for (role, other), kernel_y in zip(others.items(), own_y.kernel.split(SUBSETS), strict=True):
        x = FeatureSet(other.h, centre, device)
        own_x = within(x, members[role][0])
        cross = between(x, y, own_x, own_y, members[role])
        size = min(SUBSET, len(x), len(y))
        kid, spread = kernel_distance(own_x.kernel, kernel_y, cross.kernel, size)
        distance, nearest = search(
            x, real.h[~compared], centre, cross.distance, real.rows[compared][cross.nearest], real.rows[~compared]
        )
        values, facts = found[role].values, found[role].facts
        counts = {"compared": len(x), "compared_real": len(y)}
        values["kid"] = kid
        facts["kid"] = counts | {"subsets": SUBSETS, "subset_size": size, "spread": spread}
        # n: of the set whose balls are used; recall alone uses those of x
        for name, k, n in (
            ("precision", MANIFOLD, len(y)), ("recall", MANIFOLD, len(x)), ("density", BALL, len(y)),
            ("coverage", BALL, len(y)),
        ):  # fmt: skip
            values[name] = getattr(cross, name)
            facts[name] = counts | {"k": min(k, n - 1)}
        facts["memorization"] = {"compared": len(x), "searched": len(real.rows)}
        found[role] = Comparison(values, facts, distance, nearest)
    return found


def parted(seed: int, real: Extraction, n: int) -> tuple[Extraction, Extraction]:
    """Real images in two parts: n of them, at most half of those whose features are kept, and the rest."""
    count = min(n, COMPARED, len(real.rows) // 2)
    held = torch.zeros(len(real.rows), dtype=torch.bool).index_fill_(0, subset(seed, len(real.rows), count), True)
    others = (~held).nonzero()[:, 0]
    others = others[subset(seed, len(others), COMPARED)]
    some, classes, logits = Moments(real.h.shape[1]), None, None
    some.update(real.h[held])
    if real.logits is not None:
        logits = real.logits[held]
        classes = ClassSums(count, logits.shape[1])
        classes.update(torch.arange(count), logits)
    none = real.first[:0]
    part = Extraction(count, some, classes, real.rows[held], real.h[held], logits, none)
    rest = Extraction(
        real.n - count, real.moments.without(some), None, real.rows[others], real.h[others], None, none
    )  # its classes are not used
    return part, rest
