"""The command `unlabeled`: train, evaluate, ... in any folder. Imports nothing heavy until one of them starts."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from unlabeled import commands, configs


class Command(NamedTuple):
    about: str
    run: Callable[[], None]  # reads sys.argv


def hydra_program(name: str) -> Callable[[], Any]:
    """The `hydra.main` function of conf/NAME.yaml, whose jobs go to app/."""
    import hydra

    from unlabeled.app.cli.main import guard

    @hydra.main(config_path=str(configs.CONF), config_name=name, version_base="1.3")
    @guard
    def main(config: Any) -> Any:
        if name == "evaluate":
            from unlabeled.app.evaluate.evaluate import evaluate

            return evaluate(config)

        from unlabeled.app.run.train import train

        return train(config)

    return main


def configured(name: str) -> Callable[[], None]:
    """A command whose words are those of a config."""

    def run() -> None:
        from unlabeled.app.cli.main import run as run_program

        run_program(hydra_program(name))

    return run


def check() -> None:
    from unlabeled.contract import main

    main()


COMMANDS = {
    "train": Command("train a method: model=NAME data=NAME KEY=VALUE ...", configured("train")),
    "evaluate": Command("measure all that a checkpoint can do: checkpoint=RUN", configured("evaluate")),
    "check": Command("hold a method of yours to the contract: model=NAME", check),
}


def main() -> None:
    """`unlabeled COMMAND WORDS`, or `python -m unlabeled COMMAND WORDS`."""
    from unlabeled.app.cli import signals

    signals.listen()  # before the imports that take seconds
    program, *words = sys.argv
    called = "python -m unlabeled" if Path(program).name == "__main__.py" else "unlabeled"
    name = words[0] if words else "--help"
    if name in ("--help", "-h"):
        print(usage(called))
    elif name == "--version":
        from unlabeled import __version__

        print(f"unlabeled {__version__}")
    elif name in COMMANDS:
        os.environ[commands.STARTED] = called
        sys.argv = [f"unlabeled-{name}", *words[1:]]
        COMMANDS[name].run()
    elif "=" in name:
        sys.exit(f"error: {name}: say a command before it, {' or '.join(COMMANDS)}: {called} train {name}")
    else:
        from unlabeled.errors import suggest

        sys.exit(f"error: there is no command {name}: {suggest(name, COMMANDS)}")


def usage(called: str) -> str:
    lines = ["Unlabeled: deep learning without labels.", ""]
    lines += [f"    {f'{called} {name}':<32} {command.about}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", f"{called} COMMAND --help tells more; {called} --version, which version this is."])
