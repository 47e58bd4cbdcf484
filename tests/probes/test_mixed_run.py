"""A run whose tasks are measured in different ways, from its tables to everything that reads them."""

import json
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from gcwm_viz.cli import main
from gcwm_viz.decide.evidence import candidates
from gcwm_viz.decide.outlook import measured_plans
from gcwm_viz.report.document import report
from gcwm_viz.runs.highlights import scored
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.tables import Run, open_run
from gcwm_viz.studies.leave_one_out import leave_one_out
from gcwm_viz.studies.regate import regate
from gcwm_viz.studies.tune import tune
from gcwm_viz.studies.two_runs import mean_difference, score_differences
from tests.rounding import rounding
from tests.torture.small import NAMES, write_inputs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """``first`` is measured by exact match, ``second`` by choices, ``third`` by the perplexity of texts."""
    root = tmp_path_factory.mktemp("mixed")
    arguments = write_inputs(root)
    for split in ("dev", "test"):
        rows = [{"question": f"{k}=", "choices": ["1", "2", "3"], "answer": k % 3} for k in range(9)]
        (root / "probes" / split / "second.jsonl").write_text("\n".join(map(json.dumps, rows)))
        rows = [{"text": f"number {k} and {k + 1}"} for k in range(9)]
        (root / "probes" / split / "third.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "probes" / "probes.json").write_text(json.dumps({"tasks": {"second": {"scoring": "text"}}}))
    return root, arguments


@pytest.fixture(scope="module")
def run(inputs: tuple[Path, list[str]]) -> Run:
    root, arguments = inputs
    assert main(["run", "--eta", "1", *arguments, "--workers", "1", "--out", str(root / "run")]) == 0
    leave_one_out(root / "run", on=CPU, workers=1)
    return open_run(root / "run")


def test_rows_of_every_metric(run: Run) -> None:
    scores = run.tables["scores"]
    found = {task: list(dict.fromkeys(rows["metric"])) for task, rows in scores.groupby("task")}
    assert found == {"first": ["em", "nll"], "second": ["acc", "nll"], "third": ["ppl", "nll"]}
    assert len(scores) == 7 * 2 * 3 * 2  # base, experts and steps; splits; tasks; metrics
    texts = scores[scores["task"] == "third"].pivot_table(
        index=["model", "step", "split"], columns="metric", values="value"
    )
    assert (texts["ppl"] - texts["nll"].map(lambda loss: 2.718281828459045**loss)).abs().max() < 1e-9 * texts[
        "ppl"
    ].max()


def test_the_headline_covers_both_kinds_of_accuracy(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = scored(run)
    assert found is not None
    assert (found.metric, found.higher_is_better, found.unit) == ("accuracy", True, "exact match or accuracy")
    assert list(found.R.columns) == ["first", "second"]
    perplexity = scored(run, metric="ppl")
    assert perplexity is not None
    assert perplexity.R.columns.tolist() == ["third"]
    assert not perplexity.higher_is_better
    differences = score_differences(found, found, step=3)
    assert mean_difference(differences).value == 0
    assert main(["show", str(run.path)]) == 0
    assert "accuracy on test, higher = better" in capsys.readouterr().out
    assert main(["show", str(run.path), "--metric", "ppl"]) == 0
    assert "ppl on test, lower = better" in capsys.readouterr().out
    assert main(["show", str(run.path), "--metric", "bpb"]) == 2
    assert "measured accuracy, em, acc, nll, ppl on test, got --metric bpb" in capsys.readouterr().err


def test_leave_one_out_and_what_decides_on_it(run: Run) -> None:
    table = run.tables["leave_one_out"]
    assert set(table["metric"]) == {"em", "acc", "nll", "ppl"}
    assert (table.loc[table["metric"] == "acc", "difference_se"] >= (1 - rounding(1)) / 11).all()
    scores = run.tables["scores"]
    final = scores[(scores["model"] == "step") & (scores["step"] == 3) & (scores["metric"] == "acc")]
    known = final.set_index("split")["value"]
    for _, row in table[table["metric"] == "acc"].iterrows():
        assert row["full_value"] == pytest.approx(known[row["split"]], abs=rounding(11))
    evidence = {c.update: c for c in candidates(run.tables, "test", "accuracy")}
    assert evidence["first"].gain.known
    assert evidence["second"].gain.known
    assert not evidence["third"].gain.known
    perplexity = {c.update: c for c in candidates(run.tables, "test", "ppl")}["third"].gain
    before, after = (
        scores.query("task == 'third' and metric == 'ppl' and split == 'test' and model == 'step' and step == @s")
        for s in (2, 3)
    )
    assert perplexity.value == pytest.approx(before["value"].item() - after["value"].item())  # more is better
    # Experts, steps, and what leave-one-out measured, each subset once; and the final state at other strengths.
    measured = measured_plans(run.tables, list(NAMES), run.store.settings.continual.eta)
    plans = {each.plan: each for each in measured}
    subsets = {plan for plan in plans if set(plan) <= {0.0, 1.0}}
    assert len(plans) == len(measured)
    assert subsets == set(product((0.0, 1.0), repeat=3)) - {(0.0, 0.0, 0.0)}
    assert all(len(set(plan)) == 1 for plan in plans.keys() - subsets)
    dev = scores[(scores["split"] == "dev") & scores["metric"].isin(["em", "acc"])].set_index(["model", "step", "task"])
    changes = [dev["value"]["step", 3, task] - dev["value"]["base", 0, task] for task in ("first", "second")]
    assert plans[1.0, 1.0, 1.0].value == pytest.approx(sum(changes) / 2)


def test_another_gate(run: Run) -> None:
    result = regate(run.store, {"alpha_max": 0.5}, CPU)
    assert [(row["task"], row["metric"]) for row in result["scores"][:6]] == [
        ("first", "em"), ("first", "nll"), ("second", "acc"), ("second", "nll"), ("third", "ppl"), ("third", "nll"),
    ]  # fmt: skip
    scores = run.tables["scores"].query("model == 'step' and step == 3").set_index(["task", "split", "metric"])["value"]
    for row in result["scores"]:
        assert row["as_run"] == pytest.approx(scores[row["task"], row["split"], row["metric"]], rel=rounding(11), abs=0)


def test_tuning_on_accuracy(inputs: tuple[Path, list[str]], tmp_path: Path) -> None:
    root = inputs[0]
    given = Inputs(base=root / "base", updates=[(name, root / name) for name in NAMES], probes=root / "probes")
    frame = tune(given, tmp_path, "task-arithmetic", "scale-free", {"eta": [0.5, 1.0]}, on=CPU)
    scores = json.loads((tmp_path / "scores" / "eta=1.0.json").read_bytes())["scores"]
    own = [row["value"] for row in scores if row["split"] == "dev" and row["metric"] in ("em", "acc")]
    assert len(own) == 2
    assert frame["dev"].iloc[1] == pytest.approx(sum(own) / 2)


def test_the_report_says_what_was_measured(run: Run) -> None:
    text = report(run)
    assert "exact match or accuracy" in text


def test_a_harness_that_is_not_there_is_told_before_the_merge(
    inputs: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = inputs[0]
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "probes.json").write_text(json.dumps({"lm_eval": {"tasks": ["arc_easy"]}}))
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    given = ["--base", str(root / "base"), "--update", f"a={root / 'first'}", "--probes", str(tmp_path / "probes")]
    assert main(["check", *given]) == 2
    assert "lm-evaluation-harness is not installed" in capsys.readouterr().err
