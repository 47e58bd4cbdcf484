"""Scoring the what-if gate by the probes: a job of the ``regate`` command, its answer beside the run's own scores."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.figures import task_scores
from gcwm_viz.figures.about import About
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration
from gcwm_viz.probes.metrics import METRICS, UNITS, offered, rows_of_metric
from gcwm_viz.statistics.means import Z95, error_over_tasks
from gcwm_viz.studies.regate import FORMAT, GATE_SETTINGS, check_regatable
from gcwm_viz.ui import charts
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.trouble import told

ABOUT = About(
    title="Scores with this gate, and as run",
    line="The same examples answered by the merged model as it was and with the gate above, with 95 % intervals over "
    "the examples.",
    source="equation (6)",
)


def show(view: View, config: GCWMConfig) -> None:
    """Button, progress and answer for the gate ``config`` at the chosen step."""
    st.header("Does another gate score better?", anchor=False)
    store, root = view.run.store, run_root()
    try:
        check_regatable(store)
    except InputError as error:
        st.text(f"Not here: {error}")
        return
    if not store.file.probes.where:
        st.text("Not here: this run was started without probes.")
        return
    name = job_name(store.path)
    out = answer_file(root, store.path, view.step, config)
    job = jobs.look(root, name)
    answer = read_answer(out)
    if job.status == "running":
        _watch(root, name)
    elif answer is not None:
        _answer(answer, view.run.updates)
    else:
        same = all(getattr(config, setting) == getattr(view.config, setting) for setting in GATE_SETTINGS)
        st.markdown("The branches are mixed anew with the gate above and the model of the chosen step is probed.")
        if job.status in ("failed", "died"):
            st.warning("The last scoring ended with an error:")
            st.text(job.message or "It left no message.")
        if st.button("Score this gate", disabled=same, help="Move a slider above first" if same else None):
            out.parent.mkdir(parents=True, exist_ok=True)
            jobs.start(root, name, arguments(store.path, view.step, config, out))
            st.rerun()


def job_name(run: Path) -> str:
    """One scoring at a time for each run."""
    return f"regate-{hashlib.sha256(str(run).encode()).hexdigest()[:16]}"


def answer_file(root: Path, run: Path, step: int, config: GCWMConfig) -> Path:
    """Where the answer for this step and gate lies: a gate that was scored once is never scored again. Another run in
    the same folder has other answers: run.json holds its settings and the fingerprints of its inputs."""
    made_of = hashlib.sha256((run / "run.json").read_bytes()).hexdigest()
    wanted = json.dumps([made_of, step, *(getattr(config, setting) for setting in GATE_SETTINGS)])
    return root / ".jobs" / job_name(run) / f"{hashlib.sha256(wanted.encode()).hexdigest()[:16]}.json"


def arguments(run: Path, step: int, config: GCWMConfig, out: Path) -> list[str]:
    settings = [part for name in GATE_SETTINGS for part in ("--set", f"{name}={getattr(config, name)}")]
    return ["regate", str(run), "--step", str(step), *settings, "--out", str(out)]


def read_answer(file: Path) -> dict[str, Any] | None:
    """What the command wrote, or None where there is nothing readable of it."""
    try:
        answer = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) and answer.get("format") == FORMAT else None


@st.fragment(run_every=1.0)
@told()
def _watch(root: Path, name: str) -> None:
    job = jobs.look(root, name)
    if job.status != "running":
        st.rerun(scope="app")
    spent = time.time() - job.started
    st.markdown("Scoring the model as run, then with this gate." + (f" {duration(spent)} so far." * (spent == spent)))
    if st.button("Cancel", key="regate-cancel"):
        jobs.cancel(root, name, root / ".jobs" / name)


def _answer(answer: dict[str, Any], updates: list[str]) -> None:
    rows = pd.DataFrame(answer["scores"])
    splits, metrics = list(dict.fromkeys(rows["split"])), offered(rows)
    left, right = st.columns([1, 3])
    split = left.segmented_control("Split", splits, default=splits[-1], required=True, key="regate-split")
    metric = right.segmented_control(
        "Metric", metrics, default=metrics[0], required=True, format_func=UNITS.__getitem__, key="regate-metric"
    )
    part = rows_of_metric(rows[rows["split"] == split], metric).set_index("task")
    part = part.drop(columns=["split", "metric"]).astype(float)
    arrived = [name for name in updates if name in part.index]
    part = part.reindex([*arrived, *(name for name in part.index if name not in arrived)])
    boxes = st.columns(3)
    change, error = float(part["difference"].mean()), error_over_tasks(part["difference_se"])
    better = "higher is better" if METRICS[metric] else "lower is better"
    boxes[0].metric("As run", num(part["as_run"].mean()), help=f"Mean {UNITS[metric]} over tasks; {better}")
    boxes[1].metric("With this gate", num(part["regated"].mean()), help=f"Step {answer['step']}; {better}")
    examples = num(int(part["n"].sum()))
    boxes[2].metric("Change", f"{num(change, signed=True)} {margin(error)}",
                    help=f"Mean paired difference over tasks; 95 % over {examples} examples")  # fmt: skip
    if not abs(change) > Z95 * error:
        st.caption("The 95 % interval of the change covers zero: these probes do not tell the two gates apart.")
    models = {"as run": (part["as_run"], part["as_run_se"]), "this gate": (part["regated"], part["regated_se"])}
    figure = task_scores.task_scores(models, unit=UNITS[metric], title=ABOUT.title)
    charts.show(figure, ABOUT, part.reset_index(), key="regate")
