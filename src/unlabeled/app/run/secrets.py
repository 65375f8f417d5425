"""Passwords in a config: removed from what is written, passed on to the run's own processes."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MARK = "***"
ADDRESS = re.compile(r"(?<=://)([^\s:/@]*):[^\s\"']+(?=@)")  # user:password@
QUERY = re.compile(r"([?&]\w*(?:password|passwd|token|secret|key)=)[^\s&\"']+", re.I)
NAME = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:$|_)", re.I)
VARIABLE = "UNLABELED_HIDDEN"  # environment variable that passes the config to a run's own processes


def redact(tree: Any) -> Any:
    """The same without passwords in addresses, and without the values of environment variables such as *_TOKEN."""
    if isinstance(tree, dict):
        return {key: redact(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [redact(value) for value in tree]
    if not isinstance(tree, str):
        return tree
    text = QUERY.sub(rf"\1{MARK}", ADDRESS.sub(rf"\1:{MARK}", tree))
    for name, value in os.environ.items():
        if NAME.search(name) and len(value) >= 8 and value in text and not os.path.exists(value):
            text = text.replace(value, MARK)
    return text


def restore(tree: Any, source: Any) -> Any:
    """`redact` undone wherever `source` has the redacted value at the same place."""
    if isinstance(tree, dict) and isinstance(source, dict):
        return {key: restore(value, source.get(key)) for key, value in tree.items()}
    if isinstance(tree, list) and isinstance(source, list) and len(tree) == len(source):
        return [restore(*both) for both in zip(tree, source, strict=True)]
    return source if isinstance(tree, str) and MARK in tree and redact(source) == tree else tree


@contextmanager
def pass_to_children(config: dict[str, Any]) -> Iterator[None]:
    """Let processes that are started in this block `restore` their config."""
    if redact(config) != config:
        os.environ[VARIABLE] = json.dumps(config)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def receive_from_parent(config: dict[str, Any]) -> dict[str, Any]:
    """The restored config, in one of these processes; processes that it starts do not get it."""
    return restore(config, json.loads(os.environ.pop(VARIABLE, "{}")))
