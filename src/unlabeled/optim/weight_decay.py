"""Parameter groups with and without weight decay."""

from typing import Any

from torch import nn


def parameter_groups(*modules: nn.Module) -> list[dict[str, Any]]:
    """Weights of linear maps have the optimizer's weight decay; biases and the scales and shifts of norms have none.

    You et al. 2017, https://arxiv.org/abs/1708.03888, and after them SimCLR's and BYOL's code.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
