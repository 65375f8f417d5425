"""Classes by their names."""

from collections.abc import Sequence

from unlabeled.errors import UserError, suggest

FEW = 20  # names that are all told


def class_numbers(wanted: Sequence[int | str], names: Sequence[str], key: str, data: str) -> tuple[int, ...]:
    """The numbers of classes that are wanted by name or number, each once. Names: by number, () where there are none.

    Where some name is a number itself, as of folders 1, 2, 10, a number is a name. Raises UserError.
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
    """Names, the first and the last of many."""
    return ", ".join(names) if len(names) <= FEW else f"{len(names):,}, {names[0]} to {names[-1]}"


def class_name(number: int, names: Sequence[str]) -> str:
    """What to call a class."""
    return names[number] if 0 <= number < len(names) else str(number)
