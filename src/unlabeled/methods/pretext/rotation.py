"""RotNet, prediction of image rotations. Gidaris, Singh & Komodakis 2018, https://arxiv.org/abs/1803.07728.

Equation 2: every image is rotated by 0, 90, 180 and 270 degrees, all four in one batch, and a classifier predicts the
rotation. Its features are learned without labels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.method import Method
from unlabeled.nn.backbones.backbone import Backbone


def rotate4(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, C, S, S) -> all four rotations, counter-clockwise, (4B, C, S, S), and their labels 0 to 3, (4B,)."""
    rotated = torch.cat([x.rot90(k, (2, 3)) for k in range(4)])
    return rotated, torch.arange(4, device=x.device).repeat_interleave(len(x))


class Rotation(Method):
    def __init__(
        self,
        encoder: Backbone,  # x -> h (B, D), D = encoder.dim
        views: Callable[[Tensor], Tensor],  # augmentation of training images, before they are rotated
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
        shape: Sequence[int],  # (C, S, S) of the images
    ):
        super().__init__()
        if shape[1] != shape[2]:
            raise UserError(
                f"model=rotation rotates images by 90 degrees and needs square ones, not {shape[1]}x{shape[2]}: "
                f"say data.shape=[{shape[0]},{min(shape[1:])},{min(shape[1:])}]"
            )
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.dim, 4)
        self.views = views
        self.optimizer = optimizer
        self.schedule = schedule

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        return {f"stage{i}": h for i, h in enumerate(self.encoder.stages(x), 1)}

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Eight images in four rotations, and the predictions."""
        rotated, truth = rotate4(x[:8])
        confidence, predicted = self.classifier(self.encoder(rotated)).softmax(1).max(1)
        captions = [
            f"rotated {90 * t}\npredicted {90 * s} ({p:.0%})"
            for t, s, p in zip(truth.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
        ]
        return {"rotations": (rotated, captions)}

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.loss(self.views(batch.x))

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(batch.x)

    def loss(self, x: Tensor) -> Tensor:
        """-log p(rotation | rotated image) in nats: equations 2 and 3. Records it, and the accuracy in [0, 1]."""
        rotated, truth = rotate4(x)
        logits = self.classifier(self.encoder(rotated))  # (4B, 4)
        loss = cross_entropy(logits, truth)
        self.record(loss=loss, accuracy=(logits.argmax(1) == truth).float().mean())
        return loss

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters())
