"""An evaluation, or several beside one another, as one page that stands alone: no script, no network."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from unlabeled.commands import command, quoted
from unlabeled.evaluation.report.verdicts import (
    ARROWS,
    bare,
    beside,
    heading,
    headline,
    headlines,
    short,
    told,
    verdict,
)

LARGE = 600_000  # bytes of a PNG above which 256 colours must do
BUDGET = 10_000_000  # bytes of a page's pictures

LOOK = {
    "samples": "Draws from the model. Are they sharp, are they varied, does any image come twice?",
    "density": (
        "Where the generator's samples lie, the brighter the more; a circle is three standard deviations around a mode "
        "of the data. Is any circle empty, does anything lie between them? On a line: the data's density, that of "
        "samples, and the discriminator's score where the method tells it."
    ),
    "nearest_training_images": (
        "Each row: a sample, then the training images nearest to it; first the samples that come nearest of all. "
        "The numbers are distances in units of the usual distance between a held-out image and its nearest training "
        "image: near 1 is as new as real images are, near 0 is a copy."
    ),
    "nearest_in_features": "Samples, and the real image nearest to each as the metrics' network sees them.",
    "reconstructions": "Held-out images and what comes back from their codes. What is lost first: edges, thin strokes?",
    "interpolation": "Four codes in the corners, and everything between them. Every image on the way should be real.",
    "interpolations": (
        "From one code to another. Where the prior is Gaussian, also along the sphere: the middle of a straight line "
        "is shorter than what the model was trained on."
    ),
    "traversals": (
        "One dimension of a code moved at a time, the one that matters most first. Does a dimension change one thing?"
    ),
    "neighbors": "Each row: an image, then those of the scored split whose codes are nearest in angle.",
    "class_arithmetic": (
        "An image's code plus a multiple of (mean code of another class - mean code of its own): 1 is the whole way."
    ),
    "arithmetic_of_draws": (
        "A drawn code plus a multiple of (mean code of another class - mean code of its own), classes as the extractor "
        "sees them in drawn images: 1 is the whole way."
    ),
    "attributes": (
        "An image's code plus a multiple of (mean code with the attribute - mean code without). Does anything else "
        "change along with it?"
    ),
    "attribute_sums": "Arithmetic on mean codes of three images each, decoded.",
    "embedding": "Codes in the plane. Do the classes, which training never saw, fall apart?",
    "anomalies": "The images that the model finds most, and least, unusual.",
    "a_to_b": "Images of domain a, translated, and back again where the model can. Is the content kept?",
    "b_to_a": "Images of domain b, translated, and back again where the model can. Is the content kept?",
}

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
        pictures=[(heading(name), explained(name), *embedded(pictures[name])) for name in ordered(pictures)],
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
            left_out.append(heading(name))
            continue
        room -= size
        shown.append((heading(name), explained(name), urls))
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


def ordered(names: Iterable[str]) -> list[str]:
    """As `LOOK` has them, the method's own last."""
    known = list(LOOK)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def explained(name: str) -> str:
    return LOOK.get(name, "Drawn by the method itself.")


def line(number: Mapping[str, Any]) -> dict[str, Any]:
    """A number as a row of the table."""
    facts = number["facts"]
    return {
        "name": number["name"],
        "bare": bare(number["name"]),
        "value": told(number),
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
    """What to type to have the same again."""
    lines = []
    if provenance.get("names"):
        lines.append(training_command(provenance))
    words = provenance.get("overrides")
    if words is None:
        given = {key: key for key in ("checkpoint", "samples", "reference", "weights")} | {"evaluation_seed": "seed"}
        words = [quoted(name, provenance[key]) for key, name in given.items() if key in provenance]
    return [*lines, command("evaluate", *words)]


def training_command(provenance: Mapping[str, Any], elsewhere: Sequence[str] = ("run=", "resume=")) -> str:
    """`python train.py` with the run's overrides, without those that say where things lie."""
    words = [word for word in provenance["names"].get("overrides", []) if not word.startswith((*elsewhere, "seed="))]
    return command("train", *words, f"seed={provenance['seed']}")


def embedded(picture: Picture) -> tuple[str, int]:
    """A picture as a data: address, and its width in pixels. Where it is large, 256 colours must do."""
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
    """As YAML's safe writer takes it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
