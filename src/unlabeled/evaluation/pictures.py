"""Pictures of a method at work, from its capabilities alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unlabeled.batches import Images, Paired, Unpaired, to_uint8
from unlabeled.capabilities import (
    Decodes,
    DrawsCodes,
    Encodes,
    Reconstructs,
    Samples,
    Shows,
    Translates,
    TranslatesBack,
)

GAP = 2  # pixels between images of a grid


def grid(images: Tensor, columns: int, captions: list[str] | None = None, side: int = 64) -> Image.Image:
    """Images (n, C, H, W) in [-1, 1] as one picture, row by row, each enlarged by a whole factor to about `side`."""
    n, _, height, width = images.shape
    factor = max(1, round(side / max(height, width)))
    pixels = to_uint8(images.detach().cpu()).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    height, width = height * factor, width * factor
    caption = 14 * (1 + max(c.count("\n") for c in captions)) if captions else 0
    rows = math.ceil(n / columns)
    page = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + caption + GAP) + GAP), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=11)
    for i, image in enumerate(pixels):
        left, top = GAP + (i % columns) * (width + GAP), GAP + (i // columns) * (height + caption + GAP)
        page.paste(Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())), (left, top))
        if captions:
            draw.text((left + 1, top + height), captions[i], fill="black", font=font)
    return page


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
def draw(method: Any, batch: Any) -> dict[str, Image.Image]:
    """Everything that the method's capabilities can show of one batch: file name -> picture."""
    pictures: dict[str, Image.Image] = {}
    if isinstance(method, Samples):
        pictures["samples"] = grid(method.sample(64), 8)
    if isinstance(batch, Images):
        x = batch.x[:64]
        if isinstance(method, Reconstructs):
            pictures["reconstructions"] = grid(pairs(x, method.reconstruct(x)), min(16, len(x)))
        if isinstance(method, Decodes):
            codes = _corner_codes(method, batch)
            if codes is not None:
                pictures["interpolation"] = grid(method.decode(corners(codes)), 8)
        if isinstance(method, Encodes) and not isinstance(method, Reconstructs):
            pictures["neighbours"] = _neighbours(method, batch.x)
        if isinstance(method, Shows):
            for title, (images, captions) in method.show(x).items():
                pictures[title] = grid(images, 8, captions, side=96)
    if isinstance(batch, Unpaired | Paired):
        a, b = batch.a[:16], batch.b[:16]
        if isinstance(method, Translates):
            fake_b = method.translate(a)
            rows = [a, fake_b]
            if isinstance(method, TranslatesBack):
                rows.append(method.translate_back(fake_b))
            pictures["a_to_b"] = grid(pairs(*rows, columns=8), min(8, len(a)), side=128)
        if isinstance(method, TranslatesBack):
            fake_a = method.translate_back(b)
            rows = [b, fake_a, *([method.translate(fake_a)] if isinstance(method, Translates) else [])]
            pictures["b_to_a"] = grid(pairs(*rows, columns=8), min(8, len(b)), side=128)
    return pictures


def _corner_codes(method: Any, batch: Images) -> Tensor | None:
    """Codes of four real images of different classes where the method encodes, else four draws from the prior."""
    if isinstance(method, Encodes):
        first = list(range(min(4, len(batch.x))))
        if batch.y.ndim == 1:
            seen: dict[int, int] = {}
            for i, label in enumerate(batch.y.tolist()):
                seen.setdefault(label, i)
            first = (list(seen.values()) + [i for i in range(len(batch.x)) if i not in seen.values()])[:4]
        return method.encode(batch.x[first]) if len(first) == 4 else None
    return method.draw_codes(4) if isinstance(method, DrawsCodes) else None


def _neighbours(method: Encodes, x: Tensor, queries: int = 8, k: int = 9) -> Image.Image:
    """Each row: an image, then the images of the batch whose features are nearest in angle."""
    h = torch.nn.functional.normalize(method.encode(x).float(), dim=1)
    order = (h[:queries] @ h.T).argsort(dim=1, descending=True)[:, : min(k + 1, len(x))]  # each is its own nearest
    return grid(x[order.flatten()], order.shape[1])


def curves(rows: list[dict[str, str]], path: Path, last: int = 10_000) -> None:
    """metrics.csv's rows as one small plot a quantity: training thin, validation with dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows[-last:]:
        for name, value in row.items():
            stage, _, quantity = name.partition("/")
            if quantity and value:
                series.setdefault(quantity, {}).setdefault(stage, []).append((int(row["batch"]), float(value)))
    if not series:
        return
    columns = min(3, len(series))
    rows_of_plots = math.ceil(len(series) / columns)
    figure, axes = pyplot.subplots(rows_of_plots, columns, figsize=(4.2 * columns, 2.6 * rows_of_plots), squeeze=False)
    for axis in axes.flat[len(series) :]:
        axis.axis("off")
    for axis, (quantity, stages) in zip(axes.flat, sorted(series.items()), strict=False):
        for stage, points in stages.items():
            style = {"marker": "o", "markersize": 2.5} if stage == "val" else {"linewidth": 1, "alpha": 0.8}
            axis.plot(*zip(*points, strict=True), label=stage, **style)
        axis.set_title(quantity.replace("_", " "), fontsize=10)
        axis.set_xlabel("batch", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
        if len(stages) > 1:
            axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
