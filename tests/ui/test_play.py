"""The conflict map that moves on by itself, and pictures."""

import json
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.ui import picture, play

PAGE = "pages/1_Conflict.py"


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


@pytest.mark.parametrize(("step", "waited", "expected"), [(1, 0.1, 1), (1, 2.0, 2), (6, 2.0, 1), (9, 0.1, 6)])
def test_steps_follow_one_another_in_their_time(step: int, waited: float, expected: int) -> None:
    assert play.next_step(step, 6, waited) == expected


def test_playing_adds_its_two_charts_and_moves_on(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(PAGE, run="normal")
    still = charts(app)
    app.toggle(key="playing").set_value(True).run()
    assert not app.exception
    first = charts(app)
    assert len(first) == len(still) + 1  # the pairs beside the map
    assert app.slider(key="play-step").value == 1
    monkeypatch.setattr(play, "SECONDS", 0.0)
    app.run()
    assert app.slider(key="play-step").value == 2
    moved = charts(app)
    assert sum(a["data"] != b["data"] for a, b in zip(first, moved, strict=True)) == 2


def test_a_step_chosen_by_hand_stays_when_it_stands_still(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal")
    app.toggle(key="playing").set_value(True).run()
    app.toggle(key="play-on").set_value(False).run()
    app.slider(key="play-step").set_value(4).run()
    assert not app.exception
    assert app.slider(key="play-step").value == 4
    assert any("Step 4 of 6" in element.value for element in app.markdown)


@pytest.mark.parametrize("kind", ["one", "nan"])
def test_playing_a_run_of_one_step_or_with_holes(open_page: Callable[..., AppTest], kind: str) -> None:
    app = open_page(PAGE, run=kind)
    app.toggle(key="playing").set_value(True).run()
    assert not app.exception


def test_without_a_drawing_browser_the_page_says_how_to_get_one(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "can_draw", lambda: False)
    app = open_page("pages/2_Spectra.py", run="normal")
    assert any("install kaleido" in element.value for element in app.caption)


def test_a_picture_is_a_png_of_the_figure() -> None:
    pytest.importorskip("kaleido")
    if not picture.can_draw():
        pytest.skip("no Chromium on this machine")
    figure = go.Figure(go.Heatmap(z=[[1, 2], [3, 4]]), layout={"height": 300})
    drawn = picture.png(figure)
    assert drawn.startswith(b"\x89PNG")
    assert int.from_bytes(drawn[16:20]) == picture.WIDTH * picture.SCALE
    assert figure.layout.paper_bgcolor is None
