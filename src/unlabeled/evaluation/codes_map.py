"""A map of codes in the plane."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlabeled.evaluation.features import Features
from unlabeled.seeding import mix

MOST = 2000  # points: t-SNE takes some ten seconds for as many
LEGEND = 20  # classes at most that a legend names


def mapped(n: int, seed: int) -> Tensor:
    """Which of n codes are shown: at most 2,000, drawn by the seed."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, 4)))[:MOST]


def codes_map(
    features: Features,
    classes: int | None,
    seed: int,
    images: Tensor | None = None,  # (n, C, H, W), of the `mapped` rows; their plane is shown beside
) -> Image.Image:
    """Codes by their two principal components and by t-SNE, coloured by class; of two dimensions, as they are.

    Beside them what PCA makes of the pixels. van der Maaten & Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = mapped(len(features.h), seed)
    h = features.h[rows].double().numpy()
    panels = planes(h, mix(seed, 5) % 2**32)
    if images is not None:
        panels |= pixel_plane(images.flatten(1).double().numpy(), mix(seed, 5) % 2**32)
    colours = np.full((len(h), 3), 0.6)
    handles = []
    if classes and features.y.ndim == 1:
        y = features.y[rows].numpy()
        name = "tab10" if classes <= 10 else "tab20" if classes <= 20 else "gist_rainbow"
        shades = colormaps[name](np.arange(classes) if classes <= 20 else np.linspace(0, 1, classes))[:, :3]
        colours[y >= 0] = shades[y[y >= 0]]
        handles = [Line2D([], [], marker="o", linestyle="", color=shades[c], label=str(c)) for c in range(classes)]
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
    """Codes (n, D) as points (n, 2), by what the plane is."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if h.shape[1] == 1:
        return {"the codes' one dimension, twice": h.repeat(2, 1)}
    if h.shape[1] == 2:
        return {"the codes": h}
    with threadpool_limits(1):
        pca = PCA(min(50, *h.shape), svd_solver="full").fit(h)
        components = pca.transform(h)  # distances among the first 50 are those that t-SNE sees
        share = pca.explained_variance_ratio_[:2].sum()
        found = {f"first two principal components, {share:.0%} of the variance": components[:, :2]}
        if len(h) > 10:
            tsne = TSNE(init="pca", perplexity=min(30, (len(h) - 1) / 3), random_state=seed)
            found["t-SNE"] = tsne.fit_transform(components)
    return found


def pixel_plane(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Images (n, D) as points (n, 2): what a code of two numbers is, without any network."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    if min(x.shape) < 2 or not x.std(0).any():
        return {}
    with threadpool_limits(1):
        # randomised: the first two alone, in a second also of large images
        pca = PCA(2, svd_solver="randomized", random_state=seed)
        points = pca.fit_transform(x)
    return {f"PCA of the pixels, {pca.explained_variance_ratio_.sum():.0%} of the variance": points}
