"""Densities of the codes of training images, from which methods without a prior sample.

Ghosh et al. 2020, https://arxiv.org/abs/1903.12436, section 4: after training, a density is fitted to the codes, and
its decoded draws are samples. So every method that encodes and decodes has the numbers and figures of methods that
sample. Codes are those of `encode`: of a VAE, the posterior's means.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from unlabeled.capabilities import SamplesPosterior, SamplesPrior, inverts
from unlabeled.errors import UserError, suggest
from unlabeled.evaluation.stats.fits import quiet
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix, seed_noise

Draw = Callable[[int], Tensor]  # n -> codes (n, D) on the method's device, by torch's generators
WIDEST = 512  # numbers of a code: of more, full covariances take too long


class Sampler(Protocol):
    """Constructed from plain values (conf/evaluation/common.yaml)."""

    def fit(self, study: Study) -> tuple[Draw, str]:
        """A function that draws codes, and its description. All processes call it together and get the same."""


def give(study: Study, name: str, samplers: dict[str, Sampler]) -> None:
    """Let the study's method draw its codes from the sampler of this name, and sample by decoding them."""
    if name == "own":
        return
    if name not in samplers:
        raise UserError(f"evaluation.sampler={name}: {suggest(name, ['own', *samplers])}")
    method = study.method
    if not study.kind.single or not inverts(method):
        raise UserError(
            f"evaluation.sampler={name}: {type(method).__name__} does not decode its own codes: leave it at own"
        )
    draw, study.sampler = samplers[name].fit(study)
    study.method = sampling(method, draw)


def sampling(method: Any, draw: Draw) -> Any:
    """A copy of the method, with the same weights, whose codes are drawn by `draw`."""
    changed = copy.copy(method)
    changed.sample_prior = draw
    changed.sample = lambda n: method.decode(draw(n))
    return changed


def fewest(h: Tensor) -> None:
    """Raise UserError where codes (N, D) are too few for a density."""
    if len(h) < 2:
        raise UserError(f"evaluation.sampler: a density needs two train codes at least, not {len(h)}")


def led(study: Study, work: Callable[[], Any]) -> Any:
    """The main process's result, on every process."""
    return study.ranks.gather(work() if study.is_main else None)[0]


class Gaussians(NamedTuple):
    """A mixture of Gaussians."""

    weights: Tensor  # (K,)
    means: Tensor  # (K, D)
    factors: Tensor  # (K, D, D), L of each covariance L L^T

    def draw(self, n: int) -> Tensor:
        k = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.means.shape[1], device=self.means.device)
        return self.means[k] + (self.factors[k] @ noise[..., None]).squeeze(-1)


def mixture(study: Study, components: int) -> Gaussians:
    """The maximum likelihood mixture of the train codes, with full covariances; one Gaussian has their moments."""
    h = study.codes("train").h
    fewest(h)
    if h.shape[1] > WIDEST:
        raise UserError(
            f"codes of {h.shape[1]} numbers are too wide for full covariances, at most {WIDEST}: "
            "say evaluation.sampler=flow"
        )

    def work() -> tuple[Any, ...]:
        from sklearn.mixture import GaussianMixture

        codes = h.double().numpy()
        floor = 1e-6 * max(float(codes.var(0).mean()), 1e-12)  # added to variances, for codes that do not vary
        with quiet():
            fitted = GaussianMixture(
                min(components, len(codes)), reg_covar=floor, random_state=mix(study.seed, 21) % 2**32
            ).fit(codes)
        return fitted.weights_, fitted.means_, fitted.covariances_

    weights, means, covariances = (torch.from_numpy(part) for part in led(study, work))
    parts = (weights, means, torch.linalg.cholesky(covariances))
    return Gaussians(*(part.float().to(study.device) for part in parts))


class StandardNormal:
    """The method's prior, N(0, I) for most VAEs; without one, a Gaussian with the moments of the codes.

    Ghosh et al. 2020, table 1, column N.
    """

    def fit(self, study: Study) -> tuple[Draw, str]:
        if isinstance(study.method, SamplesPrior):
            return study.method.sample_prior, "standard_normal: the method's own prior"
        found = mixture(study, 1)
        return found.draw, f"standard_normal: a Gaussian with the moments of {len(study.codes('train').h)} train codes"


class Mixture:
    """A mixture of Gaussians with full covariances; Ghosh et al. 2020 use ten."""

    def __init__(self, components: int = 10):
        if components < 1:
            raise UserError(f"evaluation.samplers.gmm.components={components}: 1 or more")
        self.components = components

    def fit(self, study: Study) -> tuple[Draw, str]:
        found = mixture(study, self.components)
        n = len(study.codes("train").h)
        return found.draw, f"gmm: {len(found.weights)} Gaussians with full covariances, fitted to {n} train codes"


class Posteriors:
    """The aggregated posterior: a code from the posterior of a random training image.

    Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120, equation 7: the prior with the highest ELBO. Its samples
    are as near to training images as reconstructions are; the paper's `VampPrior data` has 500 of its components.
    """

    def fit(self, study: Study) -> tuple[Draw, str]:
        method = study.method
        if not isinstance(method, SamplesPosterior):
            raise UserError(
                f"evaluation.sampler=aggregated_posterior draws from posteriors, and {type(method).__name__} has none: "
                "take gmm"
            )
        table, rows = study.table("train"), study.chosen("train")

        def draw(n: int) -> Tensor:
            images = table.batch(rows[torch.randint(len(rows), (n,))]).x
            return method.sample_posterior(images.to(study.device))

        return draw, f"aggregated_posterior: the posteriors of {len(rows)} train images"


class Flow:
    """A normalising flow, trained by maximum likelihood on standardised codes."""

    def __init__(
        self,
        flow: Callable[..., Any],  # nn.layers.flows.RealNVP: dim -> z (N, D) to noise and log |det| (N,); its `inverse`
        batches: int = 2000,
        batch_size: int = 256,
        lr: float = 1e-3,  # falls to 0 along half a cosine
    ):
        if batches < 1 or batch_size < 1:
            raise UserError(f"evaluation.samplers.flow: batches={batches}, batch_size={batch_size}: 1 or more")
        self.flow, self.batches, self.batch_size, self.lr = flow, batches, batch_size, lr

    def fit(self, study: Study) -> tuple[Draw, str]:
        h = study.codes("train").h
        fewest(h)
        centre, spread = (part.to(study.device) for part in (h.mean(0), h.std(0)))
        spread = torch.where(spread > 1e-6, spread, 1.0)
        flow = led(study, lambda: self.trained(study, (h.to(study.device) - centre) / spread).cpu()).to(study.device)

        def draw(n: int) -> Tensor:
            return flow.inverse(torch.randn(n, h.shape[1], device=study.device)) * spread + centre

        return draw, f"flow: {type(flow).__name__}, {self.batches} batches of {self.batch_size} of {len(h)} train codes"

    @torch.enable_grad()
    def trained(self, study: Study, z: Tensor) -> Any:
        """On codes z (N, D) of mean 0 and variance 1."""
        seed_noise(study.seed, 22)
        flow = self.flow(z.shape[1]).to(z.device)
        optimizer = torch.optim.Adam(flow.parameters(), self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.batches)
        for _ in range(self.batches):
            noise, log_det = flow(z[torch.randint(len(z), (self.batch_size,)).to(z.device)])
            loss = (noise.square().sum(1) / 2 - log_det).mean()  # -log p(z), but for a constant
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        return flow.eval().requires_grad_(False)
