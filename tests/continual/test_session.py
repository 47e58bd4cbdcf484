"""Sessions: a worker that outlived its driver does not write beside the driver that took over."""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import run_matrices
from gcwm_viz.continual.session import SupersededError, begin_session, writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.continual.work import work_matrix
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from tests.continual.inputs import write_base, write_updates

CPU = torch.device("cpu")
WORKER = Worker("one", CPU)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    inputs = Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "ab"))
    return create_run(inputs, tmp_path / "run", RunSettings())


class OneByOne(Engine):
    """Does the work here and keeps what it was asked for."""

    device, workers = "cpu", 1

    def unordered(
        self,
        work: Callable[[Worker, Any], Any],
        items: Sequence[Any],
        *,
        limit: int | None = None,
        memory: Callable[[Any], int] | None = None,
        overlap: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        self.asked = list(items)
        for item in items:
            yield item, work(WORKER, item)


def test_the_largest_matrices_are_begun_first_and_the_journal_says_who_did_them(store: RunStore) -> None:
    engine = OneByOne()
    with store.lock():
        run_matrices([store], engine)
    sizes = [store.keys[index].parameters for index in engine.asked]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1
    lines = [entry for entry in store.journal() if entry["event"] == "matrix"]
    assert [entry["index"] for entry in lines] == engine.asked
    assert {entry["worker"] for entry in lines} == {"one"}
    assert [entry["done"] for entry in lines] == list(range(1, len(store.keys) + 1))


def test_only_the_last_session_may_write(tmp_path: Path) -> None:
    first = begin_session(tmp_path)
    with writing(tmp_path, first):
        pass
    second = begin_session(tmp_path)
    with pytest.raises(SupersededError, match="taken over"), writing(tmp_path, first):
        raise AssertionError("not reached")
    with writing(tmp_path, second):
        pass


def test_a_new_session_waits_for_whoever_writes_and_says_who_keeps_it(tmp_path: Path) -> None:
    first = begin_session(tmp_path)
    with writing(tmp_path, first):
        with pytest.raises(InputError, match="a worker of an earlier session is still writing"):
            begin_session(tmp_path, patience=0.05)
        taken = []
        other = Thread(target=lambda: taken.append(begin_session(tmp_path)))
        other.start()
        other.join(0.2)
        assert taken == []
    other.join(10)
    with writing(tmp_path, taken[0]):
        pass


def test_a_writer_that_is_gone_keeps_nobody_waiting(tmp_path: Path) -> None:
    with (tmp_path / "session").open("a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
    assert begin_session(tmp_path, patience=0)


def test_an_orphan_computes_in_vain(store: RunStore) -> None:
    old = begin_session(store.path)
    begin_session(store.path)
    with pytest.raises(SupersededError):
        work_matrix(((store.path, old),), None, WORKER, 0)
    assert list((store.path / "matrices").iterdir()) == []


def test_what_a_dead_worker_left_complete_is_taken_and_what_it_left_torn_is_not(store: RunStore) -> None:
    session = begin_session(store.path)
    runs = ((store.path, session),)
    whole, torn = (store.path / "matrices" / f"0000{index}.safetensors" for index in (0, 1))
    for index in (0, 1):
        assert work_matrix(runs, None, WORKER, index).seconds[0] > 0
    content = torn.read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    before = whole.stat().st_ino
    continue_run(store, CPU, workers=1)  # neither is in the journal
    assert whole.stat().st_ino == before
    assert torn.read_bytes() == content
    seconds = store.seconds()
    assert seconds[0] != seconds[0], "how long it took is not known"
    assert seconds[1] > 0
    assert len(store.finished()) == len(store.keys)
