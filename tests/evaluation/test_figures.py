"""Pictures: walks among codes, what is nearest, what is shown of whom."""

import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlabeled.batches import Images, Unpaired, to_uint8
from unlabeled.capabilities import inverts
from unlabeled.data.kinds.images import ImageTable
from unlabeled.data.kinds.pairs import UnpairedTable
from unlabeled.evaluation.figures import drawing as pictures
from unlabeled.evaluation.figures import evaluation as portrait
from unlabeled.evaluation.figures.drawing import (
    WIDEST,
    curves,
    curves_svg,
    distinct,
    draw_images,
    grid,
    lettering,
    nearest,
    plotted,
    thinned,
    titled,
)  # fmt: skip
from unlabeled.evaluation.figures.evaluation import copies, draw_figures
from unlabeled.evaluation.metrics.comparison import Nearest
from unlabeled.evaluation.ranks import Ranks
from unlabeled.evaluation.stats.latent import direction, is_gaussian, lerp, separation, slerp, traversals
from unlabeled.evaluation.study import Study

Z = 4  # dimensions of a toy's code


class Encoder:
    """Codes are the first pixels."""

    device = torch.device("cpu")

    def encode(self, x: Tensor) -> Tensor:
        return 3 * x.flatten(1)[:, :Z]


class Generator:
    """The other way round, grey elsewhere."""

    device = torch.device("cpu")

    def decode(self, z: Tensor) -> Tensor:
        x = torch.zeros(len(z), 64)
        x[:, :Z] = z / 3
        return x.unflatten(1, (1, 8, 8)).clamp(-1, 1)

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, Z)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))


class Autoencoder(Encoder):
    def decode(self, z: Tensor) -> Tensor:
        return Generator().decode(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class VAE(Autoencoder, Generator):
    pass


class Translator:
    device = torch.device("cpu")

    def translate(self, a: Tensor) -> Tensor:
        return -a

    def translate_back(self, b: Tensor) -> Tensor:
        return -b


class Data:
    """120 random images a split, of four classes in turn."""

    batch = Images
    shape = (1, 8, 8)
    only = None

    def __init__(self, classes: int | None = 4, attributes: tuple[str, ...] | None = None, n: int = 120):
        self.classes, self.attributes, self.n = classes, attributes, n

    def table(self, split: str) -> Any:
        g = torch.Generator().manual_seed(len(split))
        x = torch.rand(self.n, 1, 8, 8, generator=g) * 2 - 1
        y = torch.arange(self.n) % (self.classes or 1)
        if self.attributes:
            y = torch.randint(0, 2, (self.n, len(self.attributes)), generator=g)
        return ImageTable(to_uint8(x), y)


class Domains:
    batch = Unpaired
    shape = (1, 8, 8)

    def table(self, split: str) -> Any:
        a = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        return UnpairedTable(a, a.flip(0)[:7])


@pytest.fixture
def laid(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `portrait` lays out, by its row labels' first word: {"images": (rows, columns, C, H, W), ...}."""
    kept: list[dict[str, Any]] = []

    def record(images: Tensor, columns: int, captions: Any = None, side: int = 64, **labels: Any) -> Image.Image:
        kept.append({"images": images.unflatten(0, (-1, columns)), "captions": captions, **labels})
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(portrait, "grid", record)
    return kept  # type: ignore[return-value]


# Walks


def test_the_sphere_by_hand() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    way = slerp(a, b, torch.tensor([0, 1 / 3, 0.5, 1]))[0]
    half = math.sqrt(0.5)
    expected = torch.tensor([[1, 0], [math.cos(math.pi / 6), 0.5], [half, half], [0, 1]])
    torch.testing.assert_close(way, expected)
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, math.sqrt(3)]])  # 60 degrees apart
    torch.testing.assert_close(slerp(a, b, torch.tensor([0.5]))[0, 0], 2 * torch.tensor([math.cos(math.pi / 6), 0.5]))


def test_on_the_sphere_lengths_stay_and_ends_are_exact() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 64, generator=g)
    steps = torch.linspace(0, 1, 9)
    longer = slerp(a, 3 * b, steps)
    torch.testing.assert_close(longer[:, 0], a, atol=1e-6, rtol=0)
    torch.testing.assert_close(longer[:, -1], 3 * b, atol=1e-6, rtol=0)
    a, b = (8 * torch.nn.functional.normalize(part) for part in (a, b))
    torch.testing.assert_close(slerp(a, b, steps).norm(dim=2), torch.full((5, 9), 8.0))
    assert (lerp(a, b, steps).norm(dim=2)[:, 4] < 7).all()


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0])
def test_codes_on_one_line_are_joined_straight(factor: float) -> None:
    a = torch.tensor([[3.0, -1.0, 2.0]])
    steps = torch.linspace(0, 1, 5)
    way = slerp(a, factor * a, steps)
    assert torch.isfinite(way).all()
    if factor:
        torch.testing.assert_close(way, lerp(a, factor * a, steps))


def test_priors_are_told_apart_by_their_draws() -> None:
    g = torch.Generator().manual_seed(0)
    normal = torch.randn(portrait.DRAWS, 300, generator=g)
    assert is_gaussian(normal) and is_gaussian(normal * torch.arange(300) + 7)  # a dimension may be constant
    assert not is_gaussian(torch.rand(portrait.DRAWS, 4, generator=g))
    assert not is_gaussian(torch.cat([normal[:, :4], torch.rand(portrait.DRAWS, 1, generator=g)], 1))
    assert not is_gaussian(torch.nn.functional.one_hot(torch.arange(portrait.DRAWS) % 10))
    assert not is_gaussian(normal[:, :24].square().sum(1, keepdim=True))  # skewed by 0.58, excess kurtosis 0.5
    assert not is_gaussian(normal.exp()) and not is_gaussian(torch.ones(portrait.DRAWS, 2))


def test_a_traversal_moves_one_dimension_only() -> None:
    z, values = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[-5.0, 5.0], [7.0, 8.0]])
    codes = traversals(z, torch.tensor([2, 0]), values)
    assert codes.tolist() == [[[1, 2, -5], [1, 2, 5]], [[7, 2, 3], [8, 2, 3]]]
    assert z.tolist() == [1, 2, 3]


def test_rows_of_a_traversal_are_ordered_by_what_varies(laid: Any) -> None:
    known = torch.randn(500, Z, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3, 0.5, 2])
    study = SimpleNamespace(method=Generator(), device=torch.device("cpu"), block=100)
    z = torch.tensor([0.3, 0.6, -0.9, 1.2])
    portrait.traversed(study, z, None, known)
    assert [row.split()[0] for row in laid[0]["rows"]] == ["z1", "z3", "z0", "z2"]
    shown = laid[0]["images"].flatten(2)[:, :, :Z] * 3  # the toy's codes again
    torch.testing.assert_close(shown[:, 0], z.expand(Z, Z))  # as it is
    for row, dimension in enumerate([1, 3, 0, 2]):
        others = [d for d in range(Z) if d != dimension]
        torch.testing.assert_close(shown[row, 1:, others], z[others].expand(7, -1))
        centre, spread = known.mean(0)[dimension], known.std(0)[dimension]
        expected = (centre + spread * torch.arange(-3.0, 4)).clamp(-3, 3)  # the toy's images end there
        torch.testing.assert_close(shown[row, 1:, dimension], expected)
    portrait.traversed(study, z, known, None)  # draws from a prior: what moves images most
    assert [row.split()[0] for row in laid[1]["rows"]][-2:] == ["z0", "z2"] and "3 sd" in laid[1]["heads"][-1]


def test_walks_begin_and_end_at_real_images(laid: Any) -> None:
    study = Study(VAE(), Data())
    codes = study.codes("test")
    ends, images = portrait.ends_of_walks(study, codes)
    torch.testing.assert_close(codes.h[distinct(codes.y, 10)], ends)
    portrait.interpolations(study, ends, images, VAE().sample_prior(portrait.DRAWS))
    shown = laid[0]["images"]
    assert laid[0]["rows"] == ["straight", "spherical"] * 5 and shown.shape[:2] == (10, 13)
    for row in range(10):
        pair = row // 2
        assert torch.equal(shown[row, 0], images[2 * pair]) and torch.equal(shown[row, -1], images[2 * pair + 1])
        for column, end in ((1, 2 * pair), (-2, 2 * pair + 1)):
            torch.testing.assert_close(shown[row, column], VAE().decode(ends[end : end + 1])[0], atol=0.02, rtol=0)
    assert not torch.allclose(shown[0, 6], shown[1, 6])  # the two ways differ in the middle
    portrait.interpolations(study, ends, images, torch.rand(portrait.DRAWS, Z))
    assert set(laid[1]["rows"]) == {"straight"}  # a uniform prior has no sphere


def test_the_sphere_is_that_of_the_prior(laid: Any) -> None:
    """Between codes of a prior N(m, diag(s^2)), the standardised length stays."""
    study = Study(SimpleNamespace(decode=lambda z: z[:, None, None], device=torch.device("cpu")), Data())
    ranks, spread = torch.tensor([5.0, -2, 0, 1]), torch.tensor([0.1, 1, 10, 1])
    draws = ranks + spread * torch.randn(portrait.DRAWS, Z, generator=torch.Generator().manual_seed(0))
    a, b = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0]])
    portrait.interpolations(study, torch.stack([ranks + spread * a, ranks + spread * b]), None, draws)
    middle = (laid[0]["images"][1, 5].flatten() - ranks) / spread
    torch.testing.assert_close(middle, torch.tensor([math.sqrt(2), math.sqrt(2), 0, 0]), atol=0.1, rtol=0)


# What lies near to what


def test_neighbors_are_the_true_ones() -> None:
    g = torch.Generator().manual_seed(3)
    h = torch.randn(200, 6, generator=g)
    h[50] = 2 * h[7]  # the same angle
    queries = torch.tensor([7, 50, 120])
    found = nearest(h, queries, 5)
    assert found[:, 0].tolist() == [7, 50, 120] and found[0, 1] == 50 and found[1, 1] == 7
    for row, query in enumerate(queries):
        cosine = torch.stack([torch.dot(h[query], other) / h[query].norm() / other.norm() for other in h])
        cosine[query] = 2
        assert found[row].tolist() == cosine.argsort(descending=True)[:6].tolist()


def test_neighbors_are_searched_in_the_whole_split(laid: Any) -> None:
    study = Study(Encoder(), Data())
    codes = study.codes("test")
    portrait.neighbors(study, codes)
    table = study.table("test")
    shown, captions = laid[0]["images"], laid[0]["captions"]
    expected = nearest(codes.h, distinct(codes.y, 8), 9)
    assert expected.max() > 64  # a batch does not hold them
    assert torch.equal(shown.flatten(0, 1), table.batch(expected.flatten()).x)
    assert captions == [f"class {label}" for label in codes.y[expected.flatten()].tolist()]


class Memoriser(Generator):
    """Every other sample is a training image."""

    def sample(self, n: int) -> Tensor:
        x = Data(n=n).table("train").batch(torch.arange(n)).x
        new = torch.rand(n, 1, 8, 8) * 2 - 1
        return torch.where(torch.arange(n)[:, None, None, None] % 2 == 0, x, new)


def test_copies_of_training_images_are_found(laid: Any) -> None:
    study = Study(Memoriser(), Data(n=portrait.SAMPLES))
    found = copies(study, k=3)
    train = study.table("train").batch(torch.arange(portrait.SAMPLES)).x.flatten(1).double()
    distance = (found.samples.flatten(1).double()[:, None] - train).norm(dim=2)  # brute force
    near = distance.argsort(1)[:, :3]
    assert torch.equal(found.images, train[near].float().unflatten(2, (1, 8, 8)))
    held_out = study.table("test").batch(torch.arange(portrait.SAMPLES)).x.flatten(1).double()
    usual = (held_out[:, None] - train).norm(dim=2).amin(1).median()
    torch.testing.assert_close(found.ratio.double(), distance.gather(1, near) / usual, atol=1e-4, rtol=0)
    assert (found.ratio[::2, 0] == 0).all() and (found.ratio[1::2, 0] > 0.7).all()
    portrait.nearest_training(found)
    shown = laid[0]["images"]
    assert torch.equal(shown[:4, 0], shown[:4, 1])  # the copies stand first, each beside its original
    assert laid[0]["captions"][:2] == ["", "0.00"]
    assert laid[0]["rows"] == [f"{kind} {i}" for kind in ("closest", "any") for i in (1, 2, 3, 4)]
    assert len({tuple(row[0].flatten().tolist()) for row in shown}) == 8  # no sample twice


# Arithmetic


def test_a_direction_by_hand() -> None:
    h = torch.tensor([[1.0, 0], [3, 0], [10, 4], [12, 8], [99, 99]])
    has = torch.tensor([0, 0, 1, 1, -1])
    assert direction(h, has).tolist() == [9, 6]
    way = direction(h, has)
    along = [float(way @ row) for row in h[:4]]
    within = (np.var(along[:2]) + np.var(along[2:])) / 2
    assert separation(h, has) == pytest.approx((np.mean(along[2:]) - np.mean(along[:2])) / math.sqrt(within))


def test_attributes_are_added_to_codes(laid: Any) -> None:
    """The code's second dimension is the attribute "dark", the third is "Smiling"; the first two are chance."""
    data = Data(None, ("chance", "dark", "Smiling", "rare"), n=200)
    study = Study(Autoencoder(), data)
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (200, 4), generator=g)
    y[:, 3] = 0
    h = 0.1 * torch.randn(200, Z, generator=g) + y * torch.tensor([0.0, 0.9, 0.3, 0.0])
    portrait.attributes(study, SimpleNamespace(h=h, y=y), list(data.attributes))
    assert laid[0]["rows"] == ["+ smiling"] * 2 + ["+ dark"] * 2 + ["+ chance"] * 2  # known names, then what shows
    shown = laid[0]["images"]
    assert laid[0]["heads"] == ["image", "0", "0.5", "1", "1.5", "2"]
    for row, attribute in ((0, 2), (2, 1)):
        first = int((y[:, attribute] == 0).nonzero()[0])
        assert torch.equal(shown[row, 0], study.table("test").batch(torch.tensor([first])).x[0])
        moved = 3 * shown[row, 1:].flatten(1)[:, :Z]
        way = h[y[:, attribute] == 1].mean(0) - h[y[:, attribute] == 0].mean(0)
        steps = torch.tensor([0, 0.5, 1, 1.5, 2])[:, None]
        torch.testing.assert_close(moved, h[first] + steps * way, atol=1e-5, rtol=0)


def test_man_with_glasses_minus_man_plus_woman(laid: Any) -> None:
    y = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0], [1, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 1]])
    h = y.float() @ torch.tensor([[0.5, 0, 0, 0], [0, 0.25, 0, 0]]) + 0.1
    study = Study(Autoencoder(), Data(None, ("Male", "Eyeglasses"), n=10))
    codes = SimpleNamespace(h=h, y=y)
    assert portrait.sums(study, codes, ["Male", "Eyeglasses"])
    shown = laid[0]["images"]
    assert laid[0]["heads"] == ["man with glasses", "- man", "+ woman", "="] and shown.shape[:2] == (4, 4)
    first = study.table("test").batch(torch.tensor([0, 3, 6])).x
    assert torch.equal(shown[0, :3], first) and (shown[:3, 3] == 1).all()
    result = 3 * shown[3, 3].flatten()[:Z]
    torch.testing.assert_close(result, torch.tensor([0.1, 0.35, 0.1, 0.1]), atol=1e-6, rtol=0)  # a woman, glasses
    assert portrait.sums(study, codes, ["Male", "Hat"]) is None
    assert portrait.sums(study, SimpleNamespace(h=h[3:], y=y[3:]), ["Male", "Eyeglasses"]) is None


def test_from_class_to_class(laid: Any) -> None:
    study = Study(Autoencoder(), Data(4))
    codes = study.codes("test")
    portrait.between_classes(study, codes)
    assert laid[0]["rows"] == ["class 0 to 1", "class 1 to 2", "class 2 to 3"]
    one, two = (codes.h[codes.y == c].mean(0) for c in (1, 2))
    moved = 3 * laid[0]["images"][1, 1:].flatten(1)[:, :Z]
    steps = torch.arange(0, 1.6, 0.25)[:, None]
    torch.testing.assert_close(moved, (codes.h[1] + steps * (two - one)).clamp(-3, 3), atol=1e-5, rtol=0)
    assert portrait.between_classes(study, SimpleNamespace(h=codes.h, y=torch.full((120,), -1))) is None


class Bright:
    """Sure of the first pixel where it is far from grey; a third class that nothing is of."""

    classes: int | None = 3

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        value = levels[:, 0, 0, 0].float() / 127.5 - 1
        return value[:, None], torch.stack([-20 * value, 20 * value, torch.full_like(value, -99)], 1)


def test_drawn_codes_go_from_class_to_class(laid: Any) -> None:
    """By the images that a classifier is sure of; with means of these codes."""
    study = Study(Generator(), Data())
    assert portrait.arithmetic_of_draws(study) == {}
    study.extractor = Bright()  # type: ignore[assignment]
    torch.manual_seed(0)
    assert set(portrait.arithmetic_of_draws(study)) == {"arithmetic_of_draws"}
    torch.manual_seed(0)
    z = torch.randn(portrait.DRAWS // 4, Z)
    logit = 40 * (to_uint8(Generator().decode(z))[:, 0, 0, 0].float() / 127.5 - 1)  # of one class against the other
    dark, bright = z[logit.sigmoid() < 0.1], z[logit.sigmoid() > 0.9]
    assert laid[0]["rows"] == ["class 0 to 1"] and 100 < len(dark) + len(bright) < len(z)
    start, shown = dark[0], laid[0]["images"][0]
    torch.testing.assert_close(3 * shown[0].flatten()[:Z], start.clamp(-3, 3), atol=1e-5, rtol=0)
    steps = torch.arange(0, 1.6, 0.25)[:, None]
    expected = start + steps * (bright.mean(0) - dark.mean(0))
    torch.testing.assert_close(3 * shown[1:].flatten(1)[:, :Z], expected.clamp(-3, 3), atol=1e-5, rtol=0)
    study.extractor.classes = None  # type: ignore[union-attr]
    assert portrait.arithmetic_of_draws(study) == {}


def test_factors_are_no_attributes(laid: Any) -> None:
    study = Study(Autoencoder(), Data(None, ("a", "b")))
    codes = study.codes("test")
    assert "attributes" in portrait.arithmetic(study, codes)
    study.data.factors = {"shape": 2, "x": 2}
    assert portrait.arithmetic(study, codes) == {}
    del study.data.factors
    assert portrait.arithmetic(study, codes._replace(y=codes.y * 3)) == {}


# Who is shown how


ENCODED = {"neighbors", "embedding", "anomalies"}
DECODED = {"interpolation", "interpolations", "traversals"}
SHOWN = {
    Encoder: ENCODED,
    Generator: {"samples", "nearest_training_images"} | DECODED,
    Autoencoder: ENCODED | DECODED | {"reconstructions", "class_arithmetic"},
    VAE: ENCODED | DECODED | {"reconstructions", "class_arithmetic", "samples", "nearest_training_images"},
}


@pytest.fixture
def plain_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait, "embedding", lambda *_: Image.new("RGB", (9, 9)))


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_everything_that_applies_is_shown_the_same_each_time(kind: Any, plain_map: None) -> None:
    shown = draw_figures(Study(kind(), Data()))
    assert set(shown) == SHOWN[kind]
    torch.manual_seed(99)
    again = draw_figures(Study(kind(), Data()))
    for name, picture in shown.items():
        assert picture.width <= WIDEST
        assert name == "embedding" or np.asarray(picture).std() > 0
        assert picture.tobytes() == again[name].tobytes(), name
    if "samples" in shown:
        other = draw_figures(Study(kind(), Data(), seed=1))
        assert other["samples"].tobytes() != shown["samples"].tobytes()


class Collapsed(VAE):
    def encode(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), Z)


class Diverged(VAE):
    def encode(self, x: Tensor) -> Tensor:
        return torch.full((len(x), Z), torch.nan)

    def decode(self, z: Tensor) -> Tensor:
        return torch.full((len(z), 1, 8, 8), torch.nan)


class Broken(VAE):
    def sample(self, n: int) -> Tensor:
        raise RuntimeError("out of memory\nagain")


OF_CODES = {"neighbors", "embedding"}
COSTS = [  # method, images of a split, pictures that cannot be drawn
    (VAE, 1, {"embedding"}),
    (VAE, 2, set()),
    (Autoencoder, 1, {"embedding"}),
    (Generator, 1, set()),
    (Collapsed, 20, {"embedding"}),
    (Diverged, 20, OF_CODES | {"anomalies"}),
    (Broken, 20, {"samples", "nearest_training_images"}),
]


@pytest.mark.parametrize(("kind", "n", "lost"), COSTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_picture_that_fails_is_a_line_and_costs_nothing_else(kind: Any, n: int, lost: set[str]) -> None:
    study = Study(kind(), Data(n=n))
    shown = draw_figures(study)
    assert set(shown.failed) == lost and not lost & set(shown)
    few = {"interpolation", "interpolations", "traversals", "class_arithmetic"}  # take two images, or four
    wanted = SHOWN.get(kind, SHOWN[VAE]) - lost
    of_codes = few - {"interpolation"} if kind is Diverged else set()
    assert wanted - (few if n < 4 and kind is not Generator else of_codes) <= set(shown)
    assert all("\n" not in note for note in shown.notes()) and len(shown.notes()) == len(lost)
    batch = study.table("test").batch(torch.arange(n))
    drawn = draw_images(kind(), batch)  # as training does
    assert set(drawn.failed) == lost & {"samples"} and ("reconstructions" in drawn) == (kind is not Generator)


def test_translations_are_shown_both_ways() -> None:
    shown = draw_figures(Study(Translator(), Domains()))
    assert set(shown) == {"a_to_b", "b_to_a"}


def test_an_encoder_beside_a_generator_is_not_its_inverse(plain_map: None) -> None:
    class Both(Encoder, Generator):  # a discriminator's features, say
        pass

    assert not inverts(Both()) and inverts(VAE())
    shown = draw_figures(Study(Both(), Data()))
    assert set(shown) == ENCODED | DECODED | {"samples", "nearest_training_images"}  # no arithmetic


def test_what_metrics_found_nearest_is_shown(plain_map: None) -> None:
    study = Study(Generator(), Data())
    levels = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
    study.nearest = Nearest(levels, levels + 255, torch.arange(16), torch.zeros(16))
    page = np.asarray(draw_figures(study)["nearest_in_features"].convert("L"))
    assert page.shape == (4 * 82 + 2, page.shape[1]) and page[40, -40] == 0 and page[122, -40] == 255


def test_followers_make_the_passes_and_draw_nothing() -> None:
    class Group(Ranks):
        """Two processes, of which this is the second; the first's rows are made up from its own."""

        def gather(self, own: Any) -> list[Any]:
            return [[(start - 100, parts) for start, parts in own], own]

    made = []

    class Watched(VAE):
        def encode(self, x: Tensor) -> Tensor:
            made.append(len(x))
            return super().encode(x)

    study = Study(Watched(), Data(n=200), ranks=Group(1, 2))
    assert draw_figures(study) == {} and sum(made) >= 100


def test_classes_come_in_turn() -> None:
    y = torch.tensor([5, 5, 5, 2, 2, 7, -1])
    assert distinct(y, 4).tolist() == [0, 3, 5, 6] and distinct(y, 6).tolist() == [0, 3, 5, 6, 1, 4]
    assert distinct(torch.zeros(3, 2), 8).tolist() == [0, 1, 2]


# The page that images lie on


def test_a_grid_enlarges_by_whole_factors_and_keeps_every_level() -> None:
    images = torch.arange(6 * 4).reshape(6, 1, 2, 2) / 12 - 1
    page = np.asarray(grid(images, 3, side=8))
    assert page.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    expected = to_uint8(images[4, 0]).repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()
    assert (page[12:20, 12:20] == expected[:, :, None]).all()  # second row, second column
    assert (page[0] == 255).all() and (page[10:12] == 255).all()


def test_words_leave_the_images_as_they_are() -> None:
    images = -torch.ones(4, 3, 16, 16)
    plain, told = grid(images, 2, side=64), grid(images, 2, ["a", "b\nc", "", "d"], 64, ["row", "row"], ["one", "two"])
    levels = np.asarray(told.convert("L"))
    assert told.width > plain.width and told.height == plain.height + 17 + 2 * 34
    left = told.width - plain.width
    assert (levels[19 : 19 + 64, left + 2 : left + 66] == 0).all() and levels[:17, left:].min() < 100
    assert levels[19:83, :left].min() < 100  # the row's label
    long = grid(images, 2, ["a caption that is much too long for its image"] * 4)
    assert long.size == grid(images, 2, ["a"] * 4).size
    assert grid(images[:1], 1, heads=["x", "too many"]).width == grid(images[:1], 1).width


@pytest.mark.parametrize(
    ("size", "columns"), [((3, 256, 256), 16), ((1, 28, 28), 16), ((3, 40, 700), 4), ((1, 8, 8), 400)]
)
def test_no_picture_is_wider_than_a_page(size: tuple[int, int, int], columns: int) -> None:
    page = grid(torch.zeros(columns, *size), columns, side=128, rows=["a long label of a row"])
    assert 700 < page.width <= WIDEST


def test_training_pictures_stay_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch, no pass."""
    batch = Data().table("val").batch(torch.arange(64))
    assert set(draw_images(VAE(), batch)) == {"samples", "reconstructions", "interpolation"}
    assert set(draw_images(Encoder(), batch)) == {"neighbors"}
    assert set(draw_images(VAE(), Images(batch.x[:3], batch.y[:3]))) == {"samples", "reconstructions"}
    order: list[Tensor] = []
    monkeypatch.setattr(pictures, "grid", lambda images, *_, **__: order.append(images))
    draw_images(Encoder(), batch)
    h = torch.nn.functional.normalize(Encoder().encode(batch.x), dim=1)
    assert torch.equal(order[0][:10], batch.x[(h[0] @ h.T).argsort(descending=True)[:10]])


@pytest.mark.parametrize(("side", "columns"), [(16, 1), (64, 8), (128, 8), (256, 16)])
def test_letters_are_read_at_the_width_of_a_page(side: int, columns: int) -> None:
    """What is wider than a page is scaled down to it, and its letters with it."""
    page = grid(torch.zeros(columns, 1, side, side), columns, side=side, rows=["image"])
    for width in (page.width, WIDEST):
        font, line = lettering(width)
        assert font.size * min(1, 1150 / width) >= 12.5 and line > font.size


def test_a_title_stays_with_its_picture() -> None:
    image = Image.new("RGB", (200, 50), "black")
    short, long = titled(image, "samples: x"), titled(image, "samples: a name that is longer than its picture is")
    word = titled(Image.new("L", (20, 50)), "samples")
    for page in (short, long, word):
        inside = np.asarray(page.convert("L"))
        assert (inside[-50:, : min(page.width, 200)][:, :20] == 0).all() and 0 < (inside[:-50] < 100).sum() < 2000
    assert short.width == long.width == 200 and long.height > short.height and word.width > 20


# Curves


ROWS = [
    {"batch": str(10 * i), "epoch": "0", "train/loss": f"{1 / (i + 1)}", "val/loss": "" if i % 5 else f"{2 / (i + 1)}",
     "val/kl": "nan" if i == 3 else str(i)} for i in range(50)
]  # fmt: skip


def test_curves_are_a_picture_in_a_run_and_ink_in_a_page(tmp_path: Any) -> None:
    curves(ROWS, tmp_path / "new" / "curves.png")
    assert Image.open(tmp_path / "new" / "curves.png").width > 400
    svg = curves_svg(ROWS)
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>") and svg == curves_svg(ROWS)
    assert ">loss<" in svg and ">kl<" in svg and ">train<" in svg and "epoch" not in svg
    assert not re.search(r"(href|src)=\"[^#]", svg)
    assert curves_svg([]) == "" and curves_svg([{"batch": "1", "epoch": "0"}]) == ""
    curves([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_curves_begin_with_what_is_monitored_and_leave_out_a_rate_that_stays() -> None:
    rows = [
        {
            "batch": str(i),
            "train/gradient_norm": str(i),
            "train/a": "1",
            "train/lr": rate,
            "val/kl": "1",
            "val/loss": "2",
        }
        for i, rate in enumerate(["0.1", "0.1", "0.1"])
    ]
    plots = [axis.get_title() for axis in plotted(rows, "val/kl").axes if axis.get_title()]
    assert plots == ["kl", "loss", "a", "gradient norm"]
    assert next(axis.get_title() for axis in plotted(rows).axes) == "loss"
    rows[2]["train/lr"] = "0.05"
    assert [axis.get_title() for axis in plotted(rows).axes if axis.get_title()][-1] == "lr"
    assert plotted([{"batch": "1", "train/lr": "0.1"}]) is None


def test_long_curves_are_thinned_by_means() -> None:
    points = [(float(i), float(i % 2)) for i in range(100_000)]
    x, y = thinned(points)
    assert len(x) == pictures.POINTS and np.allclose(y, 0.5, atol=0.01) and x[0] < 250 and x[-1] > 99_700
    assert thinned(points[:3]).tolist() == [[0, 1, 2], [0, 1, 0]]
    rows = [{"batch": str(i), "train/loss": "0.5"} for i in range(50_000)]
    assert len(curves_svg(rows)) < 100_000
