"""What the pages of docs/ name exists."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOMES = (ROOT, ROOT / "src" / "unlabeled")  # of the paths on a page


def test_architecture_names_what_exists() -> None:
    wrong = []
    page = (DOCS / "architecture.md").read_text()
    for path, names in re.findall(r"`([a-z][a-z0-9_/.]*(?:/|\.py|\.yaml))(?:::([\w.]+))?`", page):
        found = [home / path for home in HOMES if (home / path).exists()]
        wrong += [path] * (not found)
        for name in names.split(".") if found and names else ():
            wrong += [f"{path}::{name}"] * (not re.search(rf"^\s*(class|def) {name}\b", found[0].read_text(), re.M))
    assert not wrong


def test_links_between_pages_lead_somewhere() -> None:
    wrong = []
    for page in (*ROOT.glob("*.md"), *DOCS.glob("*.md")):
        home = ROOT if page.name == "index.md" else page.parent  # index.md is built as the page above all others
        for link in re.findall(r"\]\((?!\w+:|#)([^)#]+)", page.read_text()):
            wrong += [f"{page.name}: {link}"] * (not (home / link).exists())
    assert not wrong


def test_pictures_of_the_gallery_are_small() -> None:
    sizes = [path.stat().st_size for path in (DOCS / "gallery").rglob("*.png")]
    assert sizes and max(sizes) < 200_000 and sum(sizes) < 1_500_000


def test_templates_and_citation_are_yaml() -> None:
    for path in (*(ROOT / ".github").rglob("*.yml"), ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
