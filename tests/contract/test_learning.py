"""Floors on real digits: seconds of training must bring what seconds bring."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.test_contract import run
from unlabeled.app.run.build import build
from unlabeled.evaluation.metrics.likelihood import Likelihood
from unlabeled.evaluation.metrics.probe import Probe
from unlabeled.evaluation.metrics.reconstruction import Reconstruction
from unlabeled.evaluation.study import Study
from unlabeled.seeding import seed_noise

pytestmark = pytest.mark.learning

NARROW = [f"model.{part}.{size}" for part in ("encoder", "decoder") for size in ("width=8", "hidden=64")]
FASTER = [f"model.{player}_optimizer.lr=1e-3" for player in ("generator", "discriminator")]


def trained(resolve: Any, tmp_path: Path, *words: str) -> tuple[Any, Any]:
    """(method, data) after some epochs on the embedded digits."""
    config = resolve("data=digits", *words)
    data, method = build(config)
    return run((method, data, config), saved=False, limit_val_batches=0).eval().requires_grad_(False), data


def value(numbers: list, name: str) -> float:
    return next(number.value for number in numbers if number.name == name)


def test_a_vae_bounds_the_digits_and_its_codes_tell_them_apart(resolve: Any, tmp_path: Path) -> None:
    method, data = trained(resolve, tmp_path, "model=vae", *NARROW, "model.optimizer.lr=6e-3", "budget.epochs=9")
    bound = Likelihood(num_samples=2, images=50).measure(Study(method, data))
    assert value(bound, "log_likelihood_bound") > -104  # untrained: -178
    assert value(Probe(logistic=[]).measure(Study(method, data)), "knn_accuracy") > 88  # chance: 10


def test_an_autoencoder_gives_the_digits_back(resolve: Any, tmp_path: Path) -> None:
    words = ["model.encoder.width=16", "model.decoder.width=16", "model.latent_dim=16", "model.optimizer.lr=8e-3"]
    method, data = trained(resolve, tmp_path, "model=autoencoder", *words, "data.batch_size=32", "budget.epochs=6")
    numbers = Reconstruction().measure(Study(method, data))
    mean_image = next(number.facts["baseline_value"] for number in numbers if number.name == "reconstruction_mse")
    assert value(numbers, "reconstruction_mse") < mean_image / 2, numbers


def test_a_gans_samples_come_near_the_digits(resolve: Any, tmp_path: Path) -> None:
    """Distance of a sample to the nearest real image, beside that of a real image that was held out."""
    words = ["model=dcgan", "budget.epochs=6", "model.generator.width=8", "model.discriminator.width=8", *FASTER]
    method, data = trained(resolve, tmp_path, *words)
    images = lambda split: torch.cat([batch.x for batch in data.loader(split)]).flatten(1)
    real, held_out = images("train"), images("test")
    seed_noise(0)
    untrained = build(resolve("data=digits", *words))[1].eval()
    with torch.no_grad():
        near = [torch.cdist(x, real).min(1).values.mean() for x in (
            method.sample(200).flatten(1), untrained.sample(200).flatten(1), held_out)]  # fmt: skip
    assert near[0] < near[2] + 0.5 * (near[1] - near[2]), near
