"""The collections of the CycleGAN and pix2pix papers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from unlabeled.data.content import Files
from unlabeled.data.download.archives import File
from unlabeled.data.packing import RawImages
from unlabeled.data.sources.archive import Extracted, check_counts, obtain
from unlabeled.data.sources.pictures import find, lazy_pictures
from unlabeled.errors import UserError, suggest


class CycleGAN(Extracted):
    """Two domains without pairs. Zhu et al. 2017, https://arxiv.org/abs/1703.10593

    The files lie in ROOT/cyclegan/NAME/{trainA,trainB,testA,testB}. A download is held against its checksum, and
    folders against the published numbers of images.
    """

    splits = ("train_a", "train_b", "test_a", "test_b")
    archives = {  # name: (bytes, sha256)
        "apple2orange": (78456409, "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8"),
        "cezanne2photo": (279885071, "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff"),
        "cityscapes": (279601602, "d2f6910fd056c1ee9873777ae838e7ac4a2c833598ae62a04188e5ab2f4ea036"),
        "facades": (35135868, "9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0"),
        "horse2zebra": (116867962, "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1"),
        "iphone2dslr_flower": (339964458, "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113"),
        "maps": (1476754427, "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e"),
        "monet2photo": (305231073, "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04"),
        "summer2winter_yosemite": (
            132640856,
            "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9",
        ),
        "ukiyoe2photo": (292946532, "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08"),
        "vangogh2photo": (306590349, "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff"),
    }

    counts: dict[str, tuple[int, int, int, int]] = {  # images in trainA, trainB, testA, testB
        "apple2orange": (995, 1019, 266, 248),
        "cezanne2photo": (525, 6287, 58, 751),
        "cityscapes": (2975, 2975, 500, 500),
        "facades": (400, 400, 106, 106),
        "horse2zebra": (1067, 1334, 120, 140),
        "iphone2dslr_flower": (1812, 3325, 569, 480),
        "maps": (1096, 1096, 1098, 1098),
        "monet2photo": (1072, 6287, 121, 751),
        "summer2winter_yosemite": (1231, 962, 309, 238),
        "ukiyoe2photo": (562, 6287, 263, 751),
        "vangogh2photo": (400, 6287, 400, 751),
    }

    def __init__(
        self,
        name: str,  # of `archives`
        mirrors: Sequence[str],  # addresses of folders with NAME.zip
    ):
        self.name = name
        self.mirrors = mirrors

    def prepare(self, root: Path) -> None:
        if self.name not in self.archives:
            raise UserError(f"no CycleGAN collection {self.name!r}; {suggest(self.name, self.archives)}")
        size, checksum = self.archives[self.name]
        urls = [f"{mirror.rstrip('/')}/{self.name}.zip" for mirror in self.mirrors]
        folder = obtain(File(f"{self.name}.zip", urls, checksum, size), root / "cyclegan" / self.name)
        parts = zip(("trainA", "trainB", "testA", "testB"), self.counts[self.name], strict=True)
        complete(self.name, folder, dict(parts))

    def fingerprint(self, root: Path) -> str | Files:
        return self.known(root / "cyclegan" / self.name, self.archives.get(self.name, (0, ""))[1])

    def read(self, root: Path, split: str) -> RawImages:
        part, domain = split.split("_")
        folder = root / "cyclegan" / self.name / f"{part}{domain.upper()}"
        return unlabelled(folder)


class Pix2Pix(Extracted):
    """Pairs side by side in one picture. Isola et al. 2017, https://arxiv.org/abs/1611.07004

    The files lie in ROOT/pix2pix/NAME/{train,val,test}. Where the authors publish no test split, their val is
    our test, and our val is cut from train. There are no published checksums: a download is held against its
    size, the one known here or the one that the server states, and the CRC of the gzip archive; folders are held
    against the published numbers of images, but for night2day, of which none are known here.
    """

    archives: dict[str, tuple[int | None, dict[str, str]]] = {  # archive: (bytes, our split -> theirs)
        "facades": (30168306, {"train": "train", "val": "val", "test": "test"}),
        "maps": (250242400, {"train": "train", "test": "val"}),
        "cityscapes": (None, {"train": "train", "test": "val"}),
        "edges2shoes": (None, {"train": "train", "test": "val"}),
        "edges2handbags": (None, {"train": "train", "test": "val"}),
        "night2day": (None, {"train": "train", "val": "val", "test": "test"}),
    }
    counts: dict[str, dict[str, int]] = {  # archive: folder -> pairs
        "facades": {"train": 400, "val": 100, "test": 106},
        "maps": {"train": 1096, "val": 1098},
        "cityscapes": {"train": 2975, "val": 500},
        "edges2shoes": {"train": 49_825, "val": 200},
        "edges2handbags": {"train": 138_567, "val": 200},
    }

    def __init__(
        self,
        name: str,  # of `archives`; with "_pairs" behind it where CycleGAN has the same name
        a: str,  # the half that is translated from: "left" or "right"
        mirrors: Sequence[str],  # addresses of folders with NAME.tar.gz
    ):
        self.name = name
        self.archive = name.removesuffix("_pairs")
        self.a = a
        self.mirrors = mirrors

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(f"{split}_{domain}" for split in self._facts()[1] for domain in "ab")

    def _facts(self) -> tuple[int | None, dict[str, str]]:
        if self.archive not in self.archives:
            raise UserError(f"no pix2pix collection {self.archive!r}; {suggest(self.archive, self.archives)}")
        if self.a not in ("left", "right"):
            raise UserError(f"data.source.a={self.a}: say left or right")
        return self.archives[self.archive]

    def prepare(self, root: Path) -> None:
        size, _ = self._facts()
        urls = [f"{mirror.rstrip('/')}/{self.archive}.tar.gz" for mirror in self.mirrors]
        folder = obtain(File(f"{self.archive}.tar.gz", urls, size=size), root / "pix2pix" / self.archive)
        complete(self.name, folder, self.counts.get(self.archive, {}))

    def fingerprint(self, root: Path) -> str | Files:
        size, _ = self._facts()
        return self.known(root / "pix2pix" / self.archive, f"{self.archive} {size}")

    def read(self, root: Path, split: str) -> RawImages:
        ours, domain = split.split("_")
        folder = root / "pix2pix" / self.archive / self._facts()[1][ours]
        return unlabelled(folder, partial(_half, right=(self.a == "right") == (domain == "a")))


def _half(image: Image.Image, right: bool) -> Image.Image:
    middle = image.width // 2
    return image.crop((middle, 0, 2 * middle, image.height) if right else (0, 0, middle, image.height))


def complete(name: str, folder: Path, counts: Mapping[str, int]) -> None:
    """Raises UserError where subfolders hold other numbers of pictures than these."""
    places = [(folder / part, "images", len(find(folder / part)), n) for part, n in counts.items()]
    check_counts(name, places, f"complete it, or remove {folder} to have it fetched")


def unlabelled(folder: Path, then: Callable[[Image.Image], Image.Image] | None = None) -> RawImages:
    """All pictures of a folder, in the order of their names."""
    paths = find(folder)
    if not paths:
        raise UserError(f"no images in {folder}: remove {folder.parent} and run again")
    return RawImages(lazy_pictures(paths, then), np.full(len(paths), -1))
