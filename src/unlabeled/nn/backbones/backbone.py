"""Base class of networks that give globally pooled features after each of their stages."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """x (B, C, H, W) -> features (B, dim) after the last stage."""

    dim: int

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps (B, D_i, H_i, W_i) after each stage."""
        raise NotImplementedError

    def stages(self, x: Tensor) -> list[Tensor]:
        """Globally pooled features (B, D_i) after each stage."""
        return [x.mean((2, 3)) for x in self.maps(x)]

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)[-1]
