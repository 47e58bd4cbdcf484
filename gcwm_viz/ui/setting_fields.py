"""One control for each setting, from its declaration."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.settings.declare import Setting
from gcwm_viz.ui.text import as_markdown

FILLED = "start-filled"


def fill(settings: Mapping[str, Any], preset: str, method: str) -> None:
    """Let the fields of this preset and method start from ``settings``: all fields are created anew."""
    serial = st.session_state.get(FILLED, (0, "", "", {}))[0]
    st.session_state[FILLED] = (serial + 1, preset, method, dict(settings))


def show(names: Iterable[str], settings: RunSettings, columns: int = 4) -> dict[str, Any]:
    """Controls for ``names``; returns the values that differ from those in ``settings``."""
    changed = {}
    names = list(names)
    declared, defaults = settings.declared(), settings.single()
    # A preset, a method and a plan that fills the form bring their own values. These are the fields' defaults and not
    # set through the session state: a number field that loses its state would fall to zero.
    serial, *owner, filled = st.session_state.get(FILLED, (0, "", "", {}))
    initial = {**defaults, **filled} if owner == [settings.preset, settings.method] else defaults
    for start in range(0, len(names), columns):
        for box, name in zip(st.columns(columns), names[start : start + columns], strict=False):
            with box:
                key = f"set-{serial}-{settings.preset}-{settings.method}-{name}"
                value = _field(declared[name], initial[name], key)
            if value != defaults[name]:
                changed[name] = value
    return changed


def _field(setting: Setting, value: Any, key: str) -> Any:
    name, text = setting.name, as_markdown(f"{setting.meaning}; {setting.range}", limit=600)
    if setting.choices:
        at = setting.choices.index(value)
        return st.selectbox(name, setting.choices, at, key=key, help=text, persist_state="session")
    whole = setting.kind is int
    return st.number_input(
        name, step=1 if whole else _step(value), format=None if whole else "%.6g", key=key, help=text, value=value,
        placeholder="none" if setting.optional else None, persist_state="session",
    )  # fmt: skip


def _step(value: Any) -> float:
    """A tenth of the value's order of magnitude, so that one click is a small change."""
    if not isinstance(value, int | float) or value == 0:
        return 0.01
    return float(f"1e{math.floor(math.log10(abs(value))) - 1}")
