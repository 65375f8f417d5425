"""Faces: Labeled Faces in the Wild, and CelebA."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unlabeled.data.content import Files
from unlabeled.data.download.archives import File, by_hand, extract, fault
from unlabeled.data.packing import RawImages
from unlabeled.data.sources.archive import Extracted, check_counts, obtain, seal
from unlabeled.data.sources.pictures import find, lazy_pictures
from unlabeled.errors import UserError


class LFW(Extracted):
    """Labeled Faces in the Wild, funneled (aligned). Huang et al. 2007 and 2007b, http://vis-www.cs.umass.edu/lfw/

    13,233 photographs of 250x250; the label is the person, of 5,749 in alphabetical order.
    The files lie in ROOT/lfw-py/lfw_funneled, as torchvision has them.
    """

    name = "lfw"
    folder = "lfw-py/lfw_funneled"
    archive = "lfw-funneled.tgz"
    checksum = "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a"  # sha256
    splits = ("train",)
    counts = (13_233, 5_749)  # images, persons

    def __init__(self, urls: Sequence[str]):  # addresses of the archive
        self.urls = urls

    def prepare(self, root: Path) -> None:
        folder = obtain(File(self.archive, self.urls, self.checksum), root / self.folder)
        faces = find(folder)
        found = (len(faces), len({path.parent for path in faces}))
        places = [(folder, *each) for each in zip(("images", "persons"), found, self.counts, strict=True)]
        check_counts(self.name, places, f"complete it, or remove {folder} to have it fetched")

    def fingerprint(self, root: Path) -> str | Files:
        return self.known(root / self.folder, self.checksum)

    def class_names(self, root: Path) -> tuple[str, ...]:
        return tuple(sorted({path.parent.name for path in find(root / self.folder)}))  # () where they do not lie there

    def read(self, root: Path, split: str) -> RawImages:
        paths = find(root / self.folder)
        _, labels = np.unique([path.parent.name for path in paths], return_inverse=True)
        return RawImages(lazy_pictures(paths), labels)


class CelebA(Extracted):
    """CelebFaces Attributes, aligned and cropped. Liu et al. 2015, https://arxiv.org/abs/1411.7766

    202,599 photographs of 178x218, of which the centre, 178x178, is used; the labels are 40 attributes in {0,
    1}; the splits are the official partition. The files lie in ROOT/celeba, as torchvision has them.
    """

    name = "celeba"
    folder = "celeba"
    splits = ("train", "val", "test")
    checksums = {  # md5
        "img_align_celeba.zip": "00d2c5bc6d35e252742224ab0c1e8fcb",
        "list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
        "list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
    }
    count = 202_599
    attributes = (  # the labels' columns, as list_attr_celeba.txt heads them
        "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
        "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
        "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
        "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
        "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
        "Wearing_Necklace", "Wearing_Necktie", "Young",
    )  # fmt: skip

    def __init__(self, home: str):  # the page that links the files; a program cannot fetch from there reliably
        self.home = home

    def prepare(self, root: Path) -> None:
        folder = root / self.folder
        images = folder / "img_align_celeba"
        wanted = [name for name in self.checksums if not (images.is_dir() and name.endswith(".zip"))]
        missing = [name for name in wanted if not (folder / name).is_file()]
        if missing:
            raise by_hand(self.name, self.home, folder, missing)
        for name in wanted:
            if wrong := fault(folder / name, File(name, (), self.checksums[name])):
                raise UserError(f"{folder / name} is not the official file ({wrong}): get it from {self.home}")
        if not images.is_dir():
            extract(folder / "img_align_celeba.zip", images)
            seal(images)
        place = (images, "images", len(find(images)), self.count)
        check_counts(self.name, [place], f"complete it, or remove it and put img_align_celeba.zip into {folder}")

    def fingerprint(self, root: Path) -> str | Files:
        return self.known(root / self.folder / "img_align_celeba", " ".join(self.checksums.values()))

    def read(self, root: Path, split: str) -> RawImages:
        folder = root / self.folder
        partition = [line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
        rows = [line.split() for line in (folder / "list_attr_celeba.txt").read_text().splitlines()[2:]]
        attributes = {row[0]: row[1:] for row in rows}  # "1" or "-1"
        names = [name for name, part in partition if part == {"train": "0", "val": "1", "test": "2"}[split]]
        labels = np.array([attributes[name] for name in names]) == "1"
        return RawImages(lazy_pictures([folder / "img_align_celeba" / name for name in names], _centre), labels)


def _centre(image: Image.Image) -> Image.Image:
    """The middle square."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
