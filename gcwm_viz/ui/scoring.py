"""Which probes a page shows: split, metric, and everything read off the score matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from gcwm_viz.figures.theme import num
from gcwm_viz.probes.scores import METRICS, downstream, expert_scores, score_matrix
from gcwm_viz.tables import Run

UNITS = {"em": "exact match", "nll": "nats per token"}
_SPLITS = {"test": "test", "dev": "development"}


@dataclass(frozen=True)
class Scored:
    """Scores of one split and metric. R and errors: index step (0 = base), columns tasks; own: by task."""

    R: pd.DataFrame
    errors: pd.DataFrame
    own: pd.Series
    downstream: pd.DataFrame
    metric: str

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric]

    @property
    def unit(self) -> str:
        return UNITS[self.metric]


def scored(run: Run, split: str = "test", metric: str = "em") -> Scored | None:
    """Scores of ``run`` on one split, or None when it has none there."""
    table = run.tables["scores"]
    if not ((table["split"] == split) & (table["metric"] == metric) & (table["model"] == "step")).any():
        return None
    R, errors = score_matrix(table, split, metric), score_matrix(table, split, metric, "se")
    experts = expert_scores(table, split, metric)
    own = {task: experts.at[task, task] if task in experts.index else np.nan for task in R.columns}
    course = downstream(R, run.updates, errors=errors, higher_is_better=METRICS[metric])
    return Scored(R=R, errors=errors, own=pd.Series(own, dtype=float), downstream=course, metric=metric)


def choose(run: Run) -> Scored | None:
    """Controls for split and metric, and what they give; None when the run has no scores at all."""
    table = run.tables["scores"]
    splits = [name for name in _SPLITS if name in set(table["split"])]
    metrics = [name for name in UNITS if name in set(table["metric"])]
    if not splits or not metrics:
        return None
    left, right, _ = st.columns([1, 1, 2])
    split = left.segmented_control(
        "Split", splits, default=splits[0], required=True, format_func=lambda name: _SPLITS[name]
    )
    metric = right.segmented_control(
        "Metric", metrics, default=metrics[0], required=True, format_func=lambda name: UNITS[name]
    )
    return scored(run, split, metric)


def headline(found: Scored, step: int) -> None:
    """Figures of one step, with the change against the base."""
    course = found.downstream
    if step not in course.index:
        st.caption("This step was not scored.")
        return
    row = course.loc[step]
    change = row["overall"] - course["overall"].get(0, np.nan)
    columns = st.columns(4)
    columns[0].metric(
        f"Overall after step {step}",
        num(row["overall"]),
        f"{num(change, signed=True)} against the base" if np.isfinite(change) else None,
        delta_color="normal" if found.higher_is_better else "inverse",
    )
    columns[1].metric("Forgetting", num(row["forgetting"]), help="Mean over earlier tasks; positive = lost")
    columns[2].metric("Backward transfer", num(row["bwt"], signed=True), help="Negative = lost since learned")
    columns[3].metric(
        "Plasticity gap", num(row["plasticity_gap"], signed=True), help="Arriving task minus earlier ones"
    )
