"""A workspace of Weights & Biases as code: python -m unlabeled.loggers.workspace [ENTITY/PROJECT] [--json FILE]

One section per family of methods, with what tells most about it. `--json` writes the workspace to a file instead.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

from unlabeled.commands import extra
from unlabeled.errors import UserError
from unlabeled.files import write_json


class Family(NamedTuple):
    """What is shown of the methods in one folder of methods/, by the names under which they record it."""

    plots: dict[str, list[str]]  # title -> recorded quantities that share a plot, over batches
    pictures: list[str] = []  # of evaluation/pictures.py, or a method's own
    numbers: list[str] = []  # of an evaluation, compared over runs
    table: bool = False  # samples beside the training images nearest to them


CODES = ["linear_accuracy", "knn_accuracy", "nmi"]
FAMILIES = {
    "vae": Family(
        {
            "-ELBO, nats": ["train/negative_elbo", "val/negative_elbo"],
            "KL, nats": ["train/kl", "val/kl"],
            "reconstruction, nats": ["train/reconstruction_loss", "val/reconstruction_loss"],
            "gradient norm": ["train/gradient_norm"],
        },
        ["samples", "reconstructions", "interpolation"],
        ["log_likelihood_bound", "bits_per_dim", "reconstruction_mse", *CODES],
        table=True,
    ),
    "gan": Family(
        {
            "losses": ["train/generator_loss", "train/discriminator_loss", "train/penalty"],
            "scores": ["train/score_real", "train/score_fake"],
            "gradient norms": ["train/gradient_norm_generator", "train/gradient_norm_discriminator"],
            "FID (callbacks=fid)": ["val/fid"],
        },
        ["samples", "interpolation"],
        table=True,
    ),
    "translation": Family(
        {
            "cycle": ["train/cycle_a", "train/cycle_b", "val/cycle_a", "val/cycle_b"],
            "identity": ["train/identity_a", "train/identity_b"],
            "translators against discriminators": ["train/generator_loss_a", "train/generator_loss_b"],
            "discriminators": ["train/discriminator_a", "train/discriminator_b"],
            "gradient norms": [
                "train/gradient_norm_to_b_and_to_a",
                "train/gradient_norm_discriminator_a_and_discriminator_b",
            ],
        },
        ["a_to_b", "b_to_a"],
    ),
    "autoencoder": Family(
        {
            "loss": ["train/loss", "val/loss", "train/reconstruction_loss", "val/reconstruction_loss"],
            "mean squared error": ["train/mean_squared_error", "val/mean_squared_error"],
            "gradient norm": ["train/gradient_norm"],
        },
        ["reconstructions", "interpolation", "components"],
        ["reconstruction_mse", *CODES],
    ),
    "joint_embedding": Family(
        {
            "loss": ["train/loss", "val/loss"],
            "alignment": ["train/alignment", "val/alignment"],
            "probes (callbacks=probe)": ["val/knn_accuracy", "val/linear_accuracy"],
            "gradient norm": ["train/gradient_norm"],
        },
        ["neighbors", "views"],
        CODES,
    ),
    "pretext": Family(
        {
            "loss": ["train/loss", "val/loss"],
            "accuracy of the pretext task": ["train/accuracy", "val/accuracy"],
            "probes (callbacks=probe)": ["val/knn_accuracy", "val/linear_accuracy"],
            "gradient norm": ["train/gradient_norm"],
        },
        ["neighbors", "turns"],
        CODES,
    ),
    "supervised": Family(
        {
            "loss": ["train/loss", "val/loss"],
            "accuracy": ["train/accuracy", "val/accuracy"],
            "gradient norm": ["train/gradient_norm"],
        },
        ["neighbors"],
        CODES,
    ),
}


def workspace(entity: str, project: str) -> Any:
    """Not saved yet."""
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise UserError(f"wandb-workspaces is not here: {extra('workspaces')}") from error
    sections = [workspaces.Section("all runs", [reports.RunComparer(diff_only="split")], is_open=True)]
    for name, family in FAMILIES.items():
        panels: list[Any] = [reports.LinePlot(title, "batch", y=y) for title, y in family.plots.items()]
        panels += [reports.MediaBrowser(title, media_keys=[f"pictures/{title}"]) for title in family.pictures]
        panels += [reports.BarPlot(number, [f"evaluation/{number}"]) for number in family.numbers]
        if family.table:
            panels.append(reports.WeavePanelSummaryTable(table_name="tables/nearest_training_images"))
        sections.append(workspaces.Section(name.replace("_", " "), panels, is_open=True))
    settings = workspaces.WorkspaceSettings(x_axis="batch")
    return workspaces.Workspace(entity=entity, project=project, name="Unlabeled", sections=sections, settings=settings)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "python -m unlabeled.loggers.workspace", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("project", nargs="?", default="unlabeled", metavar="ENTITY/PROJECT")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(words)
    entity, _, project = given.project.rpartition("/")
    if given.json:
        made = workspace(entity or "entity", project)
        write_json(given.json, made._spec)
        print(given.json)
        return
    from unlabeled.loggers.wandb import wandb_key

    if not wandb_key():
        raise UserError("W&B wants a key to save a workspace: say wandb login, or --json FILE")
    if not entity:
        import wandb

        entity = wandb.Api().default_entity
    print(workspace(entity, project).save().url)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
