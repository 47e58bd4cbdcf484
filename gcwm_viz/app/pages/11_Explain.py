"""Does conflict explain forgetting? Every signal against every outcome."""

import streamlit as st

from gcwm_viz.figures import associations
from gcwm_viz.signals.gradients import family_comparison
from gcwm_viz.ui import charts, page, study

with page.open_page("Explain", "Whether geometry conflict goes with forgetting here, beyond both growing with time."):
    tables, folder = study.load()
    runs, names = tables["runs"], study.names()
    measure = study.choose_measure("forgetting")
    column = measure.column
    everything = "all methods"
    method = st.selectbox("Runs of", [everything, *dict.fromkeys(runs["method"])], key="of", bind="query-params")
    chosen = None if method == everything else method
    if chosen is None:
        st.caption("Over all methods, a correlation also reflects how the methods differ: look at each by itself too.")
    table = study.correlations(runs, chosen, column, folder)
    figure = associations.correlations(table, names, published=measure.target == "forgetting")
    charts.show(figure, associations.RHO, table, key="correlations")
    undefined = table[table["rho"].isna()]
    if len(undefined):
        st.caption("Not defined: " + "; ".join(f"{names[s]}: {r}" for s, r in zip(undefined["signal"], undefined["reason"], strict=True)))  # fmt: skip # noqa: E501

    rows = runs if chosen is None else runs[runs["method"] == chosen]
    left, right = st.columns(2, gap="medium")
    with left:
        signals = study.explained(runs)
        signal = st.selectbox("Signal", signals, index=signals.index("global_gap"), format_func=names.__getitem__)
        figure = associations.points(rows, signal, column, names[signal], measure.meaning)
        charts.show(
            figure, associations.POINTS, rows[["method", "seed", "order", "step", signal, column]], key="points"
        )
    with right:
        cells = tables["cells"] if chosen is None else tables["cells"][tables["cells"]["method"] == chosen]
        top = st.slider("Top cells", 10, 100, 30, step=10)
        shares = family_comparison(cells, top, conflict="active_conflict")
        charts.show(associations.families(shares), associations.FAMILIES, shares, key="families")

    st.header("In the same place?", anchor=False)
    study.in_space(chosen)
