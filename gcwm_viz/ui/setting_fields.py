"""One control for every setting, made from the configurations' own fields and their own words."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import streamlit as st

from gcwm_viz.continual.config import ContinualConfig, RunSettings
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.merging.settings import MethodSettings
from gcwm_viz.ui.text import as_markdown

FILLED = "start-filled"
CONFIGURATIONS = (GCWMConfig, ContinualConfig, MethodSettings)


@cache
def setting_docs() -> dict[str, str]:
    """What every setting means, from the docstring of its configuration (``name, name: text``)."""
    docs: dict[str, str] = {}
    for owner in CONFIGURATIONS:
        names = "|".join(sorted((field.name for field in fields(owner)), key=len, reverse=True))
        heads = re.compile(rf"(?<![\w`])((?:{names})(?:, (?:{names}))*): ")
        text = " ".join(inspect.getdoc(owner).split()) if owner.__doc__ else ""  # type: ignore[union-attr]
        parts = heads.split(text)
        for head, meaning in zip(parts[1::2], parts[2::2], strict=True):
            docs |= dict.fromkeys(head.split(", "), meaning.strip())
        for field in fields(owner):  # explained in passing, in the words of another setting
            mention = next((meaning for meaning in docs.values() if f"``{field.name}``" in meaning), None)
            if mention is not None:
                docs.setdefault(field.name, mention)
    return docs


@cache
def _kinds() -> dict[str, Any]:
    return {name: kind for owner in CONFIGURATIONS for name, kind in get_type_hints(owner).items()}


def defaults(settings: RunSettings) -> dict[str, Any]:
    """Every single setting by the name that ``--set`` takes."""
    return {**settings.gcwm.to_dict(), **settings.to_dict()["continual"], **settings.options.to_dict()}


def fill(settings: Mapping[str, Any], preset: str, method: str) -> None:
    """Let the fields of this preset and method begin with ``settings``: all fields are made anew."""
    serial = st.session_state.get(FILLED, (0, "", "", {}))[0]
    st.session_state[FILLED] = (serial + 1, preset, method, dict(settings))


def show(names: Iterable[str], known: dict[str, Any], preset: str, method: str, columns: int = 4) -> dict[str, Any]:
    """Controls for ``names``; returns the values that differ from those in ``known``."""
    changed = {}
    names = list(names)
    # Another preset or method brings its own values, and so does a plan that fills the form. The values are the
    # fields' defaults, not set through the session state: a number field that loses its state would fall to zero.
    serial, *owner, filled = st.session_state.get(FILLED, (0, "", "", {}))
    first = {**known, **filled} if owner == [preset, method] else known
    for start in range(0, len(names), columns):
        for box, name in zip(st.columns(columns), names[start : start + columns], strict=False):
            with box:
                value = _field(name, first[name], f"set-{serial}-{preset}-{method}-{name}")
            if value != known[name]:
                changed[name] = value
    return changed


def _field(name: str, default: Any, key: str) -> Any:
    kind = _kinds()[name]
    help_text = as_markdown(setting_docs().get(name, ""), limit=600) or None
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        return st.selectbox(name, choices, choices.index(default), key=key, help=help_text, persist_state="session")
    wanted = [part for part in get_args(kind) if part is not type(None)] if _is_union(kind) else [kind]
    optional = _is_union(kind)
    if wanted == [int]:
        return st.number_input(
            name, step=1, key=key, help=help_text, value=default,
            placeholder="none" if optional else None, persist_state="session",
        )  # fmt: skip
    if wanted == [float]:
        return st.number_input(
            name, step=_step(default), format="%.6g", key=key, help=help_text, value=default,
            placeholder="none" if optional else None, persist_state="session",
        )  # fmt: skip
    return st.text_input(name, default, key=key, help=help_text, persist_state="session")


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _step(default: Any) -> float:
    """A tenth of the default's order of magnitude, so that one click is a small change."""
    if not isinstance(default, int | float) or default == 0:
        return 0.01
    return float(f"1e{math.floor(math.log10(abs(default))) - 1}")
