"""Norms of each player's gradient."""

from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from unlabeled.distributed.sharded import local_part


class GradientNorms(Callback):
    """Records train/gradient_norm, the 2-norm of an optimizer's whole gradient before clipping.

    With several optimizers train/gradient_norm_PLAYER, named by the child modules that each updates. Measured at the
    first step of every `every` batches; None: never.
    """

    def __init__(self, every: int | None = 50):
        self.every = every
        self.taken: list[int] = []  # of each optimizer: the last measured interval of batches
        self._names: list[str] = []

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        children = {id(p): name for name, child in method.named_children() for p in child.parameters()}
        owned = [
            dict.fromkeys(children.get(id(p), "") for group in optimizer.param_groups for p in group["params"])
            for optimizer in trainer.optimizers
        ]
        players = ["_" + "_and_".join(names) for names in owned] if len(owned) > 1 else [""]
        self._names = [f"gradient_norm{player}" for player in players]
        self.taken = self.taken or [-1] * len(owned)

    def on_before_optimizer_step(self, trainer: Trainer, method: Any, optimizer: Optimizer) -> None:
        if self.every is None:
            return
        span = trainer.fit_loop.total_batch_idx // self.every
        player = [id(other) for other in trainer.optimizers].index(id(optimizer))
        if span == self.taken[player]:
            return
        norm = gradient_norm(optimizer)
        if trainer.precision == "16-mixed" and not torch.isfinite(norm):
            return  # overflow under loss scaling: the step will be skipped
        self.taken[player] = span
        method.record(**{self._names[player]: norm})

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.taken = state["taken"]


@torch.no_grad()
def gradient_norm(optimizer: Optimizer) -> Tensor:
    """(), without waiting for the device. Where ranks hold parts of some gradients, all call it."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    parts = [local_part(gradient) for gradient in gradients if isinstance(gradient, DTensor)]
    wholes = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    if not parts:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(wholes)))
    squares = torch.stack(torch._foreach_norm(parts)).square().sum()
    distributed.all_reduce(squares)
    return sum((gradient.square().sum() for gradient in wholes), squares).sqrt()
