"""One way to say on a page that something cannot be read or written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from gcwm_viz.errors import InputError


@contextmanager
def told(sentence: str = "This page cannot go on:") -> Iterator[None]:
    """An :class:`InputError`, or a file that vanished or may not be read, becomes ``sentence`` with what it says, and
    ends the page. Also a decorator, for a fragment, which runs again without its page."""
    try:
        yield
    except (InputError, OSError) as error:
        st.error(sentence)
        st.text(str(error))
        st.stop()
