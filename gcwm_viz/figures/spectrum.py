"""Projected spectra of one matrix: each update's, their barycenter's, their mean's and the state's."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Projected spectra",
    line="Eigenvalues of each update's geometry in the union basis, largest first, on a log scale. A steep line uses "
    "few directions; the dotted line is the shrinkage λ, and what lies on it is λ alone.",
    formula=r"B_i=Q^{\top}V_i\operatorname{diag}(S_i^2)V_i^{\top}Q+\lambda I,\quad "
    r"\bar B=\operatorname*{argmin}_B\sum_i\omega_i\,d_{\mathrm{BW}}^2(B,B_i)",
    source="equations (3) and (7)",
)
ENERGY = About(
    title="How many directions carry the energy",
    line="Share of the trace that the first k directions hold. A steep rise = few directions hold most of it.",
    formula=r"\sum_{j\le k}\lambda_j(B)\,/\,\operatorname{tr}B",
    source="equation (3)",
)
_OTHERS: dict[str, dict[str, Any]] = {
    "barycenter": {"name": "Wasserstein barycenter", "color": theme.NEUTRAL, "width": 4, "dash": "solid"},
    "mean": {"name": "mean metric", "color": theme.NEUTRAL, "width": 2, "dash": "dash"},
    "state": {"name": "state", "color": theme.NEUTRAL, "width": 2.5, "dash": "dot"},
}


def spectrum(spectra: pd.DataFrame, lambda_share: float = float("nan")) -> go.Figure:
    """Lines of ``spectra`` rows (one matrix at one step); λ drawn as a line with its share of the trace."""
    if spectra.empty:
        return theme.nothing(ABOUT.title, "No spectrum is stored for this matrix at this step: no update touches it.")
    figure = theme.figure(ABOUT.title, height=440, x="direction, largest first", y="eigenvalue", legend=True)
    for name, values, style in _lines(spectra):
        figure.add_scatter(
            x=np.arange(1, len(values) + 1),
            y=np.where(values > 0, values, np.nan),
            name=name,
            mode="lines+markers" if "symbol" in style else "lines",
            line={"color": style["color"], "width": style.get("width", 2), "dash": style["dash"]},
            marker={"size": 6, "symbol": style.get("symbol", "circle")},
            hovertemplate="direction %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )
    lam = float(spectra["lam"].iloc[0])
    if np.isfinite(lam) and lam > 0:
        figure.add_hline(y=lam, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
        label = f"λ = {theme.num(lam)}, {theme.percent(lambda_share)} of the trace"
        theme.note(figure, label, x=1, xref="paper", xanchor="right", y=np.log10(lam), yref="y", yanchor="top")
    figure.update_yaxes(type="log", exponentformat="power", dtick="D2")
    return figure


def energy(spectra: pd.DataFrame) -> go.Figure:
    """Cumulative share of the trace by direction, for the same rows, with λ subtracted from every eigenvalue."""
    if spectra.empty:
        return theme.nothing(ENERGY.title, "No spectrum is stored for this matrix at this step.")
    figure = theme.figure(ENERGY.title, height=440, x="directions kept", y="share of the trace", legend=True)
    lam = float(spectra["lam"].iloc[0])
    for name, values, style in _lines(spectra):
        free = np.clip(values - (lam if np.isfinite(lam) else 0.0), 0.0, None)
        if free.sum() <= 0:
            continue
        figure.add_scatter(
            x=np.arange(0, len(free) + 1),
            y=np.concatenate([[0.0], np.cumsum(free) / free.sum()]),
            name=name,
            mode="lines",
            line={"color": style["color"], "width": style.get("width", 2), "dash": style["dash"]},
            hovertemplate="%{x} directions: %{y:.0%}<extra>%{fullData.name}</extra>",
        )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure


def _lines(spectra: pd.DataFrame) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    lines, index = [], 0
    columns = (spectra[name] for name in ("source", "kind", "eigenvalues", "union_rank", "lam"))
    for source, kind, values, rank, lam in zip(*columns, strict=True):
        if kind in _OTHERS:
            style, name = _OTHERS[kind], str(_OTHERS[kind]["name"])
        else:
            style, name, index = theme.category(index), theme.as_text(source, limit=30), index + 1
        values = np.asarray(values, dtype=float)
        if len(values) < rank:  # an update stores its own directions; in the rest of the union basis it has λ alone
            values = np.concatenate([values, np.full(rank - len(values), lam)])
        lines.append((name, values, dict(style)))
    return lines
