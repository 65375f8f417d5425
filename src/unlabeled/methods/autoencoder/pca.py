"""Principal components as a probabilistic model, in one pass over the data, without a gradient.

Tipping & Bishop 1999, https://doi.org/10.1111/1467-9868.00196. With U the first q eigenvectors of the
covariance S (with 1 / N) and lambda its eigenvalues, the maximum likelihood is at (equations 7 and 8)

    x = mean + U z + e,   z ~ N(0, diag(lambda - sigma^2)),   e ~ N(0, sigma^2),
    sigma^2 = mean of the other lambda.

The paper's W is U (lambda - sigma^2)^(1/2) with z ~ N(0, 1): the same density; here z keeps the units of the
pixels, so that `encode` is the usual projection. Paper: sigma^2 can be 0; here it is never less than the
variance of rounding to a grey level, or flat data would have an infinite density.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.method import Method

LARGEST = 4096  # pixels times channels: their covariance is 134 MB, and its eigenvectors take half a minute


class PCA(Method):
    automatic_optimization = False
    one_pass = True  # training reads every row once (data/loader.py)
    bin_width = 2 / 255  # a density over [-1, 1]

    # self.components (q, D): U^T, orthonormal rows, the first explains most
    mean: Tensor  # (D,)
    variances: Tensor  # (q,), lambda
    noise: Tensor  # (), sigma^2
    total: Tensor  # (), variance of the data, over all pixels

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W), D = C H W
        latent_dim: int,  # q < D
    ):
        super().__init__()
        self.shape = tuple(shape)
        d = math.prod(shape)
        if d > LARGEST:
            raise UserError(
                f"model=pca: {'x'.join(map(str, shape))} are {d} values an image, and the covariance takes "
                f"at most {LARGEST}: say data.size={math.isqrt(LARGEST // shape[0])} or less"
            )
        if not 0 < latent_dim < d:
            raise UserError(f"model.latent_dim={latent_dim}: an image has {d} values; take 1 to {d - 1}")
        self.latent_dim = latent_dim
        self.register_buffer("mean", torch.zeros(d))
        self.components = nn.Parameter(torch.zeros(latent_dim, d))  # without a gradient; DDP requires a parameter
        self.register_buffer("variances", torch.ones(latent_dim))
        self.register_buffer("noise", torch.ones(()))
        self.register_buffer("total", torch.ones(()))
        # Of this pass, in float64. Not buffers: DDP would overwrite them, and D^2 values are too many to keep.
        self.moments: dict[str, Tensor] = {}

    def encode(self, x: Tensor) -> Tensor:
        return (x.flatten(1).float() - self.mean) @ self.components.T

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.components + self.mean).clamp(-1, 1).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample_prior(self, n: int) -> Tensor:
        scale = (self.variances - self.noise).clamp(min=0).sqrt()
        return scale * torch.randn(n, self.latent_dim, device=self.device)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact, by the determinant and inverse that the paper's appendix gives for U's complement."""
        precise = torch.float32 if x.device.type == "mps" else torch.float64
        centred = x.flatten(1).to(precise) - self.mean
        z = centred @ self.components.to(precise).T
        lengths, noise = self.variances.to(precise).maximum(self.noise), self.noise.to(precise)
        d, q = centred.shape[1], self.latent_dim
        determinant = lengths.log().sum() + (d - q) * noise.log()
        distance = (z.square() / lengths).sum(1) + (centred.square().sum(1) - z.square().sum(1)) / noise
        return (-(d * math.log(2 * math.pi) + determinant + distance) / 2).float()

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """The mean and the first components."""
        first = self.components[:15]
        images = torch.cat([self.mean[None], first / first.abs().amax(1, keepdim=True).clamp(min=1e-12)])
        shares = (self.variances[:15] / self.total).tolist()
        captions = ["mean", *(f"{i}: {share:.1%}" for i, share in enumerate(shares, 1))]
        return {"components": (images.unflatten(1, self.shape), captions)}

    def training_step(self, batch: Images, batch_idx: int) -> None:
        """Adds to the count, the sum of x and that of x x^T, over all ranks: all hold the same."""
        x = batch.x.flatten(1)
        x = (x.cpu() if x.device.type == "mps" else x).double()  # mps has no float64
        new = {"count": x.new_tensor(len(x)), "sum": x.sum(0), "outer": x.T @ x}
        for name, value in new.items():
            value = self.trainer.strategy.reduce(value, reduce_op="sum")
            self.moments[name] = self.moments[name].to(x.device) + value if name in self.moments else value

    def on_train_batch_end(self, outputs: Any, batch: Images, batch_idx: int) -> None:
        if self.trainer.is_last_batch or self.trainer.should_stop:
            self.solve()
            self.trainer.should_stop = True  # a second pass would not change it

    @torch.no_grad()
    def solve(self) -> None:
        """Equations 7 and 8, from the moments."""
        n = int(self.moments["count"])
        if self.latent_dim >= n:
            raise UserError(f"model.latent_dim={self.latent_dim}: {n} training images span at most {n - 1}; take fewer")
        mean = self.moments["sum"] / n
        values, vectors = torch.linalg.eigh(self.moments["outer"] / n - mean.outer(mean))
        values, vectors = values.flip(0).clamp(min=0), vectors.T.flip(0)  # (D,), (D, D): the largest first
        components = vectors[: self.latent_dim]
        signs = components.gather(1, components.abs().argmax(1, keepdim=True)).sign()  # largest entry positive
        self.mean.copy_(mean)
        self.components.copy_(components * signs)
        self.variances.copy_(values[: self.latent_dim])
        self.noise.copy_(values[self.latent_dim :].mean().clamp(min=self.bin_width**2 / 12))
        self.total.copy_(values.sum())
        self.moments = {}

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """-log p(x) in nats, and the squared error of the reconstruction summed over pixels."""
        error = (batch.x - self.reconstruct(batch.x)).square().flatten(1).sum(1)
        self.record(loss=-self.log_likelihood(batch.x).mean(), squared_error=error.mean())

    def configure_optimizers(self) -> None:
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["moments"] = self.moments

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.moments = checkpoint["moments"]
