"""One process of an evaluation on several devices: python -m unlabeled.app.evaluate.worker CONFIG FOLDER."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
from omegaconf import OmegaConf

from unlabeled.app.cli import log
from unlabeled.app.cli.main import explain
from unlabeled.app.evaluate.evaluate import measure
from unlabeled.app.run.plan import resolve
from unlabeled.app.run.process import keep_freed_memory
from unlabeled.errors import UserError
from unlabeled.evaluation.ranks import Ranks


@log.recorded()
def main(file: Path, folder: Path) -> None:
    keep_freed_memory()
    log.write_to(folder, head=False)
    config = resolve(OmegaConf.load(file))
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=1))  # a classifier may be trained
    try:
        measure(config, folder, Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size()))
    except UserError as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(1)
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
