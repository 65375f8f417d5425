"""Unlabeled in a notebook: train, load, and what a run takes and gives; methods of one's own."""

import json
import os
import random
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

import unlabeled
from tests.conftest import TINY
from unlabeled import configs, contract
from unlabeled.app.cli import main as cli
from unlabeled.batches import from_uint8
from unlabeled.contract import checks
from unlabeled.data.packing import resize
from unlabeled.library.images import to_batch

FEW = [*TINY, "budget.batches=2", "callbacks.pictures.count=0", "callbacks.nearest_images.searched=0"]
SMALL = ["model.encoder.width=4", "model.decoder.width=4", "model.latent_dim=3"]


def state() -> dict[str, Any]:
    """What a program around ours could notice."""
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "streams": (sys.stdout, sys.stderr, sys.argv),
        "warnings": list(warnings.filters),
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg),
        "environment": {key: value for key, value in os.environ.items() if "UNLABELED" in key},
        "torch": (torch.is_grad_enabled(), torch.get_float32_matmul_precision()),
    }


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A run, and the state of this process before and after its training."""
    home = tmp_path_factory.mktemp("library")
    GlobalHydra.instance().clear()
    before = state()
    run = unlabeled.train(
        *FEW, *SMALL, "matmul_precision=high", f"run={home / 'run'}", f"data_packed={home / 'packed'}"
    )
    return run, before, state()


@pytest.fixture
def run(trained_here: tuple[Any, dict[str, Any], dict[str, Any]]) -> Any:
    return trained_here[0]


def drawn(side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def test_training_leaves_nothing_behind(trained_here: tuple[Any, dict[str, Any], dict[str, Any]]) -> None:
    _, before, after = trained_here
    for name in before:
        assert before[name] == after[name], name


def test_a_run_gives_codes_images_and_numbers(run: Any) -> None:
    image, other = drawn(), drawn(seed=1)
    codes = run.encode([image, other])
    assert codes.shape == (2, 3) and codes.dtype == np.float32
    assert np.allclose(codes[1:], run.encode(other), atol=1e-5)
    for images in (run.reconstruct([image, other]), run.decode(codes), run.sample(2)):
        assert images.shape == (2, 16, 16, 1) and images.dtype == np.uint8
    assert np.array_equal(run.sample(5, seed=3), run.sample(5, seed=3)) and len(run.sample()) == 64
    assert not np.array_equal(run.sample(5, seed=3), run.sample(5, seed=4))
    assert not np.array_equal(run.sample(5, seed=None), run.sample(5, seed=None))
    assert not run.method.training and not any(p.requires_grad for p in run.method.parameters())
    assert unlabeled.grid(run.sample(3)).mode == "RGB" and run.shape == (1, 16, 16)
    assert repr(run).endswith("vae on digits, live weights, can decode, encode, reconstruct, sample")
    assert run.metrics[-1]["batch"] == 2 and len({tuple(row) for row in run.metrics}) == 1
    assert all(isinstance(value, int | float) for row in run.metrics for value in row.values())
    assert run.config["model"]["latent_dim"] == 3 and run.results is None


def test_a_run_that_is_opened_again_is_the_same(run: Any) -> None:
    image = drawn()
    for path in (run.folder, str(run.folder / "checkpoints" / "best.ckpt")):
        again = unlabeled.load(path, device="cpu")
        assert again.folder == run.folder and np.array_equal(again.encode(image), run.encode(image))


def test_a_run_goes_on_where_it_stopped(run: Any, tmp_path: Path) -> None:
    half = unlabeled.train(*FEW, *SMALL, f"run={tmp_path / 'half'}", "budget.batches=1")
    whole = unlabeled.train(f"resume={half.folder}", "budget.batches=2")
    assert whole.folder == half.folder and whole.metrics[-1]["batch"] == 2
    assert np.array_equal(whole.encode(drawn()), run.encode(drawn()))


def test_a_run_is_evaluated(run: Any, tmp_path: Path) -> None:
    few = ["evaluation.extractor=none", "evaluation.pictures=2", "evaluation.codes=4", f"output={tmp_path}"]
    few += [f"~evaluation.evaluators.{name}" for name in ("probe", "likelihood", "clustering")]
    found = run.evaluate(*few)
    assert "provenance" in found and found == json.loads((tmp_path / "evaluation.json").read_text())


# Images


def written(folder: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(folder / "image.png")
    return folder / "image.png"


SAME: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "an array": lambda image, _: image,
    "with channels": lambda image, _: image[..., None],
    "a batch": lambda image, _: image[None],
    "a batch with channels": lambda image, _: image[None, ..., None],
    "whole numbers": lambda image, _: image.astype(np.int64),
    "floats": lambda image, _: image / 255,
    "half floats": lambda image, _: torch.from_numpy(image / 255).to(torch.float16),
    "in colour": lambda image, _: np.stack([image] * 3, 2),
    "opaque": lambda image, _: np.stack([image] * 3 + [np.full_like(image, 255)], 2),
    "a tensor": lambda image, _: torch.from_numpy(image)[None],
    "a batch of tensors": lambda image, _: torch.from_numpy(image)[None, None],
    "a picture": lambda image, _: Image.fromarray(image),
    "a path": lambda image, folder: written(folder, image),
    "a string": lambda image, folder: str(written(folder, image)),
    "a folder": lambda image, folder: written(folder, image).parent,
    "a list": lambda image, _: [Image.fromarray(image)],
}


@pytest.mark.parametrize("what", SAME)
@pytest.mark.parametrize("side", [16, 40])
def test_an_image_is_the_same_however_it_is_given(what: str, side: int, tmp_path: Path) -> None:
    """And of any size it is brought to the run's by the code that packs data."""
    image = drawn(side)
    x = to_batch(SAME[what](image, tmp_path), (1, 16, 16))
    assert torch.equal(x, from_uint8(torch.tensor(resize(image, (1, 16, 16)))[None]))


def test_a_list_may_mix_kinds_and_sizes() -> None:
    x = to_batch([drawn(), np.zeros((2, 20, 30), bool), torch.ones(3, 8, 8)], (3, 16, 16))
    assert x.shape == (4, 3, 16, 16) and (x[1:3] == -1).all() and (x[3] == 1).all()


NO_IMAGES: dict[str, tuple[Any, str]] = {
    "nothing": ([], "no images"),
    "an empty array": (np.zeros((0, 16, 16)), "no images"),
    "no pixels": (np.zeros((0, 16)), "no pixels"),
    "not a number": (np.full((8, 8), np.nan), "64 of 64"),
    "too bright": (np.full((8, 8), 16.0), r"floats of images lie in \[0, 1\]"),
    "from minus one": (torch.linspace(-1, 1, 64).view(1, 8, 8), r"\(x \+ 1\) / 2 brings"),
    "negative": (np.full((8, 8), -1), r"whole numbers of images lie in \[0, 255\]"),
    "channels first": (np.zeros((2, 3, 8, 8)), "transpose"),
    "channels last": (torch.zeros(2, 8, 8, 3), "tensor .* has 1, 3 or 4 channels"),
    "five dimensions": (np.zeros((1, 1, 8, 8, 1)), "has the shape"),
    "a number": (7, "int is no image"),
    "numbers": ([[1, 2], [3, 4]], "numpy.asarray"),
    "words": (np.array([["a"]]), "whole numbers or floats"),
    "no file": ("nosuch.png", "no image file and no folder nosuch.png"),
    "a text": (__file__, "cannot read the image"),
    "a folder of texts": (str(Path(__file__).parent), "no images in"),
}


@pytest.mark.parametrize("what", NO_IMAGES)
def test_what_is_no_image_is_one_line(what: str) -> None:
    given, line = NO_IMAGES[what]
    with pytest.raises(unlabeled.UserError, match=line) as raised:
        to_batch(given, (1, 16, 16))
    assert "\n" not in str(raised.value)


MISTAKES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a run": (lambda run: unlabeled.load("nosuch"), "no such checkpoint: nosuch"),
    "weights": (lambda run: unlabeled.load(run.folder, weights="best"), "averaged or live"),
    "trust": (lambda run: unlabeled.load(run.folder, trusted_packages="tests"), "a list of packages"),
    "device": (lambda run: unlabeled.load(run.folder, device="tpu"), "device=tpu"),
    "ability": (lambda run: run.translate(7), "vae cannot translate: it can decode, encode, reconstruct, sample"),
    "classes": (lambda run: run.sample(labels=[1]), r"vae cannot sample\(labels=...\)"),
    "no labels": (lambda run: run.sample(labels=[]), "labels are empty"),
    "labels": (lambda run: run.sample(3, labels=[1, 2]), "3 images and 2 labels"),
    "how many": (lambda run: run.sample(0), "1 or more"),
    "codes": (lambda run: run.decode(np.zeros((2, 5))), "codes of 5 numbers do not fit"),
    "no codes": (lambda run: run.decode(np.zeros((0, 3))), "codes are an array"),
    "a flag": (lambda run: unlabeled.train("-m", "seed=0,1"), "flags belong to the command line"),
    "no word": (lambda run: unlabeled.train(3), "each word is a string"),
    "a model": (lambda run: unlabeled.train("model=vea"), r"no model named vea: did you mean vae\?"),
    "a key": (lambda run: unlabeled.train("lr=3"), "did you mean model.optimizer.lr"),
    "an evaluation": (lambda run: run.evaluate("model=vae"), "model and data are those of the checkpoint"),
    "a folder": (lambda run: unlabeled.train(config_dir="nosuch"), "--config-dir nosuch: there is no such folder"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(what: str, run: Any) -> None:
    work, line = MISTAKES[what]
    before = state()
    with pytest.raises(unlabeled.UserError, match=line) as raised:
        work(run)
    assert "\n" not in str(raised.value)
    assert state() == before


def test_classes_and_points_are_drawn(tmp_path: Path) -> None:
    few = ["budget.batches=1", "callbacks.pictures.count=0"]
    digits = unlabeled.train("model=conditional_vae", *FEW, f"run={tmp_path / 'classes'}")
    assert digits.sample(labels=[1, 0, 1]).shape == (3, 16, 16, 1)
    assert np.array_equal(digits.sample(2, labels=1), digits.sample(labels=[1, 1]))
    with pytest.raises(unlabeled.UserError, match="the classes are 0 to 1"):
        digits.sample(labels=2)
    points = unlabeled.train("model=gan", "data=rings", "data.train=300", *few, f"run={tmp_path / 'points'}")
    drawn = points.sample(7)
    assert drawn.shape == (7, 2) and drawn.dtype == np.float32
    with pytest.raises(unlabeled.UserError, match="gan cannot encode"):
        points.encode(drawn)


def test_models_and_data_are_listed_with_their_lines() -> None:
    assert unlabeled.models()["vae"].startswith("VAE. Kingma & Welling") and len(unlabeled.models()) > 60
    assert "No download" in unlabeled.datasets()["digits"]


# A method of one's own


METHOD = """
    import math

    from torch import nn

    from unlabeled.methods.method import Method


    class Mine(Method):
        def __init__(self, shape, width, optimizer, lost=False):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width))
            self.decoder = nn.Sequential(nn.Linear(width, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, tuple(shape)))
            self.optimizer, self.lost = optimizer, lost

        def encode(self, x):
            return self.encoder(x)

        def reconstruct(self, x):
            return self.decoder(self.encode(x)).float()

        def training_step(self, batch, batch_idx):
            loss = (self.reconstruct(batch.x) - batch.x).square().mean()
            self.record(loss=loss)
            return loss

        def validation_step(self, batch, batch_idx):
            self.training_step(batch, batch_idx)

        def configure_optimizers(self):
            return self.optimizer((self.encoder if self.lost else self).parameters())
"""
MODEL = """\
    # Mine, a small autoencoder. Me 2026
    _target_: PACKAGE.mine.Mine
    shape: ${data.shape}
    width: 8
    optimizer: {_target_: torch.optim.Adam, _partial_: true, lr: 1e-2}
    lost: false
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of one's own, and the package that it names."""
    folder, package = tmp_path / "project", f"methods_{tmp_path.name}".replace("-", "_")
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / package).mkdir()
    (folder / package / "mine.py").write_text(textwrap.dedent(METHOD))
    (folder / "conf" / "model" / "mine.yaml").write_text(textwrap.dedent(MODEL).replace("PACKAGE", package))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def test_a_method_of_ones_own_is_trained_and_opened(mine: Path, tmp_path: Path) -> None:
    run = unlabeled.train("model=mine", *FEW, f"run={tmp_path / 'run'}", config_dir=mine)
    package = run.config["model"]["_target_"].partition(".")[0]
    assert run.encode(drawn()).shape == (1, 8) and configs.own() is None and "mine" not in unlabeled.models()
    assert f"next         python evaluate.py --config-dir {mine} checkpoint=" in (run.folder / "log.txt").read_text()
    with pytest.raises(unlabeled.UserError, match=rf"if you trust it, say trusted_packages=\[{package}\]"):
        unlabeled.load(run.folder)
    assert np.array_equal(unlabeled.load(run.folder, trusted_packages=[package]).encode(drawn()), run.encode(drawn()))
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]
    sys.path.remove(str(mine))
    with pytest.raises(unlabeled.UserError, match=rf"there is no package {package} to import: .*--config-dir FOLDER"):
        unlabeled.load(run.folder, trusted_packages=[package])
    assert unlabeled.load(run.folder, trusted_packages=[package], config_dir=mine).can == ("encode", "reconstruct")


def test_a_folder_of_ones_own_is_among_what_is_told(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(configs.VARIABLE, str(mine / "conf"))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert "    mine                     Mine, a small autoencoder. Me 2026" in cli.help_text("train").splitlines()
    with pytest.raises(unlabeled.UserError, match=r"did you mean mine .*\?"):
        unlabeled.train("model=mien")
    with pytest.raises(unlabeled.UserError, match="no nosuch_package, which the config names"):
        unlabeled.train("model=mine", "model._target_=nosuch_package.mine.Mine", *FEW)


FOLDERS = {
    "nosuch": "there is no such folder",
    "empty": "there are no configs in it",
    "twice": "Unlabeled has a model/vae.yaml itself: give yours another name",
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_cannot_be_used_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice" / "conf" / "model").mkdir(parents=True)
    (tmp_path / "twice" / "conf" / "model" / "vae.yaml").touch()
    with pytest.raises(unlabeled.UserError, match=FOLDERS[name]), configs.using(tmp_path / name):
        pass
    assert configs.own() is None


def test_the_contract_holds_a_method_of_ones_own(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = (checks.can_do_what_it_says, checks.every_parameter_has_one_owner, checks.learns_one_batch)
    monkeypatch.setattr(checks, "ALL", (*quick, checks.each_player_moves_on_its_turn_and_only_then))
    contract.check("mine", config_dir=mine)
    with pytest.raises(AssertionError) as raised:
        contract.check("mine", "model.lost=true", config_dir=mine)
    owner, moves = str(raised.value).splitlines()
    assert owner == "every parameter has one owner: no optimizer owns decoder.0.bias, decoder.0.weight"
    assert moves.endswith("decoder does not move in three batches")
