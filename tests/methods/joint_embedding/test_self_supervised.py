"""RotNet, SimCLR, their network and their losses."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from tests import warm
from unlabeled.batches import Images
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.sources.digits import Digits
from unlabeled.errors import UserError
from unlabeled.evaluation.metrics.probe import neighbors
from unlabeled.evaluation.stats.linear import percent
from unlabeled.evaluation.study import Study
from unlabeled.losses.contrastive import NTXent
from unlabeled.methods.joint_embedding.joint_embedding import JointEmbedding
from unlabeled.methods.pretext.rotation import Rotation, rotate4
from unlabeled.nn.augment.views import Views
from unlabeled.nn.backbones.resnet import ResNet18
from unlabeled.nn.layers.mlp import Projector
from unlabeled.optim.schedules import Cosine, Steps
from unlabeled.optim.weight_decay import parameter_groups


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- ResNet-18


def test_resnet_is_torchvisions():
    """With the large stem and the same weights: the same features."""
    from torchvision.models import resnet18

    ours, theirs = ResNet18((3, 64, 64)), resnet18()
    theirs.fc = nn.Identity()
    for a, b in zip(weights(ours), weights(theirs), strict=True):  # both list them in the same order
        assert a.shape == b.shape
        b.copy_(a)
    for module in (ours, theirs):
        module.eval()
    x = noise(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


def weights(module):
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            if "var" in name:
                tensor.uniform_(0.5, 1.5)
            yield tensor


@pytest.mark.parametrize(("shape", "side"), [((1, 28, 28), 28), ((3, 32, 32), 32), ((3, 96, 96), 24)])
def test_stem_fits_the_size(shape, side):
    network = ResNet18(shape, width=8)
    x = noise(2, *shape)
    assert network.stem(x).shape == (2, 8, side, side)
    assert network(x).shape == (2, network.dim) == (2, 64)
    assert [h.shape[1] for h in network.stages(x)] == [8, 16, 32, 64]
    assert torch.equal(network.eval().stages(x)[-1], network(x))


def test_blocks_start_as_their_shortcut():
    block = ResNet18((3, 32, 32), width=8).layers[0][1]
    x = noise(2, 8, 6, 6).relu()
    assert torch.equal(block(x), x)


# --- RotNet


def rotation(width=4, shape=(1, 16, 16), views=None):
    torch.manual_seed(0)
    return Rotation(
        ResNet18(shape, width),
        views or Views(scale=(0.6, 1), flip=0, jitter=0, grey=0),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        Steps([0.3, 0.6, 0.8]),
        shape,
    )


def test_turns_are_the_four_rotations():
    """Against the definition: (row, column) -> (side - 1 - column, row) a turn, counter-clockwise."""
    x = noise(3, 2, 5, 5)
    turns, labels = rotate4(x)
    assert turns.shape == (12, 2, 5, 5)
    want = x
    for k in range(4):
        assert torch.equal(turns[labels == k], want)
        after = torch.empty_like(want)
        for row in range(5):
            for column in range(5):
                after[:, :, 4 - column, row] = want[:, :, row, column]
        want = after
    assert torch.equal(want, x)


def test_rotation_loss_is_cross_entropy_of_the_turn():
    method = rotation().eval()
    x = noise(3, 1, 16, 16)
    loss = method.loss(x)
    by_hand = 0.0
    for k in range(4):
        logits = method.classifier(method.encoder(torch.rot90(x, k, (2, 3))))
        by_hand -= logits.log_softmax(1)[:, k].mean() / 4
    torch.testing.assert_close(loss, by_hand)
    assert set(method.recorded[0]) == {"val/loss", "val/accuracy"}


def test_training_images_are_augmented_before_they_are_turned():
    class Square(nn.Module):  # batch norm would hide a mere factor
        def forward(self, x):
            return x * x

    method, x = rotation(views=Square()), noise(3, 1, 16, 16)
    loss = method.training_step(Images(x, torch.zeros(3)), 0)
    torch.testing.assert_close(loss, method.loss(x * x))
    assert not torch.isclose(loss, method.loss(x))


def test_rotation_refuses_what_is_not_square():
    with pytest.raises(UserError, match="needs square ones, not 48x64"):
        rotation(shape=(3, 48, 64))


def test_rotation_shows_its_turns():
    method = rotation().eval()
    images, captions = method.figures(noise(10, 1, 16, 16))["rotations"]
    assert images.shape == (32, 1, 16, 16) and len(captions) == 32
    assert captions[8].startswith("rotated 90\npredicted ")


# --- SimCLR


def simclr(width=4, shape=(1, 16, 16), views=None):
    torch.manual_seed(0)
    digits = Views(scale=(0.4, 1), flip=0, saturation=0, hue=0, grey=0)
    return JointEmbedding(
        ResNet18(shape, width),
        lambda dim: Projector(dim, 16),
        views or digits,
        NTXent(),
        lambda groups: torch.optim.Adam(groups, 5e-3, weight_decay=1e-4),
        Cosine(0.1),
    )


def test_ntxent_is_equation_1():
    za, zb = noise(5, 7), noise(5, 7, seed=1)
    z, temperature, total = torch.stack([za, zb], 1).flatten(0, 1), 0.3, 0.0  # z_2k-1 and z_2k are partners
    for i in range(10):
        j = i ^ 1
        similar = [math.exp(cosine_similarity(z[i], z[k], dim=0).item() / temperature) for k in range(10)]
        total -= math.log(similar[j] / sum(similar[k] for k in range(10) if k != i))
    assert NTXent(temperature)(za, zb).item() == pytest.approx(total / 10, rel=1e-5)


def test_ntxent_is_lowest_where_views_agree_and_images_differ():
    z = torch.eye(6)
    assert NTXent()(z, z) < NTXent()(z, z.roll(1, 0))
    assert NTXent()(z, z) < NTXent()(z, torch.ones(6, 6))


def test_ntxent_under_autocast_is_float32():
    za, zb = noise(8, 16), noise(8, 16, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = NTXent()(za, zb)
    assert torch.equal(loss, NTXent()(za, zb))


RANK = """
import sys, torch
from torch import distributed
from unlabeled.losses.contrastive import NTXent

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
za, zb = (z.chunk(2)[rank].requires_grad_() for z in torch.load(f"{folder}/z.pt"))
loss = NTXent(0.2)(za, zb)
loss.backward()
with torch.no_grad():
    alone = NTXent(0.2)(za, zb)
torch.save((loss.detach(), za.grad, zb.grad, alone), f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_are_one_on_the_joined_batch(tmp_path):
    za, zb = noise(6, 5).requires_grad_(), noise(6, 5, seed=1).requires_grad_()
    loss = NTXent(0.2)(za, zb)
    loss.backward()
    torch.save((za.detach(), zb.detach()), tmp_path / "z.pt")
    ranks = [warm.Popen("-c", RANK, str(rank), str(tmp_path)) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    losses, grads_a, grads_b, alone = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    torch.testing.assert_close(sum(losses) / 2, loss.detach())
    # DDP takes the mean over ranks, and each row belongs to one of them: half of its gradient.
    torch.testing.assert_close(torch.cat(grads_a) / 2, za.grad)
    torch.testing.assert_close(torch.cat(grads_b) / 2, zb.grad)
    for rank in range(2):  # without gradients: the rank's own rows only
        torch.testing.assert_close(alone[rank], NTXent(0.2)(za.detach().chunk(2)[rank], zb.detach().chunk(2)[rank]))


def test_views_are_drawn_for_each_image_and_view_in_one_forward():
    seen = []

    class Spy(nn.Module):
        dim = 4

        def forward(self, x):
            seen.append(x)
            return x.flatten(1)[:, :4]

    class Shift(nn.Module):
        def forward(self, x):
            return x + torch.arange(len(x))[:, None, None, None]

    method = simclr(views=Shift())
    method.encoder, method.projector = Spy(), nn.Identity()
    x = noise(3, 1, 16, 16)
    method.training_step(Images(x, torch.full((3,), -1)), 0)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], torch.cat([x, x]) + torch.arange(6.0)[:, None, None, None])


def test_alignment_is_the_distance_of_positives():
    method = simclr().eval()
    x = noise(4, 1, 16, 16)
    torch.manual_seed(5)
    method.loss(x)
    torch.manual_seed(5)
    za, zb = normalize(method.projector(method.encoder(method.views(torch.cat([x, x])))), dim=1).chunk(2)
    want = sum((a - b).square().sum() for a, b in zip(za, zb, strict=True)) / 4
    torch.testing.assert_close(method.recorded[0]["val/alignment"], want.detach())


def test_features_are_before_the_projection():
    method = simclr().eval()
    x = noise(2, 1, 16, 16)
    assert torch.equal(method.encode(x), method.encoder(x))
    assert method.encode(x).shape == (2, 32)


def test_biases_and_norms_do_not_decay():
    method = simclr()
    decay, free = parameter_groups(method)
    norms = {p for m in method.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()}
    biases = {p for name, p in method.named_parameters() if name.endswith("bias")}
    assert {*free["params"]} == norms | biases
    assert {*decay["params"]} == {*method.parameters()} - norms - biases
    assert [g["weight_decay"] for g in method.configure_optimizers().param_groups] == [1e-4, 0.0]


def test_simclr_shows_views():
    images, captions = simclr().eval().figures(noise(10, 1, 16, 16).clamp(-1, 1))["views"]
    assert images.shape == (24, 1, 16, 16) and len(captions) == 24
    assert captions[0] == "image" and captions[-1].startswith("cosine ")


# --- They learn


def digits(folder, batch_size):
    data = ImageData(Digits(), folder, (1, 16, 16), batch_size, classes=10)
    data.prepare_data()
    return data


def train(method, data, epochs):
    """Written out, with the schedule."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    optimizer, loader = method.configure_optimizers(), data.train_dataloader()
    base = [group["lr"] for group in optimizer.param_groups]
    for epoch in range(epochs):
        for i, batch in enumerate(loader):
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * method.schedule((epoch + i / len(loader)) / epochs)
            optimizer.zero_grad()
            method.training_step(batch, i).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    method.eval()


def knn(method, data):
    study = Study(method, data)
    with torch.random.fork_rng():  # a study seeds torch's noise
        train, val = study.codes("train"), study.codes("val")
    return percent(neighbors(train, val.h, [(20, 0.07)], 10)[0] == val.y)


@pytest.mark.learning
def test_rotation_learns_which_way_is_up(tmp_path):
    """Chance is 25%; 0, 1 and 8 look alike upside down, and a 6 is a 9."""
    method, data = rotation(width=8), digits(tmp_path, 64)
    train(method, data, 2)
    method.recorded.clear()
    with torch.no_grad():
        for batch in data.loader("val"):
            method.validation_step(batch, 0)
    accuracy = torch.stack([r["val/accuracy"] for r in method.recorded]).mean()
    assert accuracy > 0.55


@pytest.mark.learning
def test_simclr_learns_digits_without_labels(tmp_path):
    method, data = simclr(width=8), digits(tmp_path, 64)
    method.eval()
    untrained = knn(method, data)
    method.train()
    train(method, data, 4)
    trained = knn(method, data)
    assert trained > untrained + 20 and trained > 84
