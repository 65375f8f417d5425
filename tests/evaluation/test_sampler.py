"""Densities over codes: that draws are distributed as the codes are, and that evaluation samples from them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.evaluation.test_likelihood import Data
from unlabeled.capabilities import Samples, SamplesPrior
from unlabeled.errors import UserError
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.sampler import Flow, Mixture, Posteriors, StandardNormal, give
from unlabeled.evaluation.study import Study
from unlabeled.nn.layers.flows import RealNVP
from unlabeled.seeding import seed_noise


class Plain(nn.Module):
    """Codes are two numbers of the image."""

    device = torch.device("cpu")

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.clamp(-1, 1).view(-1, 1, 1, 2)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Prior(Plain):
    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, 2)

    def sample_posterior(self, x: Tensor) -> Tensor:
        return x.flatten(1) + 0.01 * torch.randn(len(x), 2)


def codes(n: int = 3000) -> Tensor:
    """A quarter around (-3, 0) with correlated numbers, the rest around (1, 2)."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 2, generator=g)
    first = noise @ torch.tensor([[0.5, 0.4], [0.0, 0.1]]) + torch.tensor([-3.0, 0])
    return torch.where(torch.arange(n)[:, None] % 4 == 0, first, 0.3 * noise + torch.tensor([1.0, 2.0]))


def study_of(method: Any, z: Tensor, **settings: Any) -> Study:
    return Study(method, Data(z.view(-1, 1, 1, 2)), **settings)


def drawn(sampler: Any, method: Any, z: Tensor, n: int = 20_000, **settings: Any) -> Tensor:
    draw, _ = sampler.fit(study_of(method, z, **settings))
    seed_noise(1)
    return draw(n)


def test_a_mixture_finds_the_clusters_their_shares_and_shapes() -> None:
    z = codes()
    found = drawn(Mixture(2), Plain(), z)
    for share, own in ((0.25, slice(0, None, 4)), (0.75, slice(1, None, 4))):
        near = found[:, 0] < -1 if share == 0.25 else found[:, 0] >= -1
        assert float(near.float().mean()) == pytest.approx(share, abs=0.015)
        torch.testing.assert_close(found[near].mean(0), z[own].mean(0), atol=0.04, rtol=0)
        torch.testing.assert_close(found[near].T.cov(), z[own].T.cov(), atol=0.03, rtol=0)


def test_standard_normal_is_the_prior_where_there_is_one_else_the_moments_of_the_codes() -> None:
    z = codes()
    found = drawn(StandardNormal(), Plain(), z)
    torch.testing.assert_close(found.mean(0), z.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(found.T.cov(), z.T.cov(), atol=0.1, rtol=0)
    method = Prior()
    assert StandardNormal().fit(study_of(method, z))[0] == method.sample_prior


def test_posteriors_are_drawn_around_training_images_evenly() -> None:
    z = torch.tensor([[0.0, 0], [0.5, 0.5], [-0.9, 0.1], [0.2, -0.7]])
    found = drawn(Posteriors(), Prior(), z, 8000)
    distance, which = torch.cdist(found, z).min(1)
    assert distance.max() < 0.1 and (which.bincount() / 8000 - 0.25).abs().max() < 0.03
    with pytest.raises(UserError, match="Plain has none: take gmm"):
        Posteriors().fit(study_of(Plain(), z))


def test_a_flow_bends_where_a_gaussian_cannot() -> None:
    angle = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 6.2832
    ring = torch.stack([4 + angle.cos(), 10 * angle.sin()], 1)  # neither centred nor of one scale
    sampler = Flow(lambda dim: RealNVP(dim, steps=6, hidden=24), batches=300, batch_size=200, lr=5e-3)
    radius = lambda z: torch.stack([z[:, 0] - 4, z[:, 1] / 10], 1).norm(dim=1)
    off = {
        kind: (radius(drawn(one, Plain(), ring, 4000)) - 1).abs().mean()
        for kind, one in (("flow", sampler), ("gaussian", StandardNormal()))
    }
    assert off["flow"] < off["gaussian"] / 2, off
    still = drawn(sampler, Plain(), torch.cat([ring[:, :1], torch.full((2000, 1), 3.0)], 1), 50)
    assert still.isfinite().all()  # a number that does not vary


@pytest.mark.parametrize("sampler", [Mixture(3), Flow(RealNVP, batches=3)], ids=["gmm", "flow"])
def test_the_study_seed_decides_and_every_process_draws_the_same(sampler: Any) -> None:
    z = codes(400)
    one = drawn(sampler, Plain(), z, 9, seed=3)
    torch.rand(5)
    assert torch.equal(drawn(sampler, Plain(), z, 9, seed=3), one)

    class Second(Ranks):
        """Of two, told what the first found."""

        def gather(self, own: Any) -> list[Any]:
            return [heard.pop(0)]

    heard = []

    class First(Ranks):
        def gather(self, own: Any) -> list[Any]:
            heard.append(own)
            return [own]

    assert torch.equal(drawn(sampler, Plain(), z, 9, seed=3, ranks=First()), one)
    blocks = [part for part in heard if isinstance(part, list)]
    assert len(blocks) == 1, "the codes, then what was fitted to them"
    assert torch.equal(drawn(sampler, Plain(), z, 9, seed=3, ranks=Second(1, 1)), one)


def test_codes_too_wide_for_covariances_are_refused_before_hours_pass() -> None:
    class Wide(Plain):
        def encode(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 600)

    with pytest.raises(UserError, match=r"600 numbers.*sampler=flow"):
        Mixture().fit(study_of(Wide(), codes(20)))


def test_what_a_method_cannot_do_is_said() -> None:
    class Encoder(nn.Module):
        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    study = study_of(Encoder(), codes(20))
    give(study, "own", {})
    assert not hasattr(study.method, "sample") and study.sampler == "own"
    with pytest.raises(UserError, match="Encoder does not decode"):
        give(study, "gmm", {"gmm": Mixture()})
    with pytest.raises(UserError, match="did you mean gmm"):
        give(study, "gmmm", {"gmm": Mixture()})


def test_the_given_method_stays_as_it_is() -> None:
    method = Plain()
    study = study_of(method, codes(50))
    give(study, "gmm", {"gmm": Mixture(2)})
    assert isinstance(study.method, Samples) and isinstance(study.method, SamplesPrior)
    assert not isinstance(method, Samples) and study.method.sample(3).shape == (3, 1, 1, 2)


def test_one_command_compares_an_autoencoder_with_a_vae(program: Any, tmp_path: Path) -> None:
    runs = {}
    for model in ("autoencoder", "vae"):
        runs[model] = tmp_path / model
        words = [
            "network@model.encoder=autoencoders/fully_connected_encoder",
            "network@model.decoder=autoencoders/fully_connected_decoder",
        ]
        made = program(
            "train", f"model={model}", *words, "budget.batches=5", "callbacks.pictures.count=1", f"run={runs[model]}"
        )
        assert made.status == 0, made.err
    both = f"checkpoint={runs['autoencoder']},{runs['vae']}"
    few = [
        "evaluation=common",
        "+evaluation.evaluators.d._target_=unlabeled.evaluation.metrics.distribution.Distribution",
    ]
    few += [f"evaluation.extractor={runs['vae']}", "evaluation.samples=60", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    result = program("evaluate", "-m", both, "evaluation.sampler=gmm", *few)
    assert result.status == 0, result.err
    for model, run in runs.items():
        evaluation = json.loads((run / "evaluation" / "evaluation.json").read_text())
        fid = next(number for number in evaluation["numbers"] if number["name"].startswith("fid"))
        assert fid["facts"]["sampler"].startswith("gmm: 10 Gaussians"), model
        assert "sampler gmm" in evaluation["title"] and (run / "evaluation" / "samples.png").exists()
    refused = program("evaluate", f"checkpoint={runs['autoencoder']}", "evaluation.sampler=aggregated_posterior", *few)
    assert refused.status == 1 and "Autoencoder has none: take gmm" in refused.complaint
