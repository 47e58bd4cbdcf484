"""Other strengths of the same merge, on the development probes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.stored import STRENGTHS
from gcwm_viz.probes.tasks import load_tasks
from gcwm_viz.runs.strength import best_strength, strength_curve
from gcwm_viz.runs.tables import Run, columns, open_run
from tests.torture.small import write_inputs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("strength")
    assert main(["run", *write_inputs(root), "--workers", "1", "--set", "eta=2", "--out", str(root / "run")]) == 0
    return open_run(root / "run")


def with_examples(run: Run, folder: Path, values: dict[float, list[float]]) -> Run:
    """A copy of ``run`` whose development tasks have the exact matches ``values`` by factor, in every task."""
    shutil.copytree(run.path, folder)
    rows = []
    for factor, right in values.items():
        index = STRENGTHS.index(factor) + 1 if factor != 1.0 else None
        file = folder / "probes" / (f"strength-{index:03d}.json" if index else f"step-{run.steps:03d}.json")
        content = json.loads(file.read_bytes())
        for task in content["examples"]:
            task[2] = {"em": right}
        file.write_text(json.dumps(content))
        mean = float(np.mean(right))
        rows += [
            {"strength": factor, "task": task, "metric": "em", "value": mean, "se": 0.1, "n": len(right)}
            for task in run.updates
        ]
    pd.DataFrame(rows).to_parquet(folder / "tables" / "strength.parquet")
    return open_run(folder)


def test_every_strength_is_the_base_with_so_much_of_the_state(run: Run) -> None:
    table = run.tables["strength"]
    assert list(table.columns) == list(columns("strength"))
    assert sorted(set(table["strength"])) == sorted([*STRENGTHS, 1.0])
    model = MergedModel(CheckpointIndex.open(run.store.file.base.path), run.store.keys, CPU, torch.float32)
    tasks = [task for task in load_tasks(run.store.file.probes.path) if task.split == "dev"]
    for factor in (0.5, 1.0, 1.4):
        model.set_updates([factor * run.store.state(index, run.steps) for index in range(len(run.store.keys))])
        scores = pd.DataFrame(BehaviourProbe(model.tokenizer, tasks).score(model.model, CPU))
        here = table[table["strength"] == factor].set_index(["task", "metric"])["value"]
        expected = scores.set_index(["task", "metric"])["value"]
        # The same arithmetic, with another number of threads: a few roundings of float32 logits near 5 nats.
        pd.testing.assert_series_equal(here.sort_index(), expected.sort_index(), rtol=1e-5)
    steps = run.tables["scores"].query("model == 'step' and step == 3 and split == 'dev'").set_index(["task", "metric"])
    own = table[table["strength"] == 1.0].set_index(["task", "metric"])["value"]
    pd.testing.assert_series_equal(own.sort_index(), steps["value"].sort_index())
    assert "strength" not in set(run.tables["scores"]["model"])
    assert list(strength_curve(run)) == list(strength_curve(run, "nll", "se")) == run.updates


def test_a_better_strength_is_clear_where_its_paired_gain_is(run: Run, tmp_path: Path) -> None:
    wrong, right = [0.0] * 40, [1.0] * 30 + [0.0] * 10
    clear: Any = best_strength(
        with_examples(run, tmp_path / "clear", {0.3: wrong, 0.5: right, 0.7: wrong, 1.0: wrong, 1.4: wrong})
    )
    assert (clear.factor, clear.value, clear.own) == (0.5, 0.75, 0.0)
    assert clear.gain == pytest.approx(0.75)
    # One task's error is the spread of 30 ones and 10 zeros over √40; that of the mean of three is √3 smaller.
    assert clear.error == pytest.approx(np.std(right, ddof=1) / 40**0.5 / 3**0.5)
    assert clear.clear
    assert clear.eta == 1.0
    assert "0.5 times the merged update scores 0.750 exact match, the merged model 0.000" in clear.sentence
    assert clear.sentence.endswith("--set eta=1 merges at that strength")
    one = [1.0] + [0.0] * 39
    chance: Any = best_strength(
        with_examples(run, tmp_path / "chance", {0.3: wrong, 0.5: one, 0.7: wrong, 1.0: wrong, 1.4: wrong})
    )
    assert chance.factor == 0.5
    assert not chance.clear


def test_the_strength_of_the_run_may_be_the_best(run: Run, tmp_path: Path) -> None:
    right, wrong = [1.0] * 6, [0.0] * 6
    best: Any = best_strength(
        with_examples(run, tmp_path / "own", {0.3: wrong, 0.5: wrong, 0.7: wrong, 1.0: right, 1.4: right})
    )
    assert (best.factor, best.gain, best.error, best.clear) == (1.0, 0.0, 0.0, False)


def test_the_commands_say_it_where_it_is_clear(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, right = [0.0] * 40, [1.0] * 30 + [0.0] * 10
    copy = with_examples(run, tmp_path / "run", {0.3: wrong, 0.5: right, 0.7: wrong, 1.0: wrong, 1.4: wrong})
    assert main(["show", str(copy.path)]) == 0
    assert "note: on the development probes 0.5 times the merged update scores 0.750" in capsys.readouterr().out
    assert main(["show", str(run.path)]) == 0
    assert "times the merged update" not in capsys.readouterr().out


def test_without_development_probes_or_of_given_states_none_is_tried(run: Run, tmp_path: Path) -> None:
    arguments = write_inputs(tmp_path)
    states = [part for name in run.updates for part in ("--state", str(tmp_path / name))]
    assert main(["run", *arguments, *states, "--workers", "1", "--out", str(tmp_path / "states")]) == 0
    shutil.rmtree(tmp_path / "probes" / "dev")
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "test")]) == 0
    for name in ("states", "test"):
        other = open_run(tmp_path / name)
        assert strength_curve(other).empty
        assert best_strength(other) is None
        assert not list((other.path / "probes").glob("strength-*"))
