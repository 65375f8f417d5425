"""Numbers while training goes on: when, of which weights, on how many processes, and that training never notices."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback
from omegaconf import OmegaConf
from torch import Tensor

from tests import warm
from tests.contract.cases import CASES
from tests.contract.test_contract import StopAt, flat, run
from unlabeled.app.cli.main import explain
from unlabeled.app.run.build import build as built
from unlabeled.app.run.checkpoint import load
from unlabeled.app.run.train import run_processes
from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.callbacks.measures import Measures, short_names
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback, callbacks
from unlabeled.errors import Interrupted, UserError
from unlabeled.evaluation.metric import Metric
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.study import Study
from unlabeled.seeding import seed_noise

DCGAN, SIMCLR, VAE = (next(c for c in CASES if c.model == name) for name in ("dcgan", "simclr", "vae"))
MANY = ["data.batch_size=2"]  # four batches an epoch
FID = [*MANY, "callbacks=fid", "callbacks.averaging.decay=0.5", "callbacks.measures.samples=12"]
FAST = ["model.generator_optimizer.lr=0.02", "model.discriminator_optimizer.lr=0.02"]  # so that FID goes up and down
ROOT = Path(__file__).parents[2]


class Eye:
    """Four features by fixed random weights."""

    name, digest, dim, classes = "eye@ab12cd", "ab12cd", 4, None
    facts: dict[str, Any] = {"resize": "none"}

    def check(self, shape: tuple[int, int, int]) -> None:
        pass

    def __call__(self, levels: Tensor) -> tuple[Tensor, None]:
        x = levels.flatten(1).float() / 255
        return x @ torch.randn(x.shape[1], 4, generator=torch.Generator().manual_seed(0)), None


class Sees(Callback):
    """Gives the extractor, as the program does before it trains; keeps the callbacks to look at."""

    def __init__(self, extractor: Any = None, also: Callback | None = None):
        self.extractor, self.also = extractor or Eye(), also

    def setup(self, trainer: Any, method: Any, stage: str) -> None:
        for measures in callbacks(trainer, Measures):
            measures.choose = self.choose
            self.measures = measures
        self.records, self.checkpoints = (callback(trainer, kind) for kind in (Records, Checkpoints))
        self.trainer = trainer

    def choose(self, name: str, weights: str | None, ranks: Ranks, notes: list[str]) -> Any:
        assert name == "auto" and weights is None and ranks == Ranks()
        return self.extractor

    def on_train_batch_start(self, *args: Any) -> None:
        if self.also:
            self.also.on_train_batch_start(*args)


class Counts:
    """A number of this evaluation that is better the higher: how often it was asked, by a fixed sequence."""

    values = (3.0, 9.0, 5.0, 1.0)

    def __init__(self) -> None:
        self.seen: list[Study] = []

    def applies(self, study: Study) -> bool:
        return True

    def measure(self, study: Study) -> list[Metric]:
        method = study.method
        assert not method.training and not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert study.split == "val"
        drawn = torch.rand(())
        seed_noise(study.seed)
        assert drawn == torch.rand(())  # the same noise each time, whatever went before
        self.seen.append(study)
        return [Metric("count[x@1]", self.values[len(self.seen) - 1], "", "higher", {"images": 1})]


COUNTS = [*MANY, "callbacks=probe", "~callbacks.measures.evaluators.probe",
          "+callbacks.measures.evaluators.count={_target_: tests.callbacks.test_measures.Counts}",
          "callbacks.measures.every=1"]  # fmt: skip


def rows(folder: Path) -> dict[int, dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return {int(row["batch"]): row for row in csv.DictReader(file)}


def measured(folder: Path, name: str) -> dict[int, float]:
    return {batch: float(row[name]) for batch, row in rows(folder).items() if row.get(name)}


def fid(built: Any, checkpoint: Path) -> float:
    """Of a checkpoint, on validation images, by the same evaluator outside training."""
    _, data, config = built
    method, *_ = load(checkpoint, trusted_packages=("tests",))
    settings = config["callbacks"]["measures"]
    study = Study(method, data, "val", samples=settings["samples"], extractor=Eye())
    (number,) = instantiate(settings["evaluators"]["distribution"], _convert_="all").measure(study)
    assert number.name == "fid[eye@ab12cd]"
    return number.value


# When, and which is best


def test_every_so_many_epochs_and_at_the_end(build: Any, tmp_path: Path) -> None:
    watch = Sees()
    run(build(DCGAN, *FID, "callbacks.measures.every=2", "budget.epochs=5"), watch=watch)
    found = measured(tmp_path / "run", "val/fid")
    assert sorted(found) == [8, 16, 20]
    content = json.loads((tmp_path / "run" / "measures.json").read_text())
    (number,) = content["numbers"].values()
    assert content["epoch"] == 5 and number["name"] == "fid[eye@ab12cd]" and number["value"] == found[20]
    assert number["facts"]["split"] == "val" and number["facts"]["images"] == 12
    assert watch.records.latest["val/fid"] == found[20]
    assert float(watch.trainer.callback_metrics["val/fid"]) == pytest.approx(found[20])


def test_a_budget_in_batches_measures_at_its_end(build: Any, tmp_path: Path) -> None:
    run(build(DCGAN, *FID, "budget.epochs=null", "budget.batches=6"), watch=Sees())
    assert sorted(measured(tmp_path / "run", "val/fid")) == [6]


def test_several_validations_of_an_epoch_measure_once(build: Any, tmp_path: Path) -> None:
    built = build(DCGAN, *FID, "callbacks.measures.every=1", "budget.epochs=2", "+trainer.val_check_interval=2")
    run(built, watch=Sees())
    assert sorted(measured(tmp_path / "run", "val/fid")) == [4, 8]


def test_the_best_of_a_gan_is_kept_and_the_last(build: Any, tmp_path: Path) -> None:
    """Each checkpoint, opened again, has the FID that was recorded of it: of averaged weights in evaluation mode."""
    built, watch = build(DCGAN, *FID, *FAST, "callbacks.measures.every=1", "budget.epochs=4"), Sees()
    run(built, watch=watch)
    found = measured(tmp_path / "run", "val/fid")
    best, last = min(found.values()), found[16]
    assert len(found) == 4 and best < last, "a run whose last is its best shows nothing"
    folder = tmp_path / "run" / "checkpoints"
    assert fid(built, folder / "best.ckpt") == pytest.approx(best, rel=1e-9)
    assert fid(built, folder / "last.ckpt") == pytest.approx(last, rel=1e-9)
    assert watch.records.best == {"val/fid": best} and watch.records.latest["val/fid"] == last
    assert watch.checkpoints.choice(watch.trainer) == ("val/fid", "lowest")


@pytest.mark.parametrize(("mode", "best"), [(None, 9.0), ("highest", 9.0), ("lowest", 1.0)])
def test_higher_is_better_where_the_number_says_so(build: Any, tmp_path: Path, mode: str | None, best: float) -> None:
    watch = Sees()
    words = [*COUNTS, "budget.epochs=4", "callbacks.checkpoints.monitor=val/count"]
    words += [f"callbacks.checkpoints.mode={mode}"] if mode else []
    run(build(VAE, *words), watch=watch)
    assert watch.records.best["val/count"] == best and watch.records.latest["val/count"] == 1
    assert "val/negative_elbo" in watch.records.best  # whatever else that validation found
    assert watch.checkpoints.choice(watch.trainer) == ("val/count", mode or "highest")
    epoch = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    assert epoch == Counts.values.index(best)


def test_a_method_with_a_monitor_of_its_own_keeps_it(build: Any) -> None:
    watch = Sees()
    run(build(VAE, *COUNTS, "budget.epochs=2", "callbacks.checkpoints.monitor=null"), watch=watch)
    assert watch.checkpoints.choice(watch.trainer) == ("val/negative_elbo", "lowest")
    assert watch.checkpoints.reached == watch.records.best["val/negative_elbo"]


def test_a_monitor_that_a_method_names_and_does_not_record_is_left_out(build: Any, tmp_path: Path) -> None:
    method, data, config = build(VAE, *MANY, "budget.epochs=1")
    method.monitor = "val/other"
    run((method, data, config))
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"last.ckpt"}


def test_a_validation_holds_nothing_of_the_one_before(build: Any) -> None:
    class Looks(Sees):
        def on_train_epoch_end(self, trainer: Any, method: Any) -> None:
            held.append("val/count" in self.records.validation)

    held: list[bool] = []
    words = [*COUNTS[:-1], "callbacks.measures.every=2", "callbacks.checkpoints.monitor=val/count"]
    run(build(VAE, *words, "budget.epochs=4"), watch=Looks())
    assert held == [False, True, False, True]


def test_a_value_that_is_no_number_is_never_the_best(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counts, "values", (float("nan"), 2.0))
    watch = Sees()
    run(build(VAE, *COUNTS, "budget.epochs=2", "callbacks.checkpoints.monitor=val/count"), watch=watch)
    assert watch.checkpoints.reached == 2.0


def test_names_without_their_extractor() -> None:
    assert short_names(["fid[inception]", "kid[inception]"]) == ["val/fid", "val/kid"]
    assert short_names(["acc[conv1]", "acc[conv2]", "loss"]) == ["val/acc[conv1]", "val/acc[conv2]", "val/loss"]


# Training never notices


@pytest.mark.parametrize("case", [DCGAN, SIMCLR], ids=str)
def test_measuring_changes_no_weight(case: Any, build: Any) -> None:
    words = [*FID, "callbacks.measures.every=1", "budget.epochs=2"]
    if case is SIMCLR:
        words = [*MANY, "callbacks=probe", "callbacks.measures.every=1", "budget.epochs=2"]
    watch = Sees()
    with_it = run(build(case, *words, run="with"), watch=watch)
    assert watch.measures.epochs == 2
    without = run(build(case, *words, "~callbacks.measures", "callbacks.checkpoints.monitor=null", run="without"))
    for (name, a), b in zip(with_it.state_dict().items(), without.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("stop", [3, 4, 10])  # of 4 batches an epoch: middle, last, after the first measurement
def test_a_resumed_run_measures_as_the_uninterrupted_one(build: Any, tmp_path: Path, stop: int) -> None:
    words = [*FID, *FAST, "callbacks.measures.every=2", "budget.epochs=5"]
    straight = run(build(DCGAN, *words, run="straight"), watch=Sees())
    with pytest.raises(Interrupted):
        run(build(DCGAN, *words, run="broken"), watch=Sees(also=StopAt(stop)))
    watch = Sees()
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    resumed = run(build(DCGAN, *words, run="broken"), resume=last, watch=watch)
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    found = [measured(tmp_path / name, "val/fid") for name in ("straight", "broken")]
    assert found[0] == found[1] and sorted(found[0]) == [8, 16, 20]
    for name in ("best.ckpt", "last.ckpt"):
        ends = [
            torch.load(tmp_path / folder / "checkpoints" / name, weights_only=True)["callbacks"]
            for folder in ("straight", "broken")
        ]
        for (key, a), (_, b) in zip(*(flat(end) for end in ends), strict=True):
            assert key.endswith("/seconds") or (torch.equal(a, b) if isinstance(a, Tensor) else a == b), key
    assert watch.checkpoints.reached == min(found[0].values())


def test_a_resumed_run_that_watches_something_else_starts_its_best_anew(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counts, "values", (-1e9, -1e9))  # lower than anything else
    words = [*COUNTS, "callbacks.checkpoints.monitor=val/count"]
    run(build(VAE, *words, "budget.epochs=1"), watch=Sees())
    watch, last = Sees(), tmp_path / "run" / "checkpoints" / "last.ckpt"
    words[-1] = "callbacks.checkpoints.monitor=val/kl"
    run(build(VAE, *words, "budget.epochs=2"), watch=watch, resume=last)
    assert watch.checkpoints.reached == watch.records.best["val/kl"] == watch.records.latest["val/kl"]


# Several processes


def test_two_processes_record_what_one_finds(
    resolve: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 100 and 44 validation images: uneven shares."""
    evaluators = {"Reconstruction": {"_target_": "unlabeled.evaluation.metrics.reconstruction.Reconstruction"}}
    config = resolve(
        "model=vae",
        "data=digits",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.precision=32-true",
        "trainer.sync_batchnorm=false",
        "callbacks=probe",
        "callbacks.checkpoints.monitor=val/reconstruction_psnr",
        "callbacks.pictures.count=0",
        "callbacks.nearest_images.searched=0",
        "budget.epochs=null",
        "budget.batches=2",
    )
    config["callbacks"]["measures"]["evaluators"] = evaluators
    folder = tmp_path / "run"
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    data, _ = built(config)
    monkeypatch.setenv("PYTHON_EXEC", warm.python())
    run_processes(config)
    method, *_ = load(folder / "checkpoints" / "best.ckpt")
    study = Study(method, data, split="val", codes=config["callbacks"]["measures"]["codes"])
    assert len(data.table("val")) > study.block
    numbers = [n for e in evaluators.values() for n in instantiate(e, _convert_="all").measure(study)]
    assert numbers
    for number in numbers:
        assert measured(folder, f"val/{number.name}") == {2: pytest.approx(number.value, rel=1e-12)}


# Bad input, before time is spent

MISTAKES: dict[str, tuple[Any, list[str], str]] = {
    "nothing applies": (SIMCLR, [*FID], "callbacks.measures: none of its evaluators .distribution. applies"),
    "no validation images": (DCGAN, [*FID, "data.val=0", "~data.source",
        "+data.source={_target_: tests.tiny.Tiny, splits: [train]}"], "needs validation images: say data.val"),
    "every": (DCGAN, [*FID, "callbacks.measures.every=0"], "every=0: say 1 epoch or more"),
    "mode": (DCGAN, [*FID, "callbacks.checkpoints.mode=best"], "mode=best: say lowest or highest"),
    "monitor": (DCGAN, [*FID, "callbacks.measures.every=1", "callbacks.checkpoints.monitor=val/fdi"],
        "monitor=val/fdi is not measured: validation gives val/fid"),
    "monitor without measures": (VAE, [*MANY, "callbacks.checkpoints.monitor=val/fid"],
        "monitor=val/fid is not measured: validation gives val/.*negative_elbo"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_line(kind: str, build: Any) -> None:
    case, words, line = MISTAKES[kind]
    with pytest.raises((UserError, InstantiationException)) as raised:
        run(build(case, *words, "budget.epochs=9"), watch=Sees())
    said = explain(raised.value)
    assert re.search(line, said) and "\n" not in said and "Traceback" not in said


def test_without_an_extractor_its_reason_is_told(build: Any) -> None:
    class Without(Sees):
        def choose(self, name: str, weights: str | None, ranks: Ranks, notes: list[str]) -> Any:
            notes.append("weights of inception are not there: say ...")

    with pytest.raises(UserError, match="weights of inception are not there"):
        run(build(DCGAN, *FID, "budget.epochs=1"), watch=Without())
