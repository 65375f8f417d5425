"""Quality of reconstructions."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.batches import from_uint8, to_uint8
from unlabeled.capabilities import Reconstructs, code_width, inverts
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.metrics.similarity import BETTER, UNITS, distances, lpips
from unlabeled.evaluation.study import Study


class Reconstruction:
    """mse, psnr, ssim and LPIPS (see similarity.py) of images rounded to 8-bit levels, as in a file.

    If the code is decoded, compression_ratio: numbers of an image over numbers of its code, of any precision.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "reconstruction_psnr": Headline(130, "peak signal-to-noise ratio of reconstructions"),
    }

    def __init__(
        self,
        lpips_weights: str | None = None,  # AlexNet's, see nn.pretrained.lpips; None: it is left out
    ):
        self.lpips_weights = lpips_weights

    def applies(self, study: Study) -> bool:
        return isinstance(study.method, Reconstructs) and study.kind.single and study.kind.visual

    def measure(self, study: Study) -> list[Metric]:
        table, network = study.table(study.split), lpips(self.lpips_weights, study)
        total = torch.zeros(study.data.shape, dtype=torch.float64)

        def levels(index: Tensor) -> Tensor:
            return to_uint8(table.batch(index).x).cpu().double() / 255

        for index in study.blocks(len(table), "reading"):
            total += levels(index).sum(0)
        mean = sum(study.ranks.gather(total)) / len(table)
        names: list[str] = []

        def work(index: Tensor) -> tuple[Tensor, ...]:
            x = table.batch(index).x.to(study.device)
            x, reconstruction = (from_uint8(to_uint8(image)) for image in (x, study.method.reconstruct(x)))
            found = distances(reconstruction, x)
            if network is not None:
                found["lpips"] = network(reconstruction, x)
            names[:] = found
            return *found.values(), (levels(index) - mean).square().flatten(1).mean(1)

        *columns, spread = study.once("reconstruction", lambda: study.rows(len(table), work, "reconstructing"))
        if not study.is_main:
            return []
        facts = {"split": study.split, "images": len(spread)}
        more: dict[str, dict[str, Any]] = {
            "mse": {"baseline": "the mean image", "baseline_value": float(spread.mean())} if len(spread) > 1 else {},
            "lpips": network.facts(study.data.shape) if network else {},
        }
        numbers = [
            Metric(f"reconstruction_{name}", float(each.mean()), UNITS[name], BETTER[name], facts | more.get(name, {}))
            for name, each in zip(names, columns, strict=True)
            if name != "mae"
        ]
        if inverts(study.method):
            width = code_width(study.method, table.batch(torch.arange(1)).x.to(study.device))
            size = math.prod(study.data.shape)
            facts |= {"image_numbers": size, "code_numbers": width}
            numbers.append(Metric("compression_ratio", size / width, "", None, facts))
        return numbers
