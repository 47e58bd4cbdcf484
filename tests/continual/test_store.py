"""The run folder: commits, journal, lock, resume."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gcwm_viz import open_run
from gcwm_viz.continual import work
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.folder import WorkCancelledError
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import columns
from tests.continual.inputs import FAMILIES, LAYERS, matrix_names, write_base, write_updates
from tests.rounding import rounding

CPU = torch.device("cpu")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "abc"))


def finish(inputs: Inputs, out: Path, **overrides: float) -> RunStore:
    store = create_run(inputs, out, RunSettings.preset_with("scale-free", overrides))
    continue_run(store, CPU, workers=1)
    return store


def contents(run: Path) -> dict[str, bytes]:
    """Everything that must not depend on how often a run was interrupted."""
    return {
        str(file.relative_to(run)): file.read_bytes()
        for folder in ("tables", "matrices")
        for file in sorted((run / folder).iterdir())
    }


def test_tables_have_exactly_the_documented_columns(inputs: Inputs, tmp_path: Path) -> None:
    finish(inputs, tmp_path / "run")
    run = open_run(tmp_path / "run")
    for name in ("matrices", "pairs", "spectra", "barycenter", "solver", "steps", "updates"):
        stored = pd.read_parquet(tmp_path / "run" / "tables" / f"{name}.parquet")
        # Two columns are read from the journal and from run.json.
        documented = set(columns(name)) - {"matrices": {"seconds"}, "updates": {"strength"}}.get(name, set())
        assert set(stored.columns) == documented, name
        assert list(run.tables[name].columns) == list(columns(name))
    matrices = run.tables["matrices"]
    assert len(matrices) == 3 * LAYERS * len(FAMILIES)
    assert list(matrices["matrix"][: LAYERS * len(FAMILIES)]) == matrix_names()
    assert (matrices["seconds"] > 0).all()
    assert run.status == "complete"


def test_steps_are_means_over_matrices(inputs: Inputs, tmp_path: Path) -> None:
    finish(inputs, tmp_path / "run")
    tables = open_run(tmp_path / "run").tables
    for column in ("conflict", "global_gap", "state_norm"):
        means = tables["matrices"].groupby("step")[column].mean()
        np.testing.assert_allclose(tables["steps"].set_index("step")[column], means, rtol=rounding(len(matrix_names())))
    assert np.isnan(tables["steps"]["active_conflict"][0])


def test_states_read_back_equal_the_recorded_norms(inputs: Inputs, tmp_path: Path) -> None:
    store = finish(inputs, tmp_path / "run", decay=0.5, eta=0.8)
    rows = open_run(tmp_path / "run").tables["matrices"]
    for index, key in enumerate(store.keys):
        recorded = rows[rows["matrix"] == key.name].sort_values("step")["state_norm"]
        norms = [float(store.state(index, step).double().norm()) for step in (1, 2, 3)]
        np.testing.assert_allclose(norms, recorded, rtol=rounding(math.prod(key.shape)))


def test_a_run_stopped_after_any_matrix_resumes_to_the_same_bytes(inputs: Inputs, tmp_path: Path) -> None:
    finish(inputs, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    store = create_run(inputs, tmp_path / "run", RunSettings())

    def stop(phase: str, done: int, total: int, label: str) -> None:
        raise KeyboardInterrupt

    for _ in range(LAYERS * len(FAMILIES)):
        with pytest.raises(KeyboardInterrupt):
            continue_run(RunStore.open(store.path), CPU, progress=stop, workers=1)
    continue_run(RunStore.open(store.path), CPU, workers=1)
    assert contents(store.path) == expected
    events = [entry["event"] for entry in store.journal()]
    assert events.count("matrix") == LAYERS * len(FAMILIES)


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(inputs: Inputs, tmp_path: Path, workers: int) -> None:
    finish(inputs, tmp_path / "alone")
    store = create_run(inputs, tmp_path / "shared", RunSettings())
    continue_run(store, CPU, workers=workers)
    assert contents(store.path) == contents(tmp_path / "alone")


def test_a_worker_that_dies_is_reported_and_resume_goes_on(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(inputs, tmp_path / "whole")
    store = create_run(inputs, tmp_path / "run", RunSettings())
    monkeypatch.setattr(work, "process_matrix", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RuntimeError, match="a worker process died"):
        continue_run(store, CPU, workers=2)
    monkeypatch.undo()
    continue_run(store, CPU, workers=2)
    assert contents(store.path) == contents(tmp_path / "whole")


def _work(path: Path) -> None:
    torch.set_num_threads(1)
    continue_run(RunStore.open(path), CPU)


def test_a_killed_process_leaves_a_run_that_resumes_to_the_same_bytes(inputs: Inputs, tmp_path: Path) -> None:
    finish(inputs, tmp_path / "whole")
    store = create_run(inputs, tmp_path / "run", RunSettings())
    context = multiprocessing.get_context("fork")
    killed = 0
    for delay in (0.01, 0.03, 0.06, 0.1):
        process = context.Process(target=_work, args=(store.path,))
        process.start()
        time.sleep(delay)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
    assert killed
    continue_run(RunStore.open(store.path), CPU)
    assert contents(store.path) == contents(tmp_path / "whole")


def test_half_a_journal_line_is_left_out_and_stays_alone(inputs: Inputs, tmp_path: Path) -> None:
    store = finish(inputs, tmp_path / "run")
    whole = store.journal()
    with (store.path / "journal.jsonl").open("ab") as handle:
        handle.write(b'{"event": "matr')
    assert store.journal() == whole
    store.log("start")
    assert [entry["event"] for entry in store.journal()] == [entry["event"] for entry in whole] + ["start"]


def test_a_matrix_listed_but_lost_is_computed_again(inputs: Inputs, tmp_path: Path) -> None:
    store = finish(inputs, tmp_path / "run")
    before = contents(store.path)
    (store.path / "matrices" / "00002.safetensors").unlink()
    continue_run(RunStore.open(store.path), CPU)
    assert contents(store.path) == before


def test_second_writer_is_told_who_holds_the_run(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())
    with store.lock():
        assert RunStore.open(store.path).status() == "running"
        code = (
            "from pathlib import Path; import torch; from gcwm_viz.runs.run import *; "
            f"continue_run(RunStore.open(Path({str(store.path)!r})), torch.device('cpu'))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()}" in result.stderr
    assert RunStore.open(store.path).status() == "interrupted"


def test_cancel_stops_at_the_next_matrix_and_resume_finishes(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())

    def cancel(phase: str, done: int, total: int, label: str) -> None:
        if done == 3:
            store.request_cancel()

    with pytest.raises(WorkCancelledError, match="resume"):
        continue_run(store, CPU, progress=cancel, workers=1)
    assert len(store.finished()) == 3
    continue_run(store, CPU)
    assert store.status() == "complete"


def test_changed_inputs_are_refused_by_name(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())
    write_updates(tmp_path / "other", "xb")
    (tmp_path / "updates" / "b" / "update.safetensors").write_bytes(
        (tmp_path / "other" / "x" / "update.safetensors").read_bytes()
    )
    with pytest.raises(InputError, match=r"updates/b: b has changed since run .*run started"):
        continue_run(store, CPU)


def test_existing_output_is_refused_and_left_alone(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())
    with pytest.raises(InputError, match="already exists and is not empty; use resume"):
        create_run(inputs, store.path, RunSettings())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="already exists and is not empty"):
        create_run(inputs, tmp_path / "mine", RunSettings())
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    with pytest.raises(InputError, match="lies inside the input"):
        create_run(inputs, tmp_path / "base" / "run", RunSettings())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"format": "gcwm_viz.run", "schema": 99}', "schema 99; this version reads schema 1"),
        ('{"format": "gcwm_viz.run", "schema": 1}', "lacks or garbles"),
    ],
)
def test_folders_that_are_not_runs_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"it has no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_run(tmp_path)


def test_a_table_that_was_not_written_yet_is_empty_with_its_columns(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())
    run = open_run(store.path)
    assert run.status == "interrupted"
    assert run.tables["scores"].empty
    assert list(run.tables["matrices"].columns) == list(columns("matrices"))
    with pytest.raises(KeyError):
        run.tables["score"]


def test_a_broken_table_is_named(inputs: Inputs, tmp_path: Path) -> None:
    store = finish(inputs, tmp_path / "run")
    (store.path / "tables" / "steps.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match=r"steps\.parquet is not a readable table"):
        open_run(store.path).tables["steps"]


def test_outside_share_reports_what_is_ignored(inputs: Inputs, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = tmp_path / "updates" / "a" / "update.safetensors"
    tensors = load_file(file)
    norm = sum(float(tensor.double().square().sum()) for tensor in tensors.values()) ** 0.5
    tensors["model.embed_tokens.weight"] = torch.zeros(30, 12)
    tensors["model.embed_tokens.weight"][0, 0] = norm
    save_file(tensors, file, metadata={"gcwm_viz": "update"})
    finish(inputs, tmp_path / "run")
    row = open_run(tmp_path / "run").tables["updates"].iloc[0]
    assert row["outside_share"] == pytest.approx(0.5, rel=1e-6)
    assert row["target_norm"] == pytest.approx(norm, rel=1e-6)


def test_run_json_is_readable_by_others(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())
    info = json.loads((store.path / "run.json").read_text())
    assert [update["name"] for update in info["updates"]] == ["a", "b", "c"]
    assert info["settings"]["gcwm"]["solver"] == "exact"
    assert len(info["matrices"]) == len(matrix_names())
