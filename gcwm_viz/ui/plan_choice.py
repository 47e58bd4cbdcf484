"""The part of the page Decide where a plan is put together: its forecast at once, its measured score on a click."""

import time

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.plans import measure_live, worth
from gcwm_viz.decide.sentences import plan_name
from gcwm_viz.errors import InputError
from gcwm_viz.figures.theme import num
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.forecast import search_job
from gcwm_viz.statistics.means import Z95
from gcwm_viz.ui import job_card
from gcwm_viz.ui.decision import Decision, forget
from gcwm_viz.ui.live import live_model, obstacle
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.text import as_markdown

PARTS = {"none": 0.0, "a third": STRENGTHS[0], "whole": 1.0}
_SECONDS = "plan-seconds"


def choose(decision: Decision) -> dict[str, float]:
    """How much of each update to take; by default what the verdicts say. Strengths on top of the run's own, without
    those that are left out."""
    now, run = decision.now, decision.run
    names = run.updates
    boxes = st.columns(min(6, len(names)))
    chosen: dict[str, float] = {}
    usable = now is not None and not now.outside
    for k, name in enumerate(names):
        start = 1.0 if now is None or now.outside else now.plan[k] / now.eta
        word = min(PARTS, key=lambda each, start=start: abs(PARTS[each] - start))  # type: ignore[misc]
        with boxes[k % len(boxes)]:
            # Another recommendation resets the choice.
            part = st.segmented_control(
                as_markdown(name, 40), PARTS if usable else ("none", "whole"), default=word, required=True,
                key=f"take-{run.path.name}-{k}-{word}-{usable}",
            )  # fmt: skip
        if PARTS[part]:
            chosen[name] = PARTS[part]
    return chosen


def outcome(decision: Decision, chosen: dict[str, float]) -> None:
    """What is expected of the chosen plan, what was measured of it, and a button that measures it now."""
    now = decision.now
    if now is None or not chosen:
        return
    plan = tuple(now.eta * chosen.get(name, 0.0) for name in now.knowledge.updates)
    base, found = float(now.knowledge.base.mean()), now.found(plan)
    left, right = st.columns([3, 1], vertical_alignment="center")
    parts = []
    if not now.outside:
        mean, sd = now.expected(plan)
        parts.append(f"Expected **{num(base + mean)}** ± {num(Z95 * sd)}")
        if plan != now.everything:
            parts.append(f"{num(mean - now.expected(now.everything)[0], signed=True)} against everything")
    parts.append(f"measured **{num(base + found.value)}** ± {num(Z95 * found.error)}" if found else "not measured yet")
    seconds = st.session_state.get(_SECONDS, {}).get(plan)
    took = f" in {seconds:.1f} s" if seconds else ""
    left.markdown(f"{as_markdown(plan_name(now, plan), 200)}: {', '.join(parts)}{took}. Mean over tasks, 95 %.")
    if not now.outside:
        _by_task(now, plan)
    if not found:
        _measure_now(decision, now, plan, right)


def _by_task(now: Outlook, plan: tuple[float, ...]) -> None:
    rows = pd.DataFrame({"task": now.knowledge.tasks, "base": now.knowledge.base, "forecast": now.by_task(plan)})
    with st.expander("Forecast of every task", type="compact"):
        column = st.column_config
        config = {name: column.NumberColumn(format="%.2f") for name in ("base", "forecast")}
        st.dataframe(rows, hide_index=True, column_config=config)
        st.caption("Exact match or accuracy, from the model alone, without what was measured of other plans.")


def _measure_now(decision: Decision, now: Outlook, plan: tuple[float, ...], place: DeltaGenerator) -> None:
    try:
        reason = obstacle(decision.run)
    except InputError as error:
        reason = str(error)
    if place.button("Measure it", disabled=bool(reason), help=as_markdown(reason, 300) or None, width="stretch"):
        begin = time.perf_counter()
        try:
            with live_model(decision.run) as live:
                measure_live(live, now.strengths(plan))
        except InputError as error:
            st.text(str(error))
            return
        st.session_state.setdefault(_SECONDS, {})[plan] = time.perf_counter() - begin
        forget(decision.run)


def search(decision: Decision) -> None:
    """What is worth measuring next, and the job that measures as long as it is worth it."""
    now = decision.now
    if now is None or now.outside:
        return
    root = run_root()
    minutes = st.session_state.get("plan-minutes", 2.0)
    spec = search_job(decision.run.path, minutes)
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    found = worth(now)
    if found is None:
        st.caption("No further plan is worth measuring: none is expected to be better by more than 0.002.")
        return
    name = plan_name(now, tuple(now.belief.plans_pt[found[0]]))
    st.markdown(
        f"Worth measuring next: {as_markdown(name, 200)}. Expected improvement {num(found[1])} over the best that was "
        "measured, at the cost of one merge and its scores."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input("Minutes", 0.5, 600.0, 2.0, step=0.5, key="plan-minutes", width=120)
        job_card.start_button(root, spec, "Measure the most promising plans")
