"""Every page on a normal, an empty, a one-update and a NaN run; deep links; text from files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.ui.page import PAGES
from tests.factories_runs import NASTY, write_run

VIEWS = [page for page in PAGES if page not in ("pages/0_Start.py", "pages/10_Compare.py", "pages/11_Explain.py")]
"""Pages that show one run; the page that starts runs and those about many runs have tests of their own."""
WITHOUT_CHARTS = ("pages/13_Examples.py", "pages/14_Ask.py", "pages/15_Try.py")
"""On a generated run, which stores no examples."""

CHARTS = {
    "app.py": 1, "pages/1_Conflict.py": 7, "pages/2_Spectra.py": 4, "pages/3_Gate.py": 5, "pages/4_Solver.py": 3,
    "pages/5_Scores.py": 5, "pages/7_Two_runs.py": 8, "pages/8_Decide.py": 2, "pages/9_Talk.py": 1,
    "pages/12_Where.py": 6, "pages/13_Examples.py": 0, "pages/14_Ask.py": 0,
    "pages/16_Strength.py": 3, "pages/15_Try.py": 0,
}  # fmt: skip


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


def titles(app: AppTest) -> list[str]:
    return [chart["layout"]["title"]["text"] for chart in charts(app)]


def words(app: AppTest) -> str:
    kinds = (app.info, app.warning, app.error, app.text, app.markdown, app.caption)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("kind", ["normal", "one", "nan"])
@pytest.mark.parametrize("page", VIEWS)
def test_page_draws_all_its_charts(open_page: Callable[..., AppTest], page: str, kind: str) -> None:
    app = open_page(page, run=kind)
    assert not app.exception
    assert not app.error
    assert len(charts(app)) == CHARTS[page]
    for element in app.get("plotly_chart"):
        assert element.proto.alt


@pytest.mark.parametrize("page", VIEWS)
def test_empty_run_says_what_is_missing(open_page: Callable[..., AppTest], page: str) -> None:
    app = open_page(page, run="empty")
    assert not app.exception
    assert not charts(app)
    assert "no finished step" in words(app)


@pytest.mark.parametrize("page", [page for page in VIEWS if page != "app.py"])
def test_no_run_at_all_points_to_the_overview(open_page: Callable[..., AppTest], page: Any, tmp_path: Path) -> None:
    app = open_page(page, root=tmp_path / "nothing")
    assert not app.exception
    assert "no run yet" in words(app)


def test_one_update_run_says_what_needs_two(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="one")
    assert "this run never has two" in words(app)
    assert titles(app)[0] == "Update norm"
    app.selectbox(key="signal").set_value("active_conflict").run()
    assert "**Active conflict** is undefined in every matrix at this step: one active update" in words(app)
    assert "not defined for any matrix" in json.dumps(charts(app))
    assert "earlier" in json.dumps(charts(open_page("pages/5_Scores.py", run="one")))


def test_deep_link_opens_that_step_and_matrix(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/2_Spectra.py", run="normal", step=3, layer=2, family="o_proj")
    assert [element.value for element in app.subheader] == [r"model\.layers\.2\.self\_attn\.o\_proj\.weight"]
    assert app.slider(key="step").value == 3
    assert app.metric[0].value == "3"


def test_foreign_values_in_a_link_fall_back(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="../../etc", step=99, layer="x", family="<script>")
    assert not app.exception
    assert app.selectbox(key="run").value == "empty"


def test_step_slider_moves_the_map_and_its_table(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="normal")
    before, table = charts(app)[0], app.dataframe[0].value
    app.slider(key="step").set_value(2).run()
    assert charts(app)[0]["data"] != before["data"]
    assert not app.dataframe[0].value.equals(table)


def test_the_signal_of_the_map_is_in_the_link_unless_it_is_the_first(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="normal", signal="sar")
    assert titles(app)[:2] == ["Subspace overlap (SAR)", "Subspace overlap (SAR) over the steps"]
    assert list(app.dataframe[0].value)[3:6] == ["sar", "change", "active_conflict"]
    app.switch_page("pages/4_Solver.py").run()
    app.selectbox(key="branch").set_value("geo_shift").run()
    app.switch_page("pages/1_Conflict.py").run()
    assert titles(app)[0] == "Subspace overlap (SAR)"
    assert app.query_params["branch"] in ("geo_shift", ["geo_shift"])
    assert "signal" not in open_page("pages/1_Conflict.py", run="normal").query_params
    assert titles(open_page("pages/1_Conflict.py", run="normal", signal="<b>"))[0] == "Active conflict"


def test_selected_cells_are_outlined_in_every_map_and_ticked(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="normal", cells="0.k_proj~2.o_proj~9.q_proj~x")
    assert app.session_state["cells"] == ["0.k_proj", "2.o_proj"]
    ticked = app.session_state["cells-active_conflict"]["selection"]["rows"]
    rows = app.dataframe[0].value.iloc[ticked]
    assert sorted(zip(rows["layer"], rows["family"], strict=True)) == [(0, "k_proj"), (2, "o_proj")]
    assert "2 selected cells: 0 k, 2 o" in words(app)
    for page in ("pages/1_Conflict.py", "pages/3_Gate.py", "pages/4_Solver.py"):
        app.switch_page(page).run()
        grids = [chart for chart in charts(app) if chart["data"][-1].get("name") == "matrix"]
        assert grids
        for chart in grids:
            assert chart["layout"]["shapes"][0]["path"].startswith("M0.5,-0.5L1.5,-0.5")
    app.button(key="select-none").click().run()
    assert app.session_state["cells"] == []
    assert "cells" not in app.query_params


def test_all_signals_at_once(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="nan")
    app.toggle(key="all-signals").set_value(True).run()
    assert not app.exception
    assert titles(app)[-1] == "All signals"


def test_the_closed_form_is_said_in_numbers(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    file = write_run(tmp_path, "normal") / "tables" / "solver.parquet"
    table = pd.read_parquet(file)
    table[table["iteration"] <= 5].assign(iteration=lambda rows: rows["iteration"] // 5).to_parquet(file)
    app = open_page("pages/4_Solver.py", root=tmp_path)
    assert len(charts(app)) == 1
    assert "Plain branch: the objective fell to 0.400 of its value at the plain sum of updates" in words(app)


def test_cells_can_be_chosen_without_a_mouse(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/1_Conflict.py", run="normal")
    app.selectbox(key="layer").set_value(3).run()
    app.selectbox(key="family").set_value("down_proj").run()
    box = charts(app)[0]["layout"]["shapes"][0]
    assert (box["x0"], box["y0"]) == (5.5, 2.5)


def test_what_if_moves_alpha_without_touching_the_run(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/3_Gate.py", run="normal")
    before = app.metric[0].value
    slider = next(slider for slider in app.slider if slider.label == "Threshold τ")
    slider.set_value(0.9).run()
    assert app.metric[0].value != before
    assert app.metric[0].delta.startswith("-")
    app.toggle[0].set_value(False).run()
    assert app.metric[0].value == "1.00"
    assert app.metric[3].value == "28 of 28"


def test_lowest_alpha_never_exceeds_the_highest(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/3_Gate.py", run="normal")
    slider = next(slider for slider in app.slider if slider.label == "Lowest α")
    slider.set_value(1.0).run()
    assert not app.exception
    assert "the highest is used" in words(app)


def test_scores_change_with_split_and_metric(open_page: Callable[..., AppTest]) -> None:
    app = open_page("pages/5_Scores.py", run="normal")
    exact = app.metric[0].value
    app.segmented_control[1].set_value("nll").run()
    assert not app.exception
    assert app.metric[0].value != exact


def test_unscored_run_says_so(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "bare")
    (run / "tables" / "scores.parquet").unlink()
    (run / "tables" / "representation.parquet").unlink()
    app = open_page("pages/5_Scores.py", root=tmp_path)
    assert not app.exception
    assert "not scored" in words(app)
    assert not open_page("app.py", root=tmp_path).exception


def test_broken_run_is_named_not_raised(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "broken")
    (run / "tables" / "matrices.parquet").write_bytes(b"not parquet")
    app = open_page("pages/1_Conflict.py", root=tmp_path)
    assert not app.exception
    assert "matrices.parquet" in words(app)
    (run / "run.json").write_text("{")
    assert "run.json" in words(open_page("app.py", root=tmp_path))


@pytest.mark.parametrize("page", VIEWS)
def test_names_from_files_are_never_markup(open_page: Callable[..., AppTest], page: str) -> None:
    app = open_page(page, run="nan")
    for chart in charts(app):
        assert "<b>bold" not in json.dumps(chart)
    for element in (*app.markdown, *app.caption, *app.subheader):
        assert NASTY not in element.value
        assert "<b>bold" not in element.value


@pytest.mark.parametrize("page", VIEWS)
def test_a_run_of_36_layers_and_14_steps_opens(open_page: Callable[..., AppTest], page: str) -> None:
    """How fast, `python -m benchmarks pages` measures."""
    app = open_page(page, run="wide")
    assert not app.exception
    assert charts(app) or page in WITHOUT_CHARTS
