"""The metrics of probes: unit, and whether higher is better.

em        exact match: the greedy answer is the right one, token by token; in [0, 1], higher is better
acc       accuracy: the right choice is the likeliest; in [0, 1], higher is better
acc_norm  the same by log-probability over the choice's length (of harness tasks); in [0, 1], higher is better
accuracy  the first of the three above that a task has; in [0, 1], higher is better
nll       nats per token of the right answer, choice or text; ≥ 0, lower is better
ppl       perplexity of texts, exp(nll); ≥ 1, lower is better
bpb       bits per byte of texts (of harness tasks); ≥ 0, lower is better
"""

from collections.abc import Container

import pandas as pd

METRICS = {
    "em": True, "acc": True, "acc_norm": True, "accuracy": True, "nll": False, "ppl": False, "bpb": False,
}  # fmt: skip
"""Probe metric → higher is better."""
UNITS = {
    "em": "exact match",
    "acc": "accuracy",
    "acc_norm": "normalised accuracy",
    "accuracy": "exact match or accuracy",
    "nll": "nats per token",
    "ppl": "perplexity",
    "bpb": "bits per byte",
}
OWN = ("em", "acc", "acc_norm")
"""The candidates for a task's accuracy, in order of preference."""


def rows_of_metric(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric; for ``accuracy``, of every task and split the first of :data:`OWN` that it has.

    scores: any table with the columns task, split and metric.
    """
    if metric != "accuracy":
        return scores[scores["metric"] == metric]
    rank = scores["metric"].map({name: rank for rank, name in enumerate(OWN)})
    first = rank.groupby([scores["task"], scores["split"]]).transform("min")
    return scores[rank.notna() & (rank == first)]


def own_metric(metrics: Container[str], metric: str) -> str | None:
    """``metric`` where a task has it among its ``metrics``, for ``accuracy`` the first of :data:`OWN` among them; else
    None."""
    return next((name for name in (OWN if metric == "accuracy" else (metric,)) if name in metrics), None)


def offered(scores: pd.DataFrame) -> list[str]:
    """The metrics of a table of scores, the headline first: the one of :data:`OWN` that every task with any of them
    has, else ``accuracy``. ``em`` for a table without scores.

    scores: any table with the columns task and metric.
    """
    tasks = {name: set(scores.loc[scores["metric"] == name, "task"]) for name in OWN}
    own = sorted((name for name in OWN if tasks[name]), key=lambda name: -len(tasks[name]))
    mixed = bool(own) and tasks[own[0]] != set().union(*tasks.values())
    others = set(scores["metric"]) - set(own)
    return [*(["accuracy"] if mixed else []), *own, *(name for name in METRICS if name in others)] or ["em"]


def headline(scores: pd.DataFrame) -> str:
    """The metric that a page or command shows by default."""
    return offered(scores)[0]


def is_share(metric: str) -> bool:
    """Whether the value of every example is 0 or 1."""
    return metric in OWN or metric == "accuracy"
