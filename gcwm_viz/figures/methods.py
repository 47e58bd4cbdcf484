"""Methods of a study, and their differences from one of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.number_grid import number_grid

MEANS = About(
    title="Every method at its last step",
    line="Large marks: mean over orders and seeds, with a 95 % interval over seeds where there are two or more. Small "
    "marks: single runs. Filled: needs no data. Open: sees training data.",
)
DIFFERENCES = About(
    title="Paired differences",
    line="Each method minus the reference, over runs of the same seed and order, with a 95 % interval over seeds. An "
    "interval across the line, or no interval, shows no difference.",
)
TASKS = About(
    title="Task by task, at the last step",
    line="Mean over seeds and orders. Top row: each task's own expert, the score that its update alone reaches; the "
    "shortfall of a method was never learned, or was lost.",
)
ABLATIONS = About(
    title="Single parts varied",
    line="All updates of a seed merged at once, at the η that the development split prefers. Large marks: the test "
    "split, mean over seeds; small ones: single seeds; bars: 95 % by the probes of one seed.",
)
COST = About(
    title="What a run costs",
    line="Mean CPU seconds of one run on the lab, one thread: to train or merge, and to measure signals and "
    "probes. Lower = cheaper.",
)
_BAR = {"thickness": 1.8, "color": theme.NEUTRAL}


def method_means(
    means: pd.DataFrame, final: pd.DataFrame, target: str, name: str, data_free: Sequence[str], expert: float
) -> go.Figure:
    """Points with intervals. means: :func:`gcwm_viz.statistics.comparison.method_means`; final: last steps, one row a
    run.

    expert: mean score of the experts on their own tasks, drawn as a line where it is comparable, else NaN.
    """
    if means.empty:
        return theme.nothing(MEANS.title, f"No run of this study has {name}.")
    methods = [str(method) for method in means["method"]]
    figure = theme.figure(MEANS.title, height=_height(len(methods)), x=name)
    runs = final[final["method"].isin(methods) & final[target].notna()]
    labels = [f"{theme.as_text(m)}, seed {s}" for m, s in zip(runs["method"], runs["seed"], strict=True)]
    _singles(figure, runs[target], methods, runs["method"], "single runs", labels)
    free = [method in set(data_free) for method in methods]
    figure.add_scatter(
        x=means["mean"],
        y=list(range(len(methods))),
        mode="markers",
        name="mean",
        error_x=theme.interval_bar(means["mean"], means["low"], means["high"], **_BAR),
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
        figure.add_vline(x=expert, line={"color": theme.OKABE_ITO[1], "width": 1.6, "dash": "dash"})
        theme.note(
            figure, f"experts {theme.num(expert)}", x=expert, y=1, yref="paper", xanchor="right", yanchor="bottom"
        )
    return _rows(figure, methods)


def paired_differences(differences: pd.DataFrame, reference: str, name: str) -> go.Figure:
    """Points with intervals of :func:`gcwm_viz.statistics.comparison.paired_differences`."""
    if differences.empty:
        return theme.nothing(DIFFERENCES.title, "No other method shares a seed and an order with the reference.")
    methods = [str(method) for method in differences["method"]]
    title = f"{name}, difference from {theme.as_text(reference, limit=30)}"
    figure = theme.figure(DIFFERENCES.title, height=_height(len(methods)), x=title)
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5})
    figure.add_scatter(
        x=differences["difference"],
        y=list(range(len(methods))),
        mode="markers",
        name="difference",
        error_x=theme.interval_bar(differences["difference"], differences["low"], differences["high"], **_BAR),
        marker={"size": 10, "color": theme.OKABE_ITO[0]},
        text=[f"p {theme.num(p)}, {n} pairs" for p, n in zip(differences["p"], differences["pairs"], strict=True)],
        hovertemplate="%{x:+.3g}, %{text}<extra></extra>",
    )
    return _rows(figure, methods)


def by_task(table: pd.DataFrame, *, higher_is_better: bool) -> go.Figure:
    """Heatmap of :func:`gcwm_viz.statistics.comparison.final_scores`."""
    if table.empty:
        return theme.nothing(TASKS.title, "This study has no scores by task.")
    z = table.to_numpy(dtype=float)
    top = 1.0 if higher_is_better else max(float(np.nanmax(z, initial=0.0)), 1e-9)
    methods = [theme.as_text(name) for name in table.index]
    tasks = [theme.as_text(name, limit=18) for name in table.columns]
    figure = number_grid(
        TASKS.title, z, methods, tasks, lambda i, j: f"{methods[i]} on {tasks[j]}: {theme.num(z[i, j])}",
        height=_height(len(table)), limits=(0.0, top), reversescale=not higher_is_better, most=None, colorbar=False,
    )  # fmt: skip
    return _rows(figure, [str(name) for name in table.index])


def ablations(table: pd.DataFrame, question: str) -> go.Figure:
    """Points of the study's table `ablations` for one question, one row a variant."""
    rows = table[table["question"] == question]
    if rows.empty:
        return theme.nothing(ABLATIONS.title, "This study has no ablation for that question yet.")
    variants = list(dict.fromkeys(rows["variant"]))
    figure = theme.figure(ABLATIONS.title, height=_height(len(variants)), x="exact match on test")
    labels = [f"seed {seed}, η {theme.num(eta)}" for seed, eta in zip(rows["seed"], rows["eta"], strict=True)]
    _singles(figure, rows["test"], variants, rows["variant"], "single seeds", labels)
    means = rows.groupby("variant", sort=False)[["test", "test_se"]].mean()
    figure.add_scatter(
        x=means["test"],
        y=list(range(len(variants))),
        mode="markers",
        name="mean",
        error_x=theme.error_bar(means["test_se"], width=4, thickness=1.8, color=theme.NEUTRAL),
        marker={"size": 11, "color": theme.OKABE_ITO[0]},
        hovertemplate="%{x:.3g}<extra></extra>",
    )
    return _rows(figure, variants)


def cost(final: pd.DataFrame) -> go.Figure:
    """Bars of mean ``seconds``, training and measuring in two colours."""
    seconds = final.groupby("method", sort=False)[["seconds", "train_seconds"]].mean().dropna(subset=["seconds"])
    if seconds.empty:
        return theme.nothing(COST.title, "This study did not record its time.")
    seconds = seconds.sort_values("seconds")
    train = seconds["train_seconds"].fillna(0.0)
    figure = theme.figure(COST.title, height=_height(len(seconds)) + 30, x="seconds", legend=True)
    for values, name, colour in (
        (train, "training or merging", theme.OKABE_ITO[1]),
        (seconds["seconds"] - train, "signals and probes", theme.OKABE_ITO[0]),
    ):
        figure.add_bar(
            x=values, y=list(range(len(seconds))), orientation="h", name=name, marker={"color": colour},
            hovertemplate="%{x:.3g} s<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    return _rows(figure, [str(method) for method in seconds.index])


def _singles(
    figure: go.Figure, x: pd.Series, rows: Sequence[str], drawn: pd.Series, name: str, text: list[str]
) -> None:
    """Small marks a little below the row of each; drawn: the row of each."""
    figure.add_scatter(
        x=x,
        y=[rows.index(row) + 0.22 for row in drawn],
        mode="markers",
        name=name,
        marker={"size": 5, "color": theme.NEUTRAL, "opacity": 0.6},
        text=text,
        hovertemplate="%{text}: %{x:.3g}<extra></extra>",
    )


def _rows(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    ticks = [theme.as_text(name, limit=26) for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6], showgrid=False
    )
    return figure


def _height(rows: int) -> int:
    return int(130 + np.clip(32 * rows, 60, 640))
