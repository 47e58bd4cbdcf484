"""Work over local processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from threading import current_thread
from types import ModuleType
from typing import Any

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from gcwm_viz.engines import local
from gcwm_viz.engines.engine import Worker
from gcwm_viz.engines.local import LocalEngine, default_workers, local_devices, unordered


def square(offset: int, item: int) -> int:
    return item * item + offset


def fail_at(bad: int, item: int) -> int:
    if item == bad:
        raise ValueError(f"item {item}")
    return item


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_item_comes_back_once_with_its_value(workers: int) -> None:
    found = dict(unordered(partial(square, 1), list(range(9)), workers))
    assert found == {item: item * item + 1 for item in range(9)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_ends_the_work_and_comes_through(workers: int) -> None:
    with pytest.raises(ValueError, match="item 3"):
        list(unordered(partial(fail_at, 3), list(range(50)), workers))


def fail_at_once(item: int) -> int:
    if item == 0:
        raise ValueError("item 0")
    time.sleep(0.2)
    return item


def test_what_is_under_way_beside_a_failure_is_still_reported() -> None:
    """Four items are handed out to two workers; the first fails while the second runs, and no fifth is begun."""
    seen: list[Any] = []
    with pytest.raises(ValueError, match="item 0"):
        seen.extend(item for item, _ in unordered(fail_at_once, list(range(50)), 2))
    assert sorted(seen) == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_work_has_one_thread_and_the_caller_keeps_its_own(workers: int) -> None:
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2, user_api="blas"):
            before = _threads(0)
            assert before[0] == 2
            assert len(before) >= 2, "at least one BLAS of NumPy or SciPy"
            for _, threads in unordered(_threads, [1, 2, 3], workers):
                assert set(threads) == {1}
            assert _threads(0) == before
    finally:
        torch.set_num_threads(1)


def _threads(_: int) -> list[int]:
    """Of torch, and of each BLAS library in this process."""
    return [torch.get_num_threads(), *(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")]


def test_workers_do_not_outlive_a_killed_parent() -> None:
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


def test_one_worker_a_core_and_one_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_workers(torch.device("cpu")) == len(os.sched_getaffinity(0))
    assert default_workers(torch.device("cuda:1")) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert LocalEngine(torch.device("cuda")).workers == 3
    assert LocalEngine(torch.device("cuda")).device == "cuda"
    assert LocalEngine(torch.device("cuda:1")).workers == 1
    assert LocalEngine(torch.device("cuda"), workers=5).workers == 5
    assert local_devices(torch.device("cuda")) == [torch.device("cuda", index) for index in range(3)]
    assert local_devices(torch.device("cuda:1")) == [torch.device("cuda:1")]


def whoami(worker: Worker, item: int) -> tuple[str, str, int]:
    time.sleep(0.3)  # long enough that every worker gets one
    torch.ones(1, device=worker.device)
    return worker.name, str(worker.device), os.getpid()


@pytest.mark.parametrize(("workers", "names"), [(2, "01"), (3, "010"), (1, "0")])
def test_every_worker_keeps_a_device_of_its_own_and_they_are_dealt_out_in_turn(
    workers: int, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices, both of them the CPU by another name."""
    devices = [torch.device("cpu", 0), torch.device("cpu", 1)]
    monkeypatch.setattr("gcwm_viz.engines.local.local_devices", lambda device: devices)
    engine = LocalEngine(torch.device("cpu"), workers)
    found = [value for _, value in engine.unordered(whoami, range(2 * workers))]
    wanted = {f"process {place + 1} on cpu:{device}" for place, device in enumerate(names)}
    assert {name for name, _, _ in found} == wanted
    assert all(name.endswith(device) for name, device, _ in found)
    assert len({(name, pid) for name, _, pid in found}) == workers, "a process has one name"


def test_with_a_gpu_the_processes_are_started_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's state does not survive a fork; ``meta`` stands for one, it needs no hardware."""
    monkeypatch.setattr("gcwm_viz.engines.local.local_devices", lambda device: [torch.device("meta", 0)] * 2)
    # A spawned process runs the main module once more; tests of pages leave a page of theirs in its place.
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    engine = LocalEngine(torch.device("meta"), 2)
    assert dict(engine.unordered(start_method, [1, 2])) == {1: "spawn", 2: "spawn"}


def start_method(worker: Worker, item: int) -> str | None:
    return multiprocessing.get_start_method() if worker.device.type == "meta" else None


def taken_in_turn(seen: list[tuple[str, int]], item: int) -> tuple[str, str]:
    """Each item is read, computed in its turn and written."""
    worker = local._this.worker
    time.sleep(0.05)
    seen.append(("read", item))
    with worker.turn:
        seen.append(("begin", item))
        time.sleep(0.1)
        seen.append(("end", item))
    return worker.name, current_thread().name


def test_in_lanes_one_item_is_computed_at_a_time_while_the_next_is_read() -> None:
    seen: list[tuple[str, int]] = []
    found = dict(local.unordered(partial(taken_in_turn, seen), list(range(6)), 1, lanes=2))
    assert sorted(found) == list(range(6))
    assert {name for name, _ in found.values()} == {"process 1 on cpu"}
    assert len({thread for _, thread in found.values()}) == 2
    computing = [entry for entry in seen if entry[0] != "read"]
    assert [kind for kind, _ in computing] == ["begin", "end"] * 6
    assert all(computing[at][1] == computing[at + 1][1] for at in range(0, 12, 2)), "no two at a time"
    before = {at: [kind for kind, _ in seen[:at] if kind != "read"][-1:] for at in range(len(seen))}
    inside = sum(kind == "read" and before[at] == ["begin"] for at, (kind, _) in enumerate(seen))
    assert inside >= 3, "items are read while another is computed"


def test_a_failure_in_a_lane_comes_through_and_what_is_beside_it_is_reported() -> None:
    seen: list[Any] = []
    with pytest.raises(ValueError, match="item 0"):
        seen.extend(item for item, _ in local.unordered(fail_at_once, list(range(50)), 1, lanes=2))
    assert sorted(seen) == [1, 2, 3]


def test_a_limit_holds_fewer_workers_at_a_time() -> None:
    engine = LocalEngine(torch.device("cpu"), 4)
    assert len({value for _, value in engine.unordered(whoami, range(4), limit=2)}) == 2
