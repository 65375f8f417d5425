"""Evaluate a checkpoint: python evaluate.py checkpoint=RUN. See --help."""

if __name__ == "__main__":
    from unlabeled.app.cli import signals

    signals.listen()  # before the imports that take seconds

import hydra
from omegaconf import DictConfig

from unlabeled.app.cli.main import CONF, guard, run


@hydra.main(config_path=str(CONF), config_name="evaluate", version_base="1.3")
@guard
def main(config: DictConfig) -> None:
    from unlabeled.app.evaluate.evaluate import evaluate

    evaluate(config)


if __name__ == "__main__":
    run(main)
