"""Several processes, half precision, and the switches for speed: the same method, whatever carries it."""

import csv
import json
import math
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.overrides import TorchFunctionMode

from tests import warm
from tests.conftest import TINY
from tests.contract import cases
from tests.contract.test_contract import StopAt
from tests.ranks import Notes
from unlabeled.app.run.build import build, make_trainer
from unlabeled.app.run.checkpoint import load
from unlabeled.app.run.precision import LossScaling, precision
from unlabeled.callbacks.averaging import WeightAveraging
from unlabeled.contract.bench import TINY_OF, changed
from unlabeled.errors import Interrupted, UserError
from unlabeled.seeding import mix

# what the loss is of: a distribution, which each process estimates from its own part of the batch (docs/sweeps.md)
COUPLED = {
    "beta_tcvae",
    "dip_vae",
    "factor_vae",
    "info_vae",
    "minibatch_gan",
    "progressive_gan",
    "relativistic_gan",
    "stylegan",
    "stylegan2",
    "unrolled_gan",
    "wae_mmd",
}
# noise that does not come row by row, so that one process cannot be given what two would draw
OTHERWISE = {"iwae", "redundant_autoencoder", "supervised_adversarial_autoencoder"}
ALONE = {"gmm", "kmeans"}  # refuse several processes
LATER = COUPLED | OTHERWISE | ALONE
CASES = [case for case in cases.CASES if case.model not in LATER]
ROWS = {case.model: case for case in CASES}
VAE, DCGAN = ROWS["vae"], ROWS["dcgan"]
QUIET = ["~callbacks.pictures", "~callbacks.progress"]
PLAIN = {
    "rotation": ["views@model.views=none"],
    "simclr": ["views@model.views=none"],
    **{case.model: ["model.generator.dropout=0.0"] for case in CASES if case.data == "paired"},
}  # see test_views
TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
SCALE = 2.0**8  # at which none of the rows overflows
QUIET_TOO = {"vae": QUIET, "dcgan": [], "ebgan": []}
HALF = {"images": "data.batch_size=4", "unpaired": "data.batch_size=2", "paired": "data.batch_size=2"}


def words(case: Any, *more: str) -> list[str]:
    """A row on a few images, at a half of the joined batch."""
    tiny = TINY_OF[case.data]
    few = ["model.latent_dim=2"] if case.model == "pca" else []
    return [f"model={case.model}", *tiny, *case.overrides, *few, HALF[case.data], *more]


# --- Two processes


JOBS: dict[str, dict[str, Any]] = {}  # name -> overrides; stop: at a batch; resume: the job whose checkpoint it takes


def job(name: str, overrides: list[str], **more: Any) -> None:
    JOBS[name] = {"overrides": overrides, "resume": None, "stop": None} | more


def pooled(case: Any) -> list[str]:
    """Room for every image: a full pool draws."""
    return ["model.pool=50"] if case.model == "cyclegan" else PLAIN.get(case.model, [])


DDP, FSDP = ["trainer=ddp", *TWO], ["trainer=fsdp", *TWO]
for case in CASES:
    job(f"ddp-{case}", words(case, *DDP, *QUIET, *pooled(case), "budget.batches=3"))
LABELS = words(ROWS["classifier"], "data.source.unlabelled=3")
job("labels", [*LABELS, *DDP, *QUIET, "budget.batches=2"])
APART = ["trainer.sync_batchnorm=false", "callbacks=averaging", "callbacks.averaging.decay=0.2", "budget.batches=3"]
job("apart", words(ROWS["rotation"], *DDP, *QUIET, *APART))
PROGRAM = words(ROWS["autoencoder"], "data.source.n=9", "callbacks.records.every=2", "budget.batches=3")
job("program", [*PROGRAM, *DDP])
FEW = [
    "data.source.n=3",
    "budget.epochs=null",
    "budget.images=9",
    "+callbacks.separate_batches={_target_: tests.ranks.Apart}",
]
job("few", words(ROWS["autoencoder"], *DDP, *QUIET, *FEW))
POOLS = words(ROWS["cyclegan"], *DDP, *QUIET, "callbacks.records.every=3", "budget.batches=6")
job("pools", POOLS)
job("pools-stopped", POOLS, stop=3)
job("pools-resumed", POOLS, resume="pools-stopped")
CARE = ["callbacks=averaging", "callbacks.averaging.decay=0.5", "callbacks.clip.norm=0.5", "accumulate=2"]
SHARDED = {
    "vae": words(VAE, "likelihood@model.likelihood=gaussian", *CARE, "budget.batches=4", "data.source.n=9"),
    "dcgan": words(DCGAN, *CARE, *QUIET, "model.discriminator_steps=2", "budget.batches=8"),
    "ebgan": words(ROWS["ebgan"], *CARE, *QUIET, "budget.batches=4"),  # its discriminator's halves are called apart
}
for name, overrides in SHARDED.items():
    job(f"whole-{name}", [*overrides, *DDP, *([] if set(QUIET) & set(overrides) else QUIET)])
    job(f"sharded-{name}", [*overrides, *FSDP])
    job(f"sharded-{name}-stopped", [*overrides, *FSDP], stop=2)
    job(f"sharded-{name}-resumed", [*overrides, *FSDP], resume=f"sharded-{name}-stopped")
job("alone", ["model=kmeans", *TINY, "data.batch_size=4", *DDP])
job("sharded-penalty", words(DCGAN, *FSDP, "penalty@model.penalty=wgan_gp", "model.discriminator.batch_norm=false"))
job("sharded-pca", words(ROWS["pca"], *FSDP))
job("sharded-tied", words(ROWS["contractive_autoencoder"], *FSDP))
job("sharded-penalised", words(ROWS["rae"], *FSDP))
job("sharded-half", words(VAE, *FSDP, "trainer.precision=16-mixed"))
job("sharded-last", words(DCGAN, *FSDP, "channels_last=true"))


def composed(overrides: list[str], run: Path, packed: Path) -> dict[str, Any]:
    config = changed(tuple(overrides))
    config.run, config.data_packed = str(run), str(packed)
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain | {"names": {"model": "m", "data": "d", "trainer": "t", "overrides": overrides}}  # type: ignore


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """What both ranks found in a job. One pair of processes goes through all, for every worker of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks"
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 900
        while not (folder / "over").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    else:
        try:
            go_through(folder)
        finally:
            (folder / "over").touch()

    def found(name: str) -> tuple[Any, Any]:
        results = [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]
        for rank, result in enumerate(results):
            assert "broken" not in result, result["broken"]
            result["run"] = folder / name / f"rank-{rank}"
        return results[0], results[1]

    return found


def go_through(folder: Path) -> None:
    """All jobs, by two processes."""
    jobs = []
    for name, what in JOBS.items():
        before = what["resume"]
        resume = str(folder / before / "rank-0" / "checkpoints" / "last.ckpt") if before else None
        config = composed(what["overrides"], folder / name / "rank-@RANK@", folder / "packed")
        jobs.append({"name": name, "config": config, "resume": resume, "stop": what["stop"]})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = os.environ | {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = ["-m", "tests.ranks", str(folder)]
    ranks = [warm.Popen(*command, str(rank), env=settings | {"LOCAL_RANK": str(rank)}) for rank in range(2)]
    deadline = time.monotonic() + 900
    try:
        while any(rank.poll() is None for rank in ranks) and not any(rank.poll() for rank in ranks):
            assert time.monotonic() < deadline, "the ranks wait for each other"
            time.sleep(0.1)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


class JoinedNoise(TorchFunctionMode):
    """Draws for a joined batch what two ranks draw for their halves: rows 0, 2, ... are the first rank's."""

    def __init__(self, batch: int):
        super().__init__()
        self.generators = [torch.Generator().manual_seed(mix(0, 2, batch, rank)) for rank in range(2)]

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.randn, torch.rand) and args[0] > 1:
            shape, draw = args, function
        elif function in (torch.randn_like, torch.rand_like):
            shape, draw = args[0].shape, torch.randn if function is torch.randn_like else torch.rand
        elif function is torch.randint and len(args) == 2 and len(args[1]) == 1 and args[1][0] > 1:
            high, (n,) = args
            halves = [torch.randint(high, (n // 2,), generator=generator) for generator in self.generators]
            return torch.stack(halves, 1).flatten(0, 1)
        else:
            return function(*args, **kwargs)
        halves = [draw(shape[0] // 2, *shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(halves, 1).flatten(0, 1)


class Joined(Notes):
    """One process, with the noise of two."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self.noise = JoinedNoise(trainer.fit_loop.total_batch_idx)
        self.noise.__enter__()

    def on_train_batch_end(self, *args: Any) -> None:
        self.noise.__exit__(None, None, None)
        super().on_train_batch_end(*args)


@pytest.fixture
def one(tmp_path: Path) -> Callable[..., Any]:
    """(notes, method) of a row in this process."""

    def one(overrides: list[str], notes: Any, resume: Path | None = None, stop: int | None = None) -> Any:
        config = composed(overrides, tmp_path / "run", tmp_path / "packed")
        data, method = build(config)
        made = make_trainer(config, method, enable_progress_bar=False)
        if isinstance(made.precision_plugin, LossScaling):
            made.precision_plugin.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        made.callbacks[:0] = [notes, *([StopAt(stop)] if stop else [])]  # type: ignore[attr-defined]
        made.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
        return notes, method

    return one


def joined(overrides: list[str]) -> list[str]:
    """The overrides of a rank as those of one process with the joined batch."""
    (size,) = {word for word in overrides if word in HALF.values()}
    kept = [word for word in overrides if word not in {*DDP, *FSDP, size}]
    return [*kept, f"data.batch_size={2 * int(size.split('=')[1])}"]


def assert_same_first_gradients(ranks: Any, alone: Any) -> None:
    for player, gradient in alone.first.items():
        total = torch.cat([g.flatten() for g in gradient]).norm()
        assert total > 0
        for rank in ranks:
            off = torch.cat([(a - b).flatten() for a, b in zip(rank["first"][player], gradient, strict=True)]).norm()
            assert off / total < 1e-4, (player, float(off / total))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_are_one_on_the_joined_batch(case: Any, pair: Any, one: Any) -> None:
    """Each player's first gradient, batch norm's statistics among it; then the same weights, with each rank's noise."""
    ranks = pair(f"ddp-{case}")
    alone, method = one(joined(JOBS[f"ddp-{case}"]["overrides"]), Joined())
    assert_same_first_gradients(ranks, alone)
    assert [set(rank["first"]) for rank in ranks] == [set(alone.first)] * 2
    first, second = ranks
    for name, value in first["state"].items():
        if name.endswith(".images"):  # a pool is each rank's own
            count = int(first["state"][name.replace("images", "count")])
            assert count > 0 and (value != second["state"][name]).flatten(1).any(1)[:count].all()
        else:
            assert torch.equal(value, second["state"][name]), name
    if case.model == "pca":
        for name, value in method.state_dict().items():
            torch.testing.assert_close(first["state"][name], value, atol=1e-5, rtol=1e-5)
    seeds = [[mix(0, 2, batch, rank) for batch in range(len(first["seeds"]))] for rank in range(2)]
    assert [first["seeds"], second["seeds"]] == seeds and not set(seeds[0]) & set(seeds[1])


def test_ranks_with_unequally_many_labels_are_one_on_the_joined_batch(pair: Any, one: Any) -> None:
    alone, method = one(joined(JOBS["labels"]["overrides"]), Joined())
    ranks = pair("labels")
    assert (
        sum(int(rank["state"]["labels.labelled"]) for rank in ranks) == int(method.labels.labelled) == 10
    )  # each counts its own
    assert_same_first_gradients(ranks, alone)


def test_batch_norm_is_synchronised_where_asked_and_not_otherwise(pair: Any) -> None:
    """Where not, all ranks validate with the first one's statistics, which the checkpoint holds, and train on."""
    name = "encoder.stem.1.running_mean"
    together, apart = ([rank["state"] for rank in pair(job)] for job in ("ddp-rotation", "apart"))
    assert torch.equal(together[0][name], together[1][name]) and not torch.equal(apart[0][name], apart[1][name])
    weights = [n for n in apart[0] if n.endswith(("weight", "bias"))]
    assert weights and all(torch.equal(apart[0][n], apart[1][n]) for n in weights)
    first, second = pair("apart")
    method, batch = validation(first["run"])
    with torch.no_grad():
        expected = float(method.loss(batch.x))
    assert first["latest"]["val/loss"] == second["latest"]["val/loss"] == pytest.approx(expected, rel=1e-5)


def validation(run: Path) -> tuple[Any, Any]:
    """A run's method as its checkpoint has it, and all its validation images."""
    method, config, _ = load(run / "checkpoints" / "last.ckpt", trusted_packages=("tests",))
    data = instantiate(config["data"], _convert_="all")
    data.prepare_data()
    (batch,) = data.loader("val", 100)
    return method, batch


def test_metrics_are_means_over_ranks_and_one_rank_writes_and_speaks(pair: Any) -> None:
    first, second = pair("program")
    with open(first["run"] / "metrics.csv", newline="") as file:
        rows = {int(row["batch"]): row for row in csv.DictReader(file)}
    seen = [[batch["train/loss"] for batch in rank["recorded"]] for rank in (first, second)]
    assert seen[0] != seen[1]
    assert float(rows[2]["train/loss"]) == pytest.approx(sum(seen[0][:2] + seen[1][:2]) / 4)
    assert int(rows[3]["images"]) == 24 and first["latest"] == second["latest"]
    # nine images: two batches on the first rank and one on the second
    method, batch = validation(first["run"])
    with torch.no_grad():
        expected = (batch.x - method.decoder(method.encoder(batch.x))).square().sum((1, 2, 3)).mean()
    assert len(batch.x) == 9 and float(rows[3]["val/loss"]) == pytest.approx(float(expected))
    assert first["said"] and (first["run"] / "pictures").is_dir()
    assert not second["said"] and not second["run"].exists()


def test_what_is_counted_and_measured_is_there_on_any_rank(pair: Any) -> None:
    """Three images a batch, two of them on the first rank, and a quantity that only the second has rows for."""
    first, second = pair("few")
    assert len(first["seeds"]) == len(second["seeds"]) == 3 and first["latest"] == second["latest"]
    assert first["latest"]["train/second"] == 2
    content = torch.load(first["run"] / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["callbacks"]["Budget"]["done"] == {"epochs": 3, "batches": 3, "examples": 9, "steps": 3, "rows": 0}
    losses = [[batch["train/loss"] for batch in rank["recorded"]] for rank in (first, second)]
    mean = sum(2 * a + b for a, b in zip(*losses, strict=True)) / 9
    assert first["latest"]["train/loss"] == pytest.approx(mean)


def test_a_run_of_two_processes_goes_on_bitwise_with_each_ranks_pool(pair: Any) -> None:
    straight, resumed = pair("pools"), pair("pools-resumed")
    assert "stopped after batch 3" in pair("pools-stopped")[0]["refused"]  # though only the second rank was asked
    assert not torch.equal(straight[0]["state"]["pool_a.images"], straight[1]["state"]["pool_a.images"])
    for a, b in zip(straight, resumed, strict=True):
        assert len(b["seeds"]) == 3
        for name, value in a["state"].items():
            assert torch.equal(value, b["state"][name]), name


# --- Sharded weights


@pytest.mark.parametrize("name", SHARDED)
def test_sharded_weights_are_trained_as_whole_ones(name: str, pair: Any) -> None:
    """Automatic and manual optimization, accumulated, clipped, averaged; a parameter outside of the networks."""
    ours, theirs = pair(f"sharded-{name}"), pair(f"whole-{name}")
    assert ours[0]["sharded"] > 4 and theirs[0]["sharded"] == 0
    for a, b in zip(ours, theirs, strict=True):
        for player, gradient in b["first"].items():
            for x, y in zip(a["first"][player], gradient, strict=True):
                torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)
        assert max(a["clipped"]) < 0.5 * 1.001 and len(a["clipped"]) == len(b["clipped"])
        for key, value in b["state"].items():
            torch.testing.assert_close(a["state"][key], value, atol=1e-5, rtol=1e-4, msg=key)
    files = [torch.load(run[0]["run"] / "checkpoints" / "last.ckpt", weights_only=True) for run in (ours, theirs)]
    averages = [file["callbacks"]["WeightAveraging"] for file in files]
    assert averages[0]["steps"] == averages[1]["steps"] and set(averages[0]["average"]) == set(averages[1]["average"])
    for key, value in averages[1]["average"].items():
        torch.testing.assert_close(averages[0]["average"][key], value, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("name", SHARDED)
def test_a_sharded_run_has_one_whole_checkpoint_and_goes_on_from_it(name: str, pair: Any, one: Any) -> None:
    straight, resumed = pair(f"sharded-{name}"), pair(f"sharded-{name}-resumed")
    for a, b in zip(straight, resumed, strict=True):
        for key, value in a["state"].items():
            assert torch.equal(value, b["state"][key]), key
    method, _, facts = load(
        straight[0]["run"] / "checkpoints" / "last.ckpt", weights="live", trusted_packages=("tests",)
    )
    assert facts["weights"] == "live"
    for key, value in method.state_dict().items():
        assert torch.equal(value, straight[0]["state"][key]), key
    # and one process goes on from it too, with the optimizers' state
    stopped = pair(f"sharded-{name}-stopped")[0]["run"] / "checkpoints" / "last.ckpt"
    notes, _ = one([*joined(JOBS[f"sharded-{name}"]["overrides"]), *QUIET_TOO[name]], Joined(), resume=stopped)
    assert len(notes.seeds) == len(resumed[0]["seeds"]) and math.isfinite(sum(notes.recorded[-1].values()))


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "sharded-penalty": "cannot differentiate twice.*trainer=ddp",
        "sharded-pca": "PCA has no network to shard",
        "sharded-tied": "outside of its forward pass.*trainer=ddp",
        "sharded-penalised": "outside of its forward pass.*trainer=ddp",
        "sharded-half": "no loss scaling: say trainer.precision=bf16-mixed",
        "sharded-last": "channels_last=false",
        "alone": "all images in one process: say trainer.devices=1",
    }.items(),
)
def test_what_cannot_be_shared_out_is_refused(name: str, words: str, pair: Any) -> None:
    for rank in pair(name):
        assert re.search(words, rank["refused"])


# --- Half precision


class Overflow(Notes):
    """The discriminator's gradient leaves the range of numbers in some batches; what became of both players."""

    def __init__(self, *batches: int) -> None:
        super().__init__()
        self.batches = batches
        self.moved: list[list[bool]] = []
        self.scales: list[float] = []
        self.gradients: list[tuple[int, torch.Tensor]] = []  # (player, what its step was given)

    def on_train_start(self, trainer: Any, method: Any) -> None:
        super().on_train_start(trainer, method)
        weight = next(method.discriminator.parameters())
        weight.register_hook(lambda g: g * math.inf if trainer.fit_loop.total_batch_idx in self.batches else None)

    def on_before_optimizer_step(self, trainer: Any, method: Any, optimizer: Any) -> None:
        super().on_before_optimizer_step(trainer, method, optimizer)
        gradient = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        self.gradients.append((trainer.optimizers.index(optimizer), torch.cat(gradient).clone()))

    def on_train_batch_start(self, trainer: Any, method: Any, *_: Any) -> None:
        self.weights = [[p.clone() for p in m.parameters()] for m in (method.generator, method.discriminator)]

    def on_train_batch_end(self, trainer: Any, method: Any, *rest: Any) -> None:
        super().on_train_batch_end(trainer, method, *rest)
        now = [list(m.parameters()) for m in (method.generator, method.discriminator)]
        same = lambda before, after: all(map(torch.equal, before, after))
        self.moved.append([not same(*sides) for sides in zip(self.weights, now, strict=True)])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.scales.append(float(scaler.get_scale()) if scaler else 1.0)
        self.averaging = next((c for c in trainer.callbacks if isinstance(c, WeightAveraging)), None)


SCALED = ["trainer.precision=16-mixed", *QUIET]


@pytest.mark.parametrize("fused", ["false", "true"])
def test_an_overflow_skips_one_players_step(fused: str, one: Any) -> None:
    more = ["callbacks=averaging", "budget.batches=3", f"fused={fused}"]
    notes, _ = one(words(DCGAN, *SCALED, *more), Overflow(1))
    assert notes.moved == [[True, True], [True, False], [True, True]]
    assert notes.scales == [SCALE, SCALE / 2, SCALE / 2]
    assert notes.averaging.steps == [3, 2]


@pytest.mark.parametrize("fused", ["false", "true"])
def test_gradients_that_accumulate_have_one_scale(fused: str, one: Any) -> None:
    """The discriminator steps first, and overflows: the generator's gradients from the batch before have its scale."""
    more = [*QUIET, "accumulate=2", "budget.batches=4", f"fused={fused}", "model.discriminator_optimizer.lr=0"]
    half, _ = one(words(DCGAN, *SCALED[:1], *more), Overflow(1))
    full, _ = one(words(DCGAN, *more), Overflow())
    assert half.scales == [SCALE, SCALE / 2, SCALE / 2, SCALE / 2]
    assert [player for player, _ in half.gradients] == [1, 0, 1, 0]
    for (_, a), (_, b) in list(zip(half.gradients, full.gradients, strict=True))[1:]:
        assert (a - b).norm() / b.norm() < 0.05


@pytest.mark.parametrize("fused", ["false", "true"])
@pytest.mark.parametrize("case", [VAE, DCGAN], ids=str)
def test_clipping_bounds_what_is_not_scaled(case: Any, fused: str, one: Any) -> None:
    more = ["callbacks.clip.norm=0.01", "budget.batches=2", f"fused={fused}"]
    notes, _ = one(words(case, *SCALED, *more), Notes())
    norms = [float(norm) for norm in notes.clipped]
    assert norms and max(norms) <= 0.01 * 1.001 and min(norms) > 0.009


LOWER = {"pix2pix_l1": 2.0**4}  # scales of losses that are sums over many pixels
DEEP = {"infogan", "sagan", "unrolled_gan", "vae_gan"}  # one network judges another's rounding


@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_trains_what_full_precision_does(case: Any, one: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(f"{__name__}.SCALE", LOWER.get(case.model, SCALE))
    (half, method), (full, _) = (
        one(words(case, *precision, *PLAIN.get(case.model, []), "budget.batches=3"), Notes())
        for precision in (SCALED, QUIET)
    )
    assert all(value.isfinite().all() for value in method.state_dict().values())
    assert len(half.clipped) == len(full.clipped)  # no step was skipped
    for player, gradient in full.first.items():
        a, b = (torch.cat([g.flatten() for g in side]) for side in (half.first[player], gradient))
        # Fresh translators magnify rounding (bfloat16 is 0.45 off): their losses tell
        bound = 0.6 if case.data in ("unpaired", "paired") and not player else 0.06
        bound = 0.2 if case.data == "paired" and player else 0.15 if case.model in DEEP else bound
        assert (a - b).norm() / b.norm() < bound, player
    batch = 0 if case.data == "unpaired" else -1
    for name, value in full.recorded[batch].items():
        if "norm" not in name:
            assert half.recorded[batch][name] == pytest.approx(value, rel=0.05, abs=0.05), name


@pytest.mark.parametrize("emulated", [True, False])
@pytest.mark.parametrize(
    ("name", "accelerator"), [("bf16-mixed", "cpu"), ("bf16", "cpu"), ("32-true", "cpu"), ("bf16-mixed", "gpu")]
)
def test_slow_bfloat16_is_said(name: str, accelerator: str, emulated: bool, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("unlabeled.app.run.precision.emulates_bfloat16", lambda: emulated)
    precision({"precision": name, "accelerator": accelerator})
    said = "say trainer.precision=32-true" in capsys.readouterr().err
    assert said == (emulated and name != "32-true" and accelerator == "cpu")


def test_a_resumed_run_has_its_scale(one: Any, tmp_path: Path) -> None:
    more = words(DCGAN, *SCALED, "budget.batches=4", "data.batch_size=2")
    straight, method = one(more, Overflow(0, 2))
    weights = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(Interrupted):
        one(more, Overflow(0, 2), stop=2)
    resumed, again = one(more, Overflow(0, 2), resume=tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert straight.scales == [SCALE / 2, SCALE / 2, SCALE / 4, SCALE / 4]
    assert resumed.scales == straight.scales[2:]
    for name, value in again.state_dict().items():
        assert torch.equal(value, weights[name]), name


# --- Switches


def test_a_discriminator_is_differentiated_twice_though_it_is_compiled(one: Any) -> None:
    more = ["penalty@model.penalty=wgan_gp", "model.discriminator.batch_norm=false", "budget.batches=2", *QUIET]
    compiled, method = one(words(DCGAN, *more, "compile=aot_eager"), Notes())
    plain, _ = one(words(DCGAN, *more), Notes())
    assert all(m._compiled_call_impl is not None for m in (method.generator, method.discriminator))
    assert compiled.recorded[0]["train/penalty"] > 0
    for a, b in zip(compiled.recorded, plain.recorded, strict=True):
        assert a == pytest.approx(b, rel=1e-3)


SWITCHES = ["compile=aot_eager", "channels_last=true", "fused=true"]


def test_switches_leave_training_and_checkpoints_as_they_are(one: Any, tmp_path: Path) -> None:
    fast, method = one(words(DCGAN, *SWITCHES, *QUIET, "budget.batches=3"), Notes())
    loaded, config, _ = load(tmp_path / "run", trusted_packages=("tests",))
    plain, other = one(words(DCGAN, *QUIET, "budget.batches=3"), Notes())
    for a, b in zip(fast.recorded, plain.recorded, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    assert list(method.state_dict()) == list(other.state_dict())
    assert config["channels_last"] and not any(m._compiled_call_impl for m in loaded.modules())
    assert not any("fused" in part for part in config["model"].values() if isinstance(part, dict))
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, method.state_dict()[name]), name
    weights = [p for p in method.parameters() if p.ndim == 4 and p.shape[1] > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert all(g["fused"] for o in method.trainer.optimizers for g in o.param_groups)
    assert any(m._compiled_call_impl for m in method.children())


@pytest.mark.parametrize(
    ("word", "complaint"),
    {
        "compile=aot_egaer": "compile=aot_egaer: say true, false or a backend.*did you mean aot_eager",
        "channels_last=1": "channels_last=1: say true or false",
        "fused=yes please": "fused=yes please: say true or false",
        "optimizer@model.optimizer=rmsprop fused=true": "torch.optim.RMSprop has no fused kernel",
        "trainer.precision=fp16": "trainer.precision=fp16: there are .*16-mixed",
    }.items(),
)
def test_unknown_switches_are_refused(word: str, complaint: str, one: Any) -> None:
    given = word.split(" ") if "model" in word else [word]
    with pytest.raises(UserError, match=complaint):
        one(words(ROWS["autoencoder"], *given), Notes())
