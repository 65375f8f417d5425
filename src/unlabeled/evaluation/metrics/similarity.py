"""Similarity of pairs of images."""

import math
from typing import Literal

from torch import Tensor

from unlabeled.evaluation.study import Study
from unlabeled.nn.pretrained.lpips import LPIPS

UNITS = {"mse": "", "mae": "grey levels of 255", "psnr": "dB", "ssim": "", "lpips": ""}
BETTER: dict[str, Literal["higher", "lower"]] = {
    "mse": "lower",
    "mae": "lower",
    "psnr": "higher",
    "ssim": "higher",
    "lpips": "lower",
}
WINDOW = 11  # pixels, of ssim


def distances(x: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Similarities (B,) of images (B, C, H, W) in [-1, 1], float64 on the CPU.

    mse: mean squared error of levels scaled to [0, 1]. mae: mean absolute error in grey levels of 255. psnr:
    10 log10(1 / mse) in dB; an exact copy counts as one level off in one value. ssim: Wang et al. 2004
    (https://doi.org/10.1109/TIP.2003.819861), Gaussian window of 11 with sigma 1.5, of levels that start at 0 as the
    paper's do; borders are reflected, as torchmetrics does; left out where a side is shorter than the window.
    """
    x, truth = ((image.cpu().double().clamp(-1, 1) + 1) / 2 for image in (x, truth))  # [0, 1]
    mse = (x - truth).square().flatten(1).mean(1)
    exact = 1 / (255**2 * math.prod(x.shape[1:]))
    found = {
        "mse": mse,
        "mae": (x - truth).abs().flatten(1).mean(1) * 255,
        "psnr": -10 * mse.clamp(min=exact).log10(),
    }
    if min(x.shape[2:]) >= WINDOW:
        from torchmetrics.functional.image import structural_similarity_index_measure  # seconds to import

        # float32: twenty times as fast as float64; the values agree to 1e-6, of flat images to 1e-3
        ssim = structural_similarity_index_measure(x.float(), truth.float(), data_range=1.0, reduction="none")
        assert isinstance(ssim, Tensor)
        found["ssim"] = ssim.reshape(-1).double()
    return found


def lpips(weights: str | None, study: Study) -> LPIPS | None:
    """LPIPS if its weights are given and images are grey or RGB; else None, and a note."""
    if study.data.shape[0] not in (1, 3):
        return None
    if weights is None:
        study.notes.append(
            f"no LPIPS: it needs evaluation.lpips_weights=FILE, torchvision's {LPIPS.FILE} "
            f"(its sha256 begins with {LPIPS.DIGEST}); nothing is downloaded"
        )
        return None
    network = LPIPS(weights, study.device)
    if network.digest != LPIPS.DIGEST:
        study.notes.append(
            f"lpips_weights={weights}: its sha256 begins with {network.digest}, not {LPIPS.DIGEST}: "
            "its LPIPS values cannot be compared with published ones"
        )
    return network
