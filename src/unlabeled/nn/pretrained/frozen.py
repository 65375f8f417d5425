"""Pretrained networks with fixed weights, for perceptual losses (losses.distance.Perceptual).

A run reads the weights from a file when it starts and stores them in its checkpoints, so that loading one does not need
the file. A missing file is an error when the network is used.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.nn.pretrained.weights import read, sha256


class Frozen(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> features (B, C', H', W') of chosen layers; always in evaluation mode."""

    def __init__(self, file: Path | None):
        super().__init__()
        self.file = file
        self.ready = False
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "ready", True))

    def open(self) -> None:
        """Load the file's weights if it exists; to be called once the network is built."""
        if self.file is not None and self.file.is_file():
            self.read(self.file)
            self.ready = True
        self.requires_grad_(False).eval()

    def read(self, file: Path) -> None:
        raise NotImplementedError

    def look(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        if not self.ready:
            raise UserError(f"there is no file {self.file}, whose weights the perceptual loss needs")
        return self.look(x.float())


class Trained(Frozen):
    """The encoder of a run, such as a classifier's: feature maps after each of its stages."""

    def __init__(
        self,
        encoder: nn.Module,  # maps(x): feature maps after each stage, (B, C', H', W'); as the run had it
        checkpoint: str | Path | None,  # the run's folder, or a .ckpt file
    ):
        if checkpoint is None:
            raise UserError(
                "the perceptual loss needs a trained network, and none is given: run python train.py "
                "model=classifier data=NAME and say model.distance.network.checkpoint=RUN, its folder; or with VGG's "
                "weights: network@model.distance.network=backbones/vgg16 model.distance.network.weights=FILE"
            )
        path = Path(checkpoint)
        places = [path, *(path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))]
        super().__init__(next((place for place in places if place.is_file()), path))
        self.encoder = encoder
        self.open()

    def read(self, file: Path) -> None:
        content = read(file)
        weights = {
            name.removeprefix("encoder."): value
            for name, value in (content.get("state_dict") or {}).items()
            if name.startswith("encoder.")
        }
        fit(self.encoder, weights, f"{file} does not hold this encoder: see model.distance.network.encoder")

    def look(self, x: Tensor) -> list[Tensor]:
        return self.encoder.maps(x)  # type: ignore[operator]


class VGG16(Frozen):
    """torchvision's VGG16, its weights from a file, never downloaded: features after chosen ReLUs.

    Johnson et al. 2016, https://arxiv.org/abs/1603.08155, take relu1_2, 2_2, 3_3 and 4_3: layers 3, 8, 15 and 22.
    """

    FILE, DIGEST = "vgg16-397923af.pth", "397923af"  # the digest is the start of the sha256
    mean: Tensor  # (3, 1, 1), of ImageNet's images in [0, 1]
    spread: Tensor

    def __init__(
        self,
        weights: str | Path | None,  # torchvision's file
        layers: Sequence[int] = (3, 8, 15, 22),  # of torchvision's `features`; ascending
    ):
        if weights is None:
            raise UserError(
                f"network=vgg16 needs weights, which are not downloaded: say model.distance.network.weights=FILE, "
                f"torchvision's {self.FILE}; or network@model.distance.network=pretrained/run and your own classifier"
            )
        from torchvision.models.vgg import cfgs, make_layers  # a second to import

        if not layers or not all(0 <= layer <= 30 for layer in layers):
            raise UserError(f"network=vgg16: layers={list(layers)}: at least one, from 0 to 30")
        super().__init__(Path(weights).expanduser())
        self.chosen = frozenset(layers)
        self.features = make_layers(cfgs["D"], batch_norm=False)[: max(layers) + 1]
        for i, layer in enumerate(self.features):
            if isinstance(layer, nn.ReLU):
                self.features[i] = nn.ReLU()  # not in place: features are kept
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.open()

    def read(self, file: Path) -> None:
        found = sha256(file)
        if file.name == self.FILE and not found.startswith(self.DIGEST):
            raise UserError(f"{file} is damaged: its sha256 begins with {found[: len(self.DIGEST)]}: fetch it again")
        content = read(file)
        names = self.features.state_dict()
        weights = {name: content[f"features.{name}"] for name in names if f"features.{name}" in content}
        fit(self.features, weights, f"{file} holds no VGG16: give torchvision's {self.FILE}")

    def look(self, x: Tensor) -> list[Tensor]:
        if x.shape[1] not in (1, 3):
            raise UserError(f"VGG16 needs RGB or grey images, and these have {x.shape[1]} channels")
        least = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)
        if min(x.shape[2:]) < least:
            raise UserError(
                f"images of {x.shape[2]}x{x.shape[3]} are too small for VGG16's layer {max(self.chosen)}: at least "
                f"{least} pixels a side, or say fewer model.distance.network.layers=[...]"
            )
        x = ((x + 1) / 2 - self.mean) / self.spread  # grey: three times the same
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.chosen:
                found.append(x)
        return found


def fit(network: nn.Module, weights: dict[str, Any], complaint: str) -> None:
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{complaint} ({str(error).splitlines()[-1].strip()})") from error
