"""How conflict becomes a decision: the gate of every matrix, and what another gate would decide."""

from functools import partial

import streamlit as st

from gcwm_viz.figures import gate_curve, layer_grid, signals
from gcwm_viz.ui import charts, frame, whatif

view = frame.frame("Gate", "How strongly each matrix uses the geometry branch, and what other settings would decide.")
cells = view.at_step("matrices")
config = whatif.gate_settings(view.config)
decided = whatif.regated(cells, config)
whatif.summary(cells, decided, config)

left, right = st.columns([3, 2], gap="medium")
matrix = view.matrix
with left:
    chosen = None if matrix is None else str(matrix["matrix"])
    figure = gate_curve.gate_curve(cells, config, before=view.config, chosen=chosen)
    charts.show(figure, gate_curve.ABOUT, decided[["matrix", "conflict", "alpha", "mode"]], key="gate-curve")
with right:
    key = "grid-alpha"
    charts.show(
        layer_grid.layer_grid(decided, signals.ALPHA, axes=view.axes, limits=(0, 1), chosen=view.chosen),
        signals.ALPHA,
        decided[["matrix", "layer", "family", "conflict", "alpha", "mode", "reason"]],
        key=key,
        on_select=partial(charts.pick_cell, key, view.axes),
    )

st.header("What the gate moves", anchor=False)
for column, signal in zip(st.columns(3, gap="medium"), whatif.SIGNALS, strict=True):
    with column:
        key = f"grid-{signal.column}"
        charts.show(
            layer_grid.layer_grid(decided, signal, axes=view.axes, chosen=view.chosen),
            signal,
            decided[["matrix", "layer", "family", signal.column, "reason"]],
            key=key,
            on_select=partial(charts.pick_cell, key, view.axes),
        )
