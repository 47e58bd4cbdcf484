"""The gate of every matrix, and what another gate would decide."""

import streamlit as st

from gcwm_viz.figures import gate_curve
from gcwm_viz.signals.catalogue import ALPHA
from gcwm_viz.studies.regate import UNGATED
from gcwm_viz.ui import charts, frame, grids, readings, regate_job, whatif

with frame.frame(
    "Gate", "How strongly each matrix uses the geometry branch, and what other settings would decide."
) as view:
    cells = view.at_step("matrices")
    if cells["mode"].isin(UNGATED).all():
        st.info("This run has no gate: its method merges without branches, or its states come from training.")
    else:
        with st.container(border=True):
            st.markdown("**What if the gate were different?** Move a slider; nothing but α is computed again.")
            config = whatif.gate_settings(view.config, st.columns([2, 2, 2, 2, 1.4], vertical_alignment="bottom"))
        decided = whatif.regated(cells, config)
        whatif.summary(cells, decided)

        left, right = st.columns([3, 2], gap="medium")
        matrix = view.matrix
        with left:
            chosen = None if matrix is None else str(matrix["matrix"])
            figure = gate_curve.gate_curve(cells, config, before=view.config, chosen=chosen)
            charts.show(figure, gate_curve.ABOUT, decided[["matrix", "conflict", "alpha", "mode"]], key="gate-curve",
                        note=readings.decided(cells, config))  # fmt: skip
        with right:
            grids.show_grid(view, decided, ALPHA, limits=(0, 1))

        st.header("Effect of the gate", anchor=False)
        grids.show_grids(view, decided, whatif.SIGNALS)

        regate_job.show(view, config)
