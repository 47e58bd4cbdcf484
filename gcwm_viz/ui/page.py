"""What every page starts with: page settings, navigation and heading.

Each page must stand alone: after a server start, the first deep link to a page runs it without app.py. The heading is
drawn before anything that takes seconds to import, so imports nothing of that kind itself.
"""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.ui import glossary, plugins, selection
from gcwm_viz.ui.trouble import shown

SECTIONS = {
    "What happened": {"app.py": "Overview", "pages/5_Scores.py": "Scores", "pages/13_Examples.py": "Examples"},
    "Where and why": {
        "pages/12_Where.py": "Where",
        "pages/1_Conflict.py": "Conflict",
        "pages/2_Spectra.py": "Spectra",
        "pages/4_Solver.py": "Solver",
    },
    "What to integrate": {
        "pages/8_Decide.py": "Decide",
        "pages/15_Try.py": "Try",
        "pages/16_Strength.py": "Strength",
        "pages/3_Gate.py": "Gate",
    },
    "Side by side": {
        "pages/7_Two_runs.py": "Two runs",
        "pages/10_Compare.py": "Compare",
        "pages/11_Explain.py": "Explain",
    },
    "To show": {"pages/14_Ask.py": "Ask", "pages/9_Talk.py": "Talk"},
    "To compute": {"pages/0_Start.py": "Start"},
}
"""The pages by the question that they answer."""
PAGES = {page: name for pages in SECTIONS.values() for page, name in pages.items()}
FILES = {name: page for page, name in PAGES.items()}

_SECONDS = "page-seconds"
_STYLE = """<style>
/* White text on the lighter blue of the dark theme has too little contrast. */
[data-testid^=stBaseButton-primary]:not(:disabled) {background: #0072B2; border-color: #0072B2; color: #FFFFFF}
</style>"""


@contextmanager
def open_page(title: str, line: str, *, bare: bool = False) -> Iterator[DeltaGenerator]:
    """Page settings, navigation and heading; the part of :func:`frame` that needs no run. Yields the box of the links.

    bare: no heading and a collapsed side bar, for a talk. A file that cannot be read ends the page with one sentence.
    """
    begin = time.perf_counter()
    sidebar: Literal["collapsed", "expanded"] = "collapsed" if bare else "expanded"
    st.set_page_config(page_title=f"{title} · GCWM", layout="wide", initial_sidebar_state=sidebar)
    st.html(_STYLE)
    selection.arrive(title)
    with st.sidebar:
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown("**Geometry conflict**", width="content")
            glossary.popover()
        links = st.empty()
    draw_links(links)
    if not is_loopback(st.get_option("server.address")):
        st.warning(
            "This server answers other machines and asks nobody who they are. Put a proxy with a login before it, or "
            "start it with server.address localhost; SECURITY.md says how."
        )
    if not bare:
        st.title(title, anchor=False)
        st.markdown(line)
    try:
        with shown():
            plugins.load()
            yield links
    finally:
        st.session_state[_SECONDS] = time.perf_counter() - begin


def seconds() -> float:
    """That the page's last drawing took here, without what the browser then did; 0 before the first."""
    return float(st.session_state.get(_SECONDS, 0.0))


def draw_links(box: DeltaGenerator) -> None:
    with box.container(gap="small"):
        for section, pages in SECTIONS.items():
            with st.container(gap=None):
                st.caption(section)
                with st.container(horizontal=True, gap=None):
                    for page, name in pages.items():
                        selection.link(page, name)


def is_loopback(address: str | None) -> bool:
    """Whether only this machine reaches a server bound to ``address``; none or an empty one means every interface."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address((address or "").strip("[]")).is_loopback
    except ValueError:
        return False
