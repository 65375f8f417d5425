"""Extractors of image metrics: frozen networks for features and, where they classify, logits."""

import hashlib
import io
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from unlabeled.batches import from_uint8
from unlabeled.capabilities import Classifies, ClassifiesCodes, Encodes
from unlabeled.errors import UserError
from unlabeled.nn.backbones.dinov2 import SIDE, SIZES, VisionTransformer
from unlabeled.nn.pretrained.weights import sha256, tensors

LIKE_TENSORFLOW = "bilinear as TensorFlow 1 does it, without antialiasing"


class Extractor(Protocol):
    """A network for features of uint8 images; its resizing and scaling are stated in `facts`."""

    name: str  # in the metric's name: "inception", "classifier-mnist@ab12cd"
    digest: str  # of the weights: equal digests, equal features
    dim: int  # D, of the features
    classes: int | None  # K, of the logits; None: it has none
    facts: dict[str, Any]  # resize, channels, layer, dtype, weights

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise UserError where images of this shape (C, H, W) do not fit."""

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        """uint8 images (B, C, H, W) -> features (B, D) and logits (B, K), float32, where the extractor is."""


class Published:
    """A published network for RGB images, whose weights are in a file."""

    name: str

    def __init__(self, file: str | Path, device: str | torch.device):
        self.file = Path(file)
        self.device = torch.device(device)
        self.digest = sha256(self.file)
        self.classes: int | None = None
        self.facts: dict[str, Any] = {
            "weights": self.file.name,
            "channels": "RGB; grey is repeated three times",
            "dtype": "float32",
        }

    def check(self, shape: tuple[int, ...]) -> None:
        if shape[0] not in (1, 3):
            raise UserError(f"{self.name} takes RGB and grey images, and these have {shape[0]} channels")

    def rgb(self, levels: Tensor) -> Tensor:
        return levels.to(self.device).expand(-1, 3, -1, -1)

    def standardised(self, levels: Tensor, side: int, mean: list[float], deviation: list[float]) -> Tensor:
        """uint8 (B, C, H, W) -> (B, 3, side, side), per channel (x - mean) / deviation of [0, 1]; as torch-fidelity."""
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
        from torchvision.transforms.functional import normalize

        x = self.rgb(levels).float()
        x = interpolate_bilinear_2d_like_tensorflow1x(x, size=(side, side), align_corners=False)
        return normalize(x, [255 * m for m in mean], [255 * d for d in deviation])


class Inception(Published):
    """torch-fidelity's InceptionV3 of the FID: 2048 features, and logits without bias.

    Heusel et al. 2017, https://arxiv.org/abs/1706.08500. torch-fidelity resizes the images.
    """

    name = "inception"

    def __init__(self, file: str | Path, device: str | torch.device = "cpu"):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__(file, device)
        checked = io.BytesIO()  # torch-fidelity unpickles it: so it gets only the tensors
        torch.save(tensors(self.file), checked)
        checked.seek(0)
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], checked)
        except (RuntimeError, AttributeError) as error:
            raise UserError(f"{file} does not hold torch-fidelity's Inception: {last_line(error)}") from error
        # on a CPU a third faster in this layout; features move by 1e-5 of their size
        layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        self.network = network.to(self.device, memory_format=layout)
        self.dim, self.classes = 2048, 1008
        self.facts |= {"resize": f"to 299x299, {LIKE_TENSORFLOW}", "layer": "2048", "logits": "logits_unbiased"}

    @torch.no_grad()
    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.network(self.rgb(levels))


class DINOv2(Published):
    """DINOv2's class token. Oquab et al. 2023, https://arxiv.org/abs/2304.07193; as an extractor of FD, Stein et al.

    2023, https://arxiv.org/abs/2306.04675 (there resized by Pillow, bicubic; here as torch-fidelity does).
    """

    def __init__(self, file: str | Path, device: str | torch.device = "cpu"):
        super().__init__(file, device)
        self.network = VisionTransformer(tensors(self.file), str(file)).to(self.device)
        self.dim = self.network.dim
        self.name = f"dinov2-{SIZES.get(self.dim, self.dim)}"
        self.facts |= {"resize": f"to {SIDE}x{SIDE}, {LIKE_TENSORFLOW}", "layer": "class token"}

    @torch.no_grad()
    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        x = self.standardised(levels, SIDE, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        return self.network(x), None


class CLIP(Published):
    """CLIP's image embedding, by torch-fidelity's network. Radford et al. 2021, https://arxiv.org/abs/2103.00020."""

    def __init__(self, file: str | Path, device: str | torch.device = "cpu"):
        from torch_fidelity.feature_extractor_clip import MODEL_METADATA, build_model

        super().__init__(file, device)
        known = {facts["hash"]: name for name, facts in MODEL_METADATA.items()}
        self.name = known.get(self.digest, "clip")
        if self.digest in known:  # the published files are programs (TorchScript): no others are run
            weights = torch.jit.load(self.file, map_location="cpu").state_dict()
        else:
            weights = tensors(self.file)
        try:
            self.dim = weights["text_projection"].shape[1]
            self.network = build_model(dict(weights), torch.float32).visual.to(self.device)
        except (RuntimeError, KeyError, IndexError) as error:
            raise UserError(f"{file} does not hold CLIP: {last_line(error)}") from error
        self.side = self.network.input_resolution
        self.facts |= {"resize": f"to {self.side}x{self.side}, {LIKE_TENSORFLOW}", "layer": "image embedding"}

    @torch.no_grad()
    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        return self.network(self.standardised(levels, self.side, mean, deviation)).float(), None


class Trained:
    """A network that Unlabeled trained: its `encode` gives features, its `classify`, if it has one, logits."""

    def __init__(
        self,
        method: Any,  # Encodes; in evaluation mode, on its device, without gradients
        name: str,  # "classifier-mnist"
        shape: tuple[int, int, int],  # (C, H, W) of the images that it was trained on
        facts: dict[str, Any],  # its provenance
    ):
        self.method = method
        if not isinstance(method, Encodes):
            raise UserError(
                f"{name} does not encode images, as an extractor must: take one that does: model=classifier"
            )
        self.shape = shape
        self.digest = digest(self.method.state_dict())
        self.name = f"{name}@{self.digest[:6]}"
        h, logits = self(torch.zeros(2, *shape, dtype=torch.uint8))
        self.dim, self.classes = h.shape[1], None if logits is None else logits.shape[1]
        side = f"{shape[1]}x{shape[2]}"
        self.facts = facts | {
            "resize": f"other sizes than {side} to that, bilinear, antialiased",
            "channels": "grey" if shape[0] == 1 else "RGB; grey is repeated three times",
            "layer": "encode",
            "dtype": "float32",
        }

    def check(self, shape: tuple[int, ...]) -> None:
        if shape[0] not in (1, self.shape[0]):
            raise UserError(
                f"{self.name} takes images of {self.shape[0]} channel(s), and these have {shape[0]}: "
                "take an extractor that was trained on such"
            )

    @torch.no_grad()
    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        x = from_uint8(levels.to(self.method.device))
        if tuple(x.shape[2:]) != self.shape[1:]:
            x = interpolate(x, self.shape[1:], mode="bilinear", antialias=True)
        x = x.expand(-1, self.shape[0], -1, -1)
        codes = self.method.encode(x)
        h = codes.flatten(1).float()
        if isinstance(self.method, ClassifiesCodes):
            return h, self.method.classify_codes(codes).float()
        return h, self.method.classify(x).float() if isinstance(self.method, Classifies) else None


class Cells:
    """Mean and standard deviation of each channel in each cell of a grid: colour and contrast, no shapes.

    It needs no network and no weights, so that distributions can be compared without labels or files; it notices
    changes of colour and texture. Images with sides shorter than the grid have fewer cells.
    """

    GRID = 4  # cells a side

    def __init__(self, shape: tuple[int, int, int], device: str | torch.device = "cpu"):
        self.shape, self.device = shape, torch.device(device)
        self.cells = (min(self.GRID, shape[1]), min(self.GRID, shape[2]))
        self.name = f"cells-{self.cells[0]}x{self.cells[1]}"
        self.dim = 2 * shape[0] * self.cells[0] * self.cells[1]
        self.classes: int | None = None
        self.facts: dict[str, Any] = {
            "features": "mean and standard deviation of each channel in each cell, levels scaled to [0, 1]",
            "sees": "colour and contrast by place, no shapes; no network, no weights",
            "resize": "none",
            "channels": "as they are",
            "dtype": "float32",
        }
        self.digest = hashlib.sha256(f"{self.name} {self.facts}".encode()).hexdigest()

    def check(self, shape: tuple[int, ...]) -> None:
        if shape[0] != self.shape[0]:
            raise UserError(f"{self.name} was made for {self.shape[0]} channel(s), and these images have {shape[0]}")

    @torch.no_grad()
    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        x = levels.to(self.device).float() / 255
        mean = adaptive_avg_pool2d(x, self.cells)
        deviation = (adaptive_avg_pool2d(x.square(), self.cells) - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean.flatten(1), deviation.flatten(1)], 1), None


def digest(weights: dict[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, independent of order, device and memory layout."""
    whole = hashlib.sha256()
    for name, value in sorted(weights.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
