"""Pairs and domains that a degradation makes of single images."""

from typing import Any

import pytest
import torch

from unlabeled.batches import Paired, Unpaired
from unlabeled.data.augment import CropFlip
from unlabeled.data.kinds.degraded import DegradedData, DegradedDomainData
from unlabeled.data.sources.digits import Digits
from unlabeled.nn.augment.degradation import BlocksHole, Edges, LowResolution

CROP = CropFlip(1.25)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    make = lambda kind, degradation, **more: kind(
        Digits(), tmp_path_factory.getbasetemp() / "digits", (1, 16, 16), 8, degradation=degradation, test=0.2, **more
    )
    make(DegradedData, Edges()).prepare_data()
    return make


def held(batch: Any) -> set[bytes]:
    return {image.numpy().tobytes() for image in batch}


@pytest.mark.parametrize("degradation", [Edges(), LowResolution(2)], ids=repr)
@pytest.mark.parametrize("augment", [None, CROP], ids=["plain", "crops"])
def test_a_is_b_degraded_whatever_the_augmentation(data: Any, degradation: Any, augment: Any) -> None:
    module = data(DegradedData, degradation, augment=augment)
    for batch in (next(iter(module.train_dataloader())), next(iter(module.loader("test")))):
        assert isinstance(batch, Paired) and batch.a.shape == batch.b.shape == (8, 1, 16, 16)
        if isinstance(degradation, Edges):
            assert torch.equal(batch.a, degradation(batch.b))
        else:  # enlarged again
            torch.testing.assert_close(batch.a.mean(), batch.b.mean(), atol=0.02, rtol=0)
            assert (batch.a - batch.b).abs().max() > 0.05


def test_random_holes_are_new_in_training_and_a_function_of_the_row_in_evaluation(data: Any) -> None:
    module = data(DegradedData, BlocksHole())
    table, torch_state = module.table("test"), torch.random.get_rng_state()
    one, other = table.batch(torch.arange(6)), table.batch(torch.tensor([4, 2]))
    assert torch.equal(one.a[[4, 2]], other.a) and len(held(one.a != one.b)) > 3
    assert torch.equal(torch.random.get_rng_state(), torch_state)  # what methods draw is not touched
    loader = module.train_dataloader()
    first, second = list(loader), list(loader)
    pick = lambda batches: {b.numpy().tobytes(): a for batch in batches for a, b in zip(*batch, strict=True)}
    (early, late) = pick(first), pick(second)
    assert sum(torch.equal(a, late[b]) for b, a in early.items() if b in late) < len(early) // 4
    resumed = module.train_dataloader()
    resumed.load_state_dict({"epoch": 1, "row": 24})
    assert all(torch.equal(x, y) for x, y in zip(next(iter(resumed)), second[3], strict=True))


@pytest.mark.parametrize("degradation", [Edges(), BlocksHole()], ids=repr)
def test_domains_share_no_training_image(data: Any, degradation: Any) -> None:
    module = data(DegradedDomainData, degradation)
    table, raw = module.table("train"), module.training()
    a, b = table.rows_a, table.rows_b
    assert abs(len(a) - len(b)) <= 1 and not set(a.tolist()) & set(b.tolist())
    assert sorted([*a.tolist(), *b.tolist()]) == module.images("train").rows.tolist()
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Unpaired) and held(batch.a) <= held(raw.batch(torch.arange(len(raw))).a)
    assert held(batch.b).isdisjoint(held(raw.batch(torch.arange(len(raw))).b))
    if not degradation.random:
        assert held(batch.b) <= held(degradation(raw.batch(torch.arange(len(raw))).b))


def test_domains_are_pairs_in_evaluation(data: Any) -> None:
    module = data(DegradedDomainData, Edges(), augment=CROP)
    assert module.pairs_known
    for split in ("val", "test"):
        (batch, *_) = module.loader(split)
        assert torch.equal(batch.b, Edges()(batch.a))


def test_the_content_is_known_by_the_degradation(data: Any) -> None:
    """Features that are cached on disk depend on it."""
    keys = [
        tuple(data(DegradedData, d).keys.values()) for d in (Edges(), Edges(2.0), BlocksHole(), BlocksHole(side=0.5))
    ]
    assert len(set(keys)) == 4


def test_a_class_is_enough(data: Any) -> None:
    table = data(DegradedData, Edges(), classes=10, class_subset=3).table("train")
    assert (table.labels[table.rows] == 3).all() and len(table) > 100
