"""One command inside another program: a config composed as Hydra's jobs have it, and all as it was afterwards."""

import copy
import logging
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlabeled import configs
from unlabeled.app.cli import log
from unlabeled.app.cli import main as cli
from unlabeled.errors import UserError

LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def session(program: str, words: Sequence[str], config_dir: str | Path | None = None) -> Iterator[DictConfig]:
    """The config that `PROGRAM WORDS` has on the command line, for the program to be run in this process.

    What the program prints is kept for the run's log. Raises UserError for all that a user can mend.
    """
    for word in words:
        if not isinstance(word, str):
            raise UserError(f"{word!r}: each word is a string, 'KEY=VALUE'")
        if word.startswith("-"):
            raise UserError(f"{word}: flags belong to the command line: unlabeled {program} {word} ...")
    with configs.using(config_dir), as_it_was(), _speaking(program, words), one_line(words):
        given = [cli.shorthand(word) for word in words]
        sys.argv[1:] = given = cli.with_run_overrides(given) if program == "train" else given
        hydra, job = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(configs.CONF), version_base="1.3"):
                config = compose(program, given, return_hydra_config=True)
                HydraConfig.instance().set_config(copy.deepcopy(config))
                with open_dict(config):
                    del config["hydra"]
                with log.recorded():
                    yield config
        finally:
            GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra, job


@contextmanager
def one_line(words: Sequence[str] = ()) -> Iterator[None]:
    """What a user can put right is a UserError, whoever raised it."""
    try:
        yield
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(cli.explain(error, words)) from error


@contextmanager
def _speaking(program: str, words: Sequence[str]) -> Iterator[None]:
    """The command line that errors tell of."""
    before = sys.argv
    sys.argv = [program, *words]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def as_it_was() -> Iterator[None]:
    """Generators, filters of warnings, loggers' levels and torch's switches are afterwards what they were before."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    states = random.getstate(), np.random.get_state()
    cuda = torch.cuda.is_initialized()
    precision, gradients = torch.get_float32_matmul_precision(), torch.is_grad_enabled()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else []):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_float32_matmul_precision(precision)
        torch.set_grad_enabled(gradients)
