"""Adaptive discriminator augmentation (ADA), whose strength follows the discriminator's overfitting.

Karras et al. 2020, https://arxiv.org/abs/2006.06676, section 3 and appendix B: pixel blitting, geometry and colour, the
part of the pipeline that the paper trains with. Deviations: the geometry is resampled bilinearly, where the paper
filters with a wavelet; images of other than three channels have no luma flip, hue and saturation.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from unlabeled.errors import UserError
from unlabeled.nn.augment.augmentation import Augmentation
from unlabeled.nn.augment.diff_augment import check_images
from unlabeled.nn.augment.views import span, turn
from unlabeled.nn.layers.ranks import sum_over_ranks


class AdaptiveAugmentation(Augmentation):
    """x (B, C, H, W) -> x' of the same shape: each transformation with probability p, drawn for each image.

    Every `interval` batches p moves by the number of images since over `ramp`: up if r_t = E sign(D(x))
    over them is above `target`, else down, within [0, 1]. Scores must be logits about 0: of the objectives
    non_saturating, logistic, minimax or hinge.
    """

    reads_signs = True  # of scores, see has_signed_score in losses.adversarial
    p: Tensor
    signs: Tensor
    seen: Tensor
    calls: Tensor

    def __init__(
        self,
        p: float = 0.0,  # at the start
        target: float = 0.6,  # of r_t
        interval: int = 4,  # batches between two adjustments
        ramp: float = 500_000,  # images in which p can go from 0 to 1; inf: p is fixed
    ):
        super().__init__()
        if not 0 <= p <= 1 or interval < 1 or ramp <= 0:
            raise UserError(
                f"augmentation with p={p}, interval={interval}, ramp={ramp}: p from 0 to 1, the others positive"
            )
        self.target, self.interval, self.ramp = target, interval, ramp
        self.register_buffer("p", torch.tensor(float(p)))
        self.register_buffer("signs", torch.zeros(()))  # sum of sign(D(x)) since the last adjustment
        self.register_buffer("seen", torch.zeros(()))  # images since
        self.register_buffer("calls", torch.zeros(()))  # batches since

    def forward(self, x: Tensor) -> Tensor:
        check_images(x)
        with torch.autocast(x.device.type, enabled=False):  # coordinates in half precision would be off by pixels
            return self.coloured(self.moved(x.float())).to(x.dtype)

    @torch.no_grad()
    def observe(self, score_real: Tensor) -> dict[str, Tensor]:
        """The discriminator's scores of real images (B,) -> p, to be recorded. Does not wait for the device."""
        batch = torch.stack([score_real.float().sign().sum(), score_real.new_full((), len(score_real)).float()])
        batch = sum_over_ranks(batch)  # all ranks have one p
        self.signs += batch[0]
        self.seen += batch[1]
        self.calls += 1
        due = self.calls >= self.interval
        step = (self.signs / self.seen - self.target).sign() * self.seen / self.ramp
        self.p.add_(step * due).clamp_(0, 1)
        for count in (self.signs, self.seen, self.calls):
            count.mul_(~due)
        return {"augmentation_probability": self.p.clone()}

    def chance(self, x: Tensor, p: Tensor | None = None) -> Tensor:
        """Whether each image gets a transformation, (B,)."""
        return torch.rand(len(x), device=x.device) < (self.p if p is None else p)

    def geometry(self, x: Tensor) -> Tensor:
        """(B, 3, 3): coordinates in x' -> coordinates in x, in pixels from the image's centre."""
        b, _, height, width = x.shape
        one = torch.ones(b, device=x.device)
        uniform = lambda: torch.rand(b, device=x.device)
        normal = lambda: torch.randn(b, device=x.device)
        p_rotate = 1 - (1 - self.p).sqrt()  # so that p is the probability of at least one of two rotations
        some_turn = lambda: (2 * uniform() - 1) * math.pi * self.chance(x, p_rotate)

        on = self.chance(x) & (uniform() < 0.5)
        g = scaling(torch.where(on, -one, one), one)  # x-flip
        g = g @ rotation((uniform() * 4).floor() * (math.pi / 2) * self.chance(x))
        on = self.chance(x)
        g = g @ translation(*((size * 0.125 * (2 * uniform() - 1) * on).round() for size in (width, height)))
        s = torch.exp2(0.2 * normal() * self.chance(x))
        g = g @ scaling(s, s) @ rotation(some_turn())
        s = torch.exp2(0.2 * normal() * self.chance(x))
        g = g @ scaling(s, 1 / s) @ rotation(some_turn())
        on = self.chance(x)
        return g @ translation(*(size * 0.125 * normal() * on for size in (width, height)))

    def colours(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, C) and (B, 1, 1): colours c of x -> a (c + shift)."""
        b, channels = x.shape[:2]
        uniform = lambda: torch.rand(b, device=x.device)
        normal = lambda: torch.randn(b, device=x.device)
        shift = (0.2 * normal() * self.chance(x))[:, None, None]  # brightness
        gain = torch.exp2(0.5 * normal() * self.chance(x))[:, None, None]  # contrast
        eye = torch.eye(channels, device=x.device)
        if channels != 3:
            return eye * gain, shift
        luma = torch.full((3, 3), 1 / 3, device=x.device)  # v v^T of the grey axis v
        flip = (self.chance(x) & (uniform() < 0.5))[:, None, None]
        hue = turn((2 * uniform() - 1) * math.pi * self.chance(x))
        saturation = torch.exp2(normal() * self.chance(x))[:, None, None]
        a = torch.lerp(luma, eye, saturation) @ hue @ (eye - 2 * luma * flip)
        return torch.where(self.unmoved(saturation - 1, hue - eye, flip), eye, a) * gain, shift

    def moved(self, x: Tensor) -> Tensor:
        g = self.geometry(x)
        still = self.unmoved(g - torch.eye(3, device=x.device))
        return torch.where(still[..., None], x, warp(x, g))

    def coloured(self, x: Tensor) -> Tensor:
        a, shift = self.colours(x)
        still = self.unmoved(a - torch.eye(x.shape[1], device=x.device), shift)
        return torch.where(still[..., None], x, (a @ (x.flatten(2) + shift)).view(x.shape))

    def unmoved(self, *changes: Tensor) -> Tensor:
        """Where all changes (B, ...) are 0, (B, 1, 1)."""
        return torch.stack([(change == 0).flatten(1).all(1) for change in changes]).all(0)[:, None, None]


def warp(x: Tensor, g: Tensor) -> Tensor:
    """x (B, C, H, W) resampled by g (B, 3, 3), coordinates in x' -> in x, in pixels; reflected at the border."""
    height, width = x.shape[2:]
    half = torch.tensor([width / 2, height / 2, 1.0], device=x.device)
    theta = g / half[:, None] * half  # in halves of the sides, as grid_sample has it
    rows, columns = (span(size, x) for size in (height, width))
    places = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], 2).flatten(0, 1)
    grid = (places @ theta[:, :2, :2].transpose(1, 2) + theta[:, None, :2, 2]).unflatten(1, (height, width))
    return grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, t_x: Tensor, t_y: Tensor) -> Tensor:
    """[[a, b, t_x], [c, d, t_y], [0, 0, 1]] with entries (B,): (B, 3, 3)."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, t_x, c, d, t_y, zero, zero, one], 1).unflatten(1, (3, 3))


def scaling(s_x: Tensor, s_y: Tensor) -> Tensor:
    zero = torch.zeros_like(s_x)
    return affine(s_x, zero, zero, s_y, zero, zero)


def rotation(angle: Tensor) -> Tensor:
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return affine(cos, -sin, sin, cos, zero, zero)


def translation(t_x: Tensor, t_y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(t_x), torch.ones_like(t_x)
    return affine(one, zero, zero, one, t_x, t_y)
