import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.study import ship
from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.statistics.association import association
from gcwm_viz.studies.lab import study as study_module
from gcwm_viz.studies.lab.ablations import QUESTIONS, run_ablations
from gcwm_viz.studies.lab.bench import Bench
from gcwm_viz.studies.lab.plan import METHODS, Cell, study_orders
from gcwm_viz.studies.lab.study import study
from gcwm_viz.studies.lab.summary import summary
from gcwm_viz.studies.lab.tables import GRADIENTS, read_study, write_study_tables
from tests.experiments.lab.tiny_lab import TINY, TinyLibrary

SOME = ("seq-sft", "gcwm", "opcm", "forever")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_lab: None) -> tuple[Path, dict[str, pd.DataFrame]]:
    out = tmp_path_factory.mktemp("study") / "out"
    return out, study(out, orders=2, seeds=1, methods=SOME, ablations=False, recipe=TINY)


def test_one_row_a_run_and_step(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    _, tables = made
    runs = tables["runs"]
    assert len(runs) == len(SOME) * 2 * 3
    assert not runs.duplicated(["method", "seed", "order", "step"]).any()
    assert set(runs["method"]) == set(SOME)
    for name in ("state_conflict", "global_with_state", "test_em_overall", "dev_nll_overall", "seconds"):
        assert runs[name].notna().all(), name
    # Nothing to forget, nothing to pull against at the first step.
    first = runs[runs["step"] == 1]
    for name in ("incoming_conflict", "test_em_forgetting", *GRADIENTS):
        assert first[name].isna().all(), name
        assert runs.loc[runs["step"] > 1, name].notna().all(), name
    assert runs.loc[runs["method"].isin(["seq-sft", "forever"]), "eta"].isna().all()


def test_scores_are_of_the_states_and_metrics_follow_from_them(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    _, tables = made
    scores = tables["scores"]
    run = {"method": "seq-sft", "seed": 0, "order": ",".join(TINY.order)}
    rows = scores[(scores[list(run)] == pd.Series(run)).all(axis=1)]
    library = TinyLibrary(0, TINY)
    states = library.sequence(TINY.order)
    bench = Bench.__new__(Bench)
    bench.library = library
    for step, state in enumerate(states, start=1):
        for row in bench.score(state, ("test",)):
            at = rows[(rows["step"] == step) & (rows["task"] == row["task"]) & (rows["split"] == "test")]
            assert float(at.loc[at["metric"] == row["metric"], "value"].iloc[0]) == pytest.approx(
                row["value"], abs=1e-6
            )
    R: Any = rows[(rows["split"] == "test") & (rows["metric"] == "em")].pivot(
        index="step", columns="task", values="value"
    )
    runs = tables["runs"]
    last = runs[(runs[list(run)] == pd.Series(run)).all(axis=1) & (runs["step"] == 3)].iloc[0]
    assert last["test_em_overall"] == pytest.approx(R.loc[3].mean())
    assert last["test_em_current"] == pytest.approx(R.loc[3, TINY.order[2]])
    own = [R.loc[t, task] for t, task in enumerate(TINY.order[:2], start=1)]
    assert last["test_em_bwt"] == pytest.approx(
        np.mean([R.loc[3, u] - s for u, s in zip(TINY.order[:2], own, strict=True)])
    )
    experts = scores[scores["model"] == "expert"]
    assert len(experts) == 3 * 3 * 2 * 2
    assert (scores[scores["model"] == "base"].groupby("seed").size() == 3 * 2 * 2).all()


def test_the_choice_is_the_best_on_dev(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    _, tables = made
    choices = tables["choices"]
    assert set(choices["method"]) == {"gcwm", "opcm"}
    for (method, seed, order), part in choices.groupby(["method", "seed", "order"]):
        best = part[part["best"]]
        assert len(best) == 1
        assert best["dev"].iloc[0] == part["dev"].max()
        runs = tables["runs"]
        final = runs[(runs["method"] == method) & (runs["seed"] == seed) & (runs["order"] == order)]
        assert (final["eta"] == json.loads(best["point"].iloc[0])["eta"]).all()
        # What dev chose is what was run.
        assert final["dev_em_overall"].iloc[-1] == pytest.approx(best["dev"].iloc[0], abs=0.05)


def test_the_final_merge_does_not_depend_on_the_order_but_opcm_does(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    runs = made[1]["runs"]
    final = runs[(runs["step"] == 3) & (runs["seed"] == 0)].set_index("method")["test_nll_overall"]
    assert final["gcwm"].iloc[0] == pytest.approx(final["gcwm"].iloc[1], rel=1e-4)
    assert final["opcm"].iloc[0] != pytest.approx(final["opcm"].iloc[1], rel=1e-4)


def test_a_study_goes_on_where_it_stopped(
    made: tuple[Path, dict[str, pd.DataFrame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tables = made
    told: list[str] = []
    again = study(out, orders=2, seeds=1, methods=SOME, ablations=False, recipe=TINY, report=told.append)
    assert told == []
    pd.testing.assert_frame_equal(again["runs"], tables["runs"])
    (out / "cells" / f"seq-sft-0-{'-'.join(TINY.order)}.json").unlink()
    redone = study(out, orders=2, seeds=1, methods=SOME, ablations=False, recipe=TINY, report=told.append)
    assert len(told) == 1
    timed = ["seconds", "train_seconds"]
    pd.testing.assert_frame_equal(redone["runs"].drop(columns=timed), tables["runs"].drop(columns=timed))


def test_a_cell_of_another_definition_is_done_anew(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    out, _ = made
    cell = Cell("opcm", 0, TINY.order)
    assert study_module.is_finished(out, cell)
    file = study_module.cell_file(out, cell)
    content = json.loads(file.read_bytes())
    grid = content["definition"]["grid"]
    content["definition"]["grid"] = {"eta": [1.0]}
    file.write_text(json.dumps(content))
    assert not study_module.is_finished(out, cell)
    content["definition"]["grid"] = grid
    file.write_text(json.dumps(content))
    assert study_module.is_finished(out, cell)


def test_tables_are_read_back_and_shipped_without_trainings(
    made: tuple[Path, dict[str, pd.DataFrame]], tmp_path: Path
) -> None:
    out, tables = made
    ship(out, tmp_path / "shipped")
    info, read = read_study(tmp_path / "shipped")
    assert info["seeds"] == [0]
    assert info["finished"] == dict.fromkeys(SOME, 2)
    timed = ["seconds", "train_seconds"]
    pd.testing.assert_frame_equal(read["runs"].drop(columns=timed), tables["runs"].drop(columns=timed))
    assert sorted(p.name for p in (tmp_path / "shipped").iterdir()) == ["study.json", "tables"]
    with pytest.raises(InputError, match="is not a study"):
        read_study(tmp_path)


def test_association_takes_the_table(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    table = association(
        made[1]["runs"], ["state_conflict", "gradient_min"], ["test_em_forgetting"], resamples=50, shuffles=50
    )
    assert len(table) == 2 * len(SOME)
    assert table["rho"].notna().any()


def test_the_summary_says_what_the_tables_say(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    text = summary(made[1])
    final = made[1]["runs"].query("step == 3").groupby("method")["test_em_overall"].mean()
    for method, value in final.items():
        assert f"| {method} | 1 × 2 | {value:.3f} ±" in text
    assert "## Spearman" in text
    assert "## Ablations" not in text
    empty = {name: pd.DataFrame() for name in made[1]}
    assert summary(empty) == "No run is finished."


def test_orders_are_distinct_and_those_of_the_study_that_ships() -> None:
    orders = study_orders(TINY, 6)
    assert orders[0] == TINY.order
    assert len(set(orders)) == 6
    assert orders[:3] == study_orders(TINY, 3)
    for bad in (0, 7):
        with pytest.raises(InputError, match="expected 1 to 6 for 3 tasks"):
            study_orders(TINY, bad)
    info, _ = read_study()
    assert [list(order) for order in study_orders(Recipe(), len(info["orders"]))] == info["orders"]


def test_a_study_is_cancelled_and_refuses_a_second_process(
    made: tuple[Path, dict[str, pd.DataFrame]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    again: dict[str, Any] = {"orders": 2, "seeds": 1, "methods": SOME, "ablations": False, "recipe": TINY}
    for name in ("seq-sft", "gcwm"):
        (out / "cells" / f"{name}-0-{'-'.join(TINY.order)}.json").unlink()
    with WorkFolder(out).lock(), pytest.raises(InputError, match="is being written by process"):
        study(out, **again)
    with pytest.raises(WorkCancelledError, match="the same command goes on"):
        study(out, **again, report=lambda text: WorkFolder(out).request_cancel())
    told: list[str] = []
    study(out, **again, report=told.append)
    assert len(told) == 1
    assert [entry["event"] for entry in WorkFolder(out).journal()][-5:] == [
        "cell",
        "error",
        "start",
        "cell",
        "complete",
    ]


def test_refusals(made: tuple[Path, dict[str, pd.DataFrame]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="method must be one of seq-sft"):
        study(tmp_path / "a", methods=("nothing",), recipe=TINY)
    with pytest.raises(InputError, match="at least 1"):
        study(tmp_path / "a", orders=1, seeds=0, recipe=TINY)
    with pytest.raises(InputError, match="another recipe"):
        study(made[0], orders=1, seeds=1, methods=SOME)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").touch()
    with pytest.raises(InputError, match="not empty"):
        study(tmp_path / "b", orders=1, recipe=TINY)
    assert "ewc" in METHODS


def test_ablations_answer_every_question(tmp_path: Path) -> None:
    bench = Bench(0, TINY, tmp_path)
    table = pd.DataFrame([row for question in QUESTIONS for row in run_ablations(bench, question)])
    assert list(dict.fromkeys(table["question"])) == list(QUESTIONS)
    assert not table.duplicated(["question", "variant"]).any()
    assert table[["dev", "test"]].notna().all(axis=None)
    at: Any = table.set_index(["question", "variant"])
    # The same merge reached by two ways.
    for ways in (
        [("metric", "none (plain branch)"), ("gate", "off (α = 0), ρ 1")],
        [("solver", "exact μ_rel 0.3"), ("strength", "η ∝ 1 − 0γ")],
        [("power", "𝓑^-0.5, λ relative 1"), ("metric", "barycenter, λ relative 1")],
        [("gate", "always (α = 1), ρ 10"), ("ridge", "ρ 10, no gate")],
    ):  # fmt: skip
        values = at.loc[ways, "dev"].to_numpy()
        assert np.ptp(values) < 0.05, (ways, values)


def test_state_conflict_of_the_first_step_measures_eta() -> None:
    # S_1 = ηΔ_1: as λ → 0, γ(ηΔ, Δ) = (1 − η)² / (1 + η²), whatever Δ is.
    from gcwm_viz.geometry.config import GCWMConfig
    from gcwm_viz.linalg.subspace import right_subspace
    from gcwm_viz.signals.state import incoming_conflict

    config = GCWMConfig(lam=1e-12)
    delta = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    for eta in (0.1, 0.5, 1.3):
        state, arriving = (right_subspace(scale * delta, 12, 1.0) for scale in (eta, 1.0))
        expected = (1 - eta) ** 2 / (1 + eta**2)
        assert incoming_conflict(state, arriving, config) == pytest.approx(expected, rel=1e-4)
    assert math.isclose((1 - 0.5) ** 2 / (1 + 0.25), 0.2)


def test_tables_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    tables = write_study_tables(tmp_path)
    assert all(len(table) == 0 for table in tables.values())
