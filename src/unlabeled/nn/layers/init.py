"""Initial weights of single layers."""

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)


def normal(layer: Layer, std: float = 0.02) -> Layer:
    """Weights from N(0, std^2), biases of 0."""
    nn.init.normal_(layer.weight, 0.0, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """Uniform weights, biases of 0.

    Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16.
    """
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
