"""Commands to paste into a shell: quoted for it and for Hydra, which reads each word behind it."""

import re
import shlex

PLAIN = re.compile(r"[A-Za-z0-9_./%@:+-][\w./%@:+$*?|\\ -]*", re.ASCII)  # what Hydra takes as it is, and as a word
TAKEN = re.compile(r"null|true|false|[+-]?(inf|nan|[\d_]*\.?[\d_]*(e[+-]?\d+)?)", re.I)  # by other values than words


def quoted(key: str, value: object) -> str:
    """KEY=VALUE, with quotes about a value that Hydra would read otherwise, or not at all."""
    text = str(value)
    if isinstance(value, int | float):
        return f"{key}={text}"
    if PLAIN.fullmatch(text) and not TAKEN.fullmatch(text) and text == text.strip():
        return f"{key}={text}"
    # before a quote, and only there, a backslash is not itself
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text)
    return f'{key}="{escaped}"'


def command(program: str, *words: str) -> str:
    """`python PROGRAM.py WORDS`, as a shell takes it."""
    return shlex.join(["python", f"{program}.py", *words])


def resume(run: object) -> str:
    """How to go on with a run."""
    return command("train", quoted("resume", run))


def extra(name: str) -> str:
    """How to install what a part needs: from the checkout, as no index has the project."""
    return f'pip install -e ".[{name}]" in the checkout'
