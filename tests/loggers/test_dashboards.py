"""What loggers show is what metrics.csv holds, read back from what they wrote; and nothing secret is in any file."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning import Callback
from omegaconf import OmegaConf
from PIL import Image

import evaluate as evaluate_program
import train as train_program
from tests.conftest import TINY
from tests.contract.cases import CASES
from tests.contract.test_contract import run as fitted
from unlabeled.app.cli import main as cli
from unlabeled.app.run.build import close_loggers, make_trainer
from unlabeled.app.run.secrets import pass_to_children, receive_from_parent, redact, restore
from unlabeled.callbacks.pruning import Pruning
from unlabeled.errors import UserError
from unlabeled.loggers import workspace as dashboard
from unlabeled.loggers.actions import close, go_on, summary
from unlabeled.loggers.mlflow import MLflow
from unlabeled.loggers.tensorboard import TensorBoard
from unlabeled.loggers.wandb import WandB, wandb_records


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


# Reading back


def rows_of(run: Path) -> dict[int, dict[str, float]]:
    with open(run / "metrics.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return {int(row.pop("batch")): row for row in rows}


def kept(run: Path) -> list[Any]:
    """All records of a run of W&B, over its files."""
    return [record for file in sorted(run.glob("wandb/offline-run-*/*.wandb")) for record in wandb_records(file)]


def nested(items: Any) -> dict[str, Any]:
    """{key: value}, of nested keys the first."""
    found: dict[str, Any] = {}
    for item in items:
        path = list(item.nested_key) or [item.key]
        value = json.loads(item.value_json)
        if len(path) == 1:
            found[path[0]] = value
        else:
            found.setdefault(path[0], {})[path[1]] = value
    return found


def wandb_history(run: Path) -> list[dict[str, Any]]:
    return [nested(record.history.item) for record in kept(run) if record.HasField("history")]


def wandb_summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in kept(run):
        if record.HasField("summary"):
            found |= nested(record.summary.update)
    return found


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def scalars(run: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    read = events(run)
    for name in read.Tags()["scalars"]:
        for event in read.Scalars(name):
            twice = name in found.setdefault(event.step, {}) and found[event.step][name] != event.value
            assert not twice  # epoch and images come with training's quantities and with validation's
            found[event.step][name] = event.value
    return found


def seen(image: Image.Image) -> None:
    """It is a picture of something."""
    pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 20 and pixels.std() > 10


def both(run: Path) -> list[str]:
    """Words for a run with W&B and TensorBoard."""
    board = f"+logger.tensorboard={{_target_: unlabeled.loggers.tensorboard.TensorBoard, save_dir: '{run}'}}"
    return [f"run={run}", "logger=wandb", board]


# What was trained and evaluated is what is shown


QUICK = [
    "evaluation.extractor=none",
    "evaluation.codes=200",
    "evaluation.evaluators.probe.logistic=[0.1]",
    "evaluation.evaluators.probe.labels=[]",
    "evaluation.evaluators.clustering.n_init=1",
    "evaluation.evaluators.likelihood.num_samples=2",
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, trained and evaluated by the programs, that W&B and TensorBoard were told of."""
    home = tmp_path_factory.mktemp("shown")
    run = home / "run"
    store = f"+logger.mlflow={{_target_: unlabeled.loggers.mlflow.MLflow, folder: '{run}', store: '{run}', tags: []}}"
    more = [store] if find_spec("mlflow") else []
    training = [*both(run), *more, "budget.epochs=3", "callbacks.records.every=7", "callbacks.gradients.every=7"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(home / "none"))
        patch.setenv("HOME", str(home))
        patch.setattr(cli.JobStatus, "failed", 0)
        for module, words in ((train_program, training), (evaluate_program, [f"checkpoint={run}", *QUICK])):
            patch.setattr(sys, "argv", [f"{module.__name__}.py", *words])
            GlobalHydra.instance().clear()
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
                cli.run(module.main)
            assert not end.value.code, err.getvalue()
            assert f"dashboard    wandb sync {run}/wandb/offline-run-*" in out.getvalue()
            assert "wandb:" not in err.getvalue() and "note: the run's loggers" not in err.getvalue()
    assert not (home / ".local").exists()  # what waits to be sent lies in the run's folder
    return run


def test_the_history_of_wandb_is_the_csv_value_by_value(shown: Path) -> None:
    rows, history = rows_of(shown), wandb_history(shown)
    assert len(rows) == 11 and [row["_step"] for row in history] == list(rows)
    for row in history:
        assert row["batch"] == row["_step"]
        values = {
            name: value for name, value in row.items() if name in ("epoch", "images") or name[:4] in ("trai", "val/")
        }
        assert values == rows[row["_step"]]
    assert any("train/gradient_norm" in row for row in history)
    lowest = min(row["val/negative_elbo"] for row in rows.values() if "val/negative_elbo" in row)
    found = wandb_summary(shown)
    assert found["val/negative_elbo"]["min"] == lowest if isinstance(found["val/negative_elbo"], dict) else lowest
    assert found["best/negative_elbo"] == lowest


def test_tensorboard_holds_the_csv_value_by_value(shown: Path) -> None:
    rows, found = rows_of(shown), scalars(shown)
    assert set(found) - {0} == set(rows)
    for batch, row in rows.items():
        told = {name: value for name, value in found[batch].items() if name != "hp_metric"}
        assert set(told) == set(row)
        assert all(told[name] == pytest.approx(value, rel=1e-6) for name, value in row.items())


def test_mlflow_holds_the_csv_value_by_value_and_the_rest_as_artifacts(shown: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    client, name = tracking.MlflowClient(f"sqlite:///{shown}/mlflow.db"), (shown / "mlflow.run").read_text()
    found: dict[int, dict[str, float]] = {}
    told = client.get_run(name).data
    for quantity in told.metrics:
        for metric in client.get_metric_history(name, quantity):
            found.setdefault(metric.step, {})[quantity] = metric.value
    numbers = found.pop(0)
    assert found == {batch: {"batch": batch, **row} for batch, row in rows_of(shown).items()}
    content = json.loads((shown / "evaluation" / "evaluation.json").read_text())
    assert all(n["value"] in numbers.values() for n in content["numbers"] if n["value"] == n["value"])
    files = {file.path for folder in client.list_artifacts(name) for file in client.list_artifacts(name, folder.path)}
    assert {"checkpoint/best.ckpt", "report/report.html"} <= files
    assert sum("pictures~samples" in file and file.endswith(".png") for file in files) == 3
    assert {"vae", "digits"} <= set(told.tags) and told.params["model/latent_dim"] == "16"


def test_pictures_are_there_to_be_seen(shown: Path) -> None:
    names = {"samples", "reconstructions", "interpolation"}
    drawn = {name: len(list((shown / "pictures" / "history" / name).glob("*.png"))) for name in names}
    assert set(drawn.values()) == {3}
    history = wandb_history(shown)
    (folder,) = {
        file.parent for file in shown.glob("wandb/*/files") if (file / "media").is_dir() for file in [file / "x"]
    }
    for name in names:
        images = [(row["_step"], row[f"pictures/{name}"]) for row in history if f"pictures/{name}" in row]
        assert [step for step, _ in images] == [20, 40, 60]
        for step, told in images:
            assert told["caption"] == f"batch {step}"
            with Image.open(folder / told["path"]) as image:
                seen(image)
    read = events(shown)
    assert {f"pictures/{name}" for name in names} | {"pictures/nearest_training_images"} == set(read.Tags()["images"])
    for name in names:
        images = read.Images(f"pictures/{name}")
        assert [image.step for image in images] == [20, 40, 60]
        with (
            Image.open(shown / "pictures" / f"{name}.png") as file,
            Image.open(io.BytesIO(images[-1].encoded_image_string)) as image,
        ):
            assert np.array_equal(np.asarray(file), np.asarray(image))


def test_a_table_of_samples_stands_beside_their_nearest_training_images(shown: Path) -> None:
    manifest = next(
        r.artifact.manifest for r in kept(shown) if r.HasField("artifact") and r.artifact.type == "run_table"
    )
    places = {entry.path: Path(entry.local_path) for entry in manifest.contents}
    assert all(shown in place.parents for place in places.values())
    (file,) = [place for name, place in places.items() if name.endswith(".table.json")]
    table = json.loads(file.read_text())
    assert table["columns"] == ["sample", "nearest", "distance"] and len(table["data"]) == 64
    for sample, nearest, distance in table["data"]:
        assert 0 < distance < 10
        for told in (sample, nearest):
            with Image.open(places[told["path"]]) as image:
                seen(image)
    with Image.open(shown / "pictures" / "nearest_training_images.png") as image:
        seen(image)


def test_the_final_evaluation_is_in_the_summary_and_its_page_an_artifact(shown: Path) -> None:
    content = json.loads((shown / "evaluation" / "evaluation.json").read_text())
    numbers = {f"evaluation/{number['name']}": number["value"] for number in content["numbers"]}
    assert len(numbers) > 10
    found = wandb_summary(shown)
    assert {name: found[name] for name in numbers} == numbers
    assert len({record.run.run_id for record in kept(shown) if record.HasField("run")}) == 1  # one run, two programs
    assert scalars(shown)[0] == pytest.approx(
        numbers | {n: v for n, v in scalars(shown)[0].items() if n not in numbers}, rel=1e-6
    )
    artifacts = {record.artifact.type: record.artifact for record in kept(shown) if record.HasField("artifact")}
    (page,) = artifacts["report"].manifest.contents
    assert Path(page.local_path).read_bytes() == (shown / "evaluation" / "report.html").read_bytes()
    (weights,) = artifacts["checkpoint"].manifest.contents
    assert Path(weights.local_path).samefile(shown / "checkpoints" / "best.ckpt")


def test_the_config_is_shown_and_the_run_is_called_what_it_is(shown: Path) -> None:
    (first, second) = [record.run for record in kept(shown) if record.HasField("run")]
    assert first.display_name == second.display_name == "run" and list(first.tags) == ["vae", "digits"]
    told = {
        update.key: json.loads(update.value_json)
        for record in kept(shown)
        if record.HasField("config")
        for update in record.config.update
    }
    assert told["model"]["latent_dim"] == 16 and told["names"]["overrides"]
    assert first.host == "" and not any(record.HasField("environment") for record in kept(shown))


# Sweeps, and runs that go on


def test_jobs_of_a_sweep_are_one_group_named_by_their_overrides(program: Any, tmp_path: Path) -> None:
    sweep = tmp_path / "a_sweep"
    words = [*TINY, f"data_packed={tmp_path}", "logger=wandb", "budget.epochs=1", f"hydra.sweep.dir={sweep}"]
    result = program("train", "-m", "model=autoencoder", "seed=0,1", *words)
    assert result.status == 0, result.err
    runs = [next(r.run for r in kept(folder) if r.HasField("run")) for folder in sorted(sweep.glob("[01]-*"))]
    assert len({run.run_id for run in runs}) == 2 and {run.run_group for run in runs} == {"a_sweep"}
    for number, run in enumerate(runs):
        assert run.display_name.startswith(f"{number} ") and f"seed={number}" in run.display_name
        assert "autoencoder" in run.tags
    assert [len(wandb_history(folder)) for folder in sorted(sweep.glob("[01]-*"))] == [1, 1]  # each its own


def steps_of(kind: str, run: Path) -> list[tuple[int, float]]:
    """(batch, loss) as they are shown."""
    if kind == "wandb":
        return [(row["_step"], row["train/loss"]) for row in wandb_history(run)]
    if kind == "tensorboard":
        return [(event.step, event.value) for event in events(run).Scalars("train/loss")]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run}/mlflow.db")
    history = client.get_metric_history((run / "mlflow.run").read_text(), "train/loss")
    return [(metric.step, metric.value) for metric in history]


def made(kind: str, run: Path) -> Any:
    if kind == "mlflow":
        pytest.importorskip("mlflow")
        return MLflow(run, run, name="a", tags=["vae"])
    return WandB(run, name="a", offline=True) if kind == "wandb" else TensorBoard(run)


@pytest.mark.parametrize("kind", ["wandb", "tensorboard", "mlflow"])
@pytest.mark.parametrize("lost", [False, True], ids=["whole", "killed"])
def test_a_resumed_run_has_neither_gaps_nor_repetitions(kind: str, lost: bool, tmp_path: Path) -> None:
    """It was told of batches 10 to 400, and goes on from a checkpoint after 300; killed, W&B lost what was last."""
    rows = [{"batch": str(10 * i), "train/loss": str(i / 8)} for i in range(1, 31)]
    logger = made(kind, tmp_path)
    logger.log_hyperparams({"budget": {"epochs": 1}})
    for i in range(1, 41):
        logger.log_metrics({"train/loss": i / 8}, step=10 * i)
    close(logger, failed=True)
    if lost and kind == "wandb":
        (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        assert 20 < wandb_history(tmp_path)[-1]["_step"] < 300
    logger = made(kind, tmp_path)
    logger.log_hyperparams({"budget": {"epochs": 2}})
    go_on(logger, 300, rows)
    for i in range(31, 46):
        logger.log_metrics({"train/loss": i / 8}, step=10 * i)
    summary(logger, {"evaluation/fid[inception]": 2.0})
    close(logger, failed=False)
    assert steps_of(kind, tmp_path) == [(10 * i, i / 8) for i in range(1, 46)]
    if kind == "wandb":
        assert len({record.run.run_id for record in kept(tmp_path) if record.HasField("run")}) == 1


def test_wandb_never_asks_for_a_key(tmp_path: Path) -> None:
    assert WandB(tmp_path)._wandb_init["mode"] == "offline"
    with pytest.raises(UserError, match="wandb login"):
        WandB(tmp_path, offline=False)


# Gradients


class Lengths(Callback):
    """Of each optimizer's gradient after clipping, at every step."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, float]]] = {}
        self.told: list[tuple[int, str, float]] = []

    def on_train_start(self, trainer: Any, method: Any) -> None:
        names = {id(p): n.split(".")[0] for n, p in method.named_parameters()}

        def look(optimizer: Any, *_: Any) -> None:
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            norm = torch.cat([p.grad.flatten() for p in weights if p.grad is not None]).norm()
            self.seen.setdefault(names[id(weights[0])], []).append((trainer.fit_loop.total_batch_idx, float(norm)))

        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(look)

    def on_train_batch_end(self, trainer: Any, method: Any, *_: Any) -> None:
        for values in method.recorded:
            for name, value in values.items():
                if "gradient" in name:
                    self.told.append((trainer.fit_loop.total_batch_idx, name, float(value)))


def test_each_players_gradient_is_measured_at_the_first_step_of_every_few_batches(build: Any) -> None:
    case = next(case for case in CASES if case.model == "dcgan")
    words = ["data.batch_size=2", "budget.epochs=2", "callbacks.gradients.every=4", "model.discriminator_steps=2"]
    watch = Lengths()
    fitted(build(case, *words), watch=watch)
    expected = []
    for player in ("generator", "discriminator"):
        for span in range(2):
            batch, norm = next(entry for entry in watch.seen[player] if entry[0] >= 4 * span)
            expected.append((batch, f"train/gradient_norm_{player}", pytest.approx(norm, rel=1e-5)))
    assert sorted(watch.told) == sorted(expected, key=lambda entry: entry[:2])
    assert {batch for batch, name, _ in watch.told if name.endswith("generator")} == {1, 5}  # its turn comes later


def test_a_gradient_is_measured_before_it_is_clipped_and_once_over_a_resume(build: Any, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.model == "vae")
    plain, clipped, never = Lengths(), Lengths(), Lengths()
    fitted(build(case, "budget.epochs=1", run="plain"), watch=plain)
    fitted(build(case, "budget.epochs=1", "callbacks.clip.norm=0.01", run="clipped"), watch=clipped)
    assert [entry[1:] for entry in plain.told] == [entry[1:] for entry in clipped.told]
    assert plain.told[0][1] == "train/gradient_norm" and plain.told[0][2] > 0.02
    fitted(build(case, "budget.epochs=1", "callbacks.gradients.every=null", run="never"), watch=never)
    assert never.told == []
    resumed = Lengths()
    again = build(case, "budget.epochs=3", run="again")
    fitted(again, resume=tmp_path / "plain" / "checkpoints" / "last.ckpt", watch=resumed)
    assert resumed.told == []  # the first 50 batches have been looked at


# The workspace


def test_the_plots_of_the_workspace_find_what_methods_record(shown: Path) -> None:
    with open(shown / "metrics.csv", newline="") as file:
        recorded = {name for name in next(csv.reader(file)) if "/" in name}
    recorded |= {
        "train/generator_loss",
        "train/discriminator_loss_a",
        "train/cycle_a",
        "train/score_fake",
        "train/loss",
    }
    recorded |= {"val/accuracy", "val/knn_accuracy", "val/linear_accuracy_10%", "val/fid[classifier-digits@ab12cd]"}
    recorded |= {"train/loss", "val/loss", "train/gradient_norm_generator"}
    patterns = [pattern for plots in dashboard.PLOTS.values() for pattern in plots.values()]
    found = {pattern: {name for name in recorded if re.search(pattern, name)} for pattern in patterns}
    assert all(found.values()), found
    assert set().union(*found.values()) == recorded - {"val/linear_accuracy_10%"}
    content = json.loads((shown / "evaluation" / "evaluation.json").read_text())
    assert set(dashboard.EVALUATED) <= {number["name"] for number in content["numbers"]}


def test_the_workspace_is_written_without_an_account(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("wandb_workspaces")
    dashboard.main(["--json", str(tmp_path / "workspace.json"), "us/ours"])
    made = json.loads((tmp_path / "workspace.json").read_text())
    assert (made["entity"], made["project"]) == ("us", "ours")
    content = made["spec"]["section"]
    sections = {section["name"]: section["panels"] for section in content["panelBankConfig"]["sections"]}
    for name, plots in dashboard.PLOTS.items():
        assert [panel["config"]["metricRegex"] for panel in sections[name]] == list(plots.values())
        assert {panel["config"]["xAxis"] for panel in sections[name]} == {"batch"}
    assert content["settings"]["shouldAutoGeneratePanels"]


def test_without_a_key_or_the_package_the_workspace_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(UserError, match="wandb login, or --json FILE"):
        dashboard.main([])
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match=r"pip install -e .\.\[workspaces\]"):
        dashboard.main(["--json", str(tmp_path / "workspace.json")])


# Secrets

PASSWORD = "pa55/w:rd@here"
ADDRESS = f"postgresql://somebody:{PASSWORD}@host:5432/studies?sslpassword=0ther-pa55word"
ENVIRONMENT = {
    "WANDB_API_KEY": "1234567890abcdef1234567890abcdef12345678",
    "HF_TOKEN": "hf_abcdefghijklmnop",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "MY_PASSWORD": "correct-horse",
}


def everything(folder: Path) -> dict[str, bytes]:
    """Every file's name and bytes, with what is inside zips and W&B's records."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        found[str(path)] = str(path).encode() + path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{path}:{name}": archive.read(name) for name in archive.namelist()}
        if path.suffix == ".wandb":
            found[f"{path}:records"] = "".join(map(str, wandb_records(path))).encode()
    return found


def test_nothing_secret_is_in_any_file_of_a_run(program: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    remote = "https://me:ghp_tokentokentoken@github.com/me/mine"
    for words in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    monkeypatch.chdir(checkout)
    run = tmp_path / "run"
    pruning = (
        f'{{_target_: unlabeled.callbacks.pruning.Pruning, storage: "{ADDRESS}", study: "${{note}} ${{other}}", '
        "trial: null, pruner: null}"
    )
    words = [*TINY, *both(run), "logger.wandb.offline=true", "budget.epochs=1", f"+callbacks.pruning={pruning}"]
    result = program("train", *words, "+note=${oc.env:HF_TOKEN}", "+other=wJalrXUtnFEMI/K7MDENG")
    assert result.status == 0, result.err
    result = program("evaluate", f"checkpoint={run}", *QUICK, "trusted_packages=[tests]")
    assert result.status == 0, result.err
    files = everything(run)
    kinds = {Path(name.partition(":")[0]).name for name in files}
    assert {"config.yaml", "last.ckpt", "report.html", "evaluation.json", "result.json", "debug.log"} <= kinds
    for secret in (PASSWORD, "0ther-pa55word", "ghp_tokentokentoken", *ENVIRONMENT.values()):
        assert [name for name, content in files.items() if secret.encode() in content] == []
    config = OmegaConf.load(run / "config.yaml")
    assert config.callbacks.pruning.storage == "postgresql://somebody:***@host:5432/studies?sslpassword=***"
    result = program("train", f"resume={run}", "budget.epochs=2")  # without a study, and so without its password
    assert result.status == 0, result.err
    assert not any(PASSWORD.encode() in content for content in everything(run).values())


def test_what_is_hidden_from_files_reaches_those_who_need_it(resolve: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_TOKEN", "abcdefgh-token")
    monkeypatch.setenv("MY_KEY_FILE", str(Path(__file__)))
    plain = resolve("model=autoencoder", *TINY)
    plain["callbacks"]["pruning"] = {
        "_target_": "unlabeled.callbacks.pruning.Pruning",
        "storage": ADDRESS,
        "study": "s",
        "trial": None,
        "pruner": ["abcdefgh-token", str(Path(__file__)), "ab"],
    }
    safe = redact(plain)
    assert PASSWORD not in str(safe) and safe["callbacks"]["pruning"]["pruner"] == ["***", str(Path(__file__)), "ab"]
    assert restore(safe, plain) == plain and restore(safe, {}) == safe
    changed = plain | {"callbacks": plain["callbacks"] | {"pruning": {"storage": "postgresql://another:one@host/db"}}}
    assert restore(safe, changed) == safe  # not this one's
    with pass_to_children(plain):
        assert receive_from_parent(safe) == plain and receive_from_parent(safe) == safe  # once
    assert "UNLABELED_HIDDEN" not in os.environ
    trainer = make_trainer(plain, SimpleNamespace(automatic_optimization=True))
    close_loggers(trainer.loggers)
    (pruning,) = [callback for callback in trainer.callbacks if isinstance(callback, Pruning)]  # type: ignore[attr-defined]
    assert pruning.storage == ADDRESS
    checkpoints = next(callback for callback in trainer.callbacks if hasattr(callback, "config"))  # type: ignore[attr-defined]
    assert PASSWORD not in str(checkpoints.config)
