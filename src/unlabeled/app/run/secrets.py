"""Passwords that a config holds: for the processes that need them, and for no file."""

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
HANDED = "UNLABELED_HIDDEN"  # by which a run's own processes are told


def redact(tree: Any) -> Any:
    """The same without passwords in addresses, and without what environment variables with telling names hold."""
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
    """`hidden` undone, wherever `source` has at the same place what was hidden."""
    if isinstance(tree, dict) and isinstance(source, dict):
        return {key: restore(value, source.get(key)) for key, value in tree.items()}
    if isinstance(tree, list) and isinstance(source, list) and len(tree) == len(source):
        return [restore(*both) for both in zip(tree, source, strict=True)]
    return source if isinstance(tree, str) and MARK in tree and redact(source) == tree else tree


@contextmanager
def pass_to_children(config: dict[str, Any]) -> Iterator[None]:
    """Processes that are started now can reveal what their config.yaml hides."""
    if redact(config) != config:
        os.environ[HANDED] = json.dumps(config)
    try:
        yield
    finally:
        os.environ.pop(HANDED, None)


def receive_from_parent(config: dict[str, Any]) -> dict[str, Any]:
    """The config of one of these processes; none that it starts sees it again."""
    return restore(config, json.loads(os.environ.pop(HANDED, "{}")))
