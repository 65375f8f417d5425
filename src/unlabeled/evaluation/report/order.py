"""The order in which recorded quantities are shown. Imports nothing heavy."""

from collections.abc import Iterable


def ordered(names: Iterable[str], *monitored: str | None) -> list[str]:
    """The monitored quantity first, then those of validation, losses before others; gradient norms and rates last."""

    def rank(name: str) -> tuple[bool, bool, bool, bool, str]:
        quantity = name.partition("/")[2]
        last = quantity.startswith("gradient_norm") or quantity == "lr"
        return name not in monitored, last, not name.startswith("val/"), "loss" not in quantity, name

    return sorted(names, key=rank)
