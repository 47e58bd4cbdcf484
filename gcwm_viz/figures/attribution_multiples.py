"""Attribution of every task at every step: a small map each, on one colour scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.attribution.roles import by_arrival, role
from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.attribution_map import outside, path_name
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import GridAxes, pivot, short_family

ABOUT = About(
    title="Attribution by task and step",
    line="One map a task (rows) and step (columns), layers downwards, families across. Above each: the change of the "
    "task's loss in nats, with its residual (±) where that is over the tolerance. Orange = worse, blue = better. "
    "Framed: the step that adds the task. At the steps to the right of a frame, orange is forgetting.",
)
Path = tuple[int, int]
Box = tuple[float, float, float, float]


def attribution_multiples(
    rows: pd.DataFrame, *, order: Sequence[str], axes: GridAxes, limits: tuple[float, float] | None = None
) -> go.Figure:
    """Maps of the table ``attribution`` (one split), a column for every path in ``rows``.

    order: update names by arrival. limits: of the colours; by default the largest value of an earlier task at a
    step, since what a step brings its own task would leave the rest pale. Values beyond have the end colours.
    """
    if rows.empty or not (rows["layer"] >= 0).any():
        return theme.nothing(ABOUT.title, "Nothing has been attributed yet.")
    ends = zip(rows["start"].astype(int), rows["step"].astype(int), strict=True)
    paths = sorted(set(ends), key=lambda path: (path[1], -path[0]))
    tasks = by_arrival(list(rows["task"]), order)
    finite = rows.assign(value=rows["value"].astype(float).replace([np.inf, -np.inf], np.nan))
    groups = dict(iter(finite.groupby(["task", "start", "step"], sort=False)))
    limits = limits or _limits(rows, order)
    tall = int(np.clip(np.clip(520 / len(tasks), 46, 120), 2 * len(axes.layers), 13 * len(axes.layers)))
    figure = theme.panels(
        ABOUT.title,
        height=128 + len(tasks) * (tall + 24),
        rows=len(tasks),
        top=92,
        shared_xaxes=True,
        vertical_spacing=24 / (len(tasks) * (tall + 24) - 24) if len(tasks) > 1 else 0,
    )
    columns, spans = _columns(paths, axes)
    labels = _headings(paths, spans, order)
    for row, task in enumerate(tasks, start=1):
        z = np.full((len(axes.layers), len(columns)), np.nan)
        panel = np.zeros(z.shape, dtype=bool)
        boxes: list[Box] = []
        framed: list[Box] = []
        for path, (first, last) in zip(paths, spans, strict=True):
            panel[:, first : last + 1] = True
            own = groups.get((task, *path))
            if own is not None:
                z[:, first : last + 1] = pivot(own[own["layer"] >= 0], "value", axes)
            arrives = path[0] == path[1] - 1 and role(task, path[1], order) == "arrived"
            (framed if arrives else boxes).append((first - 0.5, -0.5, last + 0.5, len(axes.layers) - 0.5))
            text = "not attributed" if own is None else _change(own)
            labels.append(_label(text, (first + last) / 2, row, y=1, yref=f"y{row if row > 1 else ''} domain"))
        _maps(figure, row, z, panel, columns, axes, theme.as_text(task), limits)
        if boxes:
            thin = {"color": theme.GRID, "width": 1}
            figure.add_shape(type="path", path=theme.path(boxes), line=thin, row=row, col=1)
        theme.outline(figure, framed, row=row, col=1)
        figure.update_yaxes(title_text=theme.as_text(task, limit=max(8, tall // 8)), row=row, col=1)
    figure.update_layout(annotations=labels)  # at once: one by one takes time that grows with their square
    _axes(figure, columns, axes)
    _scale(figure, rows, limits)
    return figure


def _limits(rows: pd.DataFrame, order: Sequence[str]) -> tuple[float, float]:
    rows = rows[rows["layer"] >= 0]
    steps = rows[rows["start"] == rows["step"] - 1]
    pairs = zip(steps["task"], steps["step"], strict=True)
    values = steps["value"][[role(task, int(step), order) == "earlier" for task, step in pairs]]
    return bounds(values if len(values) else rows["value"], diverging=True)


def _columns(paths: Sequence[Path], axes: GridAxes) -> tuple[list[str], list[tuple[int, int]]]:
    """Name of every column, as hovering shows it, with an empty column between paths; first and last of every path."""
    names: list[str] = []
    spans = []
    for k, path in enumerate(paths):
        names += [" " * k] if k else []
        spans.append((len(names), len(names) + len(axes.families) - 1))
        for i, family in enumerate(axes.families):
            name = f"{theme.as_text(family)}, {path_name(*path)}"
            names.append(name if name not in names else f"{name} ({i + 1})")  # names shortened to the same text
    return names, spans


def _maps(
    figure: go.Figure, row: int, z: np.ndarray, panel: np.ndarray, columns: list[str], axes: GridAxes, task: str,
    limits: tuple[float, float],
) -> None:  # fmt: skip
    layers = [str(layer) for layer in axes.layers]
    gap = 1 if len(layers) <= 12 else 0
    common: dict[str, Any] = {"x": columns, "y": layers, "xgap": gap, "ygap": gap, "row": row, "col": 1}
    figure.add_heatmap(
        z=np.where(panel & np.isnan(z), 1.0, np.nan), showscale=False, hoverinfo="skip", name="undefined",
        colorscale=[(0, theme.UNDEFINED), (1, theme.UNDEFINED)], **common,
    )  # fmt: skip
    figure.add_heatmap(
        z=z, coloraxis="coloraxis", name=task, hoverongaps=False,
        hovertemplate="%{fullData.name}: %{z:+.3g} nats<br>layer %{y} · %{x}<extra></extra>", **common,
    )  # fmt: skip


def _change(own: pd.DataFrame) -> str:
    first = own.iloc[0]
    residual = "" if first["converged"] else f" ± {theme.num(first['residual'])}"
    return theme.num(first["change"], signed=True) + residual


def _label(text: str, x: float, row: int, **position: Any) -> dict[str, Any]:
    place = {"x": x, "xref": f"x{row if row > 1 else ''}", "xanchor": "center", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, "font": {"size": 12}} | place | position


def _headings(paths: Sequence[Path], spans: Sequence[tuple[int, int]], order: Sequence[str]) -> list[dict[str, Any]]:
    labels = []
    for (start, step), (first, last) in zip(paths, spans, strict=True):
        single = start == step - 1 and step <= len(order)
        name = f"<b>{step}</b> · {theme.as_text(order[step - 1], limit=14)}" if single else path_name(start, step)
        labels.append(_label(name, (first + last) / 2, 1, y=1, yref="paper", yshift=20))
    return labels


def _axes(figure: go.Figure, columns: list[str], axes: GridAxes) -> None:
    shown = [k for k, name in enumerate(columns) if name.strip()]
    figure.update_xaxes(
        type="category", showgrid=False, tickvals=shown, tickfont_size=9, fixedrange=True, ticks="",
        ticktext=[short_family(axes.families[k % (len(axes.families) + 1)]) for k in shown],
    )  # fmt: skip
    layers = list(range(0, len(axes.layers), -(-len(axes.layers) // 4)))
    figure.update_yaxes(
        type="category", autorange="reversed", showgrid=False, fixedrange=True, tickfont_size=9, title_font_size=12,
        tickvals=layers, ticktext=[str(axes.layers[layer]) for layer in layers],
    )  # fmt: skip


def _scale(figure: go.Figure, rows: pd.DataFrame, limits: tuple[float, float]) -> None:
    """The colour scale, with signs where values lie beyond its ends, and what the maps leave out."""
    low, high = map(float, limits)
    values = rows.loc[rows["layer"] >= 0, "value"]
    ticks = [low, low / 2, 0.0, high / 2, high]
    texts = [theme.num(tick, signed=True) for tick in ticks]
    texts[0] = f"≤ {texts[0]}" if (values < low).any() else texts[0]
    texts[-1] = f"≥ {texts[-1]}" if (values > high).any() else texts[-1]
    figure.update_layout(
        coloraxis={
            "colorscale": theme.DIVERGING, "cmin": low, "cmax": high,
            "colorbar": theme.COLORBAR | {"tickvals": ticks, "ticktext": texts, "title": {"text": "nats"}},
        }
    )  # fmt: skip
    beyond = [abs(outside(own)) for _, own in rows[rows["layer"] < 0].groupby(["task", "start", "step"])]
    largest = float(np.max(beyond)) if beyond else 0.0
    if largest:
        text = f"not drawn: tensors outside the matrices, up to ± {theme.num(largest)} nats in a map"
        figure.update_layout(title_subtitle={"text": text, "font": {"size": 12}})
