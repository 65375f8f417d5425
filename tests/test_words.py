"""What users type: values that no run can have, and what is said of them."""

import copy
import functools

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from unlabeled.app import cli
from unlabeled.app.cli import CONF, options
from unlabeled.app.values import check_values
from unlabeled.errors import UserError


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
    """Every model whole: tests/conftest.py."""
    for path in sorted(CONF.glob("*/*.yaml")):
        part = OmegaConf.load(path)
        part.pop("defaults", None)
        around = {"latent_dim": 2, "pretraining": 0.5}
        check_values(OmegaConf.create({"data": {"size": 16}, "model": around | {"part": part}}))
    for name in options("evaluation"):
        checked("evaluate", f"evaluation={name}")


REFUSED = {
    "budget.epochs=0": "budget.epochs wants a whole number or null, 1 or more",
    "budget.epochs=-3": "1 or more",
    "budget.epochs=1.5": "budget.epochs=1.5: budget.epochs wants a whole number or null",
    "budget.epochs=nan": "budget.epochs wants a whole number or null",
    "budget.batches=0": "1 or more",
    "budget.batches=soon": "budget.batches wants a whole number or null",
    "budget.images=-1": "1 or more",
    "budget.images=[1]": "budget.images wants a whole number or null",
    "budget=3": "budget wants a group of keys",
    "seed=-1": "seed wants a whole number, 0 or more",
    "seed=99999999999999999999": "seed wants a whole number, 0 or more and at most",
    "seed=0.5": "seed wants a whole number",
    "seed=null": "seed wants a whole number",
    "accumulate=0": "accumulate wants a whole number, 1 or more",
    "resume=true": "resume=true: resume wants a word or null",
    "resume_changed=1": "resume_changed wants true or false",
    "fused=yes": "fused wants true or false",
    "matmul_precision=low": "wants highest or high or medium",
    "data.size=0": "data.size wants a whole number or null, 1 or more",
    "data.size=-16": "1 or more",
    "data.batch_size=0": "data.batch_size wants a whole number, 1 or more",
    "data.batch_size=1.5": "data.batch_size wants a whole number",
    "data.val=nan": "data.val wants a finite number",
    "data.val=1": "data.val wants a number, 0 or more and below 1",
    "data.test=-0.1": "below 1",
    "data.classes=0": "1 or more",
    "data.classes=2.5": "data.classes wants a whole number or null",
    "data.labels=many": "data.labels wants a whole number or null",
    "data.labelled_share=2": "at most 1",
    "data=rings data.train=0": "data.train wants a whole number, 1 or more",
    "data=rings data.source.deviation=0": "above 0",
    "model.latent_dim=0": "model.latent_dim wants a whole number, 1 or more",
    "model.latent_dim=-4": "model.latent_dim=-4",
    "model.latent_dim=auto": "model.latent_dim wants a whole number",
    "model.latent_dim=null": "model.latent_dim wants a whole number",
    "model.latent_dim=true": "model.latent_dim wants a whole number",
    "model.kl.beta=nan": "model.kl.beta wants a finite number",
    "model.kl.beta=inf": "model.kl.beta wants a finite number",
    "model.kl.beta=-1": "model.kl.beta wants a number, 0 or more",
    "model.kl=3": "model.kl wants a group of keys",
    "model.encoder=small": "model.encoder wants a group of keys",
    "model.optimizer=adam": "model.optimizer wants a group of keys",
    "model.optimizer=null": "model.optimizer wants a group of keys",
    "model.optimizer.lr=nan": "model.optimizer.lr wants a finite number",
    "model.optimizer.lr=-1": "model.optimizer.lr wants a number, 0 or more",
    "model=dcgan model.critic_optimizer.betas=[1.5,0.9]": "betas wants a list of 2 numbers, 0 or more and below 1",
    "model=dcgan model.critic_optimizer.betas=[0.9]": "betas wants a list of 2 numbers",
    "model=dcgan model.critic_optimizer.betas=0.9": "betas wants a list of 2 numbers",
    "+model.optimizer.momentum=1": "there is no key model.optimizer.momentum: Adam refuses momentum",
    "model=dcgan model.generator.width=0": "model.generator.width wants a whole number, 1 or more",
    "model=gan model.critic.hidden=[0]": r"model.critic.hidden=\[0\]: .* wants a list of whole numbers",
    "model=gan model.critic.hidden=[a]": "model.critic.hidden wants a list of whole numbers",
    "model=gan model.critic.hidden=64": "model.critic.hidden wants a list of whole numbers",
    "model=simclr model.objective.temperature=0": "above 0",
    "callbacks.records.every=0": "callbacks.records.every wants a whole number, 1 or more",
    "callbacks.records=3": "callbacks.records wants a group of keys",
    "callbacks.checkpoints.every=0": "1 or more",
    "callbacks.clip.norm=0": "above 0",
    "callbacks.clip.norm=much": "callbacks.clip.norm wants a number or null",
    "callbacks=averaging callbacks.averaging.decay=2": "at most 1",
    "trainer.accelerator=tpu": "trainer.accelerator wants cpu or gpu or cuda or mps or auto",
    "trainer.devices=two": "trainer.devices wants",
    "trainer.num_nodes=0": "1 or more",
    "trainer.limit_train_batches=0": "above 0",
    "trainer.enable_progress_bar=maybe": "true or false",
    "+trainer.max_stepz=3": "there is no key trainer.max_stepz: Trainer refuses max_stepz; did you mean max_steps",
    "+new.key=1": "there is no key new, and nothing reads it",
    "+trainer.devices=1.5": "trainer.devices wants",
    "+model.latent=3": "there is no key model.latent: VAE refuses latent; did you mean latent_dim",
    "run=": "run= is empty",
    "output=": "output= is empty",
    "resume=": "resume= is empty",
    "data_root=": "data_root= is empty",
    "model.likelihood.binarisation=": "model.likelihood.binarisation= is empty",
}  # fmt: skip
REFUSED_IN_EVALUATION = {
    "checkpoint=": "checkpoint= is empty",
    "checkpoint=true": "checkpoint wants a word or null",
    "weights=best": "weights wants averaged or live",
    "devices=0": "1 or more",
    "size=0": "1 or more",
    "seed=-1": "0 or more",
    "trust=mine": "trust wants a list of words",
    "data.batch_size=0": "1 or more",
    "evaluation.samples=0": "1 or more",
    "evaluation.codes=0": "1 or more",
    "evaluation.evaluators.likelihood.draws=0": "1 or more",
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
