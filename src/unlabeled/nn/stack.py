"""One layer of a stack of autoencoders."""

from torch import Tensor, nn


class SigmoidLayer(nn.Module):
    """v (B, inputs) -> h (B, outputs), a sigmoid, and back: both lie in [-1, 1], as images do."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.up = nn.Linear(inputs, outputs)
        self.down = nn.Linear(outputs, inputs)
        # a sigmoid's slope is 1/4: Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, with 4 times
        # the range, or the upper layers see next to nothing of the image
        nn.init.xavier_uniform_(self.up.weight, gain=4)
        nn.init.zeros_(self.up.bias)

    def forward(self, v: Tensor) -> Tensor:
        return self.up((v + 1) / 2).sigmoid() * 2 - 1

    def back(self, h: Tensor) -> Tensor:
        """h (B, outputs) -> (B, inputs), unbounded, as a distance reads it."""
        return self.down((h + 1) / 2)
