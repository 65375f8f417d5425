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

GREY = "grey pixels are read as probabilities of white, so that this is not the likelihood of an image"
ACTIVE = 0.01  # variance of its posterior mean over images above which a unit is active


class Likelihood:
    """Bounds on log p(x), in nats and in bits per dimension.

    log_likelihood_bound: the method's own, of one draw: the ELBO, or log p(x) itself. Where it has terms,
    elbo_reconstruction minus elbo_kl is that bound, and active_units are the latent dimensions whose posterior mean
    varies over images by more than 0.01 (Burda et al. 2016, https://arxiv.org/abs/1509.00519, section 5.2).
    iwae_bound[K] (the same, equation 8), in float64:

        log 1/K sum_k w_k,  w_k = p(x, z_k) / q(z_k|x),  z_k ~ q(z|x).

    Densities are turned into probabilities of 8-bit levels by a level's width: bits/dim =
    -(log p(x) / D + log width) / log 2. The facts say how the likelihood reads grey; where it takes grey for a
    probability, none of these numbers is the likelihood of an image, and each says so, beside the highest possible.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "iwae_bound": Headline(30, "importance-weighted bound on the log-likelihood of an image"),
        "log_likelihood_bound": Headline(140, "bound on the log-likelihood of an image"),
        "bits_per_dim": Headline(150, "bits for each channel of a pixel"),
    }

    def __init__(
        self,
        num_samples: int = 50,  # K
        images: int = 1000,  # that K draws are made of at most, evenly spaced over the split
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
        told = ["log_likelihood_bound", "bits_per_dim", *(["elbo_reconstruction"] if terms else [])]
        facts = {"split": study.split, "images": len(bound), "noise_seed": study.seed}
        if terms:
            reconstruction, kl = (float(term.mean()) for term in terms)
            numbers += [
                Metric("elbo_reconstruction", reconstruction, "nats", "higher", facts),
                Metric("elbo_kl", kl, "nats", None, facts),
            ]
        if codes is not None and len(codes) > 1:  # one image does not tell what varies
            active = (codes.double().var(0, correction=0) > ACTIVE).sum()
            facts = {"split": study.split, "images": len(codes), "threshold": ACTIVE}
            facts |= {"baseline": "units in all", "baseline_value": codes.shape[1]}
            numbers.append(Metric("active_units", float(active), "", None, facts))
        if weighted is not None:
            names = (f"iwae_bound[{self.num_samples}]", f"iwae_bits_per_dim[{self.num_samples}]")
            numbers += in_both_units(study, names, *weighted)
            told += names
        if highest is None:
            return numbers
        study.notes.append(
            f"{', '.join(told)}: {GREY}: compare them among models that read the same images so, and with nothing "
            f"else. No model exceeds {highest:.4g} nats here. A likelihood is had by training with "
            "model.likelihood.binarisation=dynamic or threshold, or with another likelihood"
        )
        return [
            qualified(number, highest, study.kind.size(study.data.shape)) if number.name in told else number
            for number in numbers
        ]

    def weighted(self, study: Study) -> tuple[Tensor, Tensor]:
        """The importance-weighted bound of `images` images and the ELBO of the same draws, each (N,), float64."""
        method, table = study.method, study.table(study.split)
        n = min(self.images, len(table))
        spaced = torch.arange(n) * len(table) // max(n, 1)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            # all draws of z are for one reading of the grey, which can be a draw itself
            x = method.observe(table.batch(spaced[index]).x.to(method.device))
            log_w = log_weights(method, x, self.num_samples)
            return log_w.logsumexp(0) - math.log(self.num_samples), log_w.mean(0)

        bound, elbo = study.rows(n, work, f"weighing {self.num_samples} draws an image")
        return bound, elbo


def bounds(study: Study) -> tuple[Tensor, ...]:
    """The bound of each image of the scored split and, where the method has them, its two terms: (N,), float64."""
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
    """The mean over the scored split that no model exceeds, in nats, where the likelihood takes grey for a probability.

    None where it does not, or where no image is grey: then the numbers are likelihoods.
    """
    likelihood, table = getattr(study.method, "likelihood", None), study.table(study.split)
    if not isinstance(likelihood, ReadsProbabilities):
        return None

    def work(index: Tensor) -> tuple[Tensor, ...]:
        return (likelihood.highest(likelihood.observe(table.batch(index).x.to(study.device))).double(),)

    (found,) = study.once("highest", lambda: study.rows(len(table), work, "reading grey"))
    return float(found.mean()) if bool((found < 0).any()) else None


def qualified(number: Metric, highest: float, dimensions: int) -> Metric:
    """A number that is no likelihood says so, beside what none exceeds."""
    limit = highest if number.unit == "nats" else -highest / dimensions / math.log(2)
    name = "highest possible" if number.unit == "nats" else "lowest possible"
    return replace(number, facts=number.facts | {"grey": GREY, "limit": name, "limit_value": limit})


def log_weights(method: WeighsSamples, x: Tensor, num_samples: int, values: int = 2**20) -> Tensor:
    """log w (draws, B), float64 on the CPU, of observed images x; at a time as many as decode to `values` numbers."""
    part = max(1, values // x.numel())
    counts = [min(part, num_samples - start) for start in range(0, num_samples, part)]
    return torch.cat([method.log_weights(x, count).cpu().double() for count in counts])


def in_both_units(study: Study, names: tuple[str, str], bound: Tensor, elbo: Tensor | None = None) -> list[Metric]:
    """A bound (N,) in nats and in bits/dim, beside the ELBO of the same draws."""
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
