"""Train a method: python train.py model=vae data=digits. See --help."""

if __name__ == "__main__":
    from unlabeled.app.cli import signals

    signals.listen()  # before the imports that take seconds

from unlabeled.app.cli.main import run
from unlabeled.console import hydra_program

main = hydra_program("train")

if __name__ == "__main__":
    run(main)
