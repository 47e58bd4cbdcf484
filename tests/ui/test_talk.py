"""Talk mode: five screens on any run, numbers from the run, keys and links."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.runs.highlights import peak, scored
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui.screens import SCREENS
from tests.factories_runs import NASTY, write_run
from tests.ui.test_pages import charts, words

PAGE = "pages/9_Talk.py"


@pytest.mark.parametrize("kind", ["normal", "one", "nan"])
@pytest.mark.parametrize("screen", range(1, len(SCREENS) + 1))
def test_every_screen_draws_or_says_what_is_missing(open_page: Callable[..., AppTest], kind: str, screen: int) -> None:
    app = open_page(PAGE, run=kind, screen=screen)
    assert not app.exception
    missing = kind == "one" and screen in (2, 3)
    assert len(charts(app)) == (0 if missing else 1)
    if missing:
        assert re.search("single update|needs two updates", words(app))
    assert "nan" not in "\n".join(element.value for element in app.markdown).lower()
    assert NASTY not in words(app)
    for element in app.get("plotly_chart"):
        assert element.proto.alt


def test_numbers_are_those_of_the_run(open_page: Callable[..., AppTest], run_root: Path) -> None:
    run = open_run(run_root / "normal")
    found: Any = scored(run)
    first = words(open_page(PAGE, run="normal", screen=1))
    assert f"{100 * found.R.loc[0].mean():.3g} %" in first
    assert f"{100 * found.own.mean():.3g} %" in first
    third = words(open_page(PAGE, run="normal", screen=3))
    last = run.tables["matrices"].query("step == 6")
    top: Any = peak(last)
    assert f"layer {top['layer']}" in third
    assert f"{100 * found.R.iloc[-1].mean():.3g} %" in words(open_page(PAGE, run="normal", screen=5))


def test_next_and_back_walk_through_all_screens(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal")
    titles = [app.title[0].value]
    for _ in range(4):
        next(button for button in app.button if button.label == "Next").click().run()
        titles.append(app.title[0].value)
    assert len(set(titles)) == 5
    assert next(button for button in app.button if button.label == "Next").disabled
    next(button for button in app.button if button.label == "Back").click().run()
    assert app.title[0].value == titles[3]


def test_wrong_screen_in_a_link_falls_back(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal", screen="99")
    assert not app.exception
    assert len(charts(app)) == 1


def test_unscored_run_says_so_and_keeps_its_conflict(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "bare")
    (run / "tables" / "scores.parquet").unlink()
    for screen in (1, 2, 5):
        app = open_page(PAGE, root=tmp_path, screen=screen)
        assert not app.exception
        assert "without probes" in words(app)
    assert len(charts(open_page(PAGE, root=tmp_path, screen=3))) == 1


def test_training_one_after_another_is_set_beside_merging(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "merged")
    trained = write_run(tmp_path, "normal", "trained", seed=3)
    info = json.loads((trained / "run.json").read_text())
    info["states"] = [{"name": f"s{n}", "path": "p", "fingerprint": "f"} for n in range(6)]
    (trained / "run.json").write_text(json.dumps(info))
    app = open_page(PAGE, root=tmp_path, run="merged", screen=2)
    assert [trace["name"] for trace in charts(app)[0]["data"]] == ["merging (gcwm)", "training one after another"]
    assert "training one after another keeps" in words(app)
    app = open_page(PAGE, root=tmp_path, run="trained", screen=5)
    assert "trained on all in turn" in [trace["name"] for trace in charts(app)[0]["data"]]
    assert "One model trained on 6 tasks one after another" in words(app)
    assert "merged" not in words(app)
