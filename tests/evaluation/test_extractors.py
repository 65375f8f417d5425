"""What image metrics see through: published networks beside torch-fidelity's own, and networks trained here."""

import copy
import json
import math
import pickle
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from lightning import Trainer
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, one_hot

from tests import warm
from tests.conftest import TINY, TINY_UNPAIRED
from tests.contract.cases import CASES
from tests.tiny import Tiny
from unlabeled.app.cli import main as cli
from unlabeled.app.evaluate import extractors
from unlabeled.app.evaluate.extractors import choose
from unlabeled.app.run.build import build as built
from unlabeled.app.run.train import fit
from unlabeled.batches import Images, from_uint8
from unlabeled.data.kinds.images import ImageTable
from unlabeled.errors import UserError
from unlabeled.evaluation.features.extractors import CLIP, Cells, DINOv2, Inception, Trained, digest
from unlabeled.evaluation.ranks import Ranks
from unlabeled.methods.supervised.classifier import Classifier
from unlabeled.nn.backbones.dinov2 import VisionTransformer
from unlabeled.nn.backbones.vgg import VGG


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Smooth uint8 images (n, C, H, W)."""
    coarse = torch.rand(n, shape[0], 5, 5, generator=torch.Generator().manual_seed(seed))
    return (interpolate(coarse, shape[1:], mode="bilinear") * 255).round().to(torch.uint8)


class Runs:
    """Unpickling it writes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


# Inception


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under torch-fidelity's names."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # so that something is left of an image after ninety layers
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), file)
    return file


def test_inception_is_torch_fidelity_s_from_files_to_scores(inception_file: Path, tmp_path: Path) -> None:
    from torch_fidelity import calculate_metrics
    from torch_fidelity.metric_isc import isc_featuresdict_to_metric
    from torch_fidelity.metric_kid import kid_featuresdict_to_metric

    sets = {"a": pictures(4, (3, 32, 40)), "b": pictures(4, (3, 32, 40), seed=1)}
    for name, images in sets.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i}.png")
    settings = {"isc_splits": 2, "kid_subsets": 3, "kid_subset_size": 3, "verbose": False}
    theirs = calculate_metrics(
        input1=str(tmp_path / "a"), input2=str(tmp_path / "b"), isc=True, kid=True, cuda=False, cache=False,
        batch_size=4, feature_extractor_weights_path=str(inception_file), **settings,
    )  # fmt: skip
    extractor = Inception(inception_file)
    (h_a, logits), (h_b, _) = extractor(sets["a"]), extractor(sets["b"])
    assert h_a.shape == (4, extractor.dim) and logits is not None and logits.shape == (4, extractor.classes)
    assert h_a.std(0).mean() > 1e-3 and logits.std() > 1e-3
    ours = isc_featuresdict_to_metric({"logits_unbiased": logits}, "logits_unbiased", **settings)
    ours |= kid_featuresdict_to_metric({"2048": h_a}, {"2048": h_b}, "2048", **settings)
    assert set(theirs) == set(ours) and all(ours[name] == pytest.approx(theirs[name], rel=1e-4) for name in ours)
    grey = pictures(1, (1, 20, 20))
    torch.testing.assert_close(extractor(grey)[0], extractor(grey.repeat(1, 3, 1, 1))[0])
    with pytest.raises(UserError, match="these have 2 channels"):
        extractor.check((2, 8, 8))


def test_a_weights_file_is_opened_safely_and_named_where_it_is_another(inception_file: Path, tmp_path: Path) -> None:
    code, other, text, cut, lists = (tmp_path / name for name in ("code.pth", "other.pth", "text.pth", "cut", "lists"))
    torch.save({"x": Runs(tmp_path / "ran")}, code)
    torch.save({"x": torch.zeros(1)}, other)
    torch.save([torch.zeros(1)], lists)
    text.write_text("<html>not found</html>")
    cut.write_bytes(inception_file.read_bytes()[:1000])
    for build in (Inception, DINOv2, CLIP):
        for file, line in (
            (code, "code.pth holds more than tensors and plain values, and is not opened"),
            (text, "text.pth holds more than tensors"),
            (cut, "cut is no whole file of weights"),
            (lists, "lists is no file of weights"),
            (other, "other.pth does not hold"),
            (tmp_path, "cannot read"),
        ):
            with pytest.raises(UserError, match=line):
                build(file)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Runs(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # it would have run


# DINOv2


@pytest.fixture
def vision_transformer() -> nn.Module:
    """torchvision's, small, with 16x16 patches of 14."""
    from torchvision.models import VisionTransformer as Theirs

    torch.manual_seed(0)
    network = Theirs(image_size=224, patch_size=14, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=512).eval()
    network.heads = nn.Identity()
    for value in network.parameters():
        nn.init.normal_(value, std=0.1)
    return network


def published(theirs: dict[str, Tensor], scales: list[Tensor]) -> dict[str, Tensor]:
    """torchvision's weights under DINOv2's names; `scales` multiply what two layers of each block give."""
    found = {"cls_token": theirs["class_token"], "pos_embed": theirs["encoder.pos_embedding"]}
    found |= {"mask_token": torch.zeros(1, 128)}  # in the published files; unused
    names = {"norm1": "ln_1", "norm2": "ln_2", "attn.proj": "self_attention.out_proj"}
    names |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}
    for kind in ("weight", "bias"):
        found[f"patch_embed.proj.{kind}"] = theirs[f"conv_proj.{kind}"]
        found[f"norm.{kind}"] = theirs[f"encoder.ln.{kind}"]
        for i in range(2):
            block = f"encoder.layers.encoder_layer_{i}"
            found[f"blocks.{i}.attn.qkv.{kind}"] = theirs[f"{block}.self_attention.in_proj_{kind}"]
            found |= {f"blocks.{i}.{ours}.{kind}": theirs[f"{block}.{their}.{kind}"] for ours, their in names.items()}
    for i in range(2):
        found[f"blocks.{i}.ls1.gamma"], found[f"blocks.{i}.ls2.gamma"] = scales[2 * i : 2 * i + 2]
    return {name: value.clone() for name, value in found.items()}


def test_dinov2_is_torch_fidelity_s(vision_transformer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network is fetched from the net; here torchvision's stands in, which takes the scales into its layers."""
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    scales = [torch.rand(128) + 0.5 for _ in range(4)]
    file = tmp_path / "dinov2.pth"
    torch.save(published(vision_transformer.state_dict(), scales), file)
    with torch.no_grad():
        for i, layer in enumerate(vision_transformer.encoder.layers):
            for linear, scale in ((layer.self_attention.out_proj, scales[2 * i]), (layer.mlp[3], scales[2 * i + 1])):
                linear.weight *= scale[:, None]
                linear.bias *= scale
    monkeypatch.setattr(torch.hub, "load", lambda *_: vision_transformer)
    theirs = FeatureExtractorDinoV2("dinov2-vit-s-14", ["dinov2"])
    images = pictures(2, (3, 30, 50))
    ours = DINOv2(file)
    h, logits = ours(images)
    torch.testing.assert_close(h, theirs(images)[0], rtol=1e-4, atol=1e-5)
    assert h.shape == (2, ours.dim) and h.std() > 0.1 and logits is None and ours.classes is None
    assert ours.name == "dinov2-128" and ours.digest == extractors.sha256(file)


def test_dinov2_scales_its_positions_as_its_authors_do(vision_transformer: Any) -> None:
    """Cubic convolution (Keys 1981, a = -3/4) at (i + 1/2) / s - 1/2, s = 16.1 / 37; worked for one patch."""
    weights = published(vision_transformer.state_dict(), [torch.ones(128)] * 4)
    weights["pos_embed"] = torch.randn(1, 1 + 37 * 37, 128)
    scaled = VisionTransformer(weights, "file").positions
    grid = weights["pos_embed"][0, 1:].reshape(37, 37, 128).numpy()

    def taps(i: int) -> tuple[np.ndarray, np.ndarray]:
        at = (i + 0.5) * 37 / 16.1 - 0.5
        rows = math.floor(at) + np.arange(-1, 3)
        d = np.abs(at - rows)
        near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        return rows, np.where(d <= 1, near, far)

    (rows, down), (columns, across) = taps(5), taps(12)
    worked = np.einsum("r,c,rcd->d", down, across, grid[np.ix_(rows, columns)])
    assert scaled.shape == (1, 257, 128) and torch.equal(scaled[:, 0], weights["pos_embed"][:, 0])
    np.testing.assert_allclose(scaled[0, 1 + 5 * 16 + 12], worked, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="without registers"):
        VisionTransformer(weights | {"register_tokens": torch.zeros(1, 4, 128)}, "file")


# CLIP


class Scripted(nn.Module):
    """The visual half of CLIP, and one more weight, as the published files have them."""

    def __init__(self) -> None:
        from torch_fidelity.feature_extractor_clip import VisionTransformer as Theirs

        super().__init__()
        self.visual = Theirs(input_resolution=48, patch_size=16, width=64, layers=2, heads=1, output_dim=24)
        self.text_projection = nn.Parameter(torch.zeros(10, 24))

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x)


def test_clip_is_torch_fidelity_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity import feature_extractor_clip

    torch.manual_seed(0)
    network, program, plain = Scripted(), tmp_path / "program.pt", tmp_path / "plain.pt"
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 48, 48)), program)
    torch.save(network.state_dict(), plain)
    images = pictures(3, (3, 30, 50))
    theirs = feature_extractor_clip.FeatureExtractorCLIP("clip-vit-b-32", ["clip"], str(program))(images)[0]
    ours = CLIP(plain)
    assert torch.equal(ours(images)[0], theirs) and theirs.shape == (3, ours.dim) and theirs.std() > 1e-3
    assert ours.name == "clip" and "to 48x48" in ours.facts["resize"]
    with pytest.raises(UserError, match="holds a program"):
        CLIP(program)  # a program that nobody published
    known = {"clip-vit-b-32": {"hash": extractors.sha256(program), "filename": "x"}}
    monkeypatch.setattr(feature_extractor_clip, "MODEL_METADATA", known)
    assert CLIP(program).name == "clip-vit-b-32" and torch.equal(CLIP(program)(images)[0], theirs)


# Networks trained here


def network(shape: tuple[int, int, int] = (1, 16, 16), classes: int | None = 3, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made = Classifier(VGG(shape, 4, [1, 1]), classes, torch.optim.Adam, lambda _: 1.0)
    return made.eval().requires_grad_(False)


def test_a_trained_network_is_seen_as_it_sees() -> None:
    method = network()
    extractor = Trained(method, "classifier-x", (1, 16, 16), {"checkpoint": "there"})
    images = pictures(4, (1, 16, 16))
    h, logits = extractor(images)
    x = images.float() / 127.5 - 1
    torch.testing.assert_close(h, method.encode(x))
    torch.testing.assert_close(logits, method.head(method.encoder(x)))
    assert (extractor.dim, extractor.classes) == (8, 3) and extractor.facts["checkpoint"] == "there"
    large = pictures(4, (1, 40, 24))
    small = interpolate(from_uint8(large), (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(extractor(large)[0], method.encode(small))
    with pytest.raises(UserError, match=r"takes images of 1 channel\(s\), and these have 3"):
        extractor.check((3, 16, 16))
    colour = Trained(network((3, 16, 16)), "classifier-x", (3, 16, 16), {})
    colour.check((1, 16, 16))
    assert torch.equal(colour(images)[0], colour(images.repeat(1, 3, 1, 1))[0])


def test_a_network_that_classifies_by_images_only_or_not_at_all_is_an_extractor_too() -> None:
    class Encoder(nn.Module):
        device = torch.device("cpu")

        def encode(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3))[:, None]

    class Whole(Encoder):
        def classify(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2]

    images = pictures(3, (1, 4, 4))
    assert Trained(Encoder(), "m", (1, 4, 4), {}).classes is None
    logits = Trained(Whole(), "m", (1, 4, 4), {})(images)[1]
    assert logits is not None and torch.equal(logits, from_uint8(images).flatten(1)[:, :2])
    with pytest.raises(UserError, match="gan-x does not encode images"):
        Trained(nn.Module(), "gan-x", (1, 4, 4), {})


def test_a_digest_is_of_names_types_shapes_and_values() -> None:
    one, same, other = (Trained(network(seed=s), "classifier-x", (1, 16, 16), {}) for s in (0, 0, 1))
    assert one.digest == same.digest != other.digest and one.name == f"classifier-x@{one.digest[:6]}"
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}
    turned = {"b": torch.tensor(1), "a": torch.arange(6.0).view(2, 3).T.contiguous().T}
    assert digest(weights) == digest(turned)
    others = [
        weights | {"a": torch.arange(6.0).view(3, 2)},
        weights | {"a": torch.arange(6.0).view(2, 3) + 1e-7 * torch.eye(2, 3)},
        weights | {"a": torch.arange(6.0).view(2, 3).view(torch.int32)},
        {"a": weights["a"], "c": weights["b"]},
    ]
    assert len({digest(w) for w in [weights, *others]}) == 5


def test_a_vgg_takes_any_size_and_halves_between_its_stages() -> None:
    for shape in ((1, 7, 9), (3, 33, 20)):
        made = VGG(shape, 4, [1, 2, 1]).eval()
        x = torch.randn(2, *shape)
        assert [h.shape[1] for h in made.stages(x)] == [4, 8, 16] and made.dim == 16
        assert torch.equal(made(x), made.stages(x)[-1])
        sides: list[Any] = []
        for layer in made.layers:
            layer.register_forward_hook(lambda *args, found=sides: found.append(tuple(args[-1].shape[2:])))
        made(x)
        assert sides == [tuple(math.ceil(s / 2**i) for s in shape[1:]) for i in range(3)]


def test_a_classifier_learns_from_labelled_images_alone() -> None:
    method = network().train().requires_grad_(True)
    x, y = torch.randn(6, 1, 16, 16), torch.tensor([0, -1, 2, 1, -1, 1])
    known = y >= 0
    method.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    loss = method.training_step(Images(x, y), 0)
    logits = method.classify(x)
    torch.testing.assert_close(loss, cross_entropy(logits[known], y[known]))
    expected = (logits[known].argmax(1) == y[known]).float().mean()
    torch.testing.assert_close(method.recorded[0]["train/accuracy"], expected)
    assert method.labels.labelled == 4
    nothing = network().train().requires_grad_(True)
    nothing.trainer = method.trainer
    nothing.training_step(Images(x, torch.full((6,), -1)), 0).backward()
    assert all(not p.grad.any() for p in nothing.parameters())
    with pytest.raises(UserError, match="no training image has one"):
        nothing.on_train_epoch_end()
    method.on_train_epoch_end()
    with pytest.raises(UserError, match="has attributes"):
        method.training_step(Images(x, torch.zeros(6, 3, dtype=torch.int64)), 0)
    with pytest.raises(UserError, match="a folder for each class"):
        network(classes=None)


def test_what_a_classifier_records_is_of_labelled_images_and_weighs_as_many() -> None:
    method = network().eval()
    x = torch.randn(6, 1, 16, 16)
    answers = method.classify(x).argmax(1)
    for y in (answers, torch.where(torch.arange(6) == 2, (answers + 1) % 3, -1), torch.full((6,), -1)):
        method.validation_step(Images(x, y), 0)
    assert [int(recorded.rows) for recorded in method.recorded] == [6, 1, 0]
    assert [float(recorded["val/accuracy"]) for recorded in method.recorded[:2]] == [1, 0]
    expected = cross_entropy(method.classify(x[2:3]), (answers[2:3] + 1) % 3)
    torch.testing.assert_close(method.recorded[1]["val/loss"], expected)


class WithoutVal(Tiny):
    """Validation images have no labels."""

    def fingerprint(self, root: Path) -> str:
        return "without val"

    def read(self, root: Path, split: str) -> Any:
        found = super().read(root, split)
        return found._replace(labels=found.labels * 0 - 1) if split == "val" else found


def test_a_best_checkpoint_is_never_chosen_by_what_was_not_measured(run: dict[str, Any], tmp_path: Path) -> None:
    run["data"]["source"] = {"_target_": f"{__name__}.WithoutVal"}
    fit(short(run, tmp_path / "run"))
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert "last.ckpt" in kept and "best.ckpt" not in kept
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"] == {} and result["objective"] is None
    assert "train/accuracy" in result["last"] and "val/loss" not in result["last"]


class Eyes:
    """A classifier that is right where an image's first pixel is bright."""

    name, classes = "eyes", 3

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def check(self, shape: Any) -> None:
        pass

    def __call__(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        right, y = levels[:, 0, 0, 0] == 255, levels[:, 0, 0, 1].long()
        return levels.flatten(1).float(), one_hot(torch.where(right, y, (y + 1) % 3), 3).float()


@pytest.mark.parametrize(
    ("counts", "right", "accuracy", "refused"),
    [
        ((20, 20, 20), 60, 100.0, False),
        ((20, 20, 20), 31, 100 * 31 / 60, False),  # just above: of the 40 errors of one class, 30 are three quarters
        ((20, 20, 20), 30, 50.0, True),
        ((20, 20, 20), 19, 100 * 19 / 60, True),  # chance
        ((54, 3, 3), 54, 90.0, True),  # what the most frequent class alone gives
        ((54, 3, 3), 58, 100 * 58 / 60, False),
        ((5, 5, 5), 0, 0.0, False),  # too few to judge by
        ((60, 0, 0), 0, 0.0, False),  # one class
        ((0, 0, 0), 0, None, False),  # no label
    ],
)
def test_an_extractor_says_how_often_it_is_right(
    counts: tuple[int, ...], right: int, accuracy: float | None, refused: bool
) -> None:
    y = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)] + [-1] * 7)
    images = torch.zeros(len(y), 1, 4, 4, dtype=torch.uint8)
    images[:right, 0, 0, 0] = 255
    images[:, 0, 0, 1] = y.clamp(min=0)
    table = ImageTable(images, y)
    data = SimpleNamespace(batch=Images, shape=(1, 4, 4), table=lambda split: table)
    eyes, shop = Eyes(), SimpleNamespace(data=data, title="d", key="evaluation.extractor")
    if refused:
        with pytest.raises(
            UserError, match=rf"eyes is right on {accuracy:.1f} % of 60 val .*say evaluation.extractor="
        ):
            extractors.ExtractorFinder.check_accuracy(shop, eyes)
    else:
        extractors.ExtractorFinder.check_accuracy(shop, eyes)
    assert eyes.facts.get("accuracy") == (None if accuracy is None else pytest.approx(accuracy))


# By name


COMPOSED: dict[str, Any] = {}


@pytest.fixture
def run(resolve: Any) -> dict[str, Any]:
    """A run's config on a few images with two classes."""
    if not COMPOSED:
        COMPOSED.update(resolve("model=classifier", *TINY))
    return copy.deepcopy(COMPOSED)


def short(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A run of two batches in `folder`, without pictures and words."""
    callbacks = {k: v for k, v in config["callbacks"].items() if k not in ("pictures", "progress")}
    callbacks["checkpoints"] |= {"folder": str(folder / "checkpoints")}
    callbacks["budget"] |= {"batches": 2}
    folder.mkdir(exist_ok=True)
    quiet = {"logger": {}, "trainer": config["trainer"] | {"enable_progress_bar": False}}
    return config | quiet | {"callbacks": callbacks, "run": str(folder)}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractors, "FEWEST", 16)
    monkeypatch.setattr(extractors, "MOST", 16)
    monkeypatch.setattr(extractors, "fit", here)


def here(config: dict[str, Any]) -> None:
    """As a process of its own would, in less time."""
    noise = torch.get_rng_state(), np.random.get_state(), random.getstate()
    with torch.enable_grad():
        fit(config)
    torch.set_rng_state(noise[0])
    np.random.set_state(noise[1])
    random.setstate(noise[2])


@pytest.fixture
def ask(run: dict[str, Any], tmp_path: Path, quick: None) -> Any:
    def ask(name: str, weights: Any = None, notes: Any = None, ranks: Ranks = Ranks(), **data: Any) -> Any:  # noqa: B008
        config = run | {"data": run["data"] | data}
        made = built(config)[0]
        made.prepare_data()
        notes = [] if notes is None else notes
        noise = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        chosen = choose(name, weights, config, made, tmp_path / "cache", "cpu", (), notes, ranks)
        assert torch.equal(torch.get_rng_state(), noise[0])  # nobody's noise has moved
        assert (np.random.get_state()[1].tolist(), random.getstate()) == noise[1:]
        return chosen

    return ask


def no_training(*_: Any) -> str:
    raise AssertionError("it trains")


@torch.no_grad()
def test_a_classifier_is_trained_once_and_kept(ask: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    first = ask("classifier")
    assert (first.dim, first.classes) == (128, 2) and first.name == f"classifier-d@{first.digest[:6]}"
    assert "val_accuracy" in first.facts
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: data=")]
    assert len(lines) == 2 and lines[0].startswith("training a classifier on d,") and lines[1].startswith("kept in")
    assert [p.name[:16] for p in (tmp_path / "cache" / "extractors").iterdir()] == ["classifier-tiny-"]
    monkeypatch.setattr(extractors, "fit", no_training)
    second = ask("classifier", seed=7, batch_size=3)
    images = pictures(3, (1, 16, 16))
    assert second.digest == first.digest and torch.equal(second(images)[0], first(images)[0])
    assert ask("auto").digest == first.digest
    more = {"source": {"_target_": "tests.tiny.Tiny", "n": 12}}
    for other in ({"val": 0.3}, {"classes": 3}, {"shape": [1, 12, 12]}, more):
        with pytest.raises(AssertionError, match="it trains"):
            ask("classifier", **other)
    follower = ask("classifier", ranks=Follower([None]))
    assert follower.digest == first.digest


class Follower:
    """The second of two processes, to which the leader sends these words."""

    is_main, world = False, 2

    def __init__(self, words: list[Any]):
        self.words = words

    def gather(self, own: Any) -> list[Any]:
        return [self.words.pop(0), own]


def test_the_settings_of_the_run_at_hand_do_not_matter(run: Any, tmp_path: Path) -> None:
    own = {"seed": 7, "batch_size": 3, "augment": {"_target_": "unlabeled.data.augment.CropFlip", "scale": 1.2}}
    own |= {"class_subset": [1], "num_labels": 10}
    made = built(run)[0]
    plain, other = (
        extractors.ExtractorFinder(
            {"data": run["data"] | data, "names": run["names"]}, made, tmp_path, "cpu", (), Ranks(), "extractor"
        )
        for data in ({}, own)
    )
    assert plain.configured("there") == other.configured("there") and plain.classifier_folder == other.classifier_folder
    assert plain.configured("there")["data"]["root"] == str(made.root)


def test_it_is_trained_in_a_process_of_its_own(
    run: Any, tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture
) -> None:
    """Also by one of several processes, which have a rank."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr("sys.executable", warm.python())
    config = short(run, tmp_path / "own")
    assert extractors.fit(config) is None
    assert (tmp_path / "own" / "checkpoints" / "best.ckpt").is_file() and not capfd.readouterr().out
    monkeypatch.setattr("sys.executable", "false")
    assert "could not be trained (status 1)" in str(extractors.fit(config))


def test_who_does_not_lead_never_trains(ask: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(extractors, "fit", no_training)
    with pytest.raises(UserError, match="the disk is full"):
        ask("classifier", ranks=Follower(["the disk is full"]))
    notes: list[str] = []
    assert ask("auto", notes=notes, ranks=Follower([True, "the disk is full"])) is None
    assert "the disk is full" in notes[0]


def test_what_is_half_trained_or_damaged_never_counts(ask: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    folder = tmp_path / "cache" / "extractors"

    def breaks_off(config: dict[str, Any]) -> str:
        here(config)
        return "the loss is not finite"

    def is_stopped(config: dict[str, Any]) -> str:
        here(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(extractors, "fit", breaks_off)
    with pytest.raises(UserError, match="the loss is not finite"):
        ask("classifier")
    monkeypatch.setattr(extractors, "fit", is_stopped)
    with pytest.raises(KeyboardInterrupt):
        ask("classifier")
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(extractors, "fit", here)
    whole = ask("classifier").digest
    file = next(folder.glob("*/checkpoints/best.ckpt"))
    file.write_bytes(file.read_bytes()[:500])
    capsys.readouterr()
    assert ask("auto").digest == whole  # the same seed, the same weights
    lines = capsys.readouterr().err.splitlines()
    assert "damaged" in lines[0] and lines[0].endswith("it is trained again") and len(lines) == 3


def test_auto_takes_what_is_at_hand(ask: Any, run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(extractors, "fit", no_training)
    notes: list[str] = []
    assert ask("auto", notes=notes) is None and ask("none") is None
    assert len(notes) == 1 and "python train.py model=classifier data=d" in notes[0] and "inception" not in notes[0]
    with pytest.raises(AssertionError, match="it trains"):
        ask("auto", source={"_target_": "unlabeled.data.sources.digits.Digits"}, classes=10)
    assert ask("auto", notes=notes, classes=None) is None and "RUN, a run" in notes[1]
    colour = {"shape": [3, 16, 16], "root": str(tmp_path / "data")}
    assert ask("auto", notes=notes, **colour) is None and "inception" in notes[2] and "classifier" in notes[2]
    file = tmp_path / "data" / "weights" / extractors.FILES["inception"].name
    file.parent.mkdir(parents=True)
    file.write_text("another")
    assert ask("auto", notes=notes, **colour) is None and "not what its name says" in notes[3]
    stands_in = extractors.FILES["inception"]._replace(
        build=lambda file, device: Trained(network((3, 16, 16)), file.name, (3, 16, 16), {}),
        sha256=extractors.sha256(file),
    )
    monkeypatch.setitem(extractors.FILES, "inception", stands_in)
    assert ask("auto", notes=notes, **colour).name.startswith(file.name) and len(notes) == 4
    assert ask("auto", notes=notes, root=colour["root"]) is None  # these are grey


def test_cells_see_colour_and_contrast_without_a_network() -> None:
    """Stripes of the same mean are told from plain grey, which a mean alone does not do."""
    plain = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    striped = plain.clone()
    striped[..., ::2], striped[..., 1::2] = 50, 150
    cells = Cells((3, 8, 8))
    (a, none), (b, _) = cells(plain), cells(striped)
    assert cells.name == "cells-4x4" and none is None and a.shape == (1, cells.dim) == (1, 96)
    assert torch.allclose(a[:, :48], b[:, :48]) and torch.allclose(a[:, :48], torch.tensor(100 / 255))
    assert a[:, 48:].abs().max() < 1e-3 and torch.allclose(b[:, 48:], torch.tensor(50 / 255), atol=1e-5)
    assert Cells((1, 2, 9)).name == "cells-2x4" and Cells((1, 2, 9))(plain[:, :1, :2])[0].shape == (1, 16)
    assert cells.digest == Cells((3, 8, 8)).digest
    with pytest.raises(UserError, match="these images have 1"):
        cells.check((1, 8, 8))


def test_auto_measures_translations_by_cells(resolve: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """No weights, no labels, nothing to train."""
    monkeypatch.setattr(extractors, "fit", no_training)
    config = resolve("model=cyclegan", *TINY_UNPAIRED)
    data = built(config)[0]
    data.prepare_data()
    notes: list[str] = []
    chosen = choose("auto", None, config, data, tmp_path, "cpu", (), notes)
    assert chosen is not None and chosen.name == "cells-4x4" and "colour and contrast alone" in notes[0]
    assert choose("none", None, config, data, tmp_path, "cpu", (), notes) is None and len(notes) == 1


def test_a_run_is_an_extractor(ask: Any, run: Any, tmp_path: Path) -> None:
    fit(short(run, tmp_path / "trained"))
    extractor = ask(str(tmp_path / "trained"))
    assert extractor.name == f"m-d@{extractor.digest[:6]}" and extractor.facts["val_accuracy"] <= 1
    assert extractor.facts["accuracy_on"] == "8 val images" and extractor.facts["accuracy"] in 12.5 * np.arange(9)
    assert "accuracy" not in ask(str(tmp_path / "trained"), source=run["data"]["source"] | {"n": 12}).facts  # others
    assert ask(str(tmp_path / "trained" / "checkpoints" / "last.ckpt")).digest  # a file as well as a folder
    with pytest.raises(UserError, match=r"1 channel\(s\), and these have 3"):
        ask(str(tmp_path / "trained"), shape=[3, 16, 16])


@pytest.mark.parametrize(
    ("name", "weights", "data", "line"),
    [
        ("inceptoin", None, {}, "did you mean inception"),
        ("runs/none", None, {}, "no such checkpoint: runs/none"),
        ("inception", None, {}, r"weights-inception-2015-12-05-6726825d.pth \(its sha256 begins with 6726825d\)"),
        ("dinov2", None, {}, "put dinov2_vits14_pretrain.pth from"),
        ("clip", None, {}, r"put ViT-B-32.pt \(its sha256 begins with 40d36571\)"),
        ("inception", "nowhere.pth", {}, "nowhere.pth: there is no such file"),
        ("auto", "some.pth", {}, "say which as evaluation.extractor"),
        ("classifier", None, {"classes": None}, "this data has none"),
        (
            "classifier",
            None,
            {"source": {"_target_": f"{__name__}.Nameless"}},
            "these images have none",
        ),
    ],
)
def test_what_cannot_be_is_one_line(ask: Any, name: str, weights: Any, data: Any, line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        ask(name, weights, **data)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


class Nameless:
    """Images that nobody has labelled."""

    name = "nameless"
    splits = ("train",)

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return "1"

    def read(self, root: Path, split: str) -> Any:
        from unlabeled.data.packing import RawImages

        return RawImages(pictures(9, (1, 16, 16))[:, 0].numpy(), np.full(9, -1))


def test_a_checkpoint_that_cannot_encode_is_refused(ask: Any, build: Any, tmp_path: Path) -> None:
    gan = next(case for case in CASES if case.model == "dcgan")
    _, _, config = build(gan)
    fit(short(config, tmp_path / "gan"))
    with pytest.raises(UserError, match="m-d does not encode images"):
        ask(str(tmp_path / "gan"))


def test_names_are_composed_inside_a_job_of_hydra_s_too(ask: Any) -> None:
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        assert ask("classifier").classes == 2
        assert GlobalHydra.instance().hydra is before
