"""Lower bounds on the likelihood."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.capabilities import BoundsLikelihood, ElboTerms, Encodes, ReadsProbabilities, WeighsSamples
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Headline, Metric, standard_error
from unlabeled.evaluation.study import Study

GREY = "grey pixels are taken as probabilities of white, so this is not the likelihood of an image"
ACTIVE = 0.01  # variance over images of a unit's posterior mean, above which it is active


class Likelihood:
    """Bounds on log p(x), in nats and in bits per dimension.

    log_likelihood_bound: the method's own, with one draw: the ELBO, or log p(x) itself. If it has terms,
    elbo_reconstruction minus elbo_kl is that bound, and active_units are the latent dimensions whose posterior mean
    has a variance over images above 0.01 (Burda et al. 2016, https://arxiv.org/abs/1509.00519, section 5.2).
    iwae_bound[K] (the same, equation 8), in float64:

        log 1/K sum_k w_k,  w_k = p(x, z_k) / q(z_k|x),  z_k ~ q(z|x).

    A density times the width of an 8-bit level is a probability: bits/dim = -(log p(x) / D + log width) / log 2. The
    facts state how the likelihood treats grey. If it treats grey as a probability, these numbers are no likelihoods of
    images: a fact of each says so, with the highest possible value.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "iwae_bound": Headline(30, "importance-weighted bound on the log-likelihood of an image"),
        "log_likelihood_bound": Headline(140, "bound on the log-likelihood of an image"),
        "bits_per_dim": Headline(150, "bits for each channel of a pixel"),
    }

    def __init__(
        self,
        num_samples: int = 50,  # K
        images: int = 1000,  # at most, for the bound of K draws; evenly spaced over the split
    ):
        if num_samples < 1 or images < 1:
            raise UserError(f"likelihood: num_samples={num_samples}, images={images}: each is at least 1")
        self.num_samples, self.images = num_samples, images

    def applies(self, study: Study) -> bool:
        return isinstance(study.method, BoundsLikelihood) and study.kind.single and study.kind.visual

    def measure(self, study: Study) -> list[Metric]:
        method = study.method
        bound, *terms = bounds(study)
        weighted = self.weighted(study) if isinstance(method, WeighsSamples) else None
        highest = highest_possible(study)
        codes = study.codes(study.split).h if terms and isinstance(method, Encodes) else None
        if not study.is_main:
            return []
        numbers = in_both_units(study, ("log_likelihood_bound", "bits_per_dim"), bound)
        affected = ["log_likelihood_bound", "bits_per_dim", *(["elbo_reconstruction"] if terms else [])]
        facts = {"split": study.split, "images": len(bound), "noise_seed": study.seed}
        if terms:
            reconstruction, kl = (float(term.mean()) for term in terms)
            numbers += [
                Metric("elbo_reconstruction", reconstruction, "nats", "higher", facts),
                Metric("elbo_kl", kl, "nats", None, facts),
            ]
        if codes is not None and len(codes) > 1:  # one image has no variance
            active = (codes.double().var(0, correction=0) > ACTIVE).sum()
            facts = {"split": study.split, "images": len(codes), "threshold": ACTIVE}
            facts |= {"baseline": "units in all", "baseline_value": codes.shape[1]}
            numbers.append(Metric("active_units", float(active), "", None, facts))
        if weighted is not None:
            names = (f"iwae_bound[{self.num_samples}]", f"iwae_bits_per_dim[{self.num_samples}]")
            numbers += in_both_units(study, names, *weighted)
            affected += names
        if highest is None:
            return numbers
        study.notes.append(
            f"{', '.join(affected)}: {GREY}: compare them only among models that treat the same "
            f"images so. The highest possible value is {highest:.4g} nats. For a likelihood, train with "
            "model.likelihood.binarization=dynamic or threshold, or with another likelihood"
        )
        return [
            qualified(number, highest, study.kind.size(study.data.shape)) if number.name in affected else number
            for number in numbers
        ]

    def weighted(self, study: Study) -> tuple[Tensor, Tensor]:
        """The importance-weighted bound of `images` images and the ELBO of the same draws, each (N,), float64."""
        method, table = study.method, study.table(study.split)
        n = min(self.images, len(table))
        spaced = torch.arange(n) * len(table) // max(n, 1)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            # all draws of z share one binarisation, which can be random
            x = method.observe(table.batch(spaced[index]).x.to(method.device))
            log_w = log_weights(method, x, self.num_samples)
            return log_w.logsumexp(0) - math.log(self.num_samples), log_w.mean(0)

        bound, elbo = study.rows(n, work, f"weighing {self.num_samples} draws an image")
        return bound, elbo


def bounds(study: Study) -> tuple[Tensor, ...]:
    """The bound of each image of the scored split and, if the method has them, its two terms: (N,), float64."""
    method, table = study.method, study.table(study.split)

    def work(index: Tensor) -> tuple[Tensor, ...]:
        x = table.batch(index).x.to(method.device)
        if not isinstance(method, ElboTerms):
            return (method.log_likelihood(x).cpu().double(),)
        log_px_z, kl = (term.cpu().double() for term in method.elbo_terms(x))
        return log_px_z - kl, log_px_z, kl

    found: tuple[Tensor, ...] = study.once("bounds", lambda: study.rows(len(table), work, "bounding the likelihood"))
    return found


def highest_possible(study: Study) -> float | None:
    """The highest possible mean over the scored split, in nats, if the likelihood treats grey as a probability.

    None if it does not, or if no image is grey: then the numbers are likelihoods.
    """
    likelihood, table = getattr(study.method, "likelihood", None), study.table(study.split)
    if not isinstance(likelihood, ReadsProbabilities):
        return None

    def work(index: Tensor) -> tuple[Tensor, ...]:
        return (likelihood.highest(likelihood.observe(table.batch(index).x.to(study.device))).double(),)

    (found,) = study.once("highest", lambda: study.rows(len(table), work, "reading grey"))
    return float(found.mean()) if bool((found < 0).any()) else None


def qualified(number: Metric, highest: float, dimensions: int) -> Metric:
    """The number with the fact that it is no likelihood, and with its limit."""
    limit = highest if number.unit == "nats" else -highest / dimensions / math.log(2)
    name = "highest possible" if number.unit == "nats" else "lowest possible"
    return replace(number, facts=number.facts | {"grey": GREY, "limit": name, "limit_value": limit})


def log_weights(method: WeighsSamples, x: Tensor, num_samples: int, values: int = 2**20) -> Tensor:
    """log w (draws, B), float64 on the CPU, of observed images x, in parts that decode to `values` numbers at most."""
    part = max(1, values // x.numel())
    counts = [min(part, num_samples - start) for start in range(0, num_samples, part)]
    return torch.cat([method.log_weights(x, count).cpu().double() for count in counts])


def in_both_units(study: Study, names: tuple[str, str], bound: Tensor, elbo: Tensor | None = None) -> list[Metric]:
    """A bound (N,) in nats and in bits/dim; baseline: the ELBO of the same draws."""
    method, dimensions = study.method, study.kind.size(study.data.shape)
    facts = {
        "split": study.split,
        "images": len(bound),
        "noise_seed": study.seed,
        "reads": str(getattr(method, "likelihood", type(method).__name__)),
        "bin_width": method.bin_width,
    }

    def number(name: str, unit: str, better: Any, read: Any) -> Metric:
        values = read(bound)
        more = standard_error(values)
        if elbo is not None:
            more |= {"baseline": "the ELBO of the same draws", "baseline_value": float(read(elbo).mean())}
        return Metric(name, float(values.mean()), unit, better, facts | more)

    def bits(nats: Tensor) -> Tensor:
        return -(nats / dimensions + math.log(method.bin_width)) / math.log(2)

    nats, bits_per_dim = names
    return [number(nats, "nats", "higher", lambda values: values), number(bits_per_dim, "bits/dim", "lower", bits)]
