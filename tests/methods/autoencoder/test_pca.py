"""Probabilistic PCA against scikit-learn's."""

import math
import os
import socket

import pytest
import torch
from lightning import Callback, Trainer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as Reference

from tests import warm
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.sources.digits import Digits
from unlabeled.errors import UserError
from unlabeled.methods.autoencoder.pca import PCA


def digits(folder, batch_size=100):
    data = ImageData(Digits(), folder, (1, 8, 8), batch_size, classes=10, val=0.0, test=0.1)
    data.prepare_data()
    return data


def trainer(folder, **settings):
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=folder,
        **settings,
    )


def seen_images(data, batches=None):
    """The training images, all of them or the first batches'."""
    parts = [batch.x.flatten(1).double() for batch in data.loader("train")]
    return torch.cat(parts[:batches])


@pytest.fixture(autouse=True)
def no_gradients():
    """As evaluation does."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pca")
    data, method = digits(folder), PCA((1, 8, 8), 8)
    run = trainer(folder, max_epochs=5)
    run.fit(method, datamodule=data)
    x = seen_images(digits(folder))
    reference = Reference(8, svd_solver="full").fit(x.numpy())
    return method.eval(), x, reference, run


def test_one_pass_is_enough(fitted):
    run = fitted[3]
    assert run.fit_loop.total_batch_idx + 1 == 17
    assert run.current_epoch == 1


@pytest.mark.parametrize(("batch_size", "seed"), [(7, 1), (1000, 2), (5000, 3)])
def test_a_pass_is_over_all_images_whatever_the_batches_and_the_seed(fitted, batch_size, seed, tmp_path):
    method, x, reference, _ = fitted
    data, other = digits(tmp_path, batch_size), PCA((1, 8, 8), 8)
    data.seed = seed
    trainer(tmp_path, max_epochs=1).fit(other, datamodule=data)
    assert len(x) == 1617  # 1797 images, of which a tenth is the test's
    torch.testing.assert_close(other.mean, torch.from_numpy(reference.mean_).float(), atol=1e-6, rtol=0)
    for name, value in method.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=1e-6, rtol=1e-6)


def test_subspace_is_sklearns(fitted):
    method, x, reference, _ = fitted
    theirs = torch.from_numpy(reference.components_).float()
    torch.testing.assert_close((method.components @ theirs.T).abs(), torch.eye(8), atol=1e-5, rtol=0)
    n = len(x)
    want = torch.from_numpy(reference.explained_variance_).float() * (n - 1) / n  # ours is 1 / N
    torch.testing.assert_close(method.variances, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(method.total, x.var(0, correction=0).sum().float())
    assert method.noise.item() == pytest.approx(reference.noise_variance_ * (n - 1) / n, rel=1e-5)


def test_likelihood_is_sklearns_and_a_gaussians(fitted):
    method, x, reference, _ = fitted
    images = x[:50].float().unflatten(1, (1, 8, 8))
    n = len(x)
    ratio = (n - 1) / n
    reference.explained_variance_ = reference.explained_variance_ * ratio
    reference.noise_variance_ = reference.noise_variance_ * ratio
    want = torch.from_numpy(reference.score_samples(x[:50].numpy())).float()
    torch.testing.assert_close(method.log_likelihood(images), want, atol=2e-3, rtol=1e-4)
    loadings = method.components.double().T * (method.variances - method.noise).double().sqrt()
    density = torch.distributions.MultivariateNormal(
        method.mean.double(), loadings @ loadings.T + method.noise.double() * torch.eye(64)
    )
    torch.testing.assert_close(method.log_likelihood(images), density.log_prob(x[:50]).float(), atol=2e-3, rtol=1e-4)


def test_reconstruction_is_sklearns(fitted):
    method, x, reference, _ = fitted
    want = torch.from_numpy(reference.inverse_transform(reference.transform(x.numpy()))).float().clamp(-1, 1)
    got = method.reconstruct(x.float().unflatten(1, (1, 8, 8)))
    torch.testing.assert_close(got.flatten(1), want, atol=1e-5, rtol=0)


def test_codes_are_drawn_as_they_are_found(fitted):
    """The prior's covariance is that of the codes less the noise, equation 7."""
    method, x, _, _ = fitted
    torch.manual_seed(0)
    drawn = method.sample_prior(200_000)
    codes = method.encode(x.float().unflatten(1, (1, 8, 8)))
    torch.testing.assert_close(
        drawn.T.cov(correction=0).diagonal(),
        codes.T.cov(correction=0).diagonal() - method.noise,
        rtol=0.02,
        atol=0,
    )
    images = method.sample(4)
    assert images.shape == (4, 1, 8, 8) and images.abs().max() <= 1


def test_shows_mean_and_components(fitted):
    images, captions = fitted[0].figures(torch.zeros(2, 1, 8, 8))["components"]
    assert images.shape == (9, 1, 8, 8) and captions[0] == "mean"
    assert captions[1].startswith("1: ") and images.abs().max() <= 1


def test_flat_data_have_a_finite_density():
    method = PCA((1, 4, 4), 3)
    x = torch.zeros(20, 16)
    x[:, 0] = torch.linspace(-1, 1, 20)
    method.moments = {
        "count": torch.tensor(20.0),
        "sum": x.double().sum(0),
        "outer": x.double().T @ x.double(),
    }
    method.solve()
    assert method.noise.item() == pytest.approx((2 / 255) ** 2 / 12)
    images = x.unflatten(1, (1, 4, 4))
    assert torch.isfinite(method.log_likelihood(images)).all()
    torch.testing.assert_close(method.reconstruct(images), images, atol=1e-5, rtol=0)
    assert torch.isfinite(method.sample_prior(5)).all()


def test_before_the_pass_it_is_a_standard_normal():
    method = PCA((1, 4, 4), 3)
    x = torch.rand(5, 1, 4, 4)
    want = -(16 * math.log(2 * math.pi) + x.flatten(1).square().sum(1)) / 2
    torch.testing.assert_close(method.log_likelihood(x), want)


def test_a_broken_off_pass_is_solved_with_what_it_saw(tmp_path):
    data, method = digits(tmp_path), PCA((1, 8, 8), 8)

    class Stop(Callback):
        def on_train_batch_end(self, run, *_):
            run.should_stop = run.fit_loop.total_batch_idx == 4

    run = trainer(tmp_path, max_epochs=5, callbacks=[Stop()])
    run.fit(method, datamodule=data)
    reference = Reference(8, svd_solver="full").fit(seen_images(digits(tmp_path), 5).numpy())
    theirs = torch.from_numpy(reference.components_).float()
    torch.testing.assert_close((method.components @ theirs.T).abs(), torch.eye(8), atol=1e-5, rtol=0)


def test_moments_survive_a_checkpoint():
    method, other = PCA((1, 2, 2), 2), PCA((1, 2, 2), 2)
    method.moments = {"count": torch.tensor(3.0), "sum": torch.ones(4), "outer": torch.eye(4)}
    checkpoint: dict = {}
    method.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    assert all(torch.equal(other.moments[name], value) for name, value in method.moments.items())


def test_too_large_and_too_many(tmp_path):
    with pytest.raises(UserError, match=r"12288 values.*data.size=36"):
        PCA((3, 64, 64), 16)
    with pytest.raises(UserError, match="take 1 to 63"):
        PCA((1, 8, 8), 64)
    method = PCA((1, 8, 8), 40)
    method.moments = {"count": torch.tensor(30.0), "sum": torch.zeros(64), "outer": torch.eye(64)}
    with pytest.raises(UserError, match="30 training images"):
        method.solve()


RANK = """
import sys, torch
from lightning import Trainer
from unlabeled.data.kinds.images import ImageData
from unlabeled.data.sources.digits import Digits
from unlabeled.methods.autoencoder.pca import PCA

torch.set_num_threads(1)
folder, method = sys.argv[1], PCA((1, 8, 8), 8)
data = ImageData(Digits(), folder, (1, 8, 8), 101, classes=10, val=0.0, test=0.1)
run = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
              enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
              num_sanity_val_steps=0, limit_val_batches=0, max_epochs=2, default_root_dir=folder)
run.fit(method, datamodule=data)
torch.save(dict(method.state_dict()), f"{folder}/{run.global_rank}.pt")
"""


def test_two_processes_find_the_same(fitted, tmp_path):
    """1617 images by twice 101: one is left for the last step, and the second process has none there."""
    digits(tmp_path)  # packed before both ranks would
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MASTER_PORT": str(port)}
    ranks = [warm.Popen("-c", RANK, str(tmp_path), env=environment | {"LOCAL_RANK": str(rank)}) for rank in range(2)]
    for rank in ranks:
        assert rank.wait(120) == 0, rank.communicate()[1][-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, value in fitted[0].state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-5)


def test_digits_have_structure(fitted):
    """Eight of 64 directions keep most of the variance of handwriting."""
    assert load_digits().images.shape[1:] == (8, 8)
    method = fitted[0]
    assert method.variances.sum() / method.total > 0.6
