"""Likelihoods p(x|z) of images in [-1, 1], with parameters from a decoder.

A decoder gives `outputs` parameters of each pixel and channel, (..., outputs * C, H, W). Channels are independent
given z.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from unlabeled.errors import UserError

PIXELS = (-3, -2, -1)  # C, H, W
# log sigma of half a grey level. Smaller ones make the density of 8-bit images arbitrarily high
LOWEST = math.log(1 / 255)


class Likelihood(Protocol):
    bin_width: (
        float  # of one 8-bit grey level in its units: bits/dim = -(log p(x) / dimensions + log bin_width) / log 2
    )

    def observe(self, x: Tensor) -> Tensor:
        """The images in [-1, 1] that are modelled: x rounded, binarized or as it is."""

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of observed images in nats, summed over pixels, (..., C, H, W) -> (...)."""

    def mean(self, output: Tensor) -> Tensor:
        """The expected image in [-1, 1]."""


@runtime_checkable
class InvertsMean(Protocol):
    """A likelihood that gives the outputs of an expected image."""

    def output_of(self, mean: Tensor) -> Tensor:
        """Outputs (outputs * C, H, W) whose expected image is `mean` (C, H, W)."""


class BernoulliLogProb(torch.autograd.Function):
    """x l - log(1 + e^l) of logits l, summed over pixels: torch's own takes three times as long on a CPU.

    Its log1p is not vectorised; log(1 + e^-|l|) = -log sigmoid(|l|) is, and is as good: below 1e-7 of 1 either way.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return (logits * x - logits.clamp(min=0) + torch.sigmoid(logits.abs()).log()).sum(PIXELS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = ctx.saved_tensors
        gradient = gradients[0][..., None, None, None]
        of_x = (gradient * logits).sum_to_size(x.shape) if ctx.needs_input_grad[1] else None
        return gradient * (x - torch.sigmoid(logits)), of_x


def parted(output: Tensor, outputs: int) -> Tensor:
    """A decoder's (..., outputs * C, H, W) as (outputs, ..., C, H, W)."""
    return output.unflatten(-3, (outputs, -1)).movedim(-4, 0)


def check_outputs(name: str, outputs: int, expected: int) -> None:
    if outputs != expected:
        raise UserError(
            f"model.likelihood.outputs={outputs}: {name} has {expected} parameters of each pixel and channel; set it "
            "to that"
        )


class Bernoulli(nn.Module):
    """Each pixel black or white; the decoder gives logits. Kingma & Welling 2014, appendix C.1.

    `binarization` of grey pixels: "none" takes them as probabilities, as most code does (then exp(log_prob) is not the
    probability of an image); "threshold" rounds them; "dynamic" draws them anew each time, as Burda et al. 2016 do.
    """

    bin_width = 1.0

    def __init__(self, binarization: str = "none", outputs: int = 1):
        super().__init__()
        check_outputs("Bernoulli", outputs, 1)
        kinds: dict[str, Callable[[Tensor], Tensor]] = {
            "none": lambda p: p,
            "threshold": lambda p: (p >= 0.5).to(p),
            "dynamic": torch.bernoulli,
        }
        if binarization not in kinds:
            raise UserError(f"binarization={binarization}: there are none, threshold and dynamic")
        self.binarization = binarization
        self._binarize = kinds[binarization]

    def extra_repr(self) -> str:
        return f"binarization={self.binarization}"

    def observe(self, x: Tensor) -> Tensor:
        """The image that is modelled, in [-1, 1]."""
        return self._binarize((x + 1) / 2) * 2 - 1

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of observed images x, (..., C, H, W) -> (...)."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))  # under bf16-mixed too
        return BernoulliLogProb.apply(output, (x + 1) / 2)

    def highest(self, x: Tensor) -> Tensor:
        """The highest log_prob of observed images x over all outputs, (..., C, H, W) -> (...): 0 where none is grey.

        The negative entropy of pixels whose grey p is the probability of white: p log p + (1 - p) log(1 - p).
        """
        p = (x + 1) / 2
        return (torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum(PIXELS)

    def mean(self, output: Tensor) -> Tensor:
        """The expected image in [-1, 1]."""
        return torch.sigmoid(output) * 2 - 1

    def output_of(self, mean: Tensor) -> Tensor:
        """Logits (C, H, W) whose expected image is `mean`, in [-1, 1], as far as it is a thousandth from its ends."""
        return torch.logit((mean + 1) / 2, eps=1e-3)


def log_normal_pixels(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(x; mean, sigma^2) of whole images in nats, (..., C, H, W) -> (...)."""
    error = (x - mean) * torch.exp(-log_sigma)
    return -(0.5 * math.log(2 * math.pi) + log_sigma + 0.5 * error.square()).sum(PIXELS)


class Gaussian(nn.Module):
    """Independent pixels around the decoder's output, with one standard deviation for all, learned or fixed.

    Learned: Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, section 4.1. A density over [-1, 1].
    """

    bin_width = 2 / 255

    def __init__(self, sigma: float = 0.3, learned: bool = True, outputs: int = 1):
        super().__init__()
        check_outputs("Gaussian", outputs, 1)
        self.learned = learned
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=learned)

    def extra_repr(self) -> str:
        return f"sigma={float(self.log_sigma.exp()):.4g}, learned={self.learned}"

    def observe(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z), (..., C, H, W) -> (...)."""
        return log_normal_pixels(x, output, self.log_sigma.clamp(min=LOWEST))

    def mean(self, output: Tensor) -> Tensor:
        """The output, clamped to [-1, 1]."""
        return output.clamp(-1, 1)


class GaussianPerPixel(nn.Module):
    """Independent pixels, mean and standard deviation of each from the decoder. Kingma & Welling 2014, appendix C.2.

    A density over [-1, 1]. log sigma goes smoothly to its floor, half a grey level, as in Rybkin et al. 2021,
    https://arxiv.org/abs/2006.13202: a clamp would leave the pixels below it without a gradient.
    """

    bin_width = 2 / 255

    def __init__(self, outputs: int = 2):
        super().__init__()
        check_outputs("GaussianPerPixel", outputs, 2)

    def observe(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z), output (..., 2 C, H, W) -> (...)."""
        mean, log_sigma = parted(output, 2)
        return log_normal_pixels(x, mean, LOWEST + softplus(log_sigma - LOWEST))

    def mean(self, output: Tensor) -> Tensor:
        """The means, clamped to [-1, 1]."""
        return parted(output, 2)[0].clamp(-1, 1)


class OptimalGaussian(nn.Module):
    """Independent pixels around the output, with the one sigma of maximum likelihood. Rybkin et al. 2021, section 4.2.

    sigma^2 = mean over the batch and its pixels of (x - output)^2 (https://arxiv.org/abs/2006.13202, equation 5), in
    training of the batch at hand. In evaluation, where images must not affect each other's likelihood, it is the
    running mean from training. A density over [-1, 1].
    """

    bin_width = 2 / 255
    rate = 0.01  # of the running mean, at least

    variance: Tensor  # ()
    batches: Tensor  # ()

    def __init__(self, outputs: int = 1):
        super().__init__()
        check_outputs("OptimalGaussian", outputs, 1)
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def extra_repr(self) -> str:
        return f"sigma={float(self.variance.sqrt()):.4g}"

    def observe(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z), (..., C, H, W) -> (...)."""
        variance = self.variance
        if self.training:
            variance = (x - output).square().mean().detach()  # at its optimum the gradient through it is zero
            self.batches += 1
            self.variance.lerp_(variance.to(self.variance), (1 / self.batches).clamp(min=self.rate))
        return log_normal_pixels(x, output, (variance.log() / 2).clamp(min=LOWEST))

    def mean(self, output: Tensor) -> Tensor:
        """The output, clamped to [-1, 1]."""
        return output.clamp(-1, 1)


def levels(x: Tensor) -> Tensor:
    """The nearest of the 256 grey levels of images in [-1, 1], 0 to 255, as floats."""
    return ((x + 1) * 127.5).round().clamp(0, 255)


class LogisticMixture(nn.Module):
    """A mixture of logistics rounded to 256 levels. Salimans et al. 2017, https://arxiv.org/abs/1701.05517, sec. 2.1.

    With edges half a level below and above x, the lowest and the highest level keeping what lies outside (equation 2):

        p(x) = sum_k pi_k [sigmoid((x + 1/255 - mu_k) / s_k) - sigmoid((x - 1/255 - mu_k) / s_k)]

    Paper: the means of green and blue depend on the pixel's red and green, and the three share their weights; here
    channels are independent, each with its own weights, means and scales, since a decoder does not see x.
    """

    bin_width = 1.0

    def __init__(self, outputs: int = 15):  # log weight, mean and log scale of each component: 3 K
        super().__init__()
        if outputs < 3 or outputs % 3:
            raise UserError(
                f"model.likelihood.outputs={outputs}: LogisticMixture has 3 parameters a component: say 3 K"
            )
        self.outputs = outputs

    def extra_repr(self) -> str:
        return f"components={self.outputs // 3}"

    def observe(self, x: Tensor) -> Tensor:
        """The image in 256 levels."""
        return levels(x) / 127.5 - 1

    def read(self, output: Tensor) -> Tensor:
        """log pi, mu and log s, each (K, ..., C, H, W), of output (..., 3 K C, H, W)."""
        return parted(output, self.outputs).unflatten(0, (3, -1))

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of observed images x, (..., C, H, W) -> (...)."""
        weights, mu, log_scale = self.read(output)
        precision = torch.exp(-log_scale.clamp(-7, 7))
        above, below = (x + 1 / 255 - mu) * precision, (x - 1 / 255 - mu) * precision
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)); the edge levels need one factor only
        inside = torch.log(-torch.expm1(-2 / 255 * precision))
        lowest, highest = x < -1 + 1 / 255, x > 1 - 1 / 255
        up = torch.where(highest, 0.0, logsigmoid(above))
        down = torch.where(lowest, 0.0, logsigmoid(-below))
        log_mass = up + down + torch.where(lowest | highest, 0.0, inside)
        return (weights.log_softmax(0) + log_mass).logsumexp(0).sum(PIXELS)

    def mean(self, output: Tensor) -> Tensor:
        """The components' means, each clamped to [-1, 1], by their weights."""
        weights, mu, _ = self.read(output)
        return (weights.softmax(0) * mu.clamp(-1, 1)).sum(0)


class Categorical(nn.Module):
    """Each of the 256 levels with a probability of its own. Van den Oord et al. 2016, https://arxiv.org/abs/1601.06759."""

    bin_width = 1.0

    def __init__(self, outputs: int = 256):
        super().__init__()
        check_outputs("Categorical", outputs, 256)

    def observe(self, x: Tensor) -> Tensor:
        """The image in 256 levels."""
        return levels(x) / 127.5 - 1

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of observed images x, output (..., 256 C, H, W) -> (...)."""
        log_p = parted(output, 256).log_softmax(0)
        index = levels(x).long().expand(log_p.shape[1:])
        return log_p.gather(0, index[None])[0].sum(PIXELS)

    def mean(self, output: Tensor) -> Tensor:
        """The expected level."""
        grey = torch.linspace(-1, 1, 256, device=output.device)
        return torch.tensordot(parted(output, 256).softmax(0), grey, ([0], [0])).clamp(-1, 1)
