"""Attribution of a whole run: its table, resuming, described states, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

import gcwm_viz
from gcwm_viz.attribution.attribute import attribute
from gcwm_viz.attribution.bench import LAMBDAS
from gcwm_viz.attribution.path import MOST_NODES
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.loading import load_tokenizer
from gcwm_viz.probes.tasks import HarnessTask, load_tasks
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import columns, open_run
from tests.attribution.models import CPU, finish, write_inputs, write_states

PATHS = {(0, 1), (1, 2), (2, 3), (0, 3)}
DEV = ["<b>odd", "names", "reading", "sums"]


@pytest.fixture
def run(merged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(merged, tmp_path / "run"))


@pytest.fixture(scope="module")
def attributed(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(merged, tmp_path_factory.mktemp("attributed") / "run"))
    attribute(copy, interpolate=True, on=CPU)
    return copy


def check_complete(table: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Σ values against the difference of the run's own stored scores, for every path, task and split."""
    nll = scores[(scores["metric"] == "nll") & scores["model"].isin(["base", "step"])]
    stored = dict(zip(zip(nll["step"], nll["task"], nll["split"], strict=True), nll["value"], strict=True))
    for _, rows in table.groupby(["start", "step", "task", "split"]):
        start, step, task, split = rows[["start", "step", "task", "split"]].iloc[0]
        change = stored[step, task, split] - stored[start, task, split]
        assert rows["change"].iloc[0] == pytest.approx(change, abs=1e-4)  # float32 losses of about 10 nats
        assert abs(rows["value"].sum() - change) <= rows["residual"].iloc[0] + 1e-4
        holds = rows["residual"].iloc[0] <= max(0.02 * abs(rows["change"].iloc[0]), 1e-3)
        assert rows["converged"].eq(holds).all()
        assert holds or rows["nodes"].iloc[0] == MOST_NODES


def test_every_path_task_and_matrix_has_its_row(attributed: Path) -> None:
    run = open_run(attributed)
    table = run.tables["attribution"]
    assert list(table.columns) == list(columns("attribution"))
    assert set(zip(table["start"], table["step"], strict=True)) == PATHS
    assert sorted(set(table["task"])) == DEV
    matrices = [key.name for key in run.store.keys]
    for _, rows in table.groupby(["start", "step", "task", "split"]):
        assert list(rows["matrix"]) == matrices
    assert table["value"].notna().all()
    assert table["converged"].all()
    check_complete(table, run.tables["scores"])


def test_scores_along_the_path_meet_those_of_its_ends(attributed: Path) -> None:
    run = open_run(attributed)
    table, scores = run.tables["interpolation"], run.tables["scores"]
    assert list(table.columns) == list(columns("interpolation"))
    assert set(table["lam"]) == set(LAMBDAS)
    states = scores[scores["model"].isin(["base", "step"])]
    keys = zip(states["step"], states["task"], states["split"], states["metric"], strict=True)
    stored = dict(zip(keys, states["value"], strict=True))
    ends = table[table["lam"].isin([0.0, 1.0])]
    assert len(ends) == 2 * len(PATHS) * len(DEV) * 2
    for row in ends.to_dict("records"):
        state = row["step"] if row["lam"] == 1 else row["start"]
        assert row["value"] == pytest.approx(stored[state, row["task"], row["split"], row["metric"]], rel=1e-5)


def test_the_library_call_is_public_and_resumes(run: Path, attributed: Path) -> None:
    first = gcwm_viz.attribute(run, step=2)
    assert set(zip(first["start"], first["step"], strict=True)) == {(1, 2)}
    killed = sorted((run / "attribution" / "pieces").glob("*.json"))[0]
    before = killed.read_bytes()
    killed.write_bytes(before[: len(before) // 2])
    table = gcwm_viz.attribute(run)
    assert killed.read_bytes() == before
    pd.testing.assert_frame_equal(table, open_run(attributed).tables["attribution"])
    assert WorkFolder(run / "attribution").status() == "complete"


def test_workers_and_order_do_not_matter(run: Path, attributed: Path) -> None:
    attribute(run, on=CPU, workers=2)
    for file in (attributed / "attribution" / "pieces").glob("*.json"):
        assert (run / "attribution" / "pieces" / file.name).read_bytes() == file.read_bytes()


def test_one_path_one_task_another_split(run: Path) -> None:
    table = attribute(run, start=0, step=2, tasks=["names"], split="test")
    assert set(zip(table["start"], table["step"], table["task"], table["split"], strict=True)) == {
        (0, 2, "names", "test")
    }
    more = attribute(run, step=1, tasks=["sums"])
    assert len(more) == 2 * len(table)
    check_complete(more, open_run(run).tables["scores"])


def test_the_first_examples_alone_are_other_numbers(run: Path) -> None:
    attribute(run, step=1, examples=1)
    with pytest.raises(InputError, match="holds results for another examples"):
        attribute(run, step=2)


def test_states_of_a_training_count_what_changed_outside(tmp_path: Path) -> None:
    """The path and the scores are those of the whole checkpoint, norms and embeddings included."""
    inputs = write_inputs(tmp_path)
    states = write_states(tmp_path, inputs)
    described = Inputs(base=inputs.base, updates=inputs.updates, states=states, probes=inputs.probes)
    store = create_run(described, tmp_path / "run", finish(inputs, tmp_path / "merged").settings)
    continue_run(store, CPU, workers=1)
    run = open_run(store.path)
    tokenizer = load_tokenizer(CheckpointIndex.open(inputs.base))
    tasks = [task for task in load_tasks(store.file.probes.path) if not isinstance(task, HarnessTask)]
    scores = run.tables["scores"]
    for step, state in enumerate(states, start=1):
        whole = AutoModelForCausalLM.from_pretrained(state, dtype=torch.float32)
        for row in BehaviourProbe(tokenizer, tasks).score(whole):
            found = scores[
                (scores["model"] == "step")
                & (scores["step"] == step)
                & (scores["task"] == row["task"])
                & (scores["split"] == row["split"])
                & (scores["metric"] == row["metric"])
            ]
            assert found["value"].item() == pytest.approx(row["value"], rel=1e-4), (step, row["task"], row["metric"])
    table = attribute(store.path)
    outside = table[table["layer"] == -1]
    assert set(outside["family"]) == {"outside"}
    assert set(outside["matrix"]) == {
        name for name in whole.state_dict() if "norm" in name or "embed" in name
    }  # the head is tied to the embeddings and counted once
    assert (outside["value"] != 0).any()
    check_complete(table, scores)


def test_a_merge_changes_nothing_outside(attributed: Path) -> None:
    assert (open_run(attributed).tables["attribution"]["layer"] >= 0).all()


def test_a_run_that_keeps_its_last_step_has_one_path(tmp_path: Path) -> None:
    store = finish(write_inputs(tmp_path), tmp_path / "run", keep="last")
    table = attribute(store.path, tasks=["sums"])
    assert set(zip(table["start"], table["step"], strict=True)) == {(0, 3)}
    with pytest.raises(InputError, match=r"keeps the tensors of its last step alone \(keep=last\), expected the path"):
        attribute(store.path, step=2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"step": 4}, r"expected states from 0 \(the base\) to 3, the first before the second, found 3 and 4"),
        ({"start": 2, "step": 2}, "found 2 and 2"),
        ({"tasks": ["nobody"]}, r"task 'nobody' is none of the split 'dev', which has <b>odd, names, reading, sums"),
        ({"split": "train"}, "expected tasks of the split 'train' with prompts, choices or texts, found none"),
        ({"examples": 0}, "examples: expected at least 1, found 0"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, got 'int8'"),
    ],
)
def test_refused(run: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        attribute(run, **options)
    assert not (run / "attribution").exists()


def test_a_run_without_probes_says_how_to_give_it_some(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path)
    store = finish(Inputs(base=inputs.base, updates=inputs.updates), tmp_path / "run")
    with pytest.raises(InputError, match=r"has no probes, so no loss whose change .* score .* --probes"):
        attribute(store.path)


def test_too_little_memory_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcwm_viz.attribution.attribute.available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"attribution needs about .* GB of memory .*, 0\.0 GB are free"):
        attribute(run)
    assert not (run / "attribution").exists()


def test_changed_probes_are_refused(run: Path) -> None:
    text = (run / "run.json").read_text()
    own = str(RunStore.open(run).file.probes.fingerprint)
    (run / "run.json").write_text(text.replace(own, "0" * 64))
    with pytest.raises(InputError, match="the probes have changed since run"):
        attribute(run)


def test_cancelling_keeps_what_is_done(run: Path) -> None:
    def stop(phase: str, done: int, total: int, label: str) -> None:
        assert (phase, total) == ("losses", 16)
        if done == 3:
            WorkFolder(run / "attribution").request_cancel()

    with pytest.raises(WorkCancelledError):
        attribute(run, progress=stop)
    assert len(list((run / "attribution" / "pieces").glob("*.json"))) == 3
    attribute(run)
    assert len(list((run / "attribution" / "pieces").glob("*.json"))) == 16


def test_other_probes_discard_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results of probes that the run no longer has would be told as those of the new ones."""
    attribute(run, step=1)
    assert main(["score", str(run), "--replace", "--device", "cpu", "--workers", "1"]) == 0
    assert not (run / "attribution").exists()
    assert open_run(run).tables["attribution"].empty
    capsys.readouterr()


def test_the_command_prints_every_change(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["attribute", str(run), "--device", "cpu", "--workers", "1", "--to", "2", "--tasks", "sums,names"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "change of loss in nats per token (dev split)" in out
    assert len([line for line in out.splitlines() if line.split()[:2] == ["1", "2"]]) == 2
    assert main([*command, "--examples", "1"]) == 2
    assert "holds results for another examples" in capsys.readouterr().err


def test_the_table_of_a_run_without_attribution_is_empty(merged: Path) -> None:
    table = open_run(merged).tables["attribution"]
    assert table.empty
    assert list(table.columns) == list(columns("attribution"))
