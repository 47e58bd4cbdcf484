"""Independent pieces of work over local processes. One that fails ends the rest; all that finish are reported."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import TypeVar

import torch

Item = TypeVar("Item")
Value = TypeVar("Value")

_PR_SET_PDEATHSIG = 1


class WorkerDiedError(RuntimeError):
    """A worker process ended without a word, as one does that the system kills for lack of memory."""


def default_workers(device: torch.device) -> int:
    """One process a core on a processor, one in all on a GPU."""
    if device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unordered(work: Callable[[Item], Value], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, Value]]:
    """(item, work(item)) as they finish; at most two items a worker are handed out at a time.

    Every process computes with one thread, so the result does not depend on ``workers``. ``work`` must be picklable
    for more than one worker. When an item fails, no other is begun, those under way are finished and reported, and
    then its error is raised. Raises :class:`WorkerDiedError` when a worker process dies.
    """
    if workers <= 1 or len(items) <= 1:
        threads = torch.get_num_threads()
        _one_thread()
        try:
            for item in items:
                yield item, work(item)
        finally:
            torch.set_num_threads(threads)
        return
    # Forking spares every worker the import of torch; elsewhere than on Linux it is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process must not inherit a pool of threads that it does not have
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        waiting = list(items)
        running: dict[Future[Value], Item] = {}
        failed: Future[Value] | None = None
        while waiting or running:
            while waiting and len(running) < 2 * workers:
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
    except BrokenProcessPool:
        raise WorkerDiedError(
            "a worker process died, perhaps for lack of memory; resume goes on, with fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _start_worker(parent: int) -> None:
    """A worker computes with one thread and does not outlive the process that it works for, however that ends.

    A forked worker shares its parent's lock on the run, so the lock is free only once nobody writes any more.
    """
    _one_thread()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
