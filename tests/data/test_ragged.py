"""Rows of unequal lengths: stored, padded, and ordered by length; a data module of them that shares all but its arrays
with images.
"""

import os
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.data import store
from unlabeled.data.labelled import LabelledData
from unlabeled.data.loader import ShuffledLoader
from unlabeled.data.ragged import group_by_length, load_ragged, padded, write_ragged
from unlabeled.data.store import Packed, load_labels, place
from unlabeled.errors import UserError

random = np.random.default_rng(0)
LENGTHS = [3, 1, 9, 0, 4]


def rows(lengths, *shape) -> list[np.ndarray]:
    return [random.integers(1, 99, (n, *shape)).astype(np.int32) for n in lengths]


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_what_was_written_is_read_and_padded(tmp_path, shape):
    written = rows(LENGTHS, *shape)
    write_ragged(tmp_path, iter(written), np.int32, shape)
    values, offsets = load_ragged(tmp_path, np.int32, shape)
    assert np.array_equal(values, np.concatenate(written)) and offsets.tolist() == [0, 3, 4, 13, 13, 17]
    values, offsets = torch.from_numpy(values), torch.from_numpy(offsets)
    index = torch.tensor([4, 2, 3, 0])
    for length, there in ((None, 16), (4, 4), (0, 0), (20, 20)):
        batch = padded(values, offsets, index, length, pad=-1)
        assert batch.dtype == torch.int32 and batch.shape == (4, there, *shape)
        for row, i in zip(batch.numpy(), index.tolist(), strict=True):
            n = min(there, LENGTHS[i])
            assert np.array_equal(row[:n], written[i][:n]) and (row[n:] == -1).all()
    assert padded(values, offsets, index[:0]).shape == (0, 0, *shape)


def test_rows_without_values_are_padding(tmp_path):
    write_ragged(tmp_path, rows([0, 0]), np.int32)
    values, offsets = map(torch.from_numpy, load_ragged(tmp_path, np.int32))
    assert padded(values, offsets, torch.tensor([1, 0]), 3).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("damage", ["cut", "other dtype", "gone", "descending", "short", "empty"])
def test_damaged_rows_are_refused(tmp_path, damage):
    write_ragged(tmp_path, rows(LENGTHS), np.int32)
    values, offsets = tmp_path / "values.npy", tmp_path / "offsets.npy"
    if damage == "cut":
        values.write_bytes(values.read_bytes()[:-4])
    elif damage == "gone":
        offsets.unlink()
    else:
        wrong = {"descending": [0, 5, 3, 17], "short": [0, 3], "empty": [], "other dtype": [0.0, 17.0]}[damage]
        np.save(offsets, np.array(wrong, float if damage == "other dtype" else np.int64))
    with pytest.raises((ValueError, OSError)):
        load_ragged(tmp_path, np.int32)


@pytest.mark.parametrize(("n", "group"), [(1000, 8), (1003, 8), (5, 8), (0, 8), (16, 8), (900, 1)])
def test_an_order_by_length_is_a_permutation_that_a_seed_decides(n, group):
    lengths = torch.randint(1, 60, (n,), generator=torch.Generator().manual_seed(1))
    draw = lambda seed: group_by_length(lengths, group, torch.Generator().manual_seed(seed))
    order = draw(0)
    assert order.sort().values.tolist() == list(range(n))
    assert torch.equal(order, draw(0)) and (n <= 16 or not torch.equal(order, draw(1)))
    waste = lambda order: sum(float(lengths[g].max() * len(g) - lengths[g].sum()) for g in order.split(group) if len(g))
    if n == 1000:
        means = torch.stack([lengths[g].float().mean() for g in order.split(group)])
        assert waste(order) < waste(torch.randperm(n)) / 4
        assert (means.diff() > 0).float().mean() < 0.7  # groups come in a random order


# A kind of data made of the neutral parts alone


class Words(NamedTuple):
    x: Tensor  # (B, T)
    y: Tensor


class RawWords(NamedTuple):
    rows: list[np.ndarray]
    labels: np.ndarray


class TinySource:
    name = "tiny_words"
    splits = ("train",)
    class_names = staticmethod(lambda root: ("short", "long"))

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return "1"

    def read(self, root: Path, split: str) -> RawWords:
        lengths = np.arange(40) % 20
        return RawWords([np.full(n, n, np.int32) for n in lengths], (lengths > 9).astype(np.int64))


class WordTable:
    def __init__(self, values: Tensor, offsets: Tensor, labels: Tensor, rows: Tensor | None, group: int):
        self.values, self.offsets, self.labels, self.group = values, offsets, labels, group
        self.rows = torch.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return group_by_length(self.offsets.diff()[self.rows], self.group, generator)

    def batch(self, index: Tensor) -> Words:
        rows = self.rows[index]
        return Words(padded(self.values, self.offsets, rows), self.labels[rows])


def write(raw: RawWords, folder: Path) -> None:
    write_ragged(folder, raw.rows, np.int32)
    np.save(folder / "labels.npy", raw.labels)


def load(folder: Path) -> dict[str, Tensor]:
    values, offsets = load_ragged(folder, np.int32)
    arrays = {"values": values, "offsets": offsets, "labels": load_labels(folder, len(offsets) - 1, "offsets.npy")}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class WordData(LabelledData):
    batch = Words
    noun = "sentences"

    def make(self, split: str) -> Packed:
        arrays, new = place(
            self.packed, split, load, lambda: partial(write, self.source.read(self.root, split)), "words"
        )
        return Packed(arrays, split, new)

    def summary(self) -> str:
        return "packed words"

    def make_table(self, packed: Packed, labels: Tensor, rows: Tensor | None) -> Any:
        arrays = self.resident(packed)
        return WordTable(arrays["values"], arrays["offsets"], labels, rows, self.batch_size)


def test_another_kind_shares_splits_labels_store_and_order(tmp_path, capsys):
    data = WordData(TinySource(), tmp_path, 4, num_labels=4, val=0.2, test=0.1)
    data.prepare_data()
    assert capsys.readouterr().err == "note: packed words\n" and data.classes == 2
    found = {split: data.table(split).rows.tolist() for split in ("train", "val", "test")}
    assert [len(rows) for rows in found.values()] == [29, 7, 4] and len({*chain(*found.values())}) == 40
    for batch in data.loader("val"):
        lengths = (batch.x != 0).sum(1)
        assert batch.x.shape[1] % 8 == 0 and torch.equal(batch.y, (lengths > 9).long())
        assert all((row[:n] == n).all() for row, n in zip(batch.x, lengths, strict=True))
    seen = data.training()
    assert (seen.labels >= 0).sum() == 4
    only = WordData(TinySource(), tmp_path, 4, class_subset="long")
    only.prepare_data()
    assert all((batch.y == 1).all() for batch in only.loader("val"))
    with pytest.raises(UserError, match="say fewer labels"):
        WordData(TinySource(), tmp_path, 4, num_labels=80).training()


def test_an_order_by_length_resumes_amid_an_epoch(tmp_path):
    data = WordData(TinySource(), tmp_path, 4)
    data.prepare_data()
    whole = ShuffledLoader(data.training(), 4, seed=3)
    batches = [batch for _ in range(2) for batch in whole]
    for stop in (3, 9):
        first, again = ShuffledLoader(data.training(), 4, seed=3), ShuffledLoader(data.training(), 4, seed=3)
        passed = (batch for _ in range(2) for batch in first)
        for _ in range(stop):
            next(passed)
        again.load_state_dict(first.state_dict())
        rest = [batch for _ in range(1 if stop > len(first) else 2) for batch in again]
        assert all(torch.equal(a.x, b.x) for a, b in zip(rest, batches[stop:], strict=True))


def test_a_damaged_pack_is_made_again_and_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    data = lambda: WordData(TinySource(), tmp_path, 4)
    data().prepare_data()
    (tmp_path / "packed/train/values.npy").write_bytes(b"cut")
    data().prepare_data()
    assert "was damaged" in capsys.readouterr().err
    full = lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    monkeypatch.setattr(store.os, "fsync", full)
    (tmp_path / "packed/train/values.npy").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"(?s)damaged.*is full") as caught:
        data().prepare_data()
    assert "\n" not in str(caught.value) and [p.name for p in (tmp_path / "packed").iterdir()] == ["train"]
    assert os.listdir(tmp_path / "packed/train")
