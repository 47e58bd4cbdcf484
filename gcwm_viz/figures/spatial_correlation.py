"""Is the harm where a signal is high? Rank correlations over cells, a point a task and step, and their mean."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Signals and harm over the matrices",
    line="Each point is an earlier task at a step that raised its loss: Spearman's ρ between a signal and the "
    "attribution over all matrices. Right of 0: the harm is where the signal is high. Left: where it is low. Diamond: "
    "their mean, with a 95 % interval over the steps or runs counted on the left; of fewer than ten it is somewhat "
    "too narrow.",
    formula=r"\rho_s\bigl(\text{signal}_k,\,A_k^{(u)}\bigr)\ \text{over matrices }k",
)
_ROLES = {"earlier": "earlier task", "arrived": "arriving task", "later": "later task", "other": "other task"}


def spatial_correlation(
    correlations: pd.DataFrame, summary: pd.DataFrame, names: Mapping[str, str], *, cluster: str = "steps"
) -> go.Figure:
    """Strips of ``spatial_correlations`` with the mean and interval of ``spatial_summary`` (of the same rows).

    names: titles of signals by column. cluster: what the interval resamples, in the plural, such as ``steps``. Rows by
    falling mean; a signal without one comes last and says why.
    """
    if summary.empty:
        return theme.nothing(ABOUT.title, "No signal can be compared: no task has an attribution at a single step.")
    ranked = summary.sort_values("rho", ascending=False, na_position="last", kind="stable").reset_index(drop=True)
    figure = theme.figure(ABOUT.title, height=int(190 + 42 * len(ranked)), legend=True, x="Spearman's ρ over matrices")
    for x, anchor, words in ((0, "left", "← harm where the signal is low"), (1, "right", "harm where it is high →")):
        theme.note(figure, words, x=x, xref="x domain", xanchor=anchor, y=1, yref="paper", yanchor="bottom")
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.4})
    row_of = {signal: row for row, signal in enumerate(ranked["signal"])}
    points = correlations[correlations["rho"].notna() & correlations["signal"].isin(list(row_of))]
    spread = points.groupby("signal").cumcount() * 0.381966 % 1  # golden section: neighbours lie apart
    for index, (role, name) in enumerate(_ROLES.items()):
        own = points["role"] == role
        if not own.any():
            continue
        rows = points[own]
        figure.add_scatter(
            x=rows["rho"],
            y=rows["signal"].map(row_of) + 0.36 * (spread[own] - 0.5),
            mode="markers",
            name=name,
            marker={"size": 7, "opacity": 0.7} | {key: theme.category(index)[key] for key in ("color", "symbol")},
            text=[
                f"{theme.as_text(row.task, limit=40)}, step {row.step}: ρ {theme.num(row.rho, signed=True)}, "
                f"{row.cells} matrices"
                for row in rows.itertuples()
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    mean = ranked[ranked["rho"].notna()]
    figure.add_scatter(
        x=mean["rho"],
        y=mean.index,
        mode="markers",
        name="mean",
        marker={"size": 12, "symbol": "diamond", "color": theme.OKABE_ITO[5], "line": {"width": 1, "color": "#ffffff"}},
        error_x=theme.interval_bar(mean["rho"], mean["low"], mean["high"], thickness=2.4, color=theme.OKABE_ITO[5]),
        text=[_words(row, cluster) for row in mean.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    for row, entry in ranked[ranked["rho"].isna()].iterrows():
        why = theme.as_text(theme.reason_or_default(entry["reason"]), limit=90)
        theme.note(figure, f"not defined: {why}", x=0.02, y=row, xanchor="left")
    figure.update_yaxes(
        tickvals=list(range(len(ranked))),
        ticktext=[_label(entry, names, cluster) for entry in ranked.to_dict("records")],
        range=[len(ranked) - 0.45, -0.55],
        showgrid=False,
    )
    figure.update_xaxes(range=[-1.05, 1.05])
    figure.update_layout(legend_y=-58 / (figure.layout.height - 130), margin_t=72)
    return figure


def _label(entry: Mapping[Hashable, Any], names: Mapping[str, str], cluster: str) -> str:
    signal = str(entry["signal"])
    counts = f'<span style="font-size:11px">{entry["pairs"]} pairs, {entry["clusters"]} {cluster}</span>'
    return f"{theme.as_text(names.get(signal, signal), limit=32)}<br>{counts}"


def _words(entry: Mapping[Hashable, Any], cluster: str) -> str:
    value = f"mean ρ {theme.num(entry['rho'], signed=True)}"
    if not np.isfinite(entry["low"]):
        return f"{value}<br>{theme.as_text(theme.reason_or_default(entry['reason']), limit=90)}"
    low, high = (theme.num(entry[end], signed=True) for end in ("low", "high"))
    return f"{value}, 95 % over {entry['clusters']} {cluster}: {low} to {high}"
