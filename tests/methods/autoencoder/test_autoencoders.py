"""Autoencoders and their parts, each against its equation, an analytic case or a reference library."""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.linalg import subspace_angles
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence
from torch.nn.functional import binary_cross_entropy

from tests.tiny import eyes
from unlabeled.app.run.build import build
from unlabeled.app.run.checks import check_code
from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.evaluation.features.split import Features
from unlabeled.evaluation.figures.embedding import embedding, pixel_plane
from unlabeled.evaluation.kinds import KINDS
from unlabeled.evaluation.metrics.reconstruction import Reconstruction
from unlabeled.evaluation.study import Study
from unlabeled.losses import regularizer
from unlabeled.losses.distance import CrossEntropy, Perceptual, SquaredError
from unlabeled.methods.autoencoder.filters import filters
from unlabeled.nn.augment.bottleneck import GaussianNoise, KSparse
from unlabeled.nn.augment.corruption import Gaussian, Masking, SaltAndPepper
from unlabeled.nn.autoencoders.convolutional import ConvDecoder
from unlabeled.nn.autoencoders.fully_connected import FullyConnectedDecoder, FullyConnectedEncoder, TiedDecoder
from unlabeled.nn.autoencoders.fully_convolutional import FullyConvolutionalDecoder, FullyConvolutionalEncoder
from unlabeled.nn.backbones.vgg import VGG
from unlabeled.nn.layers.upsampling import Enlarge
from unlabeled.nn.pretrained.frozen import VGG16, Trained

SMALL = [
    "data=digits",
    "~data.source",
    "+data.source={_target_: tests.tiny.Tiny}",
    "data.batch_size=8",
    "data_root=none",
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """A method as train.py builds it, on images 1x16x16."""
    return lambda *words: build(resolve(*SMALL, *words))[1]


def images(n: int = 6, shape: tuple[int, int, int] = (1, 16, 16)) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


# Forms


def test_a_linear_autoencoder_learns_the_plane_of_pca(make: Any) -> None:
    method = make(
        "model=autoencoder", "network@model.encoder=autoencoders/linear_encoder",
        "network@model.decoder=autoencoders/linear_decoder",
        "model.latent_dim=3", "data.size=4",
    )  # fmt: skip
    spread = torch.tensor([1.0, 0.8, 0.6, *[0.1] * 13])
    x = torch.randn(300, 16) * spread @ torch.linalg.qr(torch.randn(16, 16)).Q + 0.3
    _, _, components = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    angles = lambda: subspace_angles(method.decoder[0].weight.detach().numpy(), components[:3].T.numpy())
    assert angles().max() > 0.5
    batch = Images(x.view(-1, 1, 4, 4), torch.zeros(300))
    optimizer = torch.optim.LBFGS(method.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = method.training_step(batch, 0)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert angles().max() < 0.01
    left = (batch.x - method.decoder(method.encoder(batch.x))).square().sum().detach()
    torch.testing.assert_close(left, torch.linalg.svdvals(x - x.mean(0))[3:].square().sum(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (2, 7, 9)])
def test_convolutions_alone_fit_any_size_and_keep_their_weights(shape: tuple[int, int, int]) -> None:
    pixels = -(-shape[1] // 4) * -(-shape[2] // 4)
    encoder = FullyConvolutionalEncoder(shape, 2 * pixels, num_params=2, width=4)
    decoder = FullyConvolutionalDecoder(shape, 2 * pixels, width=4, outputs=3)
    h = encoder(images(2, shape))
    assert h.shape == (2, 4 * pixels) and decoder(h[:, : 2 * pixels]).shape == (2, 3 * shape[0], *shape[1:])
    assert not any(isinstance(part, nn.Linear) for net in (encoder, decoder) for part in net.modules())
    weights = lambda net: {name: value.shape for name, value in net.state_dict().items()}
    larger = (shape[0], shape[1] + 8, shape[2])
    more = 2 * -(-larger[1] // 4) * -(-larger[2] // 4)
    assert weights(FullyConvolutionalEncoder(larger, more, num_params=2, width=4)) == weights(encoder)


def test_a_map_of_codes_says_which_lengths_it_can_have() -> None:
    with pytest.raises(UserError, match=r"latent_dim=50: the map of codes is 7x7: .* model.latent_dim=49"):
        FullyConvolutionalEncoder((1, 28, 28), 50)
    with pytest.raises(UserError, match=r"images of 6x28 cannot be halved 3 times: .* 8 pixels"):
        FullyConvolutionalDecoder((1, 6, 28), 4, halvings=3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47)])
def test_enlarging_fits_any_size_and_repeats_pixels(shape: tuple[int, int, int]) -> None:
    assert ConvDecoder(shape, 5, width=4, hidden=8, up=Enlarge)(torch.randn(2, 5)).shape == (2, *shape)
    step = Enlarge(1, 1, (4, 4), bias=False)
    nn.init.dirac_(step.weight)
    assert torch.equal(
        step(torch.arange(4.0).view(1, 1, 2, 2)),
        torch.arange(4.0).view(1, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3),
    )


@pytest.mark.parametrize(
    "words",
    [
        [
            "network@model.decoder=autoencoders/upsampling_decoder",
            "network@model.encoder=autoencoders/convolutional_encoder",
        ],
        [
            "network@model.encoder=autoencoders/fully_convolutional_encoder",
            "network@model.decoder=autoencoders/fully_convolutional_decoder",
            "model.latent_dim=32",
        ],
    ],
)
def test_networks_are_a_choice_of_the_command_line(make: Any, words: list[str]) -> None:
    method = make("model=autoencoder", *words)
    assert method.reconstruct(images()).shape == (6, 1, 16, 16)


@pytest.mark.parametrize("model", ["autoencoder", "vae", "wae_mmd"])
def test_a_code_wider_than_the_image_is_refused_where_nothing_keeps_it_from_copying(program: Any, model: str) -> None:
    said = program("train", f"model={model}", "model.latent_dim=257")
    assert said.status == 1
    assert said.complaint.startswith(
        "error: model.latent_dim=257: an image has 256 numbers (1x16x16), and nothing keeps"
    )


@pytest.mark.parametrize(
    "model",
    [
        "sparse_autoencoder",
        "k_sparse_autoencoder",
        "denoising_autoencoder",
        "redundant_autoencoder",
        "contractive_autoencoder",
    ],
)
def test_a_wide_code_is_fine_where_something_does(resolve: Any, model: str) -> None:
    config = OmegaConf.create(resolve(f"model={model}", "model.latent_dim=1000"))
    check_code(config.model, config.data.shape, KINDS[Images])


# Corruption and bottleneck


def test_masking_blackens_as_many_numbers_of_every_image() -> None:
    x = images(200, (3, 4, 4)).abs() / 2
    hit = (corrupted := Masking(0.25)(x)) == -1
    assert (hit.flatten(1).sum(1) == 12).all() and torch.equal(corrupted[~hit], x[~hit])
    often = hit.flatten(1).float().mean(0)
    assert not torch.equal(hit[0], hit[1]) and often.min() > 0.1 and often.max() < 0.4


def test_salt_and_pepper_is_half_black_half_white() -> None:
    x = images(200, (1, 10, 10)) / 2
    corrupted = SaltAndPepper(0.3)(x)
    black, white = (corrupted == -1), (corrupted == 1)
    assert ((black | white).flatten(1).sum(1) == 30).all()
    assert torch.equal(corrupted[~(black | white)], x[~(black | white)])
    assert 0.47 < float(white.sum() / (black | white).sum()) < 0.53


def test_gaussian_noise_is_of_grey_levels_in_zero_to_one() -> None:
    noise = Gaussian(0.3)(x := images(50)) - x
    assert float(noise.std()) == pytest.approx(0.6, rel=0.03) and abs(float(noise.mean())) < 0.02


def test_what_is_seen_is_corrupted_and_what_is_wanted_is_not(make: Any) -> None:
    method, x = make("model=denoising_autoencoder", "model.latent_dim=20"), images()
    torch.manual_seed(3)
    loss = method.training_step(Images(x, torch.zeros(6)), 0)
    torch.manual_seed(3)
    seen = method.corruption(x)
    p = method.decoder(method.encoder(seen)).sigmoid()
    wanted = binary_cross_entropy(p, (x + 1) / 2, reduction="sum") / 6
    assert not torch.equal(seen, x)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(method.reconstruct(x), method.decoder(method.encoder(x)).sigmoid() * 2 - 1)
    shown, captions = method.figures(x)["denoised"]
    assert captions == ["image"] * 6 + ["corrupted"] * 6 + ["denoised"] * 6 and torch.equal(shown[:6], x)


def test_the_largest_stay_and_more_of_them_in_evaluation() -> None:
    part, z = KSparse(2, alpha=1.5), torch.randn(50, 9)
    for kept, found in ((2, part.train()(z)), (3, part.eval()(z))):
        for row, sparse in zip(z.tolist(), found.tolist(), strict=True):
            border = sorted(row)[-kept]
            assert sparse == [value if value >= border else 0.0 for value in row]
    z.requires_grad_()
    part.train()(z).sum().backward()
    assert (z.grad.sum(1) == 2).all()  # nothing flows through the others


def test_noise_on_the_code_is_of_training_alone() -> None:
    part, z = GaussianNoise(0.5), torch.zeros(2000, 4)
    assert float(part.train()(z).std()) == pytest.approx(0.5, rel=0.05) and torch.equal(part.eval()(z), z)


@pytest.mark.parametrize(
    ("build_part", "complaint"),
    [
        (lambda: Masking(0), "corruption=masking: share=0"),
        (lambda: SaltAndPepper(1), "corruption=salt_and_pepper: share=1"),
        (lambda: Gaussian(0), "corruption=gaussian: scale=0"),
        (lambda: KSparse(0), "bottleneck=k_sparse: k=0"),
        (lambda: GaussianNoise(-1), "bottleneck=gaussian_noise: scale=-1"),
        (lambda: regularizer.KLSparsity(rho=1), "regularizer=kl_sparsity: rho=1"),
        (lambda: regularizer.Contractive(num_samples=0), "regularizer=contractive: num_samples=0"),
        (lambda: Trained(VGG((1, 8, 8)), None), "python train.py model=classifier data=NAME"),
        (lambda: VGG16(None), "are not downloaded"),
        (lambda: VGG16("x", [31]), "layers=.31.: at least one, from 0 to 30"),
        (lambda: TiedDecoder((1, 4, 4)).tie(FullyConnectedEncoder((1, 4, 4), 3)), "model.encoder.hidden="),
    ],
)  # fmt: skip
def test_senseless_values_end_in_a_line(build_part: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        build_part()


# Regularizers


def test_sparsity_is_the_divergence_of_bernoullis_of_mean_activations() -> None:
    z = torch.rand(40, 7)
    wanted = kl_divergence(Bernoulli(torch.full((7,), 0.05)), Bernoulli(z.mean(0))).sum()
    torch.testing.assert_close(regularizer.KLSparsity(2.0)(None, None, z, z), 2 * wanted)
    with pytest.raises(UserError, match=r"needs codes in \[0, 1\].*: say model.encoder.code._target_=torch.nn.Sigmoid"):
        regularizer.KLSparsity()(None, None, z, z - 0.5)


def test_norms_are_sums_over_units_and_means_over_images() -> None:
    z, decoder = torch.randn(5, 3), nn.Linear(3, 4)
    torch.testing.assert_close(regularizer.L1(0.5)(None, None, z, z), 0.5 * z.abs().sum() / 5)
    torch.testing.assert_close(regularizer.CodeNorm(0.5)(None, None, z, z), 0.25 * z.square().sum() / 5)
    weights = decoder.weight.square().sum() + decoder.bias.square().sum()
    torch.testing.assert_close(regularizer.DecoderWeights(0.5)(None, decoder, z, z), 0.5 * weights)
    either = 0.5 * decoder.weight.square().sum()
    torch.testing.assert_close(regularizer.Weights(0.5)(decoder, decoder, z, z), 2 * either)
    both = regularizer.Sum({"a": regularizer.L1(1.0), "b": regularizer.DecoderWeights(1.0)})
    torch.testing.assert_close(both(None, decoder, z, z), z.abs().sum() / 5 + weights)


def frobenius(encoder: Any, x: Tensor) -> Tensor:
    """Mean of |J|^2, of images read in [0, 1], by torch's own Jacobian."""
    read = lambda unit: encoder(2 * unit[None] - 1)[0]
    each = [torch.autograd.functional.jacobian(read, (image + 1) / 2, create_graph=True) for image in x]
    return torch.stack([jacobian.square().sum() for jacobian in each]).mean()


def test_contraction_in_closed_form_is_the_jacobians_norm() -> None:
    x, encoder = images(5), FullyConnectedEncoder((1, 16, 16), 6, hidden=[], code=nn.Sigmoid)
    found = regularizer.ContractiveLayer(1.0)(encoder, None, x, encoder(x))
    torch.testing.assert_close(found, frobenius(encoder, x))
    gradients = [torch.autograd.grad(value, encoder[2].weight)[0] for value in (found, frobenius(encoder, x))]
    torch.testing.assert_close(*gradients)
    deeper = FullyConnectedEncoder((1, 16, 16), 6, hidden=[5], code=nn.Sigmoid)
    with pytest.raises(UserError, match="take regularizer=contractive"):
        regularizer.ContractiveLayer()(deeper, None, x, deeper(x))


def test_contraction_of_any_encoder_is_the_jacobians_norm() -> None:
    x = images(4, (2, 8, 8))
    encoder = nn.Sequential(nn.Conv2d(2, 3, 3, 2), nn.SiLU(), nn.Flatten(), nn.Linear(27, 5), nn.Tanh())
    wanted = frobenius(encoder, x)
    found = regularizer.ContractiveExact(1.0)(encoder, None, x, encoder(x))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, encoder[0].weight)[0] for value in (found, wanted)))
    estimated = regularizer.Contractive(1.0, num_samples=3000)(encoder, None, x, encoder(x).detach())
    assert float(estimated.detach()) == pytest.approx(float(wanted), rel=0.03)
    with torch.inference_mode():  # as validation runs
        torch.testing.assert_close(regularizer.ContractiveExact(1.0)(encoder, None, x * 1, encoder(x)), wanted.detach())


def test_the_decoders_gradient_is_its_jacobians_norm_and_reaches_the_code() -> None:
    decoder, z = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6)), torch.randn(4, 3, requires_grad=True)
    each = [torch.autograd.functional.jacobian(lambda code: decoder(code[None])[0], row) for row in z.detach()]
    wanted = torch.stack([jacobian.square().sum() for jacobian in each]).mean()
    found = torch.stack([regularizer.DecoderGradient(1.0)(None, decoder, None, z) for _ in range(500)]).mean()
    assert float(found) == pytest.approx(float(wanted), rel=0.05)
    assert torch.autograd.grad(found, z)[0].abs().sum() > 0


def test_a_contractive_autoencoder_has_one_weight_also_when_copied(make: Any) -> None:
    method = make("model=contractive_autoencoder", "model.latent_dim=5")
    z, weight = torch.randn(2, 5), method.encoder[2].weight
    torch.testing.assert_close(method.decoder(z).flatten(1), z @ weight + method.decoder.bias)
    other = copy.deepcopy(method)
    with torch.no_grad():
        other.encoder[2].weight.zero_()
    assert other.decoder(z).abs().max() == 0 and method.decoder(z).abs().max() > 0
    assert set(dict(method.named_parameters())) == {"encoder.2.weight", "encoder.2.bias", "decoder.bias"}


@pytest.mark.parametrize(
    "model",
    [
        "autoencoder",
        "sparse_autoencoder",
        "kl_sparse_autoencoder",
        "k_sparse_autoencoder",
        "contractive_autoencoder",
        "rae",
    ],
)
def test_a_batch_twice_over_costs_the_same(make: Any, model: str) -> None:
    method, x = make(f"model={model}"), images()
    torch.testing.assert_close(method.loss(x, x), method.loss(x.repeat(2, 1, 1, 1), x.repeat(2, 1, 1, 1)))


# Wasserstein


def test_wae_is_error_and_discrepancy_from_the_prior(make: Any) -> None:
    method, x = make("model=wae_mmd", "model.scale=7"), images()
    torch.manual_seed(5)
    loss = method.training_step(Images(x, torch.zeros(6)), 0)
    torch.manual_seed(5)
    z = method.encoder(x)
    error = (method.decoder(z) - x).square().sum() / 6
    torch.testing.assert_close(loss, error + 7 * method.divergence(z, torch.randn(6, 8)))
    assert abs(float(method.sample_prior(4000).std()) - 1) < 0.03


# A stack


def test_layers_learn_one_after_the_other_and_then_all(make: Any) -> None:
    method = make("model=stacked_denoising_autoencoder", "model.widths=[9,7,5]", "model.pretraining=0.6")
    stages = []
    for progress in (0.01, 0.19, 0.21, 0.41, 0.59, 0.61, 0.99):
        method.progress = progress
        stages.append(method.stage)
    assert stages == [0, 0, 1, 2, 2, 3, 3]
    x, method.progress = images(), 0.3
    torch.manual_seed(2)
    loss = method.training_step(Images(x, torch.zeros(6)), 0)
    torch.manual_seed(2)
    first, second = method.layer1, method.layer2
    v = (first.up((x.flatten(1) + 1) / 2)).sigmoid()  # in [0, 1], of clean images
    seen = (method.corruption(2 * v - 1) + 1) / 2
    output = second.down(second.up(seen).sigmoid()).sigmoid()
    torch.testing.assert_close(loss, binary_cross_entropy(output, v.detach(), reduction="sum") / 6)
    loss.backward()
    moved = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in moved} == {"layer2"}


def test_a_stack_is_undone_from_its_top(make: Any) -> None:
    method, x = make("model=stacked_denoising_autoencoder", "model.widths=[9,7]"), images()
    h = [method.layer1.up((x.flatten(1) + 1) / 2).sigmoid()]
    h.append(method.layer2.up(h[0]).sigmoid())
    torch.testing.assert_close(method.encode(x), 2 * h[1] - 1)
    assert list(method.intermediate_features(x)) == ["layer1", "layer2"]
    below = method.layer2.down(h[1]).sigmoid()
    torch.testing.assert_close(method.reconstruct(x).flatten(1), method.layer1.down(below).sigmoid() * 2 - 1)


# Perceptual


def test_features_are_a_classifiers_after_each_stage() -> None:
    network, x = Trained(VGG((1, 16, 16), 4, (1, 2, 2, 2)), eyes()), images()
    weights = torch.load(eyes(), weights_only=True)["state_dict"]
    reference = VGG((1, 16, 16), 4, (1, 2, 2, 2)).eval()
    reference.load_state_dict({name.removeprefix("encoder."): value for name, value in weights.items()})
    found = network.train()(x)
    assert [tuple(h.shape[1:]) for h in found] == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    for h, pooled in zip(found, reference.stages(x), strict=True):
        torch.testing.assert_close(h.mean((2, 3)), pooled)
    assert not any(p.requires_grad for p in network.parameters())
    output = images(6).flip(0).requires_grad_()
    distance = Perceptual(network, pixels=0.5, scale=3.0)(output, x)
    features = sum((a - b).square().flatten(1).mean(1) for a, b in zip(network(output), found, strict=True))
    torch.testing.assert_close(distance, 3 * (features + 0.5 * (output - x).square().flatten(1).mean(1)))
    distance.sum().backward()
    assert output.grad.abs().sum() > 0


def test_a_perceptual_checkpoint_needs_no_second_file(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "eyes.ckpt"
    file.write_bytes(eyes().read_bytes())
    words = [
        "model=perceptual_autoencoder",
        "model.distance.network.encoder.width=4",
        f"model.distance.network.checkpoint={file}",
    ]
    method, x = make(*words), images()
    loss = method.loss(x, x)
    file.unlink()
    again = make(*words)
    with pytest.raises(UserError, match=r"there is no file .*eyes.ckpt"):
        again.loss(x, x)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.loss(x, x), loss)


def test_another_encoder_than_the_runs_is_told_from_it() -> None:
    with pytest.raises(UserError, match=r"does not hold this encoder: see model.distance.network.encoder"):
        Trained(VGG((1, 16, 16), 8, (1, 2, 2, 2)), eyes())


def test_vgg16_sees_what_torchvisions_does(tmp_path: Path) -> None:
    from torchvision.models.vgg import cfgs, make_layers
    from torchvision.transforms.functional import normalize

    reference = make_layers(cfgs["D"])[:9]
    file = tmp_path / "weights.pth"
    torch.save({f"features.{name}": value for name, value in reference.state_dict().items()}, file)
    x = images(2)
    found = VGG16(file, [3, 8])(x)
    seen = normalize(((x + 1) / 2).expand(-1, 3, -1, -1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for h, end in zip(found, (4, 9), strict=True):
        torch.testing.assert_close(h, reference[:end](seen))
    with pytest.raises(UserError, match=r"images of 1x9 are too small for VGG16's layer 8: at least 2 pixels a side"):
        VGG16(file, [3, 8])(images(2, (1, 1, 9)))
    named = file.rename(tmp_path / VGG16.FILE)
    n_init = hashlib.sha256(named.read_bytes()).hexdigest()[:8]
    with pytest.raises(UserError, match=f"its sha256 begins with {n_init}: fetch it again"):
        VGG16(named, [3, 8])
    with pytest.raises(UserError, match="holds no VGG16"):
        VGG16(named.rename(file), [3, 10])


# Pictures and numbers


def test_filters_are_the_first_layers_weights() -> None:
    linear = FullyConnectedEncoder((2, 4, 4), 70, hidden=[])
    found, captions = filters(linear, (2, 4, 4))["filters"]
    weight = linear[2].weight.detach()
    torch.testing.assert_close(found[3].flatten(), weight[3] / weight[3].abs().max())
    assert len(found) == 64 and captions[:2] == ["1", "2"]
    kernel = nn.Conv2d(2, 3, 2)
    (enlarged, _) = filters(nn.Sequential(kernel), (2, 4, 4))["filters"]
    assert enlarged.shape == (3, 2, 4, 4) and torch.equal(enlarged[:, :, 0, 0], enlarged[:, :, 1, 1])
    torch.testing.assert_close(enlarged[0, :, ::2, ::2], (kernel.weight / kernel.weight[0].abs().max())[0].detach())
    assert filters(nn.Sequential(nn.Linear(5, 5)), (2, 4, 4)) == {} and filters(nn.ReLU(), (2, 4, 4)) == {}


def test_compression_is_numbers_of_the_image_over_numbers_of_its_code(resolve: Any) -> None:
    data, method = build(resolve(*SMALL, "model=autoencoder", "model.latent_dim=8"))
    numbers = {number.name: number for number in Reconstruction().measure(Study(method.eval(), data))}
    assert numbers["compression_ratio"].value == 32
    assert numbers["compression_ratio"].facts == {"split": "test", "images": 8, "image_numbers": 256, "code_numbers": 8}


def test_the_plane_of_pca_stands_beside_the_codes() -> None:
    x = torch.randn(200, 1, 4, 4) * torch.linspace(1, 3, 16).view(1, 1, 4, 4)
    ((title, points),) = pixel_plane(x.flatten(1).double().numpy(), 0).items()
    centred = x.flatten(1).double() - x.flatten(1).double().mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), (u[:, :2] * s[:2]).abs().numpy(), rtol=1e-2, atol=1e-2)
    assert title == f"PCA of the pixels, {float((s[:2] ** 2).sum() / (s**2).sum()):.0%} of the variance"
    codes = Features(torch.randn(200, 2), torch.zeros(200, dtype=torch.int64))
    assert embedding(codes, 3, 0, x).width > 1.5 * embedding(codes, 3, 0).width
    assert pixel_plane(np.ones((5, 4)), 0) == {}


def test_distances_read_what_decoders_give() -> None:
    output, x = torch.randn(3, 1, 4, 4), images(3, (1, 4, 4))
    wanted = binary_cross_entropy(output.sigmoid(), (x + 1) / 2, reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(CrossEntropy()(output, x), wanted)
    torch.testing.assert_close(SquaredError()(output, x), (output - x).square().sum((1, 2, 3)))
    assert FullyConnectedDecoder((1, 4, 4), 2, hidden=[])(torch.randn(3, 2)).shape == x.shape
