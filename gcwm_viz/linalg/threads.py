"""One thread a process: torch's, and those of the BLAS libraries that NumPy and SciPy each load.

Workers share the cores, and on small matrices the threads of one library wait for those of another much longer than
they compute: logistic regressions on 128 features took ten times as long.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import scipy.linalg  # noqa: F401  its BLAS must be loaded before its threads can be limited
import torch
from threadpoolctl import ThreadpoolController


def use_one_thread() -> None:
    """For the rest of this process."""
    torch.set_num_threads(1)
    _pools().limit(limits=1, user_api="blas")


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside this block; a process forked in it stays so."""
    threads = torch.get_num_threads()
    with _pools().limit(limits=1, user_api="blas"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


SMALL = 10_000_000
"""Parameters below which a model computes in one thread: on busy cores the threads of one product wait for each other.
The lab's, set to eight states, answers in 0.3 s with one thread; with two it took 0.6 to 14 s."""


def threads_of(parameters: int) -> AbstractContextManager[None]:
    """One thread for passes of a small model, all of them for a larger one."""
    return one_thread() if parameters < SMALL else nullcontext()


@lru_cache(maxsize=1)
def _pools() -> Any:
    return ThreadpoolController()
