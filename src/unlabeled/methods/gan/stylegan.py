"""StyleGAN: a mapping network, and a generator with styles at each layer.

Karras et al. 2019, https://arxiv.org/abs/1812.04948, sections 2 and 3.1. Training is as in GAN except for the fakes:
w = f(z), and in most images the styles from some layer on are another code's. R1 is taken at every step.

The paper grows both networks as progressive_gan does. Here they are of full size from the start, as in StyleGAN2.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unlabeled.methods.gan.gan import GAN
from unlabeled.nn.gan.style import Mapping, mix_styles


class StyleGAN(GAN):
    def __init__(
        self,
        mapping: Mapping,  # z (B, Z) -> w (B, W)
        style_mixing_prob: float,  # share of images with two codes' styles
        truncation: float,  # psi of images drawn after training, in every layer
        **named: Any,  # of GAN; the generator takes styles (B, layers, W), fresh noise or not
    ):
        super().__init__(**named)
        self.mapping = mapping
        self.style_mixing_prob, self.truncation = style_mixing_prob, truncation
        self.layers: int = self.generator.layers  # type: ignore[assignment]

    def render(self, w: Tensor, psi: float = 1.0, fresh: bool = False) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] of w (n, W) or of styles (n, layers, W)."""
        w = self.mapping.truncate(w, psi)
        styles = w if w.ndim == 3 else w[:, None].expand(-1, self.layers, -1)
        return self.generator(styles, fresh).float().clamp(-1, 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.render(self.mapping(z), self.truncation)

    def sample(self, n: int) -> Tensor:
        return self.render(self.mapping(self.sample_prior(n)), self.truncation, fresh=True)

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        w = self.mapping(self.sample_prior(8))
        return {
            "truncation": truncation_sweep(self.render, w),
            "style_mixing": mixing_table(self.render, w, self.layers),
        }

    def styles(self, n: int) -> Tensor:
        """Styles of training (n, layers, W), some mixed, none truncated."""
        w, other = self.mapping(self.sample_prior(2 * n)).chunk(2)
        self.mapping.follow(w)
        return mix_styles(w, other, self.layers, self.style_mixing_prob)

    def draw(self, n: int, last: bool) -> Tensor:
        return self.generator(self.styles(n)).float()

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.generator_optimizer([*self.mapping.parameters(), *self.generator.parameters()]),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]


Render = Callable[..., Tensor]  # w (n, W) or styles (n, layers, W), and psi -> images (n, C, H, W)


def truncation_sweep(render: Render, w: Tensor) -> tuple[Tensor, list[str]]:
    """Rows: the same w (8, W) from the mean (psi = 0) to themselves (psi = 1); images and captions for DrawsFigures."""
    steps = [0.0, 0.25, 0.5, 0.75, 1.0]
    return torch.cat([render(w, psi) for psi in steps]), [f"psi = {psi:g}" for psi in steps for _ in w]


def mixing_table(render: Render, w: Tensor, layers: int) -> tuple[Tensor, list[str]]:
    """Columns: w (8, W); rows below the first: its coarse styles, with the fine styles of another (8 - 1 rows).

    Karras et al. 2019, figure 3, with one crossover, at the middle layer.
    """
    styles = w[:, None].expand(-1, layers, -1)
    half = layers // 2
    rows = [render(styles)]
    for fine in styles[: len(w) - 1]:
        rows.append(render(torch.cat([styles[:, :half], fine[half:].expand(len(w), -1, -1)], 1)))
    names = [f"{i + 1}" for i in range(len(w))]
    captions = names + [f"{a} coarse, {b} fine" for b in names[:-1] for a in names]
    return torch.cat(rows), captions
