"""Switches that change a step's speed, not its result: compile, channels_last, matmul_precision, fused."""

import inspect
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn
from torch.optim import Optimizer

from unlabeled.distributed.strategies import networks
from unlabeled.errors import UserError, suggest

MATMUL = ("highest", "high", "medium")  # torch's own words


def fused(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config with fused=True in every optimizer."""
    if not _switch(config, "fused"):
        return config["model"]
    return _fused(config["model"])


def _fused(node: Any) -> Any:
    if isinstance(node, list):
        return [_fused(value) for value in node]
    if not isinstance(node, dict):
        return node
    node = {name: _fused(value) for name, value in node.items()}
    if "_target_" in node and node.get("_partial_"):
        target = get_object(node["_target_"])
        if inspect.isclass(target) and issubclass(target, Optimizer):
            if "fused" not in inspect.signature(target).parameters:
                raise UserError(f"fused=true: {node['_target_']} has no fused kernel; say fused=false")
            node["fused"] = True
    return node


def accelerate(method: nn.Module, config: dict[str, Any]) -> None:
    """Rearrange and compile a method's networks in place: names and values in a checkpoint stay."""
    precision = config.get("matmul_precision", "highest")
    if precision not in MATMUL:
        raise UserError(f"matmul_precision={precision}: say {', '.join(MATMUL[:-1])} or {MATMUL[-1]}")
    torch.set_float32_matmul_precision(precision)
    if _switch(config, "channels_last"):
        method.to(memory_format=torch.channels_last)
    backend = config.get("compile")
    if backend in (None, False):
        return
    known = torch.compiler.list_backends(exclude_tags=())
    if backend is not True and backend not in known:
        raise UserError(f"compile={backend}: say true, false or a backend of torch.compile; {suggest(backend, known)}")
    for network in networks(method).values():
        network.compile(backend="inductor" if backend is True else backend)


def _switch(config: dict[str, Any], name: str) -> bool:
    value = config.get(name, False)  # runs of earlier versions have none
    if not isinstance(value, bool):
        raise UserError(f"{name}={value}: say true or false")
    return value
