"""Matrices put back: bit for bit, by share, scored on the same examples, and written as a model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from gcwm_viz.attribution.attribute import attribute
from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.restore import Restoration, compare, read_cells
from gcwm_viz.cli import main
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.tasks import Task, load_tasks
from gcwm_viz.probes.values import TaskValues
from gcwm_viz.studies.score import score
from tests.attribution.models import CPU


@pytest.fixture(scope="module", params=["merged", "adapted"])
def live(request: pytest.FixtureRequest) -> LiveModel:
    return LiveModel.open(request.getfixturevalue(request.param), CPU)


def tasks_of(live: LiveModel) -> list[Task]:
    return load_tasks(live.store.file.probes.path)


def weights(live: LiveModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in live.model.named_parameters()}


@pytest.mark.parametrize("ends", [Ends(0, 1), Ends(1, 2), Ends(0, 3)])
def test_everything_put_back_is_the_earlier_state_to_the_bit(live: LiveModel, ends: Ends) -> None:
    live.set(("step", ends.start, "") if ends.start else ("base", 0, ""))
    before = weights(live)
    live.set(("step", ends.step, ""))
    after = weights(live)
    restoration = Restoration(live, ends, tasks_of(live))
    scores = restoration.score(dict.fromkeys(restoration.matrices, 1.0))
    assert all(torch.equal(before[name], value) for name, value in weights(live).items())
    assert (scores["restored"] == scores["before"]).all()
    restoration.measure({})
    assert all(torch.equal(after[name], value) for name, value in weights(live).items())


def test_one_matrix_alone_changes_and_by_its_share(live: LiveModel) -> None:
    restoration = Restoration(live, Ends(1, 2), tasks_of(live)[:1])
    name = "model.layers.0.self_attn.v_proj.weight"
    live.set(("step", 1, ""))
    before = weights(live)
    live.set(("step", 2, ""))
    after = weights(live)
    restoration.measure({name: 0.25})
    for other, value in weights(live).items():
        if other == name:
            expected = 0.75 * after[name].double() + 0.25 * before[name].double()
            # weights of size 1 in float32, and factors that are multiplied out first
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(value, after[other]), other


def test_scores_are_those_of_a_model_set_by_hand(merged: Path) -> None:
    live = LiveModel.open(merged, CPU)
    restoration = Restoration(live, Ends(1, 2), tasks_of(live))
    chosen = restoration.matrices[:3]
    scores = restoration.score(dict.fromkeys(chosen, 1.0))
    other = LiveModel.open(merged, CPU)
    earlier, later = (other.updates(("step", step, "")) for step in (1, 2))
    other.set_updates(
        [a if name in chosen else b for name, a, b in zip(restoration.matrices, earlier, later, strict=True)]
    )
    for row in BehaviourProbe(other.tokenizer, tasks_of(other)).score(other.model):
        same = scores[["task", "split", "metric"]].eq([row["task"], row["split"], row["metric"]]).all(axis=1)
        assert scores.loc[same, "restored"].item() == row["value"]
        assert scores.loc[same, "restored_se"].item() == pytest.approx(row["se"], nan_ok=True)


def values(name: str, **metrics: list[float]) -> TaskValues:
    return TaskValues(name, "dev", {m: torch.tensor(v, dtype=torch.float64) for m, v in metrics.items()})


def test_the_recovered_share_and_its_undefined_cases() -> None:
    before = [values("a", em=[1, 1, 1, 0], nll=[1.0, 1.0, 1.0, 1.0]), values("b", em=[0, 0, 1, 1], nll=[2.0] * 4)]
    after = [values("a", em=[0, 0, 0, 0], nll=[3.0, 3.0, 3.0, 3.0]), values("b", em=[1, 0, 1, 0], nll=[2.0005] * 4)]
    again = [values("a", em=[1, 0, 0, 0], nll=[2.0, 3.0, 3.0, 3.0]), values("b", em=[1, 1, 1, 1], nll=[9.0] * 4)]
    rows = compare(before, after, again, {"a": "earlier", "b": "arrived"}).set_index(["task", "metric"])
    assert rows.loc[("a", "em"), "recovered"] == pytest.approx(1 / 3)
    assert rows.loc[("a", "nll"), "recovered"] == pytest.approx(0.25 / 2)
    assert rows.loc[("a", "em"), "change"] == pytest.approx(0.25)
    # Paired: one of four examples differs, so the error is that of a mean of (1, 0, 0, 0).
    assert rows.loc[("a", "nll"), "change_se"] == pytest.approx(torch.tensor([1.0, 0, 0, 0]).std().item() / 2)
    assert rows["recovered"].isna().tolist() == [False, False, True, True]
    for metric in ("em", "nll"):
        assert "hardly changed" in str(rows.loc[("b", metric), "reason"])
    assert list(rows["role"]) == ["earlier", "earlier", "arrived", "arrived"]


def test_roles_follow_the_path(merged: Path) -> None:
    restoration = Restoration(LiveModel.open(merged, CPU), Ends(1, 3), [])
    assert restoration.roles == {"sums": "earlier", "names": "arrived", "<b>odd": "arrived"}


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        ([{"layer": 0}], 7),
        ([{"family": "k_proj"}], 2),
        ([{"layer": 1, "family": "k_proj", "share": 0.5}], 1),
        ([{"matrix": "model.layers.0.mlp.up_proj.weight"}, {"layer": 1}], 8),
    ],
)
def test_a_file_of_cells(merged: Path, tmp_path: Path, cells: list[Any], count: int) -> None:
    file = tmp_path / "cells.json"
    file.write_text(json.dumps({"cells": cells}))
    shares = read_cells(file, LiveModel.open(merged, CPU))
    assert len(shares) == count
    assert set(shares.values()) == {cells[0].get("share", 1.0)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"cells": []}, "found no list of cells"),
        ({"other": 1}, "found no list of cells"),
        ({"cells": [3]}, "cell 1: expected matrix, layer, family or share, found 3"),
        ({"cells": [{"layer": 0}, {"layers": 1}]}, r"cell 2: expected matrix, layer, family or share"),
        ({"cells": [{"layer": 9}]}, r'cell 1: no matrix of the run is {"layer": 9}'),
        ({"cells": [{"layer": 0, "share": 2}]}, "cell 1: expected a share from 0 to 1, found '2'"),
        ({"cells": [{"layer": 0, "share": True}]}, "expected a share from 0 to 1, found 'True'"),
    ],
)
def test_a_file_that_is_refused(merged: Path, tmp_path: Path, content: Any, sentence: str) -> None:
    file = tmp_path / "cells.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_cells(file, LiveModel.open(merged, CPU))


def test_shares_are_checked(merged: Path) -> None:
    live = LiveModel.open(merged, CPU)
    restoration = Restoration(live, Ends(1, 2), tasks_of(live)[:1])
    with pytest.raises(InputError, match="no matrix 'nothing' in run"):
        restoration.score({"nothing": 1.0})
    with pytest.raises(InputError, match=r"expected a share from 0 to 1, found 1\.5"):
        restoration.score({restoration.matrices[0]: 1.5})


def test_the_command_writes_the_model_that_it_scored(
    merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(merged, tmp_path / "run"))
    (tmp_path / "cells.json").write_text(json.dumps({"cells": [{"layer": 0}]}))
    out = tmp_path / "out"
    command = ["restore", str(run), "--step", "2", "--cells", str(tmp_path / "cells.json"), "--device", "cpu"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "7 of 14 matrices put back, step 1 to step 2 undone there" in printed
    about = json.loads((out / "restoration.json").read_text())
    assert (about["start"], about["step"], len(about["undone"])) == (1, 2, 7)
    assert "In 7 of 14 matrices the path from step 1 to step 2 is undone" in (out / "README.md").read_text()
    written = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    live = LiveModel.open(run, CPU)
    scores = pd.DataFrame(about["scores"])
    for row in BehaviourProbe(live.tokenizer, tasks_of(live)).score(written):
        same = scores[["task", "split", "metric"]].eq([row["task"], row["split"], row["metric"]]).all(axis=1)
        assert scores.loc[same, "restored"].item() == pytest.approx(row["value"], rel=1e-5)


def test_the_worst_need_an_attribution_and_the_smallest_set_recovers_its_share(
    merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(merged, tmp_path / "run"))
    assert main(["restore", str(run), "--device", "cpu", "--worst", "2"]) == 2
    assert "has no attribution from step 2 to step 3; compute it with: gcwm-viz" in capsys.readouterr().err
    _learned_at_step_1(run, tmp_path / "learned")
    command = ["restore", str(run), "--step", "2", "--device", "cpu"]
    attribute(run, step=2)
    assert main([*command, "--worst", "2"]) == 0
    assert "2 of 14 matrices put back" in capsys.readouterr().out
    assert main([*command, "--worst", "99"]) == 2
    assert "--worst: expected 1 to" in capsys.readouterr().err
    assert main([*command, "--recover", "0.5"]) == 0
    assert "matrices put back" in capsys.readouterr().out


def _learned_at_step_1(run: Path, probes: Path) -> None:
    """Other probes for the run: a task whose answers are those of its state after step 1, so that step 2 loses some."""
    live = LiveModel.open(run, CPU)
    live.set(("step", 1, ""))
    rows = []
    for prompt in ("1+1=", "a:", "7?", "x", "go ", "so", "2=", "b:"):
        ids = torch.tensor([live.tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            answer = live.tokenizer.decode(live.model(input_ids=ids).logits[0, -1].argmax())
        rows.append(json.dumps({"prompt": prompt, "answer": answer}))
    (probes / "dev").mkdir(parents=True)
    (probes / "dev" / "sums.jsonl").write_text("\n".join(rows))
    score(run, LocalEngine(CPU, 1), probes, replace=True)
