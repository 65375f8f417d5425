"""Command line around Hydra: help, shorthands, one-line errors. Imports nothing heavier than Hydra."""

import fnmatch
import os
import re
import secrets
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlabeled import configs
from unlabeled.app.cli import log, signals
from unlabeled.app.cli.sweep_errors import isolate_job_errors
from unlabeled.app.run.process import exit_process, keep_freed_memory
from unlabeled.commands import command, extra, quoted, spoken, start
from unlabeled.configs import CONF
from unlabeled.errors import UserError, similar, suggest
from unlabeled.files import FORMAT

EVALUATE_KEYS = ("data.root", "data.packed")  # keys that evaluate.yaml has
TRAINER_KEYS = ("precision", "devices")  # keys of the trainer that are said without its name

OmegaConf.register_new_resolver("random_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)

# our presets go under the launchers' own names
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


class JobStatus:
    """Exit status of this process's jobs."""

    failed = 0
    program = False  # whether this process is the program itself, and not a launcher's
    table: Callable[[], None] | None = None  # of a sweep that is not over


def guard(work: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """A job for Hydra: runs `work`, and turns a user's mistake into one line.

    A failed job of a sweep does not take the others with it.
    """

    def job(config: DictConfig) -> Any:
        with log.recorded():  # not as a decorator: launchers pickle the job
            try:
                return work(config)
            except (UserError, OmegaConfBaseException, HydraException) as error:
                return _fail(error, explain(error))
            except Exception as error:
                return _fail(error, None)

    return job


def _fail(error: BaseException, line: str | None) -> float:
    signals.reraise()
    JobStatus.failed = 1
    number = getattr(error, "signal_number", None)
    if number is not None:
        JobStatus.failed = 128 + number
    if line is None or (line and "UNLABELED_TRACE" in os.environ):
        traceback.print_exc()
    if line:
        print(f"error: {line}" if number is None else line, file=sys.stderr)
    if number is not None and JobStatus.program:
        sys.exit(JobStatus.failed)  # who stops the program stops its sweep too
    return float("nan")


def run(main: Callable[[], Any]) -> None:
    """Run a `hydra.main` function as the program."""
    name = _program()
    try:
        sys.argv[1:] = configs.taken(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    if {"--help", "-h"} & set(sys.argv[1:]):
        with suppress(BrokenPipeError):  # `--help | head`
            print(help_text(name), flush=True)
        return
    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    flags = [word for word in sys.argv[1:] if word not in words]
    try:
        words = [shorthand(word) for word in words]
    except UserError as error:
        sys.exit(f"error: {error}")
    if name == "train" and not {"-m", "--multirun"} & set(flags):
        words = with_run_overrides(words)
    sys.argv[1:] = flags + words  # Hydra takes all overrides in one place
    # threads that wait do not spin: several times faster where other programs want the same cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors arrive here instead of being printed by Hydra
    JobStatus.program = True
    with signals.Listening():
        _run(main)
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        exit_process(JobStatus.failed)  # one of several that srun or torchrun started
    sys.exit(JobStatus.failed)


def _run(main: Callable[[], Any]) -> None:
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        signals.reraise()
        if "UNLABELED_TRACE" in os.environ:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        JobStatus.failed = JobStatus.failed or 1
    except Exception as error:
        signals.reraise()
        missing = "Unknown plugin class" in str(error)
        if (JobStatus.table is None and not missing) or "UNLABELED_TRACE" in os.environ:
            raise
        # jobs catch their own: this is a launcher that is not there, or that lost a process
        gave_up = "" if missing else f"the launcher gave up: {type(error).__name__}: "
        print(f"error: {gave_up}{explain(error)}", file=sys.stderr)
        JobStatus.failed = 1
    finally:
        if JobStatus.table:
            JobStatus.table()


def _program() -> str:
    return "evaluate" if "evaluate" in Path(sys.argv[0]).name else "train"


def shorthand(word: str) -> str:
    """`objective=hinge` as `objective@model.objective=hinge`, and likewise for every part of a model;
    `precision=bf16-mixed` for `trainer.precision=bf16-mixed`, and `devices=2`; of evaluate.py, `data.KEY=` for
    `+data.KEY=`. `experiment=glob(PATTERN)` becomes the names that match.
    """
    part, _, value = word.partition("=")
    if _program() == "evaluate" and part.startswith("data.") and part not in EVALUATE_KEYS:
        return f"+{word}"  # a key of the run's data
    if not value:
        return word
    if (pattern := re.fullmatch(r"glob\(([^\[\](),]+)\)", value)) and is_choice(word):
        # Hydra's own does not look into folders of a group, and runs nothing where nothing matches
        group = part.lstrip("+~").partition("@")[0]
        if not (found := fnmatch.filter(options(group), pattern[1])):
            raise UserError(f"{word}: no {group} has such a name: {_HELP}")
        return f"{part}={','.join(found)}"
    if part in parts():
        return f"{part}@model.{part}={value}"
    return f"trainer.{word}" if part in TRAINER_KEYS and _program() == "train" else word


def with_run_overrides(words: list[str]) -> list[str]:
    """`resume=RUN` and other overrides, after those that RUN was started with, so that the keys are those of its model
    and data. Unchanged where another model or other data are given, or where RUN's overrides are unknown.
    """
    keys = [word.partition("=")[0] for word in words]
    run = next((word.partition("=")[2] for word in reversed(words) if word.startswith("resume=")), "auto")
    if set(keys) <= {"resume", "allow_config_change"} or {"model", "data", "experiment"} & set(keys) or run == "auto":
        return words
    try:
        names = OmegaConf.select(OmegaConf.load(Path(run) / "config.yaml"), "names")
        own = names.overrides if names.get("format") == FORMAT else []
        return [*(word for word in own if word.partition("=")[0] not in keys), *words]
    except Exception:  # whoever opens the run says what is wrong
        return words


def composed(program: str, words: list[str]) -> DictConfig:
    """The config that `python PROGRAM.py WORDS` would have, within a job of Hydra's or without."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():
        return compose(program, words)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(program, words)


# What went wrong, in one line


def explain(error: BaseException, words: Sequence[str] | None = None) -> str:
    """An error in one line for the user. `words`: overrides of the command line, or of a sweep's job."""
    words = sys.argv[1:] if words is None else words
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error.__cause__, UserError):  # raised inside an instantiated target
        return explain(error.__cause__)
    text = str(error)
    missing = re.search(r"Could not find '([\w@.]+)/([^']*)'", text)
    if missing:
        group, name = missing[1].split("@")[0], missing[2]
        if not name:
            return f"{group}= is empty: say {group}=NAME, or leave it out"
        ends = [other for other in options(group) if other.rpartition("/")[2] == name.rpartition("/")[2]]
        hint = f"did you mean {' or '.join(ends)}?" if ends else suggest(name, options(group), listed=spoken(_HELP))
        own = "; where it is one of your own, say --config-dir FOLDER too" if _resumes(words) else ""
        return f"there is no {group} named {name}: {hint}{own}"
    override = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if override:
        return unknown_key(override[1], words)
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': {_readable(error.override)}"
    sweep = re.search(r"Ambiguous value for argument '(.+)'|Sweep parameters '(.+)' requires", text)
    if sweep:
        key, _, value = (word := sweep[1] or sweep[2]).partition("=")
        single = quoted(key, value) if sweep[1] and not is_choice(word) else ""
        sweeping = command(_program(), "-m", word)
        one = f"; one value with commas is {shlex.quote(single)}" if single else ""
        return f"{word} has several values: for a sweep over them say -m, {sweeping}{one}"
    target = re.search(r"Error locating target '([^']+)'", text)
    if target:
        return f"there is no {target[1]} to build: see the _target_ that you gave"
    mandatory = re.search(r"Missing mandatory value: (\S+)", text)
    if mandatory:
        return f"say {mandatory[1]}=... (see --help)"
    plugin = re.search(r"Unknown plugin class : 'hydra_plugins\.\w*?_(joblib|submitit|ray)", text)
    if plugin:
        return f"the launcher is not installed: {extra(plugin[1])}"
    first, _, rest = text.partition("\n")
    return " ".join((first + " " + rest.partition("\n")[0] if first.endswith(":") else first).split())


def _resumes(words: Sequence[str]) -> bool:
    return any(word.startswith("resume=") for word in words)


def _readable(word: str) -> str:
    """How to write an override that Hydra cannot read."""
    key, equals, value = word.partition("=")
    if not equals or key != key.strip() or value != value.strip() or not re.fullmatch(r"[\w.@/+~]+", key):
        return "write KEY=VALUE, without blanks around ="
    value = value.strip("\"'")
    return f"quote the value, for the shell and within: {shlex.quote(quoted(key, value))}"


def unknown_key(key: str, words: Sequence[str]) -> str:
    """The line for an unknown key, with similar ones."""
    try:
        known = _keys(_choices_only([word for word in words if word.partition("=")[0].lstrip("+~") != key]))
    except Exception:
        known = []
    groups = configs.groups()
    model = next((word.partition("=")[2] for word in words if word.startswith("model=")), "vae")
    if _program() == "evaluate" and key.partition("@")[0] in groups:
        return f"there is no key {key}: model and data are those of the checkpoint; say checkpoint=RUN of another run"
    slot = key.partition("@")[2]
    if slot:
        slots = [name for name in known if name.count(".") == 1 and f"{name}._target_" in known]
        held = [name.partition(".")[2] for name in slots if name.startswith("model.")]
        return f"model={model} has no part {slot.removeprefix('model.')}: it has {', '.join(held)}"
    if key in known:
        return f"there is no key {key} here"
    if "." not in key:
        top = list(dict.fromkeys([*(name for name in known if "." not in name), *TRAINER_KEYS, *groups]))
    ends = sorted((name for name in known if name.endswith(f".{key}")), key=_first)
    ends = [name for name in ends if not any(name.endswith(f".{other}") for other in ends)]
    if ends:
        return f"there is no key {key}: did you mean {' or '.join(ends[:3])}?"
    parent = key.rpartition(".")[0]
    meant = [name for name in (known if parent else top) if "._" not in name]  # nobody means _target_ by another name
    siblings = [name for name in meant if name.rpartition(".")[0] == parent]
    near = similar(key.rpartition(".")[2], [name.rpartition(".")[2] for name in siblings]) if parent else []
    # first by its end: long paths that begin alike all look near to one another
    hint = f"did you mean {' or '.join(f'{parent}.{leaf}' for leaf in near)}?" if near else suggest(key, meant)
    if not hint.startswith("did you mean"):
        has = ", ".join(name.rpartition(".")[2] for name in siblings)
        hint = (
            f"{parent or 'the top'} has: {has}"
            if siblings
            else f"{command(_program(), '--cfg', 'job')} prints all keys"
        )
    owner = f" (model={model})" if parent.startswith("model") else ""
    return f"there is no key {key}{owner}: {hint}"


def _first(key: str) -> int:
    """Rank of a key among several with the same last part: the model's first, then budget's, then the data's."""
    return next((i for i, top in enumerate(("model.", "budget.", "data.")) if key.startswith(top)), 3)


def _choices_only(words: Sequence[str]) -> DictConfig:
    """The config with the choices from groups only, without overridden values."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    choices = [word for word in words if "=" in word and is_choice(word) and "," not in word]
    held = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(_program(), choices)
    finally:
        GlobalHydra.instance().hydra = held


def is_choice(word: str) -> bool:
    """Whether an override chooses from a group."""
    return configs.is_group(word.partition("=")[0].lstrip("+~").partition("@")[0])


def _keys(node: Any, prefix: str = "") -> list[str]:
    names = []
    if isinstance(node, DictConfig):
        for key in node:
            names += [f"{prefix}{key!s}", *_keys(node._get_node(key), f"{prefix}{key!s}.")]
    return names


def options(group: str) -> list[str]:
    """The names in a config group, with their folders; without those of base/."""
    return configs.names(group)


@cache
def parts() -> list[str]:
    """The groups named like the part of a model that they configure."""
    models = (path.read_text() for path in (CONF / "model").glob("*.yaml"))
    slots = {slot for text in models for slot in re.findall(r"^ *- (?:override )?/(\w+)@(\w+):", text, re.M)}
    return sorted({group for group, slot in slots if group == slot})


isolate_job_errors(explain, is_choice)


# Help


def help_text(program: str) -> str:
    if program == "evaluate":
        return spoken(_EVALUATE)
    families: dict[str, list[str]] = {}
    for name in options("model"):
        families.setdefault(_family(name), []).append(_line("model", name))
    lines = [spoken(_TRAIN)]
    lines += [_COMPLETION] if start("train") == ["python", "train.py"] else []  # Hydra's is of scripts
    lines += ["", "Models (model=NAME):"]
    for family, rows in sorted(families.items()):
        lines += [f"  {family.replace('_', ' ')}", *rows]
    titles = {"data": "Data", "trainer": "Trainers", "logger": "Loggers", "callbacks": "Callbacks"}
    titles["experiment"] = "Experiments, whole recipes (+ any override)"
    for group, title in titles.items():
        lines += ["", f"{title} ({group}=NAME):", *(_line(group, name) for name in options(group))]
    for part in (*parts(), "network"):
        if options(part):
            slot = f"{part}=NAME" if part != "network" else "network@model.encoder=NAME"
            lines += ["", f"Part of a model, {part} ({slot}): {', '.join(options(part))}"]
    return "\n".join(lines)


def _family(name: str) -> str:
    """The family of a model: the folder of its class in methods/, inherited where its file names no class."""
    text = configs.file("model", name).read_text()
    target = re.search(r"^_target_: unlabeled\.methods\.(\w+)\.", text, re.M)
    if target:
        return target[1]
    parent = re.search(r"(\w+)@_here_", text)
    return _family(parent[1]) if parent and parent[1] != name else "other"


def _line(group: str, name: str) -> str:
    return f"    {name:<24} {configs.described(group, name)}".rstrip()


_HELP = "python train.py --help lists them"
_TRAIN = """Unlabeled: deep learning without labels.

    python train.py                                  a VAE on real digits, no download
    python train.py model=cyclegan data=plain2striped budget.epochs=5
    python train.py -m model=autoencoder,vae seed=0,1   a sweep, compared at the end
    python train.py resume=RUN                       go on where a run stopped
    python evaluate.py checkpoint=RUN                every number that the method allows

--cfg job prints the config; any key of it can be overridden: KEY=VALUE. --hydra-help tells of Hydra's own options.
--config-dir FOLDER has models and data of your own, FOLDER/conf/model/NAME.yaml, and the modules that they name."""
_COMPLETION = """Shell completion: eval "$(python train.py -sc install=bash)"."""

_EVALUATE = """Evaluate a checkpoint: every number that its method allows, as table, JSON and a page with pictures.

    python evaluate.py checkpoint=RUN                a run's folder: its best checkpoint, else its last
    python evaluate.py checkpoint=RUN/checkpoints/last.ckpt data.root=/where/data/lie
    python evaluate.py checkpoint=RUN data.source.path=FOLDER   its images moved, or others; any key of its data
    python evaluate.py checkpoint=RUN evaluation.extractor=classifier   what FID sees images through, trained once
    python evaluate.py checkpoint=RUN evaluation=finetune
    python evaluate.py -m checkpoint=RUN1,RUN2       one table and one page
    python evaluate.py samples=FOLDER reference=FOLDER evaluation.extractor=RUN

Keys: weights=averaged|live, evaluation.split=test|val, evaluation.samples=N,
evaluation.extractor=auto|inception|dinov2|clip|classifier|cells|RUN|none, evaluation.probe_data=NAME|FOLDER,
device=cpu|cuda|mps, devices=N, output=FOLDER, trusted_packages=[package]. --cfg job prints all."""
