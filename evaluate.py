"""Evaluate a checkpoint: python evaluate.py checkpoint=RUN. See --help."""

if __name__ == "__main__":
    from unlabeled.app.cli import signals

    signals.listen()  # before the imports that take seconds

from unlabeled.app.cli.main import run
from unlabeled.console import hydra_program

main = hydra_program("evaluate")

if __name__ == "__main__":
    run(main)
