"""Hydra asks Optuna what to try next: hydra/sweeper=optuna. Hydra finds plugins in this namespace only."""

import itertools
import json
import math
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from unlabeled.commands import extra
from unlabeled.errors import UserError

HOPE = 3  # trials that may fail before any succeeds


class OptunaSweeper(Sweeper):
    """Searches the space that the overrides span, by Optuna's ask and tell.

        KEY=interval(1e-4,1e-2)             between two numbers
        KEY=int(interval(2,16))             whole numbers, the ends among them
        KEY=tag(log,interval(1e-4,1e-2))    evenly in the logarithm
        KEY=range(8,65,8)                   steps, in their order: 8, 16, ..., 64
        KEY=a,b,c or choice(a,b,c)          any of them

    A study that the storage holds already goes on: trials that nobody finished are run again, then new ones until there
    are `trials`. A job that fails is a failed trial, and the others go on.
    """

    def __init__(
        self,
        trials: int,
        at_once: int,
        direction: str,
        study: str,
        storage: Any,  # a config, as sampler and pruner are, or an address
        sampler: Any,
        pruner: Any = None,  # for the jobs
        trial: int | None = None,  # of a job
    ):
        self.trials, self.at_once, self.direction = trials, at_once, direction
        self.name, self.storage, self.sampler = study, storage, sampler
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        try:
            import optuna
        except ImportError as error:
            raise UserError(f"Optuna is not here: {extra('optuna')}") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        assert self.hydra_context is not None
        overrides = OverridesParser.create(config_loader=self.hydra_context.config_loader).parse_overrides(arguments)
        fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
        space = {o.get_key_element(): _distribution(o) for o in overrides if o.is_sweep_override()}
        if not space:
            raise UserError("nothing to search: say KEY=interval(LOW,HIGH), KEY=range(LOW,HIGH,STEP) or KEY=A,B,C")
        if self.direction not in ("minimize", "maximize"):
            raise UserError(f"hydra.sweeper.direction={self.direction}: say minimize or maximize")
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]
        study = optuna.create_study(
            study_name=self.name,
            storage=self.storage if isinstance(self.storage, str) else instantiate(self.storage),
            sampler=instantiate(self.sampler),
            direction=self.direction,
            load_if_exists=True,
        )
        if study.direction.name.lower() != self.direction:
            raise UserError(f"the study {self.name} is there already, to {study.direction.name.lower()}: keep to it")
        returned: list[JobReturn] = []
        waiting = [optuna.trial.Trial(study, left._trial_id) for left in study.trials if not left.state.is_finished()]
        trials: float = self.trials
        if isinstance(study.sampler, optuna.samplers.BruteForceSampler):
            trials = min(trials, math.prod(map(_size, space.values())))
        while True:
            room = int(min(self.at_once, trials - sum(trial.state.is_finished() for trial in study.trials)))
            if room < 1:
                break
            batch, waiting = waiting[:room], waiting[room:]
            try:
                batch += [study.ask(space) for _ in range(room - len(batch))]
            except ValueError as error:
                raise UserError(f"Optuna cannot propose a trial: {error}") from error
            returned += self._run(study, batch, fixed)
            states = [trial.state.name for trial in study.trials if trial.state.is_finished()]
            if len(states) >= max(HOPE, self.at_once) and set(states) == {"FAIL"}:
                raise UserError(f"all of the first {len(states)} trials failed: their own messages stand above")
        _tell_best(study, space)
        return returned

    def _run(self, study: Any, batch: list[Any], fixed: list[str]) -> list[JobReturn]:
        """Launch trials whose numbers follow each other together: a job's number is its trial's."""
        returned: list[JobReturn] = []
        for _, group in itertools.groupby(enumerate(batch), key=lambda entry: entry[1].number - entry[0]):
            trials = [trial for _, trial in group]
            jobs = [
                [*(f"{k}={v}" for k, v in trial.params.items()), *fixed, f"hydra.sweeper.trial={trial.number}"]
                for trial in trials
            ]
            assert self.launcher is not None
            self.validate_batch_is_legal(jobs[:1])
            try:
                done = list(self.launcher.launch(jobs, initial_job_idx=trials[0].number))
            except (HydraException, OmegaConfBaseException, UserError):
                raise
            except Exception as error:  # a job's process was killed, and the launcher gave the others up with it
                print(f"error: the launcher gave up: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
                for trial in trials:
                    self._finish(study, trial.number, self._reached(trial.number))
                continue
            for trial, job in zip(trials, done, strict=True):
                value = job.return_value if job.status == JobStatus.COMPLETED else None
                self._finish(study, trial.number, value)
            returned += done
        return returned

    def _reached(self, number: int) -> float | None:
        """What a job left behind whose launcher did not return it."""
        files = Path(self.config.hydra.sweep.dir).glob(f"{number}-*/result.json")  # type: ignore[union-attr]
        newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
        return json.loads(newest.read_text()).get("objective") if newest else None

    def _finish(self, study: Any, number: int, value: Any) -> None:
        from optuna.trial import TrialState

        good = isinstance(value, int | float) and math.isfinite(value)
        state = TrialState.COMPLETE if good else TrialState.FAIL
        if "pruned" in study.trials[number].user_attrs:
            state = TrialState.PRUNED
        with suppress(RuntimeError):  # by which a grid says that it is through, when the trial has been told
            study.tell(number, value if state == TrialState.COMPLETE else None, state, skip_if_finished=True)


def _distribution(override: Override) -> Any:
    """An Optuna distribution for a sweeping override."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    try:
        if isinstance(value, IntervalSweep):
            log, ends = "log" in value.tags, (value.start, value.end)
            whole = all(isinstance(end, int) for end in ends)
            return IntDistribution(*ends, log=log) if whole else FloatDistribution(*map(float, ends), log=log)  # type: ignore[arg-type]
        if override.is_range_sweep():
            steps: Sequence[Any] = [float(v) if not isinstance(v, int) else v for v in value.range()]
            if not steps:
                raise ValueError("it is empty")
            if isinstance(steps[0], int):
                return IntDistribution(min(steps), max(steps), step=abs(int(value.step)))
            return FloatDistribution(min(steps), max(steps), step=abs(float(value.step)))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise UserError(f"cannot search {override.input_line}: {error}") from error


def _size(distribution: Any) -> float:
    """How many values there are."""
    if hasattr(distribution, "choices"):
        return len(distribution.choices)
    return (distribution.high - distribution.low) // distribution.step + 1 if distribution.step else math.inf


def _tell_best(study: Any, space: dict[str, Any]) -> None:
    from optuna.trial import TrialState

    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if done:
        best = study.best_trial
        print(f"best of {len(study.trials)} trials: {best.number}, {best.value:.4g} with", end=" ")
        print(" ".join(f"{key}={value}" for key, value in best.params.items()))
