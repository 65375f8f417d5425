"""Perceptrons."""

from collections.abc import Callable, Sequence

from torch import nn

from unlabeled.nn.autoencoders.fully_connected import layers


class Perceptron(nn.Sequential):
    """h (B, dim) -> (B, outputs)."""

    def __init__(
        self,
        dim: int,
        outputs: int | None,
        hidden: Sequence[int] = (500,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__(*layers([dim, *hidden, outputs or 0], activation))


class Projector(nn.Sequential):
    """h (B, dim) -> z (B, outputs): linear, batch norm, ReLU, linear.

    SimCLR's projection head, Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 2.1 (the batch norm
    is in the authors' code, not in the paper).
    """

    def __init__(
        self,
        dim: int,
        outputs: int = 128,
        hidden: int | None = None,  # None: as wide as h, as in the paper
    ):
        hidden = hidden or dim
        super().__init__(
            nn.Linear(dim, hidden, bias=False),  # the batch norm has the bias
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )
