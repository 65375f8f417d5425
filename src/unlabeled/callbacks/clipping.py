"""Gradient clipping for automatic and manual optimization alike."""

from typing import Any

from lightning import Callback, Trainer
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from unlabeled.callbacks.gradients import gradient_norm
from unlabeled.distributed.sharded import local_part


class Clip(Callback):
    """Scales each player's gradient down to at most `norm` (2-norm) before its step; None: no clipping.

    Gradients are unscaled here also under 16-mixed (app/run/precision.py). Lightning refuses its own clipping in manual
    optimization.
    """

    def __init__(self, norm: float | None = None):
        self.norm = norm

    def on_before_optimizer_step(self, trainer: Trainer, method: Any, optimizer: Optimizer) -> None:
        if self.norm is None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if not any(isinstance(p, DTensor) for p in parameters):
            clip_grad_norm_(parameters, self.norm)
            return
        factor = (self.norm / (gradient_norm(optimizer) + 1e-6)).clamp(max=1)  # as clip_grad_norm_
        for parameter in parameters:
            if parameter.grad is not None:
                local_part(parameter.grad).mul_(factor)
