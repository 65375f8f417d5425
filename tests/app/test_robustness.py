"""No run is lost: killed, damaged, full, changed, hung."""

import csv
import http.server
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import warm
from tests.contract.cases import CASES
from tests.kills import FORKS, NOTHING, Fate, run
from unlabeled.app.run.plan import would_overwrite
from unlabeled.contract.bench import TINY_OF
from unlabeled.errors import UserError
from unlabeled.files import FORMAT
from unlabeled.loggers.actions import close
from unlabeled.loggers.csv import CSV
from unlabeled.loggers.wandb import WandB

ROOT = Path(__file__).parents[2]

# Killed, twenty times, wherever death finds it

DRAWERS = {  # one method of each
    "autoencoder": [],
    "vae": [],
    "dcgan": ["callbacks=averaging", "callbacks.averaging.decay=0.9"],
    "cyclegan": [],
    "rotation": [],
    "simclr": [],
    "classifier": [],
}
FEW = [
    "data.batch_size=2", "budget.epochs=2", "callbacks.checkpoints.every=2", "callbacks.records.every=3",
    "callbacks.pictures.images=4", "+callbacks.dies={_target_: tests.kills.Dies}",
]  # fmt: skip


class Killed:
    """Runs of one config in folders of their own, all called `run` there."""

    def __init__(self, home: Path, work: dict[str, Any] | list[str]):
        self.home, self.work = home, work

    def attempt(self, name: str, fate: Fate = NOTHING, seconds: float | None = None) -> tuple[int, str]:
        """Start or go on in the folder `name`, for `seconds` at most: the exit status, and what was printed."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        if isinstance(self.work, dict):
            (folder / "run").mkdir(exist_ok=True)
        reader, writer = multiprocessing.Pipe(duplex=False)
        process = FORKS.Process(target=run, args=(str(folder), self.work, fate, writer))
        process.start()
        writer.close()
        process.join(seconds)
        if process.is_alive():
            process.kill()
        process.join()
        with open(reader.fileno(), closefd=False) as file:
            screen = file.read()
        assert process.exitcode is not None and "Traceback" not in screen, screen
        return process.exitcode, screen

    def straight(self) -> tuple[dict[str, int], float]:
        """What the uninterrupted run passes, and how long it takes."""
        first = FORKS.Process(target=os.getpid)  # the server imports everything
        first.start()
        first.join()
        began = time.monotonic()
        assert self.attempt("straight")[0] == 0
        lines = (self.home / "straight" / "passed.txt").read_text().splitlines()
        return {name: int(number) for number, name in (line.split(" ", 1) for line in lines)}, time.monotonic() - began


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "pictures").rglob("*")) if p.is_file()}


def content(path: Path) -> Any:
    """All that a checkpoint holds but the time that it took."""

    def timeless(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: timeless(value) for key, value in node.items() if key != "seconds"}
        return [timeless(value) for value in node] if isinstance(node, list | tuple) else node

    return timeless(torch.load(path, weights_only=True))


def assert_same(a: Any, b: Any, at: str = "") -> None:
    assert type(a) is type(b), at
    if isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            assert_same(a[key], b[key], f"{at}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), at
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{at}/{i}")
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b or a != a, at


def assert_equal_runs(straight: Path, broken: Path) -> None:
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in (straight, broken)]
    assert files[0] == files[1], files[0] ^ files[1]
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        if (straight / "checkpoints" / name).exists():
            assert_same(content(straight / "checkpoints" / name), content(broken / "checkpoints" / name), name)
    assert (straight / "metrics.csv").read_bytes() == (broken / "metrics.csv").read_bytes()
    results = [json.loads((folder / "result.json").read_text()) for folder in (straight, broken)]
    assert_same(*({key: value for key, value in result.items() if key != "seconds"} for result in results))
    assert pictures(straight) == pictures(broken)


@pytest.mark.parametrize("model", DRAWERS)
def test_killed_twenty_times_a_run_ends_as_if_it_never_was(
    model: str, resolve: Any, tmp_path: Path, packed: Path
) -> None:
    """Half of the deaths come at a hook, a call or a write; the others when the clock says so."""
    case = next(case for case in CASES if case.model == model)
    tiny = TINY_OF[case.data]
    words = [f"model={model}", *tiny, *case.overrides, *FEW, *DRAWERS[model]]
    work: Any = resolve(*words) | {"run": "run"}
    work = json.loads(json.dumps(work).replace(str(tmp_path / "run"), "run"))
    if model == "vae":  # the program itself
        work = [*words, f"data_packed={packed}", "resume=auto", "run=run"]
    runs = Killed(tmp_path, work)
    passed, seconds = runs.straight()
    draw = random.Random(model)
    deaths = folder = 0
    while deaths < 20:
        if deaths % 2:
            status, _ = runs.attempt(f"{folder}", seconds=draw.uniform(0, 0.7 * seconds))
        else:
            name = draw.choice(sorted(passed))
            status, _ = runs.attempt(f"{folder}", Fate(name, draw.randint(1, 1 + passed[name] // 5), signal.SIGKILL))
        assert status in (0, -signal.SIGKILL)
        deaths += status != 0
        if status == 0:
            assert_equal_runs(tmp_path / "straight" / "run", tmp_path / f"{folder}" / "run")
            folder += 1
    if status:
        assert runs.attempt(f"{folder}")[0] == 0
        assert_equal_runs(tmp_path / "straight" / "run", tmp_path / f"{folder}" / "run")


# Damaged, changed


def small(run: Path, *words: str) -> list[str]:
    """A run of twelve batches, three epochs, with two checkpoints an epoch."""
    few = ["data=digits", "~data.source", "+data.source={_target_: tests.tiny.Tiny}", "data.batch_size=2"]
    few += ["data_root=unused", f"data_packed={run.parent / 'packed'}", "callbacks.pictures.count=0"]
    few += ["callbacks.checkpoints.every=2", "callbacks.records.every=2", "budget.epochs=3", f"run={run}"]
    return ["model=autoencoder", "model.encoder.width=4", "model.decoder.width=4", *few, *words]


def signals(name: str, batch: int) -> str:
    return f"+callbacks.{name}={{_target_: tests.witness.Signals, folder: '${{run}}', name: {name}, batch: {batch}}}"


def batches(run: Path) -> list[int]:
    with open(run / "metrics.csv", newline="") as file:
        return [int(row["batch"]) for row in csv.DictReader(file)]


def flip(path: Path) -> None:
    """One bit of a weight, which torch.load would take as it is."""
    data = bytearray(path.read_bytes())
    weights = next(iter(content(path)["state_dict"].values())).numpy().tobytes()
    data[data.index(weights[:64]) + 5] ^= 4
    path.write_bytes(data)
    torch.load(path, weights_only=True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


DAMAGES = {"a bit": flip, "the end": cut, "all of it": lambda path: path.write_bytes(b""), "gone": Path.unlink}


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(program: Any, tmp_path: Path) -> None:
    straight, run = tmp_path / "straight", tmp_path / "run"
    assert program("train", *small(straight)).status == 0
    assert program("train", *small(run), signals("SIGTERM", 9)).status == 143
    saved = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    assert batches(run)[-1] == 10 and content(run / "checkpoints" / "previous.ckpt")["global_step"] == 8
    for how, damage in DAMAGES.items():
        for name, data in saved.items():
            (run / "checkpoints" / name).unlink(missing_ok=True)
            (run / "checkpoints" / name).write_bytes(data)
        (run / "checkpoints" / "damaged.ckpt").unlink(missing_ok=True)
        damage(run / "checkpoints" / "last.ckpt")
        result = program("train", f"resume={run}", "seed=0")
        assert result.status == 0, result.err
        (note,) = [line for line in result.err.splitlines() if line.startswith("note: ")]
        assert "last.ckpt is " in note and note.endswith("going on from previous.ckpt, after batch 8"), note
        assert (run / "checkpoints" / "damaged.ckpt").exists() == (how != "gone")
        assert (straight / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
        weights = [content(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (straight, run)]
        assert_same(*weights)


def test_where_both_are_damaged_nothing_is_lost(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert program("train", *small(run)).status == 0
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        path = run / "checkpoints" / name
        path.write_bytes(path.read_bytes()[:-500])  # in place: two names may be one file
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "result.json"}
    for word in (f"resume={run}", "resume=auto"):
        result = program("train", *([word] if word != "resume=auto" else small(run, word, "budget.epochs=4")))
        assert result.status == 1 and re.search(r"last.ckpt and previous.ckpt are both damaged", result.complaint)
    assert before == {path: path.read_bytes() for path in before}
    evaluated = program("evaluate", f"checkpoint={run}", "device=cpu")
    assert evaluated.status == 1 and re.search(
        r"best.ckpt is damaged or not whole \(.*\): take another one: beside it lies last.ckpt and previous.ckpt",
        evaluated.complaint,
    )


def test_a_changed_config_is_refused_unless_asked_for(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert program("train", *small(run), signals("SIGTERM", 5)).status == 143
    told, last = run / "config.yaml", run / "checkpoints" / "last.ckpt"
    before = told.read_text()
    for words, change in {
        "data.batch_size=4": "data.batch_size=4 (was 2)",
        "model.latent_dim=3": "model.encoder.dim=3 (was 8), model.decoder.dim=3 (was 8), model.latent_dim=3 (was 8)",
        "seed=1": "seed=1 (was 0), data.seed=1 (was 0)",
    }.items():
        refused = program("train", f"resume={run}", words)
        assert refused.status == 1 and change in refused.complaint and "allow_config_change=true" in refused.complaint
    told.write_text(before.replace("seed: 0", "seed: 7"))  # by hand
    assert "seed=7 (was 0)" in program("train", f"resume={run}").complaint
    told.write_text(before)
    assert program("train", f"resume={run}", "model.latent_dim=8", "data.batch_size=2", "budget.epochs=2").status == 0
    assert "changes" not in told.read_text()  # nothing had, but the budget

    words = ["model.optimizer.lr=0.5", "allow_config_change=true", "budget.epochs=3"]
    asked = program("train", f"resume={run}", *words)
    line = "after batch 8: model.optimizer.lr=0.5 (was 0.001)"
    assert asked.status == 0 and f"note: changed {line}" in asked.err and line in told.read_text()
    assert content(last)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    assert program("train", f"resume={run}", "budget.epochs=4").status == 0  # asked for once is enough
    assert content(last)["config"]["model"]["optimizer"]["lr"] == 0.5

    misfit = program("train", f"resume={run}", "model.latent_dim=3", "allow_config_change=true", "budget.epochs=5")
    assert misfit.status == 1 and "Traceback" not in misfit.err
    assert re.search(r"last.ckpt does not fit Autoencoder as it is now \(encoder\S+: .* and \d+ more\)", misfit.err)


REFUSED = {  # of twelve batches that are over, and what the line says
    "": "nothing left to do: 3 of 3 epochs are done; for more than budget.epochs=3, say budget.epochs=N",
    "callbacks.records.every=7": "nothing left to do: 3 of 3 epochs",
    "budget.epochs=9 budget.batches=10": "for more than budget.batches=10, say budget.batches=N",
    "budget.images=24 budget.batches=5": "12 of 5 batches and 24 of 24 images are done",
    "data.batch_size=4 budget.epochs=4": "data.batch_size=4 (was 2)",
    "data.batch_size=1 allow_config_change=true": "nothing left to do: 3 of 3 epochs",
    "model.latent_dim=3 allow_config_change=true budget.epochs=4": "does not fit Autoencoder",
    "trainer.limit_train_batches=0.5 budget.epochs=4": "say a whole number of batches",
    "callbacks.checkpoints.mode=middle budget.epochs=4": "say lowest or highest",
}


def test_a_refused_resume_leaves_the_folder_as_it_was(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert program("train", *small(run)).status == 0
    with open(run / "metrics.csv", "a") as file:
        file.write("14,torn")
    holds = lambda: {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    before = holds()
    for words, line in REFUSED.items():
        refused = program("train", f"resume={run}", *words.split())
        told = [word for word in refused.err.splitlines() if not word.startswith("note: changed")]
        assert refused.status == 1 and line in told[-1] and len(told) == 1, refused.err
        assert holds() == before, words


def test_a_longer_budget_that_was_interrupted_is_not_over(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert program("train", *small(run)).status == 0
    longer = small(run, "resume=auto", "budget.epochs=5", signals("SIGTERM", 14))
    assert program("train", *longer).status == 143 and json.loads((run / "result.json").read_text())["batches"] == 12
    assert program("train", *longer).status == 0 and batches(run)[-1] == 20
    over = program("train", *longer)
    assert over.status == 0 and "over already" in over.out


def test_callbacks_may_change(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert program("train", *small(run), signals("SIGTERM", 5)).status == 143
    words = ["callbacks=averaging", "callbacks.checkpoints.monitor=val/mean_squared_error"]
    result = program("train", f"resume={run}", *words)
    assert result.status == 0 and "callbacks.checkpoints.monitor=val/mean_squared_error (was null)" in result.err
    best = content(run / "checkpoints" / "best.ckpt")["callbacks"]["Checkpoints"]
    assert best["monitor"] == "val/mean_squared_error" and best["reached"] > 0
    assert content(run / "checkpoints" / "last.ckpt")["callbacks"]["WeightAveraging"]["steps"] == [6]
    assert program("train", f"resume={run}", "callbacks=default", "budget.epochs=4").status == 0


# Ended before its first checkpoint


def test_a_run_that_ended_before_its_first_checkpoint_starts_anew(program: Any, tmp_path: Path) -> None:
    straight, run = tmp_path / "straight", tmp_path / "run"
    few = ["budget.epochs=1", "callbacks.checkpoints.every=null", "callbacks.records.every=1"]
    assert program("train", *small(straight, *few)).status == 0
    for words in (small(run, *few), [f"resume={run}", "model.optimizer.lr=1e-3"], small(run, *few, "resume=auto")):
        failed = program("train", *small(run, *few, "model.optimizer.lr=1e30"))
        assert "no checkpoint had been written yet" in failed.complaint and batches(run)
        again = program("train", *words)
        assert again.status == 0 and f"note: the run in {run} ended before its first checkpoint" in again.err, again.err
        assert (straight / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
        assert "error" not in json.loads((run / "result.json").read_text())
        assert "changes" not in (run / "config.yaml").read_text()
        shutil.rmtree(run)


ERROR, OVER, CONFIG = (
    '{"names": {}, "error": "none"}',
    '{"names": {}, "last": {}}',
    "{model: {}, data: {}, trainer: {}, run: run, names: {overrides: []}}",
)
LEFT: dict[str, tuple[dict[str, Any], str]] = {  # what lies in a folder, an epoch for a checkpoint -> what is worth it
    "only a lock": ({".lock": ""}, ""),
    "only a config": ({"config.yaml": CONFIG}, ""),
    "of a run that failed": ({"config.yaml": CONFIG, "result.json": ERROR, "metrics.csv": "batch"}, ""),
    "of one that was killed within its first epoch": ({"config.yaml": CONFIG, "checkpoints/best.ckpt": 0}, ""),
    "the best of a later epoch": ({"config.yaml": CONFIG, "checkpoints/best.ckpt": 3}, "checkpoints/best.ckpt"),
    "a damaged checkpoint": ({"config.yaml": CONFIG, "checkpoints/damaged.ckpt": ""}, "checkpoints/damaged.ckpt"),
    "a result": ({"config.yaml": CONFIG, "result.json": OVER}, "result.json"),
    "a result without a config": ({"result.json": OVER}, "result.json"),
    "a checkpoint of a run that failed": ({"result.json": ERROR, "checkpoints/last.ckpt": 1}, "checkpoints/last.ckpt"),
}


def lay(run: Path, files: dict[str, Any]) -> None:
    (run / "checkpoints").mkdir(parents=True)
    for name, text in files.items():
        if isinstance(text, int):
            torch.save({"format": FORMAT, "config": {}, "state_dict": {}, "epoch": text}, run / name)
        else:
            (run / name).write_text(text)


@pytest.mark.parametrize("state", LEFT)
def test_what_a_run_may_not_overwrite(state: str, tmp_path: Path) -> None:
    files, name = LEFT[state]
    lay(tmp_path, files)
    assert would_overwrite(tmp_path) == name


def test_no_run_starts_over_what_another_has_reached(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    lay(run, {"config.yaml": CONFIG, "result.json": OVER, "checkpoints/previous.ckpt": 1, "checkpoints/best.ckpt": 1})
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert (
        "holds a run already (checkpoints/previous.ckpt): python train.py resume="
        in program("train", *small(run)).complaint
    )
    (run / "checkpoints" / "previous.ckpt").unlink()
    for words, told in {
        (): r"run=\S+ holds a run already \(checkpoints/best.ckpt\): say another folder",
        ("resume=auto",): r"run=\S+ holds a run already \(checkpoints/best.ckpt\): say another folder",
        (f"resume={run}",): r"resume=\S+: it holds checkpoints/best.ckpt, but no last.ckpt to go on from",
    }.items():
        refused = program("train", *small(run, *words))
        assert refused.status == 1 and re.search(told, refused.complaint), refused.complaint
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "previous.ckpt")
    (run / "config.yaml").write_text("model: {")
    assert f"{run / 'config.yaml'} is not what a run writes" in program("train", *small(run, "resume=auto")).complaint
    shutil.rmtree(run)
    lay(run, {"result.json": "{"})
    assert f"{run / 'result.json'} is damaged" in program("train", *small(run)).complaint


HOLDER = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_run_that_another_process_trains_is_left_alone(program: Any, tmp_path: Path) -> None:
    """Until that one has ended, be it by kill -9."""
    run = tmp_path / "run"
    assert program("train", *small(run), signals("SIGTERM", 5)).status == 143
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = subprocess.Popen([sys.executable, "-c", HOLDER, run / ".lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        for words in ([f"resume={run}"], small(run, "resume=auto")):
            refused = program("train", *words)
            assert refused.status == 1 and f"{run}: another process trains this run" in refused.complaint
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    finally:
        other.kill()
        other.wait()
    assert program("train", f"resume={run}").status == 0
    assert program("train", f"resume={run}", "budget.epochs=4").status == 0  # nor does a run that is over hold it


def test_a_run_that_was_moved_goes_on_where_it_lies(program: Any, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    assert program("train", *small(run), signals("SIGTERM", 5)).status == 143
    run.rename(moved)
    assert program("train", f"resume={moved}").status == 0
    assert not run.exists() and batches(moved) == [2, 4, 6, 8, 10, 12]


def test_a_torn_line_of_the_csv_is_forgotten(tmp_path: Path) -> None:
    log = CSV(tmp_path)
    for batch in (5, 10, 15):
        log.log_metrics({"train/loss": 1 / batch}, step=batch)
    whole = log.path.read_bytes()
    for size in range(len(whole) - 1, whole.rindex(b"15"), -1):  # "1" of "15" would be another batch
        log.path.write_bytes(whole[:size])
        again = CSV(tmp_path)
        again.truncate(14)
        assert [row["batch"] for row in again.rows] == ["5", "10"]
    again.log_metrics({"train/loss": 1 / 15}, step=15)
    assert log.path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["10,0", "1\udcff,0.1,7", "10,0.1,x", "10,0.1,7,8", "\0", "", "x" * 200_000, '"10'])
def test_damaged_lines_of_the_csv_are_left_out_and_counted(damage: str, tmp_path: Path, capsys: Any) -> None:
    log = CSV(tmp_path)
    for batch in (5, 10, 15):
        log.log_metrics({"train/loss": 1 / batch, "epoch": 7}, step=batch)
    lines = log.path.read_bytes().split(b"\r\n")
    lines[2] = damage.encode(errors="surrogateescape")
    log.path.write_bytes(b"\r\n".join(lines))
    assert [row["batch"] for row in CSV(tmp_path).rows] == ["5", "15"]
    assert "left out 1 damaged of 3 lines" in capsys.readouterr().err
    log.path.write_bytes(b"\r\n".join([b"batch,tra", *lines[1:]]))
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: repair its first line"):
        CSV(tmp_path)


# Asked to stop, and full


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    home = tmp_path_factory.mktemp("runs")
    words = [word for word in small(home / "run") if not word.startswith("run=")]
    once = Killed(home, [*words, "+callbacks.dies={_target_: tests.kills.Dies}", "resume=auto", "run=run"])
    once.straight()
    return once


@pytest.fixture
def runs(once: Killed) -> Killed:
    """Of the program; the uninterrupted one is over."""
    return Killed(once.home, once.work)


def test_a_signal_ends_a_run_wherever_it_is(runs: Killed) -> None:
    for place, (number, printed) in {
        "on_fit_start": (signal.SIGINT, "stopped"),
        "on_validation_start": (signal.SIGTERM, "stopped after batch 4; to go on"),
        "on_train_batch_end": (signal.SIGTERM, "stopped after batch 1; to go on"),
        "before unlabeled.app.run.train.report": (signal.SIGINT, "stopped"),
    }.items():
        status, screen = runs.attempt(place, Fate(place, 1, number))
        assert status == 128 + number and printed in screen.splitlines()[-1], (place, screen)
        assert screen.count("stopped") == 1
        assert runs.attempt(place)[0] == 0
        assert_equal_runs(runs.home / "straight" / "run", runs.home / place / "run")


IMPORTING = """
import os, runpy, sys
_, module, number, *sys.argv[:] = sys.argv
class Finder:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Finder())
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("program", "module", "number"),
    [("train", "hydra", 2), ("train", "torch", 15), ("evaluate", "omegaconf", 15)],
)
def test_a_signal_amid_the_imports_is_one_line(program: str, module: str, number: int, tmp_path: Path) -> None:
    words = [f"output={tmp_path}", "budget.batches=1"] if program == "train" else ["checkpoint=nowhere"]
    command = [sys.executable, "-c", IMPORTING, module, str(number), f"{program}.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "stopped\n")


SWALLOWED = """
import os, signal, sys
from unlabeled.app.cli import main as cli
from unlabeled.app.cli import signals
class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)  # whatever is raised in here is lost
@cli.guard
def job(config):
    signals.stop_cleanly()
    if sys.argv[1] == "lost":
        signals.TIMEOUT = 0.2
        Lost()
        __import__("time").sleep(60)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except SystemExit:
        raise ImportError("cannot import this")
cli.check_types = lambda config: None
cli.run(lambda: job({}))
"""


@pytest.mark.parametrize("how", ["lost", "made another exception of"])
def test_whoever_swallows_it_a_signal_ends_the_program(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED, how], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_what_takes_too_long_after_sigterm_is_broken_off(runs: Killed) -> None:
    fate = Fate("on_validation_start", 2, signal.SIGTERM, sleep=100)
    words, runs.work = list(runs.work), [*runs.work, "callbacks.checkpoints.grace=1"]
    began = time.monotonic()
    status, screen = runs.attempt("late", fate)
    assert status == 143 and "stopped; 1 s did not suffice to save; to go on from the last checkpoint" in screen
    assert time.monotonic() - began < 50
    runs.work = words
    assert runs.attempt("late")[0] == 0
    assert batches(runs.home / "late" / "run") == batches(runs.home / "straight" / "run")


def test_sigterm_while_data_are_packed_leaves_nothing_half_made(runs: Killed) -> None:
    packed = runs.home / "other"
    runs.work = [*(word for word in runs.work if not word.startswith("data_packed=")), f"data_packed={packed}"]
    status, _ = runs.attempt("packing", Fate("before numpy.save", 2, signal.SIGTERM))
    assert status == 143 and len(list(packed.iterdir())) == 1  # the first split, whole
    assert runs.attempt("packing")[0] == 0


FULL = {  # what there is no room for -> from where on, and the room
    "config.yaml": Fate("start", room=0),
    "metrics.csv": Fate("on_train_batch_end", 5, room=100),
    "last.ckpt": Fate("on_train_batch_end", 6, room=4000),
    "samples": Fate("on_validation_end", 2, room=3000),
    "curves": Fate("before unlabeled.app.run.train.report", 1, room=100),
}


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(runs: Killed) -> None:
    for name, fate in FULL.items():
        status, screen = runs.attempt(name, fate)
        (line,) = [line for line in screen.splitlines() if line.startswith("error: ")]
        assert status == 1 and "File too large" in line, (name, screen)
        assert runs.attempt(name)[0] == 0
        assert_equal_runs(runs.home / "straight" / "run", runs.home / name / "run")


# Other processes, and the network


def test_a_killed_process_ends_the_others_and_the_run_goes_on(tmp_path: Path) -> None:
    words = [*small(tmp_path / "run"), "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    words += ["trainer.precision=32-true", "trainer.sync_batchnorm=false", "resume=auto", "data.batch_size=1"]
    command = ["train.py", *words, signals("SIGKILL", 6)]
    place = os.environ | {"PYTHON_EXEC": warm.python()}
    first = warm.Popen(*command, env=place)
    _, printed = first.communicate(300)
    assert time.time() - (tmp_path / "run" / "signalled-SIGKILL").stat().st_mtime < 100
    assert first.returncode == 1 and "process 1 was killed by SIGKILL" in printed
    assert "Traceback" not in printed, printed  # the other may be ended before it can say what it has lost
    second = warm.Popen(*command, env=place)
    _, printed = second.communicate(300)
    assert second.returncode == 0 and batches(tmp_path / "run") == [2, 4, 6, 8, 10, 12], printed


class Answers(http.server.BaseHTTPRequestHandler):
    """As much of W&B's server as a run takes at its start."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode(errors="replace")
        owner = {"id": "e", "name": "me", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}
        bucket = {"id": "b", "name": "b", "displayName": "b", "config": "{}", "historyLineCount": 0}
        bucket |= {"project": {"id": "p", "name": "p", "entity": owner}}
        answer: Any = {"viewer": owner, "serverInfo": {"features": []}}
        if "upsertbucket" in asked.lower():
            answer = {"upsertBucket": {"bucket": bucket, "inserted": True}}
        text = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A server of W&B's on this machine; `shutdown` and `server_close` cut the network."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    settings = {"API_KEY": "0" * 40, "BASE_URL": f"http://127.0.0.1:{server.server_port}"}
    for name, value in (settings | {"INIT_TIMEOUT": "10", "FINISH_TIMEOUT": "2"}).items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield server
    server.shutdown()
    server.server_close()


def test_without_a_network_wandb_goes_offline(program: Any, online: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    run = tmp_path / "run"
    result = program("train", *small(run), "logger=wandb")
    assert result.status == 0 and "note: W&B cannot be reached; afterwards, wandb sync" in result.err, result.err
    (file,) = run.glob("wandb/*run-*/*.wandb")
    assert file.parent.name.startswith("offline-run-") and b"val/loss" in file.read_bytes()


def test_a_network_that_is_lost_holds_nothing_up(online: Any, tmp_path: Path, capsys: Any) -> None:
    logger = WandB(tmp_path)
    logger.log_metrics({"train/loss": 1.0}, 1)
    assert not logger.experiment.offline
    online.shutdown()
    online.server_close()
    began = time.monotonic()
    logger.log_metrics({"train/loss": 0.25}, 2)
    close(logger, False)
    assert time.monotonic() - began < 20
    assert "note: W&B did not take all in time: afterwards, wandb sync" in capsys.readouterr().err
    (file,) = tmp_path.glob("wandb/run-*/*.wandb")
    deadline = time.monotonic() + 30
    while b"train/loss" not in file.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert b"train/loss" in file.read_bytes()
