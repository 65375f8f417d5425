"""Commands to paste into a shell, quoted for it and for Hydra; and which overrides change no number."""

import os
import re
import shlex
from collections.abc import Iterable

from unlabeled import configs

PLAIN = re.compile(r"[A-Za-z0-9_./%@:+-][\w./%@:+$*?|\\ -]*", re.ASCII)  # words that Hydra reads as they are
NOT_WORDS = re.compile(r"null|true|false|[+-]?(inf|nan|[\d_]*\.?[\d_]*(e[+-]?\d+)?)", re.I)  # values of other types
STARTED = "UNLABELED_COMMAND"  # how this program was started, where by no file; for the processes that it starts too

# Keys of train.py and evaluate.py that say where files lie and what computes: they change no number
PLACES = {"run", "output", "resume", "data_root", "data_packed", "data.root", "data.packed", "checkpoint"}
PLACES |= {"device", "devices"}


def key_of(word: str) -> str:
    """The key of an override: KEY=VALUE, +KEY=VALUE, ~KEY."""
    return word.lstrip("+~").partition("=")[0]


def without_places(words: Iterable[str]) -> list[str]:
    """The overrides that may change a number."""
    return [word for word in words if key_of(word) not in PLACES]


def quoted(key: str, value: object) -> str:
    """KEY=VALUE, with quotes around a value that Hydra would misread."""
    text = str(value)
    if isinstance(value, int | float):
        return f"{key}={text}"
    if PLAIN.fullmatch(text) and not NOT_WORDS.fullmatch(text) and text == text.strip():
        return f"{key}={text}"
    # only before a quote does Hydra read a backslash as an escape
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text)
    return f'{key}="{escaped}"'


def start(program: str) -> list[str]:
    """The beginning of a command: `python train.py` in a checkout, else `unlabeled train`."""
    spoken = os.environ.get(STARTED) or ("unlabeled" if configs.INSTALLED else "")
    return [*spoken.split(), program] if spoken else ["python", f"{program}.py"]


def command(program: str, *words: str) -> str:
    """`python PROGRAM.py WORDS`, quoted for a shell, with the user's own folder of configs if there is one."""
    return shlex.join([*start(program), *configs.option(), *words])


def spoken(text: str) -> str:
    """The same text with programs called as they are started here."""
    for program in ("train", "evaluate"):
        text = text.replace(f"python {program}.py", " ".join(start(program)))
    return text


def resume(run: object) -> str:
    """The command that resumes a run."""
    return command("train", quoted("resume", run))


def extra(name: str) -> str:
    """The command that installs an optional dependency, from the checkout or the wheel."""
    return (
        f'pip install "WHEEL[{name}]", with the .whl that this is from'
        if configs.INSTALLED
        else (f'pip install -e ".[{name}]" in the checkout')
    )
