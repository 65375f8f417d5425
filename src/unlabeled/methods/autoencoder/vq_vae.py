"""Vector-quantised variational autoencoder.

van den Oord, Vinyals & Kavukcuoglu 2017, https://arxiv.org/abs/1711.00937. Each position of the encoder's
map z_e(x) is replaced by the nearest vector e of a codebook; gradients pass straight through. Equation 3, with the
moving averages of appendix A.1 (nn.layers.vector_quantizer) instead of the second term:

    -log p(x | z_q) + beta |z_e(x) - sg(e)|^2

the commitment is summed over the D dimensions and averaged over positions (section 3.2).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.losses.distance import Distance
from unlabeled.methods.method import Method
from unlabeled.nn.layers.vector_quantizer import VectorQuantizer, perplexity


class VQVAE(Method):
    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> map (B, D, h, w)
        decoder: nn.Module,  # map (B, D, h, w) -> output (B, C, H, W), for the distance
        quantizer: VectorQuantizer,
        distance: Distance,  # -log p(x | z_q) up to a constant
        shape: Sequence[int],  # (C, H, W)
        latent_dim: int,  # D
        commitment: float,  # beta
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        if commitment < 0:
            raise UserError(f"model.commitment={commitment}: 0 or more")
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.distance = distance
        self.latent_dim = latent_dim
        self.commitment = commitment
        self.optimizer = optimizer
        self.schedule = schedule
        with torch.no_grad():
            self.map_shape = tuple(encoder(torch.zeros(1, *shape)).shape[1:])  # (D, h, w)

    def encode(self, x: Tensor) -> Tensor:
        """The quantised map, (B, D h w), the decoder's input."""
        return self.quantizer(self.encoder(x))[0].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes (B, D h w), quantised first."""
        return self.distance.image(self.decoder(self.quantizer(z.unflatten(1, self.map_shape))[0]))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Images decoded from the most used codes, each at all positions; and their share of the images x."""
        index = self.quantizer(self.encoder(x))[1]
        share = torch.bincount(index.flatten(), minlength=len(self.quantizer.codebook)) / index.numel()
        most = share.argsort(descending=True, stable=True)[:64]
        everywhere = self.quantizer.look_up(most[:, None, None].expand(-1, *self.map_shape[1:]))
        images = self.distance.image(self.decoder(everywhere))
        return {"codebook": (images, [f"{i}: {share[i]:.1%}" for i in most.tolist()])}

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.loss(batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(batch.x)

    def loss(self, x: Tensor) -> Tensor:
        """Equation 3 without its second term, mean over the batch. Records the perplexity of the batch's codes."""
        z = self.encoder(x).float()  # (B, D, h, w)
        quantized, index = self.quantizer(z)
        output = self.decoder(z + (quantized - z).detach()).float()
        error = self.distance(output, x).mean()
        committed = (z - quantized).square().sum(1).mean()
        loss = error + self.commitment * committed
        image = self.distance.image(output.detach())
        self.record(
            loss=loss, reconstruction_loss=error, commitment=committed, mean_squared_error=(image - x).square().mean(),
            perplexity=perplexity(index, len(self.quantizer.codebook)),
        )  # fmt: skip
        return loss

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer([*self.encoder.parameters(), *self.decoder.parameters()])
