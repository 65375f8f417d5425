"""Buffers that differ between ranks, saved for resuming."""

import hashlib
from typing import Any

from lightning import Callback, Trainer
from torch import distributed
from torch.nn.modules.batchnorm import _NormBase


class RankBuffers(Callback):
    """Saves the buffers in which ranks differ, such as image pools, of every rank in a checkpoint.

    Running statistics are excluded: only the first rank's are used. On another number of ranks all resume with the
    first rank's.
    """

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, method: Any, stage: str) -> None:
        self._trainer, self._method = trainer, method

    def _buffers(self) -> dict[str, Any]:
        statistics = {id(b) for m in self._method.modules() if isinstance(m, _NormBase) for b in m.buffers()}
        saved = self._method.state_dict().keys()
        return {n: b for n, b in self._method.named_buffers() if n in saved and id(b) not in statistics}

    def state_dict(self) -> dict[str, Any]:
        """All ranks call it; the main rank's is saved."""
        world, buffers = self._trainer.world_size, self._buffers()
        if world == 1 or not buffers:
            return {}
        digests: list[Any] = [None] * world
        distributed.all_gather_object(digests, {n: _digest(b) for n, b in buffers.items()})
        differing = [name for name in buffers if len({found[name] for found in digests}) > 1]
        if not differing:
            return {}
        ranks: list[Any] | None = [None] * world if self._trainer.is_global_zero else None
        distributed.gather_object({name: buffers[name].cpu() for name in differing}, ranks)
        return {"ranks": ranks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept = state["ranks"]

    def on_fit_start(self, trainer: Trainer, method: Any) -> None:
        if len(self._kept) == trainer.world_size:
            buffers = self._buffers()
            for name, value in self._kept[trainer.global_rank].items():
                buffers[name].copy_(value)
        self._kept = []


def _digest(value: Any) -> str:
    return hashlib.blake2b(value.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()
