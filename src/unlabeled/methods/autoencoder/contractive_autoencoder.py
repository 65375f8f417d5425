"""Contractive autoencoder.

Rifai, Vincent, Muller, Glorot & Bengio 2011, https://icml.cc/2011/papers/455_icmlpaper.pdf, equation 2:

    min over f, g of  E L(x, g(f(x))) + lambda |J_f(x)|_F^2

with g's weights those of f, transposed: untied, g would grow as f shrinks and undo the penalty. The norm is a
regularizer (losses.regularizer): in closed form for one sigmoid layer, or of any f.
"""

from typing import Any

from torch import nn

from unlabeled.methods.autoencoder.autoencoder import Autoencoder
from unlabeled.nn.autoencoders.fully_connected import TiedDecoder


class ContractiveAutoencoder(Autoencoder):
    def __init__(
        self,
        encoder: nn.Module,  # f, of one linear layer
        decoder: TiedDecoder,  # g
        **named: Any,  # of Autoencoder
    ):
        super().__init__(encoder=encoder, decoder=decoder, **named)
        decoder.tie(encoder)
