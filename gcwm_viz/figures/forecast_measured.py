"""What was forecast of plans against what was measured of them."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.statistics.means import Z95

ABOUT = About(
    title="Forecast against measured",
    line="Every point is a plan: the change of the mean score from the base, as forecast and as measured, with 95 % "
    "bars. On the diagonal = as forecast; above it, better than forecast. Up = a better plan.",
)
KINDS = ("everything", "everything but one", "steps", "experts", "others")
"""What a plan can be, in the order of the legend."""


def forecast_measured(plans: pd.DataFrame, unit: str = "exact match") -> go.Figure:
    """Scatter, a point a plan, in the colour of its kind.

    plans: columns plan (in words), kind (of :data:`KINDS`; any other counts as others), forecast with its 95 % interval
    low to high, measured, se. All are changes of the mean score from the base. A plan without forecast or measured
    score is left out and counted in the title; without an interval or an error it has no bar.
    """
    known = plans[np.isfinite(plans[["forecast", "measured"]].to_numpy(dtype=float)).all(axis=1)]
    if known.empty:
        return theme.nothing(ABOUT.title, "No plan has both a forecast and a measured score yet.")
    hidden = len(plans) - len(known)
    title = ABOUT.title + (f" ({hidden} of {len(plans)} plans have only one of them)" if hidden else "")
    figure = theme.figure(
        title, height=440, x=f"forecast change of {unit}", y=f"measured change of {unit}", legend=True
    )
    ends = _ends(known)
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="as forecast", hoverinfo="skip",
        line={"color": theme.NEUTRAL, "width": 1.6, "dash": "dash"},
    )  # fmt: skip
    kinds = known["kind"].where(known["kind"].isin(KINDS), KINDS[-1])
    # Single experts are many, so they lie under the plans that they are to foretell.
    for index in reversed(range(len(KINDS))):
        rows = known[kinds == KINDS[index]]
        if rows.empty:
            continue
        look = theme.category(index)
        faded = theme.faded(look["color"], 0.4)
        figure.add_scatter(
            x=rows["forecast"],
            y=rows["measured"],
            mode="markers",
            name=KINDS[index],
            legendrank=1001 + index,
            marker={"size": 10, "color": look["color"], "symbol": look["symbol"]},
            error_x=theme.interval_bar(
                rows["forecast"], rows["low"], rows["high"], thickness=1.3, width=0, color=faded
            ),
            error_y=theme.error_bar(rows["se"].fillna(0.0), thickness=1.3, color=faded),
            text=[_words(row) for _, row in rows.iterrows()],
            hovertemplate="%{text}<extra></extra>",
        )
    for axis in (figure.update_xaxes, figure.update_yaxes):
        axis(range=ends, zeroline=True, zerolinecolor=theme.NEUTRAL, zerolinewidth=1)
    return figure


def _words(row: pd.Series) -> str:
    low, high = (theme.num(row[name], signed=True) for name in ("low", "high"))
    spread = "" if pd.isna(row["low"]) or pd.isna(row["high"]) else f" [{low}, {high}]"
    error = "" if pd.isna(row["se"]) else f" {theme.margin(row['se'])}"
    return (
        f"{theme.as_text(row['plan'])}<br>forecast {theme.num(row['forecast'], signed=True)}{spread}<br>"
        f"measured {theme.num(row['measured'], signed=True)}{error}"
    )


def _ends(plans: pd.DataFrame) -> list[float]:
    """Range of both axes: zero, which is the base, and every point with its bars."""
    spread = Z95 * plans["se"].fillna(0.0)
    columns = [plans[name] for name in ("forecast", "measured", "low", "high")]
    values = pd.concat([*columns, plans["measured"] - spread, plans["measured"] + spread]).to_numpy(dtype=float)
    values = np.append(values[np.isfinite(values)], 0.0)
    room = 0.05 * (float(np.ptp(values)) or 0.1)
    return [float(values.min()) - room, float(values.max()) + room]
