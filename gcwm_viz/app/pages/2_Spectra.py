"""The projected spectra of the chosen matrix."""

import streamlit as st

from gcwm_viz.figures import angles, barycenter_path, spectrum
from gcwm_viz.figures.theme import num
from gcwm_viz.ui import charts, frame, readings, trouble
from gcwm_viz.ui.text import as_markdown

with frame.frame(
    "Spectra", "How the updates of one matrix spread their energy over directions, and what they share."
) as view:
    rows, matrix = view.at_matrix("spectra"), view.matrix
    if matrix is None:
        trouble.stop("No matrix of this family in this layer is merged. Choose another in the side bar.")
    st.subheader(as_markdown(matrix["matrix"]), anchor=False)
    facts = {
        "Active updates": num(int(matrix["active"])),
        "Union rank": num(matrix["union_rank"]),
        "Layer conflict g": num(matrix["conflict"]),
        "λ share of trace": num(matrix["lambda_share"]),
        "Barycenter residual": num(matrix["barycenter_residual"]),
    }
    for column, (name, value) in zip(st.columns(len(facts)), facts.items(), strict=True):
        column.metric(name, value)
    if matrix["reason"]:
        st.text(f"Undefined here: {matrix['reason']}")
    charts.show(
        spectrum.spectrum(rows, matrix["lambda_share"]), spectrum.ABOUT, rows.explode("eigenvalues"), key="spectrum"
    )
    charts.show(spectrum.energy(rows), spectrum.ENERGY, rows.explode("eigenvalues"), key="energy",
                note=as_markdown(readings.concentrated(rows), 300))  # fmt: skip

    left, right = st.columns(2, gap="medium")
    with left:
        pairs = view.at_matrix("pairs")
        data = pairs[pairs["kind"] == "active"].explode("principal_angles")
        charts.show(angles.angles(pairs, view.update), angles.ABOUT, data, key="angles")
    with right:
        path = view.at_matrix("barycenter")
        charts.show(
            barycenter_path.barycenter_path(path, view.config.barycenter_tol),
            barycenter_path.ABOUT,
            path,
            key="barycenter",
        )
