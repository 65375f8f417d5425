"""Pages: one of an evaluation, one of several, and RESULTS.md."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from unlabeled.app.cli.main import CONF, JobStatus
from unlabeled.app.cli.terminal import show, tables
from unlabeled.app.tables import results
from unlabeled.app.tables.sweep import CompareEvaluations, compared
from unlabeled.errors import UserError
from unlabeled.evaluation import figures
from unlabeled.evaluation.figures.captions import CAPTIONS
from unlabeled.evaluation.report.comparison import side_by_side
from unlabeled.evaluation.report.page import LARGE, embedded, line, render, render_comparison
from unlabeled.evaluation.report.verdicts import beside, headline, headlines, short
from unlabeled.files import finite_json

HOSTILE = "</title><script>alert('&amp; \"x\"')</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A page's elements, text and addresses; refuses what is not balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [
            value or "" for key, value in attributes if key in ("src", "href", "xlink:href", "srcset", "data")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def alone(text: str) -> Page:
    """The page, if it needs nothing but itself."""
    page = Page(text)
    assert "script" not in page.seen and "link" not in page.seen and "iframe" not in page.seen
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links), page.links
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    return page


CONFIGS = [yaml.safe_load((CONF / "evaluation" / f"{name}.yaml").read_text()) for name in ("default", "finetune")]
EVALUATORS = [get_class(one["_target_"]) for config in CONFIGS for one in config["evaluators"].values()]
HEADLINES = {name: headline for kind in EVALUATORS for name, headline in kind.headlines.items()}  # type: ignore[attr-defined]


def number(name: str, value: float, better: str | None = "higher", unit: str = "", **facts: Any) -> dict[str, Any]:
    facts = {"split": "test", "images": 359} | facts
    headline = HEADLINES.get(name.partition("[")[0])
    first = {"headline": headline._asdict()} if headline else {}
    return {"name": name, "value": value, "unit": unit, "better": better, "facts": facts, **first}


NUMBERS = [
    number("reconstruction_mse", 0.0156, "lower", baseline="the mean image", baseline_value=0.0569),
    number("fid[classifier-digits@ab12]", 12.345678, "lower", floor=1.5, baseline="real images", baseline_value=1.5,
           extractor={"name": "classifier", "resize": {"to": 32}}),
    number("linear_accuracy", 95.0, unit="%", baseline="raw pixels", baseline_value=96.1, untrained_value=91.25),
    number("iwae_bound[50]", -95.18, unit="nats", standard_error=0.54321, baseline="the ELBO", baseline_value=-97.0),
    number("odd", math.nan),
]  # fmt: skip


def content(
    numbers: Any = NUMBERS, model: str = "vae", data: str = "digits", seed: int = 0, overrides: Any = (), **more: Any
) -> dict[str, Any]:
    names = {"model": model, "data": data, "trainer": "cpu", "overrides": [f"seed={seed}", *overrides]}
    provenance = {
        "checkpoint": f"/runs/{model}/best.ckpt",
        "weights": "live",
        "epoch": 7,
        "seed": seed,
        "names": names,
        "data": {"train": f"{data}-key"},
        "evaluation_seed": 0,
        "versions": {"torch": "2.15.0"},
        "processor": "a processor",
        "threads": 2,
    }
    config = {"model": {"latent_dim": 16}, "data": {"batch_size": 64}, "seed": seed, "budget": {"epochs": 8}}
    return {
        "provenance": provenance | more,
        "numbers": numbers,
        "notes": ["say this=that to have more"],
        "config": config,
    }


def picture(seed: int = 0, size: int = 40) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (size, size, 3), dtype=np.uint8))


def shown(page: Page) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) for link in page.links if link[0] != "#"]


# One evaluation


def test_a_report_holds_everything_and_needs_nothing(tmp_path: Path) -> None:
    pictures: dict[str, Any] = {"turns": picture(0), "samples": picture(1)}
    pictures["traversals"] = tmp_path / "traversals.png"
    picture(2).save(pictures["traversals"])
    svg = "<svg viewBox='0 0 1 1'><path d='M0 0'/><text>loss</text></svg>"
    page = alone(render(content(), pictures, svg))
    for each in NUMBERS:
        assert each["name"] in page.text
    for word in ("0.0156", "12.35 ↓ lower is better", "95", "-95.18 ± 0.54 nats", "nan",
                 "better than the mean image 0.0569", "worse than raw pixels 96.1", "better than untrained 91.25",
                 "worse than raw pixels, 96.1", "real images reach 1.5: 8.2 times as far", "the ELBO -97",
                 "Fréchet distance of samples to real images, seen through classifier-digits",
                 "359 test", "extractor resize to 32", "versions torch 2.15.0", "say this=that",
                 CAPTIONS["samples"].text,
                 "latent_dim: 16", "vae on digits", "epoch 7", "loss"):  # fmt: skip
        assert word in page.text, word
    assert page.text.count("real images 1.5") == 1  # in its row; the floor is not told twice
    assert page.text.index("lower is better") < page.text.index(CAPTIONS["samples"].text) < page.text.index("0.0156")
    assert page.text.count("@ab12") == 1 and "name fid[classifier-digits@ab12]" in page.text  # in the details
    assert "python train.py seed=0" in page.text and "python evaluate.py checkpoint=/runs/vae/best.ckpt" in page.text
    assert "svg" in page.seen
    found = shown(page)  # in the order of what people look at, the method's own last
    for image, seed in zip(found, (1, 2, 0), strict=True):
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(picture(seed)))


def test_a_name_can_do_no_harm() -> None:
    hostile = content(
        [number(HOSTILE, 1.0, unit=HOSTILE, baseline=HOSTILE, baseline_value=2.0, **{HOSTILE: HOSTILE})],
        model=HOSTILE, overrides=[f"model.name={HOSTILE}"],
    )  # fmt: skip
    hostile["notes"] = [HOSTILE]
    hostile["config"] = {HOSTILE: [HOSTILE, {"path": Path("x")}]}
    text = render(hostile, {HOSTILE: picture()})
    page = alone(text)
    assert page.text.count("alert(") >= 8 and "<script" not in text
    job = {"folder": HOSTILE, "evaluation": hostile}
    failed = {"name": HOSTILE, "error": HOSTILE}
    alone(render_comparison(side_by_side([job, job, failed], HOSTILE), {HOSTILE: {HOSTILE: picture()}}))


def test_the_config_reads_back() -> None:
    given = content()
    given["config"] = {"a": {"b": [1, 2.5, None, True, "x: y"]}, "path": Path("/data"), "tuple": (1, 2)}
    page = Page(render(given, {}))
    text = re.search(r"Resolved config (.*)$", page.text)
    assert text
    raw = next(word for word in page.words if word.startswith("a:\n"))
    assert yaml.safe_load(raw) == {"a": {"b": [1, 2.5, None, True, "x: y"]}, "path": "/data", "tuple": [1, 2]}


def test_an_evaluation_of_nothing_and_of_folders_has_a_page() -> None:
    page = alone(render(content([]), {}))
    assert "No number applies" in page.text and "No picture applies" in page.text and "Training" not in page.text
    provenance = {"samples": "a b", "reference": "c", "evaluation_seed": 3, "names": None}
    folders = {"title": "x & y", "provenance": provenance, "numbers": NUMBERS[:1], "notes": [], "config": {}}
    page = alone(render(folders, {}))
    assert "python evaluate.py 'samples=a b' reference=c seed=3" in page.text and page.text.startswith("x & y")
    assert "train.py" not in page.text


def test_commands_can_be_typed() -> None:
    words = ["model=vae", "run=/tmp/x", "model.optimizer.betas=[0.5, 0.9]", "resume=null", "seed=0"]
    page = Page(render(content(overrides=words, overrides_=[]), {}))
    assert "python train.py model=vae 'model.optimizer.betas=[0.5, 0.9]' seed=0 " in page.text
    given = content()
    given["provenance"]["overrides"] = ["checkpoint=A", "evaluation.samples=5"]
    assert "python evaluate.py checkpoint=A evaluation.samples=5" in Page(render(given, {})).text


def test_groups_of_numbers_have_a_heading() -> None:
    given = content([NUMBERS[0] | {"group": "reconstruction"}, NUMBERS[2] | {"group": "probe"}])
    text = alone(render(given, {})).text
    assert text.index("on reconstruction ") < text.index("reconstruction_mse") < text.index(" probe ")


def test_a_large_picture_makes_do_with_few_colours() -> None:
    smooth = np.linspace(0, 255, 700 * 900 * 3).reshape(700, 900, 3) + np.random.RandomState(0).randn(700, 900, 3) * 20
    large = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    large.save(file, "PNG")
    url, width = embedded(large)
    assert len(file.getvalue()) > LARGE and len(url) < 0.6 * len(file.getvalue()) and width == 900
    (image,) = shown(alone(render(content(), {"samples": large})))
    difference = np.asarray(image.convert("RGB")).astype(float) - np.asarray(large)
    assert image.size == large.size and np.abs(difference).mean() < 16


def test_numbers_as_people_read_them() -> None:
    assert [short(v) for v in (0.000123456, 1.0, 12345.678, -0.5, math.inf, "x", 10)] == [
        "0.0001235", "1", "12,346", "-0.5", "inf", "x", "10"]  # fmt: skip
    assert beside({"baseline": "raw pixels", "baseline_value": 1, "floor": 2.0, "untrained_value": 3.0, "k": 4}) == [
        ("raw pixels", 1.0), ("real images", 2.0), ("untrained", 3.0)]  # fmt: skip
    assert beside({"floor": 2.0, "baseline": "real images", "baseline_value": 2.0}) == [("real images", 2.0)]
    assert [verdict for *_, verdict in line(number("a", 1.0, "lower", untrained_value=2.0))["beside"]] == ["better"]
    assert [verdict for *_, verdict in line(number("a", 2.0, "lower", untrained_value=2.0))["beside"]] == [""]
    names = [n["name"] for n in headlines([*NUMBERS, number("fid[other]", 1.0)])]
    assert names == ["fid[classifier-digits@ab12]", "iwae_bound[50]", "linear_accuracy"]
    assert [n["name"] for n in headlines(NUMBERS[-1:])] == ["odd"]


def test_headlines_stand_with_their_evaluators_in_one_order() -> None:
    ranked = sorted(HEADLINES, key=lambda name: HEADLINES[name].rank)
    assert len({headline.rank for headline in HEADLINES.values()}) == len(ranked)
    assert ranked[:6] == [
        "fid",
        "cluster_accuracy",
        "iwae_bound",
        "linear_accuracy",
        "finetune_accuracy",
        "knn_accuracy",
    ]
    given = {"name": "perplexity", "value": 9.0, "unit": "", "better": "lower", "facts": {}}
    given["headline"] = {"rank": 1, "words": "perplexity of a word"}
    assert headlines([*NUMBERS, given])[0] is given and headline(given)["words"] == "perplexity of a word"


def test_every_figure_has_a_caption() -> None:
    folder = Path(figures.__path__[0])
    drawn = {name for file in folder.glob("*.py") for name in re.findall(r'\.draw\("(\w+)"', file.read_text())}
    assert drawn == set(CAPTIONS)


RAW: Any = {"baseline": "raw pixels", "baseline_value": 96.0}
UNTRAINED: Any = {"baseline": "untrained network", "baseline_value": 0.2}


@pytest.mark.parametrize(
    ("given", "tone", "words"),
    [
        (number("fid[e@ab]", 1.6, "lower", floor=1.5), "good", "real images reach 1.5: 1.1 times as far"),
        (number("fid[e@ab]", 150.4, "lower", floor=1.5), "bad", "real images reach 1.5: 100 times as far"),
        (number("fid[e@ab]", 3.0, "lower", floor=1.5), "fair", "real images reach 1.5: 2 times as far"),
        (number("precision[e]", 0.2, floor=0.8), "bad", "real images reach 0.8: 25% of that"),
        (number("knn_accuracy", 97.0, **RAW), "good", "better than raw pixels, 96"),
        (number("mig", 0.1, **UNTRAINED), "bad", "worse than untrained network, 0.2"),
        (number("mig", 0.2, **UNTRAINED), "", "untrained network 0.2"),
        (number("kid[e]", 0.1, "lower", floor=-0.01), "", "real images -0.01"),
        (number("memorization[e]", 17.0, None, baseline="unseen images", baseline_value=50.0), "", "unseen images 50"),
        (number("linear_accuracy", 95.0, **RAW, untrained_value=91.0), "fair", "worse than raw pixels, 96"),
        (number("fid[e]", math.nan, "lower", floor=1.5), "", "real images 1.5"),
    ],
)  # fmt: skip
def test_a_headline_says_whether_a_number_is_good(given: Any, tone: str, words: str) -> None:
    told = headline(given)
    assert told["tone"] == tone and told["against"][0][0] == words
    arrow = {"higher": "↑ higher is better", "lower": "↓ lower is better", None: ""}[given["better"]]
    assert told["better"] == arrow and "@" not in told["words"]


def test_a_distance_is_told_in_words() -> None:
    facts = {"reference": "train b", "data": "scenes", "generated": "translations of test a", "extractor": {}}
    told = headline(number("translation_fid[cells-4x4]", 1.0, "lower", **facts))
    assert told["words"] == (
        "Fréchet distance of translations of test a to training images of domain b of scenes, seen through cells-4x4"
    )


def test_what_has_no_better_has_no_arrow_anywhere() -> None:
    given = content([number("compression_ratio", 16.0, None), number("elbo_kl", 8.0, None, untrained_value=9.0)])
    page = alone(render(given, {}))
    assert "↑" not in page.text and "↓" not in page.text and "than" not in page.text.partition("Green")[0]
    jobs = [job("a", numbers=given["numbers"], model="x"), job("b", numbers=[number("compression_ratio", 4.0, None)])]
    told = side_by_side(jobs)
    assert told["numbers"][0]["best"] == [False, False] and "*" not in "".join(drawn(told, 80))
    text = render_comparison(told, {})
    assert "↑" not in text and "↓" not in text and 'figure best"' not in text


# Several


def job(folder: str, **given: Any) -> dict[str, Any]:
    return {"folder": folder, "evaluation": content(**given)}


def values(numbers: Any, *names: str) -> list[list[Any]]:
    return [n["values"] for n in numbers if n["name"] in names]


def test_runs_of_different_models_share_some_numbers() -> None:
    fid = [number("fid[x]", value, "lower") for value in (3.0, 2.0, 4.0)]
    jobs = [
        job("a", numbers=[fid[0], number("psnr", 20.0)], model="vae"),
        job("b", numbers=[number("recall", 0.5), fid[1]], model="dcgan", weights="averaged"),
        job("c", numbers=[fid[2], number("psnr", 21.0)], model="pca"),
        {"name": "checkpoint=d", "error": "it broke"},
    ]
    told = side_by_side(jobs, "t")
    assert [run["name"] for run in told["runs"]] == ["vae live", "dcgan averaged", "pca live"]
    assert [n["name"] for n in told["numbers"]] == ["fid[x]"] and told["numbers"][0]["values"] == [3, 2, 4]
    assert told["numbers"][0]["best"] == [False, True, False] and not told["repeated"]
    assert values(told["others"], "psnr", "recall") == [[20, None, 21], [None, 0.5, None]]
    assert [n["best"] for n in told["others"]] == [[False, False, True], [False] * 3]  # alone, nothing is the best
    assert told["failed"] == [{"name": "checkpoint=d", "error": "it broke"}]
    assert told["same"] == {"data": "digits"} and told["notes"] == []


def test_seeds_of_one_model_are_averaged() -> None:
    jobs = [
        job(str(s), numbers=[number("psnr", v), number("ssim", 1.0)], seed=s, overrides=[f"run=/r/{s}"])
        for s, v in enumerate((1.0, 2.0, 6.0))
    ]
    told = side_by_side(jobs, "t")
    assert told["repeated"] and [run["name"] for run in told["runs"]] == ["seed=0", "seed=1", "seed=2"]
    psnr, ssim = told["numbers"]
    assert psnr["mean"] == 3 and psnr["sd"] == pytest.approx(math.sqrt((4 + 1 + 9) / 2)) and ssim["sd"] == 0
    assert psnr["best"] == [False, False, True] and ssim["best"] == [False] * 3  # all are the same
    classes = [
        job(str(c), numbers=[number("anomaly_auroc", 50.0 + c)], overrides=[f"data.class_subset={c}"]) for c in (0, 1)
    ]
    assert side_by_side(classes, "t")["numbers"][0]["mean"] == 50.5
    wider = [*jobs[:2], job("w", numbers=jobs[2]["evaluation"]["numbers"], seed=2, overrides=["model.latent_dim=8"])]
    told = side_by_side(wider, "t")
    assert not told["repeated"] and told["numbers"][0]["mean"] is None
    assert [run["differs"]["model.latent_dim"] for run in told["runs"]] == ["16", "16", "8"]  # from the config
    assert not side_by_side([jobs[0]], "t")["repeated"] and not side_by_side([jobs[0], jobs[0]], "t")["repeated"]


def test_only_numbers_of_the_same_images_compete() -> None:
    jobs = [job(d + m, numbers=[number("psnr", v)], model=m, data=d)
            for d, m, v in (("a", "x", 1.0), ("a", "y", 2.0), ("b", "x", 9.0), ("b", "y", 8.0))]  # fmt: skip
    told = side_by_side(jobs, "t")
    assert told["numbers"][0]["best"] == [False, True, True, False] and "different images" in told["notes"][0]
    assert [run["name"] for run in told["runs"]] == ["x a", "y a", "x b", "y b"]
    fewer = [job("a", numbers=[number("psnr", 1.0)], model="x"), job("b", numbers=[number("psnr", 2.0, images=10)])]
    assert side_by_side(fewer, "t")["numbers"][0]["best"] == [False, False]
    broken = [job("a", numbers=[number("psnr", math.nan)], seed=1), job("b", numbers=[number("psnr", 2.0)], seed=2)]
    column = side_by_side(broken)["numbers"][0]
    assert column["best"] == [False, False] and math.isnan(column["mean"]) and math.isnan(column["sd"])


def test_alike_runs_are_told_apart() -> None:
    first = job("a", checkpoint="run/best.ckpt")
    second = job("b", checkpoint="run/last.ckpt")
    told = side_by_side([first, second, second], "t")
    assert [run["name"] for run in told["runs"]] == ["run/best.ckpt", "run/last.ckpt (2)", "run/last.ckpt (3)"]
    assert side_by_side([first], "t")["runs"][0]["name"] == "a"
    assert side_by_side([{"name": "x", "error": "y"}], "t")["runs"] == []
    unnamed = {"samples": "A", "reference": "R", "names": None, "evaluation_seed": 0}
    told = side_by_side(
        [{"folder": f, "evaluation": {"provenance": unnamed | {"samples": f}, "numbers": NUMBERS[:1]}} for f in "AB"],
        "t",
    )
    assert [run["name"] for run in told["runs"]] == ["A", "B"] and told["same"] == {"reference": "R"}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three jobs of which one failed, as evaluate.py leaves them."""
    for i, (value, better) in enumerate(((1.0, 5.0), (2.0, 4.0))):
        folder = tmp_path / f"run{i}" / "evaluation"
        folder.mkdir(parents=True)
        picture(i).save(folder / "samples.png")
        numbers = [
            number("psnr", value, unit="dB", baseline="raw pixels", baseline_value=7.0 + i),
            number("fid[e]", better, "lower"),
            number("[b]old", 3.0),
        ]
        held = {"folder": str(folder), "evaluation": content(numbers, seed=i)}
        (tmp_path / f"{10 * i}.json").write_text(json.dumps(held))
    picture(2).save(tmp_path / "run1" / "evaluation" / "traversals.png")
    return tmp_path


def config_of(sweep: Path, mode: str = "MULTIRUN", num: int = 2) -> Any:
    hydra = {"sweep": {"dir": str(sweep)}, "job": {"num": num}, "overrides": {"task": ["checkpoint=gone", "seed=1"]}}
    return OmegaConf.create({"hydra": hydra | {"mode": RunMode[mode]}})


def test_a_multirun_ends_with_a_table_and_a_page(sweep: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    callback = CompareEvaluations()
    callback.on_job_end(config_of(sweep), JobReturn())
    callback.on_job_end(config_of(sweep, num=10), JobReturn())  # left its numbers: they stay
    callback.on_multirun_end(config_of(sweep))
    printed = capsys.readouterr().out
    for word in ("vae on digits: seed=0, seed=1", "mean ± sd", "1.5 ± 0.71", "↑ psnr", "↓ fid", "[e]", "[b]old", "*4"):
        assert word in printed, word
    assert "failed    checkpoint=gone seed=1:" in printed and str(sweep / "comparison.html") in printed
    held = json.loads((sweep / "comparison.json").read_text())
    assert values(held["numbers"], "psnr", "fid[e]") == [[1, 2], [5, 4]] and len(held["failed"]) == 1
    text = (sweep / "comparison.html").read_text(encoding="utf-8")
    page = alone(text)
    assert "1.5 ± 0.71" in page.text and "checkpoint=gone" in page.text and "dB" in page.text
    assert page.text.startswith("vae on digits: seed=0, seed=1") and "raw pixels 7 to 8" in page.text
    assert re.search(r'<td class="figure best">2</td>', text) and re.search(r'<td class="figure">1</td>', text)
    found = shown(page)  # what only one of them has is not beside anything
    assert len(found) == 2 and np.array_equal(np.asarray(found[1]), np.asarray(picture(1)))


def test_single_runs_and_empty_sweeps_leave_nothing(tmp_path: Path, capsys: Any) -> None:
    callback = CompareEvaluations()
    callback.on_job_end(config_of(tmp_path / "new", "RUN"), JobReturn())
    callback.on_multirun_end(config_of(tmp_path))
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    callback.on_job_end(config_of(tmp_path / "new"), JobReturn())


def test_evaluations_that_all_failed_are_one_line_and_no_page(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JobStatus, "failed", 0)
    (tmp_path / "comparison.html").write_text("of a sweep before")
    for num in (0, 1):
        CompareEvaluations().on_job_end(config_of(tmp_path, num=num), JobReturn())
    CompareEvaluations().on_multirun_end(config_of(tmp_path))
    told = capsys.readouterr()
    assert told.out == "" and told.err == "error: all 2 evaluations failed: there is nothing to compare\n"
    assert JobStatus.failed == 1 and sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json"]


def test_a_folder_that_two_jobs_wrote_to_is_named(sweep: Path, capsys: Any) -> None:
    (sweep / "11.json").write_text((sweep / "10.json").read_text())
    CompareEvaluations().on_multirun_end(config_of(sweep))
    assert "wrote to one folder" in capsys.readouterr().out


def drawn(comparison: dict[str, Any], width: int) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width)
    heads, rows = compared(comparison)
    show(console, tables(heads, rows, width, turns=True, wraps=range(1, len(heads))))
    return file.getvalue().splitlines()


def test_a_table_fits_the_screen() -> None:
    numbers = [number(f"quantity_{i}[an-extractor@ab12cd]", i + 0.123456) for i in range(12)]
    for n_runs in (2, 7, 20):
        jobs = [job(str(s), numbers=numbers, seed=s) for s in range(n_runs)]
        told = side_by_side(jobs, "t")
        for width in (80, 130):
            lines = drawn(told, width)
            text = "\n".join(lines)
            assert max(map(len, lines)) <= width and "…" not in text
            for i in range(12):
                assert f"quantity_{i}" in text
                assert text.count(short(i + 0.123456)) >= n_runs
            for s in range(n_runs):
                assert f"seed={s}" in text


# RESULTS.md


def run_folder(tmp_path: Path, name: str, **given: Any) -> Path:
    folder = tmp_path / name
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(content(**given)))
    (folder / "result.json").write_text(json.dumps({"batches": 1200, "seconds": 90.0}))
    return folder


def test_results_come_from_the_runs_own_files(tmp_path: Path, capsys: Any) -> None:
    first = run_folder(tmp_path, "a", overrides=["run=/x", "data_root=/y", "model=vae"], seed=3)
    second = run_folder(tmp_path, "b", model="dcgan", numbers=[])
    results.main([str(first), str(second)])
    text = capsys.readouterr().out
    assert "| 1. vae on digits | fid[classifier-digits@ab12] 12.35<br>iwae_bound[50] -95.18 ± 0.54 nats" in text
    assert "|  | 1,200 batches of 64, 1.5 min | a processor, 2 threads | live, epoch 7 |" in text
    assert "2. dcgan on digits | none applies |" in text
    assert "\npython train.py model=vae seed=3\n" in text and "/x" not in text and "/y" not in text
    assert "| `linear_accuracy` | 95 % | higher | raw pixels 96.1; untrained 91.25 | 359 test |" in text
    for row in text.splitlines():
        assert not row.startswith("|") or row.count("|") in (6, 7), row
    (tmp_path / "a" / "result.json").unlink()
    with pytest.raises(UserError, match=r"no result\.json"):
        results.main([str(first)])


def test_runs_of_several_seeds_are_one_result(tmp_path: Path, capsys: Any) -> None:
    folders = [
        run_folder(tmp_path, str(seed), overrides=["model=vae"], seed=seed, numbers=[number("mig", value, images=5)])
        for seed, value in ((0, 10.0), (1, 14.0))
    ]
    other = run_folder(tmp_path, "o", overrides=["model=vae", "model.latent_dim=3"], numbers=[number("mig", 99.0)])
    results.main([str(folder) for folder in [*folders, other]])
    text = capsys.readouterr().out
    assert "| 1. vae on digits | mig 12 ± 2.8" in text and "| 2 runs, each 1,200 batches of 64, 1.5 min |" in text
    assert "\npython train.py -m model=vae seed=0,1\n" in text and "mig 99" in text


def test_what_is_no_number_is_null_and_readers_take_it(tmp_path: Path, capsys: Any) -> None:
    lost = finite_json(number("mig", math.nan, standard_error=math.nan, baseline="raw pixels", baseline_value=math.inf))
    assert (lost["value"], lost["facts"]["standard_error"]) == (None, None)
    jobs = [job("a", numbers=[number("mig", 1.0)]), job("b", numbers=[lost])]
    jobs[1] |= {"name": "b", "error": "likelihood failed"}  # and its other numbers count
    jobs[1]["evaluation"]["failed"] = {"likelihood": "it burst"}
    page = alone(render(jobs[1]["evaluation"], {}))
    assert "not a number" in page.text and "likelihood failed: it burst" in page.text
    told = side_by_side(jobs, "t")
    (column,) = told["numbers"] + told["others"]
    assert (
        column["values"][0] == 1
        and not any(column["best"])
        and told["failed"] == [{"name": "b", "error": "likelihood failed"}]
    )
    alone(render_comparison(told, {}))
    folders = [
        run_folder(tmp_path, str(seed), overrides=["model=vae"], seed=seed, numbers=[each])
        for seed, each in enumerate((number("mig", 1.0), lost))
    ]
    results.main([str(folder) for folder in folders])
    assert "mig not a number" in capsys.readouterr().out
    (folders[0] / "evaluation" / "evaluation.json").write_text(json.dumps(content() | {"unfinished": ["probe"]}))
    with pytest.raises(UserError, match="ended before probe"):
        results.main([str(folders[0])])


def test_the_last_checkpoint_is_a_result_of_its_own(tmp_path: Path, capsys: Any) -> None:
    """The best and the last of one run stand side by side, and are not taken for two runs."""
    folder = run_folder(tmp_path, "a", overrides=["model=vae"], numbers=[number("mig", 10.0)])
    last = folder / "evaluation_last"
    last.mkdir()
    found = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    found["provenance"]["overrides"] = [f"checkpoint={folder}/checkpoints/last.ckpt", f"output={last}"]
    found["numbers"][0]["value"] = 14.0
    (last / "evaluation.json").write_text(json.dumps(found))
    results.main([str(folder), str(last)])
    text = capsys.readouterr().out
    assert "| 1. vae on digits | mig 10 |" in text and "| 2. vae on digits, last | mig 14 |" in text
    assert "\npython evaluate.py checkpoint=RUN/checkpoints/last.ckpt\n" in text and str(tmp_path) not in text

    found["numbers"][0]["value"] = 10.0  # as the best has it
    (last / "evaluation.json").write_text(json.dumps(found))
    results.main([str(last), str(folder)])
    assert "mig 10 |" in (text := capsys.readouterr().out) and "last" not in text
    results.main([str(last)])
    assert "| 1. vae on digits, last | mig 10 |" in capsys.readouterr().out


def test_an_experiment_says_what_it_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The published numbers choose what is told; what the file said before goes, the recipe stays."""
    monkeypatch.setattr(results, "CONF", tmp_path)
    file = tmp_path / "experiment" / "mnist" / "small.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\n# A small one\n# Published: mig 34.2\n# Reached: long ago\n#   mig 1\nseed: 3\n"
    )
    folder = run_folder(
        tmp_path,
        "a",
        overrides=["experiment=mnist/small", "budget.epochs=2"],
        numbers=[number("mig", 12.5), number("dci", 1.0)],
    )
    results.main(["--headers", str(folder)])
    rows = file.read_text().splitlines()
    assert rows[:3] == ["# @package _global_", "# A small one", "# Published: mig 34.2"] and rows[-1] == "seed: 3"
    told = " ".join(row.lstrip("# ") for row in rows[3:-1])
    assert (
        told == "Reached with budget.epochs=2: mig 12.5 (seed 0; 1,200 batches of 64, 1.5 min, a processor, 2 threads)"
    )
    results.main(["--headers", str(folder)])
    assert file.read_text().splitlines() == rows
    results.main([str(folder)])
    assert "| 1. mnist/small | mig 12.5 | mig 34.2 |" in capsys.readouterr().out
