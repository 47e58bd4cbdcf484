"""Probes for a run that is merged already."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gcwm_viz.cli import main
from gcwm_viz.continual.folder import WorkFolder
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.plans import measure
from gcwm_viz.decide.predict import predict
from gcwm_viz.runs.tables import LATER, open_run
from gcwm_viz.studies.two_runs import example_differences
from tests.torture.small import contents, write_inputs, write_lines


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with inputs and two finished runs of them, ``run`` with probes and ``bare`` without; the arguments."""
    root = tmp_path_factory.mktemp("made")
    arguments = write_inputs(root)
    place = arguments.index("--probes")
    bare = [*arguments[:place], *arguments[place + 2 :]]
    for name, given in (("run", arguments), ("bare", bare)):
        assert main(["run", "--eta", "1", *given, "--workers", "1", "--out", str(root / name)]) == 0
    return root, arguments


@pytest.fixture
def run(made: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """The run with probes, in a copy of the folder whose runs read the copied inputs."""
    root, _ = made
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    for name in ("run", "bare"):
        file = tmp_path / name / "run.json"
        file.write_text(file.read_text().replace(str(root), str(tmp_path)))
    return tmp_path / "run"


def test_a_run_without_probes_is_scored_as_if_it_had_had_them(run: Path, tmp_path: Path) -> None:
    matrices = (tmp_path / "bare" / "matrices" / "00000.safetensors").stat().st_mtime_ns
    score = ["score", str(tmp_path / "bare"), "--workers", "1", "--device", "cpu"]
    assert main([*score, "--probes", str(tmp_path / "probes")]) == 0
    whole, late = contents(run), contents(tmp_path / "bare")
    assert late.pop("run.json") != whole.pop("run.json")  # their names
    assert late == whole
    assert (tmp_path / "bare" / "matrices" / "00000.safetensors").stat().st_mtime_ns == matrices
    assert RunStore.open(tmp_path / "bare").status() == "complete"
    assert main(score) == 0  # nothing is left to do
    assert main(["resume", str(tmp_path / "bare"), "--workers", "1"]) == 0


def test_scores_of_other_probes_are_given_up_when_that_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leave-one-out", str(run), "--workers", "1", "--device", "cpu"]) == 0
    measure(run, [{"first": 1.0}], workers=1)
    predict(run, workers=1)
    other = tmp_path / "other"
    (other / "test").mkdir(parents=True)
    write_lines(other / "test" / "first.jsonl", [{"prompt": "1+1=", "answer": "2"}, {"prompt": "2=", "answer": "2"}])
    score = ["score", str(run), "--probes", str(other), "--workers", "1", "--device", "cpu"]
    before = contents(run)
    capsys.readouterr()
    assert main(score) == 2
    assert "expected --replace to give them up" in capsys.readouterr().err
    assert contents(run) == before
    assert main([*score, "--replace"]) == 0
    scores = open_run(run).tables["scores"]
    assert set(scores["task"]) == {"first"}
    assert set(scores["n"]) == {2}
    assert open_run(run).tables["representation"].empty
    assert open_run(run).tables["leave_one_out"].empty
    assert open_run(run).tables["plans"].empty
    assert not [folder for folder in LATER if (run / folder).exists()]  # plans and forecast are of the other probes too
    predict(run, workers=1)
    assert set(measure(run, [{"first": 1.0}], workers=1)["task"]) == {"first"}
    assert RunStore.open(run).file.probes.path == other
    assert main(["score", str(run), "--probe-dtype", "bfloat16", "--workers", "1"]) == 2


def test_probes_that_changed_on_disk_are_mended_by_score(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path / "probes" / "test" / "first.jsonl", [{"prompt": "1=", "answer": "1"}])
    assert main(["resume", str(run), "--workers", "1"]) == 2
    assert "the command score takes others" in capsys.readouterr().err
    assert main(["score", str(run), "--replace", "--workers", "1"]) == 0
    scores = open_run(run).tables["scores"].query("task == 'first' and split == 'test'")
    assert set(scores["n"]) == {1}


def test_a_refusal_costs_no_scores(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = tmp_path / "pro\u200bbes"
    (tmp_path / "probes").rename(hidden)
    before = contents(run)
    assert main(["score", str(run), "--probes", str(hidden), "--replace", "--workers", "1"]) == 2
    assert "expected a path of printable characters" in capsys.readouterr().err
    assert contents(run) == before


@pytest.mark.parametrize("later", list(LATER))
def test_later_work_that_is_going_on_is_not_deleted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], later: str
) -> None:
    measured = run / later
    measured.mkdir()
    with WorkFolder(measured).lock():
        assert main(["score", str(run), "--replace", "--workers", "1"]) == 2
    assert "is being written by process" in capsys.readouterr().err
    assert measured.is_dir()
    assert list((run / "probes").glob("step-*.json"))


def test_scores_of_a_run_of_an_earlier_version_are_its_own(run: Path, tmp_path: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    for name in ("probe_dtype", "probe_memory", "probes_fingerprint"):
        del info[name]
    (run / "run.json").write_text(json.dumps(info))
    for file in (run / "probes").glob("strength-*.json"):
        file.unlink()
    kept = (run / "probes" / "base-000.json").stat().st_mtime_ns
    assert main(["score", str(run), "--workers", "1", "--device", "cpu"]) == 0
    assert (run / "probes" / "base-000.json").stat().st_mtime_ns == kept
    assert len(list((run / "probes").glob("strength-*.json"))) == 4


def test_a_damaged_score_file_is_made_again(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    for name, row in (("step-002", 1), ("strength-001", {})):
        (run / "probes" / f"{name}.json").write_text(json.dumps({"scores": [row], "representation": []}))
    assert main(["score", str(run), "--workers", "1", "--device", "cpu"]) == 0
    assert contents(run) == before


def test_what_cannot_be_scored_says_why(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "bare"
    assert main(["score", str(run)]) == 2
    assert "was started without probes" in capsys.readouterr().err
    (run / "matrices" / "00001.json").unlink()
    assert main(["score", str(run), "--probes", str(tmp_path / "probes")]) == 2
    assert "is not merged yet: 1 matrices are missing" in capsys.readouterr().err
    assert main(["resume", str(run), "--workers", "1"]) == 0
    (tmp_path / "probes" / "test" / "first.jsonl").write_text("no json")
    assert main(["score", str(run), "--probes", str(tmp_path / "probes")]) == 2
    assert "first.jsonl:1: expected a JSON object" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["probes"] is None


def test_two_runs_are_compared_on_the_same_examples(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    two_path = tmp_path / "two"
    assert main(["run", *made[1], "--eta", "3", "--workers", "1", "--out", str(two_path)]) == 0
    one, two = open_run(made[0] / "run"), open_run(two_path)
    differences = example_differences(one, two, 3, "test", "nll")
    assert set(differences) == {"first", "second", "third"}
    means = [
        run.tables["scores"].query("model == 'step' and step == 3 and split == 'test' and metric == 'nll'")
        for run in (one, two)
    ]
    expected = means[0].set_index("task")["value"] - means[1].set_index("task")["value"]
    for task, values in differences.items():
        assert len(values) == 6
        assert np.mean(values) == pytest.approx(expected[task], abs=1e-12)  # means of six numbers near 5
    file = tmp_path / "two" / "probes" / "step-003.json"
    content = json.loads(file.read_bytes())
    del content["examples"]  # as a run of an earlier version
    file.write_text(json.dumps(content))
    assert example_differences(one, open_run(tmp_path / "two"), 3, "test", "nll") == {}
