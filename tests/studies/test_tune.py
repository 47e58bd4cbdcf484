"""Choosing coefficients on the development split, with a tiny random model."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from gcwm_viz.continual import final_work
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_merges
from gcwm_viz.continual.folder import WorkCancelledError
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.studies.tune import tune
from tests.factories import updates
from tests.probes.models import tiny_lab

CPU = torch.device("cpu")
PROBES = {
    "dev": {"sums": [("1+1=", "2"), ("2+2=", "4")], "names": [("a:", "b"), ("c:", "dd")]},
    "test": {"sums": [("3+1=", "4")], "names": [("x:", "y"), ("yy:", "z"), ("z:", "x")]},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with two updates and probes of them."""
    root = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_lab()
    model.save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    names = [n for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n and n.endswith("weight")]
    for place, update in enumerate(("sums", "names")):
        (root / update).mkdir()
        deltas = {n: updates(1, *model.get_parameter(n).shape, seed=50 * place + k)[0] for k, n in enumerate(names)}
        save_file(deltas, root / update / "update.safetensors", metadata={"gcwm_viz": "update"})
    write_probes(root / "probes", PROBES)
    return root


def write_probes(folder: Path, probes: dict[str, dict[str, list[tuple[str, str]]]]) -> None:
    for split, tasks in probes.items():
        (folder / split).mkdir(parents=True)
        for task, pairs in tasks.items():
            lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in pairs]
            (folder / split / f"{task}.jsonl").write_text("\n".join(lines))


def inputs(root: Path, **more: Any) -> Inputs:
    listed = [(name, root / name) for name in ("sums", "names")]
    entries: dict[str, Any] = {"base": root / "base", "updates": listed, "probes": root / "probes"}
    return Inputs(**(entries | more))


def go(root: Path, out: Path, grid: dict[str, list[Any]], method: str = "wudi", **more: Any) -> pd.DataFrame:
    settings: dict[str, Any] = {"metric": "nll", "on": CPU, "workers": 1}
    return tune(inputs(root), out, method, "scale-free", grid, **(settings | more))


@pytest.fixture(scope="module")
def tuned(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]]:
    out = tmp_path_factory.mktemp("tuned") / "out"
    seen = []
    grid = {"mu_rel": [0.1, 10.0], "eta": [0.5, 1.0], "decay": [1.0, 0.7]}
    frame = go(model, out, grid, progress=lambda *event: seen.append(event))
    return out, grid, frame, seen


def test_one_row_a_point_and_one_merge_for_what_acts_after_it(
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
) -> None:
    out, _, frame, seen = tuned
    assert len(frame) == 8
    assert list(frame.columns) == ["mu_rel", "eta", "decay", "dev", "dev_se", "test", "test_se", "best", "merge"]
    assert sorted(path.name for path in (out / "merges").iterdir()) == ["mu_rel=0.1", "mu_rel=10.0"]
    assert frame["merge"].nunique() == 2
    assert not frame[["dev", "dev_se", "test"]].isna().any().any()
    pd.testing.assert_frame_equal(pd.read_parquet(out / "tables" / "tune.parquet"), frame)
    assert [event[:3] for event in seen if event[0] == "matrices"] == [("matrices", k, 14) for k in range(1, 15)]
    assert [event[:3] for event in seen if event[0] == "points"] == [("points", k, 8) for k in range(1, 9)]
    assert [done for phase, done, _, _ in seen if phase == "points"] == list(range(1, 9))


def test_the_best_is_chosen_on_development(
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
) -> None:
    _, _, frame, _ = tuned
    assert list(frame.index[frame["best"]]) == [frame["dev"].idxmin()]
    assert frame["dev"].nunique() == 8


@pytest.mark.parametrize("place", [2, 5])
def test_a_point_scores_as_its_own_run_does(
    model: Path,
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
    tmp_path: Path,
    place: int,
) -> None:
    _, grid, frame, _ = tuned
    point = {name: frame[name].iloc[place] for name in grid}
    settings = RunSettings.preset_with("scale-free", {name: float(value) for name, value in point.items()}, "wudi")
    store = create_run(inputs(model), tmp_path / "run", settings)
    continue_run(store, CPU, workers=1)
    scores = pd.read_parquet(store.path / "tables" / "scores.parquet")
    last = scores[(scores["model"] == "step") & (scores["step"] == 2) & (scores["metric"] == "nll")]
    for split in ("dev", "test"):
        part = last[last["split"] == split]
        assert frame[split].iloc[place] == part["value"].mean()
    errors = last[last["split"] == "dev"]["se"]
    assert frame["dev_se"].iloc[place] == pytest.approx((errors.iloc[0] ** 2 + errors.iloc[1] ** 2) ** 0.5 / 2)


def test_a_second_call_computes_nothing(
    model: Path,
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, grid, frame, _ = tuned
    monkeypatch.setattr(MergedModel, "__init__", lambda *_: pytest.fail("the model was loaded again"))
    monkeypatch.setattr(final_work, "final_merges", lambda *_, **__: pytest.fail("merged again"))
    pd.testing.assert_frame_equal(go(model, out, grid), frame)


def test_new_points_of_a_known_merge_cost_no_merge(
    model: Path,
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, _, frame, _ = tuned
    monkeypatch.setattr(final_work, "final_merges", lambda *_, **__: pytest.fail("merged again"))
    more = go(model, out, {"mu_rel": [0.1], "eta": [1.0, 2.0], "decay": [1.0]})
    assert more["dev"].iloc[0] == frame[(frame["mu_rel"] == 0.1) & (frame["eta"] == 1.0)]["dev"].iloc[0]
    assert len(more) == 2


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Matrix and last step of every final merge from here on."""
    merged: list[tuple[str, int]] = []
    merge = final_merges

    def watched(key: Any, *rest: Any) -> Any:
        found = merge(key, *rest)
        merged.append((key.name, len(found)))
        return found

    monkeypatch.setattr(final_work, "final_merges", watched)
    return merged


def test_merges_that_are_lost_or_damaged_are_made_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    whole = go(model, out, {"ties_keep": [0.5]}, "ties")
    files = sorted((out / "merges" / "ties_keep=0.5").glob("*.safetensors"))
    assert len(files) == 14
    before = [file.read_bytes() for file in files]
    files[3].unlink()
    files[5].write_bytes(before[5][:-1])
    merged = watch(monkeypatch)
    pd.testing.assert_frame_equal(go(model, out, {"ties_keep": [0.5]}, "ties"), whole)
    assert merged == []  # what is scored needs no merge
    (out / "scores" / "ties_keep=0.5.json").unlink()
    pd.testing.assert_frame_equal(go(model, out, {"ties_keep": [0.5]}, "ties"), whole)
    assert len(merged) == 2
    assert [file.read_bytes() for file in files] == before


def test_a_decay_that_is_added_later_takes_the_merges_of_every_step(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = watch(monkeypatch)
    grid = {"eta": [1.0], "decay": [1.0]}
    alone = go(model, tmp_path / "out", grid)
    assert {steps for _, steps in merged} == {1}
    merged.clear()
    both = go(model, tmp_path / "out", {"eta": [1.0], "decay": [1.0, 0.5]})
    assert {steps for _, steps in merged} == {2}
    assert both["dev"].iloc[0] == alone["dev"].iloc[0]
    merged.clear()
    (tmp_path / "out" / "scores" / "decay=1.0,eta=1.0.json").unlink()
    pd.testing.assert_frame_equal(go(model, tmp_path / "out", grid), alone)
    assert merged == []


@pytest.mark.parametrize("budget", [None, 1])
def test_two_workers_or_little_memory_give_the_same(model: Path, tmp_path: Path, budget: int | None) -> None:
    grid = {"mu_rel": [0.1, 10.0], "eta": [0.5, 1.0]}
    one = go(model, tmp_path / "one", grid, "gcwm")
    two = go(model, tmp_path / "two", grid, "gcwm", on=LocalEngine(CPU, 2), memory_budget=budget)
    pd.testing.assert_frame_equal(two, one, rtol=1e-6)  # a budget of one byte works in tiles


def test_merges_under_other_settings_are_not_used(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(model, out, {"eta": [1.0]})
    (out / "scores" / "eta=1.0.json").unlink()
    file = out / "merges" / "default" / "final.json"
    stored = json.loads(file.read_text())
    stored["settings"]["gcwm"]["mu_rel"] = 0.7  # as a default of another version
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"other merges than its name says: settings.gcwm.mu_rel was 0.7, is 0.3"):
        go(model, out, {"eta": [1.0]})
    file.write_text("{}")
    with pytest.raises(InputError, match="lacks or garbles an entry"):
        go(model, out, {"eta": [1.0]})


def test_a_cancelled_call_goes_on(
    model: Path,
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
    tmp_path: Path,
) -> None:
    _, grid, frame, _ = tuned
    mine = tmp_path / "out"

    def stop(phase: str, done: int, total: int, label: str) -> None:
        if (phase, done) == ("points", 3):
            ResultFolder(mine, "tune.json", "").request_cancel()

    with pytest.raises(WorkCancelledError, match="the same command goes on"):
        go(model, mine, grid, progress=stop)
    assert len(list((mine / "scores").iterdir())) == 3
    seen = []
    pd.testing.assert_frame_equal(go(model, mine, grid, progress=lambda *event: seen.append(event)), frame)
    assert [(phase, done) for phase, done, _, _ in seen] == [("points", done) for done in range(4, 9)]


def test_words_and_none_in_a_grid(model: Path, tmp_path: Path) -> None:
    frame = go(model, tmp_path / "out", {"memory": [None, 1]}, "task-arithmetic", fixed={"eta": 0.5}, metric="em")
    assert list(frame["memory"]) == ["none", "1"]
    assert frame["best"].sum() == 1
    assert list(frame["merge"]) == ["merges/memory=none", "merges/memory=1"]


def test_another_comparison_in_the_same_folder_is_refused(
    model: Path,
    tuned: tuple[Path, dict[str, list[float]], pd.DataFrame, list[tuple[str, int, int, str]]],
    tmp_path: Path,
) -> None:
    out, grid, _, _ = tuned
    with pytest.raises(InputError, match="another method: 'wudi', not 'gcwm'"):
        go(model, out, grid, "gcwm")
    other = inputs(model, updates=[("sums", model / "sums")])
    with pytest.raises(InputError, match="another updates"):
        tune(other, out, "wudi", "scale-free", grid)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="already exists and is not empty"):
        go(model, tmp_path / "full", grid)


def test_bad_questions(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown setting 'mu'"):
        go(model, tmp_path / "out", {"mu": [1.0]})
    with pytest.raises(InputError, match="setting eta must be"):
        go(model, tmp_path / "out", {"eta": [1.0, -1.0]})
    with pytest.raises(InputError, match="at least one setting"):
        go(model, tmp_path / "out", {})
    with pytest.raises(InputError, match="at least one value"):
        go(model, tmp_path / "out", {"eta": []})
    with pytest.raises(InputError, match="every value of a setting once"):
        go(model, tmp_path / "out", {"eta": [1.0, 1.0]})
    with pytest.raises(InputError, match="both in the grid and fixed"):
        go(model, tmp_path / "out", {"eta": [1.0]}, fixed={"eta": 2.0})
    with pytest.raises(InputError, match="metric must be one of em, acc"):
        go(model, tmp_path / "out", {"eta": [1.0]}, metric="f1")
    with pytest.raises(InputError, match="needs a folder of probes"):
        tune(inputs(model, probes=None), tmp_path / "out", "wudi", "scale-free", {"eta": [1.0]})
    write_probes(tmp_path / "tests-only", {"test": PROBES["test"]})
    with pytest.raises(InputError, match="expected development probes"):
        tune(inputs(model, probes=tmp_path / "tests-only"), tmp_path / "out", "wudi", "scale-free", {"eta": [1.0]})
    assert not (tmp_path / "out").exists()
