"""One row per model. test_contract.py runs every row through the same checks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import cross_entropy, normalize

from unlabeled.capabilities import (
    BoundsLikelihood,
    Classifies,
    ClassifiesCodes,
    Decodes,
    DrawsCodes,
    ElboTerms,
    Encodes,
    Reconstructs,
    Samples,
    Shows,
    Stages,
    Translates,
    TranslatesBack,
    WeighsSamples,
)

# What training must change, measured without the method's own loss: a wrong sign also goes down.


def error(method: Any, batch: Any) -> torch.Tensor:
    """Reconstruction error: falls."""
    return (method.reconstruct(batch.x) - batch.x).square().mean()


def confusion(method: Any, batch: Any) -> torch.Tensor:
    """Likeness of an image's view to other images' minus to its own other view: falls."""
    a, b = (normalize(method.projector(method.encode(method.views(batch.x)))) for _ in range(2))
    likeness, own = a @ b.T, torch.eye(len(a), dtype=torch.bool)
    return likeness[~own].mean() - likeness[own].mean()


def disorientation(method: Any, batch: Any) -> torch.Tensor:
    """How unlikely the true turn is to the method: falls."""
    turned = torch.cat([batch.x.rot90(k, (2, 3)) for k in range(4)])
    turns = torch.arange(4).repeat_interleave(len(batch.x))
    return cross_entropy(method.classifier(method.encoder(turned)), turns)


def doubt(method: Any, batch: Any) -> torch.Tensor:
    """1 minus the probability that it gives to the true class: falls."""
    method.eval()
    sure = method.classify(batch.x).softmax(1)
    return 1 - torch.stack([row[label] for row, label in zip(sure, batch.y.tolist(), strict=True)]).mean()


def deception(method: Any, batch: Any) -> torch.Tensor:
    """Critic's score of real minus fake: falls when the generator learns against a fixed critic."""
    method.train()  # the game is played with the batch's own statistics
    return (method.critic(batch.x) - method.critic(method.sample(len(batch.x)))).mean()


def blindness(method: Any, batch: Any) -> torch.Tensor:
    """The same, negated: falls when the critic learns against a fixed generator."""
    return -deception(method, batch)


def cycle_error(method: Any, batch: Any) -> torch.Tensor:
    """There and back again: falls."""
    return (method.translate_back(method.translate(batch.a)) - batch.a).abs().mean()


@dataclass(frozen=True)
class Case:
    model: str  # conf/model/<model>.yaml
    can: set  # capabilities, exactly
    falls: dict[Callable, list[str]]  # measure -> overrides it is measured under
    overrides: list[str] = field(default_factory=list)  # smaller networks
    turns: dict[str, list[int]] = field(
        default_factory=dict
    )  # child -> whether it moves at each of the first 3 batches
    still: set[str] = field(default_factory=set)  # children no optimizer owns
    unpaired: bool = False
    epochs: int = 60  # of one batch, to learn it

    def __str__(self) -> str:
        return self.model


AUTOENCODER = {Encodes, Decodes, Reconstructs}
LATENT_VARIABLE = AUTOENCODER | {Samples, DrawsCodes, BoundsLikelihood}
GAN = {Samples, Decodes, DrawsCodes}
SMALL_GAN = ["model.generator.width=8", "model.critic.width=8"]
SMALL_RESNET = ["network@model.encoder=resnet18_thin", "model.encoder.width=8"]
GAME = {deception: ["model.critic_optimizer.lr=0.0"], blindness: ["model.generator_optimizer.lr=0.0"]}

CASES = [
    Case("autoencoder", AUTOENCODER, {error: []}),
    Case("classifier", {Encodes, Stages, Classifies, ClassifiesCodes}, {doubt: []},
         ["model.encoder.width=4", "model.encoder.depths=[1,1]"]),
    Case("cyclegan", {Translates, TranslatesBack}, {cycle_error: []},
         ["model.to_b.width=4", "model.to_b.blocks=1", "model.critic_a.width=4", "model.pool=3"], unpaired=True),
    Case("dcgan", GAN, GAME, SMALL_GAN),
    Case("iwae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("pca", LATENT_VARIABLE | {Shows}, {error: []}, ["model.latent_dim=3"], turns={"never": []}),
    Case("rotation", {Encodes, Shows, Stages}, {disorientation: []}, SMALL_RESNET),
    Case("simclr", {Encodes, Shows, Stages}, {confusion: []}, SMALL_RESNET),
    Case("vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
]  # fmt: skip
