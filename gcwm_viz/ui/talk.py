"""Talk mode: the screens of a run, turned with buttons or the arrow keys."""

import streamlit as st

from gcwm_viz.ui.frame import View
from gcwm_viz.ui.screens import SCREENS

SCREEN = "screen"
_STYLE = """<style>
[data-testid=stMainBlockContainer] h1 {font-size: 2.6rem}
.st-key-talk-sentence p {font-size: 1.6rem; line-height: 1.45; max-width: 62rem}
</style>"""


def show(view: View) -> None:
    """The chosen screen with its controls: buttons, the arrow keys, and a link for each screen."""
    st.html(_STYLE)
    numbers = list(range(1, len(SCREENS) + 1))
    with st.container(horizontal=True, vertical_alignment="center", key="talk-controls"):
        back, choice, forward = (st.container(width="content") for _ in range(3))
    now = choice.segmented_control("Screen", numbers, default=1, key=SCREEN, required=True, bind="query-params",
                                  label_visibility="collapsed")  # fmt: skip
    back.button("Back", shortcut="Left", on_click=turn, args=(-1,), disabled=now == 1)
    forward.button("Next", shortcut="Right", type="primary", on_click=turn, args=(1,), disabled=now == len(SCREENS))
    screen = SCREENS[now - 1](view)
    st.title(screen.title, anchor=False)
    with st.container(key="talk-sentence"):
        st.markdown(screen.sentence)
    if screen.figure is not None:
        enlarged = screen.figure.update_layout(title_text="", font_size=20, legend_font_size=20, margin_t=16)
        enlarged.update_annotations(font_size=20)
        enlarged.update_xaxes(title_font_size=20, tickfont_size=19)
        enlarged.update_yaxes(title_font_size=20, tickfont_size=19)
        st.plotly_chart(enlarged, key=f"talk-{now}", alt=screen.sentence.replace("**", "").replace("\\", ""),
                        config={"displaylogo": False, "displayModeBar": False})  # fmt: skip


def turn(by: int) -> None:
    """Show the screen ``by`` further on."""
    now = st.session_state.get(SCREEN) or 1
    st.session_state[SCREEN] = min(max(int(now) + by, 1), len(SCREENS))
