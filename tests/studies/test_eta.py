"""η that a run chooses on its development probes, with a tiny random model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.folder import WorkCancelledError
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.stored import read_strength_examples
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run, eta_obstacle
from gcwm_viz.runs.strength import best_strength, strength_curve
from gcwm_viz.runs.tables import Run, open_run
from gcwm_viz.studies import eta as module
from gcwm_viz.studies.eta import GRID, TRIED, beside, best, choose_eta
from tests.studies.test_tune import inputs, model

__all__ = ["model"]
CPU = torch.device("cpu")


def started(root: Path, out: Path, method: str = "wudi", **more: Any) -> RunStore:
    settings = RunSettings.preset_with("scale-free", more, method)
    return create_run(inputs(root), out, settings, choose_eta=True)


def chosen(store: RunStore, **more: Any) -> RunStore:
    with LocalEngine(CPU, 1) as engine:
        return choose_eta(store, engine, **more)


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = chosen(started(model, tmp_path_factory.mktemp("eta") / "run"))
    continue_run(store, CPU, workers=1)
    return open_run(store.path)


def test_the_best_of_the_strengths_tried(run: Run) -> None:
    tried, eta = run.store.file.eta_tried, run.store.settings.continual.eta
    assert tried is not None
    assert len(tried) == TRIED
    assert set(GRID) < set(tried)
    assert eta in tried
    strength = best_strength(run)
    assert strength is not None
    assert strength.factor == 1.0
    # Every η that was tried is in the run's curve, and none else.
    assert sorted(eta * factor for factor in strength_curve(run).index) == pytest.approx(sorted(tried), rel=1e-5)
    assert not (run.path / "eta").exists()


def test_what_was_scored_is_what_a_run_at_that_strength_scores(run: Run, model: Path, tmp_path: Path) -> None:
    eta = run.store.settings.continual.eta
    other = min(each for each in run.store.file.eta_tried or () if each != eta)
    store = create_run(inputs(model), tmp_path / "fixed", RunSettings.preset_with("scale-free", {"eta": other}, "wudi"))
    continue_run(store, CPU, workers=1)
    own = strength_curve(open_run(store.path), "nll").loc[1.0]
    curve = strength_curve(run, "nll")
    found = curve.loc[curve.index[int(np.abs(eta * curve.index - other).argmin())]]
    # The scaled merge is added to the base in float32, once as S_T and once as a factor of it.
    assert found.to_numpy() == pytest.approx(own.to_numpy(), rel=1e-4)
    examples = read_strength_examples(run.store)
    assert len(examples) == TRIED - 1
    assert {task.split for values in examples.values() for task in values} == {"dev"}


def test_the_test_split_is_not_opened(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = started(model, tmp_path / "run")
    opened: list[Path] = []
    real = Path.open

    def watched(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(self)
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", watched)
    monkeypatch.setattr("gcwm_viz.studies.eta.reopen_inputs", lambda store: type("Opened", (), {"ranks": None}))
    chosen(store)  # its fingerprint of the probes, which covers every file, is not what chooses
    assert any("dev" in path.parts for path in opened)
    assert not [path for path in opened if "test" in path.parts[len(tmp_path.parts) :] and "probes" in path.parts]


def test_it_goes_on_where_it_was_cancelled(model: Path, tmp_path: Path, run: Run) -> None:
    store = started(model, tmp_path / "run")
    with pytest.raises(InputError, match="has not chosen its η yet"):
        continue_run(store, CPU, workers=1)

    def stop(_phase: str, done: int, _total: int, _label: str) -> None:
        if done == len(store.keys) + 2:
            store.request_cancel()

    with pytest.raises(WorkCancelledError):
        chosen(store, progress=stop)
    kept = {file.name: file.stat().st_mtime_ns for file in (store.path / "eta").glob("*.json")}
    assert len(kept) == 2
    told: list[int] = []
    settled = chosen(RunStore.open(store.path), progress=lambda _p, done, _t, _l: told.append(done))
    assert told == list(range(len(store.keys) + 3, len(store.keys) + TRIED + 1))
    assert settled.file.eta_tried == run.store.file.eta_tried
    assert settled.settings == run.store.settings == RunStore.open(store.path).settings


def test_the_search() -> None:
    means = {0.3: (0.2, -1.0), 0.5: (0.4, -1.0), 0.7: (0.4, -0.5), 1.0: (float("nan"), -0.1)}
    assert best(means) == 0.7  # of equal scores the lower NLL; an undefined score is last
    assert beside(means) == [0.59, 0.84]
    assert beside({0.3: (1.0, 0.0), 0.6: (0.0, 0.0)}) == [0.15, 0.42]
    assert beside({0.3: (0.0, 0.0), 0.6: (1.0, 0.0)}) == [0.42, 1.2]


def arguments(model: Path, *more: str) -> list[str]:
    updates = [f"--update={name}={model / name}" for name in ("sums", "names")]
    return ["--base", str(model / "base"), *updates, "--method", "wudi", *more]


def asked(model: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    assert main(["check", *arguments(model, *more), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["eta"]


def test_when_it_is_chosen(model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    probes = ("--probes", str(model / "probes"))
    assert asked(model, capsys, *probes) == "auto"
    assert asked(model, capsys, *probes, "--eta", "1") == 1
    assert asked(model, capsys, *probes, "--set", "eta=0.5") == 0.5
    assert asked(model, capsys, *probes, "--preset", "paper") == 0.1
    assert asked(model, capsys, *probes, "--preset", "paper", "--eta", "auto") == "auto"
    assert asked(model, capsys, *probes, "--set", "decay=0.9") == 0.7
    assert asked(model, capsys) == 0.7
    assert asked(model, capsys, "--method", "task-arithmetic") == 1  # a method's own
    plan = tmp_path / "plan.yaml"
    text = f"base: {model / 'base'}\nupdates:\n- {{name: sums, path: {model / 'sums'}}}\nprobes: {model / 'probes'}\n"
    for line, expected in (("", "auto"), ("settings: {eta: auto}\n", "auto"), ("settings: {eta: 1}\n", 1)):
        plan.write_text(text + line)
        assert main(["check", "--plan", str(plan), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["eta"] == expected


def test_what_is_refused(model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "run"), "--device", "cpu")
    for more, says in (
        (["--eta", "auto"], "η cannot be chosen on the development probes: there are no probes"),
        (["--eta", "auto", "--set", "eta=1"], "η is given twice"),
        (["--eta", "much"], "eta must be a finite number in (0, inf)"),
    ):
        assert main(["run", *arguments(model, *more), *out]) != 0
        assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_of_the_command_line_chooses_and_resumes(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    given = ["run", *arguments(model, "--probes", str(model / "probes")), "--out", str(out), "--device", "cpu"]

    def killed(*_: Any, **__: Any) -> None:
        raise InputError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "scores", killed)
        assert main([*given, "--workers", "1"]) != 0
    assert RunStore.open(out).file.lacks_eta
    assert main(["resume", str(out), "--device", "cpu", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    eta = RunStore.open(out).settings.continual.eta
    assert f"η = {eta:g}, chosen on the development probes" in printed
    assert len(open_run(out).tables["scores"])


def test_inputs_without_development_probes(model: Path) -> None:
    settings = RunSettings()
    assert eta_obstacle(inputs(model), settings) == ""
    assert "no dev/NAME.jsonl" in eta_obstacle(inputs(model, probes=model / "base"), settings)
    assert "states" in eta_obstacle(Inputs(base=model, updates=[], states=[model]), settings)
