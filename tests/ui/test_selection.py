"""The selection of a link is kept from page to page, and each run takes of it what it has."""

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

CONFLICT, SPECTRA = "pages/1_Conflict.py", "pages/2_Spectra.py"


def selected(app: AppTest) -> tuple[Any, ...]:
    return tuple(app.session_state[name] for name in ("run", "step", "layer", "family"))


@pytest.mark.parametrize("between", [(), ("pages/0_Start.py",), ("pages/10_Compare.py", "pages/9_Talk.py")])
def test_a_link_holds_on_the_next_page(open_page: Callable[..., AppTest], between: tuple[Any, ...]) -> None:
    app = open_page(CONFLICT, run="normal", step=3, layer=2, family="o_proj")
    for page in (*between, SPECTRA):
        app.switch_page(page).run()
        assert not app.exception
    assert selected(app) == ("normal", 3, 2, "o_proj")
    assert app.query_params["step"] in ("3", ["3"])


def test_another_run_keeps_what_it_has(open_page: Callable[..., AppTest]) -> None:
    app = open_page(CONFLICT, run="normal", step=5, layer=2, family="o_proj")
    app.selectbox(key="run").set_value("nan").run()
    assert selected(app) == ("nan", 3, 2, "o_proj")  # it has three steps
    app.selectbox(key="run").set_value("wide").run()
    assert selected(app) == ("wide", 3, 2, "o_proj")
    app.selectbox(key="layer").set_value(30).run()
    app.selectbox(key="run").set_value("one").run()
    assert app.session_state["layer"] == 0
    assert not app.exception


def test_an_address_with_a_run_is_complete(open_page: Callable[..., AppTest]) -> None:
    """Back to it undoes a selection of cells; a link within the app carries them."""
    app = open_page(CONFLICT, run="normal", cells="0.k_proj")
    app.switch_page(SPECTRA).run()
    assert app.session_state["cells"] == ["0.k_proj"]
    del app.query_params["cells"]
    app.run()
    assert app.session_state["cells"] == []


def test_a_moved_widget_goes_before_the_link(open_page: Callable[..., AppTest]) -> None:
    app = open_page(CONFLICT, run="normal", step=3)
    app.slider(key="step").set_value(4).run()
    assert selected(app)[1] == 4
    app.selectbox(key="family").set_value("down_proj").run()
    assert selected(app)[1] == 4
    app.switch_page(SPECTRA).run()
    assert selected(app) == ("normal", 4, 0, "down_proj")
