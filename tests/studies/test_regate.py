"""Another gate on a finished run: the branches mixed anew, scored on the same examples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.studies.regate import regate, regated_alphas
from tests.continual.inputs import write_base, write_updates
from tests.rounding import rounding
from tests.studies.test_tune import model  # noqa: F401  a base with two updates and probes

CPU = torch.device("cpu")


def made(root: Path, out: Path, probes: bool = True, method: str = "gcwm", **settings: Any) -> RunStore:
    inputs = Inputs(
        base=root / "base",
        updates=[(name, root / name) for name in ("sums", "names")],
        probes=root / "probes" if probes else None,
    )
    store = create_run(inputs, out, RunSettings.preset_with("scale-free", settings, method))
    continue_run(store, CPU, workers=1)
    return store


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:  # noqa: F811
    return made(model, tmp_path_factory.mktemp("runs") / "run", decay=0.5)


def test_the_same_gate_gives_the_same_scores(run: RunStore) -> None:
    """As stored by the run, to the last bit, at a step whose state depends on both."""
    result = regate(run, {}, CPU)
    stored = {
        (row["task"], row["split"], row["metric"]): row
        for row in json.loads((run.path / "probes" / "step-002.json").read_bytes())["scores"]
    }
    assert len(result["scores"]) == len(stored)
    for row in result["scores"]:
        known = stored[row["task"], row["split"], row["metric"]]
        assert row["as_run"] == row["regated"] == known["value"]
        if row["n"] == 1:
            assert row["as_run_se"] is row["difference_se"] is None
        else:
            assert row["as_run_se"] == pytest.approx(known["se"], rel=rounding(row["n"]), abs=0)
            # No answer changes, but n answers alone leave a doubt about the share that would.
            assert row["difference"] == 0.0
            assert row["difference_se"] == (1 / (row["n"] + 2) if row["metric"] == "em" else 0.0)
    assert all(row["alpha"] == row["alpha_as_run"] for row in result["matrices"])


def test_another_gate_scores_as_a_run_with_it_would(run: RunStore, model: Path, tmp_path: Path) -> None:  # noqa: F811
    """A run of its own with the other gate merges the same branches, so its scores are the same."""
    other: dict[str, Any] = {"alpha_min": 0.0, "alpha_max": 0.02}
    result = regate(run, other, CPU, step=2)
    assert {row["mode"] for row in result["matrices"]} == {"plain"}
    again = made(model, tmp_path / "again", decay=0.5, **other)
    expected = json.loads((again.path / "probes" / "step-002.json").read_bytes())["scores"]
    assert [row["regated"] for row in result["scores"]] == [row["value"] for row in expected]
    nll = [row for row in result["scores"] if row["metric"] == "nll"]
    assert any(row["difference"] != 0 for row in nll)
    for row in nll:
        bound = rounding(row["n"]) * (row["regated"] + row["as_run"])
        assert row["difference"] == pytest.approx(row["regated"] - row["as_run"], abs=bound)
        if row["n"] > 1:
            assert row["difference_se"] <= row["as_run_se"] + row["regated_se"] + bound


def test_alphas_are_of_every_step(run: RunStore) -> None:
    config = run.settings.gcwm.from_dict(run.settings.gcwm.to_dict() | {"gate": "none"})
    assert regated_alphas(run, 0, config) == {1: (1.0, "geo"), 2: (1.0, "geo")}


@pytest.mark.parametrize(
    ("changes", "step", "message"),
    [({"eta": 1.0}, None, "setting eta is not one of the gate"), ({"tau": "high"}, None, "setting tau"),
     ({"alpha_min": 0.99}, None, "alpha_min must not exceed"), ({}, 3, "step must be 1 to 2"), ({}, 0, "step must be")],
)  # fmt: skip
def test_wrong_requests_are_refused(run: RunStore, changes: Any, step: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        regate(run, changes, CPU, step=step)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"policy": "current_anchor"}, "current_anchor: another gate changes what later steps merge"),
     ({"method": "task-arithmetic"}, "task-arithmetic, which has no gate"),
     ({"post": "svc"}, "calibrated its merges by SVC for the gate that it had"),
     ({"probes": False}, "without probes")],
)  # fmt: skip
def test_runs_whose_gate_cannot_be_changed_are_refused(
    model: Path,  # noqa: F811
    tmp_path: Path,
    more: dict[str, Any],
    message: str,
) -> None:
    store = made(model, tmp_path / "run", **more)
    with pytest.raises(InputError, match=message):
        regate(store, {"tau": 0.5}, CPU)


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    base, updates = write_base(tmp_path / "base"), write_updates(tmp_path / "u", "ab")
    store = create_run(Inputs(base=base, updates=updates), tmp_path / "run", RunSettings())
    with pytest.raises(InputError, match="not finished: 8 matrices are missing"):
        regate(store, {}, CPU)


def test_command_writes_what_the_function_says(
    run: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    command = ["regate", str(run.path), "--set", "kappa=3", "--step", "2", "--out", str(out), "--device", "cpu"]
    assert main(command) == 0
    assert "sums" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["gate"]["kappa"] == 3
    assert found == json.loads(json.dumps(regate(run, {"kappa": 3}, CPU, step=2)))
    assert main(["regate", str(run.path), "--out", str(tmp_path / "no" / "r.json")]) == 2
    assert "expected a file in an existing folder" in capsys.readouterr().err
