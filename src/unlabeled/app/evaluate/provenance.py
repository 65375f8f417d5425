"""Provenance of an evaluation's numbers."""

import platform
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unlabeled.app.evaluate.target import EvaluationTarget
from unlabeled.evaluation.metric import Evaluator, Metric

LIBRARIES = ("unlabeled", "torch", "torchvision", "torchmetrics", "torch-fidelity", "scikit-learn", "numpy", "scipy")


def describe(config: dict[str, Any], subject: EvaluationTarget, found: dict[str, list[Metric]]) -> dict[str, Any]:
    """An evaluation as plain values: provenance, numbers, notes on what was left out, and the run's config."""
    study = subject.study
    provenance = subject.facts | {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "names": subject.run.get("names"),
        "data": study.data.keys,
        "class_names": list(study.class_names) or None,
        "evaluation_seed": config["seed"],
        "overrides": config["overrides"],
        "versions": {name: version(name) for name in LIBRARIES},
        "device": study.device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "processes": study.ranks.world,
    }
    if study.extractor is not None:
        facts = {"name": study.extractor.name, "sha256": study.extractor.digest}
        provenance["extractor"] = facts | study.extractor.facts
    return {
        "title": subject.title,
        "provenance": provenance,
        "numbers": [
            told(number, name, subject.evaluators[name]) for name, numbers in found.items() for number in numbers
        ],
        "notes": study.notes,
        "config": subject.run,
    }


def told(number: Metric, name: str, evaluator: Evaluator) -> dict[str, Any]:
    """A number, the evaluator's name, and its words where it is a headline."""
    headline = evaluator.headlines.get(number.name.partition("[")[0])
    return asdict(number) | {"group": name} | ({"headline": headline._asdict()} if headline else {})


def processor() -> str:
    """The machine's processor or accelerator, by name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
