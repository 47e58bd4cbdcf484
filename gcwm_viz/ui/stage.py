"""What a screen of the talk draws on: a sentence, a picture that fills the window, and small controls below it."""

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

SCREEN = "screen"
"""Query parameter: the number of the screen that is shown, from 1."""
ABOVE = {"y": 1, "yanchor": "bottom"}
"""Place of a legend: over the picture."""
_TITLE = 32
"""Pixels of a figure's margin that its own title takes: on a screen the heading says it."""


@dataclass(frozen=True)
class Stage:
    """Boxes of one screen."""

    words: DeltaGenerator
    picture: DeltaGenerator
    controls: DeltaGenerator

    def say(self, sentence: str) -> None:
        """``sentence``: Markdown, with names escaped."""
        self.words.markdown(sentence)

    def plot(self, figure: go.Figure, *, key: str, alt: str) -> None:
        """A figure as tall as the window leaves room for, with text for the last row."""
        size = 16 if len(list(figure.select_xaxes())) > 1 else 20  # several panels
        top = max(16, (figure.layout.margin.t or 0) - _TITLE)
        figure.update_layout(title=None, font_size=size, legend_font_size=size, margin_t=top, height=None)
        figure.update_annotations(font_size=size)
        figure.update_xaxes(title_font_size=size, tickfont_size=size)
        figure.update_yaxes(title_font_size=size, tickfont_size=size)
        config = {"displaylogo": False, "displayModeBar": False}
        self.picture.plotly_chart(figure, key=f"talk-chart-{key}", height="stretch", alt=alt, config=config)


@dataclass(frozen=True)
class Screen:
    """``name``: of its button. ``title``: Markdown with names escaped. ``draw``: for the one that is shown."""

    name: str
    title: str
    draw: Callable[[Stage], None]


def shown(count: int) -> int:
    """Number of the screen to show, of ``count``: the address's, or else the one shown last."""
    text = str(st.query_params.get(SCREEN, st.session_state.get(SCREEN, 1)))
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 1
    return min(max(number, 1), count)


def go_to(number: int) -> None:
    """Show another screen."""
    st.session_state[SCREEN] = number
    st.query_params[SCREEN] = str(number)
