"""What an evaluation is of: a checkpoint on its data, or somebody's samples beside real images."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from unlabeled.app.checkpoint import load
from unlabeled.app.cli import composed, options
from unlabeled.app.extractors import choose
from unlabeled.app.plan import resolve
from unlabeled.batches import Points
from unlabeled.capabilities import Reconstructs, Samples, Translates
from unlabeled.errors import UserError, nearest
from unlabeled.evaluation.distribution import Folders
from unlabeled.evaluation.place import Place
from unlabeled.evaluation.sampler import give
from unlabeled.evaluation.study import Study
from unlabeled.seeding import mix


class Subject(NamedTuple):
    study: Study
    evaluators: dict[str, Any]  # by the names that they have in conf/evaluation
    title: str
    run: dict[str, Any]  # the config that it was trained with
    facts: dict[str, Any]  # about the weights, or the folder
    home: Path  # where the run lies


def checkpointed(config: dict[str, Any], device: str, place: Place) -> Subject:
    """A checkpoint's method on the data that it was trained on, or on what `data` replaces."""
    trust = tuple(config["trust"])
    method, run, facts = load(config["checkpoint"], config["weights"], device, trust)
    settings = run["data"] | {key: value for key, value in config["data"].items() if value is not None}
    data = ready(settings)
    chosen, cache = config["evaluation"], Path(data.packed) / "evaluation"
    other = elsewhere(chosen["probe_data"], settings) if chosen["probe_data"] else None  # before anything takes time

    def untrained() -> Any:
        torch.manual_seed(mix(config["seed"], 7) % 2**32)
        return instantiate(run["model"], _convert_="all").to(method.device).eval().requires_grad_(False)

    study = Study(
        method,
        data,
        split=chosen["split"],
        seed=config["seed"],
        samples=chosen["samples"],
        codes=chosen["codes"],
        untrained=untrained,
        cache=cache,
        place=place,
    )
    give(study, chosen["sampler"], instantiate(chosen["samplers"], _convert_="all"))
    if data.batch is Points:
        if chosen["extractor"] not in ("auto", "none"):
            raise UserError(f"evaluation.extractor={chosen['extractor']} sees images, and these data are points")
    elif chosen["extractor"] != "auto" or isinstance(method, Samples | Reconstructs | Translates):
        study.extractor = choose(
            chosen["extractor"],
            chosen["extractor_weights"],
            run | {"data": settings},
            data,
            cache,
            device,
            trust,
            study.notes,
            place,
        )
    if other:
        study.transfer = Study(
            method,
            ready(other),
            split=chosen["split"],
            seed=config["seed"],
            codes=chosen["codes"],
            untrained=untrained,
            cache=cache,
            place=place,
        )
    names = run.get("names") or {}
    title = f"{names.get('model', '')} on {names.get('data', '')}, {facts['weights']} weights"
    if chosen["sampler"] != "own":
        title += f", sampler {chosen['sampler']}"
    evaluators = {name: instantiate(e, _convert_="all") for name, e in chosen["evaluators"].items()}
    file = Path(facts["checkpoint"])
    home = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    return Subject(study, evaluators, title, run, facts, home)


def collected(config: dict[str, Any], device: str, place: Place) -> Subject:
    """The images of the folder `samples` beside those of the folder `reference`, whoever made them."""
    folders = {key: Path(config[key]).expanduser() for key in ("samples", "reference")}
    shape = common_shape(folders, config["size"])
    settings: dict[str, Any] = {"_target_": "unlabeled.data.modules.ImageData", "shape": shape, "batch_size": 100}
    root = config["data"]["root"] or os.environ.get("UNLABELED_DATA", "data")
    settings |= {"root": root, "packed": config["data"]["packed"], "val": 0.0, "test": 0.0}
    samples, data = (
        ready(settings | {"source": {"_target_": "unlabeled.data.sources.folder.Folder", "path": str(path)}})
        for path in folders.values()
    )
    chosen, cache = config["evaluation"], Path(data.packed) / "evaluation"
    method = SimpleNamespace(device=torch.device(device))
    study = Study(method, data, "train", config["seed"], cache=cache, place=place)
    study.extractor = choose(
        chosen["extractor"],
        chosen["extractor_weights"],
        {"data": settings},
        data,
        cache,
        device,
        tuple(config["trust"]),
        study.notes,
        place,
    )
    if study.extractor is None:
        raise UserError(study.notes[-1] if study.notes else "say evaluation.extractor=... (see --cfg job)")
    title = f"{folders['samples']} beside {folders['reference']}"
    facts = {name: str(path) for name, path in folders.items()} | {"shape": shape}
    return Subject(study, {"distribution": Folders(samples.table("train"))}, title, {}, facts, folders["samples"])


def ready(settings: dict[str, Any]) -> Any:
    data = instantiate(settings, _convert_="all")
    data.prepare_data()
    return data


def elsewhere(name: str, home: dict[str, Any]) -> dict[str, Any]:
    """Settings of the data set `name`, with images of the shape that the method was trained on."""
    if name not in options("data"):
        raise UserError(f"evaluation.probe_data={name}: {nearest(name, options('data'))}")
    config = composed("train", [f"data={name}"])
    OmegaConf.update(config, "data", {key: home[key] for key in ("shape", "root", "packed")})
    return resolve(config)["data"]


def common_shape(folders: dict[str, Path], size: int | None) -> tuple[int, int, int]:
    """(C, H, W) that all images have; where they differ, `size` says to what square they are brought."""
    found: dict[tuple[int, int], str] = {}  # sides -> a picture that has them
    grey = True
    for key, folder in folders.items():
        pictures = instantiate(
            {"_target_": "unlabeled.data.sources.folder.Pictures", "path": str(folder), "key": key}
        ).splits["train"]
        for path in pictures:
            try:
                with Image.open(path) as image:
                    found.setdefault((image.height, image.width), str(path))
                    grey = grey and image.mode in ("1", "L")
            except OSError as error:
                raise UserError(f"cannot read the image {path} ({error}): remove or replace it") from error
    if size is not None:
        return (1 if grey else 3, size, size)
    if len(found) > 1:
        (a, b), (one, other) = list(found)[:2], list(found.values())[:2]
        raise UserError(
            f"images differ in size: {one} is {a[1]}x{a[0]} and {other} {b[1]}x{b[0]}: say size=N to scale all to NxN"
        )
    height, width = next(iter(found))
    return (1 if grey else 3, height, width)
