"""Plans of a run, merged and scored: the same numbers as those of complete runs, kept and resumed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide import plans
from gcwm_viz.decide.plans import PURPOSE, measure, measure_live, name_of, outlook_of, search, worth, write_plans
from gcwm_viz.decide.predict import predict
from gcwm_viz.decide.search import WORTH
from gcwm_viz.errors import InputError
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.tables import columns, open_run
from gcwm_viz.studies.leave_one_out import check_scorable, leave_one_out
from tests.decide.conftest import CPU
from tests.factories_forecast import forecasts
from tests.torture.small import NAMES, contents

ALL = dict.fromkeys(NAMES, 1.0)
KEY = ["task", "split", "metric"]


def measured(run: Path, *wanted: dict[str, float]) -> pd.DataFrame:
    return measure(run, wanted, on=CPU, workers=1)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index(KEY)[["value", "se", "n"]].sort_index()


def of_step(run: Path, step: int) -> pd.DataFrame:
    table = open_run(run).tables["scores"]
    return scores(table[(table["model"] == "step") & (table["step"] == step)])


@pytest.mark.parametrize(("method", "settings"), [("wudi", {}), ("wudi", {"eta": 0.5}), ("gcwm", {}), ("ties", {})])
def test_everything_scores_what_the_run_stored_for_its_last_step(
    tiny_run: Callable[..., Path], tmp_path: Path, method: str, settings: dict[str, Any]
) -> None:
    run = Path(shutil.copytree(tiny_run(method, **settings), tmp_path / "run"))
    table = measured(run, ALL)
    pd.testing.assert_frame_equal(scores(table), of_step(run, 3), check_exact=True)
    assert list(table.columns) == list(columns("plans"))
    pd.testing.assert_frame_equal(open_run(run).tables["plans"], table)
    assert not (run / "plans" / "merges").exists()


def test_everything_but_one_scores_what_leave_one_out_does(run: Path) -> None:
    left = leave_one_out(run, on=CPU, workers=1)
    table = measured(run, *({n: 1.0 for n in NAMES if n != name} for name in NAMES))
    for name in NAMES:
        plan = name_of({n: 1.0 for n in NAMES if n != name})
        pd.testing.assert_frame_equal(
            scores(table[table["plan"] == plan]), scores(left[left["left_out"] == name]), check_exact=True
        )
    pd.testing.assert_frame_equal(  # without the last update it is the step before
        scores(table[table["plan"] == name_of({"first": 1.0, "second": 1.0})]), of_step(run, 2), check_exact=True
    )


def test_a_plan_with_strengths_scores_what_a_run_at_them_does(
    tiny_run: Callable[..., Path], tiny_inputs: Inputs, run: Path
) -> None:
    other = tiny_run(inputs=replace(tiny_inputs, strengths={"first": 0.5}))
    pd.testing.assert_frame_equal(scores(measured(run, ALL | {"first": 0.5})), of_step(other, 3), check_exact=True)


def test_strengths_of_a_plan_are_on_top_of_those_of_the_run(
    tiny_run: Callable[..., Path], tiny_inputs: Inputs, run: Path, tmp_path: Path
) -> None:
    other = tiny_run(inputs=replace(tiny_inputs, strengths={"first": 0.5}))
    copied = Path(shutil.copytree(other, tmp_path / "other"))
    pd.testing.assert_frame_equal(
        scores(measured(copied, {"first": 0.5, "third": 1.0})),
        scores(measured(run, {"first": 0.25, "third": 1.0})),
        check_exact=True,
    )


def test_a_model_in_memory_measures_the_same(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    wanted = [ALL, {"second": 1.0, "third": 1 / 3}, {"first": 1.0}]
    measured(run, *wanted)
    live = LiveModel.open(other, CPU)
    for plan in wanted:
        measure_live(live, plan)
    ours, theirs = contents(run / "plans"), contents(other / "plans")
    assert ours == theirs
    assert WorkFolder(other / "plans").journal()[-1]["event"] == "complete"


def test_a_plan_is_measured_once(run: Path) -> None:
    first = {"first": 1.0, "third": 0.5}
    measured(run, first)
    file = run / "plans" / "values" / f"{name_of(first)}.json"
    before = file.stat().st_mtime_ns
    table = measured(run, dict(reversed(first.items())), {"second": 1.0, "first": 0.0})
    assert file.stat().st_mtime_ns == before
    assert table["plan"].nunique() == 2
    stored = {json.dumps(json.loads(text)) for text in table["strengths"]}
    assert stored == {'{"first": 1.0, "third": 0.5}', '{"second": 1.0}'}  # in the order of the run, without zeros


def test_cancelled_and_resumed_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    wanted = [{"first": 1.0}, {"second": 1.0, "third": 1.0}, {"third": 0.25}]
    measured(whole, *wanted)
    for phase, at in (("matrices", 5), ("plans", 1)):

        def stop(reached: str, done: int, total: int, label: str, phase: str = phase, at: int = at) -> None:
            if (reached, done) == (phase, at):
                (run / "plans" / "cancel").touch()

        with pytest.raises(WorkCancelledError):
            measure(run, wanted, on=CPU, workers=1, progress=stop)
    assert len(list((run / "plans" / "values").iterdir())) == 1
    measured(run, *wanted)
    assert contents(run / "plans") == contents(whole / "plans")


def test_the_table_is_made_of_what_was_kept(run: Path) -> None:
    table = measured(run, ALL, {"first": 1.0})
    (run / "plans" / "tables" / "plans.parquet").unlink()
    pd.testing.assert_frame_equal(write_plans(run), table)
    pd.testing.assert_frame_equal(open_run(run).tables["plans"], table)


def test_names_of_plans_depend_on_their_strengths_alone() -> None:
    assert name_of({"a": 1.0, "b": 0.5}) == name_of({"b": 0.5, "a": 1.0})
    assert len({name_of({"a": s}) for s in (1.0, 1 / 3, 0.3333)} | {name_of({"b": 1.0})}) == 4


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"fourth": 1.0}, "has no update 'fourth', only first, second, third"),
        ({"first": 0.0}, "a plan needs at least one update"),
        ({}, "a plan needs at least one update"),
    ],
)
def test_plans_that_cannot_be_measured(run: Path, plan: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        measured(run, plan)
    live = LiveModel.open(run, CPU)
    with pytest.raises(InputError, match=says):
        measure_live(live, plan)
    assert not (run / "plans").exists()


def test_runs_whose_plans_cannot_be_measured(run: Path, tiny_run: Callable[..., Path], tiny_inputs: Inputs) -> None:
    bare = tiny_run(inputs=replace(tiny_inputs, probes=None))
    with pytest.raises(InputError, match="without probes"):
        measured(bare, ALL)
    (run / "matrices" / "00000.safetensors").unlink()
    (run / "matrices" / "00000.json").unlink()
    lines = (run / "journal.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line).get("index") != 0]
    (run / "journal.jsonl").write_text("\n".join(kept) + "\n")
    with pytest.raises(InputError, match="is not finished: 1 matrices are missing"):
        measured(run, ALL)
    info = json.loads((run / "run.json").read_text())
    info["states"] = [{"name": f"s{k}", "path": "state", "fingerprint": "f"} for k in range(3)]
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="training pipeline: there is no merge to plan"):
        check_scorable(RunStore.open(run), PURPOSE)


def test_plans_of_other_inputs_are_not_mixed(run: Path, tiny_inputs: Inputs, tmp_path: Path) -> None:
    measured(run, ALL)
    file = run / "plans" / "plans.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"probes": "others"}))
    with pytest.raises(InputError, match="holds plans of another probes"):
        measured(run, {"first": 1.0})


def test_a_run_of_one_update_can_be_measured_in_part(
    tiny_run: Callable[..., Path], tiny_inputs: Inputs, tmp_path: Path
) -> None:
    alone = replace(tiny_inputs, updates=tiny_inputs.updates[:1])
    run = Path(shutil.copytree(tiny_run(inputs=alone), tmp_path / "run"))
    table = measured(run, {"first": 1.0}, {"first": 1 / 3})
    pd.testing.assert_frame_equal(
        scores(table[table["plan"] == name_of({"first": 1.0})]), of_step(run, 1), check_exact=True
    )


def test_the_search_measures_what_is_worth_most_and_stops(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [replace(each, joint=0.05) for each in forecasts("wudi")]
    monkeypatch.setattr(plans, "read", lambda: made)
    with pytest.raises(InputError, match=r"has no predictors yet, expected `gcwm-viz forecast"):
        search(run, on=CPU, workers=1)
    predict(run, on=CPU, workers=1)
    before = outlook_of(open_run(run))
    best = worth(before)
    assert best is not None
    first = before.strengths(before.belief.plans_pt[best[0]])
    assert best[1] > WORTH
    for none in (search(run, most=0, on=CPU, workers=1), search(run, seconds=0, on=CPU, workers=1)):
        assert none.measured == before.measured
    assert not (run / "plans").exists()
    after = search(run, most=1, on=CPU, workers=1)
    table = open_run(run).tables["plans"]
    assert json.loads(table["strengths"].iloc[0]) == pytest.approx(first)
    assert len(after.measured) == len(before.measured) + table["plan"].nunique()
    done = search(run, most=200, on=CPU, workers=1)
    assert worth(done) is None
    assert len(done.measured) < len(done.belief.plans_pt)


def test_a_run_without_forecast_has_no_search(tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "read", lambda: forecasts("wudi"))
    with pytest.raises(InputError, match="no forecast for the method ties, only for wudi"):
        search(tiny_run("ties"), on=CPU, workers=1)


def test_measured_plans_correct_the_forecast(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "read", lambda: forecasts("wudi"))
    predict(run, on=CPU, workers=1)
    measured(run, {"first": 1.0, "third": 1.0})
    now = outlook_of(open_run(run))
    plan = (1.0, 0.0, 1.0)
    found = now.found(plan)
    assert found is not None
    prior = float(now.forecast.mean_change(now.knowledge, np.array([plan]))[0])
    mean, sd = now.expected(plan)
    assert min(prior, found.value) <= mean + 1e-12
    assert mean <= max(prior, found.value) + 1e-12
    assert sd < float(np.sqrt(now.forecast.kernel.diag(np.array([plan]))[0]))
