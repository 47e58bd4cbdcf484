"""The updates of a run without each one, with a tiny random model."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from gcwm_viz.checkpoints.location import location
from gcwm_viz.cli import main
from gcwm_viz.continual import final_work
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_merges
from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import columns, open_run
from gcwm_viz.studies.leave_one_out import _compare, leave_one_out
from tests.factories import updates
from tests.probes.models import tiny_lab

CPU = torch.device("cpu")
COARSE = {"analysis_rank": 4, "barycenter_tol": 1e-3}
"""Settings of the signals, which nothing here asks for, and of the metric of gcwm, the same wherever it is compared."""
NAMES = ("sums", "names", "<b>odd")
PROBES = {
    "dev": {"sums": [("1+1=", "2"), ("2+2=", "4")], "names": [("a:", "b"), ("c:", "dd")]},
    "test": {"sums": [("3+1=", "4"), ("2+5=", "7"), ("1+7=", "8")], "names": [("x:", "y"), ("yy:", "z")]},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A base with three updates, the last of which alone has the last layer's last matrix, and probes."""
    root = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_lab()
    model.save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    names = [n for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n and n.endswith("weight")]
    listed = []
    for place, update in enumerate(NAMES):
        folder = root / f"update{place}"
        folder.mkdir()
        touched = names if place == 2 else names[:-1]
        deltas = {
            n: 20 * updates(1, *model.get_parameter(n).shape, seed=50 * place + k)[0] for k, n in enumerate(touched)
        }
        save_file(deltas, folder / "update.safetensors", metadata={"gcwm_viz": "update"})
        listed.append((update, folder))
    for split, tasks in PROBES.items():
        (root / "probes" / split).mkdir(parents=True)
        for task, pairs in tasks.items():
            lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in pairs]
            (root / "probes" / split / f"{task}.jsonl").write_text("\n".join(lines))
    return Inputs(base=root / "base", updates=listed, probes=root / "probes")


def finish(inputs: Inputs, out: Path, method: str = "gcwm", **overrides: Any) -> RunStore:
    store = create_run(inputs, out, RunSettings.preset_with("scale-free", COARSE | overrides, method))
    continue_run(store, CPU, workers=1)
    return store


@pytest.fixture(scope="module")
def run(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(inputs, tmp_path_factory.mktemp("runs") / "run").path


@pytest.fixture(scope="module")
def compared(run: Path) -> tuple[pd.DataFrame, list[tuple[str, int, int, str]]]:
    seen = []
    frame = leave_one_out(run, on=CPU, workers=1, progress=lambda *event: seen.append(event))
    return frame, seen


def test_updates_and_probes_may_lie_on_another_file_system(inputs: Inputs, tmp_path: Path) -> None:
    pytest.importorskip("upath", reason="universal-pathlib is not installed (the extra `remote`)")
    store = fsspec.filesystem("memory")
    assert inputs.probes is not None
    for folder in (inputs.probes, *(folder for _, folder in inputs.updates)):
        store.put(str(folder), f"/loo/{folder.name}", recursive=True)
    listed = [(name, location(f"memory://loo/{folder.name}")) for name, folder in inputs.updates]
    try:
        probes = location(f"memory://loo/{inputs.probes.name}")
        there = finish(Inputs(base=inputs.base, updates=listed, probes=probes), tmp_path / "there")
        here = finish(inputs, tmp_path / "here")
        left, right = (leave_one_out(run.path, on=CPU, workers=1) for run in (there, here))
        pd.testing.assert_frame_equal(left, right)
    finally:
        store.rm("/loo", recursive=True)


def test_one_row_an_update_task_split_and_metric(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]]
) -> None:
    frame, seen = compared
    assert list(frame.columns) == list(columns("leave_one_out"))
    assert len(frame) == 3 * 2 * 2 * 2
    assert list(dict.fromkeys(frame["left_out"])) == list(NAMES)
    pd.testing.assert_frame_equal(open_run(run).tables["leave_one_out"], frame)
    assert [event[:3] for event in seen] == [
        *(("matrices", k, 14) for k in range(1, 15)),
        ("scored", 3, 4),
        ("scored", 4, 4),
    ]
    assert [label for phase, _, _, label in seen if phase == "scored"] == ["without sums", "without names"]
    assert not (run / "leave_one_out" / "merges").exists()
    newest = WorkFolder(run / "leave_one_out").journal()[-1]
    assert newest["event"] == "complete"


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("gcwm", {}),
    ("opcm", {}),
    ("ties", {"keep": "last"}),
    ("gcwm", {"memory": 1}),
    ("wudi", {"policy": "current_anchor"}),
    ("wudi", {"decay": 0.7}),
]


@pytest.mark.parametrize(("method", "changes"), SETTINGS)
def test_without_an_update_scores_as_a_run_that_never_had_it(
    inputs: Inputs, tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    frame = leave_one_out(finish(inputs, tmp_path / "full", method, **changes).path, on=CPU, workers=1)
    for index in range(3):
        rest = [update for place, update in enumerate(inputs.updates) if place != index]
        mine = Inputs(base=inputs.base, updates=rest, probes=inputs.probes)
        store = finish(mine, tmp_path / str(index), method, **changes)
        scores = pd.read_parquet(store.path / "tables" / "scores.parquet")
        last = scores[(scores["model"] == "step") & (scores["step"] == 2)].set_index(["task", "split", "metric"])
        found = frame[frame["left_out"] == NAMES[index]].set_index(["task", "split", "metric"])
        for column in ("value", "se"):
            assert found[column].to_list() == last[column].reindex(found.index).to_list()


@pytest.mark.parametrize(("method", "changes"), SETTINGS)
def test_what_the_run_holds_is_neither_merged_nor_scored_again(
    inputs: Inputs, tmp_path: Path, method: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finish(inputs, tmp_path / "run", method, **changes).path
    merged, scored = watch(monkeypatch)
    leave_one_out(run, on=CPU, workers=1)
    without = [(NAMES[1], NAMES[2]), (NAMES[0], NAMES[2]), (NAMES[0], NAMES[1])]
    last = changes.get("keep") == "last"  # only then is the state without the last update not there
    assert merged == without[: 2 + last] * 14
    assert len(scored) == 2 + last


def watch(monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[str, ...]], list[None]]:
    """The updates of every final merge from here on, and one entry for each model that is scored."""
    merged: list[tuple[str, ...]] = []
    scored: list[None] = []
    merge, measure = final_merges, BehaviourProbe.measure

    def watched_merge(key: Any, names: Any, *rest: Any) -> Any:
        merged.append(tuple(names))
        return merge(key, names, *rest)

    def watched_measure(*arguments: Any) -> Any:
        scored.append(None)
        return measure(*arguments)

    monkeypatch.setattr(final_work, "final_merges", watched_merge)
    monkeypatch.setattr(BehaviourProbe, "measure", watched_measure)
    return merged, scored


def test_a_run_without_values_of_examples_is_scored_itself(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old, ignore=shutil.ignore_patterns("leave_one_out"))
    for step in (2, 3):  # as a run of an earlier version
        file = old / "probes" / f"step-{step:03d}.json"
        content = json.loads(file.read_bytes())
        del content["examples"]
        file.write_text(json.dumps(content))
    seen = []
    frame = leave_one_out(old, on=CPU, workers=1, progress=lambda *event: seen.append(event))
    pd.testing.assert_frame_equal(frame, compared[0])
    labels = [label for phase, _, _, label in seen if phase == "scored"]
    assert labels == ["all updates", "without <b>odd", "without sums", "without names"]


@pytest.mark.parametrize("budget", [None, 1])
def test_two_workers_or_little_memory_give_the_same(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]], tmp_path: Path, budget: int | None
) -> None:
    frame = leave_one_out(run, tmp_path / "out", on=LocalEngine(CPU, 2), memory_budget=budget)
    pd.testing.assert_frame_equal(frame, compared[0], rtol=1e-6)  # a budget of one byte works in tiles


def test_full_scores_are_those_of_the_run(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]]
) -> None:
    frame, _ = compared
    scores = open_run(run).tables["scores"]
    last = scores[(scores["model"] == "step") & (scores["step"] == 3)].set_index(["task", "split", "metric"])
    part = frame[frame["left_out"] == "sums"].set_index(["task", "split", "metric"])
    assert part["full_value"].to_numpy() == pytest.approx(last["value"].reindex(part.index).to_numpy(), rel=1e-5)
    assert frame["difference"].to_numpy() == pytest.approx((frame["value"] - frame["full_value"]).to_numpy())
    assert (frame[frame["metric"] == "nll"]["difference"] != 0).all()


def test_pairing_tightens_the_error() -> None:
    full = torch.tensor([0.1, 2.0, 5.0, 9.0], dtype=torch.float64)
    row = _compare("nll", full + torch.tensor([0.1, 0.2, 0.1, 0.2]), full)
    assert row["difference"] == pytest.approx(0.15)
    assert row["difference_se"] == pytest.approx(0.05 / 3**0.5)
    assert row["difference_se"] < row["full_se"] / 10


def test_no_changed_answer_is_not_certainty() -> None:
    same = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    assert _compare("em", same, same)["difference_se"] == pytest.approx(1 / 5)
    assert _compare("nll", same, same)["difference_se"] == 0
    alone = _compare("em", same[:1], same[:1])
    assert alone["difference"] == 0
    assert math.isnan(alone["difference_se"])


def test_a_second_call_computes_nothing(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged, scored = watch(monkeypatch)
    pd.testing.assert_frame_equal(leave_one_out(run, on=CPU, workers=1), compared[0])
    assert (merged, scored) == ([], [])


def test_a_call_cancelled_while_merging_goes_on(
    run: Path,
    compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"

    def stop(phase: str, done: int, total: int, label: str) -> None:
        if (phase, done) == ("matrices", 5):
            (out / "cancel").touch()

    with pytest.raises(WorkCancelledError, match="the same command goes on"):
        leave_one_out(run, out, on=CPU, workers=1, progress=stop)
    assert len(list((out / "merges" / "001").glob("*.safetensors"))) == 5
    lost = sorted((out / "merges" / "002").glob("*.safetensors"))
    lost[0].unlink()
    lost[1].write_bytes(lost[1].read_bytes()[:-1])
    merged, _ = watch(monkeypatch)
    seen = []
    frame = leave_one_out(run, out, on=CPU, workers=1, progress=lambda *event: seen.append(event))
    pd.testing.assert_frame_equal(frame, compared[0])
    assert len(merged) == 2 * 9 + 2
    assert seen[0][:3] == ("matrices", 4, 14)


def test_a_call_cancelled_while_scoring_goes_on(
    run: Path,
    compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"

    def stop(phase: str, done: int, total: int, label: str) -> None:
        if phase == "scored":
            (out / "cancel").touch()

    with pytest.raises(WorkCancelledError, match="the same command goes on"):
        leave_one_out(run, out, on=CPU, workers=1, progress=stop)
    assert len(pd.read_parquet(out / "tables" / "leave_one_out.parquet")) == 16
    assert [folder.name for folder in (out / "merges").iterdir()] == ["002"]
    merged, scored = watch(monkeypatch)
    pd.testing.assert_frame_equal(leave_one_out(run, out, on=CPU, workers=1), compared[0])
    assert (merged, scored) == ([], [None])


def test_results_in_another_precision_are_refused(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]]
) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"probe_dtype": "bfloat16"}))
    try:
        with pytest.raises(InputError, match="holds results for another probe_dtype"):
            leave_one_out(run, on=CPU, workers=1)
    finally:
        (run / "run.json").write_text(json.dumps(info))


def test_results_of_another_run_are_refused(
    inputs: Inputs, run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]], tmp_path: Path
) -> None:
    other = finish(inputs, tmp_path / "other", method="mean").path
    with pytest.raises(InputError, match="holds results for another settings"):
        leave_one_out(other, run / "leave_one_out", on=CPU)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        leave_one_out(run, tmp_path / "full", on=CPU)


def test_runs_that_cannot_be_compared_say_why(inputs: Inputs, tmp_path: Path) -> None:
    single = finish(Inputs(base=inputs.base, updates=inputs.updates[:1], probes=inputs.probes), tmp_path / "one")
    with pytest.raises(InputError, match="at least two"):
        leave_one_out(single.path)
    bare = finish(Inputs(base=inputs.base, updates=inputs.updates), tmp_path / "bare")
    with pytest.raises(InputError, match="without probes"):
        leave_one_out(bare.path)
    new = create_run(inputs, tmp_path / "new", RunSettings.preset_with("scale-free", {}))
    with pytest.raises(InputError, match="is not finished: 14 matrices are missing"):
        leave_one_out(new.path)
    paths = [path for _, path in inputs.updates]
    trained = create_run(
        Inputs(base=inputs.base, updates=inputs.updates, states=paths, probes=inputs.probes),
        tmp_path / "trained",
        RunSettings.preset_with("scale-free", {}),
    )
    with pytest.raises(InputError, match="training pipeline"):
        leave_one_out(trained.path)


def test_command_prints_what_leaving_out_changes(
    run: Path, compared: tuple[pd.DataFrame, list[tuple[str, int, int, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leave-one-out", str(run), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "test split" in said
    assert len(said.strip().splitlines()) == 2 + 1 + len(NAMES)
    assert main(["leave-one-out", str(run / "matrices")]) == 2
    assert main(["leave-one-out", str(run), "--address", "auto"]) == 2
    assert "--address belongs to --engine ray" in capsys.readouterr().err
