"""ResNet-18 for any number of channels, width and size. He, Zhang, Ren & Sun 2016, https://arxiv.org/abs/1512.03385.

Images with a side below 64 get the stem that the paper uses on CIFAR-10 (section 4.2): a 3x3 convolution of
stride 1 and no pooling, so that a 32x32 image is a 32x32 map after it. Larger ones get 7x7 of stride 2 and
max pooling.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from unlabeled.nn.backbones.backbone import Backbone


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: figure 2; a 1x1 projection where the size changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(residual + self.shortcut(x))


class ResNet18(Backbone):
    """x (B, C, H, W) -> globally pooled features (B, dim), dim = 8 width."""

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W) of the images; H and W choose the stem, any are accepted later
        width: int = 64,  # channels of the first stage; each further stage doubles them
    ):
        super().__init__()
        channels, height, width_in_pixels = shape
        self.dim = 8 * width
        small = min(height, width_in_pixels) < 64
        convolution = (
            nn.Conv2d(channels, width, 3, 1, 1, bias=False)
            if small
            else nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        )
        pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.stem = nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), pool)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.ModuleList(
            nn.Sequential(Block(a, b, stride), Block(b, b, 1))
            for a, b, stride in zip(widths, widths[1:], (1, 2, 2, 2), strict=False)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. 2015 for convolutions; the last scale of each residual starts at 0.

        Paper: all scales start at 1. Here as Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section
        5.1: every block starts as its shortcut, which stabilises the first steps at high learning rates.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, Block):
                nn.init.zeros_(module.norm2.weight)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Features after each of the four stages: (B, w, H, W), (B, 2w, H / 2, W / 2), ..., up to the stem's stride."""
        x = self.stem(x)
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found
