"""The command `unlabeled`: what it says, how it calls itself, and the wheel that brings it."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import train
from unlabeled import commands, configs, console

ROOT = Path(__file__).parents[2]
SAID = {
    "": (0, "unlabeled train +train a method"),
    "--help": (0, "unlabeled COMMAND --help tells more"),
    "--version": (0, r"^unlabeled \S+"),
    "trian": (1, r"^error: there is no command trian: did you mean train\?$"),
    "nosuch": (1, "^error: there is no command nosuch: there are: check, evaluate, train$"),
    "model=vae": (
        1,
        "^error: model=vae: say a command before it, train or evaluate or check: unlabeled train model=vae$",
    ),
    "train --help": (0, "    unlabeled train resume=RUN "),
    "evaluate --help": (0, "    unlabeled evaluate checkpoint=RUN "),
    "train model=vea": (1, r"^error: there is no model named vea: did you mean vae\?$"),
    "evaluate checkpoint=nosuch": (1, "^error: no such checkpoint: nosuch"),
    "train evry=3": (1, "unlabeled train --cfg job prints all keys|the top has"),
    "train --config-dir": (1, "^error: --config-dir takes a folder: --config-dir FOLDER$"),
    "check": (0, "unlabeled check model=NAME"),
    "check seed=0": (1, "^error: say which method: model=NAME$"),
    "check model=vea": (1, r"^error: there is no model named vea: did you mean vae\?$"),
}


@pytest.mark.parametrize("words", SAID)
def test_the_command_says_one_clear_thing(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(commands.STARTED, "")
    monkeypatch.setattr(sys, "argv", ["/bin/unlabeled", *words.split()])
    status, end = 0, ""
    from hydra.core.global_hydra import GlobalHydra

    from unlabeled.app.cli import main as cli
    from unlabeled.app.cli import signals

    GlobalHydra.instance().clear()
    monkeypatch.setattr(cli.JobStatus, "failed", 0)
    with signals.Listening():
        try:
            console.main()
        except SystemExit as stop:
            status, end = (1, str(stop.code)) if isinstance(stop.code, str) else (int(stop.code or 0), "")
    out, err = capsys.readouterr()
    expected, line = SAID[words]
    told = "\n".join([out, err, end]).strip()
    assert status == expected and re.search(line, told, re.M), told
    assert not expected or len(told.splitlines()) == 1


def test_a_program_calls_itself_as_it_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert commands.resume("RUN") == "python train.py resume=RUN"
    monkeypatch.setattr(configs, "INSTALLED", True)
    assert commands.resume("RUN") == "unlabeled train resume=RUN"
    monkeypatch.setenv(commands.STARTED, "python -m unlabeled")
    monkeypatch.setenv(configs.VARIABLE, str(tmp_path / "mine"))
    assert commands.resume("RUN") == f"python -m unlabeled train --config-dir {tmp_path}/mine resume=RUN"
    monkeypatch.chdir(tmp_path)
    assert commands.command("evaluate", "checkpoint=RUN").endswith("evaluate --config-dir mine checkpoint=RUN")


def test_a_job_can_be_sent_to_another_process() -> None:
    """As joblib, submitit and ray send it."""
    pickle = pytest.importorskip("cloudpickle")
    pickle.dumps(train.main.__wrapped__)


# as python -m unlabeled WORDS, twice in one process, as the imports take seconds
ONE_AFTER_ANOTHER = """
import json, runpy, sys
from hydra.core.global_hydra import GlobalHydra
for words in json.loads(sys.argv[1]):
    sys.argv = ["", *words]
    try:
        runpy.run_module("unlabeled", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    GlobalHydra.instance().clear()
import unlabeled
print("from", unlabeled.__file__)
"""


def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (facts,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "unlabeled = unlabeled.console:main" in facts.read_text()
    home = tmp_path / "home"
    home.mkdir()

    first = ["train", "model=vae", "data=digits", "budget.batches=2", "callbacks.pictures.count=0", "run=run"]
    second = ["evaluate", "checkpoint=run", "evaluation.extractor=none", "evaluation.pictures=2"]
    few = [f"~evaluation.evaluators.{name}" for name in ("probe", "likelihood", "clustering")]
    second += ["evaluation.codes=20", *few]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ONE_AFTER_ANOTHER,
            json.dumps([first, second]),
        ],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"from {tmp_path / 'site'}" in done.stdout
    assert "next         python -m unlabeled evaluate checkpoint=run" in done.stdout
    assert (home / "run" / "evaluation" / "evaluation.json").is_file()
