"""Linear probes by layer: what the hidden states still tell apart, for base, experts and steps."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Representation probes by layer",
    line="Cross-validated accuracy of a linear classifier on mean hidden states (higher = the distinction is there to "
    "read), with 95 % intervals. Dotted line: chance. Behaviour lost while this stays high means output, not "
    "knowledge, has changed.",
)


def representation(rows: pd.DataFrame, *, step: int | None = None, expert: str | None = None) -> go.Figure:
    """Accuracy by layer for the base, one step and one expert; ``rows`` are of one dataset of ``representation``."""
    if rows.empty:
        return theme.nothing(ABOUT.title, "This run has no representation probes.")
    made = theme.figure(ABOUT.title, height=380, x="layer (0 = embeddings)", y="accuracy", legend=True)
    wanted = [("base", rows[rows["model"] == "base"])]
    if step is not None:
        wanted.append((f"after step {step}", rows[(rows["model"] == "step") & (rows["step"] == step)]))
    if expert is not None:
        wanted.append(
            (
                f"expert {theme.as_text(expert, limit=24)}",
                rows[(rows["model"] == "expert") & (rows["update"] == expert)],
            )
        )
    for index, (name, line) in enumerate(wanted):
        if line["accuracy"].notna().sum() == 0:
            continue
        line = line.sort_values("layer")
        theme.line(
            made, index, line["layer"], line["accuracy"], name, width=2.2, size=7, error_y=theme.error_bar(line["se"]),
            hovertemplate="layer %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    chance = float(rows["chance"].iloc[0])
    made.add_hline(y=chance, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"})
    made.update_xaxes(dtick=max(1, rows["layer"].nunique() // 12), tick0=0)
    made.update_yaxes(range=[0, 1.03])
    return made
