"""A workspace of Weights & Biases as code: python -m unlabeled.loggers.workspace [ENTITY/PROJECT] [--json FILE]

Its plots choose recorded quantities by regular expressions, so that they work for every method; W&B generates panels
for all other quantities and pictures. `--json` writes the workspace to a file instead.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from unlabeled.commands import extra
from unlabeled.errors import UserError
from unlabeled.files import write_json

# section -> title of a plot -> the quantities that share it, over batches
PLOTS = {
    "losses": {
        "training losses": r"^train/(\w+_)?loss(_\w+)?$",
        "validation losses": r"^val/(\w+_)?loss(_\w+)?$",
        "bounds and divergences, nats": r"^(train|val)/(negative_elbo|kl|mmd)$",
        "cycles and identities": r"^(train|val)/(cycle|identity)_[ab]$",
    },
    "scores": {
        "scores of discriminators": r"^train/score_\w+$",
        "accuracies, also of callbacks=probe": r"^(train|val)/(\w+_)?accuracy(_\w+)?$",
        "FID (callbacks=fid)": r"^val/fid",
    },
    "optimization": {"gradient norms": r"^train/gradient_norm", "learning rates": r"^train/lr"},
}
EVALUATED = ("log_likelihood_bound", "bits_per_dim", "reconstruction_mse", "linear_accuracy", "knn_accuracy", "nmi")


def workspace(entity: str, project: str) -> Any:
    """Not saved yet."""
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise UserError(f"wandb-workspaces is not here: {extra('workspaces')}") from error
    sections = [workspaces.Section("all runs", [reports.RunComparer(diff_only="split")], is_open=True)]
    for name, plots in PLOTS.items():
        panels = [reports.LinePlot(title, "batch", metric_regex=pattern) for title, pattern in plots.items()]
        sections.append(workspaces.Section(name, panels, is_open=True))
    nearest = reports.WeavePanelSummaryTable(table_name="tables/nearest_training_images")
    bars = [reports.BarPlot(number, [f"evaluation/{number}"]) for number in EVALUATED]
    sections += [workspaces.Section("samples", [nearest]), workspaces.Section("evaluation", bars)]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="Unlabeled",
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis="batch"),
        auto_generate_panels=True,
    )


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
        raise UserError("W&B needs a key to save a workspace: say wandb login, or --json FILE")
    if not entity:
        import wandb

        entity = wandb.Api().default_entity
    print(workspace(entity, project).save().url)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
