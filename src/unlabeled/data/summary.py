"""One-line summary of a packed data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.data.labels import FEW, class_name
from unlabeled.data.packed import SPLITS
from unlabeled.data.packing import describe_files

if TYPE_CHECKING:
    from unlabeled.data.kinds.images import PackedImages


def summary(data: "PackedImages") -> str:
    """Images of each split, classes with their counts, duplicates between training and test, and files left out."""
    suffixes = [suffix for suffix in ("", "_a", "_b") if f"train{suffix}" in data.source.splits]
    parts = [part for suffix in suffixes for part in split_parts(data, suffix)]
    labels = torch.cat([data.pack(split).labels for split in data.source.splits])
    if suffixes == [""] and labels.ndim == 1 and (labels >= 0).any():  # domains have no labels
        own, rows = data.divide("train")
        y = data.pack(own).labels
        parts += class_parts(labels, y if rows is None else y[rows], getattr(data, "class_names", ()))
    left = left_out(data)
    parts += [f"left out: {left}"] if left else []
    return f"data={data.source.name}: {'; '.join(parts)}"


def left_out(data: "PackedImages") -> str:
    """Files and folders left out, with the reasons."""
    left = [f"{first_paths(paths)} ({why})" for why, paths in getattr(data.source, "left", {}).items()]
    broken = [file for split in data.source.splits for file in data.pack(split).left]
    if broken:
        count = f"{len(broken):,} that cannot be read: " * (len(broken) > 1)
        left.insert(0, count + describe_files(broken))
    return "; ".join(left)


def split_parts(data: "PackedImages", suffix: str) -> list[str]:
    """The sizes of the splits, and the number of held-out images that equal a training image."""
    images = {}
    for split in SPLITS:
        own, rows = data.divide(split, suffix)
        found = data.pack(own).images.numpy()
        images[split] = (found, list(range(len(found))) if rows is None else rows.tolist())
    sizes = ", ".join(f"{len(rows):,} {split}" for split, (_, rows) in images.items() if len(rows))
    total = sum(len(rows) for _, rows in images.values())
    parts = [f"{total:,} images{' of ' + suffix[1:] if suffix else ''}: {sizes}"]
    hashes = {split: [hash(pixels[row].tobytes()) for row in rows] for split, (pixels, rows) in images.items()}
    training = set(hashes["train"])
    for split in ("val", "test"):
        if repeated := sum(one in training for one in hashes[split]):
            parts.append(f"{repeated:,} of the {split} images are equal to a training image")
    return parts


def class_parts(labels: Tensor, trained: Tensor, names: Sequence[str]) -> list[str]:
    """Classes and their numbers of images; labels: of all images; trained: of training images."""
    found, counts = labels[labels >= 0].unique(return_counts=True)
    if len(found) <= FEW and names:
        each = ", ".join(f"{class_name(c, names)} {n:,}" for c, n in zip(found.tolist(), counts.tolist(), strict=True))
        parts = [f"{len(found)} classes: {each}" if len(found) > 1 else f"1 class: {each}"]
    else:
        least, most = int(counts.min()), int(counts.max())
        parts = [f"{len(found):,} classes of {f'{least:,} to {most:,}' if least < most else f'{most:,}'} images"]
    if without := int((labels < 0).sum()):
        parts.append(f"{without:,} images without a class")
    if unseen := sorted(set(found.tolist()) - set(trained.tolist())):
        parts.append(f"no training image of {', '.join(class_name(c, names) for c in unseen[:FEW])}")
    return parts


def first_paths(paths: Sequence[Path], most: int = 3) -> str:
    return ", ".join(map(str, paths[:most])) + f" and {len(paths) - most:,} more" * (len(paths) > most)
