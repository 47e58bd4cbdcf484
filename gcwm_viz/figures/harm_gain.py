"""What every matrix costs the earlier tasks against what it brings the one that arrives."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.attribution_map import cell_values
from gcwm_viz.figures.layer_grid import GridAxes, short_family

ABOUT = About(
    title="Harm and gain of every matrix",
    line="Right = the matrix made earlier tasks worse, up = it made the arriving task better, both in nats per token. "
    "Below the dotted line it costs the earlier tasks more than it brings. Cells at the lower right are candidates: "
    "undo and check, since matrices interact, and undoing several is not the sum of these values.",
    formula=r"x_k=\sum_{u<t}A_k^{(u)},\quad y_k=-A_k^{(t)}",
)
_LABELLED = 8
_WORDS = (
    (1, -1, "harms earlier tasks,<br>little gain: candidates"),
    (1, 1, "gain at a price"),
    (-1, 1, "gain without harm"),
    (-1, -1, "helps earlier tasks,<br>not the new one"),
)


def harm_and_gain(rows: pd.DataFrame, *, arrived: str, earlier: Collection[str]) -> pd.DataFrame:
    """Cells of one path: layer, family, harm (sum over ``earlier`` tasks) and gain (of ``arrived``), in nats.

    rows: of the table ``attribution``, one path and split. NaN where a summand is not finite or not measured.
    """
    harm = cell_values(rows[rows["task"].isin(list(earlier))]).set_index(["layer", "family"])["value"]
    gain = -cell_values(rows[rows["task"] == arrived]).set_index(["layer", "family"])["value"]
    return pd.DataFrame({"harm": harm, "gain": gain}).reset_index()


def harm_gain(
    cells: pd.DataFrame, *, arrived: str, axes: GridAxes, selected: Sequence[tuple[int, str]] = ()
) -> go.Figure:
    """Scatter of :func:`harm_and_gain`, a point a cell in the colour of its family. selected: (layer, family).

    The last trace holds one point a cell of ``axes`` in the order of ``axes.cell``, without a position where harm or
    gain is undefined; only its points can be selected. The selected cells are ringed, and a few of them named.
    """
    values = {
        (layer, family): (harm, gain)
        for layer, family, harm, gain in zip(cells["layer"], cells["family"], cells["harm"], cells["gain"], strict=True)
    }
    order = [axes.cell(index) for index in range(len(axes.layers) * len(axes.families))]
    xy = np.array([values.get(cell, (np.nan, np.nan)) for cell in order], dtype=float).reshape(-1, 2)
    xy[~np.isfinite(xy).all(axis=1)] = np.nan
    known = ~np.isnan(xy[:, 0])
    if not known.any():
        why = "This takes a task that arrives at the step and an earlier one, both attributed."
        return theme.nothing(ABOUT.title, why)
    hidden = int((~known).sum())
    title = ABOUT.title + (f" ({hidden} of {len(order)} cells undefined)" if hidden else "")
    figure = theme.figure(
        title, height=460, x="harm to earlier tasks, nats", y=f"gain of {theme.as_text(arrived, limit=22)}, nats",
        legend=True,
    )  # fmt: skip
    x_range, y_range = _range(xy[known, 0], 0.08), _range(xy[known, 1], 0.24)
    _quadrants(figure, x_range, y_range)
    place = [axes.families.index(family) for _, family in order]
    for k, family in enumerate(axes.families):
        marker = {"size": 9, "color": theme.category(k)["color"], "symbol": theme.category(k)["symbol"]}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=short_family(family), marker=marker)
    chosen = [order.index(cell) for cell in selected if cell in order and known[order.index(cell)]]
    ringed = np.isin(np.arange(len(order)), chosen)
    if chosen:
        marker = {"size": 13, "symbol": "circle-open", "color": theme.NEUTRAL, "line": {"width": 3}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name="selected", marker=marker)
    for index in _named(xy, chosen):
        layer, family = order[index]
        theme.note(
            figure, f"{layer} {short_family(family)}", x=xy[index, 0], y=xy[index, 1], yshift=16, xanchor="center"
        )
    figure.add_scatter(
        x=xy[:, 0],
        y=xy[:, 1],
        mode="markers",
        name="cells",
        showlegend=False,
        text=[
            f"layer {layer} · {theme.as_text(family)}<br>harm {theme.num(x, signed=True)}, "
            f"gain {theme.num(y, signed=True)} nats"
            for (layer, family), (x, y) in zip(order, xy, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        marker={
            "size": np.where(ringed, 15, 9),
            "opacity": 1,  # markers of different sizes are translucent by default
            "color": [theme.category(k)["color"] for k in place],
            "symbol": [theme.category(k)["symbol"] for k in place],
            "line": {
                "width": np.where(ringed, 3.0, 0.8),
                "color": np.where(ringed, theme.NEUTRAL, "#ffffff"),
            },
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
    figure.update_xaxes(range=x_range)
    figure.update_yaxes(range=y_range)
    return figure


def _range(values: np.ndarray, room: float) -> tuple[float, float]:
    """Ends of an axis: all values, both signs, and beyond them a share ``room`` for the words of the quadrants."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    span = (high - low) or 1.0
    return min(low, -0.1 * span) - room * span, max(high, 0.1 * span) + room * span


def _quadrants(figure: go.Figure, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
    line = {"color": theme.NEUTRAL, "width": 1.2}
    figure.add_vline(x=0, line=line)
    figure.add_hline(y=0, line=line)
    ends = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
    figure.add_scatter(
        x=ends, y=ends, mode="lines", hoverinfo="skip", showlegend=True, name="gain = harm",
        line={"color": theme.NEUTRAL, "width": 1.4, "dash": "dot"},
    )  # fmt: skip
    for right, up, words in _WORDS:
        figure.add_annotation(
            text=words, showarrow=False, font={"size": 12, "color": theme.NEUTRAL},
            x=x_range[right > 0], y=y_range[up > 0], xshift=-6 * right, yshift=-4 * up,
            xanchor="right" if right > 0 else "left", yanchor="top" if up > 0 else "bottom",
            align="right" if right > 0 else "left",
        )  # fmt: skip


def _named(xy: np.ndarray, chosen: Sequence[int]) -> list[int]:
    """Cells to name in the chart: the selected ones that cost most over what they bring, else the three worst."""
    net = np.nan_to_num(xy[:, 0] - xy[:, 1], nan=-np.inf)
    if chosen:
        return sorted(chosen, key=lambda index: -net[index])[:_LABELLED]
    return [int(index) for index in np.argsort(-net, kind="stable")[:3] if net[index] > 0]
