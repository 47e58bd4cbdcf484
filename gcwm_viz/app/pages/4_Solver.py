"""How far the inner solver moved: its path in the chosen matrix, its displacement in every matrix."""

import streamlit as st

from gcwm_viz.figures import solver_path
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.theme import num, percent
from gcwm_viz.signals.catalogue import on_page
from gcwm_viz.ui import charts, frame, signal_map, trouble

with frame.frame(
    "Solver", "Whether each branch was really solved, or is still the plain sum of updates from which it started."
) as view:
    cells, rows, matrix = view.at_step("matrices"), view.at_matrix("solver"), view.matrix
    settings = view.config
    if cells["plain_shift"].isna().all():
        trouble.stop("This run has no inner solver: its method merges directly, or its states come from training.")
    columns = st.columns(4)
    columns[0].metric("Solver", settings.solver)
    columns[1].metric("Plain branch moved by", percent(cells["plain_shift"].median()), help="Median over matrices")
    columns[2].metric("Geometry branch moved by", percent(cells["geo_shift"].median()), help="Median over matrices")
    stationary = cells["solver_converged"].fillna(False).astype(bool)
    columns[3].metric("Ended stationary", f"{stationary.sum()} of {len(cells)}")
    if cells["geo_shift"].median() < 0.02:
        st.warning(
            "The geometry branch has hardly moved from its start, so the branches differ here mostly by where they "
            "started, not by geometry. The exact solver or a larger learning rate shows more."
        )

    branches = on_page("Solver")
    signal = signal_map.choose_signal("branch", branches, branches[0])
    signal_map.show(view, signal, branches, bounds(view.run.tables["matrices"][signal.column]))

    st.header("The chosen matrix", anchor=False)
    if matrix is None:
        trouble.stop("No matrix of this family in this layer is merged. Choose another in the side bar.")
    st.text(f"{matrix['matrix']} · residual of the gradient at the end: {num(matrix['solver_residual'])}")
    if rows["iteration"].max() > 1:
        left, right = st.columns(2, gap="medium")
        with left:
            minima = {branch: matrix[f"{branch}_minimum"] for branch in solver_path.BRANCHES}
            charts.show(solver_path.objective_path(rows, minima), solver_path.OBJECTIVE, rows, key="objective")
        with right:
            charts.show(solver_path.shift_path(rows), solver_path.SHIFT, rows, key="shift")
    else:
        for branch, name in solver_path.BRANCHES.items():
            st.markdown(f"- {solver_path.solved_at_once(matrix, branch, name)}")
