"""What users type: values that no run can have, words that cannot be read, and what is said of them."""

import ast
import copy
import functools
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tests.contract.cases import CASES
from unlabeled.app.cli import main as cli
from unlabeled.app.cli.main import CONF, options
from unlabeled.app.cli.types import check_values
from unlabeled.app.run.changes import check_same_parts
from unlabeled.app.run.checkpoint import TRUSTED, check_targets, trust_overrides
from unlabeled.app.run.folders import make_folder
from unlabeled.app.run.plan import config_of
from unlabeled.app.run.train import fit
from unlabeled.commands import command, quoted, resume
from unlabeled.errors import UserError

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@functools.cache
def composed(program: str, choices: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    return cli.composed(program, list(choices))


def checked(program: str, *words: str) -> DictConfig:
    """The config of a command line, after the check of its values; composed anew only for other choices."""
    config = copy.deepcopy(composed(program, tuple(word for word in words if cli.is_choice(word))))
    for word in words:
        if not cli.is_choice(word):
            given = OverridesParser.create().parse_override(word)
            OmegaConf.update(config, given.key_or_group, given.value(), merge=False, force_add=word[0] == "+")
    check_values(config, words)
    return config


# Values


def test_every_part_passes_the_check_of_its_values() -> None:
    """Every model whole: tests/contract/test_contract.py."""
    for path in sorted(path for path in CONF.rglob("*/*.yaml") if "hydra" not in path.parts):
        part = OmegaConf.load(path)
        part.pop("defaults", None)
        around = {"latent_dim": 2, "pretraining": 0.5}
        check_values(OmegaConf.create({"data": {"size": 16}, "model": around | {"part": part}}))
    for name in options("evaluation"):
        checked("evaluate", f"evaluation={name}")


REFUSED = {
    "budget.epochs=0": "budget.epochs takes a whole number or null, 1 or more",
    "budget.epochs=-3": "1 or more",
    "budget.epochs=1.5": "budget.epochs=1.5: budget.epochs takes a whole number or null",
    "budget.epochs=nan": "budget.epochs takes a whole number or null",
    "budget.batches=0": "1 or more",
    "budget.batches=soon": "budget.batches takes a whole number or null",
    "budget.images=-1": "1 or more",
    "budget.images=[1]": "budget.images takes a whole number or null",
    "budget=3": "budget takes a group of keys",
    "seed=-1": "seed takes a whole number, 0 or more",
    "seed=99999999999999999999": "seed takes a whole number, 0 or more and at most",
    "seed=0.5": "seed takes a whole number",
    "seed=null": "seed takes a whole number",
    "accumulate=0": "accumulate takes a whole number, 1 or more",
    "resume=true": "resume=true: resume takes a word or null",
    "allow_config_change=1": "allow_config_change takes true or false",
    "fused=yes": "fused takes true or false",
    "matmul_precision=low": "takes highest or high or medium",
    "data.size=0": "data.size takes a whole number or null, 1 or more",
    "data.size=-16": "1 or more",
    "data.batch_size=0": "data.batch_size takes a whole number, 1 or more",
    "data.batch_size=1.5": "data.batch_size takes a whole number",
    "data.val=nan": "data.val takes a finite number",
    "data.val=1": "data.val takes a number, 0 or more and below 1",
    "data.test=-0.1": "below 1",
    "data.classes=0": "1 or more",
    "data.classes=2.5": "data.classes takes a whole number or null",
    "data.num_labels=many": "data.num_labels takes a whole number or null",
    "data.labelled_share=2": "at most 1",
    "data=rings data.train=0": "data.train takes a whole number, 1 or more",
    "data=rings data.source.deviation=0": "above 0",
    "model.latent_dim=0": "model.latent_dim takes a whole number, 1 or more",
    "model.latent_dim=-4": "model.latent_dim=-4",
    "model.latent_dim=auto": "model.latent_dim takes a whole number",
    "model.latent_dim=null": "model.latent_dim takes a whole number",
    "model.latent_dim=true": "model.latent_dim takes a whole number",
    "model.kl.beta=nan": "model.kl.beta takes a finite number",
    "model.kl.beta=inf": "model.kl.beta takes a finite number",
    "model.kl.beta=-1": "model.kl.beta takes a number, 0 or more",
    "model.kl=3": "model.kl takes a group of keys",
    "model.encoder=small": "model.encoder takes a group of keys",
    "model.optimizer=adam": "model.optimizer takes a group of keys",
    "model.optimizer=null": "model.optimizer takes a group of keys",
    "model.optimizer.lr=nan": "model.optimizer.lr takes a finite number",
    "model.optimizer.lr=-1": "model.optimizer.lr takes a number, 0 or more",
    "model=dcgan model.discriminator_optimizer.betas=[1.5,0.9]": "takes a list of 2 numbers, 0 or more and below 1",
    "model=dcgan model.discriminator_optimizer.betas=[0.9]": "betas takes a list of 2 numbers",
    "model=dcgan model.discriminator_optimizer.betas=0.9": "betas takes a list of 2 numbers",
    "+model.optimizer.momentum=1": "there is no key model.optimizer.momentum: Adam refuses momentum",
    "model=dcgan model.generator.width=0": "model.generator.width takes a whole number, 1 or more",
    "model=gan model.discriminator.hidden=[0]": r"model.discriminator.hidden=\[0\]: .* takes a list of whole numbers",
    "model=gan model.discriminator.hidden=[a]": "model.discriminator.hidden takes a list of whole numbers",
    "model=gan model.discriminator.hidden=64": "model.discriminator.hidden takes a list of whole numbers",
    "model=simclr model.objective.temperature=0": "above 0",
    "callbacks.records.every=0": "callbacks.records.every takes a whole number, 1 or more",
    "callbacks.records=3": "callbacks.records takes a group of keys",
    "callbacks.checkpoints.every=0": "1 or more",
    "callbacks.clip.norm=0": "above 0",
    "callbacks.clip.norm=much": "callbacks.clip.norm takes a number or null",
    "callbacks=averaging callbacks.averaging.decay=2": "at most 1",
    "trainer.accelerator=tpu": "trainer.accelerator takes cpu or gpu or cuda or mps or auto",
    "trainer.devices=two": "trainer.devices takes",
    "trainer.num_nodes=0": "1 or more",
    "trainer.limit_train_batches=0": "above 0",
    "trainer.enable_progress_bar=maybe": "true or false",
    "+trainer.max_stepz=3": "there is no key trainer.max_stepz: Trainer refuses max_stepz; did you mean max_steps",
    "+new.key=1": "there is no key new, and nothing reads it",
    "+trainer.devices=1.5": "trainer.devices takes",
    "+model.latent=3": "there is no key model.latent: VAE refuses latent; did you mean latent_dim",
    "run=[a]": r"""run takes a word or null; as a word it is 'run="\[a\]"'""",
    "run=": "run= is empty",
    "output=": "output= is empty",
    "resume=": "resume= is empty",
    "data_root=": "data_root= is empty",
    "model.likelihood.binarization=": "model.likelihood.binarization= is empty",
}  # fmt: skip
REFUSED_IN_EVALUATION = {
    "checkpoint=": "checkpoint= is empty",
    "checkpoint=true": "checkpoint takes a word or null",
    "weights=best": "weights takes averaged or live",
    "devices=0": "1 or more",
    "size=0": "1 or more",
    "seed=-1": "0 or more",
    "trusted_packages=mine": "trusted_packages takes a list of words",
    "evaluation.samples=0": "1 or more",
    "evaluation.codes=0": "1 or more",
    "evaluation.evaluators.likelihood.num_samples=0": "1 or more",
    "evaluation.evaluators.probe.labels=[-1]": "above 0",
    "evaluation.samplers.flow.lr=nan": "finite",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_value_that_no_run_can_have_is_refused(words: str) -> None:
    with pytest.raises(UserError, match=REFUSED[words]):
        checked("train", *words.split())


@pytest.mark.parametrize("words", REFUSED_IN_EVALUATION)
def test_a_value_that_no_evaluation_can_have_is_refused(words: str) -> None:
    with pytest.raises(UserError, match=REFUSED_IN_EVALUATION[words]):
        checked("evaluate", *words.split())


# Words


def said(program: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What a user is told of words that make no config."""
    monkeypatch.setattr(sys, "argv", [f"{program}.py"])
    words = tuple(cli.shorthand(word) for word in words)
    GlobalHydra.instance().clear()
    with pytest.raises((HydraException, OmegaConfBaseException)) as raised:
        cli.composed(program, list(words))
    return cli.explain(raised.value, words)


TOLD = {
    "model=nosuch": "there is no model named nosuch: there are 6.: python train.py --help lists them$",
    "model=": "model= is empty: say model=NAME",
    "objective=hinge": "model=vae has no part objective: it has likelihood, .*encoder",
    "model=dcgan likelihood=bernoulli": "model=dcgan has no part likelihood: it has .*objective",
    "lr=0.1": r"there is no key lr: did you mean model.optimizer.lr\?",
    "model=dcgan lr=0.1": r"did you mean model.generator_optimizer.lr or model.discriminator_optimizer.lr\?",
    "optimizer.lr=0.1": "did you mean model.optimizer.lr",
    "epochs=3": r"did you mean budget.epochs or data.epochs\?",
    "latent_dim=3": "did you mean model.latent_dim",
    "batch_size=3": "did you mean data.batch_size",
    "evry=3": "python train.py --cfg job prints all keys|the top has",
    "model.encodr.width=3": "there is no key model.encodr",
    "model=pca model.optimizer.lr=3": r"there is no key model.optimizer.* \(model=pca\)",
    "model=vae,pca": "has several values: for a sweep over them say -m, python train.py -m model=vae,pca$",
    "run=a,b": """one value with commas is 'run="a,b"'$""",
    "seed=range(0,3)": r"say -m, python train.py -m 'seed=range\(0,3\)'$",
    "budget.epochs =3": "write KEY=VALUE, without blanks around =",
    "vae": "write KEY=VALUE",
}


@pytest.mark.parametrize("words", TOLD)
def test_what_is_said_leads_to_what_can_be_said(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = said("train", monkeypatch, *([words] if " =" in words else words.split()))
    assert re.search(TOLD[words], line) and "\n" not in line, line


@pytest.mark.parametrize(
    "word", ["data=mnist", "model=vae", "objective=hinge", "trainer=gpu", "experiment=mixtures/rings"]
)
def test_an_evaluation_takes_model_and_data_from_the_checkpoint(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "model and data are those of the checkpoint" in said("evaluate", monkeypatch, word)


@pytest.mark.parametrize("key", ["run", "data.source.path", "checkpoint", "resume"])
def test_a_value_with_odd_characters_is_told_its_quotes(key: str) -> None:
    """And what is told works: the shell's words, read by Hydra, are the value."""
    for odd in "=()'#&;~[]{}!^<>`üж\"":
        value = f"/where/a{odd}b"
        try:
            OverridesParser.create().parse_overrides([f"{key}={value}"])
        except HydraException as error:
            line = cli.explain(error, [])
        assert line.startswith(f"cannot read '{key}={value}': quote the value")
        (word,) = shlex.split(line.partition("within: ")[2])
        (read,) = OverridesParser.create().parse_overrides([word])
        assert (read.key_or_group, read.value()) == (key, value)


PASTED = ["outputs/vae-2026", "a b", " a", "a'b", 'a"b', "a\\", 'a\\"', "~me", "2024", "1e3", "null", "true", "-", "ü"]
PASTED += ["a,b", "[a]", "{a:b}", "a=b", "a$b", "#", "x:y", "nan"]


@pytest.mark.parametrize("value", PASTED)
def test_a_command_can_be_pasted(value: str) -> None:
    _, program, word = shlex.split(command("train", quoted("resume", value)))
    (read,) = OverridesParser.create().parse_overrides([word])
    assert program == "train.py" and read.value() == value


def test_a_plain_path_needs_no_quotes() -> None:
    assert resume(Path("outputs/vae-digits-2026-11-28_21-33-16")) == (
        "python train.py resume=outputs/vae-digits-2026-11-28_21-33-16"
    )


def test_keys_that_are_told_are_there() -> None:
    """`say KEY=`, wherever the program says so."""
    tops = {str(key) for program in ("train", "evaluate") for key in OmegaConf.load(CONF / f"{program}.yaml")}
    tops |= {path.name for path in CONF.iterdir()} | {*cli.parts(), *cli.TRAINER_KEYS}
    keys = set(re.findall(r"[\w]+(?=:)", " ".join(path.read_text() for path in CONF.rglob("*.yaml"))))
    told = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            told |= {(path.name, key) for key in re.findall(r"\b(?:say|take|or) ([a-z_][a-z_.@]*)=", text)}
    assert len(told) > 50
    for file, key in told:
        top, *rest = re.split(r"[.@]", key)
        assert top in tops and keys.issuperset(rest), f"{file}: {key}"


def test_no_hint_installs_a_package_of_our_name() -> None:
    """The project is on no index: what is there by its name is somebody else's. A wheel of ours is a file."""
    files = [*ROOT.rglob("*.md"), *SRC.rglob("*.py"), *CONF.rglob("*.yaml"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    for file in files:
        if ".venv" not in file.parts:
            assert not re.search(r"pip install[^\n]*(?<!dist/)unlabeled", file.read_text()), file


# Paths and files


def test_a_run_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "link"):
        with pytest.raises(UserError, match=rf"run={tmp_path / name}: cannot make a run folder there .*: say another"):
            make_folder(tmp_path / name)
    make_folder(tmp_path / "new" / "run")


DAMAGED = ["", "{", "- a", "a: b", "model: {}\ndata: {}", "\x00", "é: [", "model: ${nowhere}", "3"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_config_of_a_run_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config.yaml is not what a run writes \(.+\): put back what it was"):
        config_of(tmp_path)


def test_a_resumed_run_keeps_its_model_and_data() -> None:
    names = {"model": "vae", "data": "digits"}
    check_same_parts(names, ["model=vae", "data=digits", "seed=1"], "RUN", asked=False)
    check_same_parts(names, ["model=beta_vae"], "RUN", asked=True)
    for word, held in {"model=dcgan": "model=vae", "data=mnist": "data=digits"}.items():
        with pytest.raises(UserError, match=f"RUN is {held}: leave {word} out"):
            check_same_parts(names, [word], "RUN", asked=False)


def test_a_job_of_a_sweep_that_no_config_fits_fails_alone(program: Any, tmp_path: Path) -> None:
    words = ["model=dcgan,pca,nosuch", "model.generator.width=2", "model.discriminator.width=2", "budget.batches=1"]
    words += ["trainer.limit_val_batches=1", "callbacks.nearest_images.searched=0", "callbacks.pictures.count=0"]
    result = program("train", "-m", *words)
    assert result.status == 1 and "3 runs in" in result.out and result.out.count("failed:") == 2
    assert "there is no key model.generator" in result.err and "(model=pca)" in result.err
    assert "no model named nosuch" in result.err
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "sweeps").glob("*/*/result.json")]
    assert sorted("error" in result for result in results) == [False, True, True]


def test_trust_is_asked_for_whole_and_told_with_the_command() -> None:
    foreign = {"_target_": "torch.utils.data.TensorDataset"}  # neither of torch.nn nor of torch.optim
    config = {"model": {"_target_": "tests.tiny.Tiny", "encoder": foreign}, "data": {}}
    assert trust_overrides(config) == ["trusted_packages=[tests,torch]"]
    for trust in ((), ("tests",)):
        with pytest.raises(UserError, match=r"say trusted_packages=\[tests,torch\]"):
            check_targets(config, (*TRUSTED, *trust))
    assert trust_overrides({"model": {"_target_": "torch.nn.Identity"}, "data": {}}) == []


# Batches of one image

ALONE = {
    "simclr": "a contrastive loss compares the images",
    "minibatch_gan": "minibatch discrimination compares",
    "beta_tcvae": "the total correlation compares",
    "dip_vae": "a covariance of codes compares",
    "wae_mmd": "MMD compares",
    "info_vae": "MMD compares",
    "ebgan": "the pulling-away term compares",
    "factor_vae": "in two halves",
    "infogan": "batch norm has no statistics of one image",
    "ladder_vae": "batch norm has no statistics of one image",
}


@pytest.mark.parametrize("model", ALONE)
def test_what_compares_images_refuses_one(model: str, build: Any) -> None:
    case = next(case for case in CASES if case.model == model)
    *_, config = build(case, "data.batch_size=1", "budget.batches=1", "~callbacks.pictures")
    with pytest.raises(UserError, match=rf"{ALONE[model]}.*data.batch_size=2 or more"):
        fit(config)


def test_a_glob_finds_names_in_folders_of_a_group() -> None:
    found = cli.shorthand("experiment=glob(mixtures/rings_w*)")
    assert found == "experiment=mixtures/rings_wgan_gp"
    assert cli.shorthand("seed=glob(x)") == "seed=glob(x)"
    with pytest.raises(UserError, match=r"glob\(nosuch\*\): no experiment has such a name"):
        cli.shorthand("experiment=glob(nosuch*)")
