"""Targets of an evaluation: a checkpoint on its data, or a folder of samples beside real images."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from unlabeled.app.cli.main import composed, options
from unlabeled.app.evaluate.extractors import choose
from unlabeled.app.run.changes import with_other_data
from unlabeled.app.run.checkpoint import load
from unlabeled.app.run.plan import resolve
from unlabeled.capabilities import Reconstructs, Samples, Translates
from unlabeled.errors import UserError, suggest
from unlabeled.evaluation.metric import Evaluator
from unlabeled.evaluation.metrics.distribution import Folders
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.sampler import give
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix


class EvaluationTarget(NamedTuple):
    study: Study
    evaluators: dict[str, Evaluator]  # by their names in conf/evaluation
    title: str
    run: dict[str, Any]  # the config that it was trained with
    facts: dict[str, Any]  # about the weights, or the folder
    home: Path  # the run's folder


def checkpoint_target(config: dict[str, Any], device: str, ranks: Ranks) -> EvaluationTarget:
    """A checkpoint's method on the data that it was trained on, with the keys in `data` replaced."""
    trusted_packages = tuple(config["trusted_packages"])
    method, run, facts = load(config["checkpoint"], config["weights"], device, trusted_packages, config["data"])
    now = with_other_data(run, config["data"])
    settings = now["data"]
    data = prepared_data(settings)
    chosen, cache = config["evaluation"], Path(data.packed) / "evaluation"
    # refused before anything takes time
    other = probe_settings(chosen["probe_data"], settings) if chosen["probe_data"] else None

    def untrained() -> Any:
        torch.manual_seed(mix(config["seed"], 7) % 2**32)
        return instantiate(now["model"], _convert_="all").to(method.device).eval().requires_grad_(False)

    study = Study(
        method,
        data,
        split=chosen["split"],
        seed=config["seed"],
        samples=chosen["samples"],
        codes=chosen["codes"],
        untrained=untrained,
        cache=cache,
        ranks=ranks,
    )
    give(study, chosen["sampler"], instantiate(chosen["samplers"], _convert_="all"))
    if not study.kind.visual:
        if chosen["extractor"] not in ("auto", "none"):
            raise UserError(
                f"evaluation.extractor={chosen['extractor']} sees images, and these data are {study.kind.noun}s"
            )
    elif chosen["extractor"] != "auto" or isinstance(study.method, Samples | Reconstructs | Translates):
        study.extractor = choose(
            chosen["extractor"],
            chosen["extractor_weights"],
            now,
            data,
            cache,
            device,
            trusted_packages,
            study.notes,
            ranks,
        )
    if other:
        study.transfer = Study(
            method,
            prepared_data(other),
            split=chosen["split"],
            seed=config["seed"],
            codes=chosen["codes"],
            untrained=untrained,
            cache=cache,
            ranks=ranks,
        )
    names = run.get("names") or {}
    title = f"{names.get('model', '')} on {names.get('data', '')}, {facts['weights']} weights"
    if chosen["sampler"] != "own":
        title += f", sampler {chosen['sampler']}"
    evaluators = {name: instantiate(e, _convert_="all") for name, e in chosen["evaluators"].items()}
    file = Path(facts["checkpoint"])
    home = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    return EvaluationTarget(study, evaluators, title, run, facts, home)


def folder_target(config: dict[str, Any], device: str, ranks: Ranks) -> EvaluationTarget:
    """The images of the folder `samples` beside those of the folder `reference`."""
    folders = {key: Path(config[key]).expanduser() for key in ("samples", "reference")}
    sources = {
        key: {"_target_": "unlabeled.data.sources.folder.AllPictures", "path": str(path), "key": key}
        for key, path in folders.items()
    }
    pictures = {key: instantiate(source) for key, source in sources.items()}
    shape = common_shape(pictures, config["size"], config["channels"])
    settings: dict[str, Any] = {"_target_": "unlabeled.data.kinds.images.ImageData", "shape": shape, "batch_size": 100}
    root = config["data"]["root"] or os.environ.get("UNLABELED_DATA", "data")
    settings |= {"root": root, "packed": config["data"]["packed"], "val": 0.0, "test": 0.0}
    samples, data = (prepared_data(settings | {"source": source}) for source in sources.values())
    chosen, cache = config["evaluation"], Path(data.packed) / "evaluation"
    method = SimpleNamespace(device=torch.device(device))
    study = Study(method, data, "train", config["seed"], cache=cache, ranks=ranks)
    for key, images in {"samples": samples, "reference": data}.items():
        if inside := pictures[key].split_folders:
            study.notes.append(f"{key}={folders[key]}: all images in it count, those in {' and '.join(inside)} alike")
        if left := images.left_out():
            study.notes.append(f"{key}={folders[key]}: left out: {left}")
    study.extractor = choose(
        chosen["extractor"],
        chosen["extractor_weights"],
        {"data": settings},
        data,
        cache,
        device,
        tuple(config["trusted_packages"]),
        study.notes,
        ranks,
    )
    if study.extractor is None:
        raise UserError(study.notes[-1] if study.notes else "say evaluation.extractor=... (see --cfg job)")
    title = f"{folders['samples']} beside {folders['reference']}"
    facts = {name: str(path) for name, path in folders.items()} | {"shape": shape}
    return EvaluationTarget(
        study, {"distribution": Folders(samples.table("train"))}, title, {}, facts, folders["samples"]
    )


def prepared_data(settings: dict[str, Any]) -> Any:
    data = instantiate(settings, _convert_="all")
    data.prepare_data()
    return data


def probe_settings(name: str, home: dict[str, Any]) -> dict[str, Any]:
    """Settings of the data set or folder `name`, in the shape that the method takes."""
    folder, known = Path(name).expanduser(), options("data")
    if name in ("folder", "two_folders"):
        raise UserError(f"evaluation.probe_data={name}: which folder? say evaluation.probe_data=FOLDER, ./FOLDER")
    if name not in known and not folder.is_dir():
        raise UserError(f"evaluation.probe_data={name}: no data set nor folder has this name: {suggest(name, known)}")
    config = composed("train", [f"data={name if name in known else 'folder'}"])
    if name not in known:
        config.data.source.path = str(folder)
    OmegaConf.update(config, "data", {key: home[key] for key in ("shape", "root", "packed")})
    return resolve(config)["data"]


def common_shape(folders: dict[str, Any], size: int | None, channels: int | None) -> tuple[int, int, int]:
    """(C, H, W) of all images, upright; folders: AllPictures sources by the key that names them.

    Where sizes differ, images are scaled to squares of `size`. They are grey where no image of either folder has a
    colour, however it is saved, unless `channels` says otherwise.
    """
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels}: 1 (grey) or 3 (colours); without it, grey where no image has a colour")
    if channels is None:
        channels = 1 if all(pictures.grey() for pictures in folders.values()) else 3
    if size is not None:
        return (channels, size, size)
    found: dict[tuple[int, int], Path] = {}  # sides -> a picture that has them
    for key, pictures in folders.items():
        sizes = pictures.sizes()
        if not sizes:
            raise UserError(f"{key}={pictures.pictures.given}: none of its images can be read")
        found = sizes | found
    if len(found) > 1:
        (a, b), (one, other) = list(found)[:2], list(found.values())[:2]
        raise UserError(
            f"images differ in size: {one} is {a[1]}x{a[0]} and {other} {b[1]}x{b[0]}: say size=N to scale all to NxN"
        )
    return (channels, *next(iter(found)))
