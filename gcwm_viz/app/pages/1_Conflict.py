"""Where the updates' geometries conflict, by layer, module family and step."""

import streamlit as st

from gcwm_viz.figures import depth_profile, family_share, pair_matrix, signal_history, signal_multiples, step_multiples
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.signals.catalogue import ACTIVE, INCOMING, STATE, UPDATE_NORM, on_page
from gcwm_viz.ui import charts, frame, grids, play, selection, signal_map

with frame.frame("Conflict", "Where the geometries of updates and state disagree.") as view:
    matrices, cells, signals = view.run.tables["matrices"], view.at_step("matrices"), on_page("Conflict")
    conflicts = matrices[ACTIVE.column].notna().any()
    selection.prefer_address("colours")
    left, middle, right = st.columns([5, 4, 3], vertical_alignment="center")
    with left:
        signal = signal_map.choose_signal("signal", signals, ACTIVE if conflicts else UPDATE_NORM)
    fit = middle.segmented_control(
        "Colours", ["fit to run", "from zero"], default="fit to run", required=True, key="colours",
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    playing = right.toggle("Play the steps", key="playing", help="The map, step after step.")
    limits = {s.column: bounds(matrices[s.column], diverging=s.diverging, fit=fit == "fit to run") for s in signals}
    if not conflicts:
        st.markdown("A conflict needs two updates at one matrix, and this run never has two: see the update norm.")
    if playing:
        play.player(view, signal, limits[signal.column])
    else:
        signal_map.show(view, signal, signals, limits[signal.column])

    st.header("Over the steps", anchor=False)
    figure = step_multiples.step_multiples(matrices, signal, view.grid, limits[signal.column])
    data = matrices[[*grids.CELL_COLUMNS, signal.column]]
    charts.show(figure, step_multiples.ABOUT, data, key="steps")
    left, right = st.columns(2, gap="medium")
    with left:
        figure = signal_history.signal_history(matrices, signal, view.chosen, view.cells, view.step)
        charts.show(figure, signal_history.ABOUT, data, key="history")
    with right:
        chosen = (ACTIVE, STATE, INCOMING)
        figure = depth_profile.depth_profile(cells, chosen, view.layer)
        depths = cells[[*grids.CELL_COLUMNS, *(each.column for each in chosen)]]
        charts.show(figure, depth_profile.ABOUT, depths, key="depth")

    st.header("Between the updates", anchor=False)
    scope = st.segmented_control("Pairs of", ["chosen matrix", "all matrices"], default="chosen matrix", required=True)
    pairs = view.at_matrix("pairs") if scope == "chosen matrix" else view.at_step("pairs")
    left, right = st.columns(2, gap="medium")
    for column, about, value in ((left, pair_matrix.ABOUT, "conflict"), (right, pair_matrix.OVERLAP, "sar")):
        with column:
            square = pair_matrix.pair_values(pairs, view.run.updates, value)
            top = bounds(view.run.tables["pairs"]["conflict" if value == "conflict" else "sar_ij"])[1]
            charts.show(pair_matrix.pair_matrix(square, about, top), about, square.reset_index(), key=f"pairs-{value}")

    st.header("Families and signals", anchor=False)
    left, right = st.columns([3, 1], gap="medium")
    k = right.slider("Highest cells k", 5, 100, 20, step=5)
    with left:
        shares = family_share.family_shares(matrices, signal.column, k)
        charts.show(family_share.family_share(shares, signal), family_share.ABOUT, shares.reset_index(), key="families")
    if st.toggle("Show all signals", key="all-signals"):
        figure = signal_multiples.signal_multiples(cells, signals, view.grid, limits)
        data = cells[[*grids.CELL_COLUMNS, *(each.column for each in signals)]]
        charts.show(figure, signal_multiples.ABOUT, data, key="signals")
