"""Accuracy of a method's own classifier."""

from typing import ClassVar

from torch import Tensor

from unlabeled.capabilities import Classifies
from unlabeled.evaluation.metric import Headline, Metric, error_of_share
from unlabeled.evaluation.metrics.probe import classified
from unlabeled.evaluation.stats.linear import percent
from unlabeled.evaluation.study import Study


class Classification:
    """accuracy and error_rate in % of the scored split's labelled images; baseline: the most common class."""

    headlines: ClassVar[dict[str, Headline]] = {}

    def applies(self, study: Study) -> bool:
        return isinstance(study.method, Classifies) and classified(study.data)

    def measure(self, study: Study) -> list[Metric]:
        table = study.table(study.split)

        def work(index: Tensor) -> tuple[Tensor, ...]:
            batch = table.batch(index)
            return study.method.classify(batch.x.to(study.device)).argmax(1), batch.y

        found, y = study.rows(len(table), work, "classifying")
        if not study.is_main:
            return []
        right = (found == y)[y >= 0]
        n = len(right)
        if not n:
            study.notes.append(f"no accuracy: no image of the {study.split} split has a class")
            return []
        accuracy, common = percent(right), 100 * float(y[y >= 0].bincount().max()) / n
        facts = {
            "split": study.split,
            "images": n,
            "labels": getattr(study.data, "num_labels", None) or "all",
            **error_of_share(accuracy, n),
            "baseline": "the most common class",
        }
        return [
            Metric("accuracy", accuracy, "%", "higher", facts | {"baseline_value": common}),
            Metric("error_rate", 100 - accuracy, "%", "lower", facts | {"baseline_value": 100 - common}),
        ]
