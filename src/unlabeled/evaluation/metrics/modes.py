"""Coverage of the modes of a known mixture by samples."""

from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from unlabeled.capabilities import Samples
from unlabeled.errors import UserError
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.study import Study

WITHIN = 3.0  # standard deviations of its mode: a sample of high quality


@runtime_checkable
class KnownModes(Protocol):
    """A source of points around known modes."""

    centres: Tensor  # (K, D)
    deviation: Tensor  # (K,)
    weights: Tensor  # (K,), of sum 1


class Modes:
    """The protocol of Srivastava et al. 2017 (VEEGAN), https://arxiv.org/abs/1705.07761, section 4.1, and of Lin et al.
    2018 (PacGAN), https://arxiv.org/abs/1712.04086, section 4.1, on 2,500 samples. Each belongs to its nearest mode, in
    units of that mode's standard deviation, and is of high quality within three.

    - modes_covered: modes with a sample of high quality
    - high_quality: the share of such samples, in %; 98.9 % for the data in the plane
    - modes_reverse_kl: KL(samples' shares of the modes || the data's), in nats, for samples of any quality

    Baseline: the same for as many points of the scored split.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "modes_covered": Headline(90, "modes of the data that samples reach"),
        "high_quality": Headline(100, "samples that lie on a mode of the data"),
    }

    def __init__(self, samples: int = 2500):
        if samples < 1:
            raise UserError(f"evaluation.evaluators.modes.samples={samples}: 1 or more")
        self.samples = samples

    def applies(self, study: Study) -> bool:
        return isinstance(study.data.source, KnownModes) and isinstance(study.method, Samples)

    def measure(self, study: Study) -> list[Metric]:
        n = study.samples or self.samples
        mixture = study.data.source

        def work(index: Tensor) -> tuple[Tensor, ...]:
            return (study.method.sample(study.block)[: len(index)],)  # whole blocks: the first ones do not depend on n

        (x,) = study.rows(n, work, "sampling")
        if not study.is_main:
            return []
        table = study.table(study.split)
        real = table.batch(torch.arange(min(n, len(table)))).x.cpu()
        found, truth = (counted(points, mixture) for points in (x, real))
        facts = {"split": study.split, "samples": n, "modes": len(mixture.centres), "within": WITHIN}
        units = {"modes_covered": f"of {len(mixture.centres)}", "high_quality": "%", "modes_reverse_kl": "nats"}
        return [
            Metric(
                name,
                value,
                units[name],
                "lower" if name == "modes_reverse_kl" else "higher",
                facts | {"baseline": f"{len(real)} points of the data", "baseline_value": truth[name]},
            )
            for name, value in found.items()
        ]


def counted(x: Tensor, mixture: KnownModes) -> dict[str, float]:
    """The three numbers of points x (N, D). Points that are not finite belong to no mode."""
    away = torch.cdist(x.double(), mixture.centres.double()) / mixture.deviation.double()  # (N, K)
    distance, mode = away.nan_to_num(torch.inf).min(1)
    good = distance <= WITHIN
    share = torch.bincount(mode[distance.isfinite()], minlength=len(mixture.centres)).double() / max(len(x), 1)
    some = share > 0
    return {
        "modes_covered": float(mode[good].unique().numel()),
        "high_quality": 100 * float(good.double().mean()),
        "modes_reverse_kl": float((share[some] * (share[some] / mixture.weights.double()[some]).log()).sum()),
    }
