"""Folders of a user's own images."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from unlabeled.data.content import Files
from unlabeled.data.packing import RawImages, Unreadable
from unlabeled.data.sources.pictures import Search, is_grey, lazy_pictures, natural_key, search, upright_size
from unlabeled.errors import UserError
from unlabeled.files import folder

SPLIT_NAME = re.compile(
    r"(train(ing)?|val(id(ation)?)?|dev|test(ing)?)([ _-]?(set|data|images))?", re.IGNORECASE | re.ASCII
)


def split_of(folder: str) -> str | None:
    """The split that a folder's name stands for: train, training, Training_set, ... -> train; so val and test too."""
    if not SPLIT_NAME.fullmatch(folder):
        return None
    return {"tr": "train", "te": "test"}.get(folder[:2].lower(), "val")


class Pictures:
    """The splits, classes and pictures of one folder. Folders without pictures are ignored.

    Splits: folders named train (or training), val (valid, validation, dev) and test (testing), in upper or lower case
    and also with `set`, `data` or `images` behind the name, are the splits

    - where train stands beside val or test (and then folders of other names are left out), or
    - where train is the only folder, or the only one whose pictures all lie in folders of its own.

    Else a folder named train is a class like its neighbours, and everything is the split train. Two folders for one
    split, splits without train, and splits within other folders are refused.

    Classes: the folders in a split, numbered over all splits in the natural order of their names (2 before 10).
    """

    def __init__(self, path: str | Path | None, key: str):  # key: what to type to name the folder
        self.given, self.key = path, key

    @cached_property
    def search(self) -> Search:
        if self.given is None:
            raise UserError(f"which images? say {self.key}=FOLDER")
        if not self.path.is_dir():
            raise UserError(f"{self.key}={self.given}: there is no such folder")
        return search(self.path)

    def inside(self, path: Path) -> tuple[str, ...]:
        """A picture's path within the folder: names of folders, and its own."""
        return path.parts[len(self.path.parts) :]

    @cached_property
    def folders(self) -> dict[str, str]:
        """split -> its folder; empty where everything is train."""
        places_in: dict[str, list[tuple[str, ...]]] = {}  # folder -> paths of its pictures within it
        for path in self.search.found:
            first, *rest = self.inside(path)
            if rest:
                places_in.setdefault(first, []).append(tuple(rest))
        named = [(split, name) for name in places_in if (split := split_of(name))]
        others = [name for name in places_in if not split_of(name)]
        splits = {split for split, _ in named}
        if "train" not in splits:
            self._refuse_hidden_splits(places_in)
            if splits and not others:
                raise UserError(
                    f"{self.key}={self.given}: {' and '.join(name for _, name in named)}, but no folder of training "
                    "images: call one train, or give classes other names"
                )
            return {}
        if splits == {"train"} and others:
            deep = {name for name, places in places_in.items() if all(len(place) > 1 for place in places)}
            if not deep.issuperset(name for _, name in named) or deep.intersection(others):
                return {}  # a class
        if len(named) > len(splits):
            twice = next(split for split in splits if [s for s, _ in named].count(split) > 1)
            names = " and ".join(name for split, name in named if split == twice)
            raise UserError(f"{self.key}={self.given}: {names} are both {twice}: join them, or rename one")
        return dict(named)

    def _refuse_hidden_splits(self, places_in: dict[str, list[tuple[str, ...]]]) -> None:
        for name, places in places_in.items():
            splits = {place[0]: split for place in places if len(place) > 1 and (split := split_of(place[0]))}
            if len(set(splits.values())) > 1 and "train" in splits.values():
                raise UserError(
                    f"{self.key}={self.given}: its folder {name} has {' and '.join(sorted(splits))} in it, which would "
                    f"become one: say {self.key}={self.path / name}, or lay classes into the splits"
                )

    @cached_property
    def splits(self) -> dict[str, list[Path]]:
        """split -> its pictures"""
        if not self.folders:
            found = {"train": self.search.found}
        else:
            place = {folder: split for split, folder in self.folders.items()}
            found = {split: [] for split in ("train", "val", "test")}
            for path in self.search.found:
                if split := place.get(self.inside(path)[0]):
                    found[split].append(path)
        if not found["train"]:
            raise UserError(f"{self.key}={self.given}: no images in {self.path}")
        return {split: paths for split, paths in found.items() if paths}

    @cached_property
    def path(self) -> Path:
        return folder(self.given, self.key)

    @cached_property
    def left(self) -> dict[str, list[Path]]:
        """Reason -> pictures and folders left out for it."""
        beside = self.search.found
        if self.folders:
            beside = [path for path in beside if self.inside(path)[0] not in self.folders.values()]
            return self.search.left | ({"outside of the split folders": beside} if beside else {})
        return self.search.left

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes by their numbers."""
        return numbered(self._kind(path) for paths in self.splits.values() for path in paths)

    def labels(self, split: str) -> np.ndarray:
        """The class of each picture of a split, (N,); -1 for those outside of class folders."""
        numbers = {"": -1} | {name: i for i, name in enumerate(self.names)}
        return np.array([numbers[self._kind(path)] for path in self.splits[split]])

    def _kind(self, path: Path) -> str:
        inside = self.inside(path)[bool(self.folders) :]
        return inside[0] if len(inside) > 1 else ""

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every picture, named by its split and its path in it."""
        inner = bool(self.folders)
        return {
            "/".join([split, *self.inside(path)[inner:]]): path
            for split, paths in self.splits.items()
            for path in paths
        }


def numbered(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in the order of their numbers."""
    return tuple(sorted({name for name in names if name}, key=natural_key))


class OwnFiles:
    """A source whose files are the user's own, identified by their content."""

    def files(self) -> dict[str, Path]:
        """Every picture, by a name of its own."""
        raise NotImplementedError

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> Files:
        return self._content

    @cached_property
    def _content(self) -> Files:
        return Files(self.files())


class Folder(OwnFiles):
    """A folder of images, with or without splits and classes as folders in it."""

    name = "folder"

    def __init__(self, path: str | None):
        self.pictures = Pictures(path, "data.source.path")

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.pictures.splits)

    @property
    def left(self) -> dict[str, list[Path]]:
        return self.pictures.left

    def class_names(self, root: Path) -> tuple[str, ...]:
        return self.pictures.names

    def files(self) -> dict[str, Path]:
        return self.pictures.files

    def read(self, root: Path, split: str) -> RawImages:
        return RawImages(lazy_pictures(self.pictures.splits[split]), self.pictures.labels(split), whole=False)


class AllPictures(OwnFiles):
    """All images of a folder and of the folders in it as one split without classes."""

    name = "folder"
    splits = ("train",)

    def __init__(
        self,
        path: str,
        key: str,  # what to type to name the folder
    ):
        self.pictures = Pictures(path, key)

    @cached_property
    def paths(self) -> list[Path]:
        if not self.pictures.search.found:
            raise UserError(f"{self.pictures.key}={self.pictures.given}: no images in {self.pictures.path}")
        return self.pictures.search.found

    @property
    def left(self) -> dict[str, list[Path]]:
        return self.pictures.search.left

    @cached_property
    def split_folders(self) -> list[str]:
        """Folders in it that are named as splits."""
        within = (self.pictures.inside(path)[:-1] for path in self.paths)
        return sorted({place[0] for place in within if place and split_of(place[0])})

    def sizes(self) -> dict[tuple[int, int], Path]:
        """(height, width) of the images that can be read, upright, each with one that has it."""
        found: dict[tuple[int, int], Path] = {}
        for path in self.paths:
            with suppress(Unreadable):  # packing reports it
                found.setdefault(upright_size(path), path)
        return found

    def grey(self) -> bool:
        """Whether no image has a colour, however they are saved."""
        for path in self.paths:
            with suppress(Unreadable):
                if not is_grey(path):
                    return False
        return True

    def files(self) -> dict[str, Path]:
        return {"/".join(self.pictures.inside(path)): path for path in self.paths}

    def read(self, root: Path, split: str) -> RawImages:
        return RawImages(lazy_pictures(self.paths), np.full(len(self.paths), -1), whole=False)


class TwoFolders(OwnFiles):
    """Two folders of unpaired images."""

    name = "two_folders"

    def __init__(self, a: str | None, b: str | None):
        self.domains = {"a": Pictures(a, "data.source.a"), "b": Pictures(b, "data.source.b")}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(f"{split}_{name}" for name, pictures in self.domains.items() for split in pictures.splits)

    @property
    def left(self) -> dict[str, list[Path]]:
        a, b = (pictures.left for pictures in self.domains.values())
        return {why: [*a.get(why, []), *b.get(why, [])] for why in {**a, **b}}

    def files(self) -> dict[str, Path]:
        return {f"{domain}/{n}": path for domain, found in self.domains.items() for n, path in found.files.items()}

    def read(self, root: Path, split: str) -> RawImages:
        part, domain = split.split("_")
        paths = self.domains[domain].splits[part]
        return RawImages(lazy_pictures(paths), np.full(len(paths), -1), whole=False)


class PairedFolders(TwoFolders):
    """Two folders of pairs: pictures of the same name, whatever their format, in the same split and subfolder."""

    name = "paired_folders"

    @cached_property
    def paths(self) -> dict[str, dict[str, Path]]:
        """split_domain -> its pictures by their names, in the same order in both domains. Raises UserError."""
        found: dict[str, dict[str, Path]] = {}
        for domain, pictures in self.domains.items():
            for place, path in pictures.files.items():
                split, _, name = place.partition("/")
                named = found.setdefault(f"{split}_{domain}", {})
                if (stem := str(Path(name).with_suffix(""))) in named:
                    raise UserError(f"{pictures.key}={pictures.given}: {named[stem]} and {path} have the same name")
                named[stem] = path
        alone = [
            str(path)
            for split in dict.fromkeys(place.rpartition("_")[0] for place in found)
            for one, other in (("a", "b"), ("b", "a"))
            for name, path in found.get(f"{split}_{one}", {}).items()
            if name not in found.get(f"{split}_{other}", {})
        ]
        if alone:
            raise UserError(f"{len(alone)} images have no partner of the same name in the other folder: {some(alone)}")
        return {
            place: dict(sorted(named.items(), key=lambda pair: natural_key(pair[0]))) for place, named in found.items()
        }

    def prepare(self, root: Path) -> None:
        """Raises UserError where the two images of a pair have not the same proportions."""
        unlike = []
        for place in (place for place in self.paths if place.endswith("_a")):
            for a, b in zip(self.paths[place].values(), self.paths[f"{place[:-1]}b"].values(), strict=True):
                with suppress(Unreadable):  # packing reports it
                    (height, width), (tall, wide) = upright_size(a), upright_size(b)
                    if height * wide != tall * width:
                        unlike.append(f"{a} ({width}x{height}) and {b} ({wide}x{tall})")
        if unlike:
            raise UserError(f"the images of {len(unlike)} pairs have other proportions: {some(unlike)}")

    def read(self, root: Path, split: str) -> RawImages:
        paths = list(self.paths[split].values())
        return RawImages(lazy_pictures(paths), np.full(len(paths), -1))  # whole: one left out would move all others


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names of many."""
    return ", ".join(names[:most]) + f" and {len(names) - most:,} more" * (len(names) > most)
