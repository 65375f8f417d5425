"""How far a translation is from the truth, where that is known, and from its start after there and back."""

from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Paired, Unpaired
from unlabeled.capabilities import Translates, TranslatesBack
from unlabeled.evaluation.number import Number

UNITS = {"mae": "grey levels of 255", "psnr": "dB", "ssim": ""}


class Translation:
    """Against the true counterpart: `translation_*` (a to b) and `translation_back_*` (b to a), each beside
    the baseline of leaving the image as it is. `cycle_a_*` and `cycle_b_*` need no pairs: there and back
    again, against the start. Every number is a mean over images.
    """

    def applies(self, study: Any) -> bool:
        if not isinstance(study.method, Translates) or study.data.batch not in (Unpaired, Paired):
            return False
        return pairs_known(study) or isinstance(study.method, TranslatesBack)

    def measure(self, study: Any) -> list[Number]:
        method, table = study.method, study.table(study.split)
        pairs, both_ways = pairs_known(study), isinstance(method, TranslatesBack)
        names: list[str] = []

        def work(index: Tensor) -> tuple[Tensor, ...]:
            found: dict[str, Tensor] = {}

            def compare(name: str, x: Tensor, truth: Tensor) -> None:
                for measure, each in distances(x, truth).items():
                    found[f"{name}_{measure}"] = each

            batch = table.batch(index)
            a, b = batch.a.to(method.device), batch.b.to(method.device)
            to_b = method.translate(a)
            if pairs:
                compare("translation", to_b, b)
                compare("unchanged", a, b)
            if both_ways:
                to_a = method.translate_back(b)
                if pairs:
                    compare("translation_back", to_a, a)
                compare("cycle_a", method.translate_back(to_b), a)
                compare("cycle_b", method.translate(to_a), b)
            names[:] = found
            return tuple(found.values())

        columns = study.rows(len(table), work, "translating")
        if not study.leads:
            return []
        # Where one domain is smaller, its rows come round again: they count once.
        unique = {"cycle_a": len(getattr(table, "rows_a", table)), "cycle_b": len(getattr(table, "rows_b", table))}
        values = {
            name: each[: unique.get(name.rpartition("_")[0], len(each))]
            for name, each in zip(names, columns, strict=True)
        }
        numbers = []
        for name, each in values.items():
            quantity, _, measure = name.rpartition("_")
            if quantity == "unchanged":
                continue
            facts = {"data": study.data.source.name, "split": study.split, "images": len(each)}
            if quantity.startswith("translation"):
                facts["baseline_value"] = values[f"unchanged_{measure}"].mean().item()
                facts["baseline"] = "left as it is"
            better = "lower" if measure == "mae" else "higher"
            numbers.append(Number(name, each.mean().item(), UNITS[measure], better, facts))  # type: ignore[arg-type]
        return numbers


def pairs_known(study: Any) -> bool:
    """Unpaired data know pairs of val and test at most."""
    return study.data.batch is Paired or (study.split != "train" and study.data.pairs_known)


def distances(x: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Of images (B, C, H, W) in [-1, 1], values (B,) in float64.

    mae: mean absolute error in grey levels of 255. psnr: 10 log10(peak^2 / mean squared error), in dB,
    infinite for equal images. ssim: Wang et al. 2004, Gaussian window of 11 with sigma 1.5.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds to import

    if not len(x):
        return {measure: torch.zeros(0, dtype=torch.float64) for measure in UNITS}
    x, truth = x.cpu().double().clamp(-1, 1), truth.cpu().double()
    ssim = structural_similarity_index_measure(x, truth, data_range=2.0, reduction="none")
    assert isinstance(ssim, Tensor)
    return {
        "mae": ((x - truth).abs().mean((1, 2, 3)) * 127.5),
        "psnr": (10 * torch.log10(4 / (x - truth).square().mean((1, 2, 3)))),
        "ssim": ssim.reshape(-1),
    }
