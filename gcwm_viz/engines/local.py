"""Work over local processes. A failure stops new items; all that finish are reported."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from threading import Lock, Thread, local
from typing import Any

import torch

from gcwm_viz.engines.engine import Engine, Item, Value, Worker, WorkerDiedError
from gcwm_viz.engines.memory import available_memory
from gcwm_viz.linalg.threads import one_thread, use_one_thread

_PR_SET_PDEATHSIG = 1
_CPU = torch.device("cpu")
LANES = 2
"""Items in progress per GPU: while one is computed, the other is read, copied or written."""


def default_workers(device: torch.device) -> int:
    """One process per core on a CPU, a single one on a GPU."""
    if device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_devices(device: torch.device) -> list[torch.device]:
    """Every GPU of this machine for ``cuda`` without a number; otherwise the one device."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


class LocalEngine(Engine):
    """One process per GPU, or one per core without GPUs; ``workers`` sets another number.

    With more workers than devices, the devices are assigned in turn.
    """

    def __init__(self, device: torch.device, workers: int | None = None) -> None:
        self.device = str(device)
        self._devices = local_devices(device)
        self._workers = max(len(self._devices), default_workers(device)) if workers is None else workers

    @property
    def workers(self) -> int:
        return self._workers

    def unordered(
        self,
        work: Callable[[Worker, Item], Value],
        items: Sequence[Item],
        *,
        limit: int | None = None,
        memory: Callable[[Item], int] | None = None,
        overlap: bool = False,
    ) -> Iterator[tuple[Item, Value]]:
        workers = self.workers if limit is None else min(limit, self.workers)
        if memory and items and self._devices[0].type == "cpu":
            need, free = max(map(memory, items)), available_memory()
            workers = max(1, min(workers, free // need)) if need and free is not None else workers
        lanes = LANES if overlap and limit is None and self._devices[0].type == "cuda" else 1
        return unordered(partial(_as_worker, work), items, workers, self._devices, lanes)


def unordered(
    work: Callable[[Item], Value],
    items: Sequence[Item],
    workers: int,
    devices: Sequence[torch.device] = (_CPU,),
    lanes: int = 1,
) -> Iterator[tuple[Item, Value]]:
    """(item, work(item)) as they finish; at most two items per worker are submitted at a time.

    Every process computes with one thread, so the result does not depend on ``workers``. ``work`` must be picklable
    for more than one worker. ``lanes``: threads of a single worker, which share its turn; several workers overlap
    anyway. When an item fails, no other is started, running ones are finished and reported, and then its error is
    raised. Raises :class:`WorkerDiedError` when a worker process dies.
    """
    with one_thread():  # a forked process must not inherit a pool whose threads it does not have
        if workers > 1 and len(items) > 1:
            pool: Executor = _processes(workers, devices)
        elif lanes > 1 and len(items) > 1:
            _begin(0, devices)  # a device that cannot be used raises here
            pool = ThreadPoolExecutor(lanes, initializer=_begin, initargs=(0, devices, Lock()))
        else:
            _begin(0, devices)
            for item in items:
                yield item, work(item)
            return
        try:
            yield from _results(pool, work, items, 2 * max(workers, lanes))
        except BrokenProcessPool:
            raise WorkerDiedError(
                "a worker process died, perhaps for lack of memory; resume goes on, with fewer workers"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _processes(workers: int, devices: Sequence[torch.device]) -> ProcessPoolExecutor:
    # Forking spares every worker the import of torch; it is safe on Linux only, and not with a GPU.
    forked = sys.platform == "linux" and all(device.type == "cpu" for device in devices)
    context = multiprocessing.get_context("fork" if forked else "spawn")
    started = context.Value("i", 0)
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(), started, list(devices))
    )


def _results(
    pool: Executor, work: Callable[[Item], Value], items: Sequence[Item], most: int
) -> Iterator[tuple[Item, Value]]:
    waiting = list(items)
    running: dict[Future[Value], Item] = {}
    failed: Future[Value] | None = None
    while waiting or running:
        while waiting and len(running) < most:
            item = waiting.pop(0)
            running[pool.submit(work, item)] = item
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            item = running.pop(future)
            if future.exception() is None:
                yield item, future.result()
            else:
                failed = failed or future
                waiting.clear()
    if failed is not None:
        failed.result()


class _This(local):
    """The worker of this thread."""

    worker: Worker


_this = _This()


def _as_worker(work: Callable[[Worker, Item], Value], item: Item) -> Value:
    return work(_this.worker, item)


def _begin(number: int, devices: Sequence[torch.device], turn: AbstractContextManager[object] | None = None) -> None:
    """Make this thread worker ``number``, which computes in one thread."""
    device = devices[number % len(devices)]
    _this.worker = Worker(f"process {number + 1} on {device}", device, turn or nullcontext())
    use_one_thread()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # calls that name no device, as empty_cache, then mean this one


def _start_worker(parent: int, started: Any, devices: Sequence[torch.device]) -> None:
    """A worker ends with its parent process, however that ends.

    A forked worker shares its parent's lock on the run, so the lock is free only when no process writes.
    """
    with started.get_lock():
        number = started.value
        started.value += 1
    _begin(number, devices)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
