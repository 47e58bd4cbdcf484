"""Work over local processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
import torch

from gcwm_viz.engines.local import default_workers, unordered


def square(offset, item):
    return item * item + offset


def fail_at(bad, item):
    if item == bad:
        raise ValueError(f"item {item}")
    return item


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_item_comes_back_once_with_its_value(workers):
    found = dict(unordered(partial(square, 1), list(range(9)), workers))
    assert found == {item: item * item + 1 for item in range(9)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_ends_the_work_and_comes_through(workers):
    with pytest.raises(ValueError, match="item 3"):
        list(unordered(partial(fail_at, 3), list(range(50)), workers))


def fail_at_once(item):
    if item == 0:
        raise ValueError("item 0")
    time.sleep(0.2)
    return item


def test_what_is_under_way_beside_a_failure_is_still_reported():
    """Four items are handed out to two workers; the first fails while the second runs, and no fifth is begun."""
    seen = []
    with pytest.raises(ValueError, match="item 0"):
        seen.extend(item for item, _ in unordered(fail_at_once, list(range(50)), 2))
    assert sorted(seen) == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_work_has_one_thread_and_the_caller_keeps_its_own(workers):
    torch.set_num_threads(2)
    try:
        assert {threads for _, threads in unordered(_threads, [1, 2, 3], workers)} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def _threads(_):
    return torch.get_num_threads()


def test_workers_do_not_outlive_a_killed_parent():
    code = (
        "import time\nfrom gcwm_viz.engines.local import unordered\n"
        "print('ready', flush=True)\nlist(unordered(time.sleep, [60, 60, 60], 2))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        watched = psutil.Process(parent.pid)
        limit = time.monotonic() + 10
        while len(children := watched.children()) < 2 and time.monotonic() < limit:
            time.sleep(0.02)
        assert len(children) == 2
        os.kill(parent.pid, signal.SIGKILL)
        assert psutil.wait_procs(children, timeout=5)[1] == []


def test_one_worker_a_core_and_one_a_gpu():
    assert default_workers(torch.device("cpu")) >= 1
    assert default_workers(torch.device("cuda")) == 1
