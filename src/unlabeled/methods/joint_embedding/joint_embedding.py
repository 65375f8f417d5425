"""Joint embedding: one encoder, and an objective on the projections of two views of each image.

SimCLR, Chen, Kornblith, Norouzi & Hinton 2020, https://arxiv.org/abs/2002.05709, algorithm 1. Other methods
differ in the objective only: see conf/model/.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.methods.method import Method
from unlabeled.nn.backbones.backbone import Backbone
from unlabeled.optim.weight_decay import parameter_groups


class JointEmbedding(Method):
    def __init__(
        self,
        encoder: Backbone,  # f: x -> h (B, D), D = encoder.dim
        projector: Callable[[int], nn.Module],  # D -> g: h (B, D) -> z (B, P)
        views: Callable[[Tensor], Tensor],  # t ~ T: x (B, C, H, W) -> the same shape, its own draw for each row
        objective: Callable[[Tensor, Tensor], Tensor],  # za, zb (B, P) -> loss ()
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        self.encoder = encoder
        self.projector = projector(encoder.dim)
        self.views = views
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule

    def encode(self, x: Tensor) -> Tensor:
        """h, not z: section 4.2, the layer before the projection keeps more information."""
        return self.encoder(x)

    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        return {f"stage{i}": h for i, h in enumerate(self.encoder.stages(x), 1)}

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Eight images, under each its two views."""
        x = x[:8]
        va, vb = self.views(torch.cat([x, x])).chunk(2)
        za, zb = self.projector(self.encoder(torch.cat([va, vb]))).chunk(2)
        near = (normalize(za, dim=1) * normalize(zb, dim=1)).sum(1).tolist()
        captions = ["image"] * len(x) + ["one view"] * len(x) + [f"cosine {s:.2f}" for s in near]
        return {"views": (torch.cat([x, va, vb]), captions)}

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.loss(batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(batch.x)

    def loss(self, x: Tensor) -> Tensor:
        """Algorithm 1's inner loop. NT-Xent depends on the number of images: compare at one batch size.

        Records also the alignment E|za - zb|^2 on the unit sphere, 0 (the views agree) to 4:
        Wang & Isola 2020, https://arxiv.org/abs/2005.10242, equation 4 with alpha = 2.
        """
        z = self.projector(self.encoder(self.views(torch.cat([x, x]))))  # (2B, P), batch norm over both views
        za, zb = z.chunk(2)
        loss = self.objective(za, zb)
        with torch.no_grad():
            alignment = (normalize(za.float(), dim=1) - normalize(zb.float(), dim=1)).square().sum(1).mean()
        self.record(loss=loss, alignment=alignment)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(parameter_groups(self))
