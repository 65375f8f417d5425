"""A resumed run whose config is not what it was: what changed, and whether it may."""

from typing import Any

from omegaconf import OmegaConf

from unlabeled.app.cli import composed
from unlabeled.errors import UserError

Leaves = dict[tuple[str, ...], Any]

FREE = ("trainer", "logger", "callbacks")  # leave a run's past as it was
PLACES = ("run", "output", "data_root", "data_packed", "data.root", "data.packed")  # change no number
ABOUT = ("names", "resume", "resume_changed", "changes")  # of the command, not of the run
NOTHING = object()


def leaves(node: Any, at: tuple[str, ...] = ()) -> Leaves:
    """Nested dictionaries as one; lists are values."""
    if not isinstance(node, dict) or not node:
        return {at: node}
    return {place: value for key, child in node.items() for place, value in leaves(child, (*at, str(key))).items()}


def differences(before: Leaves, after: Leaves) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """What differs, as (before, after); NOTHING where one has no such key."""
    found = {place: (before.get(place, NOTHING), after.get(place, NOTHING)) for place in {**before, **after}}
    return {place: pair for place, pair in found.items() if pair[0] != pair[1] and place[0] not in ABOUT}


def change(config: dict[str, Any], before: list[str], after: list[str], run: str) -> None:
    """Change a resolved config by what other words, or another place of the run's folder, make of every key."""

    def meant(words: list[str], run: str) -> Leaves:
        fresh = composed("train", words)
        fresh.run = run
        return leaves(OmegaConf.to_container(fresh, resolve=True))

    if before == after and run == config["run"]:
        return
    for place, (_, value) in differences(meant(before, config["run"]), meant(after, run)).items():
        if value is NOTHING:
            _remove(config, place)
            continue
        node = config
        for key in place[:-1]:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[place[-1]] = value
    config["run"] = run


def _remove(node: dict[str, Any], place: tuple[str, ...]) -> None:
    """A key, and what only it was there for."""
    key, *rest = place
    child = node.get(key)
    if rest and isinstance(child, dict):
        _remove(child, tuple(rest))
    if not rest or child == {}:
        node.pop(key, None)


def same_parts(names: dict[str, Any], words: list[str], run: Any, asked: bool) -> None:
    """Refuse another model or data than the run to go on with has."""
    for word in words:
        group, _, name = word.partition("=")
        if group in ("model", "data") and names.get(group, name) != name and not asked:
            raise UserError(f"{run} is {group}={names[group]}: leave {word} out, or start a run of its own with it")


def approve(then: dict[str, Any], now: dict[str, Any], asked: bool) -> list[str]:
    """What changed since a checkpoint was written, as "KEY=VALUE (was VALUE)".

    Raises UserError where it is more than a run may change, and nobody asked for it.
    """
    told, refused = [], []
    for place, (before, after) in differences(leaves(then), leaves(now)).items():
        key = ".".join(place)
        if key in PLACES or place[-1] == "folder" or "budget" in place:
            continue  # a longer budget is what most resume for
        line = f"{key}={_show(after)} (was {_show(before)})"
        told.append(line)
        if place[0] not in FREE:
            refused.append(line)
    if refused and not asked:
        more = f" and {len(refused) - 5} more" * (len(refused) > 5)
        raise UserError(
            f"{', '.join(refused[:5])}{more}: a resumed run keeps its config; only budget.*, trainer.*, logger.* and "
            "callbacks.* may change, unless you say resume_changed=true"
        )
    return told


def _show(value: Any) -> str:
    return "none" if value is NOTHING else "null" if value is None else str(value)
