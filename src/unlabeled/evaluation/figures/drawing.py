"""Grids of images, curves, and the figures of a method on one batch."""

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unlabeled.batches import Images, Paired, Unpaired, to_uint8
from unlabeled.capabilities import (
    Decodes,
    DrawsFigures,
    Encodes,
    Reconstructs,
    Samples,
    SamplesClasses,
    SamplesPrior,
    Translates,
    TranslatesBack,
    inverts,
)
from unlabeled.errors import error_line
from unlabeled.evaluation.report.order import ordered


class FigureSet(dict[str, Image.Image]):
    """Figures by name. A failure to draw one is noted, and concerns no other."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, str] = {}  # name -> the error

    def draw(self, name: str, make: Callable[[], Image.Image | None]) -> None:
        """Draw a figure by `make`; None: it does not apply."""
        try:
            made = make()
        except Exception as error:
            self.pop(name, None)
            self.failed[name] = error_line(error)
            return
        if made is not None:
            self[name] = made

    def add(self, other: "FigureSet") -> None:
        self.update(other)
        self.failed |= other.failed

    def notes(self) -> list[str]:
        """A line for each figure that failed."""
        return [f"the picture {name} could not be drawn: {why}" for name, why in self.failed.items()]


GAP = 2  # pixels between images of a grid
SIZE = 13  # pixels of a letter, in a figure that is not scaled
WIDEST = 1600  # pixels of a figure
SHOWN = 1150  # pixels of a figure in a page: wider ones are scaled, and so have larger letters
CLASSES = 20  # rows of a figure, at most
POINTS = 400  # of a curve, in a small plot


def grid(
    images: Tensor,  # (n, C, H, W) in [-1, 1], row by row
    columns: int,
    captions: list[str] | None = None,  # under each image
    side: int = 64,  # each image is enlarged by a whole factor to about this
    rows: list[str] | None = None,  # left of each row
    heads: list[str] | None = None,  # above each column
) -> Image.Image:
    """Images as one figure, at most `WIDEST` wide, with letters that are legible at the width of a page."""
    estimated = columns * (max(side, 8) + GAP)
    font, line = lettering(min(WIDEST, estimated * 1.15 if rows else estimated))
    left = math.ceil(max(font.getlength(label) for label in rows)) + 8 if rows else 0
    images = shrunk(images.detach().cpu().float(), (WIDEST - left - GAP) // columns - GAP)
    n, _, height, width = images.shape
    room = max(width, (WIDEST - left - GAP) // columns - GAP)
    factor = max(1, min(round(side / max(height, width)), room // width))
    pixels = to_uint8(images).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    height, width = height * factor, width * factor
    caption = line * max(1 + c.count("\n") for c in captions) if captions else 0
    top = line if heads else 0
    deep = math.ceil(n / columns)
    size = (left + columns * (width + GAP) + GAP, top + deep * (height + caption + GAP) + GAP)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, head in enumerate((heads or [])[:columns]):
        draw.text((left + GAP + column * (width + GAP) + 1, 0), clipped(head, width, font), fill="black", font=font)
    for row, label in enumerate(rows or []):
        middle = top + GAP + row * (height + caption + GAP) + (height - line) // 2
        draw.text((2, max(middle, top)), label, fill="black", font=font)
    for i, image in enumerate(pixels):
        x, y = left + GAP + (i % columns) * (width + GAP), top + GAP + (i // columns) * (height + caption + GAP)
        page.paste(Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())), (x, y))
        if captions:
            for n, words in enumerate(captions[i].split("\n")):
                draw.text((x + 1, y + height + n * line), clipped(words, width, font), fill="black", font=font)
    return page


def lettering(width: float) -> tuple[Any, int]:
    """The font for a figure of this width, and the height of a line."""
    size = round(SIZE * max(1.0, width / SHOWN))
    return ImageFont.load_default(size=size), math.ceil(1.3 * size)


def titled(image: Image.Image, title: str) -> Image.Image:
    """The image with a title above it, for pages, dashboards and slides."""
    font, line = lettering(image.width)
    lines, words = [""], title.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= image.width - 8 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    width = max(image.width, *(math.ceil(font.getlength(each)) + 8 for each in lines))
    page = Image.new("RGB", (width, image.height + line * len(lines) + 6), "white")
    page.paste(image.convert("RGB"), (0, line * len(lines) + 6))
    for i, each in enumerate(lines):
        ImageDraw.Draw(page).text((4, 2 + i * line), each, fill="black", font=font)
    return page


def shrunk(images: Tensor, width: int) -> Tensor:
    """Images scaled down to at most `width`."""
    if images.shape[3] <= width:
        return images
    size = (max(1, round(images.shape[2] * width / images.shape[3])), max(1, width))
    return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)


def clipped(text: str, width: int, font: Any) -> str:
    """The start of a line that fits."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def pairs(*rows: Tensor, columns: int = 16) -> Tensor:
    """Rows of images (n, C, H, W) laid above one another in bands of `columns`, for `grid` with as many columns."""
    n = len(rows[0]) // columns * columns or len(rows[0])
    return torch.cat([row[i : i + columns] for i in range(0, n, columns) for row in rows])


def corners(codes: Tensor, steps: int = 8) -> Tensor:
    """Codes (4, D) at the corners of a square -> (steps^2, D), bilinear between them, row by row."""
    t = torch.linspace(0, 1, steps, device=codes.device)[:, None]
    left, right = torch.lerp(codes[0], codes[2], t), torch.lerp(codes[1], codes[3], t)  # (steps, D)
    return torch.stack([torch.lerp(left, right, s) for s in t], 1).flatten(0, 1)


@torch.no_grad()
def draw_images(method: Any, batch: Images, data: Any = None) -> FigureSet:
    """What a method in evaluation mode, without gradients, can show on images. data: may have class_names."""
    figures, x = sampled(method, data), batch.x[:64]
    if isinstance(method, Reconstructs):
        figures.draw("reconstructions", lambda: reconstructed(method, x))
    if isinstance(method, Decodes):
        figures.draw("interpolation", lambda: interpolated(method, batch))
    if isinstance(method, Encodes) and not isinstance(method, Reconstructs):
        figures.draw("neighbors", lambda: neighbors(method, x))
    if isinstance(method, DrawsFigures):
        figures.draw("the method's own", lambda: show(method, x, figures))
    return figures


@torch.no_grad()
def draw_domains(method: Any, batch: Unpaired | Paired, data: Any = None) -> FigureSet:
    """What a method in evaluation mode, without gradients, can show on images of two domains."""
    figures, a, b = sampled(method, data), batch.a[:16], batch.b[:16]
    there = method.translate if isinstance(method, Translates) else None
    back = method.translate_back if isinstance(method, TranslatesBack) else None
    if there:
        figures.draw("a_to_b", lambda: translated(a, there, back, ("a", "to b")))
    if back:
        figures.draw("b_to_a", lambda: translated(b, back, there, ("b", "to a")))
    return figures


def sampled(method: Any, data: Any) -> FigureSet:
    """Images drawn from the method, of each class where it draws classes."""
    figures = FigureSet()
    if isinstance(method, Samples):
        figures.draw("samples", lambda: grid(method.sample(64), 8))
    if isinstance(method, SamplesClasses):
        figures.draw("classes", lambda: of_classes(method, getattr(data, "class_names", ())))
    return figures


def of_classes(method: SamplesClasses, names: Sequence[str] = ()) -> Image.Image:
    """A row of samples for each class that training saw."""
    y = method.labels.seen[:CLASSES]
    rows = [class_label(c, names) for c in y.tolist()]
    return grid(method.sample_class(y.repeat_interleave(10)), 10, rows=rows)


def reconstructed(method: Reconstructs, x: Tensor) -> Image.Image:
    """Images, and their reconstructions below."""
    columns = min(16, len(x))
    laid = pairs(x, method.reconstruct(x))
    return grid(laid, columns, rows=["image", "reconstruction"] * math.ceil(len(laid) / columns / 2))


def interpolated(method: Decodes, batch: Images) -> Image.Image | None:
    """Four codes in the corners, and interpolations between them."""
    codes = corner_codes(method, batch)
    return None if codes is None else grid(method.decode(corners(codes)), 8)


def neighbors(method: Encodes, x: Tensor) -> Image.Image:
    """Rows: an image, then those of the batch whose codes are nearest in angle."""
    order = nearest(method.encode(x).float(), torch.arange(min(8, len(x))), 9)
    return grid(x[order.flatten()], order.shape[1])


def show(method: DrawsFigures, x: Tensor, figures: FigureSet) -> None:
    """Draw the method's own figures."""
    for title, (images, captions) in method.figures(x).items():
        figures.draw(title, partial(grid, images, 8, captions, side=96))


def translated(x: Tensor, there: Any, back: Any, names: tuple[str, str]) -> Image.Image:
    """Images of a domain, translated, and translated back if there is a way."""
    bands = {names[0]: x, names[1]: there(x)}
    if back:
        bands["and back"] = back(bands[names[1]])
    return banded(bands)


def class_label(number: int, names: Sequence[str]) -> str:
    """The name of a class in a figure."""
    return names[number] if number < len(names) else f"class {number}"


def banded(rows: dict[str, Tensor], columns: int = 8, side: int = 128) -> Image.Image:
    """Named rows of images above one another."""
    laid = pairs(*rows.values(), columns=columns)
    columns = min(columns, len(next(iter(rows.values()))))
    return grid(laid, columns, side=side, rows=list(rows) * math.ceil(len(laid) / columns / len(rows)))


def corner_codes(method: Any, batch: Images) -> Tensor | None:
    """Codes of four real images of different classes if the method encodes, else four draws from the prior."""
    if inverts(method):
        rows = distinct(batch.y, 4)
        return method.encode(batch.x[rows]) if len(rows) == 4 else None
    return method.sample_prior(4) if isinstance(method, SamplesPrior) else None


def distinct(y: Tensor, n: int) -> Tensor:
    """n rows at most, of as many classes as possible: the first of each, then the second of each, ..."""
    if y.ndim > 1:
        return torch.arange(min(n, len(y)))
    seen: dict[int, int] = {}
    turns = []
    for label in y.tolist():
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    order = sorted(range(len(y)), key=lambda row: (turns[row], row))
    return torch.tensor(order[:n], dtype=torch.long)


def nearest(h: Tensor, queries: Tensor, k: int) -> Tensor:
    """Rows (Q, k + 1) of features h (N, D): each query itself, then the k others nearest in angle."""
    h = torch.nn.functional.normalize(h, dim=1)
    cosine = h[queries] @ h.T
    cosine[torch.arange(len(queries)), queries] = 2.0  # the query comes first, also before its copies
    return cosine.topk(min(k + 1, len(h)), dim=1).indices


def curves(rows: list[dict[str, str]], path: Path, monitored: str | None = None) -> None:
    """A small plot for each quantity in the rows of metrics.csv, the monitored one first; validation has dots."""
    figure = plotted(rows, monitored)
    if figure is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def curves_svg(rows: list[dict[str, str]], monitored: str | None = None) -> str:
    """The same as an <svg> that is legible on white and on black; "" if there is nothing to plot."""
    import matplotlib

    ink: Any = {f"{part}.color": "#808080" for part in ("text", "xtick", "ytick", "grid")}
    ink |= {"axes.edgecolor": "#808080", "axes.labelcolor": "#808080", "axes.titlecolor": "#808080"}
    with matplotlib.rc_context(ink | {"svg.fonttype": "none", "svg.hashsalt": "curves"}):
        figure = plotted(rows, monitored)
        if figure is None:
            return ""
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return text.getvalue()[text.getvalue().index("<svg") :]


def plotted(rows: list[dict[str, str]], monitored: str | None = None) -> Any:
    """The figure of `curves`, without constant learning rates; None if there is nothing to plot."""
    from matplotlib.figure import Figure

    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for name, value in row.items():
            stage, _, quantity = name.partition("/")
            if quantity and value and math.isfinite(float(value)):
                series.setdefault(quantity, {}).setdefault(stage, []).append((int(row["batch"]), float(value)))
    if len({value for points in series.get("lr", {}).values() for _, value in points}) == 1:
        del series["lr"]
    if not series:
        return None
    # the place of a quantity is that of its first stage
    ranked = ordered((f"{stage}/{name}" for name, stages in series.items() for stage in stages), monitored)
    order = list(dict.fromkeys(name.partition("/")[2] for name in ranked))
    columns = min(3, len(series))
    deep = math.ceil(len(series) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * deep))
    axes = figure.subplots(deep, columns, squeeze=False)
    for axis in axes.flat[len(series) :]:
        axis.axis("off")
    for axis, quantity in zip(axes.flat, order, strict=False):
        stages = series[quantity]
        for stage, points in stages.items():
            style = {"marker": "o", "markersize": 2.5} if stage == "val" else {"linewidth": 1, "alpha": 0.8}
            axis.plot(*thinned(points), label=stage, **style)
        axis.set_title(quantity.replace("_", " "), fontsize=11)
        axis.set_xlabel("batch", fontsize=9)
        axis.tick_params(labelsize=9)
        axis.grid(alpha=0.25)
        if len(stages) > 1:
            axis.legend(fontsize=9, frameon=False)
    figure.tight_layout()
    return figure


def thinned(points: list[tuple[float, float]]) -> np.ndarray:
    """(2, n): the points, or the means of `POINTS` equal parts."""
    parts = np.array_split(np.array(points, dtype=float), min(len(points), POINTS))
    return np.array([part.mean(0) for part in parts]).T
