"""One row per model. test_contract.py runs every row through the same checks."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy, normalize

from tests.tiny import eyes
from unlabeled.capabilities import (
    BoundsLikelihood,
    Classifies,
    ClassifiesCodes,
    Clusters,
    Decodes,
    DrawsFigures,
    ElboTerms,
    Encodes,
    IntermediateFeatures,
    Reconstructs,
    Samples,
    SamplesClasses,
    SamplesPosterior,
    SamplesPrior,
    Scores,
    Translates,
    TranslatesBack,
    WeighsSamples,
)
from unlabeled.contract import Case, cycle_error, doubt, error, translation_error
from unlabeled.methods.gan.progressive_gan import SIZE

# What training must change, measured without the method's own loss: a wrong sign also goes down.


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


def muddle(method: Any, batch: Any) -> torch.Tensor:
    """Share of pairs of images that are apart in class but not in cluster, or the other way round: falls."""
    cluster = method.assign(batch.x)
    return ((cluster[:, None] == cluster) != (batch.y[:, None] == batch.y)).float().mean()


def strangeness(method: Any, batch: Any) -> torch.Tensor:
    """Distance of the mean image drawn of each class to the class's own: falls."""
    found = batch.y.unique()
    means = torch.stack([batch.x[batch.y == c].mean(0) for c in found])
    drawn = method.sample_class(found.repeat_interleave(16)).unflatten(0, (-1, 16)).mean(1)
    return (drawn - means).square().mean()


def deception(method: Any, batch: Any) -> torch.Tensor:
    """Discriminator's score of real minus fake: falls when the generator learns against a fixed discriminator."""
    method.train()  # the game is played with the batch's own statistics
    score = lambda x: (
        said[0] if isinstance(said := method.discriminator(x), tuple) else said
    )  # some answer questions as well
    return (score(batch.x) - score(method.sample(len(batch.x)))).mean()


def suspicion(method: Any, batch: Any) -> torch.Tensor:
    """Discriminator's score of fake minus real pairs: falls when it learns."""
    score = lambda b: method.discriminator(batch.a, b).mean()
    return score(method.translate(batch.a)) - score(batch.b)


def blindness(method: Any, batch: Any) -> torch.Tensor:
    """The same, negated: falls when the discriminator learns against a fixed generator."""
    return -deception(method, batch)


def deception_in_class(method: Any, batch: Any) -> torch.Tensor:
    """Deception of a discriminator that reads the class, by fakes of the same classes."""
    method.train()
    y = method.labels.one_hot(batch.y)
    return (method.discriminator(batch.x, y) - method.discriminator(method.sample_class(batch.y), y)).mean()


def blindness_in_class(method: Any, batch: Any) -> torch.Tensor:
    """The same, negated."""
    return -deception_in_class(method, batch)


def forgetfulness(method: Any, batch: Any) -> torch.Tensor:
    """What the discriminator cannot tell of the code of a fake, in nats: falls."""
    method.train()
    codes = method.sample_prior(64)
    return -method.codes.bound(codes[:, : method.codes.dim], method.discriminator(method.decode(codes))[1])[0]


def deception_of_pairs(method: Any, batch: Any) -> torch.Tensor:
    """Deception of a discriminator that reads codes as well, by codes found and by images made."""
    method.train()
    z = method.sample_prior(len(batch.x))
    return (method.discriminator(batch.x, method.encode(batch.x)) - method.discriminator(method.decode(z), z)).mean()


def blindness_to_pairs(method: Any, batch: Any) -> torch.Tensor:
    """The same, negated."""
    return -deception_of_pairs(method, batch)


def dizziness(method: Any, batch: Any) -> torch.Tensor:
    """How unlikely the true turn of real images is to the discriminator: falls."""
    turned = torch.cat([batch.x.rot90(k, (2, 3)) for k in range(4)])
    return cross_entropy(method.discriminator(turned)[1], torch.arange(4).repeat_interleave(len(batch.x)))


def grown_deception(method: Any, batch: Any) -> torch.Tensor:
    """Deception by networks at full size, before as after: falls."""
    method.grow((len(method.generator.pyramid) - 1) * SIZE)
    return deception(method, batch)


def grown_blindness(method: Any, batch: Any) -> torch.Tensor:
    """The same, negated: falls."""
    return -grown_deception(method, batch)


def exposure(method: Any, batch: Any) -> torch.Tensor:
    """Score of the prior's codes minus that of images' codes: falls as the encoder learns to deceive."""
    z = torch.cat([method.prior_codes(batch.y) for _ in range(50)])
    return method.score_codes(z, batch.y.repeat(50)).mean() - method.score_codes(method.encode(batch.x), batch.y).mean()


def trust(method: Any, batch: Any) -> torch.Tensor:
    """The same, negated: falls when the discriminator learns against a fixed encoder."""
    return -exposure(method, batch)


AUTOENCODER = {Encodes, Decodes, Reconstructs}
LATENT_VARIABLE = AUTOENCODER | {Samples, SamplesPrior, SamplesPosterior, BoundsLikelihood}
GAN = {Samples, Decodes, SamplesPrior}
SMALL_MLP_GAN = ["model.generator.hidden=[16]", "model.discriminator.hidden=[16]"]
SMALL_GAN = ["model.generator.width=8", "model.discriminator.width=8"]
PLAYERS = ("generator", "discriminator")
FASTER = [f"model.{player}_optimizer.lr=1e-3" for player in PLAYERS]
TINY_GAN = ["model.generator.width=2", "model.discriminator.width=2", *FASTER]
M2 = ("classifier", "inference", "generation")
SMALL_RESNET = ["network@model.encoder=backbones/resnet18_thin", "model.encoder.width=8"]
GAME = {deception: ["model.discriminator_optimizer.lr=0.0"], blindness: ["model.generator_optimizer.lr=0.0"]}
SMALL_ANSWERING = ["model.generator.width=8", "model.discriminator.body.width=8"]
TINY_ANSWERING = [word.replace("discriminator.width", "discriminator.body.width") for word in TINY_GAN]
JOINT_GAME = {
    deception_of_pairs: ["model.discriminator_optimizer.lr=0.0"],
    blindness_to_pairs: ["model.generator_optimizer.lr=0.0"],
}
CLASS_GAME = {
    deception_in_class: ["model.discriminator_optimizer.lr=0.0"],
    blindness_in_class: ["model.generator_optimizer.lr=0.0"],
}

GROWN_GAME = dict(zip([grown_deception, grown_blindness], GAME.values(), strict=True))

SMALL_AAE = ["model.encoder.hidden=[32]", "model.decoder.hidden=[32]"]
SMALL_STYLE = ["model.generator.width=4", "model.discriminator.width=4", "model.latent_dim=8"]
SMALL_CRITIC = ["model.discriminator.hidden=[16]"]
AAE_GAME = {
    error: ["model.discriminator_optimizer.lr=0.0", "model.generator_optimizer.lr=0.0"],
    exposure: ["model.discriminator_optimizer.lr=0.0", "model.autoencoder_optimizer.lr=0.0"],
    trust: ["model.generator_optimizer.lr=0.0", "model.autoencoder_optimizer.lr=0.0"],
}

CASES = [
    Case("acgan", GAN | {SamplesClasses, Classifies}, GAME | {doubt: []}, SMALL_ANSWERING, epochs=10),
    Case("adversarial_autoencoder", AUTOENCODER | GAN, AAE_GAME, [*SMALL_AAE, *SMALL_CRITIC], roles={"encoder": 2}),
    Case("autoencoder", AUTOENCODER | {DrawsFigures}, {error: []}),
    Case("began", GAN, GAME, ["model.generator.width=2", "model.discriminator.encoder.width=2",
         "model.discriminator.decoder.width=2", *FASTER], epochs=20),
    Case("beta_tcvae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("beta_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("bigan", AUTOENCODER | GAN, JOINT_GAME,
         [*SMALL_ANSWERING, "model.discriminator.hidden=16", "model.encoder.width=4", "model.encoder.hidden=16"],
         epochs=10),
    Case("classifier", {Encodes, IntermediateFeatures, Classifies, ClassifiesCodes}, {doubt: []},
         ["model.encoder.width=4", "model.encoder.depths=[1,1]"]),
    Case("conditional_gan", GAN | {SamplesClasses}, CLASS_GAME, SMALL_GAN, epochs=10),
    Case("conditional_vae", {Samples, SamplesClasses}, {strangeness: []}),
    Case("contractive_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []}, ["model.latent_dim=32"]),
    Case("cyclegan", {Translates, TranslatesBack}, {cycle_error: []},
         ["model.to_b.width=4", "model.to_b.blocks=1", "model.discriminator_a.width=4", "model.pool=3"],
         data="unpaired", epochs=8),
    *(Case(name, {Translates}, {translation_error: []},
           ["model.generator.width=4", "model.discriminator.network.width=4"], data="paired", epochs=12)
      for name in ("pix2pix", "pix2pix_unconditional", "pix2pix_without_skips")),
    Case("pix2pix_gan", {Translates}, {suspicion: []},
         ["model.generator.width=4", "model.discriminator.network.width=4"], data="paired", epochs=12),
    Case("pix2pix_l1", {Translates}, {translation_error: []}, ["model.generator.width=4"], data="paired", epochs=12),
    Case("dcgan", GAN, GAME, SMALL_GAN, epochs=20),
    Case("dragan", GAN, GAME, SMALL_GAN, epochs=20),
    Case("lsgan", GAN, GAME, SMALL_GAN, epochs=20),
    Case("relativistic_gan", GAN, GAME, SMALL_GAN, epochs=20),
    Case("wgan", GAN, GAME, [*SMALL_GAN, "model.discriminator_steps=2"], turns={"generator": [0, 1, 0]}, epochs=30),
    Case("wgan_gp", GAN, GAME, [*SMALL_GAN, "model.discriminator_steps=2"], turns={"generator": [0, 1, 0]}, epochs=30),
    Case("dec", {Encodes, Clusters, DrawsFigures}, {muddle: ["model.pretraining=0.2"]},
         ["model.encoder.hidden=[32]", "model.decoder.hidden=[32]", "model.pretraining=0.5", "model.update=3"],
         turns={"decoder": [1, 0, 0], "goal_encoder": [0, 1, 0]}, still={"goal_encoder"}),
    Case("denoising_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []}, ["model.latent_dim=32"]),
    Case("dip_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("ebgan", GAN, GAME, ["model.generator.width=8", "model.discriminator.encoder.width=8",
         "model.discriminator.decoder.width=8"], epochs=20),
    Case("factor_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}, ["model.discriminator.hidden=[16]"]),
    Case("flow_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("gan", GAN, GAME, SMALL_MLP_GAN, epochs=20),
    Case("gan_1d", GAN | {Scores}, GAME, SMALL_MLP_GAN, epochs=20),
    Case("gmm", {Encodes, Reconstructs, Samples, BoundsLikelihood, Clusters, DrawsFigures}, {error: []}),
    Case("info_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("infogan", GAN | {Encodes, Clusters, DrawsFigures}, GAME | {forgetfulness: []},
         [*SMALL_ANSWERING, "model.discriminator.hidden=[8]"], epochs=10),
    Case("iwae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("k_sparse_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []},
         ["model.latent_dim=32", "model.bottleneck.k=4"]),
    Case("kl_sparse_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []}, ["model.latent_dim=32"]),
    Case("kmeans", {Encodes, Reconstructs, Clusters, DrawsFigures}, {error: []}),
    Case("ladder_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []},
         ["model.latent_dim=3", "model.ladder.dims=[6,3]", "model.ladder.hidden=16"]),
    Case("minibatch_gan", GAN, GAME, [*SMALL_MLP_GAN, "model.discriminator.minibatch.kernels=4"], epochs=20),
    Case("minimax_gan", GAN, GAME, SMALL_MLP_GAN, epochs=20),
    Case("pca", LATENT_VARIABLE - {SamplesPosterior} | {DrawsFigures}, {error: []}, ["model.latent_dim=3"],
         of_two=["model.latent_dim=2"]),
    Case("perceptual_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []},
         ["model.encoder.width=8", "model.decoder.width=8", "model.distance.network.encoder.width=4",
          f"model.distance.network.checkpoint={eyes()}"], turns={"distance": [0, 0, 0]}, still={"distance"}),
    Case("progressive_gan", GAN, GROWN_GAME, SMALL_STYLE, epochs=10),
    Case("projection_gan", GAN | {SamplesClasses}, CLASS_GAME, [*TINY_GAN, "model.discriminator_steps=2"],
         turns={"generator": [0, 1, 0]}, epochs=10),
    Case("r3gan", GAN, GAME, ["model.generator.width=8", "model.discriminator.width=8", "model.generator.blocks=1",
         "model.discriminator.blocks=1", *FASTER], epochs=15),
    Case("rae", AUTOENCODER | {DrawsFigures}, {error: []}, ["model.encoder.width=8", "model.decoder.width=8"]),
    Case("redundant_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []}, ["model.latent_dim=32"]),
    Case("rotation", {Encodes, DrawsFigures, IntermediateFeatures}, {disorientation: []}, SMALL_RESNET),
    Case("sagan", GAN, GAME, TINY_GAN, epochs=15),
    Case("semi_supervised_adversarial_autoencoder", AUTOENCODER | GAN | {SamplesClasses, Classifies, DrawsFigures},
         {error: [], doubt: []}, [*SMALL_AAE, "model.class_discriminator.hidden=[16]"], roles={"encoder": 3},
         epochs=60),
    Case("semi_supervised_vae",
         LATENT_VARIABLE | {ElboTerms, WeighsSamples} | {Classifies, ClassifiesCodes, SamplesClasses},
         {error: [], doubt: []}, [f"model.prior.{part}.hidden=[16]" for part in M2],
         turns={"encoder": [1, 0, 0], "decoder": [1, 0, 0], "prior": [0, 1, 1]}, epochs=60),
    Case("simclr", {Encodes, DrawsFigures, IntermediateFeatures}, {confusion: []}, SMALL_RESNET),
    Case("sngan", GAN, GAME, [*TINY_GAN, "model.discriminator_steps=2"], turns={"generator": [0, 1, 0]}, epochs=20),
    Case("sparse_autoencoder", AUTOENCODER | {DrawsFigures}, {error: []}, ["model.latent_dim=32"]),
    Case("ssgan", GAN, GAME | {dizziness: []}, [*TINY_ANSWERING, "model.discriminator_steps=2"],
         turns={"generator": [0, 1, 0]}, epochs=10),
    Case("stacked_denoising_autoencoder", AUTOENCODER | {DrawsFigures, IntermediateFeatures}, {error: []},
         ["model.widths=[16,8]", "model.pretraining=0.67"], turns={"layer1": [1, 0, 1], "layer2": [0, 1, 1]}),
    Case("stylegan", GAN | {DrawsFigures}, GAME, SMALL_STYLE, epochs=10),
    Case("stylegan2", GAN | {DrawsFigures}, GAME,
         [*SMALL_STYLE, "model.penalty_every=2", "model.path_length_every=3"], epochs=10),
    Case("supervised_adversarial_autoencoder", AUTOENCODER | GAN | {SamplesClasses}, AAE_GAME,
         [*SMALL_AAE, *SMALL_CRITIC], roles={"encoder": 2}),
    Case("unrolled_gan", GAN, GAME, [*SMALL_MLP_GAN, "model.unrolled_steps=2"], epochs=20),
    Case("vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples}, {error: []}),
    Case("vae_gan", AUTOENCODER | {Samples, SamplesPrior, SamplesPosterior}, {error: []},
         [*SMALL_GAN, "model.latent_dim=8"]),
    Case("vampprior_vae", LATENT_VARIABLE | {ElboTerms, WeighsSamples} | {DrawsFigures}, {error: []},
         ["model.prior.components=5"]),
    Case("vq_vae", AUTOENCODER | {DrawsFigures}, {error: []},
         ["model.encoder.width=8", "model.decoder.width=8", "model.latent_dim=4", "model.quantizer.codes=16"]),
    Case("wae_mmd", AUTOENCODER | {Samples, SamplesPrior, DrawsFigures}, {error: []},
         ["model.encoder.width=8", "model.decoder.width=8"]),
]  # fmt: skip
