"""The study that the pages Compare and Explain show, and what to choose in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.pipelines import PIPELINES
from gcwm_viz.merging.registry import METHODS
from gcwm_viz.probes.metrics import UNITS
from gcwm_viz.signals.catalogue import SIGNALS
from gcwm_viz.statistics.association import association
from gcwm_viz.studies.lab.tables import SHIPPED, read_study
from gcwm_viz.ui.roots import run_root

TARGETS = {
    "overall": "mean over all tasks",
    "old_mean": "mean over earlier tasks",
    "learned": "each task just after it was learned",
    "current": "the arriving task",
    "forgetting": "forgetting (positive = lost)",
    "bwt": "backward transfer (negative = lost)",
    "immediate_drop": "change in this step (negative = lost)",
    "plasticity_gap": "plasticity gap (arriving minus earlier tasks)",
}
LABELS = {
    "all tasks": "overall",
    "earlier tasks": "old_mean",
    "learned": "learned",
    "arriving task": "current",
    "forgetting": "forgetting",
    "backward transfer": "bwt",
    "change in the step": "immediate_drop",
    "plasticity gap": "plasticity_gap",
}
"""What the control and a link call the targets."""
SCORES = ("overall", "old_mean", "learned", "current")
Tables = dict[str, pd.DataFrame]


def names() -> dict[str, str]:
    """The title of every signal by its column."""
    return {column: signal.title for column, signal in SIGNALS.items()}


def explained(runs: pd.DataFrame) -> list[str]:
    """Columns of ``runs`` that are signals to be correlated with forgetting."""
    return [column for column, signal in SIGNALS.items() if signal.explained and column in runs]


def load() -> tuple[Tables, Path]:
    """Tables of ROOT/study where somebody computed one, else of the study that ships; ends the page without one."""
    folder = run_root() / "study"
    folder = folder if (folder / "study.json").is_file() else SHIPPED
    try:
        tables = _read(str(folder), _stamp(folder))
    except InputError as error:
        st.info(
            "There is no study here yet: a table of many runs, over task orders and seeds. Compute one with: "
            f"python -m gcwm_viz lab study --out {run_root() / 'study'}"
        )
        st.text(str(error))
        st.stop()
    if tables["runs"].empty:
        st.info("No run of this study is finished yet.")
        st.stop()
    runs = tables["runs"]
    st.caption(
        f"Runs: {len(runs[['method', 'seed', 'order']].drop_duplicates())}. Methods: {runs['method'].nunique()}. "
        f"Seeds: {runs['seed'].nunique()}. Task orders: {runs['order'].nunique()}. All on the lab, a small model. "
        "Settings were chosen on the development split."
    )
    return tables, folder


def choose_target(default: str) -> tuple[str, str, str]:
    """(column of ``runs``, name of the target, split_metric prefix), from three controls."""
    boxes = st.columns([2, 1, 2, 1], gap="medium", vertical_alignment="bottom")
    labels = list(LABELS)
    at = list(LABELS.values()).index(default)
    target = LABELS[boxes[0].selectbox("What is measured", labels, index=at, key="target", bind="query-params")]
    split = boxes[1].segmented_control("Split", ["test", "dev"], default="test", required=True)
    metric = boxes[2].segmented_control(
        "Metric", ["em", "nll"], default="em", required=True, format_func=UNITS.__getitem__
    )
    return f"{split}_{metric}_{target}", target, f"{split}_{metric}"


def expert_mean(scores: pd.DataFrame, prefix: str) -> float:
    """Mean over seeds and tasks of each expert's score on its own task; NaN where none was scored."""
    split, metric = prefix.split("_")
    rows = scores[(scores["model"] == "expert") & (scores["split"] == split) & (scores["metric"] == metric)]
    return float(rows.loc[rows["update"] == rows["task"], "value"].mean())


def data_free(methods: pd.Series) -> list[str]:
    """The merge methods among ``methods``, variants such as gcwm-no-gate included: they see no training data."""
    return [method for method in methods if any(str(method).startswith(name) for name in METHODS)]


def needs(methods: pd.Series, tasks: int) -> pd.DataFrame:
    """Rows (method, sees, keeps): what each method sees of the tasks' data, and what it keeps from step to step."""
    rows = []
    for method in methods:
        if method in PIPELINES:
            sees = "all tasks at once" if method == "joint" else "the arriving task's data"
            rows.append({"method": method, "sees": sees, "keeps": PIPELINES[method].keeps})
        else:
            name = max((known for known in METHODS if str(method).startswith(known)), key=len, default="")
            alone = bool(name) and METHODS[name].sequential
            keeps = "the merged update alone" if alone else f"every update (at the end {tasks})"
            rows.append({"method": method, "sees": "no data, finished updates", "keeps": keeps})
    return pd.DataFrame(rows, columns=["method", "sees", "keeps"])


def correlations(runs: pd.DataFrame, method: str | None, target: str, folder: Path) -> pd.DataFrame:
    """Every signal against ``target`` over the runs of one method (None: all), kept until the study changes."""
    return _correlations(runs, method, target, str(folder), (*_stamp(folder), *explained(runs)))


@st.cache_data(max_entries=40, show_spinner="Correlating")
def _correlations(_runs: pd.DataFrame, method: str | None, target: str, folder: str, stamp: Any) -> pd.DataFrame:
    rows = _runs if method is None else _runs[_runs["method"] == method]
    return association(rows, explained(rows), [target], by=None)


@st.cache_resource(max_entries=3, show_spinner="Reading the study")
def _read(folder: str, stamp: Any) -> Tables:
    return read_study(Path(folder))[1]


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    return tuple((file.name, file.stat().st_mtime_ns) for file in sorted((folder / "tables").glob("*.parquet")))
