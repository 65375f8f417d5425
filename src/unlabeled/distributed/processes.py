"""Processes of one run: those that srun or torchrun started together, and those that a run starts itself."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from unlabeled.errors import Interrupted, UserError

RENDEZVOUS_TIMEOUT = timedelta(minutes=30)  # of the first process, which prepares the run
STOP_TIMEOUT = 120  # seconds for processes to save when a run is stopped


class ProcessGroup(NamedTuple):
    """The group of processes that were started together."""

    rank: int
    local: int  # processes on this node
    nodes: int
    address: str  # of the first one

    @property
    def world(self) -> int:
        return self.local * self.nodes


def process_group() -> ProcessGroup | None:
    """The group that srun or torchrun started this process in; None for a single process."""
    if TorchElasticEnvironment.detect():
        world, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if world % here:
            raise UserError(f"torchrun started {world} processes, unequally many on each node: give all nodes the same")
        return ProcessGroup(int(os.environ["RANK"]), here, world // here, "env://")
    if "SLURM_STEP_ID" not in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) == 1:
        return None
    world, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", 1))
    if world % nodes:
        raise UserError(f"srun started {world} tasks on {nodes} nodes: say --ntasks-per-node=DEVICES")
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(world // nodes))
    slurm = SLURMEnvironment(auto_requeue=False)
    rank, port = slurm.global_rank(), slurm.main_port + 1  # Lightning's own comes later
    return ProcessGroup(
        rank, world // nodes, nodes, f"tcp://{slurm.main_address}:{port}?rank={rank}&world_size={world}"
    )


def environment() -> Any:
    """Lightning's cluster environment; its own detection takes any shell in a SLURM allocation for a task of srun."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if process_group() else LightningEnvironment()


_store: list[Any] = []  # kept open, as other processes may still be reading
_talks = itertools.count()


def all_gather(word: str) -> list[str]:
    """One string of each process started together, in the order of ranks."""
    group = process_group()
    if group is None:
        return [word]
    if not _store:
        _store.append(next(torch.distributed.rendezvous(group.address, timeout=RENDEZVOUS_TIMEOUT))[0])
    store = _store[0]
    key = f"unlabeled/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_talks)}"
    store.set(f"{key}/{group.rank}", word)
    words = [store.get(f"{key}/{rank}").decode() for rank in range(group.world)]
    store.add(f"{key}/read", 1)
    deadline = time.monotonic() + 10
    while not group.rank and store.add(f"{key}/read", 0) < group.world and time.monotonic() < deadline:
        time.sleep(0.02)  # the store ends with the first process, which waits until all have read
    return words


def broadcast_from_rank0(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `work`, run by the first of the processes started together and sent to the others.

    So all have the same configuration. Where `work` fails, all end, and the first prints why.
    """
    group = process_group()
    if group is None:
        return work()
    found = None
    try:
        found = work() if group.rank == 0 else None
    finally:
        found = json.loads(all_gather(json.dumps(found))[0])
    if found is None:
        raise UserError("")  # the first prints it
    return found


def launch(count: int, module: str, *words: str, what: str, stopped: str) -> None:
    """Run `count` processes of python -m MODULE WORDS on this node, which read a resolved config.

    A signal to stop is passed on; once the processes have saved, Interrupted(stopped) is raised.
    """
    asked: list[int] = []
    process: subprocess.Popen | None = None

    def forward(number: int, frame: Any) -> None:
        if process and not asked:
            process.terminate()  # SIGTERM: processes without a handler yet end silently
        asked.append(number)

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    command = [sys.executable, "-m", "unlabeled.distributed.torchrun", "--standalone", f"--nproc-per-node={count}"]
    settings = {"TORCH_CPP_LOG_LEVEL": "ERROR"} | os.environ | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(STOP_TIMEOUT)}
    try:
        # its own session, so that Ctrl-C reaches it only from here
        process = subprocess.Popen([*command, "-m", module, *words], env=settings, start_new_session=True)
        if asked:
            process.terminate()
        status = process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if process and process.poll() is None:
            process.terminate()
    if status and (asked or status in (128 + signal.SIGINT, 128 + signal.SIGTERM)):
        raise Interrupted(stopped, asked[0] if asked else status - 128)
    if status:
        raise UserError(f"a process of {what} failed (status {status}): its own message stands above")


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error means that another process has died or does not answer."""
    gone = isinstance(error, torch.distributed.DistError)
    messages = ("gloo/transport", "timeout caused pair closure")
    return gone or (isinstance(error, RuntimeError) and any(words in str(error) for words in messages))


@contextmanager
def save_before_requeue() -> Iterator[None]:
    """Save the run first on a scheduler's SIGUSR1 or SIGUSR2 (submitit: out of time, or preempted), as on SIGTERM.

    Then the former handler runs, which requeues the job.
    """
    numbers = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
    listening = {number: signal.getsignal(number) for number in numbers if callable(signal.getsignal(number))}
    if not listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    idle = signal.getsignal(signal.SIGTERM)

    def put_off(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGTERM) is idle:  # no training is in progress
            signal.signal(number, listening[number])
            signal.raise_signal(number)
        else:
            asked.append(number)
            signal.raise_signal(signal.SIGTERM)

    for number in listening:
        signal.signal(number, put_off)
    try:
        yield
    except Interrupted:  # another process may have got the signal
        asked += [int(word) for word in all_gather(str(asked[0] if asked else 0)) if int(word)]
        raise
    finally:
        for number, listener in listening.items():
            signal.signal(number, listener)
        if asked:
            signal.raise_signal(asked[0])
