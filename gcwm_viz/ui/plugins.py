"""Plug-ins of the app: those of installed packages, and those that ``streamlit run app.py -- --plugin FILE`` names."""

import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.plugins.loaded import is_installed
from gcwm_viz.ui.roots import plugins


def load() -> None:
    """Before a page draws. Raises :class:`InputError` where one cannot be loaded, on every page alike."""
    if problem := _load(plugins()):
        raise InputError(problem)


@st.cache_resource(show_spinner=False)
def _load(specs: tuple[str, ...]) -> str:
    """What is wrong, or an empty text. Cached, because two sessions may ask at once, and so that a plug-in that fails
    is not run again for every page."""
    if not specs and not is_installed():
        return ""
    from gcwm_viz.plugins import loading  # and with it all that a plug-in extends

    try:
        loading.load_installed()
        for spec in specs:
            loading.load(spec)
    except InputError as error:
        return str(error)
    return ""
