"""How alike two images are, pair by pair."""

import hashlib
import math
import pickle
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.errors import UserError
from unlabeled.evaluation.study import Study

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
    """Of images (B, C, H, W) in [-1, 1], values (B,) in float64 on the CPU.

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


class LPIPS:
    """Learned distance of two images. Zhang et al. 2018, https://arxiv.org/abs/1801.03924, version 0.1 on AlexNet.

    torchmetrics' network and linear weights. AlexNet's own come from a file, torchvision's `FILE`, and are never
    downloaded. Sides under 32 are enlarged by the smallest whole factor that brings them there (bilinear).
    """

    FILE, DIGEST = "alexnet-owt-7be5be79.pth", "7be5be79"  # the digest is the start of the sha256
    SIDE = 32  # pixels, the least that AlexNet's pooling leaves anything of

    def __init__(self, weights: str | Path, device: torch.device):
        from torchmetrics.functional.image.lpips import _LPIPS  # seconds to import

        try:
            content = Path(weights).expanduser().read_bytes()
            state = torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True)
        except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
            reason = getattr(error, "strerror", None) or "not a file of weights alone"
            raise UserError(f"lpips_weights={weights}: {reason}: give torchvision's {self.FILE}") from error
        self.digest = hashlib.sha256(content).hexdigest()[: len(self.DIGEST)]
        with torch.random.fork_rng([]):
            self.network = _LPIPS(net="alex", pnet_rand=True)  # its AlexNet is drawn, and then replaced
        try:
            state = dict(state)
            for part in self.network.net.children():
                for ranks, layer in part.named_children():
                    layer.load_state_dict({name: state[f"features.{ranks}.{name}"] for name in layer.state_dict()})
        except (LookupError, TypeError, RuntimeError) as error:
            raise UserError(f"lpips_weights={weights} holds no AlexNet: give torchvision's {self.FILE}") from error
        self.network.to(device).eval().requires_grad_(False)
        self.device = device

    def facts(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        height, width = (side * self.factor(shape[1:]) for side in shape[1:])
        return {"weights": f"alexnet@{self.digest}", "seen_at": f"{height}x{width}"}

    def factor(self, sides: Any) -> int:
        return math.ceil(self.SIDE / min(self.SIDE, *sides))

    def __call__(self, x: Tensor, truth: Tensor) -> Tensor:
        """Of images (B, C, H, W) in [-1, 1], values (B,) in float64 on the CPU."""
        seen = []
        for image in (x, truth):
            image = image.to(self.device, torch.float32).clamp(-1, 1)
            image = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
            factor = self.factor(image.shape[2:])
            seen.append(interpolate(image, scale_factor=factor, mode="bilinear") if factor > 1 else image)
        return self.network(*seen).flatten().double().cpu()


def lpips(weights: str | None, study: Study) -> LPIPS | None:
    """LPIPS where its weights are given and images are grey or in colour; else a note of what would bring it."""
    if study.data.shape[0] not in (1, 3):
        return None
    if weights is None:
        study.notes.append(
            f"LPIPS is left out: for it say evaluation.lpips_weights=FILE, torchvision's {LPIPS.FILE} "
            f"(its sha256 begins with {LPIPS.DIGEST}); nothing is downloaded"
        )
        return None
    network = LPIPS(weights, study.device)
    if network.digest != LPIPS.DIGEST:
        study.notes.append(
            f"lpips_weights={weights}: its sha256 begins with {network.digest}, not {LPIPS.DIGEST}: "
            "its LPIPS compare with no published ones"
        )
    return network
