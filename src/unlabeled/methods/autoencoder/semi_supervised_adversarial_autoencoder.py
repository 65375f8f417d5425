"""Semi-supervised adversarial autoencoder.

Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, section 5 and figure 6. The encoder gives q(y|x), a softmax
over K classes, and a style z; the decoder reads both. On each batch

    reconstruction phase   encoder, decoder minimise  L(x, g(y, z))
    regularisation phase   two discriminators distinguish y from one-hot y' ~ Cat(1/K), and z from N(0, I); then the
                           encoder deceives both
    classification phase   the encoder minimises  -log q(y|x)  on the images that have a label

Paper: the first two phases on unlabelled batches and the third on labelled ones; here all are on one batch, in which
labelled images are data.labelled_share. The encoder has an optimizer for each phase.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.losses.adversarial import Objective
from unlabeled.losses.distance import Distance
from unlabeled.methods.method import Adversarial
from unlabeled.nn.layers.labels import PartialLabels


class SemiSupervisedAdversarialAutoencoder(Adversarial):
    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> logits of y and z, (B, K + Z)
        decoder: nn.Module,  # y and z (B, K + Z) -> output (B, C, H, W), for the distance
        class_discriminator: Callable[[int], nn.Module],  # K -> discriminator: y (B, K) -> score (B,)
        style_discriminator: Callable[[int], nn.Module],  # Z -> discriminator: z (B, Z) -> score (B,)
        distance: Distance,  # L
        objective: Objective,
        classes: int | None,  # K
        latent_dim: int,  # K + Z
        noise: float,  # standard deviation of the noise on the encoder's inputs in training
        autoencoder_optimizer: Callable[..., Optimizer],
        discriminator_optimizer: Callable[..., Optimizer],
        generator_optimizer: Callable[..., Optimizer],
        classifier_optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rates
    ):
        super().__init__()
        name = "model=semi_supervised_adversarial_autoencoder"
        self.labels = PartialLabels(name, classes)
        self.classes, self.style_dim = self.labels.classes, latent_dim - self.labels.classes
        if self.style_dim < 1 or noise < 0:
            raise UserError(
                f"{name}: latent_dim={latent_dim}, noise={noise}: the code is the {classes} classes and a style, so "
                "latent_dim must be larger, and noise must not be negative"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.class_discriminator = class_discriminator(self.classes)
        self.style_discriminator = style_discriminator(self.style_dim)
        self.distance = distance
        self.objective = objective
        self.noise = noise
        self.autoencoder_optimizer = autoencoder_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.generator_optimizer = generator_optimizer
        self.classifier_optimizer = classifier_optimizer
        self.schedule = schedule

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of y (B, K), and z (B, Z)."""
        if self.training:
            x = x + self.noise * torch.randn_like(x)
        logits, z = self.encoder(x).float().split([self.classes, self.style_dim], 1)
        return logits, z

    def classify(self, x: Tensor) -> Tensor:
        return self.infer(x)[0]

    def encode(self, x: Tensor) -> Tensor:
        """q(y|x) and z, (B, K + Z)."""
        logits, z = self.infer(x)
        return torch.cat([logits.softmax(1), z], 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.distance.image(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample_prior(self, n: int) -> Tensor:
        return torch.cat([self.draw_classes(n), torch.randn(n, self.style_dim, device=self.device)], 1)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def draw_classes(self, n: int) -> Tensor:
        return self.labels.one_hot(self.labels.pick(n))

    def sample_class(self, y: Tensor) -> Tensor:
        style = torch.randn(len(y), self.style_dim, device=y.device)
        return self.decode(torch.cat([self.labels.one_hot(y), style], 1))

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """The styles of eight images, each in every class that training images have."""
        z = self.infer(x[:8])[1]
        y = self.labels.one_hot(self.labels.seen).repeat_interleave(len(z), 0)
        return {
            "classes by style": (
                self.decode(torch.cat([y, z.repeat(len(self.labels.seen), 1)], 1)),
                [f"class {k}" for k in y.argmax(1).tolist()],
            )
        }

    def on_fit_start(self) -> None:
        if self.accumulate > 1:
            raise UserError(
                f"accumulate={self.accumulate}: the phases of an adversarial autoencoder share the encoder's "
                "gradients; say a larger data.batch_size instead"
            )

    def training_step(self, batch: Images, batch_idx: int) -> None:
        autoencoder, discriminators, generator, classifier = self.players()
        count = self.labels.known(batch.y).sum()
        self.update(autoencoder, self.reconstruction_loss, batch.x)
        self.update(discriminators, self.discriminator_loss, batch.x)
        self.update(generator, self.generator_loss, batch.x)
        # ranks may have different numbers of labels: the mean over ranks is that of the joined batch
        mean_count = self.trainer.strategy.reduce(count.float(), reduce_op="mean")
        self.update(classifier, self.classification_loss, batch.x, batch.y, mean_count)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.reconstruction_loss(batch.x)
        self.classification_loss(batch.x, batch.y, self.labels.known(batch.y).sum())

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """L, mean over the batch; pixels are summed."""
        error = self.distance(self.decoder(self.encode(x)).float(), x).mean()
        self.record(reconstruction_loss=error)
        return error

    def discriminator_loss(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y, z = self.encode(x).split([self.classes, self.style_dim], 1)
        of_class = self.objective.discriminator(
            self.class_discriminator(self.draw_classes(len(x))).float(), self.class_discriminator(y).float()
        )
        of_style = self.objective.discriminator(
            self.style_discriminator(torch.randn_like(z)).float(), self.style_discriminator(z).float()
        )
        self.record(class_discriminator_loss=of_class, style_discriminator_loss=of_style)
        return of_class + of_style

    def generator_loss(self, x: Tensor) -> Tensor:
        y, z = self.encode(x).split([self.classes, self.style_dim], 1)
        of_class = self.objective.generator(self.class_discriminator(y).float())
        of_style = self.objective.generator(self.style_discriminator(z).float())
        self.record(class_generator_loss=of_class, style_generator_loss=of_style)
        return of_class + of_style

    def classification_loss(self, x: Tensor, y: Tensor, count: Tensor) -> Tensor:
        """-log q(y|x) in nats, mean over `count` images with a label (0 without any). Records the error rate."""
        logits, known = self.classify(x), y >= 0
        rows, wrong = known.sum(), ((logits.argmax(1) != y) & known).sum()
        total = cross_entropy(logits, y, ignore_index=-1, reduction="sum")
        self.record(rows=rows, cross_entropy=total / rows.clamp(min=1), error_rate=wrong / rows.clamp(min=1))
        return total / count.masked_fill(count == 0, 1)

    def on_train_epoch_end(self) -> None:
        self.labels.check()

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.autoencoder_optimizer([*self.encoder.parameters(), *self.decoder.parameters()]),
            self.discriminator_optimizer(
                [*self.class_discriminator.parameters(), *self.style_discriminator.parameters()]
            ),
            self.generator_optimizer(self.encoder.parameters()),
            self.classifier_optimizer(self.encoder.parameters()),
        ]
