"""Talk mode: the screens of a run, each as tall as the window, turned with keys."""

import streamlit as st

from gcwm_viz.ui import pins, screens, trouble
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.stage import SCREEN, Screen, Stage, go_to, shown

_STYLE = """<style>
:root {font-size: clamp(11px, min(1.85vh, 1.05vw), 40px)}
[data-testid=stHeader] {background: none; pointer-events: none}
[data-testid=stHeader] button {pointer-events: auto}
[data-testid=stApp]:has([data-testid=stExpandSidebarButton]) [data-testid=stSidebar] {visibility: hidden}
[data-testid=stAppDeployButton], [data-testid=stMainMenu] {display: none}
[data-testid=stExpandSidebarButton] {opacity: 0.35}
[data-testid=stExpandSidebarButton]:is(:hover, :focus-visible) {opacity: 1}
[data-testid=stMainBlockContainer] {
  height: 100dvh; max-width: none; padding: 1.2rem 3rem 0.4rem; box-sizing: border-box}
[data-testid=stMainBlockContainer] > [data-testid=stVerticalBlock], .st-key-talk {
  height: 100%; min-height: 0; gap: 0.6rem}
[data-testid=stLayoutWrapper]:has(> .st-key-talk, > .st-key-talk-picture) {flex: 1 1 0; min-height: 0; height: auto}
.st-key-talk-picture {height: 100%}
.st-key-talk h1 {font-size: 2.3rem; padding: 0 0 0.7rem}
.st-key-talk-words p {font-size: 1.5rem; line-height: 1.4}
.st-key-talk-screens button {min-height: 2rem; padding: 0 0.7rem}
.st-key-talk-keys p {font-size: 0.85rem}
.st-key-talk .st-key-ask-row {grid-template-columns: repeat(auto-fill, minmax(min(15.5rem, 100%), 1fr))}
.st-key-talk .ask-said {font-size: 2.1rem}
.st-key-talk .st-key-ask-sentence {min-height: 3rem}
@media (prefers-reduced-motion: reduce) {
  .st-key-talk, .st-key-talk * {animation: none !important; transition: none !important}
}
</style>"""
"""Sizes follow the window, so that a screen looks the same on every projector. The picture takes what is left."""
_KEYS = """<script>
if (!window.talkKeys) {
  window.talkKeys = true
  document.addEventListener('keydown', event => {
    const box = document.querySelector('.st-key-talk input[type=text]')
    const typing = event.target.matches('input, textarea, [contenteditable]')
    if (!document.querySelector('.st-key-talk') || event.ctrlKey || event.metaKey || event.altKey) return
    if (typing && ['Enter', 'Escape'].includes(event.key)) setTimeout(() => event.target.blur())
    if (typing) return
    if (event.key === '/' && box) { event.preventDefault(); box.focus(); box.select() }
    if (event.key.toLowerCase() === 'f') {
      document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()
    }
  })
}
</script>"""
"""What a button's shortcut cannot do: full screen needs the press itself, and after a question arrows turn again."""


def show(view: View) -> None:
    """The chosen screen, and below it a button for every one."""
    st.html(_STYLE)
    found = [*screens.story(view), *pins.screens(view.run)]
    if not found:
        trouble.stop("This run has neither scores nor a conflict, so there is nothing to tell of it.")
    now = shown(len(found))
    st.session_state[SCREEN] = now
    screen = found[now - 1]
    with st.container(key="talk"):
        st.title(screen.title, anchor=False)
        stage = Stage(
            words=st.container(key="talk-words"),
            # A height of its own lets the chart shrink; the style above then sets that height.
            picture=st.container(key="talk-picture", height=400, border=False),
            controls=st.container(key="talk-controls", horizontal=True, vertical_alignment="center"),
        )
        _turning(found, now)
        st.container(key="talk-keys").caption(_keys(screen, len(found)))
    st.html(_KEYS, unsafe_allow_javascript=True)
    screen.draw(stage)


def _turning(found: list[Screen], now: int) -> None:
    with st.container(horizontal=True, wrap=False, key="talk-screens", gap="xsmall"):
        st.button("Back", shortcut="Left", key="talk-back", on_click=go_to, args=(now - 1,), disabled=now == 1)
        for number, screen in enumerate(found, start=1):
            st.button(
                screen.name,
                shortcut=str(number) if number < 10 else None,
                key=f"talk-{number}",
                type="primary" if number == now else "secondary",
                on_click=go_to,
                args=(number,),
            )
        st.button(
            "Next", shortcut="Right", key="talk-next", on_click=go_to, args=(now + 1,), disabled=now == len(found)
        )


def _keys(screen: Screen, count: int) -> str:
    """The keys that do something here."""
    own = {"Question": "A another lost question · / type one, Enter asks it · ", "Undo": "U undo, and back · "}
    turn = f"← → turn · 1–{min(count, 9)} jump · " if count > 1 else ""
    return f"{turn}{own.get(screen.name, '')}F full screen"
