"""Mixture of K Gaussians on pixels: a baseline with an exact likelihood, fitted in one pass without gradients.

Dempster, Laird & Rubin 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01600.x, section 4.3: expectation-maximisation
from the clusters of k-means; scikit-learn's.

    p(x) = sum_j pi_j N(x; mu_j, diag(sigma_j^2))

The covariances are diagonal: full ones have D^2 / 2 numbers each, and an iteration of them on MNIST takes minutes;
linear directions are PCA's (methods/autoencoder/pca.py). No variance is less than that of rounding to a grey level, or
pixels that are always black would have an infinite density.
"""

import math
import warnings

import torch
from torch import Tensor

from unlabeled.batches import Images
from unlabeled.methods.clustering.kmeans import KMeans


class GMM(KMeans):
    bin_width = 2 / 255  # a density over [-1, 1]

    variances: Tensor  # (K, D), sigma^2
    weights: Tensor  # (K,), pi

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],  # (C, H, W), D = C H W
        clusters: int | None,  # K
        n_init: int = 1,
        iterations: int = 100,  # at most
    ):
        super().__init__(shape, clusters, n_init)
        self.iterations = iterations
        self.register_buffer("variances", torch.ones_like(self.centres))
        self.register_buffer("weights", torch.full((self.clusters,), 1 / self.clusters))

    def log_joint(self, x: Tensor) -> Tensor:
        """log pi_j N(x; mu_j, diag(sigma_j^2)) in nats, (B, C, H, W) -> (B, K); float64 where the device has it."""
        precise = torch.float32 if x.device.type == "mps" else torch.float64
        x, variances = x.flatten(1).to(precise), self.variances.to(precise)
        distance = ((x[:, None] - self.centres).square() / variances).sum(2)
        constant = x.shape[1] * math.log(2 * math.pi)
        return self.weights.to(precise).log() - (constant + variances.log().sum(1) + distance) / 2

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact."""
        return self.log_joint(x).logsumexp(1).float()

    def encode(self, x: Tensor) -> Tensor:
        """The posteriors of the clusters, (B, K)."""
        return self.log_joint(x).softmax(1).float()

    def assign(self, x: Tensor) -> Tensor:
        return self.log_joint(x).argmax(1)

    def sample(self, n: int) -> Tensor:
        j = torch.multinomial(self.weights, n, replacement=True)
        x = self.centres[j] + self.variances[j].sqrt() * torch.randn(n, self.centres.shape[1], device=self.device)
        return x.clamp(-1, 1).unflatten(1, self.shape)

    @torch.no_grad()
    def solve(self, x: Tensor, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        model = GaussianMixture(
            self.clusters, covariance_type="diag", reg_covar=self.bin_width**2 / 12, n_init=self.n_init,
            max_iter=self.iterations, random_state=seed,
        )  # fmt: skip
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a limit that the user sets
            model.fit(x.double().numpy())
        self.centres.copy_(torch.from_numpy(model.means_))
        self.variances.copy_(torch.from_numpy(model.covariances_))
        self.weights.copy_(torch.from_numpy(model.weights_))

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """-log p(x) in nats."""
        self.record(loss=-self.log_likelihood(batch.x).mean())
