"""Class names and numbers."""

from collections.abc import Sequence

from unlabeled.errors import UserError, suggest

FEW = 20  # at most so many names are listed in full


def class_numbers(wanted: Sequence[int | str], names: Sequence[str], key: str, data: str) -> tuple[int, ...]:
    """The numbers of classes given by name or number, each once. names: by number, () where there are none.

    Where some names are numbers, such as folders 1, 2, 10, a number is read as a name. Raises UserError.
    """
    return tuple(dict.fromkeys(_number(one, names, key, data) for one in wanted))


def _number(one: int | str, names: Sequence[str], key: str, data: str) -> int:
    word = str(one)
    if word in names:
        return list(names).index(word)
    meant = [i for i, name in enumerate(names) if word.isdecimal() and name.isdecimal() and int(name) == int(word)]
    if len(meant) == 1:
        return meant[0]
    if word.isdecimal() and not any(name.isdecimal() for name in names):
        if not names or int(word) < len(names):
            return int(word)
        raise UserError(f"{key}: data={data} has no class {word}: there are {listing(names)}, from 0 on")
    if not names:
        raise UserError(f"{key}={word}: the classes of data={data} have no names: say their numbers")
    hint = suggest(word, names)
    if not hint.startswith("did you mean"):
        hint = f"there are {listing(names)}"
    raise UserError(f"{key}: data={data} has no class {word}: {hint}")


def listing(names: Sequence[str]) -> str:
    """The names in one line; of many the first and the last."""
    return ", ".join(names) if len(names) <= FEW else f"{len(names):,}, {names[0]} to {names[-1]}"


def class_name(number: int, names: Sequence[str]) -> str:
    """A class's name, else its number."""
    return names[number] if 0 <= number < len(names) else str(number)
