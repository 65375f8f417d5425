"""Publishing of an evaluation to the loggers of its run."""

import sys
from pathlib import Path
from typing import Any

from unlabeled.app.run.build import close_loggers, loggers_of
from unlabeled.app.run.checkpoint import check_targets
from unlabeled.app.run.plan import config_of
from unlabeled.errors import UserError
from unlabeled.loggers.actions import artifact, summary
from unlabeled.loggers.csv import CSV


def publish(home: Path, content: dict[str, Any], report: Path) -> None:
    """Send the numbers, as evaluation/NAME, and the page. A logger that fails leaves a note.

    The loggers are those of the run's own config.yaml, never those of a checkpoint.
    """
    file = home / "config.yaml"
    if not file.is_file():
        return
    numbers = [number for number in content["numbers"] if number["value"] is not None]
    values = {f"evaluation/{number['name']}": float(number["value"]) for number in numbers}
    loggers: list[Any] = []
    try:
        config = config_of(home)
        config = relocated(config, config["run"], str(home))
        ours = {k: v for k, v in (config.get("logger") or {}).items() if v["_target_"].startswith("unlabeled.loggers.")}
        check_targets(ours, ("unlabeled.loggers",))
        loggers += [logger for logger in loggers_of(config | {"logger": ours}) if not isinstance(logger, CSV)]
        for logger in loggers:
            summary(logger, values)
            artifact(logger, report, "report")
    except UserError as error:
        print(f"note: the run's loggers were not told of this evaluation: {error}", file=sys.stderr)
    except Exception as error:
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"note: the run's loggers were not told of this evaluation: {first}", file=sys.stderr)
    finally:
        close_loggers(loggers)


def relocated(tree: Any, old: str, new: str) -> Any:
    """A run's config with the run's new folder in place of the old one."""
    if isinstance(tree, dict):
        return {key: relocated(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [relocated(value, old, new) for value in tree]
    inside = isinstance(tree, str) and (tree == old or tree.startswith(f"{old}/"))
    return new + tree[len(old) :] if inside else tree
