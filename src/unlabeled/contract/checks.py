"""What every method promises, one function a promise: each raises AssertionError where it is not kept.

`build` is Bench.build; `folder` is where its runs lie.
"""

import copy
import io
import itertools
import math
import signal
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from lightning import Callback
from omegaconf import OmegaConf

from unlabeled import capabilities
from unlabeled.app.cli.types import check_values
from unlabeled.app.run import train
from unlabeled.app.run.build import make_trainer
from unlabeled.app.run.checkpoint import load, packages_of
from unlabeled.batches import Paired, Points, Unpaired
from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.callbacks.dashboards import Dashboards
from unlabeled.contract.bench import Build, Built, Case
from unlabeled.contract.measures import known
from unlabeled.errors import Interrupted
from unlabeled.seeding import seed_noise

PROTOCOLS = {
    value
    for value in vars(capabilities).values()
    if getattr(value, "_is_runtime_protocol", False) and value.__module__ == capabilities.__name__
}


class Unknown(Exception):
    """A promise that cannot be held against anything, and what is missing."""


class Watch(Callback):
    """After each batch: which child modules moved, and what was recorded."""

    latest: "Watch"

    def __init__(self) -> None:
        Watch.latest = self
        self.moved: list[set[str]] = []
        self.recorded: list[float] = []

    def on_train_start(self, trainer: Any, method: Any) -> None:
        self.method, self.data = method, trainer.datamodule

    def on_train_batch_start(self, trainer: Any, method: Any, *_: Any) -> None:
        self.before = {n: [p.clone() for p in m.parameters()] for n, m in method.named_children()}

    def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
        same = lambda n, m: all(map(torch.equal, self.before[n], m.parameters()))
        self.moved.append({n for n, m in method.named_children() if self.before[n] and not same(n, m)})
        self.recorded += [float(value) for values in method.recorded for value in values.values()]


def run(
    built: Any, *, resume: Path | None = None, watch: Callback | None = None, saved: bool = True, **trainer: Any
) -> Any:
    method, data, config = built
    config = copy.deepcopy(config)
    for name in ("pictures", "nearest_images", "progress"):
        del config["callbacks"][name]
    made = make_trainer(config, method, enable_progress_bar=False, **trainer)
    unseen = () if saved else (Checkpoints, Dashboards)
    callbacks: list[Callback] = made.callbacks  # type: ignore[attr-defined]
    watching = [] if watch is None else [watch]
    callbacks[:] = [*watching, *(callback for callback in callbacks if not isinstance(callback, unseen))]
    made.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    return method


class Trained(NamedTuple):
    """What the program leaves after three batches."""

    method: Any
    data: Any
    config: dict[str, Any]
    watch: Watch
    curves: list[dict[str, str]]  # rows of metrics.csv that it draws
    printed: str


_trained: tuple[Case, Trained] | None = None  # of the case that was asked for last


def trained(case: Case, build: Build) -> Trained:
    """One run for all promises that look at one: the program itself, but for drawing curves, which takes longest."""
    global _trained
    if _trained is None or _trained[0] is not case:
        *_, config = build(case, "budget.batches=3", "callbacks.pictures.count=1", "callbacks.pictures.images=8")
        watched = {"watch": {"_target_": f"{__name__}.Watch"}} | config["callbacks"]
        rows: list[dict[str, str]] = []
        with (
            redirect_stdout(io.StringIO()) as out,
            mock.patch.object(train, "curves", lambda drawn, *_: rows.extend(drawn)),
        ):
            train.fit(config | {"callbacks": watched})
        watch = Watch.latest
        _trained = case, Trained(watch.method, watch.data, config, watch, rows, out.getvalue())
    return _trained[1]


def first_batch(data: Any) -> Any:
    return next(iter(data.loader("train")))


def can_do_what_it_says(case: Case, build: Build, folder: Path) -> None:
    method, data, config, *_ = trained(case, build)
    check_values(OmegaConf.create({key: value for key, value in config.items() if key != "names"}))
    can = {p for p in PROTOCOLS if isinstance(method, p)}
    if case.can is not None:
        assert can == case.can, f"it can {abilities(can)}, and its case says {abilities(case.can)}"
    method.eval()
    batch = first_batch(data)
    x = batch[0]
    bounded = not isinstance(batch, Points)
    in_range = lambda image: image.shape[1:] == x.shape[1:] and (not bounded or image.abs().max() <= 1)
    with torch.no_grad():
        if capabilities.Samples in can:
            assert in_range(method.sample(3)) and len(method.sample(3)) == 3
        if capabilities.SamplesClasses in can:
            assert in_range(method.sample_class(batch.y[:3])) and len(method.sample_class(batch.y[:3])) == 3
        if capabilities.Encodes in can:
            code = method.encode(x)
            assert code.ndim == 2 and len(code) == len(x) and torch.equal(code, method.encode(x))
            torch.testing.assert_close(method.encode(x[:3]), code[:3], rtol=1e-4, atol=1e-5)  # no image sees another
        if capabilities.Reconstructs in can:
            assert in_range(method.reconstruct(x)) and torch.equal(method.reconstruct(x), method.reconstruct(x))
        if {capabilities.Encodes, capabilities.Decodes} <= can:
            assert in_range(method.decode(method.encode(x)))
        if capabilities.SamplesPrior in can:
            assert in_range(method.decode(method.sample_prior(3)))
        if capabilities.SamplesPosterior in can:
            drawn = method.sample_posterior(x)
            assert drawn.shape == method.encode(x).shape and not torch.equal(drawn, method.sample_posterior(x))
        if capabilities.BoundsLikelihood in can:
            assert method.log_likelihood(x).shape == (len(x),) and method.bin_width > 0
        if capabilities.ElboTerms in can:
            assert all(term.shape == (len(x),) for term in method.elbo_terms(x))
        if capabilities.WeighsSamples in can:
            seen = method.observe(x)
            assert method.log_weights(x, 3).shape == (3, len(x)) and torch.equal(method.observe(seen), seen)
        if capabilities.Classifies in can:
            assert method.classify(x).shape == (len(x), data.classes)
        if capabilities.Clusters in can:
            cluster = method.assign(x)
            assert cluster.shape == (len(x),) and cluster.dtype == torch.int64
            assert cluster.min() >= 0 and cluster.max() < method.clusters
        if capabilities.IntermediateFeatures in can:
            stages = method.intermediate_features(x)
            assert len(stages) > 1 and all(h.shape[0] == len(x) and h.ndim == 2 for h in stages.values())
        if capabilities.Translates in can:
            assert in_range(method.translate(x)) and len(method.translate(x)) == len(x)
        if capabilities.TranslatesBack in can:
            assert in_range(method.translate_back(x))
        if capabilities.DrawsFigures in can:
            for images, captions in method.figures(x).values():
                assert in_range(images) and len(images) == len(captions)


def every_parameter_has_one_owner(case: Case, build: Build, folder: Path) -> None:
    method, *_ = trained(case, build)
    optimizers = method.configure_optimizers()
    if optimizers is None:
        return  # solved, not descended
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    owned = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    if case.still is None:
        still = {id(p) for p in method.parameters() if not p.requires_grad}
    else:
        still = {id(p) for name in case.still for p in method.get_submodule(name).parameters()}
    roles = {id(p): n for name, n in case.roles.items() for p in method.get_submodule(name).parameters()}
    names = {id(p): name for name, p in method.named_parameters()}
    twice = [names.get(p, "a parameter of no child") for p in set(owned) if owned.count(p) != roles.get(p, 1)]
    assert not twice, f"several optimizers own {sorted(twice)[0]}"
    learned = {id(p) for p in method.parameters()} - still
    alone, other = (sorted(names.get(p, "") for p in each) for each in (learned - set(owned), set(owned) - learned))
    assert not alone, f"no optimizer owns {', '.join(alone[:3])}"
    assert not other, f"an optimizer owns {', '.join(other[:3])}, which should stay as it is"


def each_player_moves_on_its_turn_and_only_then(case: Case, build: Build, folder: Path) -> None:
    method, _, _, watch, *_ = trained(case, build)
    players = [n for n, m in method.named_children() if any(True for _ in m.parameters())]
    if case.turns is None:
        moved = set().union(*watch.moved)
        for name in players:
            learns = any(p.requires_grad for p in method.get_submodule(name).parameters())
            assert learns == (name in moved), f"{name} {'does not move' if learns else 'moves'} in three batches"
        return
    for name in players:
        assert [int(name in moved) for moved in watch.moved] == case.turns.get(name, [1, 1, 1]), name


def learns_one_batch(case: Case, build: Build, folder: Path) -> None:
    falls = known(trained(case, build).method) if case.falls is None else case.falls
    if not falls:
        raise Unknown("nothing of what it can do tells whether it learned: state a measure that falls, Case(falls=...)")
    for measure, overrides in falls.items():
        smaller = [] if case.data != "images" else ["data.val=0.125"]
        built = build(case, *smaller, *overrides, f"budget.epochs={case.epochs}", "data.epochs=null")
        before, batch = copy.deepcopy(built[0]), first_batch(built[1])
        after = run(built, saved=False, limit_val_batches=0)
        values = []
        for method in (before, after):
            seed_noise(0)
            with torch.no_grad():
                values.append(float(measure(method.eval(), batch)))
        assert values[1] < values[0], f"{measure.__name__}: {values[0]:.4f} -> {values[1]:.4f}"


class StopAt(Callback):
    """Asks for a stop at a batch, as Ctrl-C does."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.ended = 0  # after so many batches, where it was not broken off

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            signal.raise_signal(signal.SIGINT)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        self.ended = trainer.fit_loop.total_batch_idx + 1


STOPS = (1, 3, 4, 5)  # of 4 batches an epoch: first, middle, last, first of the next; methods take turns


def a_resumed_run_ends_bitwise_equal(case: Case, build: Build, folder: Path) -> None:
    def averaged(*words: Any, **named: Any) -> Built:
        built = build(*words, **named)
        built[2]["callbacks"]["averaging"] = {"_target_": "unlabeled.callbacks.averaging.WeightAveraging"}
        return built

    overrides = ["data.batch_size=2", "budget.epochs=2", "callbacks.records.every=3", *case.of_two]
    straight = run(averaged(case, *overrides, run="straight"), limit_val_batches=1)
    stop = STOPS[sum(map(ord, case.model)) % len(STOPS)]
    if not assert_resumes(case, averaged, overrides, straight, folder, stop):
        assert assert_resumes(case, averaged, overrides, straight, folder, 3), "it was not interrupted"


def assert_resumes(case: Any, build: Any, overrides: list[str], straight: Any, folder: Path, stop: int) -> bool:
    """Whether it was interrupted: a method that needs one pass may have ended before.

    straight: a run of the same that was not, with one validation batch an epoch.
    """
    broken = f"broken{stop}"
    try:
        run(build(case, *overrides, run=broken), watch=(watch := StopAt(stop)), limit_val_batches=1)
    except Interrupted:
        pass
    else:
        assert stop > 3 and watch.ended == 4, "it was not interrupted"
        return False
    again = build(case, *overrides, run=broken)
    with torch.no_grad():
        for p in again[0].parameters():
            p.add_(1)  # whatever it started from is forgotten
    resumed = run(again, resume=folder / broken / "checkpoints" / "last.ckpt", limit_val_batches=1)
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    # wall time differs, all else may not
    ends = [torch.load(folder / n / "checkpoints" / "last.ckpt", weights_only=True) for n in ("straight", broken)]
    for old, new in zip(*(flat(end["callbacks"]) for end in ends), strict=True):
        if old[0].endswith("/seconds"):
            continue
        assert old[0] == new[0] and (
            torch.equal(old[1], new[1]) if isinstance(old[1], torch.Tensor) else old[1] == new[1]
        ), old[0]
    metrics = [(folder / n / "metrics.csv").read_text().splitlines() for n in ("straight", broken)]
    assert len(metrics[0]) > 1 and metrics[0] == metrics[1]
    return True


def flat(node: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return list(itertools.chain.from_iterable(flat(value, f"{name}/{key}") for key, value in node.items()))
    return [(name, node)]


def trains_in_bf16(case: Case, build: Build, folder: Path) -> None:
    watch = Watch()
    method = run(build(case, "budget.batches=2"), watch=watch, saved=False, precision="bf16-mixed")
    assert all(math.isfinite(value) for value in watch.recorded)
    assert all(value.isfinite().all() for value in method.state_dict().values())


def a_checkpoint_stands_alone(case: Case, build: Build, folder: Path) -> None:
    method, data, config, *_ = trained(case, build)
    method.eval()
    trusted = tuple(packages_of(config))
    place = Path(config["run"])
    _loaded, saved, facts = load(place, trusted_packages=trusted)
    assert facts["weights"] == "live" and saved["seed"] == 0
    last, _, _ = load(place / "checkpoints" / "last.ckpt", trusted_packages=trusted)
    batch = first_batch(data)

    def answer(method: Any) -> torch.Tensor:
        if isinstance(batch, Unpaired | Paired):
            seed_noise(0)
            return method.translate(batch.a)
        if isinstance(method, capabilities.Encodes):
            return method.encode(batch.x)
        seed_noise(0)
        return method.sample(2)

    with torch.no_grad():
        assert torch.equal(answer(method), answer(last))


def the_whole_program_runs(case: Case, build: Build, folder: Path) -> None:
    _, _, config, watch, curves, printed = trained(case, build)
    assert list((Path(config["run"]) / "pictures" / "history").rglob("*.png"))
    assert curves and curves[-1]["batch"] == str(len(watch.moved))
    assert "pictures" in printed


def abilities(protocols: set) -> str:
    return ", ".join(sorted(protocol.__name__ for protocol in protocols)) or "nothing"


ALL = (
    can_do_what_it_says,
    every_parameter_has_one_owner,
    each_player_moves_on_its_turn_and_only_then,
    learns_one_batch,
    a_resumed_run_ends_bitwise_equal,
    trains_in_bf16,
    a_checkpoint_stands_alone,
    the_whole_program_runs,
)
