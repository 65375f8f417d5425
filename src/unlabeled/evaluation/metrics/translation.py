"""Distance of translations to their true counterparts, and of cycles to their start."""

from typing import ClassVar

from torch import Tensor

from unlabeled.batches import Paired
from unlabeled.capabilities import Translates, TranslatesBack
from unlabeled.evaluation.metric import Headline, Metric
from unlabeled.evaluation.metrics.similarity import BETTER, UNITS, distances, lpips
from unlabeled.evaluation.study import Study


class Translation:
    """`translation_*` (a to b) and `translation_back_*` (b to a) against the true counterpart; baseline: the unchanged
    image. `cycle_a_*` and `cycle_b_*`, there and back against the start, need no pairs. Every number is a mean over
    images (similarity.py).
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "translation_ssim": Headline(
            110, "structural similarity of translations to their true counterparts: 1 is equal"
        ),
        "cycle_a_ssim": Headline(190, "structural similarity of images to themselves, there and back: 1 is equal"),
    }

    def __init__(
        self,
        lpips_weights: str | None = None,  # AlexNet's, see nn.pretrained.lpips; None: it is left out
    ):
        self.lpips_weights = lpips_weights

    def applies(self, study: Study) -> bool:
        if not isinstance(study.method, Translates) or study.kind.single or not study.kind.visual:
            return False
        return pairs_known(study) or isinstance(study.method, TranslatesBack)

    def measure(self, study: Study) -> list[Metric]:
        method, table = study.method, study.table(study.split)
        network = lpips(self.lpips_weights, study)
        pairs, both_ways = pairs_known(study), isinstance(method, TranslatesBack)
        names: list[str] = []

        def work(index: Tensor) -> tuple[Tensor, ...]:
            found: dict[str, Tensor] = {}

            def compare(name: str, x: Tensor, truth: Tensor) -> None:
                for measure, each in distances(x, truth).items():
                    if measure != "mse":
                        found[f"{name}_{measure}"] = each
                if network is not None:
                    found[f"{name}_lpips"] = network(x, truth)

            batch = table.batch(index)
            a, b = batch.a.to(method.device), batch.b.to(method.device)
            to_b = method.translate(a)
            if pairs:
                compare("translation", to_b, b)
                compare("unchanged", a, b)
            if both_ways:
                to_a = method.translate_back(b)
                if pairs:
                    compare("translation_back", to_a, a)
                compare("cycle_a", method.translate_back(to_b), a)
                compare("cycle_b", method.translate(to_a), b)
            names[:] = found
            return tuple(found.values())

        columns = study.rows(len(table), work, "translating")
        if not study.is_main:
            return []
        # Rows of the smaller domain repeat: they count once.
        unique = {"cycle_a": len(getattr(table, "rows_a", table)), "cycle_b": len(getattr(table, "rows_b", table))}
        values = {
            name: each[: unique.get(name.rpartition("_")[0], len(each))]
            for name, each in zip(names, columns, strict=True)
        }
        numbers = []
        for name, each in values.items():
            quantity, _, measure = name.rpartition("_")
            if quantity == "unchanged":
                continue
            facts = {"data": study.data.source.name, "split": study.split, "images": len(each)}
            if quantity.startswith("translation"):
                facts["baseline_value"] = values[f"unchanged_{measure}"].mean().item()
                facts["baseline"] = "left as it is"
            if measure == "lpips" and network is not None:
                facts |= network.facts(study.data.shape)
            numbers.append(Metric(name, each.mean().item(), UNITS[measure], BETTER[measure], facts))
        return numbers


def pairs_known(study: Study) -> bool:
    """Whether true counterparts exist: unpaired data have them for val and test at most."""
    known = getattr(study.data, "pairs_known", False)
    return known and (study.split != "train" or study.data.batch is Paired)
