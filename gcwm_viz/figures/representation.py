"""Accuracy of linear probes by layer, for base, step and expert."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Representation probes by layer",
    line="Cross-validated accuracy of a linear classifier on mean hidden states (higher = the classes are easier "
    "to separate), with 95 % intervals. Dotted line: chance. Behaviour lost while this stays high means output, not "
    "knowledge, has changed.",
)


def representation(rows: pd.DataFrame, *, step: int | None = None, expert: str | None = None) -> go.Figure:
    """Accuracy by layer for the base, one step and one expert; ``rows`` are of one dataset of ``representation``."""
    if rows.empty:
        return theme.nothing(ABOUT.title, "This run has no representation probes.")
    figure = theme.figure(ABOUT.title, height=380, x="layer (0 = embeddings)", y="accuracy", legend=True)
    models = [("base", rows[rows["model"] == "base"])]
    if step is not None:
        models.append((f"after step {step}", rows[(rows["model"] == "step") & (rows["step"] == step)]))
    if expert is not None:
        own = rows[(rows["model"] == "expert") & (rows["update"] == expert)]
        models.append((f"expert {theme.as_text(expert, limit=24)}", own))
    for index, (name, scores) in enumerate(models):
        if scores["accuracy"].isna().all():
            continue
        scores = scores.sort_values("layer")
        theme.line(
            figure, index, scores["layer"], scores["accuracy"], name, width=2.2, size=7,
            error_y=theme.error_bar(scores["se"]), hovertemplate="layer %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    chance = float(rows["chance"].iloc[0])
    figure.add_hline(y=chance, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"})
    figure.update_xaxes(dtick=max(1, rows["layer"].nunique() // 12), tick0=0)
    figure.update_yaxes(range=[0, 1.03])
    return figure
