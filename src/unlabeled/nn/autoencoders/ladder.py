"""Networks between the stochastic layers of a ladder VAE."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from unlabeled.errors import UserError


def rung(inputs: int, hidden: int) -> nn.Sequential:
    """(N, inputs) -> (N, hidden): linear, batch norm, leaky ReLU, twice. Sønderby et al. 2016, section 2.2."""
    widths = [(inputs, hidden), (hidden, hidden)]
    return nn.Sequential(
        *(layer for a, b in widths for layer in (nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.LeakyReLU(0.1)))
    )


class Ladder(nn.Module):
    """Up from features to what each layer of codes reads; down from a layer's codes to the prior of the next."""

    def __init__(
        self,
        features: int,  # numbers that the encoder gives
        dims: Sequence[int],  # Z_1, ..., Z_L: from the image's layer to the top
        hidden: int = 128,
    ):
        super().__init__()
        if len(dims) < 2:
            raise UserError(f"model.ladder.dims={list(dims)}: a ladder has two layers of codes or more")
        self.dims = tuple(dims)
        widths = [features, *(hidden for _ in dims[1:])]
        # features of one scale: where they begin small, noise drowns the lowest layer, and those above replace it
        self.entry = nn.Sequential(nn.BatchNorm1d(features), nn.LeakyReLU(0.1))
        self.ups = nn.ModuleList(rung(a, hidden) for a in widths[:-1])  # d_i -> d_(i+1)
        self.reads = nn.ModuleList(nn.Linear(width, 2 * dim) for width, dim in zip(widths, dims, strict=True))
        self.downs = nn.ModuleList(  # z_(i+1) -> mu, log_var of p(z_i | z_(i+1))
            nn.Sequential(rung(above, hidden), nn.Linear(hidden, 2 * dim)) for dim, above in pairwise(dims)
        )

    def up(self, d: Tensor) -> list[Tensor]:
        """Features (B, features) -> (B, 2 Z_i) of each layer, the lowest first."""
        d = self.entry(d)
        numbers = [self.reads[0](d)]
        for climb, read in zip(self.ups, list(self.reads)[1:], strict=True):
            d = climb(d)
            numbers.append(read(d))
        return numbers

    def down(self, layer: int, z: Tensor) -> Tensor:
        """Codes (N, Z_(i+1)) of the layer above -> (N, 2 Z_i)."""
        return self.downs[layer](z)
