"""Every source end to end against a local server, packing, splits, order, and what bad input gets."""

import copy
import gzip
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from tests.data.test_download import small_files  # noqa: F401
from tests.served import Server
from unlabeled.batches import Images, Paired, Unpaired, from_uint8, to_uint8
from unlabeled.data import content, store
from unlabeled.data.augment import CropFlip
from unlabeled.data.content import Files
from unlabeled.data.kinds.images import ImageData, ImageTable
from unlabeled.data.kinds.pairs import PairedData, PairedTable, UnpairedData, UnpairedTable
from unlabeled.data.kinds.points import PointData
from unlabeled.data.loader import Loader, ShuffledLoader, WholePass
from unlabeled.data.packing import RawImages, pack, resize
from unlabeled.data.sources.cifar import CIFAR10, CIFAR100
from unlabeled.data.sources.digits import Digits
from unlabeled.data.sources.faces import LFW, CelebA
from unlabeled.data.sources.folder import Folder, PairedFolders, TwoFolders
from unlabeled.data.sources.mnist import MNIST, FashionMNIST
from unlabeled.data.sources.stl10 import STL10
from unlabeled.data.sources.svhn import SVHN
from unlabeled.data.sources.translation import CycleGAN, Pix2Pix
from unlabeled.errors import UserError
from unlabeled.seeding import mix

CONF = Path(__file__).parents[2] / "conf"
YAMLS = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
random = np.random.default_rng(0)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def levels(*shape) -> np.ndarray:
    return random.integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def flat(*shape) -> np.ndarray:
    """One colour: JPEG keeps it to within a level or two."""
    return np.broadcast_to(levels(3), (*shape, 3)).copy()


def tar_gz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def check(source, root, split, pixels, labels=None, near=0):
    """Pack a split and hold a batch against what was put in: pixels (N, H, W, C) or (N, H, W)."""
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    packed = pack(source, root, root / "packed", split, pixels.shape[1:])
    batch = ImageTable(packed.images, packed.labels).batch(torch.arange(len(pixels)))
    assert batch.x.dtype == torch.float32 and batch.x.min() >= -1 and batch.x.max() <= 1
    assert len(packed.images) == len(pixels)
    difference = to_uint8(batch.x).int() - torch.from_numpy(pixels.astype(np.int32))
    assert difference.abs().max() <= near
    assert labels is None or np.array_equal(batch.y, labels)
    return packed


# Sources, each in its own layout: fetch -> verify -> extract -> pack -> batch


def mnist_like(server, kind):
    images = {split: levels(n, 28, 28) for split, n in (("train", 5), ("t10k", 3))}
    labels, files = {}, {}
    for split, array in images.items():
        labels[split] = random.integers(0, 10, len(array)).astype(np.uint8)
        files[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(idx(array))
        files[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels[split]))
    server.files |= {f"/m/{name}": data for name, data in files.items()}
    source = kind([f"{server.url}/gone", f"{server.url}/m/"])
    source.checksums = {name: md5(data) for name, data in files.items()}
    source.counts = {"train": 5, "test": 3}
    return source, images, labels, files


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_mnist(server, tmp_path, kind):
    source, images, labels, _ = mnist_like(server, kind)
    check(source, tmp_path, "train", images["train"], labels["train"])
    check(source, tmp_path, "test", images["t10k"], labels["t10k"])


@pytest.mark.parametrize("unzip", [True, False])
def test_mnist_is_used_as_it_lies_without_a_byte_written(server, tmp_path, unzip):
    source, images, _, files = mnist_like(server, MNIST)
    raw = tmp_path / "data/MNIST/raw"
    raw.mkdir(parents=True)
    for name, data in files.items():
        (raw / name.removesuffix(".gz" if unzip else "")).write_bytes(gzip.decompress(data) if unzip else data)
    before = sorted(tmp_path.rglob("*"))
    source.mirrors = []
    found = pack(source, tmp_path / "data", tmp_path / "elsewhere", "train", (1, 28, 28))
    assert np.array_equal(found.images[:, 0], images["train"])
    assert [p for p in sorted(tmp_path.rglob("*")) if "elsewhere" not in p.parts] == before and not server.asked


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:3], lambda d: b"\x80" + d])
def test_a_truncated_idx_file_is_named(server, tmp_path, damage):
    source, _, _, files = mnist_like(server, MNIST)
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for name, data in files.items():
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(data))
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="not a whole idx file") as caught:
        pack(source, tmp_path, tmp_path / "packed", "train", (1, 28, 28))
    assert str(path) in str(caught.value) and not list((tmp_path / "packed").glob("*"))


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_cifar(server, tmp_path, kind):
    images, labels, files = {"train": [], "test": []}, {"train": [], "test": []}, {}
    for split, parts in kind.parts.items():
        for part in parts:
            pixels, y = levels(3, 32, 32, 3), random.integers(0, 10, 3).tolist()
            batch = {
                "data": pixels.transpose(0, 3, 1, 2).reshape(3, 3072),
                kind.labels: y,
                "batch_label": part,
            }
            files[f"{kind.folder}/{part}"] = pickle.dumps(batch, protocol=2)
            images[split].append(pixels)
            labels[split] += y
    server.files[f"/{kind.archive}"] = tar_gz(files)
    source = kind([server.url])
    source.checksum = md5(server.files[f"/{kind.archive}"])
    source.counts = {split: len(y) for split, y in labels.items()}
    for split in source.splits:
        check(source, tmp_path, split, np.concatenate(images[split]), labels[split])
    assert len(server.asked) == 1


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    folder = tmp_path / CIFAR10.folder
    folder.mkdir()
    for part in CIFAR10.parts["train"]:
        (folder / part).write_bytes(pickle.dumps({"data": Evil(), "labels": []}, protocol=2))
    with pytest.raises(UserError, match="data_batch_1"):
        CIFAR10([]).read(tmp_path, "train")
    assert not (tmp_path / "ran").exists()


def test_stl10(server, tmp_path):
    arrays = {name: levels(n, 96, 96, 3) for name, n in (("train", 2), ("test", 3), ("unlabeled", 4))}
    files = {f"stl10_binary/{k}_X.bin": v.transpose(0, 3, 2, 1).tobytes() for k, v in arrays.items()}
    files |= {"stl10_binary/train_y.bin": bytes([1, 10]), "stl10_binary/test_y.bin": bytes([3, 2, 1])}
    server.files["/stl10_binary.tar.gz"] = tar_gz(files)
    source = STL10([server.url])
    source.checksum = md5(server.files["/stl10_binary.tar.gz"])
    source.counts = {name: len(array) for name, array in arrays.items()}
    everything = np.concatenate([arrays["train"], arrays["unlabeled"]])
    check(source, tmp_path, "train", everything, [0, 9, -1, -1, -1, -1])
    check(source, tmp_path, "test", arrays["test"], [2, 1, 0])
    (tmp_path / "stl10_binary/unlabeled_X.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"unlabeled_X.bin is not whole"):
        source.read(tmp_path, "train")


def test_svhn(server, tmp_path):
    from scipy.io import savemat

    arrays, source = {}, SVHN([server.url])
    source.checksums = {}
    for split in ("train", "test"):
        arrays[split] = levels(4, 32, 32, 3)
        out = io.BytesIO()
        savemat(out, {"X": arrays[split].transpose(1, 2, 3, 0), "y": np.array([[1], [9], [10], [2]], np.uint8)})
        server.files[f"/{split}_32x32.mat"] = out.getvalue()
        source.checksums[f"{split}_32x32.mat"] = md5(out.getvalue())
    for split in source.splits:
        check(source, tmp_path, split, arrays[split], [1, 9, 0, 2])
    (tmp_path / "svhn/test_32x32.mat").write_bytes(b"MATLAB 5.0, but no more")
    with pytest.raises(UserError, match=r"test_32x32.mat"):
        source.read(tmp_path, "test")


def test_lfw(server, tmp_path):
    faces = {"Ann_A/Ann_A_0001": flat(20, 20), "Ann_A/Ann_A_0002": flat(20, 20), "Bob/Bob_0001": flat(20, 20)}
    files = {f"lfw_funneled/{name}.jpg": png(pixels, "JPEG") for name, pixels in faces.items()}
    server.files["/5976015"] = tar_gz(files | {"lfw_funneled/pairs_01_train_00.txt": b"not a picture"})
    source = LFW([f"{server.url}/5976015"])
    source.checksum, source.counts = md5(server.files["/5976015"]), (3, 2)
    check(source, tmp_path, "train", np.stack(list(faces.values())), [0, 0, 1], near=3)


def test_celeba_is_put_there_by_hand(tmp_path):
    source = CelebA("https://home.of.celeba")
    with pytest.raises(UserError) as caught:
        pack(source, tmp_path, tmp_path / "packed", "train", (3, 8, 8))
    message = str(caught.value)
    for part in ("https://home.of.celeba", str(tmp_path / "celeba"), *source.checksums, "digits"):
        assert part in message
    assert "\n" not in message

    names = [f"{i:06d}.jpg" for i in range(1, 6)]
    colours = np.stack([flat(8, 8) for _ in names])
    pictures = {}
    for name, colour in zip(names, colours, strict=True):
        tall = np.zeros((218, 178, 3), np.uint8)  # black, but for the centre that is used
        tall[20:198] = colour[0, 0]
        pictures[f"img_align_celeba/{name}"] = png(tall, "JPEG")
    attributes = random.integers(0, 2, (5, 40))
    rows = "".join(
        f"{n} {' '.join('1' if a else '-1' for a in line)}\n" for n, line in zip(names, attributes, strict=True)
    )
    files = {
        "img_align_celeba.zip": zipped(pictures),
        "list_attr_celeba.txt": f"5\n{' '.join(f'Attribute_{i}' for i in range(40))}\n{rows}".encode(),
        "list_eval_partition.txt": "".join(f"{n} {p}\n" for n, p in zip(names, [0, 1, 0, 2, 0], strict=True)).encode(),
    }
    source.checksums, source.count = {name: md5(data) for name, data in files.items()}, 5
    (tmp_path / "celeba").mkdir()
    for name, data in files.items():
        (tmp_path / "celeba" / name).write_bytes(data)
    for split, which in (("train", [0, 2, 4]), ("val", [1]), ("test", [3])):
        # At the edge of the square, the JPEG mixes a little of the black in: look inside.
        packed = pack(source, tmp_path, tmp_path / "packed", split, (3, 8, 8))
        wanted = torch.from_numpy(colours[which].astype(np.int32)).permute(0, 3, 1, 2)
        assert (packed.images - wanted)[:, :, 1:-1].abs().max() <= 4
        assert np.array_equal(packed.labels, attributes[which])

    (tmp_path / "celeba/img_align_celeba/000003.jpg").unlink()
    with pytest.raises(UserError, match=r"img_align_celeba holds 4 images, not 5; complete it"):
        pack(source, tmp_path, tmp_path / "packed", "train", (3, 4, 4))
    (tmp_path / "celeba/list_attr_celeba.txt").write_bytes(b"5\n")
    with pytest.raises(UserError, match=r"list_attr_celeba.txt is not the official file"):
        source.prepare(tmp_path)


def test_cyclegan_collections(server, tmp_path):
    folders = {"trainA": 3, "trainB": 4, "testA": 2, "testB": 2}
    images = {folder: np.stack([flat(16, 16) for _ in range(n)]) for folder, n in folders.items()}
    files = {
        f"apple2orange/{folder}/n0_{i}.jpg": png(pixels, "JPEG")
        for folder, array in images.items()
        for i, pixels in enumerate(array)
    }
    server.files["/apple2orange.zip"] = data = zipped(files)
    source = CycleGAN("apple2orange", [server.url])
    source.archives = {"apple2orange": (len(data), hashlib.sha256(data).hexdigest())}
    source.counts = {"apple2orange": tuple(folders.values())}
    for folder, array in images.items():
        check(source, tmp_path, f"{folder[:-1]}_{folder[-1].lower()}", array, [-1] * len(array), near=3)
    module = UnpairedData(source, tmp_path, (3, 16, 16), 2, val=0.3)
    module.prepare_data()
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Unpaired) and batch.a.shape == (2, 3, 16, 16)
    assert len(module.table("val").rows_a) == len(module.table("val").rows_b) == 1
    with pytest.raises(UserError, match="did you mean horse2zebra"):
        CycleGAN("horse2zebras", []).prepare(tmp_path)


@pytest.mark.parametrize("name", ["facades_pairs", "maps_pairs", "edges2shoes"])
@pytest.mark.parametrize("a", ["left", "right"])
def test_pix2pix_pairs(server, tmp_path, name, a):
    archive = name.removesuffix("_pairs")
    theirs = Pix2Pix.archives[archive][1]
    dark = random.permutation(100)  # left is dark and right is as much lighter: a pair gives itself away
    sides = {}
    for folder in theirs.values():
        dark, rest = dark[:4], dark[4:]
        sides[folder] = [[np.full((16, 16, 3), v, np.uint8) for v in (level, 255 - level)] for level in dark]
        dark = rest
    files = {
        f"{archive}/{folder}/{i}.jpg": png(np.concatenate(pair, 1), "JPEG")
        for folder, pairs in sides.items()
        for i, pair in enumerate(pairs)
    }
    server.files[f"/{archive}.tar.gz"] = data = tar_gz(files)
    source = Pix2Pix(name, a, [server.url])
    source.archives, source.counts = {archive: (len(data), theirs)}, {archive: dict.fromkeys(theirs.values(), 4)}
    for ours, folder in theirs.items():
        for domain in "ab":
            half = int((a == "left") == (domain == "b"))
            check(source, tmp_path, f"{ours}_{domain}", np.stack([pair[half] for pair in sides[folder]]), near=3)
    module = PairedData(source, tmp_path, (3, 16, 16), 2)
    module.prepare_data()
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Paired)
    left, right = (batch.a, batch.b) if a == "left" else (batch.b, batch.a)
    assert (left < 0).all() and (left + right).abs().max() < 0.05 and (left[0] - left[1]).abs().min() > 0.005
    with pytest.raises(UserError, match="left or right"):
        Pix2Pix(name, "up", []).prepare(tmp_path)


# Laid there by hand


class Laid(NamedTuple):
    """A collection of few images, as somebody may lay it under the root."""

    source: Any
    folder: str  # under the root
    files: dict[str, np.ndarray]  # pictures under the folder
    split: str  # that the first picture is in


def cyclegan(server):
    source = CycleGAN("facades", [server.url])
    source.counts = {"facades": (3, 2, 1, 1)}
    names = ("trainA/0", "trainA/1", "trainA/2", "trainB/0", "trainB/1", "testA/0", "testB/0")
    files = {f"{name}.jpg": flat(16, 16) for name in names}
    server.files["/facades.zip"] = data = zipped({f"facades/{n}": png(p, "JPEG") for n, p in files.items()})
    source.archives = {"facades": (len(data), hashlib.sha256(data).hexdigest())}
    return Laid(source, "cyclegan/facades", files, "train_a")


def pix2pix(server):
    source = Pix2Pix("facades_pairs", "right", [server.url])
    source.counts = {"facades": {"train": 2, "val": 1, "test": 1}}
    files = {f"{name}.jpg": flat(16, 32) for name in ("train/0", "train/1", "val/0", "test/0")}
    server.files["/facades.tar.gz"] = data = tar_gz({f"facades/{n}": png(p, "JPEG") for n, p in files.items()})
    source.archives = {"facades": (len(data), Pix2Pix.archives["facades"][1])}
    return Laid(source, "pix2pix/facades", files, "train_a")


def lfw(server):
    source = LFW([f"{server.url}/lfw.tgz"])
    source.counts = (3, 2)
    files = {f"{name}.jpg": flat(20, 20) for name in ("A/1", "A/2", "B/1")}
    server.files["/lfw.tgz"] = data = tar_gz({f"lfw_funneled/{n}": png(p, "JPEG") for n, p in files.items()})
    source.checksum = hashlib.sha256(data).hexdigest()
    return Laid(source, "lfw-py/lfw_funneled", files, "train")


LAID = {"cyclegan": cyclegan, "pix2pix": pix2pix, "lfw": lfw}


@pytest.mark.parametrize("kind", LAID)
def test_a_collection_laid_there_by_hand_is_counted_and_never_pinned(server, tmp_path, kind):
    source, place, files, split = LAID[kind](server)
    folder, new = tmp_path / place, copy.copy(source)
    fresh = lambda: copy.copy(new)  # as another process finds it

    def packed(source):
        return pack(source, tmp_path, tmp_path / "packed", split, (3, 16, 16))

    *some, last = files
    for name in some:
        put(folder, name, files[name])
    (folder / last).parent.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=r"is not whole: .* holds \d images, not \d") as caught:
        packed(fresh())
    message = str(caught.value)
    assert "\n" not in message and f"remove {folder} to have it fetched" in message
    shutil.rmtree((folder / last).parent)
    with pytest.raises(UserError, match=f"there is no {(folder / last).parent}|2 images, not 3"):
        packed(fresh())
    assert not (tmp_path / "packed").exists()

    for name in (*some, last):
        put(folder, name, files[name])
    right = packed(fresh())
    first = put(folder, some[0], 255 - files[some[0]])  # one image is another
    wrong = packed(fresh())
    assert wrong.key != right.key and not torch.equal(wrong.images, right.images)
    put(folder, some[0], files[some[0]])
    assert packed(fresh()).key == right.key and not server.asked

    shutil.rmtree(folder)  # and fetched
    found = packed(source)
    assert torch.equal(found.images, right.images) and len(server.asked) == 1
    assert packed(fresh()).key == packed(source).key == found.key != right.key
    first.write_bytes(b"changed")
    with pytest.raises(UserError, match=r"1 of \d images cannot be read"):
        packed(fresh())
    shutil.rmtree(folder)
    assert packed(fresh()).key == found.key  # what was packed needs no files
    assert len(list((tmp_path / "packed").glob(f"{source.name}-*"))) == 3


def test_unzipped_mnist_is_counted_and_known_by_its_content(server, tmp_path):
    source, _, _, files = mnist_like(server, MNIST)
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for name, data in files.items():
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(data))
    first = pack(source, tmp_path, tmp_path, "train", (1, 28, 28))
    (raw / "train-images-idx3-ubyte").write_bytes(idx(levels(5, 28, 28)))
    assert pack(source, tmp_path, tmp_path, "train", (1, 28, 28)).key != first.key
    del source.counts
    with pytest.raises(UserError, match=r"holds 5 train images, not 60,000.* remove it to have it fetched"):
        pack(source, tmp_path, tmp_path, "train", (1, 7, 7))


# Folders


def put(folder: Path, name: str, pixels: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_a_plain_folder_is_all_train_without_labels(tmp_path):
    arrays = [levels(8, 8, 3) for _ in range(3)]
    for i, pixels in enumerate(arrays):
        put(tmp_path / "mine", f"{i}.png", pixels)
    (tmp_path / "mine/notes.txt").write_text("no picture")
    (tmp_path / "mine/.hidden.png").write_text("no picture")
    (tmp_path / "mine/empty").mkdir()
    source = Folder(str(tmp_path / "mine"))
    assert source.splits == ("train",)
    check(source, tmp_path, "train", np.stack(arrays), [-1, -1, -1])


def test_class_folders_are_classes_and_empty_ones_are_none(tmp_path):
    for name in ("cat/1.png", "dog/deep/2.png", "ant/3.png"):
        put(tmp_path / "mine", name, levels(8, 8, 3))
    (tmp_path / "mine/bee").mkdir()
    source = Folder(str(tmp_path / "mine"))
    assert pack(source, tmp_path, tmp_path, "train", (3, 8, 8)).labels.tolist() == [0, 1, 2]
    module = ImageData(source, tmp_path, (3, 8, 8), 1, classes=2, val=0, test=0)
    with pytest.raises(UserError, match=r"data.classes=3"):
        module.train_dataloader()


def test_split_folders_are_splits_with_one_numbering(tmp_path):
    for name in ("train/b/1.png", "train/c/1.png", "validation/c/1.png", "test/a/1.png", "test/c/1.png"):
        put(tmp_path / "mine", name, levels(8, 8, 3))
    source = Folder(str(tmp_path / "mine"))
    assert set(source.splits) == {"train", "val", "test"}
    found = {s: pack(source, tmp_path, tmp_path, s, (3, 8, 8)).labels.tolist() for s in source.splits}
    assert found == {"train": [1, 2], "val": [2], "test": [0, 2]}


def test_any_mix_of_sizes_formats_depths_and_orientations(tmp_path):
    folder = tmp_path / "mine"
    put(folder, "a_tiny.png", np.full((2, 3, 3), 200, np.uint8))
    put(folder, "b_wide.jpg", np.full((20, 90, 3), 200, np.uint8))
    put(folder, "c_grey.bmp", np.full((30, 10), 200, np.uint8))
    put(folder, "d_deep.png", np.full((16, 16), 200 * 257, np.uint16))
    put(folder, "e_palette.gif", np.full((16, 16), 200, np.uint8))
    Image.fromarray(np.full((16, 16, 4), (7, 7, 7, 0), np.uint8), "RGBA").save(folder / "f_clear.webp", lossless=True)
    Image.new("CMYK", (16, 16), (0, 0, 0, 55)).save(folder / "g_print.tiff")
    Image.fromarray(np.full((16, 16), 200, np.uint8)).convert("1").save(folder / "h_bit.PNG")
    turned = np.zeros((16, 32, 3), np.uint8)
    turned[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: what is left here belongs on top
    Image.fromarray(turned).save(folder / "i_turned.png", exif=exif)
    images = pack(Folder(str(folder)), tmp_path, tmp_path, "train", (3, 16, 16)).images.int()
    for i, expected in enumerate([200, 200, 200, 200, 200, 255, 200]):
        assert (images[i] - expected).abs().max() <= 2, i
    assert images[8, :, :6].min() > 250 and images[8, :, -6:].max() < 5


@pytest.mark.parametrize("damage", [lambda d: d[:200], lambda d: b"", lambda d: b"no picture at all"])
def test_an_unreadable_image_is_left_out_until_it_is_mended(tmp_path, damage):
    for i in range(3):
        path = put(tmp_path / "mine", f"{i}.png", levels(32, 32, 3))
    path.write_bytes(damage(path.read_bytes()))
    packed = pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path / "packed", "train", (3, 8, 8))
    assert len(packed.images) == len(packed.labels) == 2
    ((name, reason),) = packed.left
    assert name == str(path) and reason and "\n" not in reason and name not in reason
    put(tmp_path / "mine", "2.png", levels(32, 32, 3))
    assert len(pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path / "packed", "train", (3, 8, 8)).images) == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Folder(None), "say data.source.path=FOLDER"),
        (lambda p: Folder(str(p / "gone")), "no such folder"),
        (lambda p: Folder(str(p)), "no images in"),
        (lambda p: TwoFolders(str(p), None), "no images in"),
        (lambda p: TwoFolders(None, None), "say data.source.a=FOLDER"),
    ],
)
def test_a_folder_without_images_ends_in_one_line(tmp_path, make, said):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=said) as caught:
        ImageData(make(tmp_path), tmp_path, (3, 8, 8), 1).prepare_data()
    assert "\n" not in str(caught.value)


NO_FOLDERS = {
    "empty": lambda p: "",
    "blank": lambda p: "  ",
    "null": lambda p: None,
    "a switch": lambda p: True,
    "a file": lambda p: str(p / "file"),
    "below a file": lambda p: f"{p}/file/deep/below",
    "a device": lambda p: "/dev/null/x",
    "a link to nothing": lambda p: str(p / "dangling"),
    "below a link to nothing": lambda p: f"{p}/dangling/below",
    "a circle of links": lambda p: str(p / "circle"),
    "too long": lambda p: "x" * 5000,
    "a zero byte": lambda p: "x\0y",
}


@pytest.mark.parametrize("how", NO_FOLDERS)
@pytest.mark.parametrize("key", ["data.root", "data.packed", "data.source.path", "data.source.b"])
def test_a_setting_that_is_no_folder_ends_in_one_line_and_makes_nothing(tmp_path, monkeypatch, how, key):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    put(tmp_path / "mine", "1.png", levels(8, 8))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    places = {"data.root": "data", "data.packed": "data/packed", "data.source.path": "mine", "data.source.b": "mine"}
    places[key] = NO_FOLDERS[how](tmp_path)
    if (key, how) == ("data.packed", "null"):  # is under the root then
        return
    sources = {"data.source.b": lambda: TwoFolders("mine", places["data.source.b"])}
    source = sources.get(key, lambda: Folder(places["data.source.path"]))()
    with pytest.raises(UserError, match=f"{key}=") as caught:
        ImageData(source, places["data.root"], (1, 8, 8), 1, packed=places["data.packed"]).prepare_data()
    assert "\n" not in str(caught.value) and "FOLDER" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_home_folder_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    module = ImageData(Some(), "~/data", (1, 8, 8), 1, packed="~/packed")
    assert module.root == tmp_path / "data" and module.packed == tmp_path / "packed"


def test_changed_images_are_packed_again(tmp_path):
    put(tmp_path / "mine", "1.png", levels(8, 8, 3))
    first = pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path, "train", (3, 8, 8))
    assert pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path, "train", (3, 8, 8)).key == first.key
    put(tmp_path / "mine", "2.png", levels(8, 8, 3))
    assert len(pack(Folder(str(tmp_path / "mine")), tmp_path, tmp_path, "train", (3, 8, 8)).images) == 2


def image(folder: Path):
    """The first image of a folder as it is packed, and the key."""
    found = pack(Folder(str(folder)), folder.parent, folder.parent / "packed", "train", (1, 8, 8))
    return found.images[0, 0].tolist(), found.key


@pytest.mark.parametrize("settled", [2.0, -10.0])  # whether digests are kept on disk for files as young as these
def test_a_folder_is_known_by_its_content(tmp_path, monkeypatch, settled):
    monkeypatch.setattr(content, "SETTLED", settled)
    one, other = np.full((8, 8), 10, np.uint8), np.full((8, 8), 200, np.uint8)
    times = {}
    for name, pixels in (("a", one), ("b", other)):
        path = put(tmp_path / name, "1.bmp", pixels)
        os.utime(path, ns=(10**18, 10**18))
        times[name] = path.stat()
    assert times["a"].st_size == times["b"].st_size and times["a"].st_mtime_ns == times["b"].st_mtime_ns
    assert image(tmp_path / "a")[0] == one.tolist() and image(tmp_path / "b")[0] == other.tolist()

    before = image(tmp_path / "a")
    while time.time_ns() - times["a"].st_ctime_ns < 2 * 10**7:  # clocks of file systems tick every few milliseconds
        time.sleep(0.005)
    path = put(tmp_path / "a", "1.bmp", other)
    os.utime(path, ns=(10**18, 10**18))  # changed in place, the time put back
    assert image(tmp_path / "a") == image(tmp_path / "b") != before

    shutil.copytree(tmp_path / "a", tmp_path / "c/deep")  # equal content elsewhere shares what is packed
    os.utime(tmp_path / "c/deep/1.bmp")
    kept = pack(Folder(str(tmp_path / "c/deep")), tmp_path, tmp_path / "packed", "train", (1, 8, 8)).key
    assert kept == image(tmp_path / "a")[1] and len(list((tmp_path / "packed").glob("folder-*"))) == 2
    os.rename(tmp_path / "c/deep/1.bmp", tmp_path / "c/deep/2.bmp")
    assert (
        Folder(str(tmp_path / "c/deep")).fingerprint(tmp_path).digest()
        != Folder(str(tmp_path / "a")).fingerprint(tmp_path).digest()
    )


def test_known_files_are_not_read_again(tmp_path, monkeypatch):
    files = {name: put(tmp_path / "mine", f"{name}.png", levels(8, 8)) for name in "ab"}
    read = []
    monkeypatch.setattr(content, "content", lambda path, plain=content.content: read.append(path) or plain(path))
    found = [Files(files).digest(tmp_path) for _ in range(2)]
    assert len(read) == 4 and not (tmp_path / ".content").exists()  # so young that another change might not show
    monkeypatch.setattr(content, "SETTLED", -10.0)
    found += [Files(files).digest(tmp_path) for _ in range(3)]
    assert len(read) == 6 and len(set(found)) == 1
    os.utime(files["a"])
    assert Files(files).digest(tmp_path) == found[0] and len(read) == 8
    for file in (tmp_path / ".content").iterdir():
        file.write_bytes(b"cut")
    assert Files(files).digest(tmp_path) == found[0] and len(read) == 10
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mine/around").symlink_to(tmp_path)
    before = Files.below(tmp_path / "mine").digest()
    put(tmp_path / "elsewhere", "c.png", levels(8, 8))
    assert list(Files.below(tmp_path / "mine").paths) == ["a.png", "b.png", "linked/c.png"]
    assert Files.below(tmp_path / "mine").digest() != before
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert Files(files | {"c": tmp_path / "gone.png"}).digest(tmp_path) != found[0]


def test_two_folders(tmp_path):
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/train/1.png", "b/train/2.png", "b/test/1.png"):
        put(tmp_path, name, levels(8, 8, 3))
    module = UnpairedData(TwoFolders(str(tmp_path / "a"), str(tmp_path / "b")), tmp_path, (3, 8, 8), 1)
    module.prepare_data()
    tables = {split: module.table(split) for split in ("train", "val", "test")}
    assert sorted(torch.cat([t.rows_a for t in tables.values()]).tolist()) == [0, 1, 2]
    assert len(tables["test"].rows_b) == 1 and len(tables["train"].rows_b) == 1
    assert isinstance(next(iter(module.train_dataloader())), Unpaired)


def pairs_of(tmp_path):
    """A module of two folders of pairs; their names differ in format, and 10 comes after 2."""
    for name in (1, 2, 10):
        put(tmp_path, f"a/{name}.png", levels(8, 8, 3))
        put(tmp_path, f"b/{name}.bmp", levels(16, 16, 3))
    return PairedData(PairedFolders(str(tmp_path / "a"), str(tmp_path / "b")), tmp_path, (3, 8, 8), 1, val=0, test=0)


def test_folders_of_pairs(tmp_path):
    module = pairs_of(tmp_path)
    module.prepare_data()
    assert [path.stem for path in module.source.paths["train_a"].values()] == ["1", "2", "10"]
    assert list(module.source.paths["train_a"]) == list(module.source.paths["train_b"])
    grey, palette, cmyk = (Image.fromarray(levels(8, 8, 3)).convert(mode) for mode in ("L", "P", "CMYK"))
    for folder in "ab":
        grey.save(tmp_path / folder / "grey.png")
        palette.save(tmp_path / folder / "palette.png")
        cmyk.save(tmp_path / folder / "cmyk.jpg")
    module = pairs_of(tmp_path)
    module.prepare_data()
    table = module.table("train")
    assert len(table) == 6
    batch = table.batch(torch.tensor([3, 4, 5]))
    assert torch.equal(batch.a, batch.b)
    assert torch.equal(batch.a[1, 0], batch.a[1, 2])  # grey


PAIRS_REFUSED = {
    "more of one": (lambda p: put(p, "b/3.png", levels(8, 8, 3)), r"1 images have no partner .*: \S+b/3\.png$"),
    "other names": (
        lambda p: [(p / f"a/{n}.png").rename(p / f"a/{n}0000.png") for n in (1, 2, 10)],
        r"6 images have no partner of the same name in the other folder: (\S+, ){4}\S+ and 1 more$",
    ),
    "other sizes": (
        lambda p: put(p, "b/2.bmp", levels(8, 12, 3)),
        r"the images of 1 pairs have other proportions: \S+a/2\.png \(8x8\) and \S+b/2\.bmp \(12x8\)$",
    ),
    "the same name twice": (lambda p: put(p, "a/1.jpg", levels(8, 8, 3)), r"1\.jpg and \S+1\.png have the same name"),
    "a broken file": (lambda p: (p / "b/2.bmp").write_bytes(b"no"), r"1 of 3 images cannot be read: \S+b/2\.bmp"),
    "one domain": (lambda p: shutil.rmtree(p / "b"), r"data\.source\.b=\S+: there is no such folder"),
    "nothing in one": (lambda p: [path.unlink() for path in (p / "b").iterdir()], r"no images in \S+b"),
}


@pytest.mark.parametrize("what", PAIRS_REFUSED)
def test_folders_that_are_no_pairs_end_in_one_line(tmp_path, what):
    module = pairs_of(tmp_path)
    spoil, said = PAIRS_REFUSED[what]
    spoil(tmp_path)
    with pytest.raises(UserError, match=said):
        module.prepare_data()


# Packing


class Some:
    """A source in memory."""

    name = "some"
    splits: tuple[str, ...] = ("train",)

    def __init__(self, n=10, trouble=None, splits=("train",)):
        self.pixels, self.trouble, self.splits = levels(n, 8, 8), trouble, splits

    def prepare(self, root):
        pass

    def fingerprint(self, root):
        return str(len(self.pixels))

    def read(self, root, split):
        def images():
            for i, pixels in enumerate(self.pixels):
                if self.trouble and i == len(self.pixels) // 2:
                    trouble, self.trouble = self.trouble, None
                    raise trouble
                yield pixels

        return RawImages(images(), np.arange(len(self.pixels)))


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), RuntimeError("bug"), OSError("disk gone")])
def test_an_interrupted_packing_leaves_nothing_and_can_be_repeated(tmp_path, trouble):
    source = Some(600, trouble)
    with pytest.raises(UserError if isinstance(trouble, OSError) else type(trouble)):
        pack(source, tmp_path, tmp_path / "packed", "train", (1, 8, 8))
    assert not list((tmp_path / "packed").iterdir())
    found = pack(source, tmp_path, tmp_path / "packed", "train", (1, 8, 8))
    assert np.array_equal(found.images[:, 0], source.pixels) and found.labels.tolist() == list(range(600))
    assert len(list((tmp_path / "packed").iterdir())) == 1


def test_a_full_disk_while_packing_ends_in_one_line_and_leaves_nothing(tmp_path, request):
    source = Some(4000)  # 256 kB
    request.getfixturevalue("small_files")
    with pytest.raises(UserError, match=r"free some space, or say data.packed=FOLDER") as caught:
        pack(source, tmp_path, tmp_path / "packed", "train", (1, 8, 8))
    assert "\n" not in str(caught.value) and not list((tmp_path / "packed").iterdir())


def test_a_place_that_cannot_be_written_ends_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"data.packed=FOLDER") as caught:
        pack(Some(), tmp_path, tmp_path / "file" / "packed", "train", (1, 8, 8))
    assert "\n" not in str(caught.value)


def test_another_process_may_pack_first(tmp_path, monkeypatch):
    source, rename = Some(), store.os.rename

    def late(old, new):
        monkeypatch.undo()
        pack(Some(10), tmp_path, tmp_path, "train", (1, 8, 8))
        rename(old, new)

    monkeypatch.setattr(store.os, "rename", late)
    assert len(pack(source, tmp_path, tmp_path, "train", (1, 8, 8)).images) == 10
    assert len(list(tmp_path.iterdir())) == 1


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


DAMAGE = {
    "images cut": ("images.npy", lambda d: d[:-1]),
    "images cut in the header": ("images.npy", lambda d: d[:50]),
    "images empty": ("images.npy", lambda d: b""),
    "images longer": ("images.npy", lambda d: d + b"x"),
    "images garbage": ("images.npy", lambda d: bytes(reversed(d))),
    "images of another shape": ("images.npy", lambda d: npy(np.zeros((10, 1, 4, 16), np.uint8))),
    "images of another kind": ("images.npy", lambda d: npy(np.zeros((10, 1, 8, 8), np.float32))),
    "a single number": ("images.npy", lambda d: npy(np.uint8(3))),
    "fewer images": ("images.npy", lambda d: npy(np.zeros((9, 1, 8, 8), np.uint8))),
    "labels cut": ("labels.npy", lambda d: d[:-8]),
    "labels garbage": ("labels.npy", lambda d: b"\x80" * len(d)),
    "labels at random": ("labels.npy", lambda d: d[:128] + b"\xee" * 80),
    "fewer labels": ("labels.npy", lambda d: npy(np.zeros(9, np.int64))),
    "labels of another kind": ("labels.npy", lambda d: npy(np.zeros(10))),
    "no images": ("images.npy", None),
    "no labels": ("labels.npy", None),
}


@pytest.mark.parametrize("how", [*DAMAGE, "a file", "a link to nothing", "an empty folder"])
def test_a_damaged_array_is_made_anew_with_one_line(tmp_path, capsys, how):
    source = Some()
    place = tmp_path / pack(source, tmp_path, tmp_path, "train", (1, 8, 8)).key
    if how in DAMAGE:
        name, damage = DAMAGE[how]
        data = (place / name).read_bytes()
        (place / name).unlink() if damage is None else (place / name).write_bytes(damage(data))
    else:
        shutil.rmtree(place)
        {"a file": place.touch, "an empty folder": place.mkdir}.get(how, lambda: place.symlink_to("gone"))()

    def gone(root):
        raise UserError("the source is not at hand")

    source.prepare, plain = gone, source.prepare
    with pytest.raises(UserError, match=f"{place} is damaged .* remove it") as caught:
        pack(source, tmp_path, tmp_path, "train", (1, 8, 8))
    assert "\n" not in str(caught.value) and "not at hand" in str(caught.value) and os.path.lexists(place)
    source.prepare = plain
    assert not capsys.readouterr().err
    found = pack(source, tmp_path, tmp_path, "train", (1, 8, 8))
    assert np.array_equal(found.images[:, 0], source.pixels) and found.labels.tolist() == list(range(10))
    assert f"note: {place} was damaged" in (said := capsys.readouterr().err) and said.count("\n") == 1
    pack(source, tmp_path, tmp_path, "train", (1, 8, 8))
    assert not capsys.readouterr().err and list(tmp_path.iterdir()) == [place]


def test_several_processes_may_repair_at_once(tmp_path):
    source = Some(600)
    place = tmp_path / pack(source, tmp_path, tmp_path, "train", (1, 8, 8)).key
    (place / "labels.npy").write_bytes(b"")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: pack(source, tmp_path, tmp_path, "train", (1, 8, 8)), range(6)))
    assert all(np.array_equal(each.images[:, 0], source.pixels) and len(each.labels) == 600 for each in found)
    assert list(tmp_path.iterdir()) == [place]


def test_the_packed_file_stays_as_it_is_whatever_is_done_to_the_array(tmp_path):
    source = Some()
    pack(source, tmp_path, tmp_path, "train", (1, 8, 8)).images.zero_()
    assert np.array_equal(pack(source, tmp_path, tmp_path, "train", (1, 8, 8)).images[:, 0], source.pixels)


def test_fit_covers_and_crops_the_centre():
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    assert resize(wide, (1, 10, 10)).min() == 255
    assert resize(wide, (3, 20, 20)).shape == (3, 20, 20)
    assert resize(wide[:, 10:13], (1, 7, 5)).tolist() == np.full((1, 7, 5), 255).tolist()


def test_every_grey_level_survives():
    u = torch.arange(256, dtype=torch.uint8)
    x = from_uint8(u)
    assert x.min() == -1 and x.max() == 1 and torch.equal(to_uint8(x), u)


# Splits and order


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("train", "val"), ("train", "val", "test")])
@pytest.mark.parametrize("n", [2, 10, 101])
def test_splits_never_overlap_cover_everything_and_are_stable(tmp_path, splits, n):
    def rows(**more):
        module = ImageData(Some(n, splits=splits), tmp_path, (1, 8, 8), 4, **more)
        tables = {split: module.table(split) for split in ("train", "val", "test")}
        cut = [s for s in tables if s == "train" or s not in splits]
        return {s: tables[s].rows.tolist() for s in cut}, {s: len(t) for s, t in tables.items()}

    found, sizes = rows()
    assert sorted(chain(*found.values())) == list(range(n))
    assert all(sizes[s] == n for s in splits if s != "train")
    assert rows(seed=5)[0] == found
    assert n < 100 or len(splits) == 3 or rows(split_seed=1)[0] != found


def test_unknown_splits_and_shares_are_refused(tmp_path):
    with pytest.raises(UserError, match="no split 'tests'"):
        ImageData(Some(), tmp_path, (1, 8, 8), 4).table("tests")
    for wrong in ({"val": 1.5}, {"test": -0.1}, {"batch_size": 0}):
        with pytest.raises(UserError):
            ImageData(Some(), tmp_path, (1, 8, 8), **({"batch_size": 4} | wrong)).prepare_data()
    with pytest.raises(UserError, match="1 channel"):
        pack(Some(), tmp_path, tmp_path, "train", (2, 8, 8))


def numbered(n=103) -> ImageTable:
    return ImageTable(torch.from_numpy(levels(n, 1, 4, 4)), torch.arange(n))


def epochs(loader, n=1) -> list[list[int]]:
    return [batch.y.tolist() for _ in range(n) for batch in loader]


def test_the_order_is_the_seeds():
    table = numbered()
    one = epochs(ShuffledLoader(table, 10, 0), 2)
    assert one == epochs(ShuffledLoader(table, 10, 0), 2)
    assert one[:10] != one[10:] and one[:10] != epochs(ShuffledLoader(table, 10, 1))
    for epoch in (one[:10], one[10:]):
        seen = list(chain(*epoch))
        assert len(seen) == len(set(seen)) == 100


@pytest.mark.parametrize("stop", [1, 7, 10, 13, 20])
def test_a_resumed_loader_goes_on_exactly(stop):
    table = numbered()

    def noisy(batch):
        return Images(batch.x + torch.rand(batch.x.shape), batch.y)

    def endless(loader):
        while True:
            yield from loader

    whole, first = ShuffledLoader(table, 10, 0, noisy), ShuffledLoader(table, 10, 0, noisy)
    expected = [b for b, _ in zip(endless(whole), range(25), strict=False)]
    for _ in zip(range(stop), endless(first), strict=False):
        pass
    second = ShuffledLoader(table, 10, 0, noisy)
    second.load_state_dict(first.state_dict())
    torch.rand(17)  # other noise in between changes nothing
    for batch, other in zip(expected[stop:], endless(second), strict=False):
        assert torch.equal(batch.x, other.x) and torch.equal(batch.y, other.y)


@pytest.mark.parametrize(("size", "world"), [(10, 1), (3, 1), (7, 2), (40, 1), (64, 1), (8, 9)])
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_with_other_batches_an_epoch_goes_on_behind_the_rows_that_were_given(stop, size, world):
    """Only a rest that fills no batch is left out, and then the next epoch begins."""
    table = numbered()
    order = table.order(torch.Generator().manual_seed(mix(0, 0))).tolist()
    before = ShuffledLoader(table, 10, 0)
    given = [batch.y.tolist() for _, batch in zip(range(stop), before, strict=False)]
    assert list(chain(*given)) == order[: 10 * stop]
    ranks = [ShuffledLoader(table, size, 0, None, rank, world) for rank in range(world)]
    for rank in ranks:
        rank.load_state_dict(before.state_dict())
    rest = (103 - 10 * stop) // (size * world)
    assert [rank.steps_left for rank in ranks] == [rest] * world
    seen = [epochs(rank) for rank in ranks]
    if rest:
        step, end = size * world, 10 * stop + rest * size * world
        for t, parts in enumerate(zip(*seen, strict=True)):
            assert sorted(chain(*parts)) == sorted(order[10 * stop + t * step : min(end, 10 * stop + (t + 1) * step)])
    else:
        assert seen[0] == epochs(ShuffledLoader(table, size, 0, None, 0, world), 2)[len(ranks[0]) :]
    assert ranks[0].epoch == (1 if rest else 2) and ranks[0].row == 0


@pytest.mark.parametrize(("size", "world"), [(10, 1), (103, 1), (200, 1), (34, 3), (51, 2)])
def test_a_whole_pass_gives_every_row_once_and_in_order(size, world):
    """102 rows fill steps of 51 x 2 and 34 x 3: the last step has one row, and nothing for the other ranks."""
    ranks = [epochs(WholePass(numbered(), size, seed, None, rank, world)) for rank, seed in enumerate(range(world))]
    assert len({len(rank) for rank in ranks}) == 1 and len(ranks[0]) == len(
        WholePass(numbered(), size, 0, None, 0, world)
    )
    rows = [sorted(chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert list(chain(*rows)) == list(range(103))


@pytest.mark.parametrize("world", [2, 3])
def test_the_ranks_share_the_batches_of_one_process(world):
    table = numbered()
    alone = epochs(ShuffledLoader(table, 5 * world, 0), 2)
    ranks = [epochs(ShuffledLoader(table, 5, 0, None, rank, world), 2) for rank in range(world)]
    assert len(alone) == len(ranks[0])
    for whole, parts in zip(alone, zip(*ranks, strict=True), strict=True):
        assert sorted(whole) == sorted(chain(*parts)) and all(len(part) == 5 for part in parts)
    evaluated = [y for rank in range(world) for batch in epochs(Loader(table, 5, rank, world)) for y in batch]
    assert sorted(evaluated) == list(range(103))
    assert all(len(Loader(table, 5, r, world)) == len(epochs(Loader(table, 5, r, world))) for r in range(world))


def test_noise_differs_between_ranks_batches_and_epochs():
    drawn = []

    def draw(batch):
        drawn.append(torch.rand(1).item())
        return batch

    for rank in range(2):
        epochs(ShuffledLoader(numbered(), 10, 0, draw, rank, 2), 2)
    assert len(set(drawn)) == len(drawn) == 20


def test_a_batch_larger_than_the_data_is_one_smaller_batch(tmp_path):
    module = ImageData(Some(10), tmp_path, (1, 8, 8), 64, val=0, test=0)
    loader = module.train_dataloader()
    assert len(loader) == 1 and sorted(epochs(loader)[0]) == list(range(10))


def test_more_processes_than_images_end_in_one_line(tmp_path, monkeypatch):
    module = ImageData(Some(3), tmp_path, (1, 8, 8), 1, val=0, test=0)
    monkeypatch.setattr(module, "_place", lambda: (0, 4))
    with pytest.raises(UserError, match="3 training images do not go round 4 processes"):
        module.train_dataloader()
    module = ImageData(Some(10), tmp_path, (1, 8, 8), 1, val=0.2, test=0)
    monkeypatch.setattr(module, "_place", lambda: (0, 4))
    with pytest.raises(UserError, match=r"2 validation images do not go round 4 processes: .* data\.val"):
        module.val_dataloader()


def test_an_unpaired_epoch_is_as_long_as_the_larger_domain():
    a, b = (torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1) for n in (7, 20))
    table = UnpairedTable(a, b)
    order = table.order(torch.Generator().manual_seed(0))
    assert order.shape == (20, 2) and sorted(order[:, 1].tolist()) == list(range(20))
    assert sorted(order[:7, 0].tolist()) == sorted(order[7:14, 0].tolist()) == list(range(7))
    assert order[:7, 0].tolist() != order[7:14, 0].tolist()
    batch = table.batch(order[:5])
    assert to_uint8(batch.a).flatten().tolist() == order[:5, 0].tolist()
    assert to_uint8(batch.b).flatten().tolist() == order[:5, 1].tolist()
    assert to_uint8(table.batch(torch.tensor([8])).a).item() == 1


def test_paired_rows_stay_together():
    a = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1)
    table = PairedTable(a, a + 100, torch.tensor([1, 5, 8]))
    batch = table.batch(torch.tensor([2, 0]))
    assert to_uint8(batch.a).flatten().tolist() == [8, 1] and to_uint8(batch.b).flatten().tolist() == [
        108,
        101,
    ]


# Augmentation


def test_crop_flip_moves_every_image_by_its_own_draw():
    ramp = torch.linspace(-1, 1, 32).expand(16, 3, 32, 32).contiguous()
    torch.manual_seed(0)
    moved = CropFlip(1.25)(Images(ramp, torch.arange(16))).x
    assert moved.shape == ramp.shape and moved.min() >= -1 and moved.max() <= 1
    slopes = moved[:, 0, 16, 24] - moved[:, 0, 16, 8]
    assert 0 < (slopes > 0).sum() < 16 and (slopes.abs() - 0.4 * 32 / 31 * 2).abs().max() < 0.05
    assert len({round(v, 4) for v in moved[:, 0, 16, 16].tolist()}) > 4


def test_crop_flip_is_a_crop_of_the_enlarged_image():
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    large = torch.nn.functional.interpolate(x, (20, 20), mode="bicubic").clamp(-1, 1)
    crops = [large[:, :, i : i + 16, j : j + 16] for i in range(5) for j in range(5)]
    crops += [crop.flip(3) for crop in crops]
    seen = {
        next(i for i, crop in enumerate(crops) if torch.equal(crop, moved))
        for moved in (CropFlip(1.25)(Images(x, torch.zeros(1))).x for _ in range(600))
    }
    assert seen == set(range(50))


def test_crop_flip_moves_pairs_together_and_domains_apart():
    x = torch.rand(8, 3, 16, 16) * 2 - 1
    pair = CropFlip(1.25)(Paired(x, x))
    assert torch.equal(pair.a, pair.b) and not torch.equal(pair.a, x)
    apart = CropFlip(1.25)(Unpaired(x, x))
    assert not torch.equal(apart.a, apart.b)


def test_augmentation_is_reproducible_and_leaves_evaluation_alone(tmp_path):
    def module(augment):
        return ImageData(Some(40), tmp_path, (1, 8, 8), 4, augment=augment, seed=3)

    one, two = (torch.cat([b.x for b in module(CropFlip(1.25)).train_dataloader()]) for _ in range(2))
    plain = torch.cat([b.x for b in module(None).train_dataloader()])
    assert torch.equal(one, two) and not torch.equal(one, plain)
    for split in ("val", "test", "train"):
        with_, without = (list(module(augment).loader(split)) for augment in (CropFlip(1.25), None))
        assert all(torch.equal(a.x, b.x) for a, b in zip(with_, without, strict=True))


# The names a user types


@pytest.mark.parametrize("name", YAMLS)
def test_every_data_yaml_composes_and_names_its_facts(name, tmp_path):
    text = (CONF / "data" / f"{name}.yaml").read_text()
    first = text.splitlines()[0]
    assert first.startswith("# ") and len(first) < 130
    assert any(word in first for word in ("Download: ", "No download", "By hand"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = compose("train", [f"data={name}", f"data_root={tmp_path}"]).data
    module = instantiate(data)
    if isinstance(module, PointData):
        assert module.shape == (module.source.dimensions,) and module.source.name == name
        return
    assert isinstance(module, ImageData | UnpairedData | PairedData)
    channels, height, width = module.shape
    assert channels in (1, 3) and height == width == data.size
    assert f"{height}x{height}" in first
    assert module.source.name == name or (hasattr(module, "degradation") and module.source.name in name)
    assert module.classes is None or f"{module.classes:,} " in first
    assert data.epochs >= 1 and module.batch_size >= 1
    if "folder" not in name:
        assert module.source.splits and module.source.fingerprint(tmp_path)
        assert not any(tmp_path.iterdir())


def test_every_collection_has_a_yaml():
    assert set(CycleGAN.archives) <= set(YAMLS)
    names = {name if name not in CycleGAN.archives else f"{name}_pairs" for name in Pix2Pix.archives}
    assert names <= set(YAMLS)
    for name in (*CycleGAN.archives, *names):
        counts = (
            CycleGAN.counts[name] if name in CycleGAN.counts else Pix2Pix.counts.get(name.removesuffix("_pairs"), {})
        )
        first = (CONF / "data" / f"{name}.yaml").read_text().splitlines()[0]
        assert all(f"{n:,} " in first for n in (counts.values() if isinstance(counts, dict) else counts)), name


def test_digits_need_no_download(tmp_path):
    module = ImageData(Digits(), tmp_path, (1, 16, 16), 64, classes=10)
    module.prepare_data()
    assert [len(module.table(s)) for s in ("train", "val", "test")] == [1294, 144, 359]
    x, y = next(iter(module.loader("test")))
    assert x.shape == (64, 1, 16, 16) and set(y.tolist()) <= set(range(10))
