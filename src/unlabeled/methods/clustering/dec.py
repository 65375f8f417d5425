"""Deep embedded clustering.

Xie, Girshick & Farhadi 2016, https://arxiv.org/abs/1511.06335. An autoencoder is trained first; then, without its
decoder, the encoder f and K centres mu minimise KL(P || Q), where for z = f(x)

    q_j(z) = (1 + |z - mu_j|^2)^-1 / sum_k (1 + |z - mu_k|^2)^-1             equation 1, Student's t of one degree
    p_ij = (q_ij^2 / f_j) / sum_k (q_ik^2 / f_k),   f_j = sum_i q_ij         equation 3, of all images

The centres start from k-means on the codes of all training images. P is fixed between its updates: it is computed from
copies of the encoder and the centres. Paper: pretrained layer by layer with dropout, 100,000 batches of SGD in all, and
stopped when fewer than 0.1% of the images change cluster. Here end to end, each phase for a share of the budget.
"""

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.losses.distance import Distance
from unlabeled.methods.method import Method


def student_t(z: Tensor, centres: Tensor) -> Tensor:
    """q (B, K) of codes (B, D) and centres (K, D): equation 1."""
    kernel = 1 / (1 + (z[:, None] - centres).square().sum(2))
    return kernel / kernel.sum(1, keepdim=True)


def target(q: Tensor, frequencies: Tensor) -> Tensor:
    """p (B, K) of q (B, K) and f (K,): equation 3. The scale of f does not matter."""
    weight = q.square() / frequencies
    return weight / weight.sum(1, keepdim=True)


class DEC(Method):
    monitor = None  # neither phase's loss compares with the other's

    clustered: Tensor  # (), whether the centres have been set
    goal_centres: Tensor  # (K, D), of the last update of P
    frequencies: Tensor  # (K,), f over the number of images, of the last update of P

    def __init__(
        self,
        encoder: nn.Module,  # f: x (B, C, H, W) -> code (B, D)
        decoder: nn.Module,  # code (B, D) -> output (B, C, H, W), for the distance; of the first phase
        distance: Distance,  # minimised in the first phase
        latent_dim: int,  # D
        clusters: int | None,  # K
        pretraining: float,  # share of the run that is the first phase
        update: int,  # batches from one update of P to the next
        n_init: int,  # runs of k-means, of which the best is kept
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        if clusters is None:
            raise UserError("this data has no classes to take the number of clusters from: say model.clusters=N")
        if clusters < 2 or not 0 <= pretraining < 1 or update < 1:
            raise UserError(
                f"model=dec: clusters={clusters}, pretraining={pretraining}, update={update}: at least 2 clusters, "
                "a share in [0, 1) and at least 1 batch"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.distance = distance
        self.goal_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.centres = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.register_buffer("goal_centres", torch.zeros(clusters, latent_dim))
        self.register_buffer("frequencies", torch.ones(clusters))
        self.register_buffer("clustered", torch.zeros((), dtype=torch.bool))
        self.clusters = clusters
        self.pretraining = pretraining
        self.update = update
        self.n_init = n_init
        self.optimizer = optimizer
        self.schedule = schedule

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).float()

    def assign(self, x: Tensor) -> Tensor:
        return student_t(self.encode(x), self.centres).argmax(1)

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """The most confident images of each cluster: the paper's figure 3."""
        confidence, cluster = student_t(self.encode(x), self.centres).max(1)
        rows = sorted(range(len(x)), key=lambda row: (int(cluster[row]), -float(confidence[row])))[:64]
        return {"clusters": (x[rows], [f"{cluster[row]}: {confidence[row]:.2f}" for row in rows])}

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        if self.progress < self.pretraining:
            return self.reconstruction_loss(batch.x)
        if not self.clustered:
            self.place_centres()
            self.update_target()
        elif self.trainer.fit_loop.total_batch_idx % self.update == 0:
            self.update_target()
        return self.clustering_loss(batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        if self.clustered:
            self.clustering_loss(batch.x)
        else:
            self.reconstruction_loss(batch.x)

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """The autoencoder's, mean over the batch; pixels are summed."""
        error = self.distance(self.decoder(self.encode(x)).float(), x).mean()
        self.record(reconstruction_loss=error)
        return error

    def clustering_loss(self, x: Tensor) -> Tensor:
        """KL(P || Q) in nats, equation 2, mean over the batch. Records the mean confidence max_j q_j, in [1/K, 1]."""
        with torch.no_grad():
            p = target(student_t(self.goal_encoder.eval()(x).float(), self.goal_centres), self.frequencies)
        q = student_t(self.encode(x), self.centres)
        divergence = (p * (p.clamp(min=1e-12) / q).log()).sum(1).mean()
        self.record(kl=divergence, mean_confidence=q.amax(1).mean())
        return divergence

    @torch.no_grad()
    def codes(self) -> Tensor:
        """Codes (N, D) of all training images, in every process."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        table = data.table("train")
        self.encoder.eval()
        found = [self.encode(table.batch(rows).x) for rows in torch.arange(len(table)).split(data.batch_size)]
        self.encoder.train()
        return torch.cat(found)

    @torch.no_grad()
    def place_centres(self) -> None:
        """The end of the first phase: section 3.2."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        codes = self.codes().cpu().numpy()
        if len(codes) < self.clusters:
            raise UserError(f"model.clusters={self.clusters}: there are {len(codes)} training images; take fewer")
        # from this batch's noise, so that a resumed run repeats it
        seed = int(torch.randint(2**31, ()))
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of duplicates: reported below
            found = KMeans(self.clusters, n_init=self.n_init, random_state=seed).fit(codes)
        if (different := len(set(found.labels_.tolist()))) < self.clusters:
            raise UserError(
                f"model.clusters={self.clusters}: the codes of the training images are {different} different ones "
                "after the first phase; take fewer, or train longer"
            )
        self.centres.copy_(self.trainer.strategy.broadcast(torch.from_numpy(found.cluster_centers_)))
        self.clustered.fill_(True)

    @torch.no_grad()
    def update_target(self) -> None:
        self.goal_encoder.load_state_dict(self.encoder.state_dict())
        self.goal_centres.copy_(self.centres)
        self.frequencies.copy_(student_t(self.codes(), self.centres).mean(0))

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer([*self.encoder.parameters(), *self.decoder.parameters(), self.centres])
