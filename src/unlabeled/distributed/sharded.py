"""Tensors of which every rank holds a part (trainer=fsdp)."""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only


def gather_shards(tree: Any) -> Any:
    """Nested containers with their parts put together on the CPU. All ranks call it."""
    return tree_map_only(DTensor, lambda value: value.full_tensor().cpu(), tree)


def local_part(value: Tensor) -> Tensor:
    """This rank's part, where it lies; a tensor that is not shared out, as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def shard_like(value: Any, model: Tensor) -> Any:
    """A whole tensor shared out as `model` is, if it has its shape; anything else as it is."""
    plain = isinstance(value, Tensor) and not isinstance(value, DTensor)
    if isinstance(model, DTensor) and plain and value.shape == model.shape:
        return distribute_tensor(value.to(model.device), model.device_mesh, model.placements)
    return value


@torch.no_grad()
def all_finite(value: Tensor) -> bool:
    """Whether all of it is, on every rank."""
    if not isinstance(value, DTensor):
        # NaN passes through both; a tenth of the time of isfinite, which writes down one bit for each
        return not value.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(value))).all())
    bad = (~torch.isfinite(value.to_local())).sum()
    torch.distributed.all_reduce(bad)
    return not bad
