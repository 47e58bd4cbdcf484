"""A way through the folders that the app may use: what each holds, and which become the base or updates of the form."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from gcwm_viz.checkpoints.location import location, reached
from gcwm_viz.errors import InputError
from gcwm_viz.ui.roots import allowed_roots, within
from gcwm_viz.updates.recognise import NOTHING, Content, recognise
from gcwm_viz.updates.sequence import ABOUT, READINGS, in_sequence, named

FOLDER, OPEN, TAKE, READING = "start-folder", "start-open", "start-take", "start-reading"
MOST = 200
"""Folders that are looked into."""
UP = ".."


def show(take: Callable[[list[Path]], None], base: Callable[[Path], None]) -> None:
    """Field, folders and what they hold. ``take``, ``base``: called back with what is chosen."""
    field, opened = st.columns([3, 2], gap="medium")
    field.text_input("Look in the folder", key=FOLDER, persist_state="session", placeholder="models/updates")
    text = st.session_state[FOLDER].strip()
    try:
        here = within(text) if text else None
        own, found = contents(str(here)) if here else (None, [])
    except InputError as error:
        st.text(str(error))
        return
    above = [UP] if here is not None and any(here.parent.is_relative_to(root) for root in allowed_roots()) else []
    names = [str(root) for root in allowed_roots()] if here is None else [*above, *(child.name for child, _ in found)]
    opened.selectbox("Open", names, index=None, key=OPEN, on_change=_open, placeholder="one of its folders")
    if own is None:
        return
    st.text(f"{here}: {own.problem or own.kind}")
    if own.base:
        st.button("Take it as the base", on_click=base, args=(here,))
    shown = [(child, content) for child, content in found if content.kind != NOTHING]
    if shown:
        rows = [{"folder": child.name, "holds": (content.problem or content.kind).removeprefix(f"{child}: ")}
                for child, content in shown]  # fmt: skip
        st.dataframe(rows, hide_index=True, column_config={"folder": "Folder", "holds": "What it holds"})
    updates = [child for child, content in found if content.update]
    if updates:
        _choose(updates, take)


@st.cache_data(ttl=20, max_entries=32, show_spinner=False)
def contents(folder: str) -> tuple[Content, list[tuple[Path, Content]]]:
    """What the folder holds, and what those directly inside hold, by name. Raises :class:`InputError`, as
    :func:`within` does."""
    here = reached(within(folder))
    try:
        children = sorted(child for child in here.iterdir() if child.is_dir() and child.name[:1] != ".")
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror or error})") from None
    if len(children) > MOST:
        raise InputError(f"{folder}: expected at most {MOST} folders in it, found {len(children)}")
    return recognise(here), [(child, recognise(child)) for child in children]


def _choose(updates: list[Path], take: Callable[[list[Path]], None]) -> None:
    by_name = {path.name: path for path in updates}
    if set(st.session_state.get(TAKE, by_name)) - by_name.keys():
        del st.session_state[TAKE]  # of another folder
    chosen = st.multiselect("Updates to add, in this order", list(by_name), default=list(by_name), key=TAKE)
    if states := in_sequence(by_name[name] for name in chosen):
        st.text(f"{named(states)} are by their names the states of one training.")
        st.radio("Read them as", READINGS, key=READING, persist_state="session", captions=list(ABOUT.values()))
    st.button("Add these updates", on_click=take, args=([by_name[name] for name in chosen],), disabled=not chosen)


def _open() -> None:
    chosen, here = st.session_state[OPEN], st.session_state[FOLDER].strip()
    if chosen is None:
        return
    inner = location(here)
    target = chosen if not here else inner.parent if chosen == UP else inner / chosen
    st.session_state[FOLDER], st.session_state[OPEN] = str(target), None
