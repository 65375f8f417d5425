"""Sweeps, launchers, schedulers: every engine runs for real, where it is installed."""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from tests import warm
from unlabeled.distributed import processes
from unlabeled.errors import UserError

ROOT = Path(__file__).parents[2]
QUICK = [
    "data=digits", "model=autoencoder", "model.encoder.width=4", "model.decoder.width=4",
    "trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "callbacks.pictures.count=0", "budget.epochs=2",
]  # fmt: skip
TWO = ["trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.sync_batchnorm=false"]
DDP = ["trainer=ddp", "trainer.devices=2", *TWO]
WITNESS = "+callbacks.witness={_target_: tests.witness.Witness, folder: '${run}'}"


def signals(name: str, batch: int | str) -> str:
    facts = f"folder: '${{run}}', name: {name}, batch: {batch}"
    return f"+callbacks.{name}={{_target_: tests.witness.Signals, {facts}}}"


def spawn(*words: str, cwd: str | Path = ROOT, **settings: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words], cwd=cwd, env=surroundings(settings), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def fork(*words: str, **settings: str) -> warm.Popen:
    """The same, where neither its start nor that of torchrun's workers is what is proven."""
    return warm.Popen(*words, env=surroundings(settings | {"PYTHON_EXEC": warm.python()}))


def surroundings(settings: dict[str, str]) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | settings


def finish(process: subprocess.Popen | warm.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def batches(run: Path) -> list[int]:
    with open(run / "metrics.csv", newline="") as file:
        return [int(row["batch"]) for row in csv.DictReader(file)]


def weights(run: Path) -> list[torch.Tensor]:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return [state[name] for name in sorted(state)]


# Launchers


@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_a_sweep_under_a_launcher_ends_in_its_table_and_a_failed_job_harms_no_other(
    launcher: str, tmp_path: Path
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    words = [*QUICK, f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path}", "model.latent_dim=4,-1", WITNESS]
    status, out, err = finish(spawn("train.py", "-m", *words, RAY_AUTH_MODE="disabled"))
    assert status == 1 and "2 runs in" in out and out.count("failed: 1-") == 1, err[-2000:]
    good, bad = (next(tmp_path.glob(f"{n}-*")) for n in (0, 1))
    assert "negative dimension" in result(bad)["error"]
    assert result(good)["batches"] == 8 and json.loads((good / "witness-0.json").read_text())["process"] != os.getpid()


def test_submitit_loses_no_job_to_another_that_fails_is_killed_or_is_preempted(tmp_path: Path) -> None:
    """The first is preempted and goes on, the second fails, the third is killed in its fifth batch."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = [*QUICK, "hydra/launcher=submitit_local", f"hydra.sweep.dir={tmp_path}", "model.latent_dim=9,-1,4"]
    words += ["resume=auto", signals("SIGUSR2", 5), signals("SIGKILL", "'${model.latent_dim}'")]
    status, out, err = finish(spawn("train.py", "-m", *words, "callbacks.records.every=1"))
    assert status == 1 and "3 runs in" in out and "failed: 1-" in out and "was lost: see" in err, err[-2000:]
    assert re.search("failed: 2-.*: it ended without a word", out)
    (run,) = tmp_path.glob("0-*")
    assert (run / "signalled-SIGUSR2").exists() and batches(run) == list(range(1, 9))
    log = "".join(path.read_text() for path in tmp_path.glob(".submitit/*/*.out"))
    assert "Requeued job" in log and log.count("Job completed successfully") == 2


PRETENDED = {
    "sbatch": """
        import os, re, subprocess, sys
        script = open(sys.argv[1]).read()
        ask = dict(re.findall(r"#SBATCH --([\\w-]+)=(\\S+)", script))
        job = os.environ | {"SLURM_JOB_ID": "4000", "SLURM_JOB_NAME": ask["job-name"], "SLURM_NNODES": ask["nodes"],
            "SLURM_NODELIST": "127.0.0.1", "SLURM_NTASKS": ask["ntasks-per-node"],
            "SLURM_NTASKS_PER_NODE": ask["ntasks-per-node"]}
        again = f"while bash {sys.argv[1]}; [ -e requeue-4000 ]; do rm requeue-4000; done"
        subprocess.Popen(["bash", "-c", again], env=job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print("Submitted batch job 4000")""",
    "srun": """
        import os, subprocess, sys
        command = sys.argv[next(i for i, word in enumerate(sys.argv) if "python" in word and i) :]
        tasks = []
        for i in range(int(os.environ["SLURM_NTASKS"])):
            own = {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}
            log = open(f"task-{i}", "a")
            tasks.append(subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log))
        [task.wait() for task in tasks]""",
    "scontrol": """
        import sys
        open(f"requeue-{sys.argv[2]}", "w")""",
    "sacct": """
        print("JobID|State|NodeList\\n4000|RUNNING|here")""",
}


def test_a_slurm_job_of_two_tasks_is_preempted_and_goes_on(tmp_path: Path) -> None:
    """On commands that pretend to be SLURM: one task is told, both save, the job is requeued."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    for name, text in PRETENDED.items():
        (tmp_path / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}\n")
        (tmp_path / name).chmod(0o755)
    words = [*QUICK, *TWO, "trainer=multinode", "hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=2"]
    words += [f"hydra.sweep.dir={tmp_path / 'sweep'}", "resume=auto", "callbacks.records.every=1", WITNESS]
    words += ["seed=1", signals("SIGUSR2", 5)]
    place = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MASTER_PORT": str(30000 + os.getpid() % 20000)}
    place |= {"MASTER_ADDR": "127.0.0.1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    status, out, err = finish(spawn(str(ROOT / "train.py"), "-m", *words, cwd=str(tmp_path), **place))
    assert status == 0 and "1 runs in" in out, err + "".join(p.read_text() for p in tmp_path.glob("task-*"))
    (run,) = (tmp_path / "sweep").glob("0-*")
    assert agreed(run)["config"]["trainer"]["devices"] == 2
    assert (run / "signalled-SIGUSR2").exists() and batches(run) == list(range(1, 9))


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm", "ray"])
def test_a_launcher_that_is_not_installed_says_what_to_install(launcher: str, program: Any) -> None:
    extra = launcher.partition("_")[0]
    if importlib.util.find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        complaint = program("train", "-m", f"hydra/launcher={launcher}", "seed=0,1").complaint
        assert complaint == f'error: the launcher is not installed: pip install -e ".[{extra}]" in the checkout'


def test_stopping_the_program_stops_its_sweep_and_shows_what_is_there(program: Any, tmp_path: Path) -> None:
    stopped = program("train", "-m", *QUICK, "seed=0,1", signals("SIGTERM", 5), f"hydra.sweep.dir={tmp_path}")
    assert stopped.status == 128 + signal.SIGTERM and "stopped after batch 6" in stopped.err
    assert "1 runs in" in stopped.out and not list(tmp_path.glob("1-*"))


def test_a_sweep_is_taken_up_again(program: Any, tmp_path: Path) -> None:
    words = ["-m", *QUICK, "resume=auto", f"hydra.sweep.dir={tmp_path}", "seed=0,1"]
    assert program("train", *words, signals("SIGTERM", 5)).status == 128 + signal.SIGTERM
    again = program("train", *words, signals("SIGTERM", 5))
    assert again.status == 128 + signal.SIGTERM  # now the second
    last = program("train", *words, signals("SIGTERM", 5))
    assert last.status == 0 and last.out.count("over already") == 1 and "2 runs in" in last.out
    assert [result(run)["batches"] for run in sorted(tmp_path.glob("*-*"))] == [8, 8]


# resume=auto


def test_resume_auto_starts_goes_on_and_knows_when_it_is_over(program: Any, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = [*QUICK, "resume=auto", f"run={run}", signals("SIGTERM", 5), "callbacks.records.every=1"]
    first = program("train", *words)
    assert first.status == 128 + signal.SIGTERM and "error" in result(run) and batches(run)[-1] == 6
    second = program("train", *words)
    assert second.status == 0 and batches(run) == list(range(1, 9)) and "error" not in result(run)
    third = program("train", *words)
    assert third.status == 0 and f"over already: {run}" in third.out
    further = program("train", *words, "budget.epochs=3")
    assert further.status == 0 and batches(run) == list(range(1, 13))
    assert "over already" in program("train", *words, "budget.epochs=3").out
    assert program("train", *QUICK, f"run={whole}", "budget.epochs=3").status == 0
    assert all(torch.equal(a, b) for a, b in zip(weights(run), weights(whole), strict=True))
    refused = program("train", *words, "model.latent_dim=5")
    assert "model.latent_dim=5 (was 8)" in refused.complaint and "a resumed run keeps its config" in refused.complaint


def test_resume_auto_begins_anew_where_nothing_was_saved(program: Any, tmp_path: Path) -> None:
    words = [*QUICK, "resume=auto", f"run={tmp_path}", "callbacks.records.every=1", "budget.epochs=1"]
    (tmp_path / "config.yaml").write_text("names: {overrides: []}")
    (tmp_path / "metrics.csv").write_text("batch,train/loss\n1,7\n90,7\n")
    assert program("train", *words).status == 0 and batches(tmp_path) == [1, 2, 3, 4]
    assert "say run=FOLDER" in program("train", *QUICK, "resume=auto").complaint


# Several processes


def agreed(run: Path) -> dict[str, Any]:
    """What both ranks of a run trained, the same."""
    first, second = (json.loads((run / f"witness-{rank}.json").read_text()) for rank in (0, 1))
    assert first.pop("process") != second.pop("process")
    assert first == second and first["world"] == 2
    return first


def test_two_processes_of_every_trial_hold_one_config_under_joblib_and_optuna(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    pytest.importorskip("optuna")
    words = [*QUICK, *DDP, WITNESS, "hydra/launcher=joblib", "hydra/sweeper=optuna", f"hydra.sweep.dir={tmp_path}"]
    words += ["hydra.sweeper.trials=2", "hydra.sweeper.at_once=2", "model.optimizer.lr=tag(log,interval(1e-5,1e-2))"]
    status, out, err = finish(spawn("train.py", "-m", *words))
    assert status == 0 and "2 runs in" in out and "best of 2 trials" in out, err[-2000:]
    facts = [agreed(next(tmp_path.glob(f"{n}-*"))) for n in (0, 1)]
    rates = [fact["rates"] for fact in facts]
    assert rates[0] != rates[1] and rates == [[f["config"]["model"]["optimizer"]["lr"]] for f in facts]


def test_two_processes_that_are_stopped_save_and_go_on(tmp_path: Path) -> None:
    words = ["train.py", *QUICK, *DDP, "resume=auto", f"run={tmp_path}", signals("SIGTERM", 5)]
    words += ["callbacks.records.every=1"]
    status, _, err = finish(fork(*words))
    assert status == 128 + signal.SIGTERM and f"stopped; to go on: python train.py resume={tmp_path}" in err, err
    status, out, err = finish(fork(*words))
    assert status == 0 and batches(tmp_path) == list(range(1, 9)), err
    assert "8 batches" in out and len(re.findall("^checkpoints ", out, re.M)) == 1  # one rank speaks
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["config"]["trainer"]["devices"] == 2


SLURM = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2",
         "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1"}  # fmt: skip


def test_tasks_of_srun_on_two_nodes_train_what_the_first_was_told(tmp_path: Path) -> None:
    port = str(20000 + os.getpid() % 20000)
    tasks = []
    for rank in (0, 1):
        place = {"SLURM_PROCID": f"{rank}", "SLURM_NODEID": f"{rank}", "SLURM_LOCALID": "0"}
        place |= {"SLURM_NNODES": "2", "MASTER_PORT": port}
        words = [*QUICK, "trainer=multinode", *TWO, f"output={tmp_path}", WITNESS, f"model.optimizer.lr=1e-{rank + 3}"]
        tasks.append(fork("train.py", *words, **SLURM, **place))
    (status, out, err), (other, silence, _) = map(finish, tasks)
    assert status == other == 0 and "8 batches" in out and not silence, err
    (run,) = tmp_path.iterdir()
    fact = agreed(run)
    assert fact["rates"] == [1e-3]
    assert (fact["config"]["trainer"]["devices"], fact["config"]["trainer"]["num_nodes"]) == (1, 2)


def test_processes_of_torchrun_are_one_run(tmp_path: Path) -> None:
    words = [*QUICK, "trainer=multinode", *TWO, f"output={tmp_path}", WITNESS]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    status, out, err = finish(fork(*launcher, *words))
    assert status == 0 and out.count("8 batches") == 1, err
    (run,) = tmp_path.iterdir()
    assert agreed(run)["config"]["trainer"]["devices"] == 2


TALKS = """
    import atexit, sys, torch
    from torch import distributed
    from unlabeled.app.run.process import exit_process

    distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
    atexit.register(lambda: print("put away"))
    for _ in range(50):
        distributed.all_reduce(torch.ones(100), async_op=True)
    print("said", end=" ")
    exit_process(3)
"""


def test_a_process_that_still_talks_leaves_with_its_own_status(tmp_path: Path) -> None:
    """By sys.exit(3) one of the two aborts in most attempts."""
    ranks = [fork("-c", textwrap.dedent(TALKS), str(tmp_path / "store"), rank) for rank in "01"]
    assert [finish(rank)[:2] for rank in ranks] == [(3, "said put away\n")] * 2


def test_a_mistake_under_srun_is_said_once(tmp_path: Path) -> None:
    port = str(20000 + os.getpid() % 20000 + 9)
    words = ["train.py", "trainer=multinode", *TWO, "model=cyclegan", f"output={tmp_path}"]
    place = SLURM | {"SLURM_NNODES": "1", "MASTER_PORT": port}
    tasks = [fork(*words, **(place | {"SLURM_PROCID": str(r), "SLURM_LOCALID": str(r)})) for r in (0, 1)]
    ends = [finish(task) for task in tasks]
    assert [status for status, *_ in ends] == [1, 1]
    assert "model=cyclegan learns from Unpaired" in ends[0][2] and not ends[1][2] and not list(tmp_path.iterdir())


def test_several_processes_that_nobody_started(program: Any, monkeypatch: Any, tmp_path: Path) -> None:
    assert "neither started this" in program("train", "trainer=multinode", *TWO).complaint
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a shell inside an allocation, without srun
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert processes.process_group() is None
    assert program("train", *QUICK).status == 0


def test_the_parts_of_an_environment(monkeypatch: Any) -> None:
    for name, value in (SLURM | {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "5"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "23000")
    group = processes.process_group()
    assert group is not None and group[:3] == (5, 4, 2) and group.world == 8
    assert group.address == "tcp://127.0.0.1:23001?rank=5&world_size=8"
    monkeypatch.setenv("SLURM_NNODES", "3")
    with pytest.raises(UserError, match="say --ntasks-per-node"):
        processes.process_group()
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)  # torchrun inside an allocation
    assert processes.process_group() == (3, 2, 2, "env://")


def test_a_schedulers_signal_waits_for_the_run_to_be_saved() -> None:
    happened: list[str] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGUSR2, lambda *_: happened.append("queue"))
        with processes.save_before_requeue():
            os.kill(os.getpid(), signal.SIGUSR2)  # nothing trains yet
        assert happened == ["queue"]
        with processes.save_before_requeue():
            idle = signal.signal(signal.SIGTERM, lambda *_: happened.append("save"))
            os.kill(os.getpid(), signal.SIGUSR2)
            signal.signal(signal.SIGTERM, idle)
            assert happened == ["queue", "save"]
        assert happened == ["queue", "save", "queue"]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Optuna


class Jobs:
    """A launcher that only computes: work(words of a job) -> what the job returns."""

    def __init__(self, work: Any):
        self.work, self.launched = work, []

    def launch(self, jobs: Any, initial_job_idx: int) -> list[JobReturn]:
        self.launched.append([initial_job_idx + i for i in range(len(jobs))])
        done = []
        for words in jobs:
            returned = JobReturn(status=JobStatus.COMPLETED)
            returned.return_value = self.work({w.partition("=")[0]: w.partition("=")[2] for w in words})
            done.append(returned)
        return done


def search(folder: Path, work: Any, *words: str, **settings: Any) -> tuple[Any, Jobs]:
    """(study, launcher) after a search by the sweeper."""
    optuna = pytest.importorskip("optuna")
    from hydra_plugins.unlabeled_optuna import OptunaSweeper

    storage = f"sqlite:///{folder}/studies.db"
    sampler = settings.pop("sampler", "TPESampler")
    given = {"trials": 12, "at_once": 1, "direction": "minimize", "study": "s", "storage": storage} | settings
    sweeper = OptunaSweeper(**given, sampler={"_target_": f"optuna.samplers.{sampler}", "seed": 0})
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    sweeper.validate_batch_is_legal = lambda batch: None  # type: ignore[method-assign]
    jobs = Jobs(work)
    sweeper.launcher = jobs  # type: ignore[assignment]
    sweeper.sweep(list(words))
    return optuna.load_study(study_name=given["study"], storage=given["storage"]), jobs


def bowl(words: dict[str, str]) -> float:
    return (float(words["a"]) - 0.3) ** 2


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "CmaEsSampler"])
def test_samplers_search_what_the_overrides_span(sampler: str, tmp_path: Path) -> None:
    if sampler == "CmaEsSampler":
        pytest.importorskip("cmaes")
    space = ["a=interval(0,1.0)", "b=int(interval(2,5))", "c=tag(log,interval(1e-4,1e-1))", "d=range(8,33,8)"]
    space += ["g=tag(log,int(interval(1,100)))", "h=range(0,1,0.25)"]
    study, jobs = search(tmp_path, bowl, *space, "e=choice(x,y)", "f=7", sampler=sampler, at_once=5)
    assert [len(batch) for batch in jobs.launched] == [5, 5, 2] and jobs.launched[2] == [10, 11]
    for trial in study.trials:
        a, b, c, d, e = (trial.params[key] for key in "abcde")
        assert 0 <= a <= 1 and isinstance(b, int) and 2 <= b <= 5 and 1e-4 <= c <= 1e-1 and d in (8, 16, 24, 32)
        assert trial.params["g"] in range(1, 101) and trial.params["h"] in (0, 0.25, 0.5, 0.75)
        assert e in "xy" and "f" not in trial.params and trial.value == pytest.approx((a - 0.3) ** 2)
    assert study.trials[0].distributions["c"].log and not study.trials[0].distributions["a"].log
    again, _ = search(tmp_path, bowl, *space, "e=choice(x,y)", study="again", sampler=sampler, at_once=5)
    assert [t.params for t in again.trials] == [t.params for t in study.trials]  # one seed decides


def test_a_grid_tries_everything_once(tmp_path: Path) -> None:
    study, _ = search(tmp_path, bowl, "a=0.1,0.2,0.3", "b=range(0,4,2)", sampler="BruteForceSampler", at_once=4)
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(tried) == 6 == len(set(tried))
    assert study.best_params["a"] == "0.3" and all(trial.state.name == "COMPLETE" for trial in study.trials)


def test_maximize(tmp_path: Path) -> None:
    study, _ = search(tmp_path, bowl, "a=interval(0,1.0)", trials=20, direction="maximize")
    assert study.best_value == max(trial.value for trial in study.trials) > 0.2


def test_a_failed_trial_and_a_dead_launcher_do_not_end_the_search(tmp_path: Path, capsys: Any) -> None:
    def work(words: dict[str, str]) -> float:
        number = int(words["hydra.sweeper.trial"])
        if number == 3:
            (tmp_path / "2-x").mkdir()
            (tmp_path / "2-x" / "result.json").write_text('{"objective": 0.5}')
            raise ConnectionError("a process was killed")
        return float("nan") if number == 5 else 1.0

    study, _ = search(tmp_path, work, "a=interval(0,1.0)", trials=8, at_once=2)
    states = [trial.state.name for trial in study.trials]
    assert [n for n, state in enumerate(states) if state == "FAIL"] == [3, 5] and len(states) == 8
    assert study.trials[2].value == 0.5  # it was there before the launcher died
    assert "the launcher gave up: ConnectionError: a process was killed" in capsys.readouterr().err


def test_a_search_of_which_everything_fails_ends(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all of the first 3 trials failed"):
        search(tmp_path, lambda words: float("nan"), "a=interval(0,1.0)", trials=100)


def test_a_study_is_taken_up_again(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    study, _ = search(tmp_path, bowl, "a=interval(0,1.0)", trials=3)
    begun = study.ask({"a": optuna.distributions.FloatDistribution(0, 1)})  # and its sweep was killed
    study, jobs = search(tmp_path, bowl, "a=interval(0,1.0)", trials=5)
    assert jobs.launched == [[3], [4]] and study.trials[3].params == begun.params
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert search(tmp_path, bowl, "a=interval(0,1.0)", trials=5)[1].launched == []
    with pytest.raises(UserError, match="there already, to minimize"):
        search(tmp_path, bowl, "a=interval(0,1.0)", direction="maximize")
    with pytest.raises(UserError, match="Optuna cannot propose"):
        search(tmp_path, bowl, "a=x,y", trials=9)


MISSEARCHED = {
    "a=1": "nothing to search",
    "a=interval(2,1)": "cannot search a=interval.2,1.",
    "a=range(3,3)": "it is empty",
    "a=tag(log,interval(0,1.0))": "cannot search",
}


@pytest.mark.parametrize("word", MISSEARCHED)
def test_a_space_that_is_none(word: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(UserError, match=MISSEARCHED[word]):
        search(tmp_path, bowl, word)


def test_hopeless_runs_are_pruned_and_the_table_says_so(program: Any, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{tmp_path}/study.journal"))
    study = optuna.create_study(study_name="sweep", storage=storage)
    rate = {"model.optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-3)}
    for value in (1e-9, 1e9):  # the median is better than any run
        study.add_trial(
            optuna.trial.create_trial(
                value=value, params={"model.optimizer.lr": 1e-4}, distributions=rate, intermediate_values={1: value}
            )
        )
    words = [
        "-m",
        *QUICK,
        "hydra/sweeper=optuna",
        f"hydra.sweep.dir={tmp_path}",
        "model.optimizer.lr=interval(1e-5,1e-3)",
    ]
    settle = ["hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=0"]
    settle += ["hydra/sweeper/pruner=percentile", "hydra.sweeper.pruner.percentile=0.0"]
    found = program("train", *words, *settle, "hydra.sweeper.trials=3")
    assert found.status == 0, found.err
    (run,) = tmp_path.glob("2-*")
    assert result(run)["pruned"] == "after epoch 1" and result(run)["batches"] == 4
    assert re.search(r"pruned +│", found.out) and "4 batches in" in found.out
    trial = optuna.load_study(study_name="sweep", storage=storage).trials[2]
    assert trial.state.name == "PRUNED" and set(trial.intermediate_values) == {1}
    assert trial.value == pytest.approx(result(run)["last"]["val/loss"])
    free = program("train", *words, "hydra/sweeper/pruner=none", "hydra.sweeper.trials=4")
    assert free.status == 0 and result(next(tmp_path.glob("3-*")))["batches"] == 8 and "2 runs in" in free.out
    # by hand it goes to its end, and the study is left alone
    assert program("train", f"resume={run}").status == 0 and result(run)["batches"] == 8
    assert set(optuna.load_study(study_name="sweep", storage=storage).trials[2].intermediate_values) == {1}


def test_what_a_study_cannot_compare_by(program: Any, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["-m", *QUICK, "hydra/sweeper=optuna", f"hydra.sweep.dir={tmp_path}", "hydra.sweeper.trials=1"]
    wrong = program("train", *words, "model.latent_dim=3,4", "hydra.sweeper.direction=maximize")
    assert wrong.status == 1 and "val/loss is best lowest: say hydra.sweeper.direction=minimize" in wrong.err
