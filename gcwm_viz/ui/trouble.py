"""How a page says that something cannot be read or written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import streamlit as st

from gcwm_viz.errors import InputError


@contextmanager
def shown() -> Iterator[None]:
    """An :class:`InputError`, or a file that vanished or may not be read, is shown and ends the page. Also a decorator,
    for a fragment, which runs again without its page."""
    try:
        yield
    except (InputError, OSError) as error:
        show("This page cannot go on:", error)
        st.stop()


def stop(sentence: str) -> NoReturn:
    """End the page with ``sentence``, where there is nothing to show and nothing wrong."""
    st.info(sentence)
    st.stop()


def show(sentence: str, error: Exception | str) -> None:
    """``sentence`` and, as literal text because names from files are in it, the error."""
    st.error(sentence)
    st.text(str(error))
