"""plain2striped: what its evaluation relies on."""

from pathlib import Path

import numpy as np
import pytest

from unlabeled.data.kinds.pairs import UnpairedData
from unlabeled.data.sources.scenes import Scenes, draw


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> UnpairedData:
    source = Scenes(size=32, train=12, val=4, test=6)
    module = UnpairedData(source, tmp_path_factory.mktemp("scenes"), (3, 32, 32), batch_size=4, size=32)
    module.prepare_data()
    return module


def levels(data: UnpairedData, split: str) -> np.ndarray:
    return data.pack(split).images.numpy().astype(int)  # (N, 3, H, W)


def test_a_scene_is_a_function_of_its_seed() -> None:
    assert (draw(5, 48, True) == draw(5, 48, True)).all()
    assert (draw(5, 48, True) != draw(6, 48, True)).mean() > 0.5


@pytest.mark.parametrize("size", [16, 64, 100])
def test_drawn_at_any_size(size: int) -> None:
    picture = draw(3, size, False)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8


def test_the_same_scene_at_every_size() -> None:
    small = draw(3, 32, True).astype(float)
    large = draw(3, 64, True).astype(float).reshape(32, 2, 32, 2, 3).mean((1, 3))
    other = draw(4, 32, True).astype(float)
    assert np.abs(small - large).mean() < 6 < np.abs(small - other).mean() / 2


@pytest.mark.parametrize("split", ["val", "test"])
def test_pairs_differ_in_the_animal_only(data: UnpairedData, split: str) -> None:
    a, b = levels(data, f"{split}_a"), levels(data, f"{split}_b")
    same = (a == b).all(1)  # (N, H, W)
    share = same.mean((1, 2))
    assert (share > 0.5).all() and (share < 0.95).all()
    rows, columns = np.where(~same.all(0))
    assert rows.min() > 0  # sky above every animal
    assert same[:, :2].all() and columns.max() < 32
    assert np.abs(a - b).max((1, 2, 3)).min() > 60  # and there the coats are far apart


def test_training_scenes_are_unpaired(data: UnpairedData) -> None:
    a, b = levels(data, "train_a"), levels(data, "train_b")
    same = (a[:, None] == b[None]).all(2).mean((2, 3))  # (N, N) share of equal pixels
    assert same.max() < 0.3


def test_no_scene_is_in_two_splits(data: UnpairedData) -> None:
    for domain in "ab":
        images = np.concatenate([levels(data, f"{split}_{domain}") for split in ("train", "val", "test")])
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 12 + 4 + 6


def test_domains_differ() -> None:
    """Stripes: strong edges from light to dark within the animal."""

    def contrast(striped: bool) -> float:
        pictures = np.stack([draw(i, 64, striped) for i in range(8)]).astype(float)
        return float((np.abs(np.diff(pictures.mean(-1), axis=2)) > 60).mean())

    assert contrast(True) > 4 * contrast(False)


def test_counts_and_facts(data: UnpairedData) -> None:
    assert [len(data.table(split)) for split in ("train", "val", "test")] == [12, 4, 6]
    assert data.pairs_known
    batch = next(iter(data.train_dataloader()))
    assert batch.a.shape == batch.b.shape == (4, 3, 32, 32)


def test_the_fingerprint_follows_the_content() -> None:
    nowhere = Path("nowhere")
    prints = [source.fingerprint(nowhere) for source in (Scenes(), Scenes(size=32), Scenes(train=10))]
    assert len(set(prints)) == 3
