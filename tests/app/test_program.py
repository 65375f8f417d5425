"""The program as a user meets it: commands, files, and one clear line for every mistake."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests import warm
from unlabeled.app.run.checkpoint import load

ROOT = Path(__file__).parents[2]
SHORT = ["budget.epochs=null", "budget.batches=3"]


def test_training_leaves_what_a_user_wants_to_find(trained: Path) -> None:
    there = {str(path.relative_to(trained)) for path in trained.rglob("*")}
    wanted = {"config.yaml", "metrics.csv", "result.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt"}
    wanted |= {f"pictures/{name}.png" for name in ("samples", "reconstructions", "interpolation", "curves")}
    assert wanted <= there
    for name in wanted:
        if name.endswith(".png"):
            assert len(Image.open(trained / name).convert("L").getcolors(256) or []) > 10, "an empty picture"


def test_the_last_lines_say_what_was_reached_and_where(program: Any) -> None:
    result = program("train", *SHORT)
    assert result.status == 0 and "val/negative_elbo" in result.out
    pictures = re.search(r"^pictures +(\S+)$", result.out, re.M)
    assert pictures and (Path(pictures[1]) / "samples.png").is_file()


FAST = [  # every evaluator, with little to compute
    "evaluation.extractor=cells",
    "evaluation.samples=100",
    "evaluation.pictures=16",
    "evaluation.evaluators.probe.logistic=[1e-2]",
    "evaluation.evaluators.probe.labels=[0.1]",
    "evaluation.evaluators.likelihood.num_samples=4",
    "evaluation.evaluators.clustering.n_init=1",
]


def test_evaluation_measures_what_the_method_can_do(program: Any, trained: Path) -> None:
    result = program("evaluate", f"checkpoint={trained}", *FAST)
    assert result.status == 0, result.err
    content = json.loads((trained / "evaluation" / "evaluation.json").read_text())
    names = {number["name"] for number in content["numbers"]}
    assert {"reconstruction_psnr", "log_likelihood_bound", "bits_per_dim"} <= names
    assert any("knn" in name for name in names) and any("linear" in name for name in names)
    assert content["provenance"]["weights"] == "live" and content["provenance"]["versions"]["torch"]
    assert all(number["facts"]["split"] == "test" and number["facts"]["images"] for number in content["numbers"])
    for name in names:
        assert name in result.out
    assert (trained / "evaluation" / "reconstructions.png").is_file()


def test_help_lists_what_there_is_by_drawer(program: Any) -> None:
    result = program("train", "--help")
    assert result.status == 0
    for group in ("model", "data", "trainer", "logger"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert re.search(rf"^ +{path.stem} +\S", result.out, re.M), path.stem
    assert "python train.py model=cyclegan" in result.out and "joint embedding" in result.out


def test_the_config_prints(program: Any) -> None:
    result = program("train", "model=dcgan", "objective=hinge", "precision=bf16-mixed", "--cfg", "job")
    assert result.status == 0 and "losses.adversarial.Hinge" in result.out and "precision: bf16-mixed" in result.out


def test_a_sweep_ends_with_a_table_and_a_failed_job_does_not_take_the_others_with_it(
    program: Any, tmp_path: Path
) -> None:
    result = program("train", "-m", "model=autoencoder,vae,cyclegan", "seed=0,1", *SHORT)
    assert result.status == 1  # cyclegan does not fit digits
    assert "6 runs in" in result.out and result.out.count("failed:") == 2
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "sweeps").glob("*/*/result.json")]
    assert len(results) == 6 and sum("error" not in result for result in results) == 4
    assert all(result["last"] for result in results if "error" not in result)


MISTAKES = {
    "model=vaee": r"there is no model named vaee: did you mean vae\b",
    "data=base/images": r"data=base/images is no data of its own",
    "data=digit": r"there is no data named digit: did you mean digits",
    "likelihood=gausian": r"there is no likelihood named gausian: did you mean gaussian",
    "modle=vae": r"there is no key modle: did you mean model\?",
    "model.latent_dmi=3": r"there is no key model.latent_dmi \(model=vae\): did you mean model.latent_dim\?",
    "model.latent_dim=abc": r"model.latent_dim takes a whole number",
    "model.optimizer.lr=fast": r"model.optimizer.lr takes a number",
    "model.optimizer.lr=-1": r"model.optimizer.lr takes a number, 0 or more",
    "model=dcgan model.discriminator_optimizer.betas=[0,1]": r"betas takes a list of 2 numbers, 0 or more and below 1",
    "model=dcgan model.discriminator_optimizer.eps=-1": r"model.discriminator_optimizer: Adam refuses .*epsilon",
    "model=dcgan +model.discriminator_optimizer.momentum=1": r"discriminator_optimizer.momentum: Adam refuses momentum",
    "model=dcgan optimizer=sgd": r"model=dcgan has no part optimizer: it has .*discriminator_optimizer",
    "data.batch_size=[1,2]": r"data.batch_size takes a whole number",
    "~callbacks.budget": r"callbacks without Budget: .* leave callbacks.budget in",
    "budget.epochs =3": r"cannot read 'budget.epochs =3'",
    "model=cyclegan": r"learns from Unpaired and data=digits gives Images: take data=apple2orange .*plain2striped",
    "data.size=4": r"images of 4x4 are too small.*at least 7",
    "model.likelihood.binarization=so": r"there are none, threshold and dynamic",
    "budget.epochs=null": r"training would never end: say budget.epochs=N",
    "trainer=gpu": r"this machine has none that torch can use; take trainer=cpu",
    "devices=0": r"trainer.devices=0: say how many, 1 or more",
    "devices=[0,0]": r"trainer.devices=\[0, 0\]: say how many",
    "devices=[]": r"trainer.devices=\[\]: say how many",
    "devices=-2": r"trainer.devices=-2: say how many",
    "devices=[0,1]": r"trainer.devices=\[0, 1\]: CPUs are only counted; say trainer.devices=2",
    "resume=nowhere": r"resume=nowhere: no run there",
    "model.optimizer._target_=torch.optim.Adma": r"there is no torch.optim.Adma",
    "data=mnist data_root=/proc/none": r"mnist|MNIST",
    "output=/proc/none": r"cannot make a run folder under /proc/none.*say output=",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_gets_one_line(words: str, program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if "gpu" in words and torch.cuda.is_available():
        pytest.skip("this machine has one")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    result = program("train", *([words] if " =" in words else words.split(" ")))
    assert result.status == 1
    assert re.search(MISTAKES[words], result.complaint), result.complaint
    assert result.complaint.startswith("error: ")


def test_whole_numbers_stand_in_a_list_of_others(program: Any, tmp_path: Path) -> None:
    """As published: betas of (0, 0.9). In a list that was empty, or of whole ones, they stay what they are."""
    narrow = ["model.generator.width=2", "model.discriminator.body.width=2"]
    words = ["model=acgan", *narrow, f"run={tmp_path / 'run'}", *SHORT]
    assert (
        program("train", *words, "model.discriminator_optimizer.betas=[0,0.9]", "model.discriminator.hidden=[4]").status
        == 0
    )
    settings = OmegaConf.load(tmp_path / "run" / "config.yaml").model
    assert settings.discriminator_optimizer.betas == [0.0, 0.9] and settings.generator_optimizer.betas == [0.5, 0.999]
    assert settings.discriminator.hidden == [4]


def test_more_devices_than_there_are(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    result = program("train", "trainer=ddp", "trainer.devices=3")
    assert result.status == 1 and "this machine has 2; say trainer.devices=2" in result.complaint


def test_a_folder_with_an_unreadable_image_names_it(program: Any, tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (20, 16 + i)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    words = ["data=folder", f"data.source.path={tmp_path}", f"data_packed={tmp_path / 'packed'}", "budget.batches=1"]
    result = program("train", *words)
    assert result.status == 0 and "left out" in result.err and "broken.png" in result.err


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    program: Any, tmp_path: Path
) -> None:
    first = program("train", "run=" + str(tmp_path / "run"), "budget.epochs=1")
    assert first.status == 0
    good = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        group["lr"] = group["initial_lr"] = 1e30
    torch.save(content, tmp_path / "run" / "checkpoints" / "last.ckpt")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    result = program("train", f"resume={tmp_path / 'run'}", "budget.epochs=3")
    assert result.status == 1 and good != before
    assert re.search(r"is (nan|inf|-inf) at batch 2\d \(epoch 1\): training stopped", result.complaint)
    assert "last.ckpt" in result.complaint
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


# The README's own commands


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


REFUSED = {  # commands that need what is not there: what they say instead
    "data=horse2zebra": r"horse2zebra\.zip.*plain2striped",
    "extractor=inception": r"weights-inception-2015-12-05-6726825d\.pth",
    "probe_data=cifar100": r"could not fetch cifar-100",
    "submitit_slurm": r"not installed: pip install|[Ss][Ll][Uu][Rr][Mm]|sbatch",
}
if not torch.cuda.is_available():
    REFUSED |= dict.fromkeys(["trainer=gpu", "trainer=ddp precision"], "this machine has none")
ELSEWHERE = {"python evaluate.py checkpoint=RUN devices=2"}  # test_two_processes_measure_what_one_does runs it
LESS = {  # where a few batches are not what takes long
    "callbacks=fid": ["callbacks.measures.samples=100", "callbacks.measures.extractor=cells"],
    "evaluate.py -m": FAST,
    "evaluation.probe_data": FAST,
    "evaluation=finetune": ["evaluation.evaluators.finetune.epochs=2", "evaluation.evaluators.finetune.batches=5"],
    "data=plain2striped": [
        "budget.batches=1",
        "data.source.val=2",
        "data.source.train=8",
    ],
}
OPTIONAL = {"launcher=joblib": "hydra_plugins.hydra_joblib_launcher", "sweeper=optuna": "optuna"}  # where installed


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python") and c not in ELSEWHERE])
def test_the_readmes_commands_run(command: str, program: Any, trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """As written, but for a budget of a few batches."""
    for part, package in OPTIONAL.items():
        if part in command:
            pytest.importorskip(package)
    for i in range(12):
        (tmp_path / "my_images").mkdir(exist_ok=True)
        Image.new("RGB", (70 + i, 90), (20 * i, 255 - 20 * i, 99)).save(tmp_path / "my_images" / f"{i}.jpg")
        (tmp_path / "pngs").mkdir(exist_ok=True)
        Image.effect_noise((16, 16), 50 + i).save(tmp_path / "pngs" / f"{i}.png")
    if "trainer=fsdp" in command:  # the workers of trainer=ddp start cold, as a user's
        monkeypatch.setenv("PYTHON_EXEC", warm.python())
    for name in ("http_proxy", "https_proxy"):  # nothing is downloaded in a test
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("run", "run1", "run2"):
        shutil.copytree(trained, tmp_path / name)
    places = {"RUN": "run", "FOLDER": "pngs", "my_images": "my_images", "outputs/mine": "mine"}
    for word, place in places.items():
        command = command.replace(word, str(tmp_path / place))
    _, name, *words = shlex.split(command)
    if name == "train.py" and "--help" not in words:
        budget = ["budget.epochs=3"] if "resume" in command else [*SHORT, f"data_root={tmp_path}"]
        words = [word for word in words if not word.startswith("budget")] + ["trainer.limit_val_batches=1", *budget]
        words += ["callbacks.pictures.images=4", "callbacks.nearest_images.searched=100"]
    words += [word for part, few in LESS.items() if part in command for word in few]
    if "hydra/sweeper=optuna" in words:
        words += ["hydra.sweeper.trials=2"]
    if name == "evaluate.py" and "samples=" in command:
        words += [f"output={tmp_path / 'scores'}", f"data.root={tmp_path}"]
    if name == "evaluate.py" and "-m" in words:
        words += [f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    result = program(name.removesuffix(".py"), *words)
    refused = next((line for part, line in REFUSED.items() if part in command), None)
    if refused:
        assert result.status == 1 and re.search(refused, result.complaint)
    else:
        assert result.status == 0, result.err


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make")])
def test_the_readmes_targets_are_there(command: str) -> None:
    subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)


# Broken off and resumed, in processes of their own


def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path, program: Any) -> None:
    """By Ctrl-C; by SIGTERM: tests/app/test_robustness.py."""
    process = warm.Popen("train.py", f"run={tmp_path / 'run'}", "budget.epochs=1000", "data.batch_size=16")
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, err
    line = err.strip().splitlines()[-1]
    done = re.search(r"stopped after batch (\d+); to go on: python train.py (resume=\S+)", line)
    assert done and "Traceback" not in err
    after = int(done[1]) + 3
    result = program("train", done[2], f"budget.batches={after}")
    assert result.status == 0 and f"{after} batches" in result.out
    again = program("train", done[2], f"budget.batches={after}")
    assert again.status == 1 and f"nothing left to do: {after} of {after} batches" in again.complaint


def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(tmp_path: Path) -> None:
    """A limit on file size stands for the full disk: the write breaks off in its middle."""
    process = warm.Popen("train.py", f"run={tmp_path / 'run'}", *SHORT, room=400_000)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(r"error: cannot write checkpoint .*ckpt: File too large", err.strip().splitlines()[-1]), err
    left = tmp_path / "run" / "checkpoints"
    assert not left.exists() or not list(left.iterdir())


def test_runs_started_in_the_same_second_never_share_a_folder(tmp_path: Path) -> None:
    code = f"""from unlabeled.app.run.folders import new_folder
for _ in range(50): print(new_folder({str(tmp_path)!r}, 'run'))"""
    processes = [warm.Popen("-c", code) for _ in range(4)]
    folders = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert len(folders) == len(set(folders)) == 200


# Checkpoints of unknown origin


class Evil:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch hacked",))


def checkpoint(tmp_path: Path, change: Callable[[dict], Any], trained: Path) -> Path:
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content = change(content) or content
    torch.save(content, tmp_path / "strange.ckpt")
    return tmp_path / "strange.ckpt"


STRANGE = {
    "os": (lambda c: c["config"]["model"].update(_target_="os.system"), "would call os.system"),
    "hub": (
        lambda c: c["config"]["model"]["optimizer"].update(_target_="torch.nn.modules.module.torch.hub.load"),
        "would call",
    ),
    "eval": (lambda c: c["config"]["model"].update(_target_="builtins.eval"), "would call builtins.eval"),
    "pickle": (lambda c: c.update(evil=Evil()), "it could run code"),
    "foreign": (lambda c: {"weights": torch.zeros(3)}, "not a checkpoint of Unlabeled"),
    "other shape": (
        lambda c: c["config"]["model"]["encoder"].update(width=3),
        "does not fit its own config|size mismatch",
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_foreign_checkpoint_runs_no_code(
    kind: str, tmp_path: Path, trained: Path, program: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    change, line = STRANGE[kind]
    result = program("evaluate", f"checkpoint={checkpoint(tmp_path, change, trained)}", "device=cpu")
    assert result.status == 1 and re.search(line, result.complaint), result
    assert not (tmp_path / "hacked").exists()


def test_missing_and_damaged_checkpoints(tmp_path: Path, trained: Path, program: Any) -> None:
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.ckpt").write_bytes(b"no checkpoint at all")
    lines = {
        "checkpoint=nowhere": "no such checkpoint: nowhere",
        f"checkpoint={tmp_path}": "no checkpoint in",
        f"checkpoint={tmp_path / 'half.ckpt'}": "damaged or not whole",
        f"checkpoint={tmp_path / 'noise.ckpt'}": "damaged or not whole|not opened",
        f"checkpoint={trained} weights=best": "weights takes averaged or live",
        f"checkpoint={trained} device=cuda:99": "device=cuda:99: torch cannot use it here",
    }
    for words, line in lines.items():
        result = program("evaluate", *words.split(" "))
        assert result.status == 1 and re.search(line, result.complaint), result
    assert "say checkpoint=" in program("evaluate").complaint


def test_averages_are_evaluated_unless_live_weights_are_asked_for(tmp_path: Path, program: Any) -> None:
    run = tmp_path / "run"
    assert program("train", f"run={run}", "callbacks=averaging", *SHORT).status == 0
    averaged, _, facts = load(run, "averaged")
    live, *_ = load(run, "live")
    assert facts["weights"] == "averaged"
    pairs = list(zip(averaged.parameters(), live.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in pairs)


# W&B without an account


def test_wandb_without_a_key_goes_offline_and_holds_what_the_csv_holds(
    program: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    result = program("train", f"run={run}", "logger=wandb", *SHORT)
    assert result.status == 0, result.err
    offline = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(offline) == 1 and offline[0].stat().st_size > 1000
    assert b"val/negative_elbo" in offline[0].read_bytes()
    assert (run / "metrics.csv").is_file()
