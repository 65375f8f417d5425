"""The figures of an evaluation, on the scored split."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor

from unlabeled.batches import from_uint8, to_uint8
from unlabeled.capabilities import Decodes, Encodes, Samples, SamplesPrior, inverts
from unlabeled.evaluation.features.split import Features, pixels
from unlabeled.evaluation.figures.drawing import FigureSet, banded, class_label, distinct, grid, nearest
from unlabeled.evaluation.figures.embedding import embedding, mapped
from unlabeled.evaluation.metrics.anomaly import Ranking, kinds, ranked
from unlabeled.evaluation.stats.latent import direction, is_gaussian, lerp, separation, slerp, traversals
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix, seed_noise

T = TypeVar("T")

DRAWS = 4096  # from the prior, to estimate its mean and spread
SAMPLES = 64  # that are compared with the training images
FAVOURITES = ("Smiling", "Eyeglasses", "Male", "Blond_Hair", "Young", "Bangs")  # attributes shown first
FEWEST = 20  # images with, and without, an attribute, for a mean
SURE = 0.9  # probability of a class, for images to represent it


def draw_figures(study: Study, batch_images: int = 64) -> FigureSet:
    """Every figure that applies. All processes call it, for its passes; the main process draws."""
    method, figures = study.method, FigureSet()
    images = study.kind.single and study.kind.visual

    def passes(work: Callable[[], T], *names: str) -> T | None:
        found, problem = study.ranks.together(work)
        figures.failed |= dict.fromkeys(names, problem) if problem else {}
        return found

    codes = near = odd = None
    if images and isinstance(method, Encodes):
        codes = passes(lambda: study.codes(study.split), "neighbors", "embedding")
    if images and isinstance(method, Samples) and len(study.table(study.split)):
        near = passes(lambda: copies(study), "nearest_training_images")
    if images and kinds(method):
        odd = passes(lambda: ranked(study), "anomalies")
    if not study.is_main:
        return figures
    table = study.table(study.split)
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(mix(study.seed, 11)))
    batch = table.batch(order[:batch_images])
    seed_noise(study.seed)
    batch = type(batch)(*(part.to(study.device) for part in batch))
    figures.add(study.kind.figures(method, batch, study.data))
    if near is not None:
        figures.draw("nearest_training_images", lambda: nearest_training(near))
    if study.nearest is not None:
        bands = {"sample": from_uint8(study.nearest.samples), "nearest": from_uint8(study.nearest.neighbors)}
        figures.draw("nearest_in_features", lambda: banded(bands, side=80))
    if codes is not None:
        figures.draw("neighbors", lambda: neighbors(study, codes))
        figures.draw("embedding", lambda: map_of(study, codes))
    if odd:
        figures.draw("anomalies", lambda: anomalies(study, odd))
    if images and isinstance(method, Decodes):
        figures.add(walks(study, codes))
    if codes is not None and inverts(method):
        figures.add(arithmetic(study, codes))
    elif images and isinstance(method, Decodes) and isinstance(method, SamplesPrior):
        figures.add(arithmetic_of_draws(study))
    return figures


# Nearest images


class Copies(NamedTuple):
    """Samples and the training images nearest to them."""

    samples: Tensor  # (S, C, H, W)
    images: Tensor  # (S, k, C, H, W), nearest first
    ratio: Tensor  # (S, k), Euclidean distance of pixels, divided by the usual one of a held-out image


@torch.no_grad()
def copies(study: Study, k: int = 7) -> Copies:
    """The k nearest training images of every sample. A usual distance is the median over as many held-out images."""
    seed_noise(study.seed, 2)
    samples = from_uint8(to_uint8(study.method.sample(SAMPLES).cpu()))
    train, held_out = study.table("train"), study.table(study.split)
    order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(mix(study.seed, 12)))
    real = held_out.batch(order[:SAMPLES]).x.cpu()
    chosen = study.chosen("train")
    queries = pixels(torch.cat([samples, real])).to(study.device)

    def work(index: Tensor) -> tuple[Tensor, ...]:
        return (torch.cdist(pixels(train.batch(chosen[index]).x.to(study.device)), queries),)

    (distances,) = study.rows(len(chosen), work, "looking for copies")  # (N, Q)
    near = distances.T.topk(min(k, len(chosen)), dim=1, largest=False).indices  # (Q, k)
    images = train.batch(chosen[near.flatten()]).x.cpu()
    exact = pixels(images).unflatten(0, near.shape) - queries.cpu()[:, None]  # cdist is imprecise near 0
    exact, order = exact.norm(dim=2).sort(dim=1, stable=True)
    images = images.unflatten(0, near.shape)[torch.arange(len(near))[:, None], order]
    usual = exact[SAMPLES:, 0].median().clamp(min=1e-6)
    return Copies(samples, images[:SAMPLES], exact[:SAMPLES] / usual)


def nearest_training(found: Copies, each: int = 4) -> Image.Image:
    """Rows: a sample, then the training images nearest to it. First the nearest samples, then others."""
    order = found.ratio[:, 0].argsort(stable=True)
    closest = order[:each]
    rows = torch.cat([closest, order[each:].sort().values[:each]])
    laid = torch.cat([found.samples[:, None], found.images], 1)[rows]
    captions = [text for i in rows.tolist() for text in ("", *(f"{d:.2f}" for d in found.ratio[i].tolist()))]
    labels = [f"{kind} {i + 1}" for kind in ("closest", "any") for i in range(each)]
    heads = ["sample", "nearest", *(f"{i}." for i in range(2, laid.shape[1]))]
    return grid(laid.flatten(0, 1), laid.shape[1], captions, side=80, rows=labels, heads=heads)


def neighbors(study: Study, codes: Features, queries: int = 8, k: int = 9) -> Image.Image:
    """Rows: an image of the scored split, then those whose codes are nearest in angle."""
    found = nearest(codes.h, distinct(codes.y, queries), k)
    images = images_of(study, found.flatten())
    captions = classes(codes.y[found.flatten()], study.class_names)
    return grid(images, found.shape[1], captions, heads=["image", "nearest", *(f"{i}." for i in range(2, k + 1))])


def map_of(study: Study, codes: Features) -> Image.Image:
    images = images_of(study, mapped(len(codes.h), study.seed))
    return embedding(codes, study.data.classes, study.seed, images, study.class_names)


def anomalies(study: Study, rankings: dict[str, Ranking]) -> Image.Image:
    """Rows: the most and the least anomalous images of the scored split, by each kind of score."""
    order = torch.stack([rows for ranking in rankings.values() for rows in (ranking.most, ranking.least)])
    batch = study.table(study.split).batch(order.flatten())
    rows = [f"{which}: {kind}" for kind in rankings for which in ("most", "least")]
    return grid(batch.x, order.shape[1], classes(batch.y, study.class_names), rows=rows)


def classes(y: Tensor, names: Sequence[str]) -> list[str] | None:
    """Captions, if images have a class each."""
    if y.ndim > 1 or not (y >= 0).any():
        return None
    return [class_label(label, names) if label >= 0 else "" for label in y.tolist()]


def images_of(study: Study, rows: Tensor) -> Tensor:
    """The images (n, C, H, W) of rows of the scored split's codes, on the CPU."""
    return study.table(study.split).batch(study.chosen(study.split)[rows]).x.cpu()


def decoded(study: Study, z: Tensor) -> Tensor:
    """Images (N, C, H, W) of codes (N, D), on the CPU."""
    with torch.no_grad():
        return torch.cat([study.method.decode(part.to(study.device)).cpu() for part in z.split(study.block)])


# Walks


def ends_of_walks(study: Study, codes: Features | None, n: int = 10) -> tuple[Tensor, Tensor | None] | None:
    """Codes (n, D) to walk between, and their images; without an encoder, draws from the prior and None."""
    if inverts(study.method):
        if codes is None:  # the pass failed
            return None
        rows = distinct(codes.y, n)
        return (codes.h[rows], images_of(study, rows)) if len(rows) > 1 else None
    if isinstance(study.method, SamplesPrior):
        return study.method.sample_prior(n).cpu().float(), None
    return None


def walks(study: Study, codes: Features | None) -> FigureSet:
    """Interpolations between neighboring ends, and traversals around the first."""
    figures = FigureSet()

    def draw_walks() -> None:
        found = ends_of_walks(study, codes)
        if found is None:
            return
        ends, images = found
        draws = study.method.sample_prior(DRAWS).cpu().float() if isinstance(study.method, SamplesPrior) else None
        known = codes.h if codes is not None and inverts(study.method) else None
        figures.draw("interpolations", lambda: interpolations(study, ends, images, draws))
        figures.draw("traversals", lambda: traversed(study, ends[0], draws, known))

    figures.draw("interpolations", draw_walks)
    return figures


def interpolations(
    study: Study, ends: Tensor, images: Tensor | None, draws: Tensor | None, steps: int = 11
) -> Image.Image:
    """Rows: from one code to another, straight; and along the sphere if the prior is Gaussian."""
    a, b = ends[0 : len(ends) // 2 * 2 : 2], ends[1::2]
    way = torch.linspace(0, 1, steps)
    ways = {"straight": lerp(a, b, way)}
    if draws is not None and is_gaussian(draws):
        centre = draws.mean(0)
        spread = draws.std(0)
        spread = torch.where(spread > 1e-6, spread, 1.0)
        ways["spherical"] = slerp((a - centre) / spread, (b - centre) / spread, way) * spread + centre
    codes = torch.stack(list(ways.values()), 1)  # (P, ways, T, D)
    found = decoded(study, codes.flatten(0, 2)).unflatten(0, codes.shape[:3])
    heads = [f"{t:.0%}" for t in way.tolist()]
    if images is not None:
        left, right = (
            part[:, None, None].expand(-1, len(ways), -1, -1, -1, -1) for part in (images[0::2], images[1::2])
        )
        found = torch.cat([left[: len(a)], found, right[: len(a)]], 2)
        heads = ["image", *heads, "image"]
    return grid(found.flatten(0, 2), found.shape[2], rows=list(ways) * len(a), heads=heads)


def traversed(study: Study, z: Tensor, draws: Tensor | None, known: Tensor | None, count: int = 10) -> Image.Image:
    """Rows: one dimension of an image's code set to -3..3 standard deviations of the prior, else of all codes.

    With an encoder, the dimensions whose codes vary most come first; else those that change images most.
    """
    reference = draws if draws is not None else known
    assert reference is not None
    centre, spread = reference.mean(0), reference.std(0)
    if known is not None:
        varies = known.std(0)
        order = varies.argsort(descending=True)[:count]
        labels = [f"z{d} (sd {varies[d]:.2g})" for d in order.tolist()]
    else:
        every = torch.arange(len(z))
        ends = torch.stack([centre - 3 * spread, centre + 3 * spread], 1)
        low, high = decoded(study, traversals(z, every, ends).flatten(0, 1)).unflatten(0, (-1, 2)).unbind(1)
        moves = (high - low).square().flatten(1).mean(1).sqrt()
        order = moves.argsort(descending=True)[:count]
        labels = [f"z{d}" for d in order.tolist()]
    steps = torch.arange(-3.0, 4.0)
    values = centre[order, None] + spread[order, None] * steps
    found = decoded(study, traversals(z, order, values).flatten(0, 1)).unflatten(0, values.shape)
    own = decoded(study, z[None])[None].expand(len(order), -1, -1, -1, -1)
    heads = ["original", *(f"{step:+.0f} sd" for step in steps.tolist())]
    heads[4] = "0"
    return grid(torch.cat([own, found], 1).flatten(0, 1), 8, side=72, rows=labels, heads=heads)


# Arithmetic


def arithmetic(study: Study, codes: Features) -> FigureSet:
    """Directions of attributes and their sums; of classes, from one to the next."""
    figures = FigureSet()
    if codes.y.ndim == 1:
        figures.draw("class_arithmetic", lambda: between_classes(study, codes))
        return figures
    if getattr(study.data, "factors", None) or not ((codes.y >= -1) & (codes.y <= 1)).all():
        return figures  # values of factors, not attributes that images have or have not
    names = list(getattr(study.data, "attributes", None) or ())
    if len(names) != codes.y.shape[1]:
        names = [f"attribute {i}" for i in range(codes.y.shape[1])]
    figures.draw("attributes", lambda: attributes(study, codes, names))
    figures.draw("attribute_sums", lambda: sums(study, codes, names))
    return figures


def between_classes(study: Study, codes: Features, count: int = 8) -> Image.Image | None:
    """Rows: an image's code, moved by the mean code of another class minus that of its own."""
    found = codes.y[codes.y >= 0].unique()[: count + 1]
    if len(found) < 2:
        return None
    first = torch.stack([(codes.y == c).nonzero()[0, 0] for c in found])[:-1]
    return moved(
        study, images_of(study, first), codes.h[first], *ways_between(codes.h, codes.y, found, study.class_names)
    )


def ways_between(h: Tensor, y: Tensor, found: Tensor, names: Sequence[str] = ()) -> tuple[Tensor, Tensor, list[str]]:
    """Directions (K - 1, D) from each class of `found` to the next; multiples of them; and labels."""
    means = torch.stack([h[y == c].mean(0) for c in found])
    called = [class_label(c, names) if names else str(c) for c in found.tolist()]
    kind = "" if names else "class "
    labels = [f"{kind}{a} to {b}" for a, b in pairwise(called)]
    return means[1:] - means[:-1], torch.arange(0, 1.6, 0.25), labels


def arithmetic_of_draws(study: Study) -> FigureSet:
    figures = FigureSet()
    figures.draw("arithmetic_of_draws", lambda: between_drawn_classes(study))
    return figures


def between_drawn_classes(study: Study, count: int = 8) -> Image.Image | None:
    """The same without an encoder: drawn codes, with the classes that the extractor is sure of in their images.

    Radford et al. 2016, section 6.3.2, https://arxiv.org/abs/1511.06434, where people chose the images.
    """
    extractor = study.extractor
    if extractor is None or not extractor.classes:
        return None
    z = study.method.sample_prior(DRAWS // 4).cpu().float()
    images = decoded(study, z)
    found = [extractor(to_uint8(part.to(study.device)))[1] for part in images.split(study.block)]
    logits = torch.cat([part.float().cpu() for part in found if part is not None])
    sure, y = logits.softmax(1).max(1)
    y[sure < SURE] = -1
    values, often = y[y >= 0].unique(return_counts=True)
    values = values[often >= FEWEST][: count + 1]
    if len(values) < 2:
        return None
    first = torch.stack([(y == c).nonzero()[0, 0] for c in values])[:-1]
    return moved(study, images[first], z[first], *ways_between(z, y, values, study.class_names))


def attributes(
    study: Study, codes: Features, names: Sequence[str], count: int = 6, each: int = 2
) -> Image.Image | None:
    """Rows: an image without an attribute, its code moved towards those that have it."""
    usable = [i for i in range(codes.y.shape[1]) if min((codes.y[:, i] == v).sum() for v in (0, 1)) >= FEWEST]
    usable.sort(key=lambda i: (names[i] not in FAVOURITES, -separation(codes.h, codes.y[:, i])))
    if not usable:
        return None
    rows, ways, labels = [], [], []
    for i in usable[:count]:
        without = (codes.y[:, i] == 0).nonzero()[:each, 0]
        rows.append(without)
        ways.append(direction(codes.h, codes.y[:, i]).expand(len(without), -1))
        labels += [f"+ {names[i].replace('_', ' ').lower()}"] * len(without)
    first = torch.cat(rows)
    strengths = torch.tensor([0, 0.5, 1.0, 1.5, 2.0])
    return moved(study, images_of(study, first), codes.h[first], torch.cat(ways), strengths, labels)


def moved(
    study: Study, images: Tensor, start: Tensor, way: Tensor, strengths: Tensor, labels: list[str]
) -> Image.Image:
    """Rows: an image, then its code (R, D) plus multiples of a direction (R, D)."""
    z = start[:, None] + strengths[:, None] * way[:, None]
    found = decoded(study, z.flatten(0, 1)).unflatten(0, z.shape[:2])
    laid = torch.cat([images[:, None], found], 1)
    heads = ["image", *(f"{s:g}" for s in strengths.tolist())]
    return grid(laid.flatten(0, 1), laid.shape[1], side=72, rows=labels, heads=heads)


def sums(study: Study, codes: Features, names: Sequence[str]) -> Image.Image | None:
    """Radford et al. 2016, figure 7, https://arxiv.org/abs/1511.06434: man with glasses - man + woman.

    Mean codes of three images each, as there.
    """
    if not {"Male", "Eyeglasses"} <= set(names):
        return None
    male, glasses = (codes.y[:, list(names).index(name)] == 1 for name in ("Male", "Eyeglasses"))
    groups = {"man with glasses": male & glasses, "- man": male & ~glasses, "+ woman": ~male & ~glasses}
    if min(int(has.sum()) for has in groups.values()) < 3:
        return None
    rows = torch.stack([has.nonzero()[:3, 0] for has in groups.values()])  # (3, 3)
    with_, man, woman = codes.h[rows].mean(1)
    images = images_of(study, rows.flatten()).unflatten(0, (3, 3)).transpose(0, 1)  # (exemplar, kind, ...)
    blank = torch.ones_like(images[:, :1])
    results = decoded(study, torch.stack([with_, man, woman, with_ - man + woman]))[None]
    laid = torch.cat([torch.cat([images, blank], 1), results]).flatten(0, 1)
    return grid(laid, 4, side=112, rows=["image", "image", "image", "mean code"], heads=[*groups, "="])
