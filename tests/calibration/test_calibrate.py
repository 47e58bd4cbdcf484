"""Calibration of a whole run: its tables, what it reads, resuming, cancelling, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import gcwm_viz
from gcwm_viz.calibration import calibrate as module
from gcwm_viz.calibration.calibrate import calibrate
from gcwm_viz.calibration.fit import run_fit
from gcwm_viz.calibration.result import Calibrated, read_fitted
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes import tasks as tasks_module
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.lines import rows_of
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.tasks import load_tasks
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.runs.run import create_run
from gcwm_viz.runs.tables import columns, open_run
from tests.attribution.models import CPU, finish, write_inputs, write_states

SHORT = CalibrationSettings(passes=4, held_out=0.5)
FILES = ("fit.safetensors", "fitted.json", "values.json", *(f"tables/{n}.parquet" for n in ("calibration",
         "calibration_curve", "calibration_scores")))  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(dense_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(dense_run, tmp_path_factory.mktemp("calibrated") / "run"))
    calibrate(copy, SHORT)
    return copy


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_the_tables_are_the_documented_ones(calibrated: Path) -> None:
    run = open_run(calibrated)
    for name in ("calibration", "calibration_curve", "calibration_scores"):
        assert list(run.tables[name].columns) == list(columns(name))
        assert len(run.tables[name])
    table = run.tables["calibration"]
    sources = ["state", *run.updates]
    assert list(table["source"]) == sources * len(run.store.keys)
    absent = table["value"].isna()
    assert (table.loc[absent, "reason"] != "").all()
    assert absent.sum() == 3  # the second update touches one matrix fewer, the third two
    assert table.loc[~absent, "fitted"].all()
    moved = (table["value"] - (table["kind"] == "state")).abs()
    assert (moved[~absent] > 0).mean() > 0.9


def test_the_loss_falls_and_the_fit_says_what_it_saw(calibrated: Path) -> None:
    curve = open_run(calibrated).tables["calibration_curve"]
    assert list(curve["pass"]) == list(range(5))
    assert curve["fitted"].iloc[-1] < curve["fitted"].iloc[0]
    assert curve["kept"].sum() == 1
    fitted = read_fitted(calibrated / "calibration")
    assert fitted["probes"]["<b>odd"] == {"fitted": 2, "held_out": 2}
    assert fitted["probes"]["sums"] == {"fitted": 1, "held_out": 2}
    assert (fitted["sees"], fitted["passes"], fitted["stop"]) == ("development probes", 4, "passes")
    assert fitted["probes"]["names"] == {"fitted": 2, "held_out": 0}
    assert fitted["coefficients"] == 4 * len(open_run(calibrated).store.keys) - 3


def test_scores_are_those_of_the_merged_and_the_calibrated_model(calibrated: Path) -> None:
    store = RunStore.open(calibrated)
    table = open_run(calibrated).tables["calibration_scores"]
    own = Calibrated.of(store, CheckpointIndex.open(store.file.base.path))
    live = LiveModel(store, CPU)
    probe = BehaviourProbe(live.tokenizer, load_tasks(store.file.probes.path))
    live.set(("step", 3, store.updates[-1]))
    before = pd.DataFrame(probe.score(live.model))
    live.set_updates([own.update(place) for place in range(len(store.keys))])
    after = pd.DataFrame(probe.score(live.model))
    assert table["value"].tolist() == after["value"].tolist()
    assert table["merged_value"].tolist() == pytest.approx(before["value"].tolist(), rel=1e-12)
    assert set(table["split"]) == {"dev", "test"}
    assert table["difference"].to_numpy() == pytest.approx((table["value"] - table["merged_value"]).to_numpy())


def test_no_probe_of_test_is_read_before_the_fit_has_ended(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def watched(path: Path) -> Any:
        read.append(path.parent.name)
        return rows_of(path)

    at_end: list[str] = []

    def ending(*arguments: Any) -> Any:
        fitted = run_fit(*arguments)
        at_end.extend(read)
        return fitted

    def reopened(store: RunStore) -> Any:
        result = reopen_inputs(store)
        read.clear()  # it compares the fingerprint of every probe file, and looks for tasks of the harness
        return result

    monkeypatch.setattr(tasks_module, "rows_of", watched)
    monkeypatch.setattr(module, "reopen_inputs", reopened)
    monkeypatch.setattr(module, "run_fit", ending)
    calibrate(run, SHORT)
    assert set(at_end) == {"dev"}
    assert "test" in read


@pytest.mark.parametrize("held_out", [0.0, 0.5])
def test_the_coefficients_do_not_depend_on_the_test_split(tmp_path: Path, held_out: float) -> None:
    settings, found = CalibrationSettings(passes=3, held_out=held_out), []
    for name in ("one", "two"):
        inputs = write_inputs(tmp_path / name, size=2.0)
        if name == "two":
            assert inputs.probes is not None
            for file in (inputs.probes / "test").glob("*.jsonl"):
                file.write_text(json.dumps({"prompt": "zz", "answer": "q"}))
        store = finish(inputs, tmp_path / name / "run")
        calibrate(store.path, settings)
        found.append((store.path / "calibration" / "fit.safetensors").read_bytes())
    assert found[0] == found[1]


def test_a_second_call_computes_nothing(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(calibrated / "calibration")
    monkeypatch.setattr(module, "LiveModel", lambda *_: pytest.fail("a model was loaded"))
    table = calibrate(calibrated, SHORT)
    assert len(table)
    assert contents(calibrated / "calibration") == before


def test_a_cancelled_calibration_goes_on_to_the_same_bytes(calibrated: Path, run: Path) -> None:
    folder = run / "calibration"

    def cancel(phase: str, done: int, total: int, label: str) -> None:
        if phase == "passes" and done == 2:
            WorkFolder(folder).request_cancel()

    with pytest.raises(WorkCancelledError):
        calibrate(run, SHORT, progress=cancel)
    assert not (folder / "fitted.json").exists()
    assert not (folder / "tables").exists()
    assert open_run(run).tables["calibration"].empty
    assert not list(folder.rglob("*.partial"))
    calibrate(run, SHORT)
    assert contents(folder) == contents(calibrated / "calibration")


def test_more_passes_go_on(calibrated: Path, run: Path) -> None:
    calibrate(run, replace(SHORT, passes=2))
    starts: list[int] = []
    calibrate(run, SHORT, progress=lambda phase, done, *_: starts.append(done) if phase == "passes" else None)
    assert starts == [3, 4]
    assert contents(run / "calibration") == contents(calibrated / "calibration")
    calibrate(run, replace(SHORT, passes=2))  # and fewer begin again
    assert list(open_run(run).tables["calibration_curve"]["pass"]) == [0, 1, 2]


def test_other_settings_are_refused(calibrated: Path) -> None:
    with pytest.raises(InputError, match="holds a calibration with another per: 'matrix', not 'layer'; give its"):
        calibrate(calibrated, replace(SHORT, per="layer"))


def test_another_folder_leaves_the_runs_own_alone(calibrated: Path, tmp_path: Path) -> None:
    before = contents(calibrated / "calibration")
    calibrate(calibrated, replace(SHORT, objective="entropy"), tmp_path / "entropy")
    assert contents(calibrated / "calibration") == before
    assert "without answers" in read_fitted(tmp_path / "entropy")["sees"]


def test_the_state_alone(run: Path) -> None:
    calibrate(run, replace(SHORT, sources="state"))
    table = open_run(run).tables["calibration"].dropna(subset="value")
    assert (table["fitted"] == (table["kind"] == "state")).all()
    assert (table.loc[table["kind"] == "update", "value"] == 0).all()


def test_a_run_at_strengths_takes_its_updates_at_them(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, size=2.0)
    inputs = replace(inputs, strengths={"names": 0.5})
    store = finish(inputs, tmp_path / "run")
    calibrate(store.path, SHORT)
    own = Calibrated.of(store, CheckpointIndex.open(store.file.base.path))
    base = CheckpointIndex.open(store.file.base.path)
    deltas = [entry.open(base).delta(store.keys[2]) for entry in store.file.updates]
    factors = own.factors[store.keys[2].name]
    expected = factors[0] * store.state(2, 3).double()
    for factor, delta in zip(factors[1:], deltas, strict=True):
        assert isinstance(delta, torch.Tensor)
        expected = expected + factor * delta.double()
    found = own.update(2)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)  # float32 sums of numbers of about 1


def test_half_precision_fits_the_same_coefficients_nearly(calibrated: Path, run: Path) -> None:
    calibrate(run, SHORT, precision="bfloat16")
    half, whole = (open_run(path).tables["calibration"]["value"].dropna() for path in (run, calibrated))
    assert not half.equals(whole)
    # Four of Adam's steps of 0.03 each; their signs agree where the gradient is beyond bfloat16's rounding.
    assert ((half - whole).abs() < 0.06).mean() > 0.8


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, run: Path) -> None:
    inputs = write_inputs(tmp_path / "in", size=2.0)
    with pytest.raises(InputError, match="is not finished"):
        calibrate(create_run(inputs, tmp_path / "new", RunStore.open(run).settings).path)
    without = finish(replace(inputs, probes=None), tmp_path / "without")
    with pytest.raises(InputError, match="has no probes to calibrate on; `gcwm-viz score"):
        calibrate(without.path)
    states = finish(replace(inputs, states=write_states(tmp_path / "in", inputs)), tmp_path / "states")
    with pytest.raises(InputError, match="describes a training pipeline: there is no merge to calibrate"):
        calibrate(states.path)
    assert inputs.probes is not None
    shutil.rmtree(inputs.probes / "dev")
    tested = finish(inputs, tmp_path / "tested")
    with pytest.raises(InputError, match=r"expected development probes dev/NAME.jsonl to calibrate on, found none"):
        calibrate(tested.path)
    with pytest.raises(InputError, match="precision must be one of float32, bfloat16, got 'int8'"):
        calibrate(run, precision="int8")


def test_scores_by_other_probes_delete_it(run: Path, tmp_path: Path) -> None:
    calibrate(run, replace(SHORT, passes=1))
    assert main(["score", str(run), "--replace", "--device", "cpu", "--workers", "1"]) == 0
    assert not (run / "calibration").exists()


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(run), "--passes", "2", "--device", "cpu", "--per", "family"]) == 0
    printed = capsys.readouterr().out
    assert "the fit saw development probes" in printed
    assert "the fit saw none of it" in printed
    assert "the fit ended because its passes were used up" in printed
    assert main(["calibrate", str(run), "--held-out", "1.5", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gcwm_viz: setting held_out must be")
    assert error.count("\n") == 1


def test_it_is_public(run: Path) -> None:
    table = gcwm_viz.calibrate(run, gcwm_viz.CalibrationSettings(passes=1))
    assert set(table["model"]) == {"calibrated"}
