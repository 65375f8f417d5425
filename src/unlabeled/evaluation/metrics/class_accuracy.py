"""Accuracy of samples drawn for a class."""

from typing import ClassVar

import torch
from torch import Tensor

from unlabeled.batches import to_uint8
from unlabeled.capabilities import SamplesClasses
from unlabeled.evaluation.metric import Headline, Metric, error_of_share
from unlabeled.evaluation.metrics.distribution import LIMIT, images
from unlabeled.evaluation.stats.linear import percent
from unlabeled.evaluation.study import Study


class ClassAccuracy:
    """sample_accuracy: % of images drawn for a class that the extractor, a classifier of these classes, assigns to it.

    The GAN-test of Shmelkov, Schmid & Alahari 2018, https://arxiv.org/abs/1807.09499, section 3.2, with equally many
    images of each class that training has. Baseline: the extractor's accuracy on the scored split's labelled images.
    One image of each class is enough for 100 %: recall and coverage measure variety.
    """

    headlines: ClassVar[dict[str, Headline]] = {
        "sample_accuracy": Headline(160, "drawn images that a classifier assigns to the requested class"),
    }

    def applies(self, study: Study) -> bool:
        if study.extractor is None or not (study.kind.single and study.kind.visual):
            return False
        return isinstance(study.method, SamplesClasses) and study.extractor.classes == study.method.classes

    def measure(self, study: Study) -> list[Metric]:
        extractor, method, table = study.extractor, study.method, study.table(study.split)
        assert extractor is not None
        kinds = method.labels.seen.cpu()
        n = min(images(study, study.split).n, LIMIT) if study.samples is None else study.samples

        def named(x: Tensor) -> Tensor:
            logits = extractor(to_uint8(x.to(study.device)))[1]
            assert logits is not None
            return logits.argmax(1)

        def drawn(index: Tensor) -> tuple[Tensor, ...]:
            y = kinds[
                (index[0] + torch.arange(study.block)) % len(kinds)
            ]  # whole blocks: the first ones do not depend on n
            found = named(method.sample_class(y.to(study.device)))
            return found[: len(index)], y[: len(index)]

        def real(index: Tensor) -> tuple[Tensor, ...]:
            batch = table.batch(index)
            return named(batch.x), batch.y

        found, asked = study.rows(n, drawn, "drawing classes")
        seen, y = study.rows(len(table), real, "naming real images")
        if not study.is_main:
            return []
        accuracy, known = percent(found == asked), (seen == y)[torch.isin(y, kinds)]  # of the images with a class
        facts = {
            "split": study.split,
            "images": n,
            "extractor": {"name": extractor.name, "digest": extractor.digest, **extractor.facts},
            "seed": study.seed,
            **error_of_share(accuracy, n),
        }
        if len(known):
            facts |= {"baseline": "real images", "baseline_value": percent(known), "baseline_images": len(known)}
        return [Metric(f"sample_accuracy[{extractor.name}]", accuracy, "%", "higher", facts)]
