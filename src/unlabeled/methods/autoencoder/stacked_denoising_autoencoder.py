"""Stacked denoising autoencoder.

Vincent, Larochelle, Lajoie, Bengio & Manzagol 2010, https://jmlr.org/papers/v11/vincent10a.html, section 3.5. The
layers f_i are trained one after the other; each learns to denoise the features v that the fixed layers below it compute
from clean images:

    stage i:  min over f_i, g_i of  E L(v, g_i(f_i(C(v)))),  v = f_{i-1}(... f_1(x))
    last:     min over all of       E L(x, g_1(... g_n(f_n(... f_1(C(x))))))

Paper: fine-tuned with labels instead, here by evaluation=finetune; without labels as a deep autoencoder, as Hinton &
Salakhutdinov 2006, https://doi.org/10.1126/science.1127647. The stages before the last share `pretraining` of the run
evenly.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.losses.distance import Distance
from unlabeled.methods.autoencoder.filters import filters
from unlabeled.methods.method import Method


class SigmoidLayer(nn.Module):
    """v (B, inputs) -> h (B, outputs), a sigmoid scaled to [-1, 1], the range of v, and back."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.up = nn.Linear(inputs, outputs)
        self.down = nn.Linear(outputs, inputs)
        # a sigmoid's slope is 1/4: Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, with 4 times
        # the range, or the upper layers' features barely vary
        nn.init.xavier_uniform_(self.up.weight, gain=4)
        nn.init.zeros_(self.up.bias)

    def forward(self, v: Tensor) -> Tensor:
        return self.up((v + 1) / 2).sigmoid() * 2 - 1

    def back(self, h: Tensor) -> Tensor:
        """h (B, outputs) -> (B, inputs), unbounded, for the distance."""
        return self.down((h + 1) / 2)


class StackedDenoisingAutoencoder(Method):
    monitor = "val/reconstruction_loss"  # of the whole stack; the stages' own losses do not compare

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W)
        widths: Sequence[int],  # units of each layer; the last are the code's
        corruption: nn.Module,  # C: (B, ...) in [-1, 1] -> the same shape
        distance: Distance,  # L
        pretraining: float,  # share of the run in which the layers are trained one by one
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        if not widths or not 0 <= pretraining <= 1:
            raise UserError(
                f"model: widths={list(widths)}, pretraining={pretraining}: at least one layer, and a share in [0, 1]"
            )
        self.shape = tuple(shape)
        self.names = [f"layer{i}" for i in range(1, len(widths) + 1)]
        for name, (inputs, outputs) in zip(self.names, pairwise([prod(shape), *widths]), strict=True):
            self.add_module(name, SigmoidLayer(inputs, outputs))
        self.corruption = corruption
        self.distance = distance
        self.pretraining = pretraining
        self.latent_dim = widths[-1]
        self.optimizer = optimizer
        self.schedule = schedule

    @property
    def stack(self) -> list[SigmoidLayer]:
        return [getattr(self, name) for name in self.names]

    @property
    def stage(self) -> int:
        """0 to n - 1 while one layer is trained, then n."""
        if self.progress >= self.pretraining:
            return len(self.names)
        return int(self.progress / self.pretraining * len(self.names))

    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        found, v = {}, x.flatten(1)
        for name, layer in zip(self.names, self.stack, strict=True):
            found[name] = v = layer(v).float()
        return found

    def encode(self, x: Tensor) -> Tensor:
        return self.intermediate_features(x)[self.names[-1]]

    def decode(self, z: Tensor) -> Tensor:
        return self.distance.image(self.output(z)).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Rows of images, of corrupted images, and of their reconstructions; and the first layer's filters."""
        corrupted = self.corruption(x[:8])
        rows = {"image": x[:8], "corrupted": corrupted.clamp(-1, 1), "denoised": self.reconstruct(corrupted)}
        captions = [name for name, row in rows.items() for _ in row]
        return filters(self, x.shape[1:]) | {"denoised": (torch.cat(list(rows.values())), captions)}

    def output(self, z: Tensor) -> Tensor:
        """g_1(... g_n(z)), (B, C H W), for the distance."""
        for layer in reversed(self.stack[1:]):
            z = self.distance.image(layer.back(z))
        return self.stack[0].back(z).float()

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        if self.stage < len(self.names):
            return self.layer_loss(batch.x)
        return self.whole_loss(batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.whole_loss(batch.x)

    def layer_loss(self, x: Tensor) -> Tensor:
        """L of the stage's layer, summed over its inputs, mean over the batch."""
        layer = self.stack[self.stage]
        with torch.no_grad():
            v = x.flatten(1)
            for below in self.stack[: self.stage]:
                v = below(v).float()
        error = self.distance(layer.back(layer(self.corruption(v))).float(), v).mean()
        self.record(**{f"reconstruction_loss_{self.names[self.stage]}": error})
        return error

    def whole_loss(self, x: Tensor) -> Tensor:
        """L of the whole stack, summed over pixels, mean over the batch."""
        error = self.distance(self.output(self.encode(self.corruption(x))), x.flatten(1)).mean()
        self.record(reconstruction_loss=error)
        return error

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters())
