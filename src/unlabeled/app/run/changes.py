"""Changes of a run's config: on resuming, and for evaluation on other data."""

import copy
import math
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlabeled.app.cli.main import composed
from unlabeled.commands import PLACES
from unlabeled.errors import UserError, suggest

Leaves = dict[tuple[str, ...], Any]

CHANGEABLE = ("trainer", "logger", "callbacks")  # a run keeps its past whatever they are
SOURCES = ("data.source.path", "data.source.a", "data.source.b")  # folders that may move; other files there are noted
EVALUATE_KEYS = ("root", "packed")  # keys of data that evaluate.py has of its own
# keys of data that no evaluation sees
TRAINING_ONLY = ("epochs", "batch_size", "augment", "num_labels", "label_seed", "labelled_share", "seed")
OF_COMMAND = ("names", "resume", "allow_config_change", "changes")  # of the command, not of the run
ABSENT = object()


def flatten(node: Any, at: tuple[str, ...] = ()) -> Leaves:
    """The values of nested dictionaries by their paths; lists are values."""
    if not isinstance(node, dict) or not node:
        return {at: node}
    return {place: value for key, child in node.items() for place, value in flatten(child, (*at, str(key))).items()}


def differences(before: Leaves, after: Leaves) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """The values that differ, as (before, after); ABSENT where one has no such key."""
    found = {place: (before.get(place, ABSENT), after.get(place, ABSENT)) for place in {**before, **after}}
    return {place: pair for place, pair in found.items() if pair[0] != pair[1] and place[0] not in OF_COMMAND}


def apply_changes(
    config: dict[str, Any], before: list[str], after: list[str], run: str, data: dict[str, Any] | None = None
) -> None:
    """Set the keys of a resolved config that other overrides, or another run folder, change.

    `data`: values by their keys, set after the overrides.
    """

    def composed_with(words: list[str], run: str, data: dict[str, Any]) -> Leaves:
        fresh = composed("train", words)
        fresh.run = run
        for key, value in data.items():
            OmegaConf.update(fresh, key, value, merge=False, force_add=True)
        return flatten(OmegaConf.to_container(fresh, resolve=True))

    if before == after and run == config["run"] and not data:
        return
    for place, (_, value) in differences(
        composed_with(before, config["run"], {}), composed_with(after, run, data or {})
    ).items():
        if value is ABSENT:
            _remove(config, place)
            continue
        node = config
        for key in place[:-1]:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[place[-1]] = value
    config["run"] = run


def with_other_data(run: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """A run's config with `data`, new values for keys of its data: {"source": {"path": ...}}.

    Raises UserError for a key that its data do not have, or that has no effect on evaluation.
    """
    if not isinstance(data, dict):
        raise UserError(f"data={data}: say which key of the run's data is another: data.KEY=VALUE")
    config = copy.deepcopy(run)
    asked: dict[str, Any] = {}
    known = _keys(run["data"], "data.")
    for key, value in _asked(data, "data").items():
        top = key.split(".")[1]
        if top in EVALUATE_KEYS:
            if value is not None:
                config["data"][top] = value
            continue
        if key not in known:
            raise UserError(f"there is no key {key} of this run's data: {suggest(key, known)}")
        if top in TRAINING_ONLY:
            raise UserError(f"{key} is of training, and no evaluation sees it: leave it out")
        before = known[key]
        if (expected := _expected(key, before, value)) is not None:
            raise UserError(f"{key}={value}: {key} takes {expected}, as {_show(before)}")
        asked[key] = value
    if asked:
        words = list((run.get("names") or {}).get("overrides") or [])
        try:
            apply_changes(config, words, words, run["run"], asked)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(
                f"{', '.join(asked)}: the config that this run came from cannot be composed here "
                f"({str(error).splitlines()[0]}): only data.root and data.packed can change"
            ) from error
    return config


def _asked(node: dict[str, Any], at: str) -> dict[str, Any]:
    """Values by their keys; a group with a _target_ is one value."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        inside = isinstance(value, dict) and value and "_target_" not in value
        found |= _asked(value, f"{at}.{key}") if inside else {f"{at}.{key}": value}
    return found


def _keys(node: dict[str, Any], at: str) -> dict[str, Any]:
    """All keys of nested dictionaries, with their values."""
    found = {f"{at}{key}": value for key, value in node.items()}
    for key, value in node.items():
        found |= _keys(value, f"{at}{key}.") if isinstance(value, dict) else {}
    return found


def _expected(key: str, before: Any, value: Any) -> str | None:
    """What a key expects, where `value` is of another kind than before."""
    if isinstance(before, dict):
        return None if isinstance(value, dict) else "several keys"
    if key == "data.shape":
        numbers = isinstance(value, list) and len(value) == len(before) and all(type(n) is int and n > 0 for n in value)
        return None if numbers else f"{len(before)} numbers above 0"
    if isinstance(before, int | float) and not isinstance(before, bool):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if number and (value > 0 or key != "data.size") else "a number"
    return None


def _remove(node: dict[str, Any], place: tuple[str, ...]) -> None:
    """Remove a key, and the groups that become empty."""
    key, *rest = place
    child = node.get(key)
    if rest and isinstance(child, dict):
        _remove(child, tuple(rest))
    if not rest or child == {}:
        node.pop(key, None)


def check_same_parts(names: dict[str, Any], words: list[str], run: Any, asked: bool) -> None:
    """Refuse another model or data than those of the run to resume."""
    for word in words:
        group, _, name = word.partition("=")
        if group in ("model", "data") and names.get(group, name) != name and not asked:
            raise UserError(f"{run} is {group}={names[group]}: leave {word} out, or start a run of its own with it")


def check_changes(then: dict[str, Any], now: dict[str, Any], asked: bool) -> list[str]:
    """The changes since a checkpoint was written, as "KEY=VALUE (was VALUE)".

    Raises UserError for those that a run may not make, unless the user `asked` for them.
    """
    changed, refused = [], []
    for place, (before, after) in differences(flatten(then), flatten(now)).items():
        key = ".".join(place)
        if key in PLACES or key in SOURCES or place[-1] == "folder" or "budget" in place:
            continue  # a longer budget is what most resume for
        line = f"{key}={_show(after)} (was {_show(before)})"
        changed.append(line)
        if place[0] not in CHANGEABLE:
            refused.append(line)
    if refused and not asked:
        more = f" and {len(refused) - 5} more" * (len(refused) > 5)
        raise UserError(
            f"{', '.join(refused[:5])}{more}: a resumed run keeps its config; only budget.*, trainer.*, logger.* and "
            "callbacks.* may change, unless you say allow_config_change=true"
        )
    return changed


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(map(str, value))
    return "none" if value is ABSENT else "null" if value is None else str(value)
