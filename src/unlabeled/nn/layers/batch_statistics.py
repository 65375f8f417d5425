"""Networks whose output for one image depends on the others of its batch."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether real and fake images must be separate batches: batch norm, or a module with `uses_batch_statistics`."""
    return has_batch_norm(network) or any(
        getattr(module, "uses_batch_statistics", False) for module in network.modules()
    )


@contextmanager
def freeze_batch_norm_stats(network: nn.Module) -> Iterator[None]:
    """Batch norm uses the batch's statistics, as in training, and does not update its running ones."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
