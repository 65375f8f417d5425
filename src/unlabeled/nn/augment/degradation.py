"""Degradations of images: edges, grey, low resolution and holes, computed in batches on their device.

Random ones draw on the CPU from torch's generator, so that a seed means the same on every device.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from unlabeled.errors import UserError

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R BT.601


class Degradation(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> degraded images (B, C, h, w) in [-1, 1], of the same size unless stated."""

    random = False  # whether it draws

    def extra_repr(self) -> str:
        """Its settings, so that `repr` names what it does."""
        return ", ".join(
            f"{name}={value}" for name, value in vars(self).items() if name[0] != "_" and name != "training"
        )


class Grey(Degradation):
    """The luma of each pixel, in all three channels: 0.299 R + 0.587 G + 0.114 B."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise UserError(f"degradation=grey: images with {x.shape[1]} channel(s) have no colour to lose")
        return luma(x).expand_as(x)


class Edges(Degradation):
    """Black lines on white, one pixel wide: edges of the luma by Sobel's operator.

    A pixel is an edge where the squared gradient g^2 exceeds `threshold`^2 times its mean over the image, and is the
    largest of three neighbours in a row or column, whichever is nearer to the gradient's direction. Contrast and
    brightness of the whole image have no effect. A border continues as its outermost pixels.
    """

    def __init__(self, threshold: float = 1.0):
        super().__init__()
        if not threshold > 0:
            raise UserError(f"degradation=edges: threshold={threshold} must be above 0")
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        padded = pad(luma(x).float(), (1, 1, 1, 1), mode="replicate")
        across, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
        gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
        gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
        square = gx.square() + gy.square()  # (B, 1, H, W)
        around = pad(square, (1, 1, 1, 1))
        left, right = around[..., 1:-1, :-2], around[..., 1:-1, 2:]
        above, below = around[..., :-2, 1:-1], around[..., 2:, 1:-1]
        row = (gx.abs() >= gy.abs()) & (square >= left) & (square > right)
        column = (gy.abs() >= gx.abs()) & (square >= above) & (square > below)
        strong = square > self.threshold**2 * square.mean((2, 3), keepdim=True)
        return (1 - 2 * (strong & (row | column)).to(x.dtype)).expand_as(x)


class LowResolution(Degradation):
    """Images scaled down by a whole factor, bicubic and antialiased: (B, C, H, W) -> (B, C, H / scale, W / scale).

    The kernel is that of MATLAB's imresize (a = -0.5); values are not rounded to grey levels.
    """

    def __init__(self, scale: int = 2):
        super().__init__()
        if not isinstance(scale, int) or scale < 2:
            raise UserError(f"degradation=low_resolution: scale={scale} must be a whole number from 2 up")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % self.scale or width % self.scale:
            raise UserError(
                f"degradation=low_resolution: sides of {height}x{width} are no multiples of scale={self.scale}: "
                "say another data.size"
            )
        return enlarged(x, (height // self.scale, width // self.scale))


class Hole(Degradation):
    """A hole in each image, filled with the mean colour of what is left of it.

    Pathak et al. 2016, https://arxiv.org/abs/1604.07379, section 3.3. A subclass says where the hole is.
    """

    def mask(self, x: Tensor) -> Tensor:
        """Holes (B, 1, H, W) of images x (B, C, H, W): True where the image is missing."""
        raise NotImplementedError

    def fill(self, x: Tensor, mask: Tensor) -> Tensor:
        """Images (B, C, H, W) with holes (B, 1, H, W). Nothing of what was under a hole is left."""
        left = (~mask).sum((2, 3), keepdim=True)
        mean = x.masked_fill(mask, 0).sum((2, 3), keepdim=True) / left
        return torch.where(mask, mean.to(x.dtype), x)

    def forward(self, x: Tensor) -> Tensor:
        return self.fill(x, self.mask(x))


class CentreHole(Hole):
    """A rectangle in the centre, whose sides are a share of the image's."""

    def __init__(self, side: float = 0.5):
        super().__init__()
        self.side = between("hole_centre", "side", side)

    def mask(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        rows, columns = (inside(torch.arange(s, device=x.device), s, round(s * self.side)) for s in (height, width))
        return (rows[:, None] & columns).expand(n, 1, height, width)


class BlocksHole(Hole):
    """Square blocks at random places, which may overlap, until they cover at least `share` of the image."""

    random = True

    def __init__(self, share: float = 0.25, side: float = 0.25):
        super().__init__()
        self.share = between("hole_blocks", "share", share)
        self.side = between("hole_blocks", "side", side)  # of a block, of the image's shorter side

    def mask(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        block = max(1, round(min(height, width) * self.side))
        found = torch.zeros(n, height, width, dtype=torch.bool)
        while (open_ := found.float().mean((1, 2)) < self.share).any():
            top, left = (torch.randint(s - block + 1, (n, 1)) for s in (height, width))
            rows, columns = torch.arange(height) - top, torch.arange(width) - left  # (n, H), (n, W)
            rows, columns = (rows >= 0) & (rows < block), (columns >= 0) & (columns < block)
            found |= rows[:, :, None] & columns[:, None] & open_[:, None, None]
        return found[:, None].to(x.device)


class RegionHole(Hole):
    """A region of random shape that covers `share` of the image: the largest values of smooth noise."""

    random = True

    def __init__(self, share: float = 0.25, cells: int = 4):
        super().__init__()
        self.share = between("hole_region", "share", share)
        if not isinstance(cells, int) or cells < 2:
            raise UserError(f"degradation=hole_region: cells={cells} must be a whole number from 2 up")
        self.cells = cells  # of the noise, along a side: more make smaller pieces

    def mask(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        noise = interpolate(torch.rand(n, 1, self.cells, self.cells), (height, width), mode="bicubic").flatten(1)
        hit = noise.topk(max(1, round(self.share * height * width)), dim=1).indices
        found = torch.zeros(n, height * width, dtype=torch.bool).scatter_(1, hit, True)
        return found.view(n, 1, height, width).to(x.device)


def luma(x: Tensor) -> Tensor:
    """Grey (B, 1, H, W) of images (B, C, H, W) of three channels; the channel of those of one."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images scaled up or down to (height, width), bicubic with the kernel of MATLAB's imresize."""
    return interpolate(x.float(), size, mode="bicubic", antialias=True).clamp(-1, 1).to(x.dtype)


def inside(place: Tensor, length: int, part: int) -> Tensor:
    """Whether places lie in the middle `part` of 0..length-1."""
    start = (length - part) // 2
    return (place >= start) & (place < start + part)


def between(name: str, key: str, value: float) -> float:
    if not 0 < value < 1:
        raise UserError(f"degradation={name}: {key}={value} must lie between 0 and 1")
    return value
