"""Scoring the what-if gate by the probes: a job of the ``regate`` command, its answer beside the run's own scores."""

from typing import Any

import pandas as pd
import streamlit as st

from gcwm_viz.figures import task_scores
from gcwm_viz.figures.about import About
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.regate import answer_file, obstacle, read_answer, regate_job
from gcwm_viz.probes.metrics import METRICS, UNITS, offered, rows_of_metric
from gcwm_viz.statistics.means import Z95, error_over_tasks
from gcwm_viz.studies.regate import GATE_SETTINGS
from gcwm_viz.ui import charts, job_card
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.scoring import choose_measure

ABOUT = About(
    title="Scores with this gate, and as run",
    line="The same examples answered by the merged model as it was and with the gate above, with 95 % intervals over "
    "the examples.",
    source="equation (6)",
)


def show(view: View, config: GCWMConfig) -> None:
    """Button, progress and answer for the gate ``config`` at the chosen step."""
    st.header("Does another gate score better?", anchor=False)
    run, root = view.run.path, run_root()
    if reason := obstacle(view.run.store):
        st.text(f"Not possible: {reason}")
        return
    spec = regate_job(root, run, view.step, config)
    job = jobs.look(root, spec.name)
    answer = read_answer(answer_file(root, run, view.step, config))
    if job.status == "running":
        job_card.watch(root, spec)
    elif answer is not None:
        _answer(answer, view.run.updates)
    else:
        st.markdown("This mixes the branches again by the gate above and scores the model of the chosen step.")
        job_card.show_ending(spec, job)
        same = all(getattr(config, setting) == getattr(view.config, setting) for setting in GATE_SETTINGS)
        job_card.start_button(root, spec, "Score this gate", obstacle="Move a slider above first" if same else "")


def _answer(answer: dict[str, Any], updates: list[str]) -> None:
    rows = pd.DataFrame(answer["scores"])
    splits = list(dict.fromkeys(rows["split"]))
    split, metric = choose_measure("Split", splits, offered(rows), splits[-1], key="regate")
    part = rows_of_metric(rows[rows["split"] == split], metric).set_index("task")
    part = part.drop(columns=["split", "metric"]).astype(float)
    arrived = [name for name in updates if name in part.index]
    part = part.reindex([*arrived, *(name for name in part.index if name not in arrived)])
    boxes = st.columns(3)
    change = float(part["difference"].mean())
    error = error_over_tasks(part["difference_se"])
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
