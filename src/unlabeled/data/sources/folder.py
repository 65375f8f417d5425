"""A user's own images, as they lie."""

from functools import cached_property
from pathlib import Path

import numpy as np

from unlabeled.data.content import Files
from unlabeled.data.packed import Records
from unlabeled.data.sources.pictures import find, lazily
from unlabeled.errors import UserError
from unlabeled.files import folder

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Pictures:
    """The splits, classes and pictures of one folder.

    A subfolder `train` makes the subfolders train, val (or valid, validation) and test the splits; without
    it, everything is train. Folders in a split are classes, numbered in alphabetical order, where they hold a
    picture.
    """

    def __init__(self, path: str | Path | None, key: str):  # key: what to type to name the folder
        self.given, self.key = path, key

    @cached_property
    def splits(self) -> dict[str, list[Path]]:
        """split -> its pictures"""
        if self.given is None:
            raise UserError(f"which images? say {self.key}=FOLDER")
        if not self.path.is_dir():
            raise UserError(f"{self.key}={self.given}: there is no such folder")
        places = {"train": self.path}
        if (self.path / "train").is_dir():
            inside = sorted(self.path.iterdir())
            places = {SPLITS[place.name]: place for place in inside if place.name in SPLITS and place.is_dir()}
        found = {split: find(place) for split, place in places.items()}
        if not found["train"]:
            raise UserError(f"{self.key}={self.given}: no images in {places['train']}")
        self._places = places
        return {split: paths for split, paths in found.items() if paths}

    @cached_property
    def path(self) -> Path:
        return folder(self.given, self.key)

    def labels(self, split: str) -> np.ndarray:
        """The class of each picture of a split, (N,); -1 for those outside of class folders."""
        kinds = {s: [self._kind(s, path) for path in paths] for s, paths in self.splits.items()}
        names = sorted({kind for several in kinds.values() for kind in several if kind})
        numbers = {"": -1} | {name: i for i, name in enumerate(names)}
        return np.array([numbers[kind] for kind in kinds[split]])

    def _kind(self, split: str, path: Path) -> str:
        inside = path.relative_to(self._places[split]).parts
        return inside[0] if len(inside) > 1 else ""

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every picture, named by its split and its path in it."""
        return {
            "/".join((split, *path.parts[len(self._places[split].parts) :])): path
            for split, paths in self.splits.items()
            for path in paths
        }


class Folder:
    """Any folder of images, with or without train, val and test in it, with or without classes in those."""

    name = "folder"

    def __init__(self, path: str | None):
        self.pictures = Pictures(path, "data.source.path")

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.pictures.splits)

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> Files:
        return self._content

    @cached_property
    def _content(self) -> Files:
        return Files(self.pictures.files)

    def read(self, root: Path, split: str) -> Records:
        return Records(lazily(self.pictures.splits[split]), self.pictures.labels(split))


class TwoFolders:
    """Two folders of images that have nothing to do with each other picture by picture."""

    name = "two_folders"

    def __init__(self, a: str | None, b: str | None):
        self.domains = {"a": Pictures(a, "data.source.a"), "b": Pictures(b, "data.source.b")}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(f"{split}_{name}" for name, pictures in self.domains.items() for split in pictures.splits)

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> Files:
        return self._content

    @cached_property
    def _content(self) -> Files:
        each = self.domains.items()
        return Files({f"{domain}/{name}": path for domain, found in each for name, path in found.files.items()})

    def read(self, root: Path, split: str) -> Records:
        part, domain = split.split("_")
        paths = self.domains[domain].splits[part]
        return Records(lazily(paths), np.full(len(paths), -1))
