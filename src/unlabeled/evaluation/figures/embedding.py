"""A map of codes in the plane."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.stats.fits import quiet
from unlabeled.seeding import mix

MOST = 2000  # points: t-SNE takes about ten seconds for them
FEWEST = 11  # points of a t-SNE
LEGEND = 20  # classes in a legend, at most


def mapped(n: int, seed: int) -> Tensor:
    """The rows of n codes that are shown: at most 2,000, drawn by the seed."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, 4)))[:MOST]


def embedding(
    features: Features,
    classes: int | None,
    seed: int,
    images: Tensor | None = None,  # (n, C, H, W), of the `mapped` rows, for the plane of pixels
    names: Sequence[str] = (),  # of the classes, by number
) -> Image.Image:
    """Codes by their two principal components and by t-SNE, coloured by class; of one or two dimensions, as they are.

    For comparison the PCA of the pixels; for codes of one or two dimensions also their t-SNE (van der Maaten & Hinton
    2008, https://jmlr.org/papers/v9/vandermaaten08a.html). Raises UserError if there is nothing to map.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = mapped(len(features.h), seed)
    h = features.h[rows].double().numpy()
    panels = planes(h, mix(seed, 5) % 2**32)
    if images is not None:
        x = images.flatten(1).double().numpy()
        panels |= pixel_plane(x, mix(seed, 5) % 2**32)
        if h.shape[1] < 3:  # they are compared with the t-SNE of the pixels
            panels |= pixel_tsne(x, mix(seed, 5) % 2**32)
    colours = np.full((len(h), 3), 0.6)
    handles = []
    if classes and features.y.ndim == 1:
        y = features.y[rows].numpy()
        name = "tab10" if classes <= 10 else "tab20" if classes <= 20 else "gist_rainbow"
        shades = colormaps[name](np.arange(classes) if classes <= 20 else np.linspace(0, 1, classes))[:, :3]
        colours[y >= 0] = shades[y[y >= 0]]
        labels = [names[c] if c < len(names) else str(c) for c in range(classes)]
        handles = [
            Line2D([], [], marker="o", linestyle="", color=shade, label=label)
            for shade, label in zip(shades, labels, strict=True)
        ]
    figure = Figure(figsize=(5.4 * len(panels), 5.2), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axis, (title, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axis.scatter(*points.T, s=7, c=colours, linewidths=0)
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=7)
    if 0 < len(handles) <= LEGEND:
        figure.legend(handles=handles, loc="outside right center", frameon=False, title="class")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())


def planes(h: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Codes (n, D) as points (n, 2): title -> points."""
    from sklearn.decomposition import PCA

    if len(h) < 2:
        raise UserError(f"a map needs two codes at least, not {len(h)}")
    if not np.isfinite(h).all():
        raise UserError("some codes are not finite numbers")
    if (h == h[0]).all():
        raise UserError(f"all {len(h)} codes are equal: they have collapsed")
    if h.shape[1] == 1:
        return {"the codes' one dimension, twice": h.repeat(2, 1)}
    if h.shape[1] == 2:
        return {"the codes": h}
    with quiet():
        pca = PCA(min(50, *h.shape), svd_solver="full").fit(h)
        components = pca.transform(h)  # t-SNE uses the first 50
        share = pca.explained_variance_ratio_[:2].sum()
        found = {f"first two principal components, {share:.0%} of the variance": components[:, :2]}
        if len(h) >= FEWEST:
            found["t-SNE"] = tsne(components, seed)
    return found


def pixel_plane(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Images (n, D) as points (n, 2): a baseline for codes of two numbers."""
    from sklearn.decomposition import PCA

    if min(x.shape) < 2 or not x.std(0).any():
        return {}
    with quiet():
        # randomised: the first two alone, in a second also of large images
        pca = PCA(2, svd_solver="randomized", random_state=seed)
        points = pca.fit_transform(x)
    return {f"PCA of the pixels, {pca.explained_variance_ratio_.sum():.0%} of the variance": points}


def pixel_tsne(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The same by t-SNE of the first 50 components."""
    from sklearn.decomposition import PCA

    if min(x.shape) < 2 or len(x) < FEWEST or not x.std(0).any():
        return {}
    with quiet():
        components = PCA(min(50, *x.shape), svd_solver="randomized", random_state=seed).fit_transform(x)
        return {"t-SNE of the pixels": tsne(components, seed)}


def tsne(components: np.ndarray, seed: int) -> np.ndarray:
    """Principal components (n, D) as points (n, 2)."""
    from sklearn.manifold import TSNE

    # scale does not change the map, but its float32 sums fail for very large or small values
    scaled = components / components[:, 0].std()
    return TSNE(init="pca", perplexity=min(30, (len(scaled) - 1) / 3), random_state=seed).fit_transform(scaled)
