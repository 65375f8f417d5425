"""What keeps the contract cheap: values changed without composing anew, one run a row, and its costs told."""

from types import SimpleNamespace
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException

from tests import conftest
from tests.contract.cases import CASES
from unlabeled.contract import checks
from unlabeled.contract.bench import TINY, changed, composed

CHANGES = [
    ["data.val=0.125", "budget.epochs=7", "data.epochs=null", "data.batch_size=2"],
    ["model.encoder.width=4", "model.optimizer={lr: 0.5}", "model.optimizer.betas=[0.1,0.2]"],
    ["budget.batches=3", "+trainer.limit_val_batches=1", "budget.images=1e3"],
    ["model.latent_dim=${data.classes}", "callbacks=averaging", "callbacks.averaging.decay=0.5"],
]


@pytest.mark.parametrize("words", CHANGES, ids=str)
def test_changed_values_are_those_that_hydra_composes(words: list[str]) -> None:
    overrides = ("model=vae", *TINY, *words)
    assert changed(overrides) == composed(overrides)


def test_a_key_that_is_not_there_is_refused_as_hydra_does() -> None:
    with pytest.raises(ConfigCompositionException, match="latent_dmi"):
        changed(("model=vae", *TINY, "model.latent_dmi=3"))


def test_promises_of_a_row_look_at_one_run_and_other_rows_at_their_own(bench: Any) -> None:
    autoencoder, kmeans = (case for case in CASES if case.model in ("autoencoder", "kmeans"))
    first = checks.trained(autoencoder, bench.build)
    assert checks.trained(autoencoder, bench.build) is first
    assert type(checks.trained(kmeans, bench.build).method).__name__ == "KMeans"


def test_the_most_expensive_rows_are_listed() -> None:
    report = lambda name, seconds: SimpleNamespace(nodeid=name, user_properties=[(conftest.COST, seconds)])
    row = "tests/contract/test_contract.py::test[{}-{}]".format
    done = [report(row("vae", "a"), 1.0), report(row("vae", "b"), 2.5), report(row("gan", "a"), 3.0), report("x", 9.0)]
    lines: list[str] = []
    terminal = SimpleNamespace(stats={"": done}, section=lines.append, line=lines.append)
    config: Any = SimpleNamespace(getoption=lambda name: 1)
    conftest.pytest_terminal_summary(terminal, config)
    assert [line.split() for line in lines if line.startswith(" ")] == [["3.5", "vae"], ["9.0", "x"]]
