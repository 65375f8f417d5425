"""One process of a run on several devices: python -m unlabeled.app.run.worker RUN, started by torchrun."""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from unlabeled.app.cli import log
from unlabeled.app.run.plan import resolve
from unlabeled.app.run.process import exit_process, keep_freed_memory
from unlabeled.app.run.secrets import receive_from_parent
from unlabeled.app.run.train import fit
from unlabeled.errors import Interrupted, UserError


@log.recorded()
def main(folder: Path) -> int:
    """Returns the exit status."""
    keep_freed_memory()
    if "--resume" not in sys.argv:
        log.write_to(folder, head=False)
    config = receive_from_parent(resolve(OmegaConf.load(folder / "config.yaml")))
    try:
        fit(config, resume="--resume" in sys.argv)
    except Interrupted as stopped:
        return 128 + stopped.signal_number  # the process that started this one prints it
    except UserError as error:
        if str(error):
            print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    exit_process(main(Path(sys.argv[1])))
