"""``example smollm2`` from the shell: on a tiny base in the real one's place, and on request the real thing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gcwm_viz.cli import USAGE_ERROR, main
from gcwm_viz.experiments.smollm2 import base as bases
from gcwm_viz.experiments.smollm2 import build as building
from gcwm_viz.experiments.smollm2 import data
from gcwm_viz.experiments.smollm2.bundle import locate
from gcwm_viz.experiments.smollm2.train import LoraSettings
from gcwm_viz.runs.tables import open_run
from tests.experiments.smollm2 import tiny
from tests.experiments.smollm2.test_train import TASKS

REAL = "GCWM_VIZ_REAL_EXAMPLE"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("example")
    base = tiny.checkpoint(folder / "base")
    settings = LoraSettings(batch_size=4, lr=2e-2, warmup=1)
    building.build(base, folder / "trained", settings=settings, tasks=TASKS, steps=4, report=lambda _: None)
    return folder


@pytest.fixture
def example(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """example(*arguments) → exit code, with the tiny base as the cached one."""
    monkeypatch.setattr(bases, "base_folder", lambda report=print: trained / "base")
    rest = ("--updates", str(trained / "trained"), "--device", "cpu", "--workers", "1")
    return lambda *arguments: main(["example", "smollm2", *map(str, arguments), *rest])


def test_a_merge_with_scores(example: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert example("--out", out) == 0
    said = capsys.readouterr().out
    assert "3 steps, 14 matrices" in said
    assert f"gcwm-viz show {out}" in said
    run = open_run(out)
    assert run.updates == ["one", "two", "three"]
    scores = run.tables["scores"]
    assert set(scores["metric"]) == {"em", "nll", "acc"}
    assert set(scores[scores["model"] == "step"]["step"]) == {1, 2, 3}
    assert main(["show", str(out)]) == 0


def test_the_states_of_training_in_sequence(example: Callable[..., int], tmp_path: Path) -> None:
    assert example("--out", tmp_path / "run", "--sequential", "--no-probes") == 0
    run = open_run(tmp_path / "run")
    assert run.tables["scores"].empty
    assert set(run.tables["matrices"]["step"]) == {1, 2, 3}


def test_a_second_call_goes_on_and_other_settings_are_refused(
    example: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example("--out", tmp_path / "run", "--no-probes") == 0
    assert example("--out", tmp_path / "run", "--no-probes") == 0
    assert example("--out", tmp_path / "run", "--no-probes", "--set", "eta=0.5") == USAGE_ERROR
    assert "has other settings than asked for" in capsys.readouterr().err


def test_training_from_the_shell(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bases, "base_folder", lambda report=print: trained / "base")
    monkeypatch.setattr(data, "build_tasks", lambda seed=0: TASKS)
    monkeypatch.setattr(building, "STEPS", dict.fromkeys(TASKS, 2))
    monkeypatch.setattr(building, "SEQUENCE_STEPS", dict.fromkeys(TASKS, 1))
    assert main(["example", "smollm2", "--train", "--device", "cpu", "--out", str(tmp_path / "new")]) == 0
    assert f"--updates {tmp_path / 'new'}" in capsys.readouterr().out
    training = locate(tmp_path / "new").recipe["training"]
    assert {name: made["steps"] for name, made in training.items() if "two" in name or "sft" in name} == {
        "adapters/02_two": 2,
        "sft/step_2": 1,
        "sft/step_3": 1,
    }


@pytest.mark.skipif(REAL not in os.environ, reason=f"fetches 93 MB and takes minutes; set {REAL}=1 to run it")
def test_the_real_thing_from_nothing(tmp_path: Path) -> None:
    """Fetched, converted and merged in a process of its own with an empty cache."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "gcwm_viz", "example", "smollm2", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    assert "5 steps, 210 matrices" in done.stdout
    scores = open_run(tmp_path / "run").tables["scores"]
    assert scores["value"].notna().all()
    assert set(scores[scores["model"] == "step"]["step"]) == {1, 2, 3, 4, 5}
