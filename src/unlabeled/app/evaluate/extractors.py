"""Feature extractors of image metrics by name; a classifier is trained on first use."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf

from unlabeled.app.cli.main import composed
from unlabeled.app.run.checkpoint import load
from unlabeled.app.run.plan import resolve
from unlabeled.batches import Images, Paired, Unpaired, to_uint8
from unlabeled.errors import UserError, suggest
from unlabeled.evaluation.features.extraction import subset
from unlabeled.evaluation.features.extractors import CLIP, Cells, DINOv2, Extractor, Inception, Trained, sha256
from unlabeled.evaluation.metrics.finetune import known
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.stats.linear import percent

LAYOUT = 2  # raise it to discard the classifiers trained so far
FEWEST, MOST = 25_000, 200_000  # images that a classifier is trained on: 20 epochs, within these
# settings: equal ones hold out equal images
SPLIT_SETTINGS = ("_target_", "source", "classes", "val", "test", "split_seed")
PIXELS = 8e5  # training speed of a classifier: pixels a second on one core


class File(NamedTuple):
    """A published weights file."""

    build: Callable[[Path, str], Extractor]
    name: str  # of the file
    sha256: str  # its first digits; "" where none are published
    home: str  # who publishes it


FILES = {
    # torch.hub's convention: a name carries the first eight digits of the file's sha256
    "inception": File(
        Inception, "weights-inception-2015-12-05-6726825d.pth", "6726825d", "the releases of torch-fidelity"
    ),
    "dinov2": File(DINOv2, "dinov2_vits14_pretrain.pth", "", "the repository facebookresearch/dinov2"),
    "clip": File(
        CLIP,
        "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        "the repository openai/CLIP",
    ),
}
NAMES = ("auto", *FILES, "classifier", "cells", "none")


def choose(
    name: str,  # one of NAMES, or a checkpoint: a run's folder or a .ckpt file
    weights: str | None,  # a file, for those of FILES
    run: dict[str, Any],  # `run["data"]` is what `data` was made from; `run["names"]["data"]`, if there, its name
    data: Any,  # a prepared PackedImages; of PointData none fits
    cache: Path,  # folder of the classifiers trained so far
    device: str,
    trusted_packages: tuple[str, ...],
    notes: list[str],  # a line is appended where "auto" finds nothing
    ranks: Ranks = Ranks(),  # noqa: B008  of the processes that call this together
    key: str = "evaluation.extractor",  # the key that named it
) -> Extractor | None:
    """The extractor of this name, which fits the images. Nothing is downloaded.

    "auto": on the embedded digits a classifier; elsewhere a classifier that was trained on this data before, else
    Inception for colour images if its file exists, else cells for the domains of a translation, else None.
    """
    if weights is not None and name not in FILES:
        raise UserError(f"{key}_weights is a file of {', '.join(FILES)}: say which as {key}=...")
    if name == "none":
        return None
    shop = ExtractorFinder(run, data, cache, device, trusted_packages, ranks, key)
    with isolate_rng():  # networks draw their first weights, also when others are loaded into them
        return shop.at_hand(notes) if name == "auto" else shop.asked_for(name, weights)


class ExtractorFinder:
    """The extractors of one data set."""

    def __init__(
        self,
        run: dict[str, Any],
        data: Any,
        cache: Path,
        device: str,
        trusted_packages: tuple[str, ...],
        ranks: Ranks,
        key: str,
    ):
        self.settings = run["data"]
        self.title = (run.get("names") or {}).get("data") or data.source.name
        self.data = data
        self.folder = Path(cache) / "extractors"
        self.device = device
        # what `data` was made from has been trusted already
        self.trusted_packages = (
            *trusted_packages,
            (self.settings.get("source") or self.settings)["_target_"].split(".")[0],
        )
        self.ranks = ranks
        self.key = key

    def asked_for(self, name: str, weights: str | None) -> Extractor:
        path = Path(name).expanduser()
        if name in FILES:
            extractor = self.published(name, weights)
        elif name == "classifier":
            extractor = self.classifier()
        elif name == "cells":
            extractor = Cells(self.data.shape, self.device)
        elif path.exists() or os.sep in name or name.endswith(".ckpt"):
            extractor = self.trained(path)
        else:
            raise UserError(f"{self.key}={name}: there is no such run, nor name: {suggest(name, NAMES)}")
        extractor.check(self.data.shape)
        return extractor

    def at_hand(self, notes: list[str]) -> Extractor | None:
        """The extractor that "auto" stands for; None and a note where there is none."""
        try:
            if (
                self.data.source.name == "digits"
                or self.ranks.gather(not self.refusal() and self.classifier_folder.is_dir())[0]
            ):
                return self.classifier()
            if self.data.shape[0] == 3 and (self.data.root / "weights" / FILES["inception"].name).is_file():
                return self.published("inception", None)
        except UserError as error:
            notes.append(f"no FID and the like: {error}")
            return None
        if self.data.batch in (Unpaired, Paired):  # domains differ mostly in colour and contrast
            cells = Cells(self.data.shape, self.device)
            ways = [f"{self.key}=RUN, a run whose method encodes such images"]
            if self.data.shape[0] == 3:
                file = self.data.root / "weights" / FILES["inception"].name
                ways.append(f"{self.key}=inception with its file at {file}")
            notes.append(
                f"fid[{cells.name}] and the like see colour and contrast alone, and no shapes: for more say "
                f"{' or '.join(ways)}"
            )
            return cells
        ways = []
        if not self.refusal():
            ways += [
                f"{self.key}=classifier (trained once, {self.patience()})",
                f"{self.key}=RUN after python train.py model=classifier data={self.title}",
            ]
        else:
            ways.append(f"{self.key}=RUN, a run whose method encodes such images")
        if self.data.shape[0] == 3:
            file = self.data.root / "weights" / FILES["inception"].name
            ways.append(f"{self.key}=inception with its file at {file}")
        notes.append(f"no FID and the like: they see images through an extractor; say {', or '.join(ways)}")
        return None

    def published(self, name: str, weights: str | None) -> Extractor:
        """One of FILES."""
        wanted, home = FILES[name], self.data.root / "weights"
        file = Path(weights).expanduser() if weights else home / wanted.name
        if not file.is_file():
            if weights:
                raise UserError(f"{self.key}_weights={file}: there is no such file")
            known = f" (its sha256 begins with {wanted.sha256[:8]})" if wanted.sha256 else ""
            raise UserError(
                f"{self.key}={name} takes weights, and none are ever downloaded: put {wanted.name}{known} "
                f"from {wanted.home} into {home}, or say {self.key}_weights=FILE; "
                f"{self.key}=classifier needs no file"
            )
        if file.name == wanted.name and not (found := sha256(file)).startswith(wanted.sha256):
            raise UserError(
                f"{file} is not what its name says: its sha256 begins with {found[:8]}, not {wanted.sha256[:8]}: "
                "fetch it again"
            )
        return wanted.build(file, self.device)

    def trained(self, path: Path, own: bool = False) -> Extractor:
        """A checkpoint's network. own: trained on this data, wherever it lay then."""
        method, run, facts = load(path, device=self.device, trusted_packages=self.trusted_packages)
        names = run.get("names") or {}
        model, data = names.get("model") or type(method).__name__.lower(), names.get("data") or "unknown"
        file = Path(facts["checkpoint"])
        result = file.parent.with_name("result.json")
        if file.parent.name == "checkpoints" and result.is_file():
            reached = (json.loads(result.read_text()).get("best") or {}).get("val/accuracy")
            facts |= {} if reached is None else {"val_accuracy": reached}
        channels, height, width = run["data"]["shape"]
        extractor = Trained(method, f"{model}-{data}", (channels, height, width), facts)
        if own or all(run["data"].get(key) == self.settings.get(key) for key in SPLIT_SETTINGS):
            self.check_accuracy(extractor)
        return extractor

    def check_accuracy(self, extractor: Trained) -> None:
        """Add its accuracy on held-out images of its own data to its facts; raise UserError where that is poor.

        Poor: three quarters or more of the errors of always predicting the most frequent class. Without labelled images
        there is no accuracy, and with few images or a single class no refusal.
        """
        if self.data.batch is not Images or not extractor.classes:
            return
        extractor.check(self.data.shape)
        counts = [accuracy(extractor, self.data.table(split), split) for split in ("val", "test")]
        measured = [found for found in counts if found]
        if not measured:
            return
        found = next((one for one in measured if one.judges), measured[0])
        extractor.facts |= {"accuracy": found.percent, "accuracy_on": f"{found.images} {found.split} images"}
        extractor.facts |= {"accuracy_of_the_most_frequent_class": found.common}
        if found.judges and 100 - found.percent >= 0.75 * (100 - found.common):
            raise UserError(
                f"{extractor.name} is right on {found.percent:.1f} % of {found.images} {found.split} images, of which "
                f"{found.common:.1f} % have the most frequent class: nothing can be seen through it; train a better "
                f"one, python train.py model=classifier data={self.title} run=FOLDER, and say {self.key}=FOLDER, or "
                f"say {self.key}=none"
            )

    # A classifier for this data

    def refusal(self) -> str | None:
        """Why no classifier can be trained on this data."""
        if self.data.batch is not Images or not self.data.classes:
            return "a classifier learns from class labels, and this data has none (data.classes)"
        labels = self.data.table("train").labels
        if labels.ndim != 1 or labels.max() < 0:
            return "a classifier learns from class labels, and these images have none"
        return None

    def configured(self, folder: str) -> dict[str, Any]:
        """The config of the run that trains it, independent of the current run's seed and batch size."""
        trainer = {"cuda": "gpu"}.get(torch.device(self.device).type, torch.device(self.device).type)
        config = copy.deepcopy(recipe(trainer))
        places = {"root": str(self.data.root), "packed": str(self.data.packed)}
        fixed = {"batch_size": 64, "augment": None, "seed": 0}
        fixed |= {key: None for key in ("class_subset", "num_labels") if key in self.settings} | {
            "classes": self.data.classes
        }
        config.data = self.settings | places | fixed
        config.run = folder
        whole = len(self.data.divide("train")[1])  # of all classes, also those that the current run leaves out
        images = min(max(20 * whole, FEWEST), MOST)
        config.budget = {"epochs": None, "batches": None, "examples": None, "images": images}
        del config.callbacks.pictures
        if not sys.stderr.isatty():
            del config.callbacks.progress
            config.trainer.enable_progress_bar = False
        if trainer == "gpu":
            config.trainer.devices = [torch.device(self.device).index or 0]
        return resolve(config) | {"names": {"model": "classifier", "data": self.title, "trainer": trainer}}

    @cached_property
    def classifier_folder(self) -> Path:
        """The classifier's folder, named by everything that it depends on."""
        config, data = self.configured(""), self.data
        depends = [LAYOUT, config["model"], config["budget"], config["callbacks"]["clip"], config["data"]["batch_size"]]
        depends += [sorted(data.keys.values()), data.shape, data.classes, data.val, data.test, data.split_seed]
        key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return self.folder / f"classifier-{data.source.name}-{key}"

    def patience(self) -> str:
        """The time that training it takes."""
        _, height, width = self.data.shape
        seconds = self.configured("")["budget"]["images"] * height * width / PIXELS
        return f"some {seconds:.0f} s" if seconds < 100 else f"some {seconds / 60:.0f} minutes on one core"

    def classifier(self) -> Extractor:
        """The classifier, trained before, or now by the main rank while the others wait."""
        problem = self.provide() if self.ranks.is_main else None
        if problem := self.ranks.gather(problem)[0]:
            raise UserError(problem)
        return self.trained(self.classifier_folder, own=True)

    def provide(self) -> str | None:
        """Train the classifier if it is missing or damaged; returns the error, if any."""
        if problem := self.refusal():
            return f"{self.key}=classifier: {problem}; take {self.key}=RUN or inception"
        folder = self.classifier_folder
        try:
            if folder.is_dir():
                try:
                    load(folder, trusted_packages=self.trusted_packages)
                    return None
                except UserError as error:
                    print(f"{error}: it is trained again", file=sys.stderr)
                    shutil.rmtree(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            return f"cannot write under {folder.parent} ({error.strerror}): say data.packed=FOLDER"
        try:
            print(
                f"training a classifier on {self.title}, which image metrics see through; once, {self.patience()}",
                file=sys.stderr,
                flush=True,
            )
            if problem := fit(self.configured(str(unfinished))):
                return problem
            os.chmod(unfinished, 0o755)
            os.rename(unfinished, folder)
            print(f"kept in {folder}", file=sys.stderr, flush=True)
        except OSError as error:
            if not folder.is_dir():  # otherwise another process was first
                return f"cannot write {folder} ({error.strerror}): say data.packed=FOLDER"
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return None


class Accuracy(NamedTuple):
    """A classifier's accuracy on images that it was not trained on."""

    percent: float
    common: float  # accuracy of always predicting the most frequent class, in %
    images: int
    split: str
    judges: bool  # whether there are enough images, and of several classes


def accuracy(extractor: Trained, table: Any, split: str) -> Accuracy | None:
    """Accuracy on at most 2,000 labelled images of a split; None where there are none."""
    if table.labels.ndim != 1:
        return None
    rows = known(table)
    rows = rows[subset(0, len(rows), 2000)]
    if not len(rows):
        return None
    pairs = []
    for index in rows.split(100):
        batch = table.batch(index)
        logits = extractor(to_uint8(batch.x))[1]
        pairs.append(torch.stack([logits.argmax(1).cpu(), batch.y.cpu()]))  # type: ignore[union-attr]
    seen, y = torch.cat(pairs, 1)
    counts, n = y.bincount(), len(y)
    judges = n >= 20 and int((counts > 0).sum()) > 1
    return Accuracy(percent(seen == y), 100 * int(counts.max()) / n, n, split, judges)


@cache
def recipe(trainer: str) -> DictConfig:
    """model=classifier, for any data."""
    config = composed("train", ["model=classifier", f"trainer={trainer}", "~logger"])
    OmegaConf.set_struct(config, False)
    return config


def fit(config: dict[str, Any]) -> str | None:
    """Train in a process of its own, so that nothing of this one is touched; what went wrong, if anything did.

    Lightning would make the processes of an evaluation wait for each other in training.
    """
    folder = Path(config["run"])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    command = [sys.executable, "-m", "unlabeled.app.run.worker", str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    return f"the classifier could not be trained (status {done.returncode}): see above" if done.returncode else None
