"""Where the updates' geometries conflict, by layer, module family and step."""

import streamlit as st

from gcwm_viz.figures import depth_profile, family_share, pair_matrix, step_multiples
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.signals.catalogue import ACTIVE, INCOMING, STATE, on_page
from gcwm_viz.ui import charts, frame, grids, play

with frame.frame(
    "Conflict", "Where the geometries of updates and state disagree. Click a cell to choose that matrix."
) as view:
    matrices, cells = view.run.tables["matrices"], view.at_step("matrices")
    fit = st.segmented_control("Colours", ["fit to this run", "from zero"], default="fit to this run", required=True)
    limits = {
        signal.column: bounds(matrices[signal.column], diverging=signal.diverging, fit=fit == "fit to this run")
        for signal in on_page("Conflict")
    }
    play.player(view, limits)
    grids.show_grids(view, cells, on_page("Conflict"), limits)

    st.header("Between the updates", anchor=False)
    scope = st.segmented_control("Pairs of", ["chosen matrix", "all matrices"], default="chosen matrix", required=True)
    pairs = view.at_matrix("pairs") if scope == "chosen matrix" else view.at_step("pairs")
    left, right = st.columns(2, gap="medium")
    for column, about, value in ((left, pair_matrix.ABOUT, "conflict"), (right, pair_matrix.OVERLAP, "sar")):
        with column:
            square = pair_matrix.pair_values(pairs, view.run.updates, value)
            top = bounds(view.run.tables["pairs"]["conflict" if value == "conflict" else "sar_ij"])[1]
            charts.show(pair_matrix.pair_matrix(square, about, top), about, square.reset_index(), key=f"pairs-{value}")

    st.header("Where it concentrates", anchor=False)
    options = {signal.title: signal for signal in on_page("Conflict")}
    first, second, _ = st.columns([1, 1, 2], gap="medium")
    ranked = options[first.selectbox("Signal", list(options))]
    k = second.slider("Highest cells k", 5, 100, 20, step=5)
    figure = step_multiples.step_multiples(matrices, ranked, view.grid, limits[ranked.column])
    charts.show(figure, step_multiples.ABOUT, matrices[[*grids.CELL_COLUMNS, ranked.column]], key="steps")
    left, right = st.columns(2, gap="medium")
    with left:
        chosen = (ACTIVE, STATE, INCOMING)
        figure = depth_profile.depth_profile(cells, chosen, view.layer)
        data = cells[[*grids.CELL_COLUMNS, *(signal.column for signal in chosen)]]
        charts.show(figure, depth_profile.ABOUT, data, key="depth")
    with right:
        shares = family_share.family_shares(matrices, ranked.column, k)
        charts.show(family_share.family_share(shares, ranked), family_share.ABOUT, shares.reset_index(), key="families")
