"""CycleGAN against its equations, and the numbers that judge a translation."""

import io
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from unlabeled.batches import Paired, Unpaired, from_uint8
from unlabeled.callbacks.pace import Budget
from unlabeled.data.kinds.pairs import UnpairedData
from unlabeled.data.sources.scenes import Scenes
from unlabeled.errors import UserError
from unlabeled.evaluation.metrics.similarity import distances
from unlabeled.evaluation.metrics.translation import Translation
from unlabeled.evaluation.study import Study
from unlabeled.methods.translation.cyclegan import CycleGAN
from unlabeled.nn.translation.image_pool import ImagePool
from unlabeled.nn.translation.patch_discriminator import PatchDiscriminator
from unlabeled.nn.translation.resnet_generator import ResnetGenerator
from unlabeled.optim.schedules import LinearDecay

SHAPE = (3, 32, 32)
Adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


class Spy(CycleGAN):
    """Notes who moved in each turn, and what the turn was given."""

    def __init__(self, **parts: Any):
        super().__init__(**parts)
        self.turns: list[tuple[set[str], tuple[Tensor, ...]]] = []

    def update(self, optimizer: Any, loss: Any, *args: Tensor) -> None:
        before = {name: p.detach().clone() for name, p in self.named_parameters()}
        super().update(optimizer, loss, *args)
        moved = {name.split(".")[0] for name, p in self.named_parameters() if not torch.equal(p, before[name])}
        self.turns.append((moved, args))


def small(**settings: Any) -> Spy:
    return Spy(
        to_b=ResnetGenerator(SHAPE, width=4, blocks=1),
        to_a=ResnetGenerator(SHAPE, width=4, blocks=1),
        discriminator_a=PatchDiscriminator(SHAPE, width=4),
        discriminator_b=PatchDiscriminator(SHAPE, width=4),
        translator_optimizer=Adam,
        discriminator_optimizer=Adam,
        schedule=LinearDecay(0.5),
        shape=SHAPE,
        **settings,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> UnpairedData:
    module = UnpairedData(Scenes(32, 8, 2, 3), tmp_path_factory.mktemp("scenes"), SHAPE, batch_size=2, size=32)
    module.prepare_data()
    return module


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Networks


def test_parameters_of_the_paper() -> None:
    def count(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    shape = (3, 256, 256)
    assert count(ResnetGenerator(shape, width=64, blocks=9)) == 11_378_179  # published as 11.378M
    assert count(PatchDiscriminator(shape, width=64)) == 2_764_737  # published as 2.765M


def test_a_score_sees_70_pixels() -> None:
    discriminator = PatchDiscriminator((1, 128, 128), width=2)
    # Without the norms, whose statistics see everything.
    discriminator.layers = nn.Sequential(*(m for m in discriminator.layers if not isinstance(m, nn.InstanceNorm2d)))
    x = images(1, 1, 128, 128).requires_grad_()
    scores = discriminator(x)
    assert scores.shape == (1, 14, 14)
    scores[0, 7, 7].backward()
    assert x.grad is not None
    rows, columns = torch.nonzero(x.grad[0, 0], as_tuple=True)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == 70


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 33, 50), (3, 47, 46)])
def test_any_size_and_channels(shape: tuple[int, int, int]) -> None:
    x = images(2, *shape)
    y = ResnetGenerator(shape, width=2, blocks=1)(x)
    assert y.shape == x.shape and y.abs().max() <= 1
    assert PatchDiscriminator(shape, width=2)(x).shape == (2, shape[1] // 8 - 2, shape[2] // 8 - 2)


def test_too_small_is_refused() -> None:
    with pytest.raises(UserError, match="32x32, not 28x28"):
        PatchDiscriminator((1, 28, 28))
    with pytest.raises(UserError, match="8x8, not 4x9"):
        ResnetGenerator((1, 4, 9))


@pytest.mark.parametrize("network", [ResnetGenerator, PatchDiscriminator])
def test_initial_weights(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    for layer in network((3, 64, 64), width=16).modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert layer.bias is not None and not layer.bias.any()


def test_one_call_for_fake_and_identity_is_exact() -> None:
    """Rows of a batch do not touch each other, in value or in gradient."""
    torch.manual_seed(0)
    network = ResnetGenerator(SHAPE, width=4, blocks=2).double()
    a, b = images(2, *SHAPE).double(), images(2, *SHAPE, seed=1).double()
    together = network(torch.cat([a, b]))
    apart = torch.cat([network(a), network(b)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)
    weights = list(network.parameters())
    for one, other in zip(
        torch.autograd.grad(together.square().sum(), weights),
        torch.autograd.grad(apart.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


# The pool


def numbered(first: int, n: int) -> Tensor:
    return torch.arange(first, first + n, dtype=torch.float32).view(n, 1, 1, 1)


def test_the_first_images_pass_and_are_stored() -> None:
    pool = ImagePool(50, (1, 1, 1))
    given = torch.cat([pool(numbered(0, 30)), pool(numbered(30, 20))])
    assert torch.equal(given, numbered(0, 50)) and torch.equal(pool.images, numbered(0, 50))


def test_then_half_are_exchanged_for_old_ones() -> None:
    torch.manual_seed(0)
    pool, size = ImagePool(10, (1, 1, 1)), 10
    stored = set(pool(numbered(0, size)).flatten().tolist())
    old, slots = 0, set()
    for k in range(size, 1010):
        before = pool.images.flatten().clone()
        given = pool(numbered(k, 1)).item()
        if given == k:
            assert torch.equal(pool.images.flatten(), before)
        else:
            old += 1
            (slot,) = torch.nonzero(pool.images.flatten() != before).flatten().tolist()
            assert given == before[slot] and pool.images[slot] == k
            slots.add(slot)
            stored = stored - {given} | {float(k)}
            assert set(pool.images.flatten().tolist()) == stored
    assert 450 < old < 550 and slots == set(range(size))


def test_a_pool_of_none_gives_what_it_is_given() -> None:
    """As the authors' code does: the discriminators see the newest images only."""
    pool, fakes = ImagePool(0, (1, 1, 1)), numbered(0, 3).requires_grad_()
    assert torch.equal(pool(fakes), fakes) and not pool(fakes).requires_grad
    copy = ImagePool(0, (1, 1, 1))
    copy.load_state_dict(pool.state_dict())


def test_a_batch_is_taken_one_by_one() -> None:
    """Images that the same batch stored can come out again, and none is lost or doubled."""
    torch.manual_seed(0)
    pool = ImagePool(3, (1, 1, 1))
    given = pool(numbered(0, 200)).flatten().tolist()
    left = pool.images.flatten().tolist()
    assert len(set(left)) == 3
    assert given[:3] == [0, 1, 2] and any(x < k for k, x in enumerate(given))
    assert set(given) | set(left) == set(range(200))


def test_the_pool_survives_a_checkpoint() -> None:
    method = small(pool=4)
    method.pool_a(images(6, *SHAPE))
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = small(pool=4)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.pool_a.count == 4 and other.pool_b.count == 0
    for _ in range(3):
        torch.manual_seed(1)
        one = method.pool_a(images(3, *SHAPE, seed=2))
        torch.manual_seed(1)
        assert torch.equal(one, other.pool_a(images(3, *SHAPE, seed=2)))


def test_no_gradient_leaves_the_pool() -> None:
    assert not ImagePool(2, SHAPE)(images(3, *SHAPE).requires_grad_()).requires_grad


# The algorithm


def test_losses_are_the_equations() -> None:
    torch.manual_seed(0)
    method = small(cycle_weight=7.0, identity_weight=3.0)
    G, F, D_a, D_b = method.to_b, method.to_a, method.discriminator_a, method.discriminator_b
    a, b = images(2, *SHAPE), images(2, *SHAPE, seed=1)
    ones, zeros = torch.ones_like(D_a(a)), torch.zeros_like(D_a(a))
    expected = (
        mse_loss(D_b(G(a)), ones)
        + mse_loss(D_a(F(b)), ones)
        + 7 * (l1_loss(F(G(a)), a) + l1_loss(G(F(b)), b))
        + 3 * (l1_loss(G(b), b) + l1_loss(F(a), a))
    )
    torch.testing.assert_close(method.translator_loss(a, b, F(b), G(a), F(a), G(b)), expected)
    old_a, old_b = images(2, *SHAPE, seed=2), images(2, *SHAPE, seed=3)
    expected = (mse_loss(D_a(a), ones) + mse_loss(D_a(old_a), zeros)) / 2
    expected = expected + (mse_loss(D_b(b), ones) + mse_loss(D_b(old_b), zeros)) / 2
    torch.testing.assert_close(method.discriminator_loss(a, b, old_a, old_b), expected)


def fit(method: CycleGAN, data: UnpairedData, batches: int) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[Budget(batches=batches)],
    )
    trainer.fit(method, datamodule=data)


def test_turns(data: UnpairedData) -> None:
    torch.manual_seed(0)
    method = small()
    G = deepcopy(method.to_b)
    fit(method, data, batches=1)
    (first, (a, b, _, fake_b, _, same_b)), (second, (*_, pooled_b)) = method.turns
    assert first == {"to_b", "to_a"} and second == {"discriminator_a", "discriminator_b"}
    torch.testing.assert_close(fake_b, G(a))
    torch.testing.assert_close(same_b, G(b))
    assert torch.equal(pooled_b, fake_b) and method.pool_b.count == len(a)  # what G made before its turn


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.0)])
def test_learning_rate(progress: float, factor: float) -> None:
    assert small().schedule(progress) == pytest.approx(factor)


@pytest.mark.learning
def test_learns_to_come_back(data: UnpairedData) -> None:
    torch.manual_seed(0)
    method = small()
    method.translator_optimizer = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))

    def cycle_error() -> float:
        numbers = {n.name: n.value for n in Translation().measure(Study(method.eval(), data, split="val"))}
        return numbers["cycle_a_mae"] + numbers["cycle_b_mae"]

    before = cycle_error()
    fit(method.train(), data, batches=80)
    assert cycle_error() < 0.75 * before  # without the cycle loss it rises


# The numbers


class Known:
    """Translates by a known rule."""

    device = torch.device("cpu")

    def translate(self, a: Tensor) -> Tensor:
        return (a + 0.1).clamp(-1, 1)


class KnownBack(Known):
    def translate_back(self, b: Tensor) -> Tensor:
        return b


class Facts:
    """A data module in memory, as evaluation sees it."""

    class source:
        name = "memory"

    def __init__(self, a: Tensor, b: Tensor, batch: type = Unpaired, pairs_known: bool = True):
        from unlabeled.data.kinds.pairs import UnpairedTable

        self.rows, self.batch, self.pairs_known = UnpairedTable(a, b), batch, pairs_known
        self.shape = tuple(a.shape[1:])

    def table(self, split: str) -> Any:
        return self.rows


def studied(method: Any, data: Facts, split: str = "test", block: int = 100) -> Study:
    """A study that works on `block` rows at a time."""
    return type("Blocks", (Study,), {"block": block})(method, data, split=split)  # type: ignore[no-any-return]


def grey(*levels: int) -> Tensor:
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


def test_errors_in_grey_levels_beside_the_baseline() -> None:
    facts = Facts(grey(100, 50), grey(120, 60))
    numbers = {n.name: n for n in Translation().measure(studied(Known(), facts, block=1))}
    assert set(numbers) == {"translation_mae", "translation_psnr", "translation_ssim"}
    mae, psnr = numbers["translation_mae"], numbers["translation_psnr"]
    assert mae.value == pytest.approx((20 - 12.75 + 12.75 - 10) / 2, abs=1e-4) and mae.better == "lower"
    assert mae.facts["baseline_value"] == pytest.approx(15) and mae.facts["images"] == 2
    expected = [20 * torch.log10(torch.tensor(255 / error)).item() for error in (20 - 12.75, 12.75 - 10)]
    assert psnr.value == pytest.approx(sum(expected) / 2, abs=1e-3) and psnr.unit == "dB"


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("a_is_longer", [True, False])
def test_cycle_error_needs_no_pairs_and_counts_each_image_once(batch_size: int, a_is_longer: bool) -> None:
    a, b = (grey(100, 50, 70), grey(250, 255)) if a_is_longer else (grey(250, 255), grey(100, 50, 70))
    measured = Translation().measure(studied(KnownBack(), Facts(a, b, pairs_known=False), block=batch_size))
    numbers = {n.name: n for n in measured}
    assert {name.rpartition("_")[0] for name in numbers} == {"cycle_a", "cycle_b"}
    longer, shorter = numbers["cycle_a_mae"], numbers["cycle_b_mae"]
    if not a_is_longer:
        longer, shorter = shorter, longer
    # The rule adds 12.75 grey levels, up to 255.
    assert longer.facts["images"] == 3 and longer.value == pytest.approx(12.75, abs=1e-3)
    assert shorter.facts["images"] == 2 and shorter.value == pytest.approx((5 + 0) / 2, abs=1e-3)


def test_where_it_applies() -> None:
    x = grey(1)
    applies = lambda method, data, split="test": Translation().applies(studied(method, data, split))
    assert applies(Known(), Facts(x, x))
    assert applies(Known(), Facts(x, x, batch=Paired))
    assert not applies(Known(), Facts(x, x, pairs_known=False))
    assert not applies(Known(), Facts(x, x), "train")
    assert applies(KnownBack(), Facts(x, x, pairs_known=False))
    assert not applies(object(), Facts(x, x))


def test_ssim_is_the_reference() -> None:
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    x, y = images(1, 3, 24, 24), images(1, 3, 24, 24, seed=1)
    expected = StructuralSimilarityIndexMeasure(data_range=1.0)((x + 1) / 2, (y + 1) / 2).item()
    assert distances(x, y)["ssim"].item() == pytest.approx(expected, abs=1e-5)
    assert distances(from_uint8(grey(9)), from_uint8(grey(9)))["ssim"].item() == pytest.approx(1, abs=1e-4)
