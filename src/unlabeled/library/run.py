"""A run in a notebook: trained or opened, asked for codes, images and numbers."""

import json
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled import configs
from unlabeled.app.evaluate.evaluate import choose_device
from unlabeled.app.evaluate.evaluate import evaluate as app_evaluate
from unlabeled.app.run.checkpoint import load as load_checkpoint
from unlabeled.app.run.checkpoint import locate, packages_of
from unlabeled.app.run.plan import config_of
from unlabeled.app.run.train import train as app_train
from unlabeled.capabilities import Decodes, Encodes, Reconstructs, Samples, SamplesClasses, Translates, TranslatesBack
from unlabeled.commands import quoted
from unlabeled.data.labels import class_numbers
from unlabeled.errors import UserError
from unlabeled.library.images import Images, to_arrays, to_batch, to_points
from unlabeled.library.session import one_line, session
from unlabeled.loggers.csv import CSV
from unlabeled.seeding import seed_noise

BATCH = 256  # images at a time
ABILITIES: dict[str, type] = {
    "decode": Decodes,
    "encode": Encodes,
    "reconstruct": Reconstructs,
    "sample": Samples,
    "sample(labels=...)": SamplesClasses,
    "translate": Translates,
    "translate(back=True)": TranslatesBack,
}


def train(*words: str, config_dir: str | Path | None = None) -> "Run":
    """Train as `unlabeled train WORDS` does: train("model=vae", "data=digits", "budget.epochs=5").

    Args:
        words: KEY=VALUE each, as on the command line; resume=RUN goes on with a run. Progress goes to stderr, what was
            reached to stdout.
        config_dir: a folder with models and data of your own, conf/model/NAME.yaml; the modules that they name are
            looked for in it too.

    With trainer.devices=2 the run has processes of its own, whose words go to the streams of this one.

    Raises:
        UserError: in one line, whatever can be put right: a word that makes no config, a model that does not fit the
            data, a training that diverged. An interrupt (Ctrl-C) saves the run first.
    """
    with session("train", words, config_dir) as config:
        app_train(config)
        resumed = config.resume not in (None, "auto")
        folder = Path(config.resume if resumed else config.run)
        return Run(folder, trusted_packages=packages_of(config_of(folder)))  # it has just been called


def load(
    run: str | Path,
    *,
    weights: str = "averaged",
    device: str = "auto",
    trusted_packages: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> "Run":
    """Open a run: its folder, of whose checkpoints the best is taken, else the last; or a .ckpt file.

    Args:
        weights: "averaged", where the run kept moving averages of them, else as trained; "live", as trained.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        trusted_packages: packages beside unlabeled and torch that the checkpoint may call, as ["mine"] for a method of
            your own. Nothing else is ever run from a checkpoint.
        config_dir: the folder in which these packages lie, if they are not installed.

    Raises:
        UserError: where there is no run, or its file is damaged, or it would call what is not trusted.
    """
    with configs.using(config_dir):
        return Run(Path(run).expanduser(), weights=weights, device=device, trusted_packages=trusted_packages)


def models() -> dict[str, str]:
    """All models, by the names that model=NAME takes: what each is, and its paper."""
    return {name: configs.described("model", name) for name in configs.names("model")}


def datasets() -> dict[str, str]:
    """All data sets, by the names that data=NAME takes: what each is, its size, whether it is downloaded."""
    return {name: configs.described("data", name) for name in configs.names("data")}


class Run:
    """A trained method with its numbers.

    Attributes:
        method: the network, a LightningModule in evaluation mode without gradients. It takes and gives float tensors
            (B, C, H, W) in [-1, 1] on `device`.
        config: the resolved config that it was trained with, nested dictionaries.
        folder: where the run lies.
        checkpoint: the file that was opened.

    Images go in as unlabeled.library.images tells: arrays, tensors, PIL images, paths, lists, of any size and colour.
    They are brought to the run's own size, crop and channels, as its data were. They come back as uint8 arrays
    (B, H, W, C); `unlabeled.grid` shows them. Where a run is of points, these are float32 arrays (B, D).
    """

    def __init__(
        self, path: str | Path, *, weights: str = "averaged", device: str = "auto", trusted_packages: Sequence[str] = ()
    ) -> None:
        if weights not in ("averaged", "live"):
            raise UserError(f"weights={weights}: say averaged or live")
        if isinstance(trusted_packages, str):
            raise UserError(f"trusted_packages={trusted_packages!r}: give a list of packages, [{trusted_packages!r}]")
        self.checkpoint = locate(path)
        self.folder = self.checkpoint.parent
        if self.folder.name == "checkpoints":
            self.folder = self.folder.parent
        self.trusted_packages, self.weights, self.device = tuple(trusted_packages), weights, choose_device(device)
        self.method: Any
        self.config: dict[str, Any]
        with one_line():
            loaded = load_checkpoint(self.checkpoint, weights, self.device, self.trusted_packages)
        self.method, self.config, self._facts = loaded

    def __repr__(self) -> str:
        names = self.config.get("names") or {}
        what = f"{names.get('model', type(self.method).__name__)} on {names.get('data', 'its data')}"
        return f"Run({str(self.folder)!r}): {what}, {self._facts['weights']} weights, can {', '.join(self.can)}"

    @property
    def can(self) -> tuple[str, ...]:
        """What its method is able to do, by the names of the functions here."""
        return tuple(name for name, kind in ABILITIES.items() if isinstance(self.method, kind))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of its images, or (D,) of its points."""
        return tuple(self.config["data"]["shape"])

    @property
    def metrics(self) -> list[dict[str, float]]:
        """What was recorded while it trained: a row a batch number, all with the same columns, NaN where one has
        nothing. pandas.DataFrame(run.metrics) is a table of it. Empty where no metrics.csv lies beside the checkpoint.
        """
        rows = CSV(self.folder).rows
        columns = list(dict.fromkeys(["batch", *(name for row in rows for name in row)])) if rows else []
        return [
            {name: int(row[name]) if name == "batch" else float(row.get(name, math.nan)) for name in columns}
            for row in rows
        ]

    @property
    def results(self) -> dict[str, Any] | None:
        """The content of evaluation.json: numbers and where they come from. None before it was evaluated."""
        file = self.folder / "evaluation" / "evaluation.json"
        if not file.is_file():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file} is damaged ({error}): evaluate the run again") from error

    def evaluate(self, *words: str) -> dict[str, Any]:
        """Measure as `unlabeled evaluate checkpoint=RUN WORDS` does, and give what `results` gives.

        words: KEY=VALUE each, "evaluation.samples=1000".
        """
        own = [quoted("checkpoint", self.checkpoint), quoted("device", self.device), f"weights={self.weights}"]
        own += [f"trusted_packages=[{','.join(self.trusted_packages)}]"] if self.trusted_packages else []
        with session("evaluate", [*own, *words]) as config:
            app_evaluate(config)
            output = Path(config.output) if config.output else self.folder / "evaluation"
        return json.loads((output / "evaluation.json").read_text(encoding="utf-8"))

    def encode(self, images: Images) -> np.ndarray:
        """Features, float32 (B, D), of images."""
        return self._given("encode", images).numpy()

    def decode(self, codes: Any) -> np.ndarray:
        """Images, uint8 (B, H, W, C), or points, of codes (B, D) as `encode` gives them, or (D,)."""
        self._needs("decode")
        array = np.asarray(codes.detach().cpu() if isinstance(codes, Tensor) else codes)
        width = array.shape[-1] if array.ndim else 0
        z = to_points(array, width, "codes")
        try:
            return self._shown(self._of("decode", z))
        except RuntimeError as error:
            raise UserError(f"codes of {width} numbers do not fit: give them as encode gives them ({error})") from error

    def reconstruct(self, images: Images) -> np.ndarray:
        """What the method makes of images, uint8 (B, H, W, C)."""
        return self._shown(self._given("reconstruct", images))

    def sample(
        self, n: int | None = None, *, seed: int | None = 0, labels: int | str | Iterable[int | str] | None = None
    ) -> np.ndarray:
        """New images, uint8 (n, H, W, C), or points, float32 (n, D).

        Args:
            n: how many; 64, or as many as there are labels.
            seed: the same seed gives the same images; None: others each time.
            labels: of a method that draws classes: the class of each image, by its number or name; one for all.
        """
        wanted = [labels] if isinstance(labels, int | str) else None if labels is None else list(labels)
        if wanted == []:
            raise UserError("labels are empty: give the class of each image")
        if n is None:
            n = len(wanted) if wanted is not None and not isinstance(labels, int | str) else 64
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise UserError(f"n={n}: say how many, 1 or more")
        if wanted is not None and len(wanted) not in (1, n):
            raise UserError(f"{n} images and {len(wanted)} labels: give as many, or one for all")
        with torch.no_grad(), torch.random.fork_rng([torch.device(self.device)] if "cuda" in self.device else []):
            seed_noise(secrets.randbits(62) if seed is None else seed)
            if wanted is None:
                self._needs("sample")
                parts = [self.method.sample(min(BATCH, n - i)).cpu() for i in range(0, n, BATCH)]
                return self._shown(torch.cat(parts))
            self._needs("sample(labels=...)")
            y = torch.tensor([self._class(one) for one in wanted]).expand(n)
            parts = [self.method.sample_class(part.to(self.device)).cpu() for part in y.split(BATCH)]
            return self._shown(torch.cat(parts))

    def translate(self, images: Images, *, back: bool = False) -> np.ndarray:
        """Images of domain a as of domain b, uint8 (B, H, W, C); back: those of b as of a."""
        if back:
            return self._shown(self._given("translate_back", images, "translate(back=True)"))
        return self._shown(self._given("translate", images))

    def _needs(self, ability: str) -> None:
        """Raise UserError where the method has not this ability."""
        if ability not in self.can:
            model = (self.config.get("names") or {}).get("model", type(self.method).__name__)
            raise UserError(f"{model} cannot {ability}: it can {', '.join(self.can) or 'do nothing of this kind'}")

    def _given(self, name: str, images: Images, ability: str | None = None) -> Tensor:
        """What the method's function of this name gives for images, on the CPU."""
        self._needs(ability or name)
        return self._of(name, self._read(images))

    def _of(self, name: str, x: Tensor) -> Tensor:
        """The same of x (B, ...), as the function takes it."""
        work: Callable[[Tensor], Tensor] = getattr(self.method, name)
        with torch.no_grad():
            return torch.cat([work(part.to(self.device)).float().cpu() for part in x.split(BATCH)])

    def _read(self, images: Images) -> Tensor:
        return to_batch(images, self.shape) if len(self.shape) == 3 else to_points(images, self.shape[0])

    def _shown(self, x: Tensor) -> np.ndarray:
        return to_arrays(x) if x.ndim == 4 else x.float().numpy()

    def _class(self, label: int | str) -> int:
        names = tuple(map(str, self.config["data"].get("class_names") or ()))
        plain = int(label) if isinstance(label, np.integer) else label
        if isinstance(plain, bool) or not isinstance(plain, int | str):
            raise UserError(f"labels={label!r}: say the number of a class, 0 to {self.method.classes - 1}, or its name")
        (number,) = class_numbers([plain], names, "labels", (self.config.get("names") or {}).get("data", "its data"))
        if not 0 <= number < self.method.classes:
            raise UserError(f"labels={label}: the classes are 0 to {self.method.classes - 1}")
        return number
