"""How well a method gives back what it is shown."""

import math
from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images, to_uint8
from unlabeled.capabilities import Reconstructs
from unlabeled.evaluation.number import Number


class Reconstruction:
    """Mean squared error and peak signal-to-noise ratio, in 8-bit grey levels as an image file would hold them.

    mse: mean over pixels, channels and images of the squared difference, for levels scaled to [0, 1]. psnr: the mean
    over images of 10 log10(1 / mse of the image), in dB; an exact copy counts as one level off in one value.
    """

    def applies(self, study: Any) -> bool:
        return isinstance(study.method, Reconstructs) and study.data.batch is Images

    def measure(self, study: Any) -> list[Number]:
        table = study.table(study.split)
        total = torch.zeros(study.data.shape, dtype=torch.float64)

        def levels(index: Tensor) -> Tensor:
            return to_uint8(table.batch(index).x).cpu().double() / 255

        for index in study.blocks(len(table), "reading"):
            total += levels(index).sum(0)
        mean = sum(study.place.gather(total)) / len(table)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            return errors(study.method, table.batch(index).x), (levels(index) - mean).square().flatten(1).mean(1)

        error, spread = study.once("reconstruction", lambda: study.rows(len(table), work, "reconstructing"))
        floor = 1 / (255**2 * math.prod(study.data.shape))
        psnr = -10 * error.clamp(min=floor).log10()
        facts = {"split": study.split, "images": len(error)}
        beside = {"baseline": "the mean image", "baseline_value": float(spread.mean())}
        return [
            Number("reconstruction_mse", float(error.mean()), "", "lower", facts | beside),
            Number("reconstruction_psnr", float(psnr.mean()), "dB", "higher", facts),
        ]


def errors(method: Any, x: Tensor) -> Tensor:
    """Mean squared error (B,) of each reconstruction in grey levels scaled to [0, 1], float64 on the CPU."""
    x = x.to(method.device)
    real, given = (to_uint8(image).cpu().double() / 255 for image in (x, method.reconstruct(x)))
    return (real - given).square().flatten(1).mean(1)
