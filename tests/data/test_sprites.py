"""sprites: every combination once, drawn where and as its labels say."""

from pathlib import Path

import numpy as np
import pytest

from unlabeled.data.kinds.images import ImageData
from unlabeled.data.sources.digits import Digits
from unlabeled.data.sources.sprites import REACH, SHAPES, Sprites, draw
from unlabeled.errors import UserError

NOWHERE = Path("nowhere")
HALF = REACH / np.sqrt(2)  # of the square's side
LOBE = REACH / (np.sqrt(2) * (1 + (np.sqrt(2) - 1) / (3 - np.sqrt(2))))  # radius of the heart's discs
AREAS = {"square": 4 * HALF**2, "ellipse": np.pi * REACH**2 / 2, "heart": (4 + np.pi) * LOBE**2}  # in sides^2


def images(source: Sprites) -> np.ndarray:
    return np.stack(list(source.read(NOWHERE, "train").images))  # type: ignore[arg-type]


def one(shape: str, scale: float = 1, turn: float = 0, x: float = 0.5, y: float = 0.5, size: int = 64) -> np.ndarray:
    return draw(shape, scale, turn, x, np.array([y]), size)[0].astype(float) / 255


def centroid(image: np.ndarray) -> tuple[float, float]:
    places = (np.arange(len(image)) + 0.5) / len(image)
    return (image.sum(0) * places).sum() / image.sum(), (image.sum(1) * places).sum() / image.sum()


def test_every_combination_once_in_a_fixed_order() -> None:
    source = Sprites(size=16, scales=2, rotations=3, positions=4)
    records = source.read(NOWHERE, "train")
    assert source.factors == {"shape": 3, "scale": 2, "rotation": 3, "x": 4, "y": 4}
    assert records.labels.shape == (3 * 2 * 3 * 4 * 4, 5) and records.labels.dtype == np.int64
    codes = records.labels @ np.array([96, 48, 16, 4, 1])
    assert (codes == np.arange(288)).all()
    assert (records.labels < np.array(list(source.factors.values()))).all()


def test_images_are_what_their_labels_say() -> None:
    source = Sprites(size=32, scales=3, rotations=5, positions=4)
    drawn, labels = images(source), source.read(NOWHERE, "train").labels
    assert drawn.shape == (len(labels), 32, 32)
    for i in range(0, len(labels), 37):
        shape, scale, turn, x, y = labels[i]
        places = 0.22 + 0.56 * np.arange(4) / 3
        alone = one(list(SHAPES)[shape], (0.5, 0.75, 1)[scale], turn / 5, places[x], places[y], 32)
        assert np.abs(alone - drawn[i] / 255).max() < 0.01


@pytest.mark.parametrize("size", [16, 33, 64, 128])
@pytest.mark.parametrize("shape", SHAPES)
def test_soft_edges_keep_the_area(shape: str, size: int) -> None:
    for scale, turn in ((1.0, 0.0), (1.0, 0.07), (0.5, 0.3)):
        image = one(shape, scale, turn, 0.513, 0.48, size)
        tolerance = 0.02 if scale * size > 30 else 0.1
        assert image.sum() / size**2 == pytest.approx(AREAS[shape] * scale**2, rel=tolerance)
        assert ((image > 0.05) & (image < 0.95)).any()  # soft
        assert image.max() == 1 and image.min() == 0


@pytest.mark.parametrize("shape", ["square", "ellipse"])
def test_places(shape: str) -> None:
    for x, y in ((0.22, 0.78), (0.5, 0.31)):
        assert centroid(one(shape, 0.8, 0.1, x, y)) == pytest.approx((x, y), abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_turned_clockwise(shape: str) -> None:
    assert np.allclose(one(shape, turn=0.25), np.rot90(one(shape), -1), atol=0.01)
    assert not np.allclose(one(shape, turn=0.1), np.rot90(one(shape), -1), atol=0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_just_fills_a_circle(shape: str) -> None:
    places = (np.arange(256) + 0.5) / 256
    far = np.hypot(places[None] - 0.5, places[:, None] - 0.5)[one(shape, turn=0.13, size=256) > 0.3].max()
    assert far == pytest.approx(REACH, abs=1.5 / 256)


def test_a_heart_stands_on_its_tip() -> None:
    image = one("heart", size=128)
    rows = np.flatnonzero(image.sum(1))
    assert np.allclose(image, image[:, ::-1], atol=0.01)
    top, tip = image[rows[1]], image[rows[-2]]
    assert not top[64] and top.any()  # the cleft
    assert tip[63:65].any() and tip.sum() < 5


def test_whole_within_the_picture() -> None:
    drawn = images(Sprites(size=32, scales=2, rotations=8, positions=2))
    edges = np.concatenate([drawn[:, 0], drawn[:, -1], drawn[:, :, 0], drawn[:, :, -1]], 1)
    assert not edges.any()
    assert drawn[:, 1:3].any()  # and they go close to it


def test_whole_within_the_smallest_picture() -> None:
    drawn = images(Sprites(size=16, scales=1, rotations=8, positions=3)).reshape(3, 8, 9, 16, 16)
    light = drawn.astype(float).sum((3, 4))  # of every place as in the middle
    assert light == pytest.approx(np.repeat(light[:, :, 4:5], 9, 2), rel=0.07)


def test_equal_by_symmetry_only() -> None:
    source = Sprites(size=32, scales=3, rotations=8, positions=3)
    drawn = images(source).reshape(-1, 32 * 32).astype(int)
    turns = {"square": 2, "ellipse": 4, "heart": 8}  # that look different
    different, chosen = 0, []
    for k, shape in enumerate(SHAPES):
        rotation = source.read(NOWHERE, "train").labels
        rows = np.flatnonzero((rotation[:, 0] == k) & (rotation[:, 2] < turns[shape]))
        different += len(rows)
        chosen.append(drawn[rows])
        again = np.flatnonzero((rotation[:, 0] == k) & (rotation[:, 2] == turns[shape]))
        if len(again):
            first = np.flatnonzero((rotation[:, 0] == k) & (rotation[:, 2] == 0))
            assert np.abs(drawn[again] - drawn[first]).max() <= 1
    assert len(np.unique(np.concatenate(chosen), axis=0)) == different
    everything = np.concatenate(chosen)
    for row in everything[::11]:
        far = np.abs(everything - row).max(1)
        assert (far > 20).sum() == len(everything) - 1  # further apart than by rounding


def test_one_value_of_a_factor() -> None:
    source = Sprites(size=16, scales=1, rotations=1, positions=1)
    drawn = images(source)
    assert list(source.factors.values()) == [3, 1, 1, 1, 1]
    assert centroid(drawn[0].astype(float)) == pytest.approx((0.5, 0.5), abs=1e-3)
    assert drawn[0].sum() / 255 / 256 == pytest.approx(AREAS["square"], rel=0.08)  # the largest


def test_facts_and_splits(tmp_path: Path) -> None:
    source = Sprites(size=16, scales=2, rotations=2, positions=4)
    data = ImageData(source, tmp_path, (1, 16, 16), batch_size=8, size=16)
    data.prepare_data()
    assert data.factors == source.factors and data.classes is None
    tables = [data.table(split) for split in ("train", "val", "test")]
    rows = np.concatenate([table.rows for table in tables])
    assert sorted(rows) == list(range(192)) and len(tables[2]) == 38
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (8, 1, 16, 16) and batch.y.shape == (8, 5)
    assert ImageData(Digits(), tmp_path, (1, 16, 16), batch_size=8).factors is None


def test_the_fingerprint_follows_the_content() -> None:
    sources = (Sprites(), Sprites(size=32), Sprites(scales=5), Sprites(rotations=19), Sprites(positions=15))
    assert len({source.fingerprint(NOWHERE) for source in sources}) == 5


@pytest.mark.parametrize("wrong", ["size", "scales", "rotations", "positions"])
def test_bad_input(wrong: str) -> None:
    with pytest.raises(UserError, match=rf"^data\..*{wrong}=0: sprites need a whole number of at least \d+$"):
        Sprites(**{wrong: 0})
    with pytest.raises(UserError, match=f"{wrong}=40.5: sprites need a whole number"):
        Sprites(**{wrong: 40.5})  # type: ignore[arg-type]
