"""Predictors of a tiny run: what they are, that they resume, and what a run without probes has of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from gcwm_viz.continual.folder import WorkCancelledError
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.decide.predict import TABLES, knowledge_of, predict, read_tables
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.tables import open_run
from gcwm_viz.studies.score import score
from tests.decide.conftest import CPU
from tests.rounding import rounding
from tests.torture.small import NAMES, contents

Tables = dict[str, pd.DataFrame]


def predicted(run: Path) -> Tables:
    return predict(run, on=CPU, workers=1)


def same(a: Tables, b: Tables) -> None:
    assert set(a) == set(b) == set(TABLES)
    for name, table in a.items():
        pd.testing.assert_frame_equal(table, b[name])


def test_tables_are_of_every_update_pair_and_task(run: Path) -> None:
    tables = predicted(run)
    assert tables["updates"]["update"].to_list() == list(NAMES)
    assert list(zip(tables["pairs"]["i"], tables["pairs"]["j"], strict=True)) == [
        (i, j) for i in NAMES for j in NAMES if i != j
    ]
    assert len(tables["effects"]) == 9
    assert (tables["effects"].groupby("update")["task"].nunique() == 3).all()
    assert (tables["effects"]["kl_task"].isna() == (tables["effects"]["task"] == "second")).all()  # it has no prompts
    assert (tables["effects"]["kl_task"].dropna() > 0).all()
    assert set(tables["solo"]["split"]) == {"dev"}
    same(tables, read_tables(run))


def test_norms_are_those_of_the_files(run: Path) -> None:
    store = RunStore.open(run)
    base = load_file(store.file.base.path / "model.safetensors")
    weight = sum(base[key.name].double().square().sum() for key in store.keys)
    for name, value in predicted(run)["updates"].set_index("update")["relative_norm"].items():
        delta = load_file(Path(store.file.updates[store.updates.index(str(name))].path) / "update.safetensors")
        norm = sum(tensor.double().square().sum() for tensor in delta.values())
        assert value == pytest.approx(float((norm / weight) ** 0.5), rel=rounding(24))


def test_less_of_an_update_scores_what_a_run_at_that_strength_stores_of_its_expert(
    run: Path, tiny_run: Callable[..., Path], tiny_inputs: Inputs
) -> None:
    solo = predicted(run)["solo"].set_index(["update", "task", "metric"])["value"].sort_index()
    less = tiny_run(inputs=replace(tiny_inputs, strengths=dict.fromkeys(NAMES, STRENGTHS[0])))
    scores = open_run(less).tables["scores"].query("model == 'expert' and split == 'dev'")
    theirs = scores.set_index(["update", "task", "metric"])["value"].sort_index()
    pd.testing.assert_series_equal(solo, theirs, rtol=1e-6)


def test_it_resumes_and_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    predict(whole, on=LocalEngine(CPU, 2))

    def stop(phase: str, done: int, total: int, label: str) -> None:
        if done == 4:
            (run / "forecast" / "cancel").touch()

    with pytest.raises(WorkCancelledError):
        predict(run, on=CPU, workers=1, progress=stop)
    assert not (run / "forecast" / "tables").exists()
    first = {file.name: file.stat().st_mtime_ns for file in (run / "forecast" / "pieces").iterdir()}
    assert len(first) == 4
    seen: list[tuple[int, int]] = []
    predict(run, on=CPU, workers=1, progress=lambda phase, done, total, label: seen.append((done, total)))
    assert seen == [(done, 15) for done in range(5, 16)]
    assert all((run / "forecast" / "pieces" / name).stat().st_mtime_ns == at for name, at in first.items())
    assert contents(run / "forecast") == contents(whole / "forecast")


def test_a_damaged_piece_is_computed_again(run: Path) -> None:
    before = predicted(run)
    piece = run / "forecast" / "pieces" / "00003.json"
    piece.write_text(piece.read_text()[:100])
    same(predicted(run), before)


def test_without_probes_there_are_the_updates_alone_and_probes_that_come_later_are_added(
    run: Path, tiny_run: Callable[..., Path], tiny_inputs: Inputs, tmp_path: Path
) -> None:
    whole = predicted(run)
    bare = Path(shutil.copytree(tiny_run(inputs=replace(tiny_inputs, probes=None)), tmp_path / "bare"))
    tables = predicted(bare)
    assert tables["effects"].empty
    assert tables["solo"].empty
    pd.testing.assert_frame_equal(tables["pairs"], whole["pairs"])
    known = knowledge_of(list(NAMES), open_run(bare).tables["scores"], tables)
    assert known.tasks == known.claims == NAMES
    assert not known.has_labels
    assert not known.has_prompts
    pieces = bare / "forecast" / "pieces"
    before = {file.name: file.stat().st_mtime_ns for file in pieces.iterdir()}
    score(bare, LocalEngine(CPU, 1), tiny_inputs.probes)
    same(predicted(bare), whole)
    assert {name: (pieces / name).stat().st_mtime_ns for name in before} == before


def test_what_is_known_is_that_of_the_tables(run: Path) -> None:
    tables, scores = predicted(run), open_run(run).tables["scores"]
    known = knowledge_of(list(NAMES), scores, tables)
    assert known.claims == NAMES
    assert set(known.tasks) == set(NAMES)
    assert known.has_labels
    assert known.has_prompts
    place = known.tasks.index("second")
    own = scores.query("task == 'second' and split == 'dev' and metric == 'acc'")
    assert known.base[place] == own[own["model"] == "base"]["value"].item()
    assert known.solo[2, place, 1] == own[(own["model"] == "expert") & (own["update"] == "third")]["value"].item()
    less = tables["solo"].query("update == 'third' and task == 'second' and metric == 'acc'")
    assert known.solo[2, place, 0] == less["value"].item()
    # A task that bears no update's name is nobody's claim, and one that is measured by loss alone is none.
    other, solo = (table.assign(task=table["task"].replace("second", "other")) for table in (scores, tables["solo"]))
    assert knowledge_of(list(NAMES), other, tables | {"solo": solo}).claims == ("first", "", "third")
    losses = scores[(scores["task"] != "first") | (scores["metric"] == "nll")]
    solo = tables["solo"].query("task != 'first' or metric == 'nll'")
    assert set(knowledge_of(list(NAMES), losses, tables | {"solo": solo}).tasks) == {"second", "third"}


def test_one_update_has_no_pairs(tiny_run: Callable[..., Path], tiny_inputs: Inputs, tmp_path: Path) -> None:
    alone = replace(tiny_inputs, updates=tiny_inputs.updates[:1])
    run = Path(shutil.copytree(tiny_run(inputs=alone), tmp_path / "run"))
    predicted(run)
    tables = read_tables(run)
    assert len(tables["pairs"]) == 0
    assert {"i", "j", "interference"} <= set(tables["pairs"])
    known = knowledge_of(["first"], open_run(run).tables["scores"], tables)
    assert known.pairs["interference"].shape == (1, 1)


def test_changed_inputs_are_refused(tiny_inputs: Inputs, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(Path(str(tiny_inputs.base)).parent, tmp_path / "model"))
    moved = replace(
        tiny_inputs, base=root / "base", updates=[(name, root / name) for name in NAMES], probes=root / "probes"
    )
    run = tiny_run(inputs=moved)
    file = root / "second" / "update.safetensors"
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"gcwm_viz": "update"})
    with pytest.raises(InputError, match="second has changed since run"):
        predicted(run)


def test_a_training_pipeline_and_predictors_of_another_run_are_refused(run: Path) -> None:
    predicted(run)
    file = run / "forecast" / "forecast.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | {"base": "another"}))
    with pytest.raises(InputError, match="holds predictors for another base"):
        predicted(run)
    info = json.loads((run / "run.json").read_text())
    info["states"] = [{"name": f"s{k}", "path": "state", "fingerprint": "f"} for k in range(3)]
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="describes a training pipeline: there is no merge to forecast"):
        predicted(run)


def test_a_table_that_cannot_be_read_is_named(run: Path) -> None:
    assert all(table.empty for table in read_tables(run).values())
    predicted(run)
    (run / "forecast" / "tables" / "solo.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match=r"solo\.parquet is not a readable table"):
        read_tables(run)
