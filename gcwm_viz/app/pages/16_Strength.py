"""How strong the merge should be, and what coefficients from probes bring beyond one strength for all."""

import streamlit as st

from gcwm_viz.ui import calibration, frame, scoring, trouble

with frame.frame(
    "Strength", "How strong the merge should be, as a whole and by matrix, where development probes may say."
) as view:
    if view.run.store.file.states:
        trouble.stop("This run describes a training pipeline: nothing was merged, so there is no strength to choose.")
    scoring.strength(view.run)
    st.header("Calibration", anchor=False)
    calibration.show(view.run)
