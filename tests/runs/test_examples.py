"""The table of every example: statuses by hand, and agreement with the scores of a real run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcwm_viz.errors import InputError
from gcwm_viz.probes.stored import read_expert_examples
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, TextTask, load_tasks
from gcwm_viz.runs.examples import (
    COUNTED,
    FORGOTTEN,
    MEANINGS,
    Status,
    changes,
    columns,
    example_table,
    flips,
    read_tasks,
    statuses,
)  # fmt: skip
from gcwm_viz.runs.highlights import scored
from gcwm_viz.runs.tables import Run, open_run
from tests.factories_flips import CHOICES, write_flips
from tests.factories_runs import write_run
from tests.rounding import rounding

NAN = float("nan")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_flips(tmp_path_factory.mktemp("examples")))


def copied(run: Run, folder: Path) -> Path:
    """A copy of the run folder, to be changed."""
    shutil.copytree(run.path, folder)
    return folder


def of(*values: float, scored: Any = None) -> list[str]:
    """Statuses of one example at steps 1 …"""
    found = statuses(np.array([values]), [True] * len(values) if scored is None else scored)
    return [str(status) for status in found[0, 1:]]


def test_every_status_by_hand() -> None:
    assert of(0, 1, 1, 0, 0, 1) == ["learned", "kept", "lost", "still lost", "regained"]
    assert of(1, 0, 1) == ["lost", "regained"]  # what the base could do counts
    assert of(0, 0, 0, 1) == ["never right", "never right", "learned"]
    assert of(1, 1) == ["kept"]


def test_an_undefined_value_leaves_open_only_what_it_decides() -> None:
    assert of(1, NAN, 1, 1) == ["unknown", "unknown", "kept"]
    assert of(1, NAN, 0, 0, 1) == ["unknown", "unknown", "still lost", "regained"]
    # It may have been right where it is undefined: then the last would be regained, and the one before still lost.
    assert of(0, NAN, 0, 0, 1) == ["unknown", "unknown", "unknown", "unknown"]
    assert of(NAN, 1, 1, 0) == ["unknown", "kept", "lost"]


def test_a_state_that_was_not_scored_is_passed_over() -> None:
    assert of(1, NAN, NAN, 0, scored=[True, False, False, True]) == ["unknown", "unknown", "lost"]
    assert of(0, NAN, 1, scored=[True, False, True]) == ["unknown", "learned"]


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=5, max_size=5), min_size=1, max_size=30))
def test_counts_are_complete_and_explain_every_change(rows: list[list[float]]) -> None:
    values_ns = np.array(rows)
    flipped = statuses(values_ns, [True] * 5)
    assert set(flipped[:, 1:].ravel()) <= set(COUNTED) - {Status.UNKNOWN}
    for step in range(1, 5):
        count = {status: int((flipped[:, step] == status).sum()) for status in Status}
        gained = count[Status.LEARNED] + count[Status.REGAINED] - count[Status.LOST]
        assert gained == values_ns[:, step].sum() - values_ns[:, step - 1].sum()
        wrong = values_ns[:, step] == 0
        forgotten = wrong & (values_ns[:, : step + 1].max(axis=1) == 1)
        assert forgotten.sum() == sum(count[Status(status)] for status in FORGOTTEN)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_flips_add_up_to_the_scores_page(run: Run, split: str) -> None:
    table = example_table(run, split)
    assert list(table.columns) == list(columns(run.steps))
    count = flips(table)
    assert list(count.columns) == ["task", "step", *COUNTED, "n"]
    assert list(dict.fromkeys(count["task"])) == ["first", "second"]  # texts are neither right nor wrong
    assert (count[list(COUNTED)].sum(axis=1) == count["n"]).all()
    assert (count[["learned", "regained", "lost", "still lost", "kept"]].sum() > 0).all()
    found = scored(run, split)
    assert found is not None
    for row in count.to_dict("records"):
        R = found.R[row["task"]]
        change = (row["learned"] + row["regained"] - row["lost"]) / row["n"]
        assert change == pytest.approx(R[row["step"]] - R[row["step"] - 1], abs=rounding(11))
        assert row["n"] == found.n.at[row["step"], row["task"]]
        assert (row["kept"] + row["learned"] + row["regained"]) / row["n"] == pytest.approx(R[row["step"]])


@pytest.mark.parametrize("metric", ["accuracy", "em", "acc", "nll"])
def test_the_means_of_the_columns_are_the_scores(run: Run, metric: str) -> None:
    scores = run.tables["scores"].query("split == 'test'")
    for task, own in example_table(run, "test", metric).groupby("task"):
        (unit,) = set(own["metric"])
        assert unit == {"accuracy": {"first": "acc", "second": "em", "third": "nll"}[str(task)]}.get(metric, metric)
        rows = scores[(scores["task"] == task) & (scores["metric"] == unit)].set_index(["model", "update"])["value"]
        expected = {"base": rows["base", ""], "expert": rows["expert", task]}
        expected |= {f"step_{step}": rows["step", name] for step, name in enumerate(run.updates, start=1)}
        for column, value in expected.items():
            assert own[column].mean() == pytest.approx(value, rel=rounding(11))


def test_prompts_and_answers_are_those_of_the_files(run: Run) -> None:
    table = example_table(run, "test")
    assert not table["reason"].any()
    own = {str(name): rows for name, rows in table.groupby("task")}
    tasks = {task.name: task for task in load_tasks(run.store.file.probes.path) if task.split == "test"}
    first, second, third = (tasks[name] for name in run.updates)
    assert isinstance(first, ChoiceTask)
    assert isinstance(second, PromptTask)
    assert isinstance(third, TextTask)
    assert own["first"]["prompt"].tolist() == list(first.questions)
    assert own["first"]["expected"].tolist() == [CHOICES[answer] for answer in first.answers]
    assert own["second"].iloc[3][["example", "prompt", "expected"]].tolist() == [4, "second 3=", "0"]
    assert own["third"]["prompt"].tolist() == list(third.texts)
    assert set(own["third"]["expected"]) == {""}
    assert set(own["third"]["status_2"]) == {"loss only"}
    assert set(MEANINGS) == set(Status)
    (expert,) = (
        values
        for values in read_expert_examples(run.store, "second")
        if (values.name, values.split) == ("second", "test")
    )
    assert own["second"]["expert"].tolist() == expert.metrics["em"].tolist()


def test_what_a_step_did_to_a_loss(run: Run) -> None:
    table = example_table(run, "test", "nll")
    assert changes(table, 2).tolist() == (table["step_2"] - table["step_1"]).tolist()
    assert changes(table, 1).tolist() == (table["step_1"] - table["base"]).tolist()
    holes = table.assign(step_1=NAN)
    assert changes(holes, 2).tolist() == (table["step_2"] - table["base"]).tolist()
    assert changes(holes, 1).isna().all()


def test_probe_files_that_changed_or_went_are_named(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "run")
    shutil.copytree(run.store.file.probes.path, tmp_path / "probes")
    file = json.loads((folder / "run.json").read_text()) | {"probes": str(tmp_path / "probes")}
    (folder / "run.json").write_text(json.dumps(file))
    assert not example_table(open_run(folder), "test")["reason"].any()
    with (tmp_path / "probes" / "test" / "second.jsonl").open("a") as lines:
        lines.write('{"prompt": "new", "answer": "1"}\n')
    changed = example_table(open_run(folder), "test")
    (reason,) = set(changed["reason"])
    assert "expected the probe files that scored" in reason
    assert not changed["prompt"].any()
    pd.testing.assert_frame_equal(flips(changed), flips(example_table(run, "test")))  # values need no files
    shutil.rmtree(tmp_path / "probes")
    (reason,) = set(example_table(open_run(folder), "test")["reason"])
    assert "expected a folder of probes, found nothing" in reason
    (reason,) = set(example_table(run, "test", unread="not allowed")["reason"])
    assert reason == "not allowed"


@pytest.mark.parametrize(
    ("entry", "reason"), [("probes", "names no probe files"), ("probes_fingerprint", "may be others")]
)
def test_a_run_that_does_not_say_by_what_it_was_scored(run: Run, tmp_path: Path, entry: str, reason: str) -> None:
    folder = copied(run, tmp_path / "run")
    file = json.loads((folder / "run.json").read_text()) | {entry: None}
    (folder / "run.json").write_text(json.dumps(file))
    with pytest.raises(InputError, match=reason):
        read_tasks(open_run(folder), "test")
    assert reason in example_table(open_run(folder), "test")["reason"].iloc[0]


def test_runs_without_examples_are_refused_in_one_sentence(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "means")
    for file in (folder / "probes").glob("*.json"):
        content = json.loads(file.read_text())
        del content["examples"]
        file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="earlier version, which stored means alone"):
        example_table(open_run(folder), "test")
    with pytest.raises(InputError, match="was not scored"):
        example_table(open_run(write_run(tmp_path, "empty")), "test")
    with pytest.raises(InputError, match="no examples of the split test in the metric bpb"):
        example_table(run, "test", "bpb")


def test_a_task_whose_prompts_are_not_in_a_file(run: Run, tmp_path: Path) -> None:
    """A harness task keeps its prompts; another without an update has no expert either."""
    folder = copied(run, tmp_path / "run")
    for file in (folder / "probes").glob("*.json"):
        content = json.loads(file.read_text())
        content["examples"].append(["arc", "test", {"acc": [0.0, 1.0, NAN]}])
        file.write_text(json.dumps(content))
    table = example_table(open_run(folder), "test")
    arc = table[table["task"] == "arc"]
    assert list(dict.fromkeys(table["task"])) == ["first", "second", "third", "arc"]
    assert set(arc["reason"]) == {"the probe files have no task of this name"}
    assert arc["expert"].isna().all()
    assert arc["status_3"].tolist() == ["never right", "kept", "unknown"]
    assert flips(table).query("task == 'arc' and step == 2")[list(COUNTED)].sum(axis=1).item() == 3


def test_values_that_do_not_belong_to_the_same_examples_are_left_out(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "run")
    file = folder / "probes" / "step-002.json"
    content = json.loads(file.read_text())
    for entry in content["examples"]:
        entry[2] = {metric: values[:-1] for metric, values in entry[2].items()}
    file.write_text(json.dumps(content))
    table = example_table(open_run(folder), "test")
    assert table["step_2"].isna().all()
    assert set(table.loc[table["task"] == "first", "status_2"]) == {"unknown"}
    own = table[table["task"] == "first"]
    right = own["step_3"].to_numpy() > own["step_1"].to_numpy()
    assert set(own.loc[right, "status_3"]) <= {"learned", "regained"}


def test_a_run_that_keeps_its_last_step_alone(tmp_path: Path) -> None:
    table = example_table(open_run(write_flips(tmp_path, "last", ["--set", "keep=last"])), "test")
    assert table[["step_1", "step_2"]].isna().all(axis=None)
    count = flips(table).query("task == 'first'").set_index("step").to_dict("index")
    assert count[1]["unknown"] == count[1]["n"]
    assert count[3]["unknown"] == 0
    base, last = (table.loc[table["task"] == "first", name].sum() for name in ("base", "step_3"))
    assert count[3]["learned"] - count[3]["lost"] == last - base
