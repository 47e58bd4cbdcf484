"""What a way of choosing updates costs against the best choice."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Regret of every way to choose",
    line="Mean score that the chosen plan lacks against the best one of a pool, with a 95 % interval over seeds; best "
    "first, lower = better. In brackets: merges that are scored before choosing. Blue: forecasts; hatched: what they "
    "must beat; dashed: the regret of integrating all.",
    formula=r"\max_p v(p)-v(\text{chosen}),\quad v=\text{mean test score over tasks}",
)
ALL = "integrate all"
REFERENCES = (ALL, "conflict threshold")
"""Ways to choose that a forecast must beat."""
_GROUPS = (("forecasts", theme.OKABE_ITO[0]), ("references", theme.OKABE_ITO[1]), ("other ways", theme.NEUTRAL))


def regret(rows: pd.DataFrame, unit: str = "exact match") -> go.Figure:
    """Horizontal bars, best first; :data:`REFERENCES` are hatched.

    rows: of results/regret.csv, of one method and setting: columns policy, regret with its interval low to high, share
    (of the regret of integrating all), pools, cost (merges measured; -1 = all). Undefined regrets are left out.
    """
    known = rows[rows["regret"].notna()].sort_values("regret", kind="stable").reset_index(drop=True)
    if known.empty:
        return theme.nothing(ABOUT.title, "Here too few plans were scored to know the best, so there is no regret.")
    figure = theme.figure(ABOUT.title, height=int(96 + 26 * len(known)), x=f"regret, {unit}")
    group = np.select([known["policy"].str.startswith("forecast"), known["policy"].isin(REFERENCES)], [0, 1], 2)
    for index, (name, color) in enumerate(_GROUPS):
        own = known[group == index]
        if own.empty:
            continue
        figure.add_bar(
            x=own["regret"],
            y=own.index,
            orientation="h",
            name=name,
            marker={
                "color": theme.faded(color, 0.45),
                "line": {"color": color, "width": 1.2},
                "pattern": {"shape": "/" if name == "references" else "", "size": 7, "solidity": 0.35},
            },
            error_x=theme.interval_bar(own["regret"], own["low"], own["high"], thickness=2, width=5, color=color),
            text=[_words(row) for _, row in own.iterrows()],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    everything = known[known["policy"] == ALL]["regret"]
    if len(everything):
        figure.add_vline(x=float(everything.iloc[0]), line={"color": theme.OKABE_ITO[1], "width": 1.6, "dash": "dash"})
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(known.index),
        ticktext=[
            f"{theme.as_text(policy, limit=30)} ({_cost(merges)})"
            for policy, merges in zip(known["policy"], known["cost"], strict=True)
        ],
        range=[len(known) - 0.4, -0.6],
        showgrid=False,
    )
    return figure


def _cost(merges: float) -> str:
    return "?" if pd.isna(merges) else "all" if merges < 0 else str(int(merges))


def _words(row: pd.Series) -> str:
    spread = f" [{theme.num(row['low'])}, {theme.num(row['high'])}]" if pd.notna(row["low"]) else ""
    share = f"<br>{theme.percent(row['share'])} of that of integrating all" if row["policy"] != ALL else ""
    return f"{theme.as_text(row['policy'])}: {theme.num(row['regret'])}{spread}, {row['pools']} pools{share}"
