"""Runs in little memory: fewer workers, tiles of rows, the CPU where a device is too small, one step kept."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz import open_run
from gcwm_viz.continual import work
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import estimate, memory_of
from gcwm_viz.continual.result import MatrixResult, process_matrix
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.merging.tiles import tile_bytes, tile_rows
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.updates.matrices import MatrixKey
from tests.continual.inputs import write_base, write_updates

CPU = torch.device("cpu")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "abc"))


def create(inputs: Inputs, out: Path, **overrides: str) -> RunStore:
    return create_run(inputs, out, RunSettings.preset_with("paper", {"iters": 5} | overrides))


def test_tiles_hold_five_arrays_within_the_limit() -> None:
    assert tile_rows(100) is None
    with tile_bytes(5000):
        assert tile_rows(100) == 10
        with tile_bytes(1):
            assert tile_rows(100) == 1
    assert tile_rows(100) is None


def test_a_budget_limits_workers_and_tiles_and_leaves_the_result(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create(inputs, tmp_path / "free")
    continue_run(store, CPU, workers=1)
    seen = []

    def unordered(
        self: LocalEngine,
        task: Callable[[Worker, int], Any],
        items: Iterable[Any],
        *,
        limit: int | None = None,
        memory: Callable[[Any], int] | None = None,
        overlap: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        if memory is not None:
            seen.append(limit)
        return map_items(task, items)

    monkeypatch.setattr(LocalEngine, "unordered", unordered)
    need = max(memory_of(key.shape, 3, store.settings) for key in store.keys)
    for budget in (1000, 2 * need + 1, 100 * need):
        small = create(inputs, tmp_path / str(budget))
        continue_run(small, CPU, workers=4, memory_budget=budget)
        for index in range(len(store.keys)):
            ours, whole = small.branches(index, 3), store.branches(index, 3)
            torch.testing.assert_close(ours.updates["plain"], whole.updates["plain"], rtol=0, atol=1e-8)
            torch.testing.assert_close(ours.updates["geo"], whole.updates["geo"], rtol=0, atol=1e-7)
    assert seen == [1, 2, 4]


def map_items(task: Callable[[Worker, Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for item in items:
        yield item, task(Worker("one", CPU), item)


def test_a_device_that_is_too_small_gets_tiles_and_then_hands_the_matrix_to_the_cpu(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = process_matrix
    attempts: list[str] = []

    def small_device(key: MatrixKey, *rest: Any) -> MatrixResult:
        attempts.append(key.name)
        if ("up_proj" in key.name and attempts.count(key.name) <= 3) or ("q_proj" in key.name and len(attempts) < 3):
            raise torch.OutOfMemoryError("out of memory")
        return genuine(key, *rest)

    monkeypatch.setattr(work, "process_matrix", small_device)
    store = create(inputs, tmp_path / "run")
    continue_run(store, CPU, workers=1)
    assert sorted(store.finished()) == list(range(len(store.keys)))
    rows = open_run(tmp_path / "run").tables["matrices"]
    handed = rows[rows["reason"].str.contains("on the CPU")]
    assert set(handed["family"]) == {"up_proj"}
    assert handed["conflict"].notna().all()


def test_where_nothing_has_the_memory_the_matrix_is_named_and_the_others_are_kept(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = process_matrix

    def no_memory(key: MatrixKey, *rest: Any) -> MatrixResult:
        if "v_proj" in key.name:
            raise torch.OutOfMemoryError("out of memory")
        return genuine(key, *rest)

    monkeypatch.setattr(work, "process_matrix", no_memory)
    store = create(inputs, tmp_path / "run")
    with pytest.raises(InputError, match=r"v_proj.*memory"):
        continue_run(store, CPU, workers=1)
    assert len(store.finished()) >= 1
    monkeypatch.setattr(work, "process_matrix", genuine)
    continue_run(store, CPU, workers=1)
    assert len(store.finished()) == len(store.keys)


def test_keeping_the_last_step_alone_gives_the_same_end_and_refuses_the_others(inputs: Inputs, tmp_path: Path) -> None:
    every, last = create(inputs, tmp_path / "all"), create(inputs, tmp_path / "last", keep="last")
    for store in (every, last):
        continue_run(store, CPU, workers=1)
    assert torch.equal(last.state(0, 3), every.state(0, 3))
    assert (
        open_run(last.path)
        .tables["matrices"]
        .equals(
            open_run(every.path).tables["matrices"].assign(seconds=open_run(last.path).tables["matrices"]["seconds"])
        )
    )
    with pytest.raises(InputError, match=r"keep=last.*expected step 3, found 2"):
        last.state(0, 2)
    one, other = (estimate(store.keys, 3, store.settings, CPU).disk_bytes for store in (last, every))
    assert other == 3 * one


def test_a_decaying_eta_needs_every_step() -> None:
    with pytest.raises(InputError, match="keep must be all where η decays"):
        RunSettings.preset_with("paper", {"keep": "last", "decay": 0.5})
    with pytest.raises(InputError, match="keep must be one of all, last"):
        RunSettings.preset_with("paper", {"keep": "some"})
