"""Batch norm over the joint batch of several processes, on devices that torch.nn.SyncBatchNorm does not support."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.modules.batchnorm import _BatchNorm


class Sum(torch.autograd.Function):
    """x -> the sum of every rank's x; gradients likewise."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return Sum.apply(gradient)


class SynchronizedBatchNorm(_BatchNorm):
    """(B, C, ...): mean and variance of each channel over all ranks' batches, which may differ in size."""

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not distributed.is_initialized():
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        exact = x.float()
        sums = Sum.apply(torch.cat([exact.sum(axes), exact.new_tensor([x.numel() / x.shape[1]])]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = exact - mean.view(shape)
        variance = Sum.apply(centred.square().sum(axes)) / n
        self._follow(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
