"""Methods of a study side by side, and their differences from one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

MEANS = About(
    title="Every method at its last step",
    line="Large marks: mean over orders and seeds, with a 95 % interval over seeds where there are two or more. Small "
    "marks: single runs. Filled: needs no data. Open: sees training data.",
)
DIFFERENCES = About(
    title="Paired differences",
    line="Each method minus the reference, over runs of the same seed and order, with a 95 % interval over seeds. An "
    "interval across the line, or none at all, means that no difference is shown.",
)
COST = About(
    title="What a run costs",
    line="Mean processor seconds of one run on the lab, one thread: to train or merge, and to measure signals and "
    "probes. Lower = cheaper.",
)


def method_means(
    means: pd.DataFrame, final: pd.DataFrame, target: str, name: str, data_free: Sequence[str], expert: float
) -> go.Figure:
    """Points with intervals. means: :func:`gcwm_viz.signals.comparison.method_means`; final: last steps, one row a run.

    expert: mean score of the experts on their own tasks, drawn as a line where it is comparable, else NaN.
    """
    if means.empty:
        return theme.nothing(MEANS.title, f"No run of this study has {name}.")
    methods = [str(method) for method in means["method"]]
    place = {method: index for index, method in enumerate(methods)}
    made = theme.figure(MEANS.title, height=_height(len(methods)), x=name)
    runs = final[final["method"].isin(methods) & final[target].notna()]
    made.add_scatter(
        x=runs[target],
        y=[place[method] + 0.22 for method in runs["method"]],
        mode="markers",
        name="single runs",
        marker={"size": 5, "color": theme.NEUTRAL, "opacity": 0.6},
        text=[f"{theme.as_text(m)}, seed {s}" for m, s in zip(runs["method"], runs["seed"], strict=True)],
        hovertemplate="%{text}: %{x:.3g}<extra></extra>",
    )
    free = [method in set(data_free) for method in methods]
    made.add_scatter(
        x=means["mean"],
        y=list(range(len(methods))),
        mode="markers",
        name="mean",
        error_x=_interval(means["mean"], means),
        marker={
            "size": 11,
            "symbol": ["circle" if is_free else "diamond-open" for is_free in free],
            "color": [theme.OKABE_ITO[0] if is_free else theme.OKABE_ITO[5] for is_free in free],
            "line": {"width": 2},
        },
        customdata=means[["runs", "seeds"]],
        hovertemplate="%{x:.3g}, %{customdata[0]} runs of %{customdata[1]} seeds<extra></extra>",
    )
    if np.isfinite(expert):
        made.add_vline(x=expert, line={"color": theme.OKABE_ITO[1], "width": 1.6, "dash": "dash"})
        made.add_annotation(
            text=f"experts {theme.num(expert)}", x=expert, y=1, yref="paper", xanchor="right", yanchor="bottom",
            showarrow=False, font={"size": 12},
        )  # fmt: skip
    return _rows(made, methods)


def paired_differences(differences: pd.DataFrame, reference: str, name: str) -> go.Figure:
    """Points with intervals of :func:`gcwm_viz.signals.comparison.paired_differences`."""
    if differences.empty:
        return theme.nothing(DIFFERENCES.title, "No other method shares a seed and an order with the reference.")
    methods = [str(method) for method in differences["method"]]
    title = f"{name}, difference from {theme.as_text(reference, limit=30)}"
    made = theme.figure(DIFFERENCES.title, height=_height(len(methods)), x=title)
    made.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5})
    made.add_scatter(
        x=differences["difference"],
        y=list(range(len(methods))),
        mode="markers",
        name="difference",
        error_x=_interval(differences["difference"], differences),
        marker={"size": 10, "color": theme.OKABE_ITO[0]},
        text=[f"p {theme.num(p)}, {n} pairs" for p, n in zip(differences["p"], differences["pairs"], strict=True)],
        hovertemplate="%{x:+.3g}, %{text}<extra></extra>",
    )
    return _rows(made, methods)


def cost(final: pd.DataFrame) -> go.Figure:
    """Bars of mean ``seconds``, the training's share in another colour."""
    seconds = final.groupby("method", sort=False)[["seconds", "train_seconds"]].mean().dropna(subset=["seconds"])
    if seconds.empty:
        return theme.nothing(COST.title, "This study did not record its time.")
    seconds = seconds.sort_values("seconds")
    train = seconds["train_seconds"].fillna(0.0)
    made = theme.figure(COST.title, height=_height(len(seconds)) + 30, x="seconds", legend=True)
    for values, name, colour in (
        (train, "training or merging", theme.OKABE_ITO[1]),
        (seconds["seconds"] - train, "signals and probes", theme.OKABE_ITO[0]),
    ):
        made.add_bar(
            x=values, y=list(range(len(seconds))), orientation="h", name=name, marker={"color": colour},
            hovertemplate="%{x:.3g} s<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    made.update_layout(barmode="stack")
    return _rows(made, [str(method) for method in seconds.index])


def _interval(values: pd.Series, table: pd.DataFrame) -> dict:
    high, low = (table["high"] - values).fillna(0.0), (values - table["low"]).fillna(0.0)
    return {
        "type": "data",
        "symmetric": False,
        "array": high,
        "arrayminus": low,
        "thickness": 1.8,
        "color": theme.NEUTRAL,
    }


def _rows(made: go.Figure, names: Sequence[str]) -> go.Figure:
    ticks = [theme.as_text(name, limit=26) for name in names]
    made.update_yaxes(tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6], showgrid=False)
    return made


def _height(rows: int) -> int:
    return int(130 + np.clip(32 * rows, 60, 640))
