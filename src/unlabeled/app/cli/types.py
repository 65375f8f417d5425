"""Types and ranges of a config's values, checked before anything starts.

The type of a value comes from the constructor that takes it, or from TYPES; its range from its name.
"""

import inspect
import math
import shlex
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hydra._internal.utils import _locate
from omegaconf import DictConfig, OmegaConf

from unlabeled.app.cli.main import composed, is_choice
from unlabeled.commands import quoted
from unlabeled.errors import UserError, suggest

TYPES: dict[str, Any] = {  # of keys that no constructor takes
    "seed": int,
    "budget.epochs": int | None,
    "budget.batches": int | None,
    "budget.examples": int | None,
    "budget.images": int | None,
    "accumulate": int,
    "compile": bool | str | None,
    "channels_last": bool,
    "matmul_precision": Literal["highest", "high", "medium"],  # torch's own words
    "fused": bool,
    "output": str | None,
    "run": str | None,
    "resume": str | None,
    "allow_config_change": bool,
    "data_root": str,
    "data_packed": str | None,
    "checkpoint": str | None,
    "samples": str | None,
    "reference": str | None,
    "size": int | None,
    "channels": int | None,
    "weights": Literal["averaged", "live"],
    "device": str,
    "devices": int,
    "trusted_packages": Sequence[str],
    "data.root": str | None,
    "data.packed": str | None,
    "data.batch_size": int | None,
    "evaluation.split": str,
    "evaluation.samples": int | None,
    "evaluation.codes": int,
    "evaluation.extractor": str,
    "evaluation.extractor_weights": str | None,
    "evaluation.probe_data": str | None,
    "evaluation.lpips_weights": str | None,
    "evaluation.sampler": str,
    "evaluation.pictures": int,
}
GROUPS = ("budget", "model", "data", "trainer", "callbacks", "logger", "evaluation")
TYPES |= dict.fromkeys(GROUPS, Mapping[str, Any])
KEYS = {name.partition(".")[0] for name in TYPES}  # at the top of a config
NARROWER: dict[str, Any] = {  # than what Lightning's constructor takes
    "trainer.accelerator": Literal["cpu", "gpu", "cuda", "mps", "auto"],
    "trainer.devices": Literal["auto", -1] | int | Sequence[int],
    "trainer.num_nodes": Literal["auto"] | int,
}


class Range(NamedTuple):
    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # `low` itself is too low
    below: bool = False  # `high` itself is too high

    def holds(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        high = (
            ""
            if self.high == math.inf
            else f" and below {self.high:g}"
            if self.below
            else f" and at most {self.high:g}"
        )
        return low + high


ANY, NOT_NEGATIVE, POSITIVE, COUNT = Range(), Range(0), Range(0, above=True), Range(1)
SHARE, BELOW_ONE, WITHIN = Range(0, 1), Range(0, 1, below=True), Range(0, 1, True, True)


def _named(*rows: tuple[Range, str]) -> dict[str, Range]:
    return {name: span for span, names in rows for name in names.split()}


# Ranges of numbers by their names. Other numbers that our own constructors take: whole ones are 1 or more, the rest not
# negative.
WHOLE = _named(
    (Range(0, 2**63 - 1), "seed split_seed label_seed"),
    (
        NOT_NEGATIVE,
        "class_subset layers attention numbers pool searched unrolled_steps grace shown widest val test trial count",
    ),
    (COUNT, "num_nodes check_val_every_n_epoch"),
)
REAL = _named(
    (NOT_NEGATIVE, "lr weight_decay limit_val_batches"),
    (POSITIVE, "temperature scales min_std norm deviation radius ratio clip_value labels logistic limit_train_batches"),
    (
        SHARE,
        "labelled_share share pretraining until warmup start at decay flip jitter grey blur p target cutout",
    ),
    (SHARE, "translation style_mixing_prob"),
    (BELOW_ONE, "val test betas momentum"),
    (WITHIN, "rho"),
    (ANY, "mean alpha truncation centres"),
)
INFINITE = ("ramp",)  # names of numbers that may be infinite


def check_values(config: DictConfig, words: Sequence[str] = ()) -> None:
    """Raise UserError for a value of the wrong type or out of its range, outer keys first.

    `words` are those of the command line. Two kinds of values are converted in place: whole numbers in a list of floats
    (torch refuses `betas=[0,0.9]`), and numbers where a word is expected, as in `run=2024`.
    """
    if "refused" in config:  # app/cli/sweep_errors.py
        raise UserError(config.refused)
    known = KEYS & set(map(str, config))
    text = OmegaConf.to_yaml(config)
    begun = config.get("resume") not in (None, "auto")  # its overrides may be of keys that are gone
    for key in () if begun else map(str, config):
        if key not in known and f"${{{key}" not in text:
            raise UserError(f"there is no key {key}, and nothing reads it: {suggest(key, known)}")
    unknown = set()
    for path, node, key, wanted, ours in _values(config):
        value = _plain(node, key)
        if wanted is Any:
            unknown.add(path)
        elif not fits(value, wanted) and fits(value, float) and fits("word", wanted):
            given = [word.partition("=")[2] for word in words if word.partition("=")[0] == path]
            node[key] = value = given[-1] if given else str(value)  # 1_0 and 1.50 as they were typed
        _check(path, value, wanted, ours)
        if isinstance(value, list) and float in _leaves(wanted) and any(type(entry) is int for entry in value):
            node[key] = [float(entry) if type(entry) is int else entry for entry in value]
    _check_kinds(config, words, [word for word in words if word.partition("=")[0] in unknown])


def _check(path: str, value: Any, wanted: Any, ours: bool) -> None:
    if value == "":
        raise UserError(f"{path}= is empty: say {path}=VALUE, or leave it out")
    if not fits(value, wanted):
        hint = ""
        if isinstance(value, list | dict) and fits("", wanted):
            hint = f"; as a word it is {shlex.quote(quoted(path, _said(value)))}"
        raise UserError(f"{path}={_said(value)}: {path} takes {_kind(wanted)}{hint}")
    name = path.rpartition(".")[2]
    span = _range(name, wanted, ours)
    for number in _numbers(value):
        if not math.isfinite(number) and not (name in INFINITE and number > 0):
            raise UserError(f"{path}={_said(value)}: {path} takes a finite number")
        if not span.holds(number):
            raise UserError(f"{path}={_said(value)}: {path} takes {_kind(wanted)}, {span}")


def _check_kinds(config: DictConfig, words: Sequence[str], given: Sequence[str]) -> None:
    """Refuse a value of another type than the one it replaces, where nothing else says which type it must have."""
    given = [word for word in given if not is_choice(word)]
    if not given:
        return
    plain = composed("train" if "trainer" in config else "evaluate", [word for word in words if word not in given])
    for word in given:
        key = word.partition("=")[0]
        before, after = OmegaConf.select(plain, key), OmegaConf.select(config, key)
        if before is not None and after is not None and after != "auto" and not _same_kind(before, after):
            raise UserError(f"{word}: {key} takes {_kind(type(before))} (without this it is {before})")


def _same_kind(before: Any, after: Any) -> bool:
    kinds = [kind for kind in (bool, int | float, str) if isinstance(before, kind)]
    return isinstance(after, kinds[0] if kinds else type(before)) and isinstance(before, bool) == isinstance(
        after, bool
    )


# The values to check


def _values(config: DictConfig) -> Iterator[tuple[str, DictConfig, str, Any, bool]]:
    """Path, parent, name and type of every value that is not an interpolation, and whether our own code takes it.

    Outer keys first, because inner values may be interpolated from them.
    """
    level = [("", config)]
    while level:
        below = []
        for path, node in level:
            target = node._get_node("_target_") if "_target_" in node else None
            taker = str(node["_target_"]) if target is not None else ""
            takes, more = parameters(taker)
            for name in map(str, node):
                child, at = node._get_node(name), f"{path}.{name}".lstrip(".")
                assert child is not None and not isinstance(child, list)
                if name.startswith("_") or child._is_interpolation() or child._is_missing():
                    continue
                if name not in takes and not more:
                    who = taker.rpartition(".")[2]
                    raise UserError(f"there is no key {at}: {who} refuses {name}; {suggest(name, takes)}")
                wanted = NARROWER.get(at) or (takes if taker else TYPES).get(at if not taker else name, Any)
                yield at, node, name, wanted, taker.startswith("unlabeled.") or not taker
                child = node._get_node(name)
                if isinstance(child, DictConfig) and not child._is_none():
                    below.append((at, child))
        level = below


@cache
def parameters(target: str) -> tuple[dict[str, Any], bool]:
    """The types of what a class or function takes, by name; and whether it may take more than that."""
    try:
        found = _locate(target)
    except (ImportError, ValueError):
        return {}, True  # no target, or a missing one: instantiation reports it
    if not inspect.isclass(found):
        return _hints(found)
    takes: dict[str, Any] = {}
    for owner in found.__mro__:
        if "__init__" in vars(owner):
            inherited, more = _hints(vars(owner)["__init__"])
            takes = inherited | takes
            if not more:
                return takes, False
    return takes, True


def _hints(function: Any) -> tuple[dict[str, Any], bool]:
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return {}, True
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # names that exist for type checkers only
        hints = {}
    named = [p.name for p in given if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"]
    return {name: hints.get(name, Any) for name in named}, any(p.kind is p.VAR_KEYWORD for p in given)


def _plain(node: DictConfig, key: str) -> Any:
    """A value as plain lists and dictionaries, interpolations resolved."""
    child = node._get_node(key)
    return (
        OmegaConf.to_container(child, resolve=not isinstance(child, DictConfig))
        if OmegaConf.is_config(child)
        else node[key]
    )


# Types of values


def fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value has an annotated type. Modules, functions and objects are made from groups of keys."""
    kind, parts = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts and not isinstance(value, bool) | (True in parts)
    if kind is Any or isinstance(kind, str | typing.TypeVar):
        return True
    if kind in (None, type(None)):
        return value is None
    if kind in (bool, str, Path):
        return isinstance(value, bool if kind is bool else str)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    if kind is tuple and parts and parts[-1] is not ...:
        return isinstance(value, list) and len(value) == len(parts) and all(map(fits, value, parts))
    if kind in LISTS:
        return isinstance(value, list) and all(fits(entry, parts[0] if parts else Any) for entry in value)
    return isinstance(value, dict)


SEVERAL = {float: "numbers", int: "whole numbers", str: "words"}
LISTS = (list, tuple, set, frozenset, Sequence, Iterable)


def _leaves(wanted: Any) -> set[Any]:
    """The types of a value, or of its entries."""
    kind, parts = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if kind in (typing.Union, types.UnionType, *LISTS):
        return set().union(*(_leaves(part) for part in parts))
    return {kind}


def _range(name: str, wanted: Any, ours: bool) -> Range:
    leaves = _leaves(wanted)
    if float in leaves:
        return REAL.get(name, NOT_NEGATIVE if ours else ANY)
    if int in leaves:
        return WHOLE.get(name, COUNT if ours else ANY)
    return ANY


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _said(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_said, value))}]"
    if isinstance(value, dict):
        return "{...}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _kind(wanted: Any) -> str:
    """`a whole number or null`"""
    kind, parts = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if kind in (typing.Union, types.UnionType):
        told = dict.fromkeys(_kind(part) for part in parts if not getattr(part, "__module__", "").startswith("torch"))
        return " or ".join(told)
    if kind is Literal:
        return " or ".join(map(str, parts))
    if kind in LISTS:
        several = next((words for of, words in SEVERAL.items() if of in _leaves(wanted)), "")
        return f"a list of {len(parts)} {several}" if kind is tuple else f"a list of {several}".removesuffix(" of ")
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", Path: "a path"}
    return "null" if kind in (None, type(None)) else names.get(kind, "a group of keys")
