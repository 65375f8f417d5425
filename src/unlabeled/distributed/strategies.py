"""Strategies that make several processes one run, and decide what they share."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from unlabeled.distributed.sharded import gather_shards, shard_like
from unlabeled.distributed.synchronized import SynchronizedBatchNorm
from unlabeled.errors import UserError

WRAPPING = inspect.signature(DistributedDataParallel).parameters


def networks(method: nn.Module) -> dict[str, nn.Module]:
    """The children with a forward and weights, which are compiled or sharded."""
    children = method.named_children()
    return {n: m for n, m in children if type(m).forward is not nn.Module.forward and any(True for _ in m.parameters())}


def shardable(method: nn.Module) -> dict[str, nn.Module]:
    """The networks; of a discriminator with features (nn/gan/discriminators.py) body and head separately."""
    found: dict[str, nn.Module] = {}
    for name, network in networks(method).items():
        found |= (
            {f"{name}.{n}": m for n, m in networks(network).items()} if hasattr(network, "score") else {name: network}
        )
    return found


class SynchronizedNorms(LayerSync):
    """trainer.sync_batchnorm=true on a CPU, which torch does not support."""

    def __init__(self) -> None:
        self._kinds: dict[nn.Module, type[nn.Module]] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        self._kinds = {module: type(module) for module in model.modules() if isinstance(module, _BatchNorm)}
        for module in self._kinds:
            module.__class__ = SynchronizedBatchNorm  # the same weights and statistics; another forward
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for module, kind in self._kinds.items():
            module.__class__ = kind
        return model


class Replicated(DDPStrategy):
    """Every rank has the whole method; gradients are means over ranks.

    Each rank has its own buffers (image pools, running statistics), which are not synchronized in training. Validation
    uses the first rank's running statistics on all ranks, as checkpoints do.
    """

    def __init__(self, **settings: Any):
        # before torch 2.15 it had another name
        sync = "forward_sync_buffers" if "forward_sync_buffers" in WRAPPING else "broadcast_buffers"
        # players that take turns leave the others' parameters unused
        super().__init__(**{"find_unused_parameters": True, sync: False} | settings)

    def setup(self, trainer: Any) -> None:
        if self._layer_sync is not None and self.root_device.type == "cpu":
            self._layer_sync = SynchronizedNorms()
        super().setup(trainer)

    def on_validation_start(self) -> None:  # runs after the callbacks, so averages are in place
        assert self.lightning_module is not None
        norms = [m for m in self.lightning_module.modules() if isinstance(m, _NormBase)]
        for statistic in (b for norm in norms for b in norm.buffers()):
            torch.distributed.broadcast(statistic, src=0)


class Sharded(Replicated):
    """Every rank keeps a part of each network's weights, gradients and optimizer state: FSDP2, Zhao et al. 2023,
    https://arxiv.org/abs/2304.11277.

    Each network is gathered for its forward and backward pass. The few parameters outside of networks (a likelihood's
    sigma) stay whole, and their gradients are means over ranks. Checkpoints are those of one process. A method that
    reads a network's weights outside of its forward pass (tied or penalised ones) is refused.
    """

    def configure_ddp(self) -> None:
        method = self.lightning_module
        assert method is not None
        if any(getattr(part, "needs_double_backward", False) for part in vars(method).values()):
            raise UserError("trainer=fsdp cannot differentiate twice, as this penalty does: say trainer=ddp")
        if self.precision_plugin.precision == "16-mixed":
            raise UserError("trainer=fsdp has no loss scaling: say trainer.precision=bf16-mixed")
        self._shards = shardable(method)
        if not self._shards:
            raise UserError(f"trainer=fsdp: {type(method).__name__} has no network to shard: say trainer=ddp")
        if not all(parameter.is_contiguous() for parameter in method.parameters()):
            raise UserError("trainer=fsdp cannot shard weights in another order: say channels_last=false")
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # no method changes a network's output in place
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for network in self._shards.values():
            fully_shard(network, mesh=mesh, reshard_after_forward=True)
        for parameter in method.parameters():
            if not isinstance(parameter, DTensor) and parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._mean)

    def _mean(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= self.world_size

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        """Raise UserError where sharded weights are read outside of a forward pass."""
        try:
            yield
        except RuntimeError as error:
            if "mixed torch.Tensor and DTensor" not in str(error):
                raise
            name = type(self.lightning_module).__name__
            raise UserError(
                f"trainer=fsdp: {name} reads weights of a network outside of its forward pass (tied, penalised, or of "
                "a part alone), where no rank has them whole: say trainer=ddp"
            ) from None

    def training_step(self, *batch: Any, **named: Any) -> Any:
        with self._gathered():
            return super().training_step(*batch, **named)

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *more: Any, **named: Any) -> Tensor:
        with self._gathered():
            return super().backward(closure_loss, optimizer, *more, **named)

    def setup_optimizers(self, trainer: Any) -> None:
        super().setup_optimizers(trainer)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            if len({isinstance(parameter, DTensor) for parameter in group["params"]}) == 2:
                group["foreach"] = group["fused"] = False  # torch takes no list of both kinds

    def on_validation_start(self) -> None:
        """Gather everything: ranks may have different numbers of batches, and the first one draws pictures alone."""
        super().on_validation_start()
        for network in self._shards.values():
            assert isinstance(network, FSDPModule)
            network.set_reshard_after_forward(False)
            network.unshard()

    def on_validation_end(self) -> None:
        for network in self._shards.values():
            assert isinstance(network, FSDPModule)
            network.reshard()
            network.set_reshard_after_forward(True)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return gather_shards(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return gather_shards(super().optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for i, values in state["state"].items():
                for name, value in values.items():
                    values[name] = shard_like(value, parameters[i])
            kinds = [(group.get("foreach"), group.get("fused")) for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, (foreach, fused) in zip(optimizer.param_groups, kinds, strict=True):
                group["foreach"], group["fused"] = foreach, fused
