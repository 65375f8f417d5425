"""LPIPS, a learned distance of images."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.errors import UserError
from unlabeled.nn.pretrained.weights import read, sha256


class LPIPS:
    """Learned distance of two images. Zhang et al. 2018, https://arxiv.org/abs/1801.03924, version 0.1 on AlexNet.

    torchmetrics' network and linear weights. AlexNet's weights come from a file, torchvision's `FILE`, and are never
    downloaded. Sides below 32 are enlarged by the smallest whole factor that makes them 32 (bilinear).
    """

    FILE, DIGEST = "alexnet-owt-7be5be79.pth", "7be5be79"  # the digest is the start of the sha256
    SIDE = 32  # pixels, the smallest side for AlexNet's pooling

    def __init__(self, weights: str | Path, device: torch.device):
        from torchmetrics.functional.image.lpips import _LPIPS  # seconds to import

        file = Path(weights).expanduser()
        try:
            state = read(file)
        except UserError as error:
            raise UserError(f"lpips_weights={error}: give torchvision's {self.FILE}") from error
        self.digest = sha256(file)[: len(self.DIGEST)]
        with torch.random.fork_rng([]):
            self.network = _LPIPS(net="alex", pnet_rand=True)  # its random AlexNet is then replaced
        try:
            for part in self.network.net.children():
                for position, layer in part.named_children():
                    layer.load_state_dict({name: state[f"features.{position}.{name}"] for name in layer.state_dict()})
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
        """Distances (B,) of images (B, C, H, W) in [-1, 1], float64 on the CPU."""
        seen = []
        for image in (x, truth):
            image = image.to(self.device, torch.float32).clamp(-1, 1)
            image = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
            factor = self.factor(image.shape[2:])
            seen.append(interpolate(image, scale_factor=factor, mode="bilinear") if factor > 1 else image)
        return self.network(*seen).flatten().double().cpu()
