"""How well a method gives back what it is shown."""

import math
from typing import Any

import torch

from unlabeled.batches import Images, to_uint8
from unlabeled.capabilities import Reconstructs
from unlabeled.evaluation.number import Number


class Reconstruction:
    """Mean squared error and peak signal-to-noise ratio, in 8-bit grey levels as an image file would hold them.

    mse: mean over pixels, channels and images of the squared difference, for levels scaled to [0, 1]. psnr: the mean
    over images of 10 log10(1 / mse of the image), in dB; an exact copy counts as one level off in one value.
    """

    def __init__(self, split: str = "test"):
        self.split = split

    def applies(self, method: Any, data: Any) -> bool:
        return isinstance(method, Reconstructs) and data.batch is Images

    def measure(self, method: Any, data: Any) -> list[Number]:
        errors, around = [], []
        for batch in data.loader(self.split):
            x = batch.x.to(method.device)
            real, given = (to_uint8(image).double() / 255 for image in (x, method.reconstruct(x)))
            errors.append((real - given).square().flatten(1).mean(1))
            around.append(real)
        error = torch.cat(errors)
        images = torch.cat(around)
        floor = 1 / (255**2 * math.prod(data.shape))
        psnr = -10 * error.clamp(min=floor).log10()
        baseline = (images - images.mean(0)).square().mean()  # every image reconstructed as their mean
        facts = {"split": self.split, "images": len(error)}
        mean = {"baseline": "the mean image", "baseline_value": float(baseline)}
        return [
            Number("reconstruction_mse", float(error.mean()), "", "lower", facts | mean),
            Number("reconstruction_psnr", float(psnr.mean()), "dB", "higher", facts),
        ]
