"""HTML pages of one evaluation or of several, without scripts or links."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from unlabeled.commands import command, quoted, without_places
from unlabeled.evaluation.figures import captions
from unlabeled.evaluation.report.verdicts import (
    ARROWS,
    bare,
    beside,
    headline,
    headlines,
    short,
    shown,
    verdict,
)

LARGE = 600_000  # bytes of a PNG above which it is reduced to 256 colours
BUDGET = 10_000_000  # bytes of a page's pictures

Picture = Image.Image | str | Path  # a path is that of a PNG


def render(content: Mapping[str, Any], pictures: Mapping[str, Picture], curves: str = "") -> str:
    """The page of one evaluation. content: evaluation.json's; curves: an <svg>, or nothing."""
    provenance = content["provenance"]
    numbers = content["numbers"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for number in numbers:
        groups.setdefault(number.get("group") or "", []).append(line(number))
    return _page(
        "report.html",
        title=content.get("title") or title(provenance),
        facts=[(key, provenance[key]) for key in ("date", "epoch", "seed", "checkpoint") if key in provenance],
        headlines=[headline(number) for number in headlines(numbers)],
        groups=groups,
        provenance=flat(provenance),
        notes=[
            *(f"{name} failed: {why}" for name, why in (content.get("failed") or {}).items()),
            *(content.get("notes") or []),
        ],
        pictures=[
            (captions.title(name), captions.caption(name), *embedded(pictures[name]))
            for name in captions.in_order(list(pictures))
        ],
        curves=curves,
        config=yaml.safe_dump(_plain(content.get("config") or {}), sort_keys=False, allow_unicode=True),
        commands=commands(provenance),
    )


def render_comparison(comparison: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Picture]]) -> str:
    """The page of several. comparison: `side_by_side`'s; pictures: name -> run's name -> picture."""
    shown, left_out, room = [], [], BUDGET
    for name, by_run in pictures.items():
        urls = [(run, *embedded(picture)) for run, picture in by_run.items()]
        size = sum(len(url) for _, url, _ in urls)
        if size > room:
            left_out.append(captions.title(name))
            continue
        room -= size
        shown.append((captions.title(name), captions.caption(name), urls))
    return _page("comparison.html", **comparison, pictures=shown, left_out=left_out, short=short, arrows=ARROWS)


def _page(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent / "pages")
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    return environment.get_template(template).render(**values)


# Words


def title(provenance: Mapping[str, Any]) -> str:
    names = provenance.get("names") or {}
    return f"{names.get('model', '?')} on {names.get('data', '?')}, {provenance.get('weights', '?')} weights"


def line(number: Mapping[str, Any]) -> dict[str, Any]:
    """A number as a row of the table."""
    facts = number["facts"]
    return {
        "name": number["name"],
        "bare": bare(number["name"]),
        "value": shown(number),
        "error": f"{facts['standard_error']:.2g}" if isinstance(facts.get("standard_error"), float) else None,
        "unit": number["unit"],
        "better": number["better"] or "",
        "arrow": f"{ARROWS[number['better']]} {number['better']}" if number["better"] else "",
        "beside": [(name, short(value), verdict(number, name, value)) for name, value in beside(facts)],
        "on": " ".join(str(facts[key]) for key in ("images", "split") if key in facts),
        "facts": [("name", number["name"]), *flat(facts)],
    }


def flat(facts: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{before}{key} ")
        elif isinstance(value, list | tuple):
            lines.append((f"{before}{key}".replace("_", " "), ", ".join(map(str, value))))
        else:
            lines.append((f"{before}{key}".replace("_", " "), str(value)))
    return lines


def commands(provenance: Mapping[str, Any]) -> list[str]:
    """The commands that reproduce the run and its evaluation."""
    lines = []
    if provenance.get("names"):
        lines.append(training_command(provenance))
    words = provenance.get("overrides")
    if words is None:
        given = {key: key for key in ("checkpoint", "samples", "reference", "weights")} | {"evaluation_seed": "seed"}
        words = [quoted(name, provenance[key]) for key, name in given.items() if key in provenance]
    return [*lines, command("evaluate", *words)]


def training_command(provenance: Mapping[str, Any]) -> str:
    """`python train.py` with the run's overrides, without those of paths."""
    words = without_places(provenance["names"].get("overrides", []))
    return command("train", *(word for word in words if not word.startswith("seed=")), f"seed={provenance['seed']}")


def embedded(picture: Picture) -> tuple[str, int]:
    """A picture as a data: address, and its width in pixels. Large ones are reduced to 256 colours."""
    image = picture if isinstance(picture, Image.Image) else Image.open(picture).convert("RGB")
    data = _png(image)
    if len(data) > LARGE:
        data = min(data, _png(image.quantize(256)), key=len)
    return "data:image/png;base64," + base64.b64encode(data).decode(), image.width


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _plain(value: Any) -> Any:
    """The value in the types of YAML's safe writer."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
