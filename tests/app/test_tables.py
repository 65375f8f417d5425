"""Tables for terminals and files of any width, and the order in which quantities are told."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from unlabeled.app.cli.main import JobStatus
from unlabeled.app.cli.terminal import show, tables
from unlabeled.app.evaluate.evaluate import number_table
from unlabeled.app.tables.sweep import Compare, summary
from unlabeled.evaluation.metric import Metric
from unlabeled.evaluation.report.order import ordered
from unlabeled.files import without_shared_folders

NAMES = [
    "val/negative_elbo",
    "val/kl",
    "val/reconstruction_loss",
    "train/gradient_norm",
    "train/lr",
    "train/negative_elbo",
]


def printed(heads: list[str], rows: list[list[str]], width: int, **how: Any) -> str:
    file = io.StringIO()
    show(Console(file=file, width=width), tables(heads, rows, width, **how))
    return file.getvalue()


def runs(count: int, **more: Any) -> dict[str, dict[str, Any]]:
    return {
        f"{i}-x": {
            "names": {"overrides": [f"model={'autoencoder' if i else 'vae'}", f"seed={i}", "budget.epochs=2"]},
            "monitor": "val/negative_elbo",
            "last": dict.fromkeys(NAMES, i + 0.125),
            "seconds": 1.5,
        }
        | more
        for i in range(count)
    }


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("count", [1, 4, 20])
def test_no_word_of_a_sweep_is_cut_at_any_width(count: int, width: int) -> None:
    heads, rows = summary(runs(count))
    text = printed(heads, rows, width, turns=True)
    assert "…" not in text and max(map(len, text.splitlines())) <= max(width, 25)
    for word in [*heads[1:], *(cell for row in rows for cell in row)]:
        assert word in text, word


def test_a_sweeps_table_is_turned_where_it_is_too_wide() -> None:
    heads, rows = summary(runs(3))
    wide, narrow = printed(heads, rows, 200, turns=True), printed(heads, rows, 70, turns=True)
    assert wide.index("val/negative_elbo") < wide.index("val/kl") and len(wide.splitlines()) == 3 + 3 + 1
    assert len(narrow.splitlines()) == len(heads) + 3
    assert narrow.index("seed") < narrow.index("val/negative_elbo") < narrow.index("val/kl") < narrow.index("train/neg")


def test_a_sweep_tells_what_differs_and_what_is_monitored_first() -> None:
    found = runs(2)
    found["1-x"] |= {"monitor": "val/loss", "best": {"val/loss": 2.0, "val/kl": 1.0}}
    heads, rows = summary(found)
    assert heads[:3] == ["run", "model", "seed"] and set(heads[3:5]) == {"val/negative_elbo", "val/loss"}
    assert not any("lr" in head or "gradient_norm" in head for head in heads)
    paths = ["/data/of/many/a-1/train", "/data/of/many/b-2/train"]
    for run, path in zip(found.values(), paths, strict=True):
        run["names"]["overrides"] = [f"data.source.path={path}", "model.optimizer.lr=0.00015676677195"]
    heads, rows = summary(found)
    assert [row[1] for row in rows] == ["…/a-1/train", "…/b-2/train"]
    for run, rate in zip(found.values(), ("0.000156766", "0.000156767"), strict=True):
        run["names"]["overrides"] = [f"model.optimizer.lr={rate}"]
    assert [row[1] for row in summary(found)[1]] == ["0.000156766", "0.000156767"]  # 0.0001568 would be both


@pytest.mark.parametrize(
    ("values", "cut"),
    [
        (["o/s/0-a/checkpoints/best.ckpt", "o/s/1-b/checkpoints/best.ckpt"], ["…/0-a/…", "…/1-b/…"]),
        (["run/best.ckpt", "run/last.ckpt"], ["run/best.ckpt", "run/last.ckpt"]),
        (["a/b/c", "a/b/c/d"], ["…/c", "…/c/d"]),
        (["x", "a/b/c"], ["x", "a/b/c"]),
        (["a/b/c", "a/b/c"], ["a/b/c", "a/b/c"]),
        (["a/b/c/d", "", "a/b/x/d"], ["…/c/d", "", "…/x/d"]),
        ([], []),
    ],
)
def test_paths_are_cut_where_they_are_alike(values: list[str], cut: list[str]) -> None:
    assert without_shared_folders(values) == cut


def test_a_sweep_in_a_file_says_the_whole_path(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobStatus, "failed", 0)
    monkeypatch.setenv("COLUMNS", "80")
    sweep = tmp_path / ("a_rather_long_name_" * 5)
    for name, result in runs(2).items():
        (sweep / name).mkdir(parents=True)
        (sweep / name / "result.json").write_text(json.dumps(result))
    Compare().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
    text = capsys.readouterr().out
    assert (
        f"2 runs in {sweep}\n" in text and "…" not in text and all(name in text for name in ("val/kl", "autoencoder"))
    )


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_word_of_an_evaluation_is_cut(width: int) -> None:
    numbers = [
        Metric("fid[classifier-digits@8dd526]", 8.97, "", "lower", {"baseline": "real images", "baseline_value": 1.18}),
        Metric("elbo_kl", 8.61, "nats", None, {"images": 359}),
    ]
    heads, rows = number_table(numbers)
    text = printed(heads, rows, width, wraps=(2,))
    assert "…" not in text and "↓ 8.97" in text and "8.61 nats" in text and "↑ 8.61" not in text
    for word in ("fid", "[classifier-digits@8dd526]", "359", "1.18"):
        assert word in text


def test_what_is_monitored_comes_first_and_gradient_norms_last() -> None:
    names = [*NAMES, "train/generator_loss", "val/fid"]
    assert ordered(names, "val/fid") == [
        "val/fid", "val/reconstruction_loss", "val/kl", "val/negative_elbo",
        "train/generator_loss", "train/negative_elbo", "train/gradient_norm", "train/lr",
    ]  # fmt: skip
