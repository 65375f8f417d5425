"""Spectral normalisation: a layer's weights divided by their largest singular value.

Miyato et al. 2018, https://arxiv.org/abs/1802.05957, section 2.1 and algorithm 1.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrizations


def spectral_norm(layer: nn.Module) -> nn.Module:
    """The layer, its weight W / sigma(W) with W as (outputs, all else): a slope of at most 1 for a dense layer.

    Each forward in training takes one step of power iteration, from the vectors u and v of the last; evaluation takes
    none. Both are buffers. Averaged over training they are shorter than 1, which would make sigma too small: they
    are normalised when they are loaded.
    """
    layer = parametrizations.spectral_norm(layer)
    layer.parametrizations.weight[0].register_load_state_dict_post_hook(unit)  # type: ignore[union-attr,index]
    return layer


@torch.no_grad()
def unit(norm: Any, _: Any) -> None:
    for vector in (norm._u, norm._v):
        length = vector.norm()
        if abs(length - 1) > 1e-4:  # vectors that were not averaged stay bitwise equal
            vector.copy_(normalize(vector, dim=0))
