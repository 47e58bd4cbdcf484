"""Final merges of several sequences over an engine: what is read once, what is written, what memory and disk permit."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual import final_work
from gcwm_viz.continual.branches import stored_tensors
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import final_bytes
from gcwm_viz.continual.final import final_merges, final_state
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.final_work import Sources, merge_finals
from gcwm_viz.continual.session import SupersededError, begin_session
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.merging.merge import MERGED
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from tests.continual.inputs import write_base, write_updates
from tests.counted import counted_work
from tests.factories import low_rank_updates

CPU = torch.device("cpu")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    updates = write_updates(tmp_path / "updates", "abc", absent=("b", "mlp.up_proj"))
    return Inputs(base=write_base(tmp_path / "base"), updates=updates)


def keys(inputs: Inputs) -> list[MatrixKey]:
    return target_matrices(CheckpointIndex.open(inputs.base))


def folder(out: Path, name: str, updates: str = "abc", **changes: Any) -> FinalFolder:
    return FinalFolder(out / name, tuple(updates), RunSettings.preset_with("scale-free", changes))


def merge(inputs: Inputs, out: Path, folders: Sequence[FinalFolder], engine: Engine, budget: int | None = None) -> None:
    out.mkdir(exist_ok=True)
    sources = Sources(str(inputs.base), tuple((name, str(path), 1.0) for name, path in inputs.updates))
    session = begin_session(out)
    merge_finals(out, session, folders, sources, keys(inputs), engine, lambda *_: None, budget)


def test_the_states_are_those_of_complete_runs(inputs: Inputs, tmp_path: Path) -> None:
    out, updates = tmp_path / "out", dict(inputs.updates)
    changes: list[tuple[str, dict[str, Any]]] = [("abc", {}), ("ca", {"memory": 1}), ("abc", {"decay": 0.5})]
    folders = [folder(out, str(place), names, **more) for place, (names, more) in enumerate(changes)]
    merge(inputs, out, folders, LocalEngine(CPU, 2))
    for place, (own, (names, more)) in enumerate(zip(folders, changes, strict=True)):
        listed = [(name, updates[name]) for name in names]
        settings = RunSettings.preset_with("scale-free", more)
        run = create_run(Inputs(base=inputs.base, updates=listed), tmp_path / f"run{place}", settings)
        continue_run(run, CPU, workers=1)
        for index, state in enumerate(own.states(keys(inputs), settings.continual)):
            assert state is not None
            assert torch.equal(dense(state), run.state(index, run.steps))


def test_a_matrix_is_read_and_its_updates_are_decomposed_once_for_all_sequences(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted_work(monkeypatch)
    out = tmp_path / "out"
    folders = [folder(out, names, names) for names in ("abc", "bc", "ac", "ab")]
    merge(inputs, out, folders, LocalEngine(CPU, 1))
    assert counts == {"read": 3 * 8, "decomposed": 3 * 8 - 2}  # b lacks one family in both layers
    merge(inputs, out, folders, LocalEngine(CPU, 1))
    assert counts["read"] == 3 * 8


class Watched(Engine):
    """Does the work here and keeps what it was asked for."""

    device, workers = "cpu", 4

    def unordered(
        self,
        work: Callable[[Worker, Any], Any],
        items: Sequence[Any],
        *,
        limit: int | None = None,
        memory: Callable[[Any], int] | None = None,
        overlap: bool = False,
    ) -> Iterator[tuple[Any, Any]]:
        assert memory is not None
        self.limit, self.needs = limit, [memory(item) for item in items]
        self.sizes = [key.parameters for _, key, _ in items]
        for item in items:
            yield item, work(Worker("one", CPU), item)


def test_the_largest_matrices_come_first_and_a_budget_limits_the_workers(inputs: Inputs, tmp_path: Path) -> None:
    engine = Watched()
    merge(inputs, tmp_path / "free", [folder(tmp_path / "free", "all")], engine)
    assert engine.sizes == sorted(engine.sizes, reverse=True)
    assert engine.limit is None
    need = max(engine.needs)
    for budget, limit in ((1, 1), (2 * need + 1, 2), (100 * need, 4)):
        out = tmp_path / str(budget)
        merge(inputs, out, [folder(out, "all")], engine, budget)
        assert engine.limit == limit


def test_a_device_that_is_too_small_gets_tiles_and_then_hands_the_matrix_to_the_cpu(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    def small_device(key: MatrixKey, *rest: Any) -> Any:
        attempts.append(key.name)
        if attempts.count(key.name) <= 3:
            raise torch.OutOfMemoryError("out of memory")
        return final_merges(key, *rest)

    monkeypatch.setattr(final_work, "final_merges", small_device)
    out = tmp_path / "out"
    own = folder(out, "all")
    merge(inputs, out, [own], LocalEngine(CPU, 1))
    assert len(attempts) == 4 * 8
    assert all(own.holds(index) for index in range(8))


def test_what_cannot_be_written_says_why(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    merge(inputs, out, [folder(out, "all")], LocalEngine(CPU, 1))
    with pytest.raises(InputError, match=r"other merges than its name says: settings.gcwm.tau was 0.5, is 0.2"):
        merge(inputs, out, [folder(out, "all", tau=0.2)], LocalEngine(CPU, 1))
    with pytest.raises(InputError, match="other merges than its name says: updates was"):
        merge(inputs, out, [folder(out, "all", "acb")], LocalEngine(CPU, 1))
    # η acts after the merge.
    merge(inputs, out, [folder(out, "all", eta=0.2)], LocalEngine(CPU, 1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(InputError, match="the merge needs"):
        merge(inputs, out, [folder(out, "other")], LocalEngine(CPU, 1))


def test_a_worker_of_an_earlier_session_does_not_write(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def taken_over(*arguments: Any) -> Any:
        begin_session(out)
        return final_merges(*arguments)

    monkeypatch.setattr(final_work, "final_merges", taken_over)
    own = folder(out, "all")
    with pytest.raises(SupersededError, match="taken over"):
        merge(inputs, out, [own], LocalEngine(CPU, 1))
    assert not any(own.holds(index) for index in range(8))


def test_merges_of_adapters_stay_factored_on_disk(tmp_path: Path) -> None:
    key = MatrixKey("model.layers.0.mlp.up_proj.weight", 0, "up_proj", (20, 12))
    deltas = low_rank_updates(3, *key.shape, rank=2)
    for name, change in (("constant", {"eta": 0.5}), ("decaying", {"decay": 0.5})):
        own = folder(tmp_path, name, "abc", **change)
        own.begin()
        merged = final_merges(key, own.updates, deltas, own.settings)
        own.write(0, key, {n: t for step, u in merged.items() for n, t in stored_tensors({MERGED: u}, step).items()})
        assert own.holds(0)
        assert not own.holds(1)
        state = own.state(0, key, own.settings.continual)
        assert isinstance(state, LowRank) == (name == "constant")
        assert torch.equal(dense(state), dense(final_state(key, own.updates, deltas, own.settings)))
        stored = 4 * sum(tensor.numel() for tensor in load_file(own.path / "00000.safetensors").values())
        # The estimate counts the rank of all updates at every step.
        assert final_bytes([key], 3, own.settings, [6]) == stored / ((2 + 4 + 6) / 18 if name == "decaying" else 1)
