"""Gradient clipping for automatic and manual optimization alike."""

from typing import Any

from lightning import Callback, Trainer
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer


class Clip(Callback):
    """Scale each player's gradient down to at most `norm` (2-norm) before its step; None: leave it.

    Here gradients are unscaled also under 16-mixed; Lightning's own clipping is refused in manual optimization.
    """

    def __init__(self, norm: float | None = None):
        self.norm = norm

    def on_before_optimizer_step(self, trainer: Trainer, method: Any, optimizer: Optimizer) -> None:
        if self.norm is not None:
            clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.norm)
