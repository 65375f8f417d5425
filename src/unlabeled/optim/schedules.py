"""Learning-rate schedules: share of the run in [0, 1] -> factor of the learning rate.

A share, so that a schedule means the same whether the budget is in epochs, batches or images, and for one player or
three.
"""

import math


class Constant:
    """1."""

    def __call__(self, progress: float) -> float:
        return 1.0


class LinearDecay:
    """1 until `start`, then down to 0 in a straight line. CycleGAN, Zhu et al. 2017, appendix 7.1: start 1/2."""

    def __init__(self, start: float = 0.5):
        self.start = start

    def __call__(self, progress: float) -> float:
        return (1 - progress) / (1 - self.start) if progress > self.start else 1.0


class Cosine:
    """Up to 1 in a straight line until `warmup`, then down to 0 along half a cosine.

    Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5, without restarts.
    """

    def __init__(self, warmup: float = 0.0):
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        if progress < self.warmup or self.warmup == 1:
            return progress / self.warmup
        return (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


class Steps:
    """Times `factor` at each of the shares `at`. RotNet, Gidaris et al. 2018: x 0.2 at 0.3, 0.6, 0.8."""

    def __init__(self, at: list[float], factor: float = 0.2):
        self.at = at
        self.factor = factor

    def __call__(self, progress: float) -> float:
        return self.factor ** sum(progress >= share for share in self.at)
