"""Numbers in words: baselines, verdicts and headlines. Imports nothing heavy."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

ARROWS = {"higher": "↑", "lower": "↓", None: ""}

# Baselines that a trained method should beat; others are for comparison.
TO_BEAT = (
    "raw pixels",
    "k-means on raw pixels",
    "neighbors of raw pixels",
    "untrained",
    "untrained network",
    "the mean image",
    "the most common class",
    "left as it is",
    "from scratch",
)
REACHED = re.compile(r"real images|\d+ points of the data")  # the values that a perfect method reaches
NEAR, FAR = 0.8, 0.4  # shares of the value of real images: from NEAR good, below FAR bad


def short(value: Any) -> str:
    """A number with four digits."""
    if not isinstance(value, float):
        return str(value)
    if math.isfinite(value) and abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def shown(number: Mapping[str, Any]) -> str:
    """A number's value, or the reason that it has none."""
    return number.get("value_reason", "none") if number["value"] is None else short(number["value"])


def rounded(times: float) -> str:
    """A ratio with two digits: 1.1, 2, 8.2, 100."""
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def bare(name: str) -> str:
    """fid[classifier-digits@ab12cd] without the weights' hash."""
    return re.sub(r"@[0-9a-f]+\]$", "]", name)


def beside(facts: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The values that a number is compared with, by name: baseline, floor, untrained network."""
    found = []
    for key, value in facts.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            if key.endswith("_value"):
                name = key.removesuffix("_value")
                found.append((str(facts.get(name, name)).replace("_", " "), float(value)))
            elif key == "floor" and facts.get("baseline_value") != value:
                found.append(("real images", float(value)))
    return found


def verdict(number: Mapping[str, Any], name: str, other: float) -> str:
    """better or worse than a baseline to beat; "" if it is equal, or no such baseline."""
    value = number["value"]
    if name not in TO_BEAT or not number["better"] or value is None or not math.isfinite(value - other):
        return ""
    ahead = value - other if number["better"] == "higher" else other - value
    return "better" if ahead > 0 else "worse" if ahead < 0 else ""


def share(number: Mapping[str, Any], name: str, other: float) -> float | None:
    """The number as a share of the value of real images; None if it has none."""
    value = number["value"]
    if not REACHED.fullmatch(name) or value is None or not (0 < value < math.inf and 0 < other < math.inf):
        return None
    return {"higher": value / other, "lower": other / value}.get(number["better"])


def headline(number: Mapping[str, Any]) -> dict[str, Any]:
    """The number as a tile: its words, its direction, its baselines, and whether it is good."""
    facts = number["facts"]
    title, _, rest = number["name"].partition("[")
    against, tones = [], []
    for name, other in beside(facts):
        judged, part = verdict(number, name, other), share(number, name, other)
        if judged:
            tones.append({"better": "good", "worse": "bad"}[judged])
            against.append((f"{judged} than {name}, {short(other)}", tones[-1]))
        elif part is not None:
            tones.append("good" if part >= NEAR else "fair" if part >= FAR else "bad")
            far = f": {rounded(1 / part)} times as far" if number["better"] == "lower" else f": {part:.0%} of that"
            against.append((f"{name} reach {short(other)}{far if abs(1 - part) > 0.01 else ''}", tones[-1]))
        else:
            against.append((f"{name} {short(other)}", ""))
    through = bare(f"[{rest}")[1:-1] if "extractor" in facts else ""
    if "accuracy" in (facts.get("extractor") or {}):
        through += f", right on {facts['extractor']['accuracy']:.3g} % of {facts['extractor']['accuracy_on']}"
    return {
        "name": title,
        "words": plain(number) + (f", seen through {through}" if through else ""),
        "value": shown(number),
        "unit": number["unit"],
        "better": f"{ARROWS[number['better']]} {number['better']} is better" if number["better"] else "",
        "against": against,
        "tone": "fair" if len(set(tones)) > 1 else "".join(set(tones)),
    }


def plain(number: Mapping[str, Any]) -> str:
    """What a number is, in words: its evaluator's headline, else its name."""
    facts = number["facts"]
    words = (number.get("headline") or {}).get("words") or number["name"].partition("[")[0].replace("_", " ")
    splits = {"train": "training images", "val": "validation images", "test": "test images"}
    split, _, domain = str(facts.get("reference", "")).partition(" ")
    reference = f"{splits.get(split, 'real images')}{f' of domain {domain}' if domain else ''}"
    if facts.get("data"):
        reference += f" of {facts['data']}"
    return words.format(generated=facts.get("generated", "samples"), reference=reference)


def headlines(numbers: Sequence[Mapping[str, Any]], most: int = 4) -> list[Any]:
    """The most important numbers, by their evaluators' ranks (metric.Headline); without any, the first ones."""
    known = [number for number in numbers if number.get("headline")]
    known.sort(key=lambda number: number["headline"]["rank"])
    first: dict[str, Any] = {}  # of fid[a], fid[b], ... one
    for number in known or numbers:
        first.setdefault(number["name"].split("[")[0], number)
    return list(first.values())[:most]
