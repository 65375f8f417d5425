"""Whether a method draws the class that it is asked for."""

from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images, to_uint8
from unlabeled.capabilities import SamplesClasses
from unlabeled.evaluation.metric import Metric, error_of_share
from unlabeled.evaluation.metrics.distribution import LIMIT, images
from unlabeled.evaluation.stats.linear import percent


class ClassAccuracy:
    """sample_accuracy: % of images drawn for a class that the extractor, a classifier of these classes, gives to it.

    The GAN-test of Shmelkov, Schmid & Alahari 2018, https://arxiv.org/abs/1807.09499, section 3.2; the classes
    that training images have take turns. Beside it, the extractor's accuracy on the scored split's images with a
    class. One image of each class is enough for 100 %: it tells nothing of variety, which recall and coverage do.
    """

    def applies(self, study: Any) -> bool:
        if study.extractor is None or study.data.batch is not Images or not isinstance(study.method, SamplesClasses):
            return False
        return study.extractor.classes == study.method.classes

    def measure(self, study: Any) -> list[Metric]:
        extractor, method, table = study.extractor, study.method, study.table(study.split)
        kinds = method.labels.seen.cpu()
        n = min(images(study, study.split).n, LIMIT) if study.samples is None else study.samples

        def named(x: Tensor) -> Tensor:
            return extractor(to_uint8(x.to(study.device)))[1].argmax(1)

        def drawn(index: Tensor) -> tuple[Tensor, ...]:
            y = kinds[(index[0] + torch.arange(study.block)) % len(kinds)]  # a whole block, whatever n is
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
