"""A plan from a run, back into a run."""

from pathlib import Path

import pytest
import torch

from gcwm_viz.checkpoints.location import location
from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import parse_plan
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.plan import overrides, plan_of
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import open_run
from tests.continual.inputs import write_base, write_updates


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    inputs = Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "abc"))
    settings = RunSettings.preset_with("paper", {"eta": 0.4, "kappa": 7, "iters": 5, "gate": "none"})
    return create_run(inputs, tmp_path / "run", settings)


def test_plan_runs_to_the_same_settings(store: RunStore, tmp_path: Path) -> None:
    plan = plan_of(store, {"c": 1.0, "a": 1.0})
    assert plan.settings == {"kappa": 7, "iters": 5, "gate": "none", "eta": 0.4}
    assert plan.run_settings() == store.settings
    assert parse_plan(plan.to_yaml().encode(), "upload") == plan
    file = tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml())
    assert main(["run", "--plan", str(file), "--out", str(tmp_path / "again"), "--device", "cpu"]) == 0
    again = open_run(tmp_path / "again")
    assert again.updates == ["c", "a"]
    assert again.store.settings == store.settings


def test_whole_plan_gives_the_same_model(store: RunStore, tmp_path: Path) -> None:
    continue_run(store, torch.device("cpu"), workers=1)
    file = tmp_path / "plan.yaml"
    file.write_text(plan_of(store, dict.fromkeys(store.updates, 1.0)).to_yaml())
    assert main(["run", "--plan", str(file), "--out", str(tmp_path / "again"), "--device", "cpu"]) == 0
    again = open_run(tmp_path / "again").store
    assert all(torch.equal(store.state(index, 3), again.state(index, 3)) for index in range(len(store.keys)))


def test_strengths_multiply_and_come_back_with_the_plan(tmp_path: Path) -> None:
    base, updates = write_base(tmp_path / "base"), write_updates(tmp_path / "updates", "abc")
    inputs = Inputs(base=base, updates=updates, strengths={"a": 0.5, "b": 2.0})
    store = create_run(inputs, tmp_path / "run", RunSettings())
    plan = plan_of(store, {"b": 0.5, "a": 1 / 3, "c": 0.25})
    assert [name for name, _ in plan.updates] == ["b", "a", "c"]
    assert plan.strengths == {"a": pytest.approx(1 / 6, abs=1e-6), "c": 0.25}  # 2 · 0.5 is whole again
    assert plan_of(store, {"a": 1.0, "c": 1.0}).strengths == {"a": 0.5}
    file = tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml())
    assert main(["run", "--plan", str(file), "--out", str(tmp_path / "again"), "--device", "cpu"]) == 0
    again = RunStore.open(tmp_path / "again").file.updates
    assert {entry.name: entry.strength for entry in again} == {"b": 1.0, **plan.strengths}


def test_a_run_of_urls_gives_a_plan_of_urls_that_runs(tmp_path: Path) -> None:
    pytest.importorskip("upath", reason="universal-pathlib is not installed (the extra `remote`)")
    base, updates = write_base(tmp_path / "base"), write_updates(tmp_path / "updates", "ab")
    remote = Inputs(base=location(base.as_uri()), updates=[(name, location(path.as_uri())) for name, path in updates])
    store = RunStore.open(create_run(remote, tmp_path / "run", RunSettings()).path)
    file = tmp_path / "plan.yaml"
    file.write_text(plan_of(store, {"a": 1.0}).to_yaml())
    assert f"base: {base.as_uri()}\n" in file.read_text()
    assert f"path: {updates[0][1].as_uri()}\n" in file.read_text()
    assert main(["run", "--plan", str(file), "--out", str(tmp_path / "again"), "--device", "cpu"]) == 0
    assert RunStore.open(tmp_path / "again").file.updates == store.file.updates[:1]


def test_a_preset_alone_has_no_overrides() -> None:
    for preset in ("scale-free", "paper", "release"):
        for method in ("gcwm", "ties"):
            assert overrides(RunSettings.preset_with(preset, {}, method)) == {}


def test_impossible_plans_are_refused(store: RunStore) -> None:
    with pytest.raises(InputError, match="at least one update"):
        plan_of(store, {})
    with pytest.raises(InputError, match="no update 'x'"):
        plan_of(store, {"a": 1.0, "x": 1.0})
