"""The contract of every method, for methods of one's own too: `unlabeled check model=NAME`, or `check` in a test."""

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from unlabeled import configs
from unlabeled.app.run.build import silence_lightning
from unlabeled.contract import checks
from unlabeled.contract.bench import Bench, Case, composed, kind
from unlabeled.contract.measures import cycle_error, doubt, error, translation_error
from unlabeled.errors import UserError, error_line
from unlabeled.library.session import as_it_was, one_line

__all__ = ["Case", "check", "cycle_error", "doubt", "error", "examine", "translation_error"]


class Verdict(NamedTuple):
    promise: str
    kept: bool | None  # None: there was nothing to hold it against
    why: str = ""


def check(case: Case | str, *words: str, config_dir: str | Path | None = None) -> None:
    """Hold a method to the contract; AssertionError names every promise that it breaks.

    case: a model's name, or a Case, which states more of it: what moves when, what falls as it learns.
    words: KEY=VALUE each; smaller networks make it faster. data=NAME, where the tiny images here do not fit.
    """
    with configs.using(config_dir):
        broken = [verdict for verdict in examine(case, *words) if verdict.kept is False]
    assert not broken, "\n".join(f"{verdict.promise}: {verdict.why}" for verdict in broken)


def examine(case: Case | str, *words: str) -> Iterator[Verdict]:
    """What becomes of each promise, one after the other. Raises UserError for words that make no config."""
    with tempfile.TemporaryDirectory() as place, as_it_was():
        silence_lightning()
        composed.cache_clear()  # it may be of another folder of configs
        case = Case(case, turns=None, still=None) if isinstance(case, str) else case
        words = (*case.overrides, *words)
        with one_line([f"model={case}", *words]):
            own = [] if any(word.startswith("data=") for word in words) else kind(case.model)
            case = replace(case, overrides=[*own, *words])
            composed((f"model={case}", *case.overrides))
        for i, promise in enumerate(checks.ALL):
            folder = Path(place) / str(i)
            folder.mkdir()
            yield _verdict(promise, case, Bench(folder, Path(place) / "packed"))


def _verdict(promise: Callable[..., Any], case: Case, bench: Bench) -> Verdict:
    name = promise.__name__.replace("_", " ")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            promise(case, bench.build, bench.folder)
        except checks.Unknown as unknown:
            return Verdict(name, None, str(unknown))
        except AssertionError as broken:
            return Verdict(name, False, str(broken).partition("\n")[0] or _line(broken))
        except Exception as broken:
            return Verdict(name, False, f"{error_line(broken)} ({_line(broken)})")
    return Verdict(name, True)


def _line(error: BaseException) -> str:
    """Where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.line} in {os.path.basename(last.filename)}, line {last.lineno}"


USAGE = """Hold a method to the contract that every method of Unlabeled keeps, on a few tiny images.

    COMMAND model=NAME                               one of Unlabeled's own
    COMMAND --config-dir FOLDER model=NAME           one of yours: FOLDER/conf/model/NAME.yaml
    COMMAND model=NAME model.encoder.width=4         any other words: smaller networks are faster

A test of yours can state more, what moves when and what falls as it learns: see unlabeled.contract.check."""


def main() -> None:
    """`unlabeled check model=NAME KEY=VALUE ...`"""
    from unlabeled.commands import start

    try:
        words = configs.taken(sys.argv[1:])
        models = [word.partition("=")[2] for word in words if word.startswith("model=")]
        if not words or {"--help", "-h"} & set(words):
            print(USAGE.replace("COMMAND", " ".join(start("check"))))
            return
        if not models:
            raise UserError("say which method: model=NAME")
        failed = 0
        for promise, kept, why in examine(models[-1], *(word for word in words if not word.startswith("model="))):
            state = "passed" if kept else "FAILED" if kept is False else "skipped"
            failed += kept is False
            print(f"{state:<8} {promise}{f': {why}' if why else ''}", flush=True)
    except UserError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    sys.exit(f"{models[-1]} breaks {failed} of {len(checks.ALL)} promises" if failed else 0)
