"""The rules of the house, kept by the machine."""

import ast
import difflib
import itertools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.contract.cases import CASES
from unlabeled.app.cli.main import parts

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "unlabeled"
MODELS = sorted((ROOT / "conf" / "model").glob("*.yaml"))
PARTS = [path for group in (*parts(), "network") for path in sorted((ROOT / "conf" / group).rglob("*.yaml"))]
METHODS = [
    p
    for p in sorted((SRC / "methods").rglob("*.py"))
    if p.stem not in {"__init__", "method"} and "class " in p.read_text() and "unlabeled.methods" in p.read_text()
]

# room -> the rooms that it may import from; the longest name that holds a module is its room
GROUND = {"batches", "capabilities", "commands", "errors", "files", "seeding"}
DATA_TYPES = {"data.protocols", "data.loader", "data.module"}  # for annotations; data are built from their _target_
PLAIN = {"losses", "distributions", "optim", "nn"}
ROOMS = {
    "configs": {"errors"},
    "commands": {"configs"},
    "errors": set(),
    "files": {"errors"},
    "seeding": set(),
    "batches": set(),
    "capabilities": set(),
    "nn.layers": {"nn.layers", "errors"},
    **{
        f"nn.{room.name}": {f"nn.{room.name}", "nn.layers", "errors"}
        for room in (SRC / "nn").iterdir()
        if room.is_dir() and room.name not in ("layers", "__pycache__")
    },
    "losses": {"losses", "errors"},
    "distributions": {"distributions", "losses", "nn.layers", "errors"},
    "optim": {"optim", "errors"},
    "methods": {"methods", "batches", "errors", "seeding", "files", "commands"} | PLAIN,
    "data": {"data"} | GROUND - {"capabilities"},
    "evaluation": {"evaluation", "nn.backbones", "nn.pretrained"} | GROUND,
    "loggers": {"loggers", "commands", "errors", "files"},
    "distributed": {"distributed", "errors"},
    "callbacks": {*DATA_TYPES, "callbacks", "distributed", "evaluation", "loggers"} | GROUND,
    "app": {*DATA_TYPES, "app", "configs", "callbacks", "distributed", "evaluation", "loggers"} | GROUND,
    "library": {"app", "configs", "data", "evaluation", "library", "loggers"} | GROUND,
    "contract": {"app", "callbacks", "configs", "contract", "data", "library"} | GROUND,
    "console": {"app", "configs", "contract"} | GROUND,
    "__main__": {"console"},
    "__init__": {"errors", "library"},
}
ENTRIES = {"app", "contract", "library"}  # where configs are objects


def within(module: str, rooms: set[str]) -> bool:
    return any(f"{module}.".startswith(f"{room}.") for room in rooms)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_only_go_down() -> None:
    wrong = []
    for path in sorted(SRC.rglob("*.py")):
        module = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        room = max((room for room in ROOMS if within(module, {room})), key=len, default=None)
        if room is None:
            wrong += [f"{module} is in no room"] * (path.name != "__init__.py" or bool(path.read_text()))
            continue
        for name in imported(path):
            if name.startswith("unlabeled.") and not within(name.removeprefix("unlabeled."), ROOMS[room]):
                wrong.append(f"{module} imports {name}")
            if name.startswith("omegaconf") and room not in ENTRIES:
                wrong.append(f"{module} imports {name}: no config object goes below the entry point")
    assert not wrong, "\n".join(wrong)


def test_rooms_and_files_stay_small() -> None:
    """A room of src has at most 30 files, and a file 400 lines; scenes.py is one drawing room."""
    rooms = Counter(path.parent for path in SRC.rglob("*.py"))
    assert [room for room, count in rooms.items() if count > 30] == []
    long = [path.name for path in SRC.rglob("*.py") if len(path.read_text().splitlines()) > 400]
    assert long in ([], ["scenes.py"])


def test_every_model_has_one_row() -> None:
    rows, files = Counter(case.model for case in CASES), {path.stem for path in MODELS}
    missing, twice = sorted(files - set(rows)), sorted(name for name, count in rows.items() if count > 1)
    assert not missing, f"tests/contract/cases.py has no row for {', '.join(missing)}: add Case(...) of it"
    assert not twice, f"tests/contract/cases.py has more than one row for {', '.join(twice)}"
    assert not set(rows) - files, f"conf/model/ has no {', '.join(sorted(set(rows) - files))}"


def test_every_model_names_its_paper() -> None:
    paper = re.compile(r"# .+\. (.+ (et al\.|& .+)|[\w .-]+) \d{4}, https://")
    assert [path.stem for path in MODELS if not paper.match(path.read_text().splitlines()[0])] == []


def test_any_optimizer_takes_what_models_say_of_theirs() -> None:
    """So that another one is a word: what only one kind takes, as betas, stands in conf/optimizer/."""
    for path in MODELS:
        for name, value in yaml.safe_load(path.read_text()).items():
            if name.endswith("optimizer") and isinstance(value, dict):
                assert set(value) <= {"lr", "weight_decay"}, f"{path.name}, {name}: take a preset of conf/optimizer/"


def test_every_part_says_what_it_is() -> None:
    for path in PARTS:
        text = path.read_text()
        assert re.match(r"# \w.{8,}", text) and {"_target_", "defaults"} & set(yaml.safe_load(text)), path


def test_a_method_fits_on_three_screens_and_names_its_paper() -> None:
    for path in METHODS:
        assert "https://" in (ast.get_docstring(ast.parse(path.read_text())) or ""), path
        assert len(path.read_text().splitlines()) <= 200, path


def test_the_base_stays_small() -> None:
    assert len((SRC / "methods" / "method.py").read_text().splitlines()) <= 100


def test_no_two_methods_are_mostly_the_same() -> None:
    lines = {path.stem: [line.strip() for line in path.read_text().splitlines() if line.strip()] for path in METHODS}
    alike = []
    for a, b in itertools.combinations(lines, 2):
        matcher = difflib.SequenceMatcher(None, lines[a], lines[b], autojunk=False)
        if matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6 and matcher.ratio() > 0.6:
            alike.append(f"{a} and {b}")
    assert not alike


@pytest.mark.parametrize("program", ["train", "evaluate", "unlabeled", "unlabeled.console"])
def test_entry_points_import_nothing_heavy_until_a_run_starts(program: str) -> None:
    heavy = {"torch", "lightning", "numpy", "matplotlib", "sklearn", "wandb", "rich", "PIL"}
    code = f"import sys; import {program}; print(' '.join(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_lock_holds_names_versions_and_hashes_only() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"\w+://|--(extra-)?index-url|--find-links", lock)
    for block in re.split(r"\n(?=[a-z])", lock.strip()):
        assert re.match(r"[\w.-]+==\S+", block) and "--hash=sha256:" in block


def test_the_lock_satisfies_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11

    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]  # launchers and sweepers are installed by those who need them
    wanted = [*project["dependencies"], *extras["tensorboard"], *extras["dev"], *extras["docs"]]
    assert {re.match(r"[\w.-]+", d)[0].lower() for d in wanted} <= locked  # type: ignore[index]
