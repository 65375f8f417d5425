"""evaluate.py as a whole: one process or several, a checkpoint or a folder of anybody's images."""

import json
import math
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests import warm
from tests.contract.cases import CASES
from unlabeled.app.evaluate.evaluate import check_unused_keys
from unlabeled.app.run.changes import with_other_data
from unlabeled.app.run.checkpoint import load
from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.evaluation.ranks import Ranks
from unlabeled.files import FORMAT, write_json

ROOT = Path(__file__).parents[2]


def content_of(folder: Path) -> dict[str, Any]:
    """evaluation.json, as a reader takes it who knows no NaN."""
    return json.loads((folder / "evaluation.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def numbers_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {number["name"]: number for number in content_of(folder)["numbers"]}


def write(folder: Path, levels: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(levels):
        Image.fromarray(image).save(folder / f"{i:04}.png")
    return folder


@pytest.mark.parametrize(
    ("mode", "word", "said"),
    [
        ("checkpoint", "size=32", "size has no effect"),
        ("checkpoint", "reference=x", "reference has no effect"),
        ("checkpoint", "+data.batch_size=3", "data.batch_size has no effect"),
        ("checkpoint", "data.root=x", None),
        ("checkpoint", "size=null", None),
        ("checkpoint", "evaluation=finetune", None),
        ("checkpoint", "~evaluation.evaluators.probe", None),
        ("samples", "weights=live", "weights has no effect"),
        ("samples", "evaluation.split=val", "of evaluation it takes extractor and extractor_weights alone"),
        ("samples", "evaluation=finetune", "evaluation has no effect"),
        ("samples", "~evaluation.evaluators.probe", "evaluation.evaluators.probe has no effect"),
        ("samples", "+data.size=3", "of data it takes root and packed alone"),
        ("samples", "evaluation.extractor=none", None),
        ("samples", "data.packed=x", None),
        ("samples", "size=32", None),
        ("samples", "devices=2", None),
    ],
)
def test_options_without_effect_are_refused(mode: str, word: str, said: str | None) -> None:
    if said is None:
        return check_unused_keys([f"{mode}=x", word], mode)
    with pytest.raises(UserError, match=said) as error:
        check_unused_keys([f"{mode}=x", word], mode)
    assert str(error.value).startswith(word) and str(error.value).endswith("leave it out")


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """The embedded digits in a fixed random order, (1797, 16, 16) uint8."""
    images = (load_digits().images / 16 * 255).round().astype(np.uint8).repeat(2, 1).repeat(2, 2)
    return images[np.random.RandomState(0).permutation(len(images))]


# every evaluator, with little to compute
FAST = [
    "evaluation.extractor=cells",
    "evaluation.evaluators.probe.logistic=[1e-2]",
    "evaluation.evaluators.probe.labels=[0.1]",
    "evaluation.evaluators.likelihood.num_samples=4",
    "evaluation.evaluators.clustering.n_init=1",
]


def test_two_processes_measure_what_one_does(trained: Path, tmp_path: Path) -> None:
    """359 images in blocks of 100: the shards are uneven, and so are the last blocks. Threads, which round apart, are
    as many in both."""
    for devices in (1, 2):
        words = [f"checkpoint={trained}", f"devices={devices}", f"output={tmp_path / str(devices)}", "device=cpu"]
        words += ["evaluation.samples=330", *FAST]
        measured = warm.Popen("evaluate.py", *words, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert measured.wait(300) == 0
    one, two = (numbers_of(tmp_path / str(devices)) for devices in (1, 2))
    assert list(one) == list(two) and len(one) > 10
    for name, number in one.items():
        assert math.isclose(two[name]["value"], number["value"], rel_tol=1e-9, abs_tol=1e-12), name
        assert two[name]["facts"].keys() == number["facts"].keys()


def test_an_evaluation_says_where_each_number_comes_from(program: Any, trained: Path, tmp_path: Path) -> None:
    words = [*FAST, f"evaluation.extractor={trained}", "evaluation.samples=200"]
    result = program("evaluate", f"checkpoint={trained}", f"output={tmp_path / 'e'}", *words)
    assert result.status == 0, result.err
    content = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    provenance, numbers = content["provenance"], numbers_of(tmp_path / "e")
    fid = next(number for name, number in numbers.items() if name.startswith("fid[vae-digits@"))
    assert fid["facts"]["images"] == 200 and fid["facts"]["baseline_value"] >= 0 and fid["facts"]["baseline"]
    assert len(provenance["extractor"]["sha256"]) >= 12 and provenance["extractor"]["name"] in fid["name"]
    assert provenance["weights"] == "live" and provenance["versions"]["torch-fidelity"]
    assert provenance["data"] and provenance["evaluation_seed"] == 0
    page = (tmp_path / "e" / "report.html").read_text()
    for name in numbers:
        assert name in page


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(program: Any, trained: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={trained}", "evaluation.samples=150", *FAST]
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert program("evaluate", *words, f"seed={seed}", f"output={tmp_path / run}").status == 0
    a, b, c = (numbers_of(tmp_path / run) for run in "abc")
    assert {name: number["value"] for name, number in a.items()} == {name: n["value"] for name, n in b.items()}
    fid = next(name for name in a if name.startswith("fid["))
    assert a[fid]["value"] != c[fid]["value"]


def test_several_checkpoints_end_in_one_table_and_one_page(program: Any, trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    words = [*LEAN, f"hydra.sweep.dir={tmp_path / 's'}"]
    result = program("evaluate", "-m", f"checkpoint={trained},{other},{tmp_path / 'nowhere'}", *words)
    assert result.status == 1 and "nowhere" in result.err
    assert "reconstruction_mse" in (tmp_path / "s" / "comparison.html").read_text()
    assert len(json.loads((tmp_path / "s" / "comparison.json").read_text())) >= 2


def test_codes_are_probed_on_other_data(program: Any, trained: Path, tmp_path: Path) -> None:
    words = [*FAST, "evaluation.extractor=none", "evaluation.probe_data=digits", f"output={tmp_path / 'e'}"]
    assert program("evaluate", f"checkpoint={trained}", *words).status == 0
    numbers = numbers_of(tmp_path / "e")
    assert numbers["linear_accuracy[digits]"]["value"] == numbers["linear_accuracy"]["value"]  # its own data again


LEAN = ["evaluation.extractor=none", "~evaluation.evaluators.probe", "~evaluation.evaluators.distribution"]


def test_what_fails_takes_nothing_with_it(program: Any, trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """An evaluator and a picture fail, the one in the middle of the others, the other among the rest."""
    before: list[dict[str, Any]] = []

    def burst(self: Any, study: Any) -> Any:
        before.append(content_of(tmp_path / "e"))
        raise RuntimeError("it burst\nat the seams")

    def flat(*_: Any) -> Any:
        raise ValueError("no plane")

    monkeypatch.setattr("unlabeled.evaluation.metrics.likelihood.Likelihood.measure", burst)
    monkeypatch.setattr("unlabeled.evaluation.figures.evaluation.embedding", flat)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "embedding.png").write_bytes(b"an earlier one")
    result = program("evaluate", f"checkpoint={trained}", f"output={tmp_path / 'e'}", *LEAN)
    assert result.status == 1
    assert "error: likelihood failed: RuntimeError: it burst at the seams (the other" in result.err
    assert before[0]["unfinished"] == ["likelihood", "clustering", "pictures"]
    assert "reconstruction_mse" in {number["name"] for number in before[0]["numbers"]}  # written as it came
    content, numbers = content_of(tmp_path / "e"), numbers_of(tmp_path / "e")
    assert content["failed"] == {"likelihood": "RuntimeError: it burst at the seams"} and "unfinished" not in content
    assert {"reconstruction_mse", "nmi"} <= set(numbers) and "elbo_kl" not in numbers
    line = "the picture embedding could not be drawn: ValueError: no plane"
    page = (tmp_path / "e" / "report.html").read_text()
    assert line in result.out and line in page and "likelihood failed: RuntimeError: it burst" in page
    assert (tmp_path / "e" / "samples.png").exists() and not (tmp_path / "e" / "embedding.png").exists()


def test_numbers_are_written_before_anything_is_drawn(
    program: Any, trained: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def killed(*_: Any) -> None:
        raise SystemExit(7)

    monkeypatch.setattr("unlabeled.app.evaluate.evaluate.draw_figures", killed)
    assert program("evaluate", f"checkpoint={trained}", f"output={tmp_path / 'e'}", *LEAN).status == 7
    assert content_of(tmp_path / "e")["unfinished"] == ["pictures"] and len(numbers_of(tmp_path / "e")) > 5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": 1.5, "b": [1, "x", None, True]}, {"a": 1.5, "b": [1, "x", None, True]}),
        ({"a": math.nan}, {"a": None, "a_reason": "not a number"}),
        ({"a": {"b": math.inf}}, {"a": {"b": None, "b_reason": "infinite"}}),
        ({"a": [{"b": -math.inf}]}, {"a": [{"b": None, "b_reason": "minus infinity"}]}),
        ({"a": (1.0, math.nan)}, {"a": [1.0, None], "a_reason": "not a number"}),
        ({"a": np.float64("nan"), "a_reason": "of one"}, {"a": None, "a_reason": "of one"}),
        ({"a": Path("x")}, {"a": "x"}),
    ],
)
def test_json_is_strict(given: Any, told: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", given)
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == told
    write_json(tmp_path / "x.json", {})  # whole, or what was there before
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("fails", [(0,), (1,), (0, 1), ()])
def test_a_process_that_fails_tells_the_others(fails: tuple[int, ...]) -> None:
    """On one of two, between two passes: neither waits for the other, and the next work begins together."""
    sent: list[Any] = [None, None]
    turn = threading.Barrier(2, timeout=20)

    class Thread(Ranks):
        def exchange(self, own: Any) -> list[Any]:
            sent[self.rank] = own
            turn.wait()
            held = list(sent)
            turn.wait()
            return held

    def work(place: Ranks) -> list[Any]:
        first = place.gather(place.rank)
        if place.rank in fails:
            raise UserError(f"{place.rank} is not well")
        return first + place.gather(place.rank + 10)

    def both(rank: int) -> list[Any]:
        place = Thread(rank, 2)
        return [place.together(lambda: work(place)), place.together(lambda: place.gather("next"))]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(both, range(2)))
    assert all(later == (["next", "next"], None) for _, later in found)
    for rank, (first, _) in enumerate(found):
        who = rank if rank in fails else next(iter(fails), None)
        assert first == (([0, 1, 10, 11], None) if who is None else (None, f"{who} is not well"))


class TestFolders:
    """samples=FOLDER reference=FOLDER."""

    @pytest.fixture(scope="class")
    def reference(self, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write(tmp_path_factory.mktemp("real") / "reference", digits[:1000])

    def score(
        self, program: Any, samples: Path, reference: Path, tmp_path: Path, trained: Path, *more: str
    ) -> dict[str, Any]:
        words = [f"samples={samples}", f"reference={reference}", f"evaluation.extractor={trained}", *more]
        result = program("evaluate", *words, f"output={tmp_path / 'out'}", f"data.root={tmp_path}")
        assert result.status == 0, result.err
        return numbers_of(tmp_path / "out")

    def test_real_images_score_as_their_floor_and_noise_does_not(
        self, program: Any, digits: np.ndarray, reference: Path, trained: Path, tmp_path: Path
    ) -> None:
        held_out = write(tmp_path / "held_out", digits[1000:1500])
        real = self.score(program, held_out, reference, tmp_path, trained)
        fid = next(name for name in real if name.startswith("fid["))
        assert real[fid]["facts"]["images"] == 500
        assert 0.3 < real[fid]["value"] / real[fid]["facts"]["baseline_value"] < 3
        noise = np.random.RandomState(0).randint(0, 256, (500, 16, 16)).astype(np.uint8)
        bad = self.score(program, write(tmp_path / "noise", noise), reference, tmp_path, trained)
        assert bad[fid]["value"] > 10 * real[fid]["value"]

    def test_colours_can_be_seen_as_grey_and_what_was_taken_is_told(
        self, program: Any, digits: np.ndarray, reference: Path, trained: Path, tmp_path: Path
    ) -> None:
        samples = write(tmp_path / "samples", digits[1000:1040])
        for i, folder in enumerate(("train", "test")):
            write(samples / folder, digits[1100 + 40 * i : 1140 + 40 * i])
        (samples / "test" / "0000.png").write_bytes(b"no image")
        Image.new("RGB", (16, 16), "red").save(samples / "red.png")
        numbers = self.score(program, samples, reference, tmp_path, trained, "channels=1")
        assert next(iter(numbers.values()))["facts"]["images"] == 120
        evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        taken, left = evaluation["notes"][:2]
        assert evaluation["provenance"]["shape"] == [1, 16, 16]
        assert f"samples={samples}: all images" in taken and "test and train" in taken
        assert f"left out: {samples}/test/0000.png (no image)" in left

    def mistake(self, program: Any, tmp_path: Path, *words: str) -> str:
        result = program("evaluate", *words, f"output={tmp_path / 'out'}", f"data.root={tmp_path}")
        assert result.status == 1
        return result.complaint

    def test_mistakes_are_one_line(self, program: Any, reference: Path, trained: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        given = [f"reference={reference}", f"evaluation.extractor={trained}"]
        assert "no images in" in self.mistake(program, tmp_path, f"samples={tmp_path / 'empty'}", *given)
        assert "no such folder" in self.mistake(program, tmp_path, f"samples={tmp_path / 'gone'}", *given)
        assert "reference=FOLDER" in self.mistake(program, tmp_path, f"samples={reference}")
        large = write(tmp_path / "large", np.zeros((3, 20, 20), np.uint8))
        assert "say size=N" in self.mistake(program, tmp_path, f"samples={large}", *given)
        colour = write(tmp_path / "colour", np.full((3, 16, 16, 3), [255, 0, 0], np.uint8))
        assert "channel" in self.mistake(program, tmp_path, f"samples={colour}", *given)
        assert "channels=2" in self.mistake(program, tmp_path, f"samples={colour}", *given, "channels=2")
        broken = write(tmp_path / "broken", np.zeros((2, 16, 16), np.uint8))
        for i in range(2):
            (broken / f"000{i}.png").write_bytes(b"no image")
        assert "none of its images can be read" in self.mistake(program, tmp_path, f"samples={broken}", *given)
        assert "evaluation.extractor" in self.mistake(program, tmp_path, f"samples={reference}", given[0])


MISTAKES = {
    "evaluation.extractor=inception": r"weights-inception-2015-12-05-6726825d\.pth",
    "evaluation.extractor=inceptoin": r"inceptoin",
    "evaluation.probe_data=cifar": r"did you mean cifar10",
    "evaluation.probe_data=folder": r"which folder\? say evaluation.probe_data=FOLDER",
    "data.sise=32": r"there is no key data.sise of this run's data: did you mean data.size",
    "devices=0": r"1 or more",
    "samples=here": r"checkpoint=RUN .*or samples=",
    "channels=1": r"channels has no effect with checkpoint",
}


@pytest.mark.parametrize("word", MISTAKES)
def test_mistakes_end_in_one_line(program: Any, trained: Path, tmp_path: Path, word: str) -> None:
    result = program("evaluate", f"checkpoint={trained}", f"output={tmp_path / 'out'}", word)
    assert result.status == 1 and re.search(MISTAKES[word], result.complaint), result.complaint
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_study_draws_its_noise_from_the_place_of_the_rows(trained: Path) -> None:
    """What a process draws for a block does not depend on the blocks before it."""
    from unlabeled.app.run.checkpoint import load
    from unlabeled.evaluation.ranks import Ranks
    from unlabeled.evaluation.study import Study

    method, _, _ = load(trained)
    data = type("Data", (), {"shape": (1, 16, 16), "batch": Images})()
    draws = {}
    for world in (1, 3):
        for rank in range(world):
            study = Study(method, data, ranks=Ranks(rank, world))
            for block in study.blocks(450, "drawing"):
                draws.setdefault(int(block[0]), []).append(torch.rand(len(block)))
    assert sorted(draws) == [0, 100, 200, 300, 400]
    assert all(torch.equal(*pair) for pair in draws.values())
    assert not torch.equal(draws[0][0], draws[100][0])


# A run's method on other data than it was trained on


def test_a_run_is_evaluated_and_goes_on_where_its_folder_was_moved(program: Any, tmp_path: Path) -> None:
    one, moved, run = tmp_path / "one", tmp_path / "moved to", tmp_path / "run"
    for i, name in enumerate(("one/a", "one/b", "other/a", "other/b")):
        write(tmp_path / name, np.random.RandomState(i).randint(0, 256, (6, 16, 16)).astype(np.uint8))
    few = ["model.encoder.width=4", "model.decoder.width=4", "data=folder", f"data.source.path={one}", "data.size=16"]
    few += ["data.classes=2", "data.batch_size=4", f"data_packed={tmp_path / 'packed'}", "callbacks.pictures.count=0"]
    assert program("train", "model=autoencoder", *few, "budget.batches=2", f"run={run}").status == 0
    evaluator = "{_target_: unlabeled.evaluation.metrics.reconstruction.Reconstruction}"
    words = [
        f"checkpoint={run}",
        f"output={tmp_path / 'e'}",
        "evaluation=common",
        "evaluation.pictures=2",
        f"+evaluation.evaluators.r={evaluator}",
    ]

    def keys(*more: str) -> dict[str, str]:
        result = program("evaluate", *words, "evaluation.extractor=none", *more)
        assert result.status == 0, result.err
        content = json.loads((tmp_path / "e" / "evaluation.json").read_text())
        assert content["config"]["data"]["source"]["path"] == str(one)  # that it was trained with
        return content["provenance"]["data"]

    before = keys()
    one.rename(moved)
    assert "there is no such folder" in program("evaluate", *words).complaint
    assert keys(f"data.source.path='{moved}'") == keys(f"+data.source.path='{moved}'") == before
    assert keys(f"data.source.path={tmp_path / 'other'}") != before

    assert "there is no such folder" in program("train", f"resume={run}", "budget.batches=3").complaint
    resumed = program("train", f"resume={run}", "budget.batches=3", f"data.source.path='{moved}'")
    assert resumed.status == 0 and "note: the images" not in resumed.err, resumed.err
    assert program("train", f"resume={run}", "budget.batches=4").status == 0  # said once is enough
    resumed = program("train", f"resume={run}", "budget.batches=5", f"data.source.path={tmp_path / 'other'}")
    assert resumed.status == 0 and "note: the images of train are not those" in resumed.err, resumed.err
    for word, told in {
        "data.source.pth=x": "did you mean data.source.path",
        "data.size=abc": "data.size takes a whole number",
        "data.size=32": "data.size=32 (was 16)",
    }.items():
        assert told in program("train", f"resume={run}", word).complaint


SIZES = {  # model -> why its networks take no other size; "" where they do
    "autoencoder": r"the networks of \S+ were built for images of 1x16x16, and would be others for 1x32x32",
    "simclr": "",
    "cyclegan": "",
}


@pytest.mark.parametrize("model", SIZES)
def test_networks_that_take_any_size_are_evaluated_at_another(model: str, build: Any, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.model == model)
    method, _, config = build(case)
    content = {"format": FORMAT, "config": config, "state_dict": method.state_dict(), "epoch": 0}
    torch.save(content, tmp_path / "last.ckpt")
    size = 2 * config["data"]["shape"][1]
    data = {"size": size} | ({"shape": [1, size, size]} if model == "cyclegan" else {})
    if SIZES[model]:
        with pytest.raises(UserError, match=SIZES[model]):
            load(tmp_path, data=data, trusted_packages=("tests",))
        return
    method, _, _ = load(tmp_path, data=data, trusted_packages=("tests",))
    now = with_other_data(config, data)["data"]
    assert now["shape"] == [1, size, size]
    x = torch.zeros(2, *now["shape"])
    assert torch.isfinite(method.encode(x) if model == "simclr" else method.translate(x)).all()


OTHER: dict[str, tuple[Any, str]] = {  # what evaluate.py is told of the data -> what it says
    "an unknown key": ({"sise": 32}, r"there is no key data.sise of this run's data: did you mean data.size"),
    "an unknown place": ({"source": {"path": "here"}}, r"there is no key data.source.path of .*data.source"),
    "a word": ({"size": "abc"}, r"data.size=abc: data.size takes a number, as 16"),
    "nothing": ({"size": 0}, r"data.size=0: data.size takes"),
    "no source": ({"source": 5}, r"data.source=5: data.source takes several keys, as _target_"),
    "no data": (7, r"data=7: say which key of the run's data is another: data.KEY=VALUE"),
    "training's": ({"epochs": 3}, r"data.epochs is of training, and no evaluation sees it"),
    "a shape": ({"shape": [1, 32]}, r"data.shape=\[1, 32\]: data.shape takes 3 numbers above 0, as \[1, 16, 16\]"),
    "code": ({"source": {"_target_": "os.system"}}, r"would call os.system"),
}


@pytest.mark.parametrize("what", OTHER)
def test_why_a_run_is_not_evaluated_on_other_data(what: str, trained: Path) -> None:
    data, told = OTHER[what]
    with pytest.raises(UserError, match=told):
        load(trained, data=data)
