"""Random views of a batch of images, computed on their device, with a draw for each image.

The augmentations of SimCLR, Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix A. What differs from
the usual pipeline of one image at a time:

- the crop has real-valued corners, and a pixel at its rim is interpolated with its neighbour outside. The size
  stays the same, so that crops are only enlarged and need no antialiasing;
- brightness, contrast, saturation and hue are in this order, not in a random one, and clamped once, at
  the end: they are one affine map of the colours of each image;
- hue is a rotation about the grey axis: the hue of HSV moves by the same angle to within 2.5 degrees, but the
  sum of red, green and blue is kept, not the largest of them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, pad

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R BT.601


class Views(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> one random view of each, same shape, range and type.

    Crop and flip, then jitter and grey, then blur. Colour means three channels; brightness and
    contrast are applied to any number of channels, saturation, hue and grey to three only.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.08, 1.0),  # a crop's share of the area; (1, 1) with ratio (1, 1) is no crop
        ratio: Sequence[float] = (3 / 4, 4 / 3),  # a crop's width / height
        flip: float = 0.5,  # probability of a left-right flip
        jitter: float = 0.8,  # probability of the next four together
        brightness: float = 0.4,  # factor from [1 - brightness, 1 + brightness]
        contrast: float = 0.4,  # likewise, about the mean grey
        saturation: float = 0.4,  # likewise, about each pixel's grey
        hue: float = 0.1,  # rotation from [-hue, hue], in turns
        grey: float = 0.2,  # probability of dropping the colours
        blur: float = 0.0,  # probability of a Gaussian blur, its kernel a tenth of the height
        sigma: Sequence[float] = (0.1, 2.0),  # standard deviation of the blur, in pixels
    ):
        super().__init__()
        self.scale, self.ratio, self.flip = scale, ratio, flip
        self.jitter, self.grey = jitter, grey
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.blur, self.sigma = blur, sigma

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = self.cropped(x.float())
            y = self.coloured(y)
            y = self.blurred(y)
        return y.to(x.dtype)

    def cropped(self, x: Tensor) -> Tensor:
        """Inception's: a random share of the area at a random ratio, scaled up to the whole; and the flip."""
        b, _, height, width = x.shape
        tries = 10  # as in the usual implementation; if none fits, the last is cut to the image
        area = height * width * uniform((b, tries), self.scale[0], self.scale[1], x)
        ratio = uniform((b, tries), math.log(self.ratio[0]), math.log(self.ratio[1]), x).exp()
        wide, high = (area * ratio).sqrt(), (area / ratio).sqrt()
        fits = (wide <= width) & (high <= height)
        fits[:, -1] = True
        first = fits.int().argmax(1, keepdim=True)
        share_x = (wide.gather(1, first)[:, 0] / width).clamp(max=1)  # (B,), the crop's share of the width
        share_y = (high.gather(1, first)[:, 0] / height).clamp(max=1)
        sign = 1 - 2 * (torch.rand(b, device=x.device) < self.flip).float()
        move_x, move_y = ((1 - share) * uniform((b,), -1, 1, x) for share in (share_x, share_y))
        # Output pixel -> input coordinates, both in [-1, 1]. By axis, as affine_grid takes twice as long.
        across = span(width, x) * (share_x * sign)[:, None] + move_x[:, None]  # (B, W)
        down = span(height, x) * share_y[:, None] + move_y[:, None]  # (B, H)
        size = (b, height, width)
        grid = torch.stack([across[:, None].expand(size), down[:, :, None].expand(size)], 3)
        return grid_sample(x, grid, padding_mode="border", align_corners=False)

    def coloured(self, x: Tensor) -> Tensor:
        """Jitter and grey as one affine map a x + t per image; a (B, C, C), t (B,)."""
        b, channels = x.shape[:2]
        on = torch.rand(b, device=x.device) < self.jitter

        def factor(strength: float) -> Tensor:
            return torch.where(on, uniform((b,), max(0.0, 1 - strength), 1 + strength, x), 1.0)

        brightness, contrast, saturation = map(factor, (self.brightness, self.contrast, self.saturation))
        angle = torch.where(on, uniform((b,), -2 * math.pi * self.hue, 2 * math.pi * self.hue, x), 0.0)
        drop = torch.rand(b, device=x.device) < self.grey
        luma = x.new_tensor(LUMA) if channels == 3 else x.new_full((channels,), 1 / channels)
        mean = x.mean((2, 3)) @ luma  # mean grey, (B,)
        # In [0, 1] the two are contrast (brightness u) + (1 - contrast) mean; this is the same in [-1, 1].
        gain = brightness * contrast
        shift = gain - 1 + (1 - contrast) * brightness * (mean + 1)
        if channels != 3:
            return (x * gain[:, None, None, None] + shift[:, None, None, None]).clamp_(-1, 1)
        # All of these map grey to itself, so that they commute with the shift.
        grey = luma.expand(3, 3)
        a = torch.lerp(grey, torch.eye(3, device=x.device), saturation[:, None, None])
        a = torch.where(drop[:, None, None], grey, turn(angle) @ a) * gain[:, None, None]
        y = torch.baddbmm(shift[:, None, None], a, x.flatten(2))
        return y.clamp_(-1, 1).view_as(x)

    def blurred(self, x: Tensor) -> Tensor:
        """A separable Gaussian on a random subset."""
        # The number is drawn on the CPU, the images on the device, so that nothing waits for the device.
        count = int((torch.rand(len(x)) < self.blur).sum())
        if not count:
            return x
        chosen = torch.rand(len(x), device=x.device).argsort()[:count]
        radius = max(1, round(0.05 * x.shape[2]))
        sigma = uniform((count, 1), self.sigma[0], self.sigma[1], x)
        taps = torch.arange(-radius, radius + 1, device=x.device)
        kernel = (-(taps**2) / (2 * sigma**2)).softmax(1)[:, :, None, None, None]  # sums to 1 over taps
        y = x[chosen]
        for axis in (2, 3):
            size = y.shape[axis]
            ends = pad(y, (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0), mode="reflect")
            y = sum(kernel[:, i] * ends.narrow(axis, i, size) for i in range(len(taps)))  # type: ignore[assignment]
        return x.index_copy(0, chosen, y)


def uniform(size: tuple[int, ...], low: float, high: float, like: Tensor) -> Tensor:
    return torch.rand(size, device=like.device) * (high - low) + low


def span(size: int, like: Tensor) -> Tensor:
    """Centres of `size` pixels across [-1, 1]."""
    return (2 * torch.arange(size, device=like.device) + 1) / size - 1


def turn(angle: Tensor) -> Tensor:
    """(B,) radians -> rotations of RGB about the grey axis (B, 3, 3): a third of a turn makes red green."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    cross = angle.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # product with the axis
    return cos * torch.eye(3, device=angle.device) + (1 - cos) / 3 + sin * cross
