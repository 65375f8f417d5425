"""Exponential moving averages of weights."""

from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor
from torch.optim import Optimizer

from unlabeled.distributed.sharded import gather_shards, local_part, shard_like


class WeightAveraging(Callback):
    """Keeps exponential moving averages of every player's weights and buffers beside the live ones.

    Right after a player's step: average <- d average + (1 - d) weight, with d = min(decay, (1 + t) / (10 + t)) after t
    of its steps, so that early weights are forgotten. Validation, pictures and evaluation use the averages; training
    never.
    """

    def __init__(self, decay: float = 0.999):
        self.decay = decay
        self.average: dict[str, Tensor] = {}  # state-dict name -> average, of what a player owns
        self.steps: list[int] = []  # of each optimizer
        self._live: dict[str, Tensor] | None = None
        self._hooks: list[Any] = []

    def on_fit_start(self, trainer: Trainer, method: Any) -> None:
        self.steps = self.steps or [0] * len(trainer.optimizers)
        names = {id(p): name for name, p in method.named_parameters()}
        for i, optimizer in enumerate(trainer.optimizers):
            owned = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
            homes = {name.split(".")[0] for name in owned}
            saved = set(method.state_dict())
            buffers = {n: b for n, b in method.named_buffers() if n in saved and n.split(".")[0] in homes}
            for name, value in (owned | buffers).items():
                old = self.average.get(name, value)
                self.average[name] = shard_like(old.detach().to(method.device, copy=True), value)
            self._hooks.append(optimizer.register_step_post_hook(self._follow(i, owned, buffers)))

    def _follow(self, i: int, weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Any:
        values = weights | {n: b for n, b in buffers.items() if b.is_floating_point()}
        counts = {n: b for n, b in buffers.items() if not b.is_floating_point()}

        @torch.no_grad()
        def follow(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            skipped = getattr(optimizer, "found_inf", None)  # a fused optimizer detects overflows itself
            if skipped is not None and skipped:
                return
            self.steps[i] += 1
            decay = min(self.decay, (1 + self.steps[i]) / (10 + self.steps[i]))
            averages = [local_part(self.average[name]) for name in values]
            torch._foreach_lerp_(averages, [local_part(value) for value in values.values()], 1 - decay)
            for name, value in counts.items():
                self.average[name].copy_(value)

        return follow

    def on_validation_start(self, trainer: Trainer, method: Any) -> None:
        self._live = {name: value.detach().clone() for name, value in method.state_dict().items()}
        method.load_state_dict(self._live | self.average)

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        if self._live is not None:
            method.load_state_dict(self._live)
        self._live = None

    def on_fit_end(self, trainer: Trainer, method: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"average": gather_shards(self.average), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average, self.steps = state["average"], state["steps"]
