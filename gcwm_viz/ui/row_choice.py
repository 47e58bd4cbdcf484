"""A table one of whose rows is chosen by a click anywhere in it."""

import streamlit as st


def tick(key: str, row: int | None) -> None:
    """Show ``row`` as chosen in the table with ``key``, which is drawn next; None: no row. It may have been chosen
    elsewhere, and a clicked cell chooses its row."""
    rows = [] if row is None else [row]
    state = st.session_state.get(key)
    if state is None or list(state["selection"]["rows"]) != rows or state["selection"]["cells"]:
        st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}


def clicked(key: str) -> int | None:
    """In the callback of the table with ``key``: the row just chosen; None where it was ticked off."""
    chosen = st.session_state[key]["selection"]
    rows = [cell[0] for cell in chosen["cells"]] or list(chosen["rows"])
    return rows[0] if rows else None
