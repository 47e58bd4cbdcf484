"""The style of every figure: colours, type, number format, and text that is never markup.

Colours are readable with any colour vision: cividis for magnitudes, a blue-orange map centred on zero for
differences, the Okabe-Ito palette (with dash and symbol as a second cue) for categories. Backgrounds are transparent
and text takes the page's colour, so one figure serves the light and the dark theme.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gcwm_viz.statistics.means import Z95

SEQUENTIAL = "Cividis"
DIVERGING = [
    (0.0, "#0a3d6b"),
    (0.25, "#4f97c9"),
    (0.5, "#efefec"),
    (0.75, "#e08a3c"),
    (1.0, "#8a3a04"),
]
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A81E")
NEUTRAL = "#8b929c"
UNDEFINED = "#c9cdd3"
UNDEFINED_MARK = "#7d848f"
GRID = "rgba(139,146,156,0.22)"
COLORBAR = {"thickness": 9, "outlinewidth": 0, "nticks": 5, "tickformat": "~g"}
_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")

TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "'Source Sans', 'Source Sans Pro', 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
            "size": 13,
        },
        "title": {"x": 0, "xanchor": "left", "xref": "container", "font": {"size": 15}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 8}},
        "yaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 8}},
        "hoverlabel": {"align": "left"},
        "colorway": list(OKABE_ITO),
    }
)


def as_text(value: Any, limit: int = 80) -> str:
    """``value`` as literal text for a Plotly label: no tag, entity or control character of it takes effect.

    Plotly reads ``<b>``, ``<a href>``, ``$…$`` and entities in every label, and names come from files. Longer than
    ``limit`` characters: the middle is left out.
    """
    text = "".join(character if character.isprintable() else "�" for character in str(value))
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[len(text) - half :]}"
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("$", "&#36;")):  # $…$ is mathematics
        text = text.replace(character, entity)
    return text


def num(value: Any, signed: bool = False) -> str:
    """A number with three significant digits; ``n/a`` where it is missing or not finite."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return "n/a"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{int(value):+,}" if signed else f"{int(value):,}"
    sign = "+" if signed else ""
    if value == 0:
        return "0"
    if 1000 <= abs(value) < 1e6:
        return f"{value:{sign},.0f}"
    if 1e-3 <= abs(value) < 1000:
        return f"{value:{sign}#.3g}".rstrip(".")
    return f"{value:{sign}.2e}"


def margin(error: float) -> str:
    """``± `` half of the 95 % interval of an estimate with standard error ``error``."""
    return f"± {num(Z95 * error)}"


def percent(value: Any) -> str:
    """A share in [0, 1] as a percentage; ``n/a`` where it is missing."""
    if value is None or not math.isfinite(value):
        return "n/a"
    return "under 0.1 %" if 0 < value < 5e-4 else f"{100 * value:.3g} %"


def category(index: int) -> dict[str, str]:
    """Colour, dash and marker symbol of the ``index``-th category; 63 of them differ in at least one cue."""
    return {
        "color": OKABE_ITO[index % len(OKABE_ITO)],
        "dash": _DASHES[(index // len(OKABE_ITO)) % len(_DASHES)],
        "symbol": _SYMBOLS[(index + index // len(OKABE_ITO)) % len(_SYMBOLS)],
    }


def faded(color: str, opacity: float) -> str:
    """A colour of the palette, such as ``#0072B2``, at ``opacity`` in [0, 1]: for bands and bars behind marks."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def figure(title: str, *, height: int, x: str = "", y: str = "", legend: bool = False) -> go.Figure:
    """An empty figure; ``title``, ``x`` and ``y`` are the package's own labels, not text from files."""
    figure = go.Figure()
    figure.update_layout(
        template=TEMPLATE,
        title_text=title,
        height=height,
        margin={"l": 8, "r": 8, "t": 48, "b": 8},
        showlegend=legend,
        legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0, "xanchor": "left"},
        xaxis={"title": {"text": x, "standoff": 8}},
        yaxis={"title": {"text": y, "standoff": 16}},
    )
    return figure


def panels(
    title: str, *, height: int, rows: int, cols: int = 1, top: int = 48, legend: float | None = None, **grid: Any
) -> go.Figure:
    """Empty panels. legend: its position below them, as a share of their height; None for no legend, and then ``top``
    pixels are left above for the panels' titles. grid: further arguments of ``make_subplots``."""
    style = figure(title, height=height).layout
    subplots = make_subplots(rows=rows, cols=cols, **grid)
    subplots.update_layout(template=style.template, title=style.title, height=style.height)
    if legend is None:
        subplots.update_layout(showlegend=False)
        subplots.update_layout(margin={"l": 8, "r": 8, "t": top, "b": 8})
    else:
        subplots.update_layout(margin=style.margin, legend=style.legend, showlegend=True)
        subplots.update_layout(legend_y=legend)
    return subplots


def error_bar(errors: Any, *, width: int = 0, thickness: float = 1.5, **look: Any) -> dict[str, Any] | None:
    """Bars of 95 % for standard errors ``errors``, as in every chart; None where there are none."""
    if errors is None:
        return None
    spread = Z95 * np.asarray(errors, dtype=float)
    return {"type": "data", "array": spread, "width": width, "thickness": thickness, **look}


def interval_bar(values: pd.Series, low: pd.Series, high: pd.Series, **look: Any) -> dict[str, Any]:
    """Bars from ``low`` to ``high`` about ``values``, none where there is no interval."""
    above, below = (high - values).fillna(0.0), (values - low).fillna(0.0)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **look}


def line(
    figure: go.Figure, index: int, x: Any, y: Any, name: str, *, width: float, size: int, dash: str = "", **trace: Any
) -> None:
    """Add a line with markers in the colour and symbol of the ``index``-th category.

    width, size: of the line and its markers, in pixels. trace: further properties, which override these.
    """
    style = category(index)
    line = {"color": style["color"], "width": width, "dash": dash or None}
    marker = {"symbol": style["symbol"], "size": size}
    figure.add_scatter(x=x, y=y, name=name, line=line, marker=marker, **{"mode": "lines+markers", **trace})


def note(figure: go.Figure, text: str, **position: Any) -> None:
    """A small annotation without an arrow; ``text`` is the package's own."""
    figure.add_annotation(text=text, showarrow=False, font={"size": 12}, **position)


def nothing(title: str, why: str) -> go.Figure:
    """An empty figure that says what is missing."""
    empty = figure(title, height=180)
    empty.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
    empty.add_annotation(
        text=as_text(why, limit=200),
        x=0,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        xanchor="left",
        align="left",
        font={"color": NEUTRAL},
    )
    return empty


def cell_outline(figure: go.Figure, column: float, row: float) -> None:
    """Outline one heatmap cell in white and black, visible on every colour of either scale."""
    box = {"type": "rect", "x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    figure.add_shape(**box, line={"color": "#ffffff", "width": 4.5})
    figure.add_shape(**box, line={"color": "#111111", "width": 2})


def path(boxes: Iterable[tuple[float, float, float, float]]) -> str:
    """Boxes (x0, y0, x1, y1) as the path of one shape: many shapes are slow to add and to draw."""
    return " ".join(f"M{x0},{y0}L{x1},{y0}L{x1},{y1}L{x0},{y1}Z" for x0, y0, x1, y1 in boxes)


def outline(figure: go.Figure, boxes: Sequence[tuple[float, float, float, float]], **panel: Any) -> None:
    """Outline boxes (x0, y0, x1, y1) as :func:`cell_outline` does one cell, but dotted. panel: row and column of a
    panel."""
    if boxes:
        box = {"type": "path", "path": path(boxes)} | panel
        figure.add_shape(**box, line={"color": "#ffffff", "width": 3.5})
        figure.add_shape(**box, line={"color": "#111111", "width": 2, "dash": "dot"})


def undefined_cells(figure: go.Figure, z: np.ndarray) -> None:
    """Paint the cells where ``z`` (rows, columns) is NaN grey with a cross: undefined, not small."""
    missing = np.isnan(z)
    if not missing.any():
        return
    figure.add_heatmap(
        z=np.where(missing, 1.0, np.nan),
        x=list(range(z.shape[1])),
        y=list(range(z.shape[0])),
        colorscale=[(0, UNDEFINED), (1, UNDEFINED)],
        showscale=False,
        hoverinfo="skip",
        xgap=1.5,
        ygap=1.5,
        name="undefined",
    )
    rows, columns = np.nonzero(missing)
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="markers",
        hoverinfo="skip",
        showlegend=False,
        marker={"symbol": "x-thin", "size": 7, "line": {"width": 1.2, "color": UNDEFINED_MARK}},
        name="undefined",
    )


def ink(share: np.ndarray) -> np.ndarray:
    """Black or white for text on cividis cells, by the cell's position in [0, 1] on the scale; grey where undefined."""
    return np.where(np.isnan(share), UNDEFINED_MARK, np.where(share > 0.55, "#111111", "#ffffff"))


def reason_or_default(reason: object) -> str:
    """Why a value is undefined, as recorded in the table, or that no reason is recorded."""
    return reason if isinstance(reason, str) and reason else "not defined here (no reason recorded)"
