"""The study that the pages Compare and Explain show, and what to choose in it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.spatial import forgetting_pairs, spatial_summary
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.pipelines import PIPELINES
from gcwm_viz.figures import spatial_correlation
from gcwm_viz.merging.registry import METHODS
from gcwm_viz.probes.metrics import UNITS
from gcwm_viz.signals.catalogue import SIGNALS
from gcwm_viz.statistics.association import association
from gcwm_viz.studies.lab.places import RUN, read_where
from gcwm_viz.studies.lab.tables import SHIPPED, read_study
from gcwm_viz.ui import charts, trouble
from gcwm_viz.ui.roots import run_root

TARGETS = {
    "all tasks": ("overall", "mean over all tasks"),
    "earlier tasks": ("old_mean", "mean over earlier tasks"),
    "learned": ("learned", "each task just after it was learned"),
    "arriving task": ("current", "the arriving task"),
    "forgetting": ("forgetting", "forgetting (positive = lost)"),
    "backward transfer": ("bwt", "backward transfer (negative = lost)"),
    "change in the step": ("immediate_drop", "change in this step (negative = lost)"),
    "plasticity gap": ("plasticity_gap", "plasticity gap (arriving minus earlier tasks)"),
}
"""Part of a column's name and meaning of each target, by the name that the control and a link give it."""
SCORES = ("overall", "old_mean", "learned", "current")
Tables = dict[str, pd.DataFrame]


def names() -> dict[str, str]:
    """The title of every signal by its column."""
    return {column: signal.title for column, signal in SIGNALS.items()}


def explained(runs: pd.DataFrame) -> list[str]:
    """Columns of ``runs`` that are signals to be correlated with forgetting."""
    return [column for column, signal in SIGNALS.items() if signal.explained and column in runs]


def load() -> tuple[Tables, Path]:
    """Tables and folder of ROOT/study where there is one, else of the shipped study; ends the page without one."""
    folder = run_root() / "study"
    folder = folder if (folder / "study.json").is_file() else SHIPPED
    try:
        tables = _read(str(folder), _stamp(folder))
    except InputError as error:
        st.info(
            "There is no study here yet: a table of many runs, over task orders and seeds. Compute one with: "
            f"gcwm-viz lab study --out {run_root() / 'study'}"
        )
        st.text(str(error))
        st.stop()
    if tables["runs"].empty:
        trouble.stop("No run of this study is finished yet.")
    runs = tables["runs"]
    st.caption(
        f"Runs: {len(runs[['method', 'seed', 'order']].drop_duplicates())}. Methods: {runs['method'].nunique()}. "
        f"Seeds: {runs['seed'].nunique()}. Task orders: {runs['order'].nunique()}. All on the lab, a small model. "
        "Settings were chosen on the development split."
    )
    return tables, folder


@dataclass(frozen=True)
class Measure:
    """What three controls choose: column of ``runs`` = split_metric_target, and the target's meaning."""

    target: str
    meaning: str
    split: str
    metric: str

    @property
    def column(self) -> str:
        return f"{self.split}_{self.metric}_{self.target}"


def choose_measure(default: str) -> Measure:
    boxes = st.columns([2, 1, 2, 1], gap="medium", vertical_alignment="bottom")
    names, index = list(TARGETS), list(TARGETS).index(default)
    target, meaning = TARGETS[
        boxes[0].selectbox("What is measured", names, index=index, key="target", bind="query-params")
    ]
    split = boxes[1].segmented_control("Split", ["test", "dev"], default="test", required=True)
    metric = boxes[2].segmented_control(
        "Metric", ["em", "nll"], default="em", required=True, format_func=UNITS.__getitem__
    )
    return Measure(target, meaning, split, metric)


def in_space(method: str | None) -> None:
    """Rank correlations of signals with the harm to earlier tasks, over the matrices of one task and step."""
    try:
        tables = read_where()[1]
    except InputError as error:
        st.text(str(error))
        return
    space, rows = tables["space"], forgetting_pairs(tables["space"], tables["where"])
    if method is not None:
        rows = rows[rows["method"] == method]
    if rows.empty:
        known = ", ".join(dict.fromkeys(space["method"]))
        st.caption(f"Losses were split for {known} alone: choose one of these, or all methods.")
        return
    summary = spatial_summary(rows, cluster=RUN)
    figure = spatial_correlation.spatial_correlation(
        rows, summary, names(), cluster="runs" if method else "orders and seeds"
    )
    charts.show(figure, spatial_correlation.ABOUT, rows, key="space")


def expert_mean(scores: pd.DataFrame, measure: Measure) -> float:
    """Mean over seeds and tasks of each expert's score on its own task; NaN where none was scored, and for a target
    that is not a score."""
    if measure.target not in SCORES:
        return math.nan
    experts = scores["model"] == "expert"
    rows = scores[experts & (scores["split"] == measure.split) & (scores["metric"] == measure.metric)]
    return float(rows.loc[rows["update"] == rows["task"], "value"].mean())


def data_free(methods: pd.Series) -> list[str]:
    """The merge methods among ``methods``, variants such as gcwm-no-gate included: they see no training data."""
    free = tuple(name for name, method in METHODS.items() if not method.uses_probes)
    return [method for method in methods if str(method).startswith(free)]


def needs(methods: pd.Series, tasks: int) -> pd.DataFrame:
    """Rows (method, sees, keeps): what each method sees of the tasks' data, and what it keeps from step to step."""
    rows = []
    for method in methods:
        if method in PIPELINES:
            sees = "all tasks at once" if method == "joint" else "the arriving task's data"
            rows.append({"method": method, "sees": sees, "keeps": PIPELINES[method].keeps})
        else:
            name = max((prefix for prefix in METHODS if str(method).startswith(prefix)), key=len, default="")
            alone = bool(name) and METHODS[name].sequential
            keeps = "the merged update alone" if alone else f"every update (at the end {tasks})"
            sees = "probes, finished updates" if name and METHODS[name].uses_probes else "no data, finished updates"
            rows.append({"method": method, "sees": sees, "keeps": keeps})
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
