"""A user's own folders: which images count, which splits and classes they are, and what is told of it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests.data.test_data import Some, levels, put
from unlabeled.app.evaluate.target import common_shape
from unlabeled.app.run.class_names import name_classes
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.kinds.pairs import UnpairedData
from unlabeled.data.labels import class_numbers
from unlabeled.data.packing import RawImages, pack
from unlabeled.data.sources.folder import AllPictures, Folder, Pictures, TwoFolders
from unlabeled.data.sources.pictures import natural_key, open_picture, upright_size
from unlabeled.errors import UserError


def lay(folder: Path, names: str) -> Path:
    for name in names.split():
        put(folder, f"{name}.png", levels(8, 8, 3))
    return folder


def found(folder: Path) -> dict[str, dict[str, int]]:
    """split -> class -> its images; "" for none."""
    pictures = Pictures(folder, "data.source.path")
    return {
        split: {
            name: int((pictures.labels(split) == i).sum())
            for i, name in (*enumerate(pictures.names), (-1, ""))
            if (pictures.labels(split) == i).any()
        }
        for split in pictures.splits
    }


# Splits

IS = {
    "a class named train": ("train/1 cat/1 cat/2 bus/1", {"train": {"bus": 1, "cat": 2, "train": 1}}),
    "a class named train, all nested": ("train/x/1 cat/y/1", {"train": {"cat": 1, "train": 1}}),
    "a class named training": ("training/1 cat/1", {"train": {"cat": 1, "training": 1}}),
    "a class named test": ("test/1 cat/1", {"train": {"cat": 1, "test": 1}}),
    "both": ("train/train/1 train/a/1 test/train/1", {"train": {"a": 1, "train": 1}, "test": {"train": 1}}),
    "capitals": ("Train/cat/1 Test/cat/1", {"train": {"cat": 1}, "test": {"cat": 1}}),
    "participles": ("training/cat/1 TESTING/cat/1", {"train": {"cat": 1}, "test": {"cat": 1}}),
    "sets": ("training_set/a/1 test_set/a/1", {"train": {"a": 1}, "test": {"a": 1}}),
    "synonyms of val": ("train/1 dev/1", {"train": {"": 1}, "val": {"": 1}}),
    "others beside": ("train/a/1 val/a/1 docs/1 0", {"train": {"a": 1}, "val": {"a": 1}}),
    "one, with classes, beside pictures": ("train/a/1 train/b/1 docs/1", {"train": {"a": 1, "b": 1}}),
    "one alone": ("train/1 train/2", {"train": {"": 2}}),
    "no class at all": ("1 2", {"train": {"": 2}}),
}  # fmt: skip


@pytest.mark.parametrize(("names", "expected"), IS.values(), ids=IS)
def test_splits_and_classes_are_what_a_person_means(tmp_path: Path, names: str, expected: Any) -> None:
    assert found(lay(tmp_path, names)) == expected


REFUSED = {
    "train/1 val/1 validation/1": "val and validation are both val",
    "Train/1 train/1 test/1": "Train and train are both train",
    "test/1 val/1": "no folder of training images",
    "test/cat/1": "no folder of training images",
    "mine/train/1 mine/test/1": "data.source.path=.*/mine, or",
    "bottle/train/good/1 bottle/test/bad/1 cable/train/1": "its folder bottle has test and train in it",
}


@pytest.mark.parametrize(("names", "said"), REFUSED.items(), ids=REFUSED)
def test_splits_that_cannot_be_told_are_refused_in_one_line(tmp_path: Path, names: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        found(lay(tmp_path, names))
    assert "\n" not in str(caught.value)


def test_images_beside_the_splits_are_told(tmp_path: Path) -> None:
    pictures = Pictures(lay(tmp_path, "train/1 test/1 docs/1 0"), "data.source.path")
    assert pictures.left == {"outside of the split folders": [tmp_path / "0.png", tmp_path / "docs/1.png"]}


# Links


def linked(folder: Path, **links: str) -> Path:
    """Links by their path, with / as __, to what they lead to."""
    for name, target in links.items():
        (folder / name.replace("__", "/")).symlink_to(folder / target)
    return folder


@pytest.mark.parametrize(
    ("links", "left"),
    [
        ({"train__a__up": "."}, 1),
        ({"train__a__up": "train", "test__a__up": "test"}, 2),
        ({"test__b": "train/a"}, 1),  # test would hold what training saw
        ({"test__a__again.png": "train/a/1.png"}, 1),
        ({"train__0": "train/a"}, 1),  # comes first by name, and gives its pictures no other class
        ({"train__a__gone.png": "nothing.png"}, 1),
        ({"train__0.png": "train/a/1.png", "train__1.png": "train/a/1.png"}, 2),
    ],
)
def test_a_picture_that_is_reached_twice_counts_once(tmp_path: Path, links: dict[str, str], left: int) -> None:
    lay(tmp_path, "train/a/1 train/a/2 test/a/1")
    linked(tmp_path, **links)
    assert found(tmp_path) == {"train": {"a": 2}, "test": {"a": 1}}
    assert sum(map(len, Pictures(tmp_path, "").left.values())) == left


def test_links_to_elsewhere_are_followed(tmp_path: Path) -> None:
    lay(tmp_path / "pool", "1 2 3")
    (tmp_path / "mine/cat").mkdir(parents=True)
    (tmp_path / "mine/cat/one.png").symlink_to(tmp_path / "pool/1.png")
    (tmp_path / "mine/dog").symlink_to(tmp_path / "pool")
    assert found(tmp_path / "mine") == {"train": {"cat": 1, "dog": 2}}


# What cannot be read


def spoil(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no picture")


def test_all_files_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, capsys: Any) -> None:
    mine = lay(tmp_path / "mine", " ".join(f"{c}/{i}" for c in "abc" for i in range(100, 300)))
    spoil(mine, *(f"b/{i}.png" for i in range(150, 157)), "a/0.jpg", "c/9.gif")
    (mine / "c/300.png").write_bytes((mine / "c/299.png").read_bytes()[:90])  # cut
    data = ImageData(Folder(str(mine)), tmp_path, (3, 8, 8), 4)
    data.prepare_data()
    (line,) = capsys.readouterr().err.splitlines()
    assert "593 images" in line and "3 classes: a 200, b 193, c 200" in line and "10 that cannot be read" in line
    assert f"{mine}/a/0.jpg (no image)" in line and "and 5 more" in line
    packed = data.pack("train")
    assert len(packed.left) == 10 and packed.left[-2] == (f"{mine}/c/300.png", "image file is truncated")
    kept = [
        (i, path) for i, path in enumerate(data.source.pictures.splits["train"]) if str(path) not in dict(packed.left)
    ]
    assert len(packed.images) == len(packed.labels) == len(kept)
    for row, (_, path) in enumerate(kept):  # labels stay with their images
        assert "abc"[int(packed.labels[row])] == path.parent.name
        assert np.array_equal(packed.images[row].numpy().transpose(1, 2, 0), np.asarray(Image.open(path)))
    again = ImageData(Folder(str(mine)), tmp_path, (3, 8, 8), 4)
    again.prepare_data()
    assert not capsys.readouterr().err and again.pack("train").left == packed.left


def test_where_no_image_can_be_read_it_ends_in_one_line(tmp_path: Path) -> None:
    spoil(tmp_path / "mine", *(f"{i}.png" for i in range(7)))
    with pytest.raises(UserError, match=r"7 of 7 images cannot be read: .*0.png .no image.*and 2 more") as caught:
        pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path / "packed", "train", (3, 8, 8))
    assert "\n" not in str(caught.value) and not list((tmp_path / "packed").iterdir())


def test_of_a_published_set_no_image_may_be_missing(tmp_path: Path) -> None:
    lay(tmp_path / "mine", "1 2")
    spoil(tmp_path / "mine", "3.png", "4.png")

    class Published(Folder):
        def read(self, root: Path, split: str) -> RawImages:
            return super().read(root, split)._replace(whole=True)

    with pytest.raises(UserError, match=r"2 of 4 images cannot be read: .*3.png .*4.png"):
        pack(Published(str(tmp_path / "mine")), tmp_path, tmp_path / "packed", "train", (3, 8, 8))
    assert not list((tmp_path / "packed").iterdir())


def test_an_error_of_the_disk_leaves_nothing_out(tmp_path: Path, monkeypatch: Any) -> None:
    """Another try may read what this one could not: nothing is packed without it."""
    lay(tmp_path / "mine", "1 2")

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UserError, match="Input/output error"):
        pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path / "packed", "train", (3, 8, 8))


# The line


def said(data: Any, capsys: Any) -> str:
    capsys.readouterr()
    data.prepare_data()
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("note: ")


def test_one_line_says_what_was_found(tmp_path: Path, capsys: Any) -> None:
    lay(tmp_path, "train/cat/1 train/cat/2 train/dog/1 train/3 val/dog/1 test/cat/1 test/cow/1 x/1")
    (tmp_path / "test/cat/2.png").write_bytes((tmp_path / "train/dog/1.png").read_bytes())
    data = ImageData(Folder(str(tmp_path)), tmp_path, (3, 8, 8), 1)
    assert said(data, capsys) == (
        "data=folder: 8 images: 4 train, 1 val, 3 test; 1 of the test images are equal to a training image; 3 classes: "
        f"cat 4, cow 1, dog 2; 1 images without a class; no training image of cow; left out: {tmp_path}/x/1.png "
        "(outside of the split folders)"
    )
    assert data.classes == 3
    data.prepare_data()
    assert not capsys.readouterr().err  # once


def test_many_classes_are_abbreviated_and_numbers_are_not_listed(tmp_path: Path, capsys: Any) -> None:
    lay(tmp_path / "mine", " ".join(f"{c}/{i}" for c in range(30) for i in range(1 + c % 2)))
    line = said(ImageData(Folder(str(tmp_path / "mine")), tmp_path, (3, 8, 8), 1, val=0, test=0), capsys)
    assert line == "data=folder: 45 images: 45 train; 30 classes of 1 to 2 images"
    line = said(ImageData(Some(20), tmp_path, (1, 8, 8), 1, val=0.1, test=0.2), capsys)
    assert line.startswith("data=some: 20 images: 14 train, 2 val, 4 test; 20 classes of 1 images")


def test_domains_are_told_apart(tmp_path: Path, capsys: Any) -> None:
    lay(tmp_path, "a/1 a/2 b/train/1 b/test/1")
    data = UnpairedData(TwoFolders(str(tmp_path / "a"), str(tmp_path / "b")), tmp_path, (3, 8, 8), 1, val=0, test=0)
    assert said(data, capsys) == "data=two_folders: 2 images of a: 2 train; 2 images of b: 1 train, 1 test"


def test_copies_that_chance_puts_into_test_are_told(tmp_path: Path, capsys: Any) -> None:
    lay(tmp_path / "mine", " ".join(map(str, range(10))))
    for i in range(10):
        (tmp_path / f"mine/copy{i}.png").write_bytes((tmp_path / f"mine/{i}.png").read_bytes())
    data = ImageData(Folder(str(tmp_path / "mine")), tmp_path, (3, 8, 8), 1, val=0, test=0.5)
    line = said(data, capsys)
    pixels, (train, test) = data.pack("train").images, (data.table(split).rows for split in ("train", "test"))
    shared = sum(any(torch.equal(pixels[i], pixels[j]) for j in train) for i in test)
    assert shared and f"{shared} of the test images are equal to a training image" in line


# Names of classes


def test_numbers_in_names_stand_in_their_order(tmp_path: Path) -> None:
    names = ["a10", "a2", "10", "2", "1", "b", "01", "a2b", "B"]
    assert sorted(names, key=natural_key) == ["01", "1", "2", "10", "B", "a2", "a2b", "a10", "b"]
    mine = lay(tmp_path / "mine", "2/1 10/1 1/1")
    packed = pack(Folder(str(mine)), tmp_path, tmp_path, "train", (3, 8, 8))
    assert Folder(str(mine)).class_names(tmp_path) == ("1", "2", "10")
    assert packed.labels.tolist() == [0, 2, 1]  # the pictures of 1, 10, 2


NAMED = {
    "by name": ("cat", ["bus", "cat"], (1,)),
    "by number": (1, ["bus", "cat"], (1,)),
    "several, once each": (["cat", 0, "bus"], ["bus", "cat"], (1, 0)),
    "a number is a name": (2, ["1", "2", "10"], (1,)),
    "with zeros": (7, ["001", "007"], (1,)),
    "no names": ([3, "1"], [], (3, 1)),
}
UNNAMED = {
    "no such name": ("cut", ["bus", "cat"], "no class cut: did you mean cat"),
    "no name near": ("xyz", ["bus", "cat"], "no class xyz: there are bus, cat"),
    "too large": (2, ["bus", "cat"], "no class 2: there are bus, cat, from 0 on"),
    "no such number among names": (0, ["1", "2"], "no class 0: there are 1, 2"),
    "many": ("?", [f"class {i}" for i in range(100)], "there are 100, class 0 to class 99"),
    "no names": ("cat", [], "say their numbers"),
}


@pytest.mark.parametrize(("only", "names", "expected"), NAMED.values(), ids=NAMED)
def test_classes_are_said_by_name_or_number(only: Any, names: list[str], expected: Any) -> None:
    assert class_numbers(only if isinstance(only, list) else [only], names, "data.class_subset", "d") == expected


@pytest.mark.parametrize(("only", "names", "words"), UNNAMED.values(), ids=UNNAMED)
def test_classes_that_are_not_there_end_in_one_line(only: Any, names: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        class_numbers([only], names, "data.class_subset", "d")
    assert "\n" not in str(caught.value)


def test_training_keeps_the_class_that_a_person_means(tmp_path: Path, capsys: Any) -> None:
    mine = lay(tmp_path / "mine", " ".join(f"{c}/{i}" for c in (1, 2, 10, "cat") for i in range(5)))
    for only, expected in ((2, [1]), ("cat", [3]), ([10, "cat"], [2, 3])):
        data = ImageData(Folder(str(mine)), tmp_path, (3, 8, 8), 1, class_subset=only)
        data.prepare_data()
        table = data.table("train")
        assert table.labels[table.rows].unique().tolist() == expected == list(data.class_subset or ())
        assert ("the class named 2, which has the number 1" in capsys.readouterr().err) == (only == 2)
    with pytest.raises(UserError, match="no class dog: "):
        ImageData(Folder(str(mine)), tmp_path, (3, 8, 8), 1, class_subset="dog").prepare_data()


@pytest.mark.parametrize(
    ("folders", "classes", "expected"),
    [("b/1 a/1 a/2", None, (["a", "b"], 2)), ("b/1 a/1", 5, (["a", "b"], 5)), ("1 2", None, (None, None))],
)
def test_a_run_keeps_the_names_of_its_classes_and_counts_them(
    tmp_path: Path, folders: str, classes: int | None, expected: Any
) -> None:
    source = {"_target_": "unlabeled.data.sources.folder.Folder", "path": str(lay(tmp_path, folders))}
    data = {"source": source, "root": "unused", "classes": classes, "class_names": None}
    config = OmegaConf.create({"data": data, "model": {"classes": "${data.classes}"}})
    name_classes(config)
    assert (config.data.class_names, config.data.classes) == expected and config.model.classes == expected[1]


def test_a_number_means_the_same_class_in_another_folder(tmp_path: Path, capsys: Any) -> None:
    names = ("ant", "cat", "dog")
    mine = lay(tmp_path / "mine", "cat/1 cat/2 dog/1 cow/1")  # no ant, and one more
    data = ImageData(Folder(str(mine)), tmp_path, (3, 8, 8), 1, classes=3, class_names=names)
    data.prepare_data()
    assert data.pack("train").labels.tolist() == [1, 1, -1, 2] and data.class_names == names
    assert "cow" in capsys.readouterr().err
    own = ImageData(Folder(str(mine)), tmp_path, (3, 8, 8), 1)
    own.prepare_data()
    assert own.pack("train").labels.tolist() == [0, 0, 1, 2] and own.keys != data.keys


def test_a_conditional_method_learns_from_class_folders_that_nobody_counted(program: Any, tmp_path: Path) -> None:
    mine = lay(tmp_path / "mine", " ".join(f"{c}/{i}" for c in (2, 10, "cat") for i in range(6)))
    run, packed = tmp_path / "run", f"data_packed={tmp_path}"
    words = ["model=conditional_vae", "likelihood=gaussian", "data=folder", f"data.source.path={mine}", "data.size=8"]
    words += [
        "data.batch_size=4",
        "data.class_subset=cat",
        packed,
        "budget.batches=1",
        "callbacks.nearest_images.searched=0",
    ]
    result = program("train", f"run={run}", *words)
    assert result.status == 0 and "3 classes: 2 6, 10 6, cat 6" in result.err, result.err
    kept = [OmegaConf.load(run / "config.yaml"), torch.load(run / "checkpoints/last.ckpt")["config"]]
    for config in kept:
        assert list(config["data"]["class_names"]) == ["2", "10", "cat"] and config["model"]["classes"] == 3
    lay(tmp_path / "mine", "1/1 1/2")  # would take the numbers of the others
    result = program("train", f"resume={run}", "budget.batches=2")
    assert result.status == 0 and "count as without a class: 1" in result.err, result.err
    result = program("evaluate", f"checkpoint={run}", "evaluation=common", "evaluation.extractor=none")
    assert result.status == 0, result.err
    evaluation = json.loads((run / "evaluation/evaluation.json").read_text())
    assert evaluation["provenance"]["class_names"] == evaluation["config"]["data"]["class_names"] == ["2", "10", "cat"]
    state = torch.load(run / "checkpoints/last.ckpt")["state_dict"]
    assert state["labels.present"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"class_names": ["a", "a"]}, "two of them are the same"),
        ({"class_names": ["a", "b", "c"], "classes": 2}, r"data.classes=2, but there are 3 \(a, b, c\)"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ImageData(Some(), tmp_path, (1, 8, 8), 1, **settings)


# Images as a person sees them


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, suffix: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(levels(8, 20, 3)).save(path, exif=exif)
        image = open_picture(path)
        assert upright_size(path) == (image.height, image.width)
        assert suffix == "tiff" or upright_size(path) == ((20, 8) if orientation > 4 else (8, 20))


def shape(folder: Path, size: int | None = None, channels: int | None = None) -> tuple[int, int, int]:
    return common_shape({"samples": AllPictures(str(folder), "samples")}, size, channels)


def test_turned_photographs_of_one_size_have_one_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels(8, 20, 3)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(levels(20, 8, 3)).save(tmp_path / "b.png")
    assert shape(tmp_path) == (3, 20, 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "PA"])
def test_grey_is_grey_however_it_is_saved(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.broadcast_to(levels(8, 8, 1), (8, 8, 3)).copy())
    if mode == "I;16":
        Image.fromarray(levels(8, 8).astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        grey.convert("L").convert(mode).save(tmp_path / f"a.{'tiff' if mode in ('CMYK', 'PA') else 'png'}")
    assert shape(tmp_path) == (1, 8, 8) and shape(tmp_path, channels=3) == (3, 8, 8)
    Image.fromarray(levels(8, 8, 3)).save(tmp_path / "b.png")
    assert shape(tmp_path) == (3, 8, 8) and shape(tmp_path, channels=1, size=4) == (1, 4, 4)


def test_wrong_channels_and_unreadable_folders_end_in_one_line(tmp_path: Path) -> None:
    spoil(tmp_path, "a.png")
    for channels in (0, 2, -1, 4):
        with pytest.raises(UserError, match=f"channels={channels}: 1 .grey. or 3"):
            shape(tmp_path, channels=channels)
    with pytest.raises(UserError, match="none of its images can be read"):
        shape(tmp_path)


def test_a_folder_of_samples_is_taken_whole(tmp_path: Path) -> None:
    source = AllPictures(str(lay(tmp_path / "mine", "train/1 train/2 test/1 0 val/a/1")), "samples")
    packed = pack(source, tmp_path, tmp_path, "train", (3, 8, 8))
    assert len(packed.images) == 5 and packed.labels.tolist() == [-1] * 5
    assert source.split_folders == ["test", "train", "val"]


def test_a_list_of_what_was_left_out_survives_any_name(tmp_path: Path) -> None:
    lay(tmp_path / "mine", "1")
    name = os.fsdecode(b"b\xe9\n\t.png")
    spoil(tmp_path / "mine", name)
    packed = pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path / "packed", "train", (3, 8, 8))
    assert packed.left == ((str(tmp_path / "mine" / name), "no image"),)
    assert json.dumps(packed.left)
