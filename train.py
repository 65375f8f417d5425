"""Train a method: python train.py model=vae data=digits. See --help."""

if __name__ == "__main__":
    from unlabeled.app.cli import signals

    signals.listen()  # before the imports that take seconds

import hydra
from omegaconf import DictConfig

from unlabeled.app.cli.main import CONF, guard, run


@hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")
@guard
def main(config: DictConfig) -> float | None:
    from unlabeled.app.run.train import train

    return train(config)


if __name__ == "__main__":
    run(main)
