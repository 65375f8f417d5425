"""VQ-VAE: its codebook against the equations, its gradient, and what does not depend on the batch."""

import math

import pytest
import torch
from torch import nn

from tests import warm
from unlabeled.errors import UserError
from unlabeled.losses.distance import SquaredError
from unlabeled.methods.autoencoder.vq_vae import VQVAE
from unlabeled.nn.autoencoders.residual import ResidualDecoder, ResidualEncoder
from unlabeled.nn.layers.vector_quantizer import VectorQuantizer, perplexity


def used(codes=4, dim=3, **settings):
    """A quantizer whose codes have all been used, the first one most."""
    torch.manual_seed(1)
    quantizer = VectorQuantizer(codes, dim, **{"decay": 0.9, "reset_threshold": 0.0} | settings)
    quantizer.use.copy_(torch.arange(codes, 0, -1) / sum(range(codes + 1)))
    quantizer.mean_sum.copy_(quantizer.codebook * quantizer.use[:, None])
    return quantizer


def vqvae(**settings):
    torch.manual_seed(0)
    encoder, decoder = (kind((1, 8, 8), 3, width=4, blocks=1, hidden=4) for kind in (ResidualEncoder, ResidualDecoder))
    settings = {"quantizer": used(), "commitment": 0.25, "latent_dim": 3} | settings
    return VQVAE(
        encoder, decoder, distance=SquaredError(), shape=(1, 8, 8), optimizer=torch.optim.Adam,
        schedule=lambda progress: 1.0, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("far", [0, 10_000])
def test_codes_are_the_nearest(far):
    quantizer = used().eval()
    quantizer.codebook += far
    z = torch.randn(5, 3, 2, 4) + far
    quantized, index = quantizer(z)
    vectors = z.movedim(1, -1)
    want = (vectors[..., None, :] - quantizer.codebook).square().sum(-1).argmin(-1)
    assert torch.equal(index, want) and torch.equal(quantized.movedim(1, -1), quantizer.codebook[want])


def test_the_codebook_follows_equations_6_to_8():
    quantizer = used()
    n, m = quantizer.use.double(), quantizer.mean_sum.double()
    for step in range(3):
        torch.manual_seed(step)
        z = torch.randn(5, 3, 2, 2)
        before = quantizer.codebook.clone()
        quantized, index = quantizer(z)
        assert torch.equal(quantized.movedim(1, -1), before[index])  # the loss is of the codebook before the update
        vectors, flat = z.movedim(1, -1).reshape(-1, 3).double(), index.flatten()
        for i in range(4):
            chosen = vectors[flat == i]
            n[i] = 0.9 * n[i] + 0.1 * len(chosen) / len(vectors)
            m[i] = 0.9 * m[i] + 0.1 * chosen.sum(0) / len(vectors)
        torch.testing.assert_close(quantizer.codebook, (m / n[:, None]).float())
    assert not torch.allclose(quantizer.codebook, used().codebook, atol=0.01)


def test_evaluation_leaves_the_codebook_alone():
    quantizer = used().eval()
    before = quantizer.state_dict()["codebook"].clone()
    quantizer(torch.randn(5, 3, 2, 2))
    assert torch.equal(quantizer.codebook, before)


def test_the_first_batch_is_the_first_codebook():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 3)
    z = torch.randn(6, 3, 2, 2) + 100  # far from where the codes are
    quantizer(z)
    distances = torch.cdist(quantizer.codebook, z.movedim(1, -1).reshape(-1, 3))
    # one code won all of the batch and is the mean of it; the others are vectors of the batch
    assert (distances.amin(1) == 0).sum() == 7 and len(quantizer.codebook.unique(dim=0)) > 4
    winner = quantizer.codebook[distances.amin(1).argmax()]
    torch.testing.assert_close(winner, z.mean((0, 2, 3)), rtol=1e-4, atol=0)
    assert perplexity(quantizer(z)[1], 8) > 3


def test_only_dead_codes_are_revived():
    quantizer = used(reset_threshold=0.5)  # of 1/4: with 0.1 of use the last one is dead
    quantizer.codebook[3] = 50.0  # and nothing is near it
    quantizer.mean_sum[3] = 5.0
    z = torch.randn(5, 3, 2, 2)
    twin = used()
    twin.load_state_dict(quantizer.state_dict())
    quantizer(z), twin(z)
    assert torch.equal(quantizer.codebook[:3], twin.codebook[:3]) and twin.codebook[3, 0] > 49
    assert (z.movedim(1, -1).reshape(-1, 3) - quantizer.codebook[3]).square().sum(1).min() < 1e-9
    assert quantizer.use[3] == 0.25


def test_a_doubled_batch_changes_nothing():
    """Neither the loss, nor the gradient, nor the codebook."""
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    found = []
    for batch in (x, x.repeat(2, 1, 1, 1)):
        method = vqvae()
        loss = method.loss(batch)
        loss.backward()
        gradient = [p.grad for p in method.encoder.parameters()]
        found.append((loss.detach(), method.quantizer.codebook, method.recorded[0]["train/perplexity"], *gradient))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_the_loss_is_the_mean_of_each_images():
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    method = vqvae().eval()
    torch.testing.assert_close(method.loss(x), torch.stack([method.loss(one[None]) for one in x]).mean())


def test_the_gradient_passes_straight_through():
    """What reaches z_e is the decoder's gradient at z_q and that of the commitment, 2 beta (z_e - e) / places / B."""
    method, x = vqvae().eval(), torch.rand(2, 1, 8, 8)
    kept = {}
    method.encoder.register_forward_hook(lambda module, inputs, z: (z.retain_grad(), kept.update(z=z))[0])
    method.loss(x).backward()
    z = kept["z"]
    e = method.quantizer(z.detach())[0].requires_grad_()
    (method.decoder(e) - x).square().flatten(1).sum(1).mean().backward()
    places = z.shape[2] * z.shape[3]
    torch.testing.assert_close(z.grad, e.grad + 2 * 0.25 * (z - e).detach() / places / 2)
    recorded = {name: value.item() for values in method.recorded for name, value in values.items()}
    by_hand = (z - e).detach().square().sum(1).mean().item()
    assert recorded["val/commitment"] == pytest.approx(by_hand, rel=1e-5)
    assert recorded["val/loss"] == pytest.approx(recorded["val/reconstruction_loss"] + 0.25 * by_hand, rel=1e-5)


def test_perplexity_by_hand():
    assert perplexity(torch.arange(8).repeat(3), 8).item() == pytest.approx(8)
    assert perplexity(torch.zeros(2, 3, dtype=torch.int64), 8).item() == pytest.approx(1)
    want = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert perplexity(torch.tensor([[0, 0], [0, 5]]), 8).item() == pytest.approx(want)


def test_codes_are_decoded_as_they_were_meant():
    method = vqvae().eval()
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        code = method.encode(x)
        image = method.distance.image(method.decoder(method.quantizer(method.encoder(x))[0]))
        assert code.shape == (3, 12) and torch.equal(method.reconstruct(x), image)
        torch.testing.assert_close(method.decode(code + 1e-3), image)  # the nearest codes


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 9), (2, 30, 33)])
def test_networks_of_any_size(shape):
    z = ResidualEncoder(shape, 5, width=4, blocks=1, hidden=4)(torch.zeros(2, *shape))
    assert z.shape == (2, 5, *(math.ceil(math.ceil(side / 2) / 2) for side in shape[1:]))
    decoder = ResidualDecoder(shape, 5, width=4, blocks=1, hidden=4, outputs=2)
    assert decoder(z).shape == (2, 2 * shape[0], *shape[1:])


def test_what_is_refused():
    with pytest.raises(UserError, match="3x8 cannot be halved 2 times"):
        ResidualEncoder((1, 3, 8), 4)
    with pytest.raises(UserError, match="at least 2 codes"):
        VectorQuantizer(1, 4)
    with pytest.raises(UserError, match="commitment=-1"):
        vqvae(commitment=-1)


RANK = """
import sys, torch, torch.distributed as dist
from unlabeled.nn.layers.vector_quantizer import VectorQuantizer
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
quantizer, z = VectorQuantizer(8, 3, decay=0.9), torch.randn(12, 3, 2, 2)
torch.manual_seed(rank)  # each draws noise of its own
for _ in range(3):
    quantizer(z[rank::2])
torch.save(dict(quantizer.state_dict()), f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_share_a_codebook(tmp_path):
    ranks = [warm.Popen("-c", RANK, str(tmp_path), str(rank)) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name
    for name, value in joint().items():
        torch.testing.assert_close(first[name], value)


def joint():
    """One process on both's images, with the first process's stand-ins."""
    torch.manual_seed(0)
    quantizer, z = VectorQuantizer(8, 3, decay=0.9), torch.randn(12, 3, 2, 2)
    torch.manual_seed(0)
    own = z[::2].movedim(1, -1).reshape(-1, 3)
    for _ in range(3):
        vectors = z.movedim(1, -1).reshape(-1, 3)
        index = quantizer.nearest(vectors)
        share, total = nn.functional.one_hot(index, 8).float(), vectors
        stand_ins = own[torch.randint(len(own), (8,))]
        quantizer.use.lerp_(share.mean(0), 0.1)
        quantizer.mean_sum.lerp_(share.T @ total / len(vectors), 0.1)
        quantizer.reset(stand_ins)
        quantizer.codebook.copy_(quantizer.mean_sum / quantizer.use[:, None])
    return quantizer.state_dict()
