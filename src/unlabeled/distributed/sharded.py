"""Sharded tensors, of which every rank holds a part (trainer=fsdp)."""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only


def gather_shards(tree: Any) -> Any:
    """Nested containers with their sharded tensors gathered on the CPU. All ranks call it."""
    return tree_map_only(DTensor, lambda value: value.full_tensor().cpu(), tree)


def local_part(value: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, on its device; another tensor unchanged."""
    return value.to_local() if isinstance(value, DTensor) else value


def shard_like(value: Any, model: Tensor) -> Any:
    """A whole tensor sharded like `model`, if it has its shape; anything else unchanged."""
    plain = isinstance(value, Tensor) and not isinstance(value, DTensor)
    if isinstance(model, DTensor) and plain and value.shape == model.shape:
        return distribute_tensor(value.to(model.device), model.device_mesh, model.placements)
    return value


@torch.no_grad()
def all_finite(value: Tensor) -> bool:
    """Whether all values are finite, on every rank."""
    if not isinstance(value, DTensor):
        # NaN passes through both; a tenth of the time of isfinite, which writes a mask
        return not value.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(value))).all())
    bad = (~torch.isfinite(value.to_local())).sum()
    torch.distributed.all_reduce(bad)
    return not bad
