"""k-means on pixels: a baseline, fitted in one pass over the data without gradients.

Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489, started as Arthur & Vassilvitskii 2007 do (k-means++);
scikit-learn's. It minimises over centres mu

    sum_i min_j |x_i - mu_j|^2

The images of the pass are kept, 8 bits a value, and the centres are computed at its end.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images, from_uint8, to_uint8
from unlabeled.errors import UserError
from unlabeled.methods.method import Method

LARGEST = 4096  # pixels times channels: 60,000 such images are 250 MB as they are kept, and 1 GB as they are worked on


class KMeans(Method):
    automatic_optimization = False
    one_pass = True  # training reads every row once (data/loader.py)

    centres: Tensor  # (K, D), mu

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W), D = C H W
        clusters: int | None,  # K
        n_init: int = 10,  # of which the run with the lowest cost is kept
    ):
        super().__init__()
        self.shape = tuple(shape)
        d = math.prod(shape)
        if d > LARGEST:
            raise UserError(
                f"{'x'.join(map(str, shape))} are {d} values an image, and all images are worked on at once: at most "
                f"{LARGEST}: say data.size={math.isqrt(LARGEST // shape[0])} or less"
            )
        if clusters is None:
            raise UserError("this data has no classes to take the number of clusters from: say model.clusters=N")
        if clusters < 2 or n_init < 1:
            raise UserError(f"clusters={clusters}, n_init={n_init}: at least 2 clusters, and 1 start")
        self.clusters, self.n_init = clusters, n_init
        self.register_buffer("centres", torch.zeros(clusters, d))
        self.seen: list[Tensor] = []  # of this pass, uint8 (B, D); not buffers: they go when the centres are there

    def squared_distances(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K), float32."""
        return (x.flatten(1).float()[:, None] - self.centres).square().sum(2)

    def encode(self, x: Tensor) -> Tensor:
        """The distances to the centres, (B, K)."""
        return self.squared_distances(x).sqrt()

    def assign(self, x: Tensor) -> Tensor:
        return self.squared_distances(x).argmin(1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The nearest centres."""
        return self.centres[self.assign(x)].clamp(-1, 1).unflatten(1, self.shape)

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """The centres of the largest clusters first, and their shares of the images x."""
        share = torch.bincount(self.assign(x), minlength=self.clusters) / len(x)
        most = share.argsort(descending=True, stable=True)[:64]
        images = self.centres[most].clamp(-1, 1).unflatten(1, self.shape)
        return {"centres": (images, [f"{i}: {share[i]:.1%}" for i in most.tolist()])}

    def setup(self, stage: str) -> None:  # before DDP, whose own error is unclear
        if self.trainer.world_size > 1:
            raise UserError("this model needs all images in one process: say trainer.devices=1 and trainer.num_nodes=1")

    def training_step(self, batch: Images, batch_idx: int) -> None:
        self.seen.append(to_uint8(batch.x.flatten(1)).cpu())

    def on_train_batch_end(self, outputs: Any, batch: Images, batch_idx: int) -> None:
        if self.trainer.is_last_batch or self.trainer.should_stop:
            x = from_uint8(torch.cat(self.seen))
            if len(x) < self.clusters:
                raise UserError(f"model.clusters={self.clusters}: there are {len(x)} training images; take fewer")
            # from this batch's noise, so that a resumed run repeats it
            self.solve(x, int(torch.randint(2**31, ())))
            self.seen = []
            self.trainer.should_stop = True  # a second pass would not change it

    @torch.no_grad()
    def solve(self, x: Tensor, seed: int) -> None:
        """The centres of images (N, D)."""
        from sklearn.cluster import KMeans as Lloyd
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of duplicates: reported below
            found = Lloyd(self.clusters, n_init=self.n_init, random_state=seed).fit(x.numpy())
        if (different := len(set(found.labels_.tolist()))) < self.clusters:
            raise UserError(f"model.clusters={self.clusters}: {different} of the training images differ; take fewer")
        self.centres.copy_(torch.from_numpy(found.cluster_centers_))

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """The squared distance to the nearest centre, summed over pixels."""
        self.record(loss=self.squared_distances(batch.x).amin(1).mean())

    def configure_optimizers(self) -> None:
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seen"] = self.seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen = checkpoint["seen"]
