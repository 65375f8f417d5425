"""Supervised classifier, whose features evaluation uses where no published network fits the data.

Minimises -log p(y | x), the softmax of a linear layer on an encoder's features, as in VGG, Simonyan & Zisserman 2015,
https://arxiv.org/abs/1409.1556, section 3.1 (there with dropout and crops; here the features stay those of one image).
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.methods.method import Method
from unlabeled.nn.backbones.backbone import Backbone
from unlabeled.nn.layers.labels import PartialLabels


class Classifier(Method):
    def __init__(
        self,
        encoder: Backbone,  # x -> h (B, D), D = encoder.dim
        classes: int | None,  # K
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        self.labels = PartialLabels("model=classifier", classes)
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, self.labels.classes)
        self.optimizer = optimizer
        self.schedule = schedule

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def intermediate_features(self, x: Tensor) -> dict[str, Tensor]:
        return {f"stage{i}": h for i, h in enumerate(self.encoder.stages(x), 1)}

    def classify_codes(self, h: Tensor) -> Tensor:
        return self.head(h)

    def classify(self, x: Tensor) -> Tensor:
        return self.classify_codes(self.encode(x))

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        count = self.labels.known(batch.y).sum()
        # ranks may have different numbers of labels: the mean over ranks is that of the joined batch
        return self.loss(batch, self.trainer.strategy.reduce(count.float(), reduce_op="mean"))

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(batch, self.labels.known(batch.y).sum())

    def loss(self, batch: Images, count: Tensor) -> Tensor:
        """-log p(y | x) in nats, mean over `count` images with a label (0 without any). Records accuracy in [0, 1]."""
        logits = self.classify(batch.x)  # (B, K)
        known = batch.y >= 0
        rows = known.sum()
        total = cross_entropy(logits, batch.y, ignore_index=-1, reduction="sum")
        right = ((logits.argmax(1) == batch.y) & known).sum()
        self.record(rows=rows, loss=total / rows.clamp(min=1), accuracy=right / rows.clamp(min=1))
        return total / count.masked_fill(count == 0, 1)

    def on_train_epoch_end(self) -> None:
        self.labels.check()

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(self.parameters())
