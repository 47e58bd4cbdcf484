"""A sweep is its points: every one the bytes of an ordinary run, what they share computed once."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.studies.sweep import sweep, sweep_runs
from tests.continual.inputs import write_base, write_updates
from tests.counted import counted_work
from tests.torture.small import contents, write_inputs

CPU = torch.device("cpu")
GRID = {"policy": ["all_history", "current_anchor"]}


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    updates = write_updates(tmp_path / "updates", "abc", absent=("b", "mlp.up_proj"))
    return Inputs(base=write_base(tmp_path / "base"), updates=updates)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_point_has_the_bytes_of_an_ordinary_run(inputs: Inputs, tmp_path: Path, workers: int) -> None:
    points = sweep_runs("abc", ["gcwm", "opcm"], GRID, orders=2)
    table = sweep(inputs, tmp_path / "sweep", points, LocalEngine(CPU, workers))
    assert list(table["run"]) == [point.name for point in points]
    assert len(table) == 8
    folders = dict(inputs.updates)
    for point in points[::3]:
        own = Inputs(base=inputs.base, updates=[(name, folders[name]) for name in point.order])
        store = create_run(own, tmp_path / "alone" / point.name, point.settings)
        continue_run(store, CPU, workers=1)
        assert contents(tmp_path / "sweep" / point.name) == contents(store.path)
        assert RunStore.open(tmp_path / "sweep" / point.name).status() == "complete"


def test_a_matrix_is_read_and_its_updates_are_decomposed_once_for_all_points(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted_work(monkeypatch)
    present = 3 * 8 - 2  # b lacks one of four families in both layers
    points = sweep_runs("abc", ["gcwm", "wudi"], {"eta": [0.5, 1.0]}, orders=3)
    assert len(points) == 12
    sweep(inputs, tmp_path / "sweep", points, LocalEngine(CPU, 1))
    assert counts == {"read": 3 * 8 + present, "decomposed": present}, "once to merge, once for the table of updates"
    sweep(inputs, tmp_path / "ranks", sweep_runs("abc", ["gcwm"], {"rank": [2, 40]}), LocalEngine(CPU, 1))
    assert counts["decomposed"] == 3 * present, "rank 40 asks for other subspaces than rank 2 with analysis rank 32"


def test_it_goes_on_where_it_was_cancelled_and_takes_new_points(inputs: Inputs, tmp_path: Path) -> None:
    out, engine = tmp_path / "sweep", LocalEngine(CPU, 1)
    points = sweep_runs("abc", ["gcwm"], {"eta": [0.5, 1.0]})

    def cancel(phase: str, done: int, total: int, label: str) -> None:
        if done == 6:
            RunStore.open(out / points[1].name).request_cancel()

    with pytest.raises(WorkCancelledError):
        sweep(inputs, out, points, engine, progress=cancel)
    stores = [RunStore.open(out / point.name) for point in points]
    assert [len(store.finished()) for store in stores] == [3, 3]
    assert [store.status() for store in stores] == ["interrupted", "interrupted"]
    more = sweep_runs("abc", ["gcwm"], {"eta": [0.5, 1.0, 1.2]})
    steps = []
    table = sweep(inputs, out, more, engine, progress=lambda *step: steps.append(step[:3]))
    assert list(table["eta"]) == [0.5, 1.0, 1.2]
    assert pd.read_parquet(out / "tables" / "sweep.parquet").equals(table)
    assert [step for step in steps if step[0] == "matrices"][-1] == ("matrices", 24, 24)
    assert [step for step in steps if step[0] == "points"] == [("points", n, 3) for n in (1, 2, 3)]
    lines = [entry["index"] for entry in stores[0].journal() if entry["event"] == "matrix"]
    assert sorted(lines) == list(range(8)), "no matrix twice"


@pytest.mark.parametrize("phase", ["matrices", "points"])
def test_a_stop_of_the_whole_sweep(inputs: Inputs, tmp_path: Path, phase: str) -> None:
    out, engine = tmp_path / "sweep", LocalEngine(CPU, 1)
    runs = sweep_runs("abc", ["gcwm"], {"eta": [0.5, 1.0]})

    def cancel(at: str, done: int, total: int, label: str) -> None:
        if (at, done) == (phase, {"matrices": 6, "points": 1}[phase]):
            WorkFolder(out).request_cancel()

    with pytest.raises(WorkCancelledError, match="the same command goes on"):
        sweep(inputs, out, runs, engine, progress=cancel)
    assert WorkFolder(out).status() == "interrupted"
    assert len(sweep(inputs, out, runs, engine)) == 2
    assert WorkFolder(out).status() == "complete"
    for run in runs:
        lines = [entry["index"] for entry in RunStore.open(out / run.name).journal() if entry["event"] == "matrix"]
        assert sorted(lines) == list(range(8)), "no matrix twice"


def test_a_foreign_folder_and_points_that_are_others_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    engine, out = LocalEngine(CPU, 1), tmp_path / "sweep"
    points = sweep_runs("abc", ["gcwm"], {})
    sweep(inputs, out, points, engine)
    fewer = Inputs(base=inputs.base, updates=inputs.updates[:2])
    with pytest.raises(InputError, match="a sweep of another updates"):
        sweep(fewer, out, sweep_runs("ab", ["gcwm"], {}), engine)
    with pytest.raises(InputError, match="other settings, order or probes than its name says"):
        sweep(inputs, out, sweep_runs("abc", ["gcwm"], {}, preset="paper"), engine)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="already exists and is not empty"):
        sweep(inputs, tmp_path / "full", points, engine)


def test_points_are_a_product_and_faults_are_told() -> None:
    points = sweep_runs("abc", ["gcwm", "wudi"], {"eta": [1, 2], "memory": [None, 2]}, orders=2)
    assert len({point.name for point in points}) == len(points) == 16
    assert points[0].name == "gcwm,order=1,eta=1,memory=none"
    assert points[-1].settings == RunSettings.preset_with("scale-free", {"eta": 2, "memory": 2}, "wudi")
    for methods, grid, sentence in (
        (["gcwm", "gcwm"], {}, "every method once"),
        (["gcwm"], {"eta": [1, 1]}, "every eta once"),
        (["gcwm"], {"eta": []}, "every eta once, got none"),
        (["gcwm"], {"nothing": [1]}, "unknown setting 'nothing'"),
        (["none"], {}, "none"),
    ):
        with pytest.raises(InputError, match=sentence):
            sweep_runs("abc", methods, grid)


def test_the_command_scores_every_point_and_shares_what_does_not_depend_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_inputs(tmp_path / "inputs")
    options = ["--set", "eta=0.5,1", "--workers", "1", "--out", str(tmp_path / "sweep")]
    assert main(["sweep", *arguments, *options]) == 0
    text = capsys.readouterr().out
    assert "test_overall" in text
    for name, probes in (("gcwm,order=1,eta=0.5", 7 + 4), ("gcwm,order=1,eta=1", 3 + 4)):
        assert name in text
        alone = tmp_path / "alone" / name
        assert main(["run", *arguments, "--set", name.split(",")[-1], "--workers", "1", "--out", str(alone)]) == 0
        assert contents(tmp_path / "sweep" / name) == contents(alone)
        events = [entry["event"] for entry in RunStore.open(tmp_path / "sweep" / name).journal()]
        assert events.count("probe") == probes, (
            "base and experts are scored once, states and other strengths every time"
        )
