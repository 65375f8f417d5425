"""Folders of configs: the program's own, and one of the user's beside it (--config-dir FOLDER)."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unlabeled.errors import UserError

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "conf").is_dir()  # from a wheel, which carries the configs; else from a checkout
CONF = PACKAGE / "conf" if INSTALLED else PACKAGE.parents[1] / "conf"
VARIABLE = "UNLABELED_CONFIG_DIR"  # by which this process and those that it starts know the user's folder
OPTION = ("--config-dir", "-cd")  # Hydra's own words


def own() -> Path | None:
    """The user's folder of configs; modules are looked for in the folder that it lies in."""
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    folder = Path(given).expanduser().absolute()
    return folder / "conf" if (folder / "conf").is_dir() else folder


def folders() -> list[Path]:
    """Where configs are looked for, in this order."""
    return [CONF, *filter(None, [own()])]


def names(group: str) -> list[str]:
    """The names that a config group has, with the folder of those in one; not those that only others build on."""
    places = [folder / group for folder in folders()]
    found = {path.relative_to(place).with_suffix("").as_posix() for place in places for path in place.rglob("*.yaml")}
    return sorted(name for name in found if not name.startswith("base/"))


def file(group: str, name: str) -> Path:
    """A config of a group; where there is none, the place in which the program's own would be."""
    places = [folder / group / f"{name}.yaml" for folder in folders()]
    return next(filter(Path.is_file, places), places[0])


def groups() -> set[str]:
    """The groups at the top."""
    return {path.name for folder in folders() for path in folder.iterdir() if path.is_dir()}


def is_group(name: str) -> bool:
    return any((folder / name).is_dir() for folder in folders())


def described(group: str, name: str) -> str:
    """The first line of a config: what it is."""
    lines = file(group, name).read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and "@package" not in line), "")


def use(folder: str | Path) -> None:
    """Take configs from FOLDER/conf too, or from FOLDER itself, in this process and in those that it starts.

    Modules in the folder above the configs can be imported. Raises UserError where there are no configs, or where one
    of them has the place of one of the program's own, which would hide it.
    """
    os.environ[VARIABLE] = str(Path(folder).expanduser().absolute())
    mine = own()
    if mine is None or not mine.is_dir():
        raise UserError(f"--config-dir {folder}: there is no such folder")
    found = {path.relative_to(mine) for path in mine.glob("*/**/*.yaml")}
    if not found:
        raise UserError(f"--config-dir {folder}: there are no configs in it: a model's is FOLDER/conf/model/NAME.yaml")
    hidden = sorted(path for path in found if (CONF / path).is_file())
    if hidden:
        raise UserError(f"--config-dir {folder}: Unlabeled has a {hidden[0]} itself: give yours another name")
    reach()


def reach() -> None:
    """Let modules beside the user's configs be imported. They come last, and take no other module's place."""
    if (mine := own()) and str(mine.parent) not in sys.path:
        sys.path.append(str(mine.parent))


@contextmanager
def using(folder: str | Path | None) -> Iterator[None]:
    """`use`, for a while; None: as it is. What was imported from there can still be imported afterwards."""
    before = os.environ.get(VARIABLE)
    try:
        if folder is not None:
            use(folder)
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def taken(words: Sequence[str]) -> list[str]:
    """The words of a command line without `--config-dir FOLDER`, whose folder is used; else that of VARIABLE is."""
    rest, given = [], os.environ.get(VARIABLE)
    waiting = iter(words)
    for word in waiting:
        option, equals, value = word.partition("=")
        if option not in OPTION:
            rest.append(word)
        elif not (given := value if equals else next(waiting, "")):
            raise UserError(f"{option} takes a folder: {OPTION[0]} FOLDER")
    if given:
        use(given)
    return rest


def option() -> list[str]:
    """The words by which another command uses the same folder."""
    given = os.environ.get(VARIABLE)
    if not given:
        return []
    folder, here = Path(given), Path.cwd()
    return [OPTION[0], str(folder.relative_to(here) if folder.is_relative_to(here) else folder)]


reach()  # of processes that another one started
