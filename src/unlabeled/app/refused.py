"""A sweep's job whose words make no config: it alone fails, with its line, and the others run."""

from collections.abc import Callable
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException


def keep_others(explain: Callable[[BaseException, list[str]], str]) -> None:
    """Have Hydra's launchers, which compose each job's config, go on where that fails: the job reads `refused`."""
    load = ConfigLoaderImpl.load_sweep_config
    if getattr(load, "keeps_others", False):
        return

    def load_sweep_config(self: Any, master: DictConfig, words: list[str]) -> DictConfig:
        try:
            return load(self, master, words)
        except (HydraException, OmegaConfBaseException) as error:
            line = explain(error, words)
        kept: list[str] = []  # that make one: they say where the job's folder is
        for word in words:
            try:
                load(self, master, [*kept, word])
            except (HydraException, OmegaConfBaseException):
                continue
            kept.append(word)
        config = load(self, master, kept)
        with open_dict(config):
            config.refused = line
            config.hydra.overrides.task = [word for word in words if not word.lstrip("+~").startswith("hydra")]
        return config

    load_sweep_config.keeps_others = True  # type: ignore[attr-defined]
    ConfigLoaderImpl.load_sweep_config = load_sweep_config  # type: ignore[assignment, method-assign]
