"""The part of the page Where that asks whether conflict is in the same place as forgetting."""

import math
from functools import lru_cache

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.spatial import forgetting_pairs, rank_correlation, spatial_correlations, spatial_summary
from gcwm_viz.figures import attribution_map, spatial_correlation
from gcwm_viz.figures.theme import num
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import SIGNALS, on_page
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import charts
from gcwm_viz.ui.looked import Looked, cells_of

_NORMS = ("increment_norm", "update_norm")
"""How much each matrix changes: what any signal of a place must beat."""


def agreement(looked: Looked, signal: Signal) -> str:
    """How the two maps agree, in words."""
    if looked.ends.start != looked.ends.step - 1:
        return "The signal is that of the last step of this path, so the two maps are not correlated."
    totals = attribution_map.cell_values(looked.chosen)
    cells = cells_of(looked.view, looked.ends).merge(totals[["layer", "family", "value"]], on=["layer", "family"])
    signal_n, value_n = (cells[column].to_numpy(dtype=float) for column in (signal.column, "value"))
    found = rank_correlation(signal_n, value_n, signal.title)
    if found["reason"]:
        return f"These two maps cannot be compared: {found['reason']}."
    return (
        f"Rank correlation of the two maps over {found['cells']} matrices: ρ = {num(found['rho'], signed=True)}; "
        "positive = the harm is where this is high. One map says little: the strip below has all steps and tasks."
    )


def same_place(looked: Looked) -> None:
    """Whether any signal is high where earlier tasks got worse, over all steps and tasks of the run."""
    correlations, worse, summary = _correlations(looked.view.run, looked.split)
    names = {column: SIGNALS[column].title for column in _columns()}
    st.markdown(_answer(summary, looked.beside))
    figure = spatial_correlation.spatial_correlation(worse, summary, names)
    charts.show(figure, spatial_correlation.ABOUT, correlations, key="space")


def _columns() -> list[str]:
    return list(dict.fromkeys([*(signal.column for signal in on_page("Conflict")), *_NORMS]))


@lru_cache(maxsize=4)
def _correlations(run: Run, split: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Correlations of all steps and tasks, those of forgetting, and their summary; once a run, see ``loading``."""
    rows = run.tables["attribution"]
    rows = rows[rows["split"] == split]
    correlations = spatial_correlations(rows, run.tables["matrices"], _columns(), order=run.updates)
    worse = forgetting_pairs(correlations, rows)
    return correlations, worse, spatial_summary(worse, cluster=["step"])


def _answer(summary: pd.DataFrame, signal: Signal | None) -> str:
    """Whether the compared signal is where the harm is, in one sentence."""
    own = summary[summary["signal"] == (signal.column if signal else "")]
    if own.empty or math.isnan(own["rho"].iloc[0]):
        return "No earlier task's loss rose at a step where this signal is defined, so there is nothing to compare."
    row = own.iloc[0]
    interval, where = "", "where it is " + ("high" if row["rho"] > 0 else "low")
    if not math.isnan(row["low"]):
        interval = f", 95 % {num(row['low'], signed=True)} to {num(row['high'], signed=True)}"
        where = where if row["low"] * row["high"] > 0 else "neither where it is high nor where it is low"
    assert signal is not None
    return (
        f"{signal.title}: over {row['pairs']} tasks and steps that forgot, the mean rank correlation with the harm is "
        f"{num(row['rho'], signed=True)}{interval}: in this run the harm is {where}."
    )
