"""A click on a grid, literal text in Markdown, headline figures."""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st

from gcwm_viz.figures.layer_grid import GridAxes
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.runs.highlights import peak, scored
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import cell_choice
from gcwm_viz.ui.overview import cautions_of
from gcwm_viz.ui.text import as_csv, as_markdown
from gcwm_viz.ui.whatif import regated
from gcwm_viz.updates.groups import GROUPS, column
from gcwm_viz.updates.outside import OUTSIDE, ROUNDING, share_notes
from tests.factories_runs import NASTY, make_tables, write_run


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    return state


def test_click_chooses_the_matrix_everywhere(session: dict[str, Any]) -> None:
    axes = GridAxes(layers=(4, 5), families=("q_proj", "down_proj"))
    session["grid"] = {"selection": {"points": [{"point_index": 3, "curve_number": 1}]}}
    cell_choice.pick("grid", 1, axes)
    assert (session["layer"], session["family"]) == (5, "down_proj")


def test_taking_a_selection_away_keeps_the_choice(session: dict[str, Any]) -> None:
    session.update({"layer": 1, "family": "q_proj", "grid": {"selection": {"points": []}}})
    cell_choice.pick("grid", 0, GridAxes(layers=(1,), families=("q_proj",)))
    assert (session["layer"], session["family"]) == (1, "q_proj")


def test_a_box_selects_cells_and_leaves_the_chosen_matrix(session: dict[str, Any]) -> None:
    points = [{"point_index": place, "curve_number": 1} for place in (0, 3)]
    session.update({"layer": 1, "family": "q_proj", "grid": {"selection": {"points": points, "box": [{}]}}})
    cell_choice.pick("grid", 1, GridAxes(layers=(4, 5), families=("q_proj", "down_proj")))
    assert session["cells"] == ["4.q_proj", "5.down_proj"]
    assert (session["layer"], session["family"]) == (1, "q_proj")


def test_markdown_is_taken_literally() -> None:
    shown = as_markdown(NASTY)
    assert shown.replace("\\", "") == NASTY
    for mark in "<>*$&":
        assert shown.count(mark) == shown.count(f"\\{mark}")
    assert "\n" not in as_markdown("a\n# b")
    assert len(as_markdown("x" * 500, limit=10)) == 10


def test_peak_and_cautions(run_root: Path) -> None:
    run = open_run(run_root / "normal")
    matrices = run.tables["matrices"]
    top = peak(matrices)
    assert top is not None
    assert top["active_conflict"] == matrices["active_conflict"].max()
    assert "Solver" in {caution.page for caution in cautions_of(run)}


def test_what_a_run_notes_of_its_updates_is_pointed_out(tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal")
    updates = make_tables("normal")["updates"].assign(outside_share=1.1 * OUTSIDE, rounding=1.1 * ROUNDING)
    row: Any = updates.iloc[0].to_dict()
    assert len(share_notes(row | {column(part): 0.0 for part in GROUPS})) == 2
    updates.to_parquet(run / "tables" / "updates.parquet")
    said = " ".join(pointer.text for pointer in cautions_of(open_run(run)))
    assert "Half-precision inputs blur" in said
    assert "outside the merged matrices" in said


def test_nothing_peaks_in_a_run_of_one_update(run_root: Path) -> None:
    run = open_run(run_root / "one")
    assert peak(run.tables["matrices"]) is None
    found = scored(run, "dev", "nll")
    assert found is not None
    assert found.downstream["forgetting"].isna().all()


def test_regated_agrees_with_proposition_1() -> None:
    cells = make_tables("normal")["matrices"].query("step == 4")
    config = open_gate(tau=0.3)
    after = regated(cells, config)
    assert (after["mode"] == "blend").all()
    assert after["moved"].to_numpy() == pytest.approx((after["alpha"] * cells["displacement"]).to_numpy())
    assert after["alpha_change"].to_numpy() == pytest.approx((after["alpha"] - cells["alpha"]).to_numpy())


def test_a_skipped_branch_takes_no_part() -> None:
    cells = make_tables("normal")["matrices"].query("step == 4")
    plain = regated(cells, open_gate(alpha_min=0.0, alpha_max=0.02))
    assert (plain["mode"] == "plain").all()
    assert (plain["moved"] == 0).all()
    whole = regated(cells, open_gate(gate="none"))
    assert whole["moved"].to_numpy() == pytest.approx(cells["displacement"].to_numpy())
    absent = regated(cells.assign(mode="absent"), open_gate())
    assert (absent["mode"] == "absent").all()


def open_gate(**settings: Any) -> GCWMConfig:
    from gcwm_viz.geometry.config import GCWMConfig

    return GCWMConfig(**settings)


def test_csv_holds_the_table() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "<y>"]})
    assert as_csv(table) == b"a,b\n1,x\n2,<y>\n"


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-x", "@SUM(A1)", "\t=1", " =1", "＝1"])
def test_csv_text_is_no_formula(text: str) -> None:
    said = as_csv(pd.DataFrame({text: [text], "number": [-1.5], "plain": ["a=b"]})).decode()
    cells = list(csv.reader(io.StringIO(said, newline="")))
    assert cells == [[f"'{text}", "number", "plain"], [f"'{text}", "-1.5", "a=b"]]


def test_a_carriage_return_begins_no_new_cell() -> None:
    assert as_csv(pd.DataFrame({"a": ["x\r=1"]})) == b"a\nx =1\n"
