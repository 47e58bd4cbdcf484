"""A figure as PNG, where the machine can draw one. SVG needs nothing: the camera in every chart saves it."""

import importlib.util
from functools import lru_cache, partial

import plotly.graph_objects as go
import streamlit as st

WIDTH, SCALE = 1200, 2
HOW = (
    "The camera in the chart saves it as SVG. For PNG, install Chromium and the extra `png` of this project "
    "(python -m pip install kaleido)."
)


@lru_cache(maxsize=1)
def can_draw() -> bool:
    """Whether kaleido and a Chromium that it finds are on this machine."""
    if importlib.util.find_spec("kaleido") is None:
        return False
    from choreographer.browsers.chromium import Chromium

    return Chromium.find_browser(skip_local=False) is not None


def png(figure: go.Figure) -> bytes:
    """``figure`` at 1200 points wide, twice that in pixels, dark on white. Uses no network."""
    import kaleido

    printed = go.Figure(figure)
    printed.update_layout(paper_bgcolor="#ffffff", plot_bgcolor="#ffffff", font_color="#1b2128")
    size = {"width": WIDTH, "height": int(printed.layout.height or 450), "scale": SCALE}
    # Without this, kaleido's page loads MathJax from a third-party server.
    image: bytes = kaleido.calc_fig_sync(printed, opts={"format": "png", **size}, kopts={"mathjax": False})
    return image


def png_button(figure: go.Figure, key: str) -> None:
    """A download that draws when clicked, or the sentence that says what is missing."""
    if not can_draw():
        st.caption(HOW)
        return
    st.download_button(
        "Download PNG", data=partial(png, figure), file_name=f"{key}.png", mime="image/png", on_click="ignore",
        key=f"{key}-png",
    )  # fmt: skip
