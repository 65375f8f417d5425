"""What the house does around every method: budgets, accumulation, clipping, schedules, averages, records."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback

from tests.contract.cases import CASES
from tests.contract.test_contract import Watch, run
from unlabeled.callbacks.averaging import WeightAveraging
from unlabeled.callbacks.pace import Budget, BudgetSpent, limits
from unlabeled.callbacks.records import Diverged, Records
from unlabeled.errors import UserError
from unlabeled.loggers.csv import CSV
from unlabeled.seeding import seed_noise

VAE, DCGAN, AUTOENCODER = (next(c for c in CASES if c.model == name) for name in ("vae", "dcgan", "autoencoder"))
MANY = ["data.batch_size=2"]  # four batches an epoch
BUDGETS = {
    "budget.epochs=2": 8,
    "budget.epochs=null budget.batches=5": 5,
    "budget.epochs=null budget.images=7": 4,  # the batch that reaches it is the last
    "budget.epochs=null budget.examples=7": 4,
    "budget.epochs=null budget.examples=7 budget.images=7": 4,
    "budget.epochs=9 budget.batches=3 budget.images=100": 3,
    "data.batch_size=64 budget.epochs=null budget.images=20": 3,  # of batches of 8, all there are
    "accumulate=3 budget.epochs=null budget.batches=5": 7,  # of 3 batches and 1, 3 and 1
    "accumulate=3 budget.epochs=null budget.images=15": 8,
}


@pytest.mark.parametrize("case", [VAE, DCGAN], ids=str)
@pytest.mark.parametrize("words", BUDGETS)
def test_a_budget_means_the_same_for_one_player_and_for_two(case: Any, words: str, build: Any) -> None:
    watch = Watch()
    run(build(case, *MANY, *words.split()), watch=watch)
    assert len(watch.moved) == BUDGETS[words]


def test_images_are_another_word_for_examples() -> None:
    assert limits(images=3) == {"epochs": None, "batches": None, "images": 3}  # as lines call it then
    assert limits(examples=3, images=3)["images"] == 3 and limits(examples=3)["examples"] == 3
    with pytest.raises(UserError, match=r"budget.examples=3 and budget.images=4 mean the same: say one of them"):
        Budget(examples=3, images=4)


def test_rows_are_called_what_the_data_call_them() -> None:
    rows: list[dict[str, Any]] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: rows.append(values))
    data = SimpleNamespace(noun="points")
    trainer: Any = SimpleNamespace(
        callbacks=[Budget(epochs=1)],
        loggers=[logger],
        datamodule=data,
        current_epoch=2,
        callback_metrics={},
        fit_loop=SimpleNamespace(total_batch_idx=4),
    )
    Records().add(trainer, None, {"val/loss": 1.5})
    assert rows == [{"val/loss": 1.5, "epoch": 2, "points": 0}]


def test_two_halves_of_a_batch_accumulate_to_the_whole(build: Any) -> None:
    """Automatic optimization: a mean over halves is the mean over the whole."""
    whole = run(build(AUTOENCODER, "data.batch_size=8", "budget.epochs=null", "budget.batches=1", run="whole"))
    halves = run(build(AUTOENCODER, "data.batch_size=4", "accumulate=2", "budget.epochs=1", run="halves"))
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


class Gradients(Callback):
    """Each optimizer's gradient before its step, and when it stepped."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[torch.Tensor]]] = []
        self.rates: list[list[float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    def on_before_optimizer_step(self, trainer: Any, method: Any, optimizer: Any) -> None:
        gradient = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
        self.seen.append((trainer.fit_loop.total_batch_idx, gradient))


def test_manual_optimization_accumulates_for_each_player(build: Any) -> None:
    """The discriminator's gradient over two batches is the mean of theirs; nobody steps in between."""
    built = build(DCGAN, *MANY, "accumulate=2", "budget.epochs=1", "model.generator_optimizer.lr=0.0")
    single = build(
        DCGAN, *MANY, "budget.epochs=1", "model.generator_optimizer.lr=0.0", "model.discriminator_optimizer.lr=0.0"
    )
    both, each = Gradients(), Gradients()
    run(built, watch=both)
    run(single, watch=each)
    assert [batch for batch, _ in both.seen] == [
        1,
        1,
        3,
        3,
    ]  # discriminator and generator, after two batches and after four
    assert [batch for batch, _ in each.seen] == [0, 0, 1, 1, 2, 2, 3, 3]
    discriminator = both.seen[0][1]
    mean = [(a + b) / 2 for a, b in zip(each.seen[0][1], each.seen[2][1], strict=True)]
    for a, b in zip(discriminator, mean, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", [VAE, DCGAN], ids=str)
def test_an_epoch_ends_with_a_step(case: Any, build: Any) -> None:
    """Four batches, three to a step: validation comes after the fourth, and would drop what it has gathered."""
    watch = Gradients()
    run(build(case, *MANY, "accumulate=3", "budget.epochs=2", "callbacks.checkpoints.every=1"), watch=watch)
    players = 2 if case is DCGAN else 1
    assert [batch for batch, _ in watch.seen] == [batch for batch in (2, 3, 6, 7) for _ in range(players)]
    assert all(any(g.abs().max() > 0 for g in gradient) for _, gradient in watch.seen)


class Used(Callback):
    """The gradient of each step, as the optimizer had it."""

    def __init__(self) -> None:
        self.gradients: list[list[torch.Tensor]] = []

    def on_train_start(self, trainer: Any, *_: Any) -> None:
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(self.stepped)

    def stepped(self, optimizer: Any, *_: Any) -> None:
        self.gradients.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])


@pytest.mark.parametrize("case", [AUTOENCODER, DCGAN], ids=str)
def test_a_step_of_fewer_batches_is_a_mean_of_those(case: Any, build: Any) -> None:
    """Automatic and manual optimization; nobody moves, so that every step of one batch has that batch's gradient."""
    rates = ["generator_optimizer.lr=0.0", "discriminator_optimizer.lr=0.0"] if case is DCGAN else ["optimizer.lr=0.0"]
    still = [*MANY, "budget.epochs=1", *(f"model.{rate}" for rate in rates)]
    three, each = Used(), Used()
    run(build(case, *still, "accumulate=3"), watch=three)
    run(build(case, *still), watch=each)
    players = len(still) - 2
    assert len(three.gradients) == 2 * players and len(each.gradients) == 4 * players
    for found, expected in zip(three.gradients[players:], each.gradients[3 * players :], strict=True):
        assert any(g.abs().max() > 0 for g in expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Rows(Watch):
    """The images of each batch, told apart by their pixels; the epoch's number and the method's step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[bytes]] = []
        self.epochs: list[int] = []
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer: Any, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rows.append([x.numpy().tobytes() for x in batch.x])
        self.epochs.append(trainer.current_epoch)
        self.steps.append(method.steps)


def ended(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """(last.ckpt, metrics.csv's rows) of a run."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True), rows


OTHER = {  # of 8 images: so many batches of 2, then with other ones -> their sizes
    "1 data.batch_size=3": [3, 3, 3, 3],  # 6 images are left of the first epoch
    "3 data.batch_size=1": [1] * 10,
    "3 data.batch_size=4": [4, 4],  # 2 images are left, and fill no batch
    "4 data.batch_size=64": [8],
    "6 data.batch_size=4 accumulate=2": [4],
}


@pytest.mark.parametrize("other", OTHER)
def test_what_was_done_stays_counted_when_batches_change(other: str, build: Any, tmp_path: Path) -> None:
    stop, *words = other.split()
    few = ["budget.epochs=2", "callbacks.records.every=1"]
    first, second = Rows(), Rows()
    run(build(AUTOENCODER, *MANY, "budget.epochs=null", f"budget.batches={stop}", *few[1:]), watch=first)
    run(build(AUTOENCODER, *MANY, *few, *words), watch=second, resume=tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert [len(batch) for batch in second.rows] == OTHER[other]
    seen: dict[int, list[bytes]] = {0: [], 1: []}
    for epoch, batch in zip(first.epochs + second.epochs, first.rows + second.rows, strict=True):
        seen[epoch] += batch
    assert all(len(rows) == len(set(rows)) for rows in seen.values())  # none twice in an epoch
    content, rows = ended(tmp_path / "run")
    done = content["callbacks"]["Budget"]["done"]
    images = sum(map(len, first.rows + second.rows))
    assert done == {
        "epochs": 2,
        "batches": len(first.rows + second.rows),
        "examples": images,
        "steps": done["steps"],
        "rows": 0,
    }
    assert int(rows[-1]["images"]) == images and rows[-1]["epoch"] == "1" and content["epoch"] == 1
    assert [int(row["images"]) for row in rows] == sorted({int(row["images"]) for row in rows})
    for key, value in {"epochs": 2, "batches": done["batches"], "examples": images, "images": images}.items():
        words = ["data.batch_size=5", "budget.epochs=null", f"budget.{key}={value}"]
        with pytest.raises(
            BudgetSpent, match=f"nothing left to do: {value} of {value} {key} are done; .* say budget.{key}=N"
        ):
            run(build(AUTOENCODER, *words), resume=tmp_path / "run" / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("case", [VAE, DCGAN], ids=str)
def test_a_budget_that_ended_within_an_epoch_can_be_raised(
    case: Any, accumulate: int, build: Any, tmp_path: Path
) -> None:
    """The longer run is the uninterrupted one: its weights, its steps, and the numbers of its epochs."""
    words = [*MANY, f"accumulate={accumulate}", "callbacks.records.every=1", "callbacks=averaging"]
    words += ["model.discriminator_steps=2"] if case is DCGAN else []
    watches = [Rows() for _ in range(3)]
    straight = run(build(case, *words, "budget.epochs=3", run="straight"), watch=watches[0])
    run(build(case, *words, "budget.epochs=null", "budget.images=10"), watch=watches[1])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    resumed = run(build(case, *words, "budget.epochs=3"), watch=watches[2], resume=last)
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for facts in ("rows", "epochs", "steps"):
        assert getattr(watches[0], facts) == getattr(watches[1], facts) + getattr(watches[2], facts)
    (a, rows), (b, others) = ended(tmp_path / "straight"), ended(tmp_path / "run")
    assert a["epoch"] == b["epoch"] and a["callbacks"]["Budget"]["done"] == b["callbacks"]["Budget"]["done"]
    told = [[(row["batch"], row["epoch"], row["images"]) for row in table] for table in (rows, others)]
    assert told[0] == told[1]


def test_a_mean_over_nothing_is_not_recorded(build: Any, tmp_path: Path) -> None:
    """Values are weighed by the rows that they rest on; with none they are absent, and choose no checkpoint."""
    method, data, config = build(AUTOENCODER, "data.batch_size=3", "budget.epochs=1", "callbacks.records.every=2")
    rows = iter([0, 3, 1, 2, 1])  # two training batches, three of validation
    means = iter([float("nan"), 4.0, 10.0, 1.0, 4.0])

    def note(batch: Any) -> None:
        n, mean = next(rows), torch.tensor(next(means))
        method.record(rows=torch.tensor(n), half=mean)
        method.record(rows=n, other=mean)
        method.record(rows=torch.tensor(0), nothing=torch.tensor(float("nan")))
        method.record(rows=0, loss=torch.tensor(0.0))

    loss = method.training_step
    method.training_step = lambda batch, batch_idx: (note(batch), loss(batch, batch_idx))[1]
    method.validation_step = lambda batch, batch_idx: note(batch)
    run((method, data, config))
    _, (row,) = ended(tmp_path / "run")
    assert float(row["train/half"]) == float(row["train/other"]) == 4.0
    assert float(row["val/half"]) == float(row["val/other"]) == 4.0  # (1 x 10 + 2 x 1 + 1 x 4) / 4
    assert not {"train/nothing", "val/nothing", "val/loss"} & set(row) and float(row["train/loss"]) > 0
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize("case", [VAE, DCGAN], ids=str)
def test_clipping_bounds_each_players_gradient(case: Any, build: Any) -> None:
    used = Used()
    run(build(case, *MANY, "budget.epochs=1", "callbacks.clip.norm=0.01"), watch=used)
    norms = [float(torch.cat([g.flatten() for g in gradient]).norm()) for gradient in used.gradients]
    assert norms and max(norms) <= 0.01 * 1.001 and min(norms) > 0.009


def test_a_schedule_follows_the_share_of_the_budget_for_every_player(build: Any) -> None:
    case = next(c for c in CASES if c.model == "cyclegan")
    watch = Gradients()
    run(build(case, "data.batch_size=2", "budget.epochs=2"), watch=watch)
    expected = [2e-4 * min(1, (1 - (t + 0.5) / 8) / 0.5) for t in range(8)]
    assert [rate[0] for rate in watch.rates] == pytest.approx(expected)
    assert [rate[1] for rate in watch.rates] == pytest.approx(expected)


def test_every_batch_draws_its_own_noise_and_every_rank_another() -> None:
    draws = []
    for place in [(0, 2, 0, 0), (0, 2, 1, 0), (0, 2, 0, 1), (1, 2, 0, 0), (0, 2, 0, 0)]:
        seed_noise(*place)
        draws.append(float(torch.randn(())))
    assert draws[0] == draws[4] and len(set(draws)) == 4


def test_averages_follow_each_players_own_steps(build: Any) -> None:
    """average <- d average + (1 - d) weight after each step, d = min(decay, (1 + t) / (10 + t)); buffers too."""
    case = DCGAN
    words = [
        *MANY,
        "budget.epochs=1",
        "callbacks=averaging",
        "callbacks.averaging.decay=0.2",
        "model.discriminator_steps=2",
    ]
    method, data, config = build(case, *words)
    names = ["generator.net.0.weight", "discriminator.body.0.weight", "generator.net.1.running_mean"]
    weights = [{name: method.state_dict()[name].clone() for name in names}]

    class Snapshots(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            weights.append({name: method.state_dict()[name].clone() for name in names})
            self.averaging = next(c for c in trainer.callbacks if isinstance(c, WeightAveraging))

    snapshots = Snapshots()
    run((method, data, config), watch=snapshots)
    for name in names:
        expected, t = weights[0][name].clone(), 0
        for batch, after in enumerate(weights[1:]):
            if name.startswith("discriminator") or batch % 2 == 1:  # the generator steps at every second batch
                t += 1
                decay = min(0.2, (1 + t) / (10 + t))
                expected = decay * expected + (1 - decay) * after[name]
        torch.testing.assert_close(snapshots.averaging.average[name], expected)
    live = method.state_dict()["discriminator.body.0.weight"]
    assert torch.equal(live, weights[-1]["discriminator.body.0.weight"])  # training never sees the averages


def test_records_are_means_over_batches_and_validation_counts_images(build: Any, tmp_path: Path) -> None:
    seen: list[float] = []

    class Values(Callback):
        def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
            name = "train/negative_elbo"
            seen.extend(float(values[name]) for values in method.recorded if name in values)

    words = ["data.batch_size=3", "budget.epochs=null", "budget.batches=4", "callbacks.records.every=2"]
    method = run(build(VAE, *words), watch=Values())
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = {int(row["batch"]): row for row in csv.DictReader(file)}
    assert sorted(rows) == [2, 4] and rows[4]["images"] == "12"
    assert float(rows[4]["train/negative_elbo"]) == pytest.approx(sum(seen[2:]) / 2)
    values = []  # the eight validation images in batches of 3, 3 and 2, by hand
    _, data, _ = build(VAE, *words)
    with torch.no_grad():
        for i, batch in enumerate(data.loader("val")):
            seed_noise(0, 3, i, 0)
            log_px_z, kl = method.eval().elbo_terms(batch.x)
            values += (kl - log_px_z).tolist()
    assert len(values) == 8 and float(rows[4]["val/negative_elbo"]) == pytest.approx(sum(values) / 8, rel=1e-5)


def test_the_csv_merges_batches_widens_and_forgets_what_a_resume_repeats(tmp_path: Path) -> None:
    log = CSV(tmp_path)
    log.log_metrics({"train/loss": 1.0}, step=10)
    log.log_metrics({"val/loss": 2.0}, step=10)
    log.log_metrics({"train/loss": 0.5}, step=20)
    log.log_metrics({"train/loss": 0.4}, step=30)
    again = CSV(tmp_path)
    again.truncate(20)
    again.log_metrics({"train/loss": 0.3}, step=25)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["batch"], row["train/loss"], row["val/loss"]) for row in rows] == [
        ("10", "1.0", "2.0"),
        ("20", "0.5", ""),
        ("25", "0.3", ""),
    ]


def test_weights_that_are_not_finite_are_never_saved(build: Any, tmp_path: Path) -> None:
    """The loss of a batch is finite, and its step ruins the weights: the checkpoint before it stays."""

    class Ruin(Callback):
        def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == 5:
                with torch.no_grad():
                    next(method.parameters()).fill_(float("nan"))

    with pytest.raises(Diverged, match="not finite after batch 6"):
        run(build(VAE, *MANY, "budget.epochs=3", "callbacks.checkpoints.every=2"), watch=Ruin())
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in content["state_dict"].values())


def test_a_checkpoint_every_so_many_batches(build: Any, tmp_path: Path) -> None:
    """Ended at once after the third of four batches, a run has the checkpoint of its second."""

    class Kill(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == 2:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(build(VAE, *MANY, "budget.epochs=1", "callbacks.checkpoints.every=2"), watch=Kill())
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 2
