"""Sweeps over models with different keys: a job whose overrides make no valid config fails alone, with one line."""

from collections.abc import Callable
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


def isolate_job_errors(explain: Callable[[BaseException, list[str]], str], is_choice: Callable[[str], bool]) -> None:
    """Make Hydra continue where a config cannot be composed: the job finds the reason under `refused`.

    The sweep's own config, in which nothing is chosen yet, need not have the keys that only jobs have.
    """
    load_all, load_one = ConfigLoaderImpl.load_configuration, ConfigLoaderImpl.load_sweep_config
    if getattr(load_one, "keeps_others", False):
        return

    def load_configuration(
        self: Any, config_name: str | None, overrides: list[str], run_mode: RunMode, **more: Any
    ) -> DictConfig:
        load = lambda words: load_all(self, config_name, words, run_mode, **more)
        try:
            return load(overrides)
        except CONFIG_ERRORS as error:
            swept = any(is_choice(word) and "," in word for word in overrides)
            if run_mode != RunMode.MULTIRUN or not swept or isinstance(error, OverrideParseException):
                raise
        return as_given(load, overrides)

    def load_sweep_config(self: Any, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        load = lambda words: load_one(self, master_config, words)
        try:
            return load(sweep_overrides)
        except CONFIG_ERRORS as error:
            line = explain(error, sweep_overrides)
        config = as_given(load, sweep_overrides)
        with open_dict(config):
            config.refused = line
        return config

    load_sweep_config.keeps_others = True  # type: ignore[attr-defined]
    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[assignment, method-assign]
    ConfigLoaderImpl.load_sweep_config = load_sweep_config  # type: ignore[method-assign]


def as_given(load: Callable[[list[str]], DictConfig], words: list[str]) -> DictConfig:
    """The config of those words that make one; it says that it has all."""
    accepted: list[str] = []
    for word in words:
        try:
            load([*accepted, word])
        except CONFIG_ERRORS:
            continue
        accepted.append(word)
    config = load(accepted)
    with open_dict(config):
        config.hydra.overrides.task = [word for word in words if not word.lstrip("+~").startswith("hydra")]
    return config
