"""Where the updates' geometries conflict, by layer, module family and step."""

from functools import partial

import streamlit as st

from gcwm_viz.figures import depth_profile, family_share, layer_grid, pair_matrix, signals
from gcwm_viz.ui import charts, frame

view = frame.frame("Conflict", "Where the geometries of updates and state disagree. Click a cell to open that matrix.")
matrices, cells = view.run.tables["matrices"], view.at_step("matrices")
place = ["step", "matrix", "layer", "family"]

for start in range(0, len(signals.CONFLICT_PAGE), 3):
    for column, signal in zip(st.columns(3, gap="medium"), signals.CONFLICT_PAGE[start : start + 3], strict=True):
        with column:
            key = f"grid-{signal.column}"
            limits = signals.bounds(matrices[signal.column], signal.scale)
            charts.show(
                layer_grid.layer_grid(cells, signal, axes=view.axes, limits=limits, chosen=view.chosen),
                signal,
                cells[[*place, signal.column, "reason"]],
                key=key,
                on_select=partial(charts.pick_cell, key, view.axes),
            )

st.header("Between the updates", anchor=False)
scope = st.segmented_control("Pairs of", ["chosen matrix", "all matrices"], default="chosen matrix", required=True)
pairs = view.at_matrix("pairs") if scope == "chosen matrix" else view.at_step("pairs")
left, right = st.columns(2, gap="medium")
for column, about, value in ((left, pair_matrix.ABOUT, "conflict"), (right, pair_matrix.OVERLAP, "sar")):
    with column:
        square = pair_matrix.pair_values(pairs, view.run.updates, value)
        top = signals.bounds(view.run.tables["pairs"]["conflict" if value == "conflict" else "sar_ij"], "share")[1]
        charts.show(pair_matrix.pair_matrix(square, about, top), about, square.reset_index(), key=f"pairs-{value}")

st.header("Where it concentrates", anchor=False)
options = {signal.title: signal for signal in signals.CONFLICT_PAGE}
_, first, second = st.columns([2, 1, 1], gap="medium")
ranked = options[first.selectbox("Rank cells by", list(options))]
k = second.slider("Highest cells k", 5, 100, 20, step=5)
left, right = st.columns(2, gap="medium")
with left:
    chosen = (signals.ACTIVE, signals.STATE, signals.INCOMING)
    figure = depth_profile.depth_profile(cells, chosen, view.layer)
    data = cells[[*place, *(signal.column for signal in chosen)]]
    charts.show(figure, depth_profile.ABOUT, data, key="depth")
with right:
    shares = family_share.family_shares(matrices, ranked.column, k)
    charts.show(family_share.family_share(shares, ranked), family_share.ABOUT, shares.reset_index(), key="families")
