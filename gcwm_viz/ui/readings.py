"""What to look for in a chart of this run, in one sentence of plain text; empty where there is nothing to say."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gcwm_viz.figures.theme import num
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.runs.highlights import Scored
from gcwm_viz.statistics.means import Z95

HALF = 0.5


def kept(scores: Scored) -> str:
    """How many tasks end above the base, and as high as their own expert."""
    if 0 not in scores.R.index or len(scores.R) < 2:
        return ""
    sign = 1.0 if scores.higher_is_better else -1.0
    base, end = (sign * scores.R.loc[step].to_numpy(dtype=float) for step in (0, scores.R.index[-1]))
    base_se, end_se = (scores.errors.loc[step].to_numpy(dtype=float) for step in (0, scores.R.index[-1]))
    own = sign * scores.own.reindex(scores.R.columns).to_numpy(dtype=float)
    above = int((end - base > Z95 * np.hypot(base_se, end_se)).sum())
    level = int((end + Z95 * end_se >= own).sum())
    return (
        f"At the end {above} of {len(end)} tasks stand above the base by more than chance explains, and {level} are as "
        "good as their own expert within their interval."
    )


def decided(cells: pd.DataFrame, config: GCWMConfig) -> str:
    """On which side of the threshold the matrices lie."""
    conflict = cells["conflict"].dropna()
    if conflict.empty:
        return ""
    above = int((conflict > config.tau).sum())
    return (
        f"{above} of {len(conflict)} matrices lie above the threshold τ = {num(config.tau)}; their conflicts reach "
        f"from {num(conflict.min())} to {num(conflict.max())}."
    )


def concentrated(spectra: pd.DataFrame) -> str:
    """In how many directions half of each update's energy lies. spectra: rows of one matrix at one step."""
    halves = {
        str(source): int(np.searchsorted(np.cumsum(values), HALF * np.sum(values))) + 1
        for source, kind, values in zip(spectra["source"], spectra["kind"], spectra["eigenvalues"], strict=True)
        if kind == "update" and np.sum(values) > 0
    }
    if not halves:
        return ""
    least, most = min(halves, key=halves.__getitem__), max(halves, key=halves.__getitem__)
    if halves[least] == halves[most]:
        return f"Half of the energy of every update lies in {halves[least]} of its directions."
    return f"Half of the energy lies in {halves[least]} ({least}) to {halves[most]} ({most}) directions of an update."


def flipped(counts: pd.DataFrame, updates: Sequence[str]) -> str:
    """Which step lost most. counts: of :func:`gcwm_viz.runs.examples.flips`."""
    by_step = counts.drop(columns="task").groupby("step").sum()
    if by_step.empty or not by_step["lost"].any():
        return "No step lost an answer." if len(by_step) else ""
    step = int(by_step.index[int(by_step["lost"].to_numpy().argmax())])
    won = int(by_step[["learned", "regained"]].to_numpy().sum())
    return (
        f"Step {step}, {updates[step - 1]}, lost most: {by_step['lost'].max()} answers. All steps together lost "
        f"{by_step['lost'].sum()} and learned or regained {won}."
    )
