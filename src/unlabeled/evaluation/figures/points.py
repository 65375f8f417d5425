"""Densities of generated points over the known modes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from unlabeled.capabilities import Samples, Scores
from unlabeled.evaluation.figures.drawing import FigureSet, lettering

DRAWN = 10_000  # samples of a picture
SHOWN = 1_000  # of them as dots
BINS = 160  # a side of the plane
EDGE = 1.5  # the picture shows [-EDGE, EDGE]
WIDEST = 1600  # pixels of a strip


@torch.no_grad()
def draw_points(method: Any, batch: Any, data: Any) -> FigureSet:
    """`density`, of a method that samples points on a line or in the plane; of more dimensions, the first two.

    The batch is not used: the density is compared with that of data.source.
    """
    figures = FigureSet()
    if isinstance(method, Samples):
        figures.draw("density", lambda: density(method, data.source))
    return figures


def density(method: Samples, mixture: Any) -> Image.Image:
    x = torch.cat([method.sample(DRAWN // 10) for _ in range(10)]).cpu()
    return on_a_line(method, x, mixture) if x.shape[1] == 1 else in_the_plane(x, mixture)


def in_the_plane(x: Tensor, mixture: Any) -> Image.Image:
    """Samples (N, D) as a smoothed histogram and as dots, with a circle of 3 standard deviations around each mode."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle
    from scipy.ndimage import gaussian_filter

    points = x[:, :2].numpy()
    points = points[np.isfinite(points).all(1)]
    limits = (-EDGE, EDGE)
    mass, _, _ = np.histogram2d(points[:, 1], points[:, 0], BINS, (limits, limits))
    mass = gaussian_filter(mass, 1.5)
    figure = Figure(figsize=(3.2, 3.2), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_facecolor("black")
    # the square root shows a thin bridge beside a dense mode
    axis.imshow(np.sqrt(mass), origin="lower", extent=(*limits, *limits), cmap="magma", vmin=0)
    axis.scatter(points[:SHOWN, 0], points[:SHOWN, 1], s=1.5, c="white", alpha=0.35, linewidths=0)
    for centre, deviation in zip(mixture.centres[:, :2].tolist(), mixture.deviation.tolist(), strict=True):
        axis.add_patch(Circle(tuple(centre), max(3 * deviation, 0.03), fill=False, color="#40c0ff", linewidth=0.8))
    axis.set(xlim=limits, ylim=limits, xticks=[], yticks=[])
    return rendered(figure)


def on_a_line(method: Any, x: Tensor, mixture: Any) -> Image.Image:
    """Goodfellow et al. 2014, figure 1: the data's density, that of samples (N, 1), and the discriminator's score."""
    from matplotlib.figure import Figure

    ranks = torch.linspace(-EDGE, EDGE, 301)[:, None]
    figure = Figure(figsize=(4.2, 3.0), dpi=100)
    axis = figure.subplots()
    axis.plot(ranks[:, 0], mixture.log_density(ranks).exp(), color="black", linestyle=":", label="data")
    values = x[:, 0][x[:, 0].isfinite()].numpy()
    height, edges = np.histogram(values, BINS, (-EDGE, EDGE))
    density = height / max(len(values), 1) / (edges[1] - edges[0])
    axis.plot((edges[1:] + edges[:-1]) / 2, density, color="tab:green", linewidth=1, label="generator")
    axis.set(xlim=(-EDGE, EDGE), ylim=(0, 2 * float(mixture.log_density(ranks).exp().max())))
    axis.tick_params(labelsize=9)
    lines = list(axis.lines)
    device = method.device
    if isinstance(method, Scores):
        score = method.score(ranks.to(device)).float().cpu()
        right = axis.twinx()
        lines += right.plot(
            ranks[:, 0], score, color="tab:blue", linestyle="--", linewidth=1, label="discriminator's score"
        )
        reach = 1.1 * max(1.0, float(score.abs().max()))
        right.set_ylim(-reach, reach)
        right.axhline(0, color="tab:blue", linewidth=0.4)
        right.tick_params(labelsize=9, labelcolor="tab:blue")
    axis.legend(lines, [str(line.get_label()) for line in lines], fontsize=9, frameon=False, loc="upper right")
    figure.tight_layout()
    return rendered(figure)


def rendered(figure: Any) -> Image.Image:
    """A figure as a picture."""
    file = io.BytesIO()
    figure.savefig(file)
    return Image.open(file).convert("RGB")


def strip(frames: list[Path], most: int = 10, columns: int = 5) -> Image.Image:
    """Pictures batch-NUMBER.png of one size, row by row: evenly chosen ones, the first and the last among them."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(most, len(frames)))]
    images = [Image.open(path).convert("RGB") for path in chosen]
    columns = min(columns, len(images))
    scale = min(1.0, WIDEST / (columns * images[0].width))
    width, height = (max(1, int(side * scale)) for side in images[0].size)
    font, line = lettering(width * columns)
    page = Image.new("RGB", (width * columns, (height + line) * -(-len(images) // columns)), "white")
    pen = ImageDraw.Draw(page)
    for i, (path, image) in enumerate(zip(chosen, images, strict=True)):
        x, y = i % columns * width, i // columns * (height + line)
        page.paste(image.resize((width, height), Image.Resampling.LANCZOS), (x, y + line))
        pen.text((x + 2, y), f"batch {int(path.stem.removeprefix('batch-')):,}", fill="black", font=font)
    return page
