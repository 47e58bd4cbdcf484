"""The part of the page Decide where a plan is put together: its forecast at once, its measured score on a click."""

import math
import time

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.plan import plan_of
from gcwm_viz.decide.plans import PURPOSE, measure_live, worth
from gcwm_viz.decide.sentences import fixed, level_words, next_words, part_words, plan_name
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.forecast import cost, search_job
from gcwm_viz.jobs.progress import duration
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import Z95
from gcwm_viz.studies.leave_one_out import check_scorable
from gcwm_viz.ui import job_card, trouble
from gcwm_viz.ui.decision import Known
from gcwm_viz.ui.live import live_model, missing, unreadable
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.text import as_markdown

PARTS = (0.0, *STRENGTHS)
"""How much of an update can be chosen."""
COLUMNS = 6
_SECONDS = "plan-seconds"
Plan = tuple[float, ...]


@st.fragment
@trouble.shown()
def section(run: Run, known: Known) -> None:
    """Choice, outcome, search and download. A choice draws this part alone, so its forecast is there at once."""
    chosen = choose(run, known)
    if not chosen:
        st.info("Nothing is chosen: this plan is the base. A plan needs at least one update.")
    else:
        _outcome(run, known, chosen)
    if known.outlook is not None:
        _search(run, known.outlook)
    if chosen:
        _download(run.store, chosen)


def choose(run: Run, known: Known) -> dict[str, float]:
    """How much of each update to take; at first what is recommended, everything without a recommendation. Strengths on
    top of the run's own, without those that are left out."""
    now = known.outlook
    advised = dict.fromkeys(run.updates, 1.0) if now is None else now.strengths(now.recommended)
    st.caption("How much of each update to take: 0 = none, ⅓ = a third of it, 1 = all of it.")
    boxes = st.columns(min(COLUMNS, len(run.updates)))
    picked, advice = dict[str, float | None](), dict[str, float]()
    for k, name in enumerate(run.updates):
        part = advised.get(name, 0.0)
        part = next((each for each in PARTS if math.isclose(each, part, abs_tol=1e-6)), part)
        # A forecast that came while the page was open brings its recommendation; one that changes leaves the choice.
        key = f"take-{run.path.name}-{k}-{now is not None}"
        advice[key] = part
        options = sorted({*PARTS, part, st.session_state.setdefault(key, part)})
        picked[key] = boxes[k % len(boxes)].segmented_control(
            as_markdown(name, 40), options, required=True, format_func=part_words, key=key
        )
    if now is not None and picked != advice:
        st.button("Take the recommended plan", on_click=st.session_state.update, args=(advice,), key="take-recommended")
    return {name: part for name, part in zip(run.updates, picked.values(), strict=True) if part}


def _outcome(run: Run, known: Known, chosen: dict[str, float]) -> None:
    """What is expected of the chosen plan, what was measured of it, and a button that measures it now."""
    plan = tuple(known.eta * chosen.get(name, 0.0) for name in run.updates)
    found = known.found(plan)
    st.markdown(f"**{as_markdown(plan_name(run.updates, chosen), 300)}**")
    boxes = st.columns(4)
    if known.now is not None:
        mean, sd = known.now.expected(plan)
        _number(boxes[0], "Expected", level_words(known.base, mean), f"± {fixed(Z95 * sd)}")
    else:
        _number(boxes[0], "Expected", "n/a", "no forecast")
    if found:
        seconds = st.session_state.get(_SECONDS, {}).get((str(run.path), plan))
        took = f" · {seconds:.1f} s" if seconds else ""
        _number(boxes[1], "Measured", level_words(known.base, found.value), f"± {fixed(Z95 * found.error)}{took}")
    else:
        with boxes[1]:
            _measure_now(run, chosen, plan)
    _number(boxes[2], "Against everything", *_against_everything(known, plan))
    best = max(known.measured, key=lambda m: m.value, default=None)
    if best is not None and found:
        parts = {name: s / known.eta for name, s in zip(run.updates, best.plan, strict=True) if s}
        name = "it is the best" if best == found else plan_name(run.updates, parts)
        _number(boxes[3], "Less than the best measured", fixed(best.value - found.value), name)
    base = "Mean" if math.isfinite(known.base) else "Change from the base of the mean"
    st.caption(f"{base} {known.unit} over tasks, development split, higher = better; ± 95 %.")
    if known.now is not None:
        _by_task(known.now, plan)


def _number(box: DeltaGenerator, label: str, value: str, note: str) -> None:
    box.metric(label, value, as_markdown(note, 60), delta_color="off", delta_arrow="off")


def _against_everything(known: Known, plan: Plan) -> tuple[str, str]:
    """Difference from the plan that takes everything, measured where both were."""
    everything = (known.eta,) * len(plan)
    own, all_of_it = known.found(plan), known.found(everything)
    if plan == everything:
        return "0", "the same plan"
    if own and all_of_it:
        return fixed(own.value - all_of_it.value, signed=True), "both measured"
    if known.now is None:
        return "n/a", "not measured"
    mean, _ = known.now.expected(plan)
    return fixed(mean - known.now.expected(everything)[0], signed=True), "expected"


def _by_task(now: Outlook, plan: Plan) -> None:
    change = now.forecast.change(now.knowledge, np.array([plan]))[0]
    rows = pd.DataFrame({"Task": now.knowledge.tasks, "Base": now.knowledge.base, "Change": change})
    rows["Forecast"] = rows["Base"] + rows["Change"]
    rows = rows.dropna(axis=1, how="all")  # nobody measured the base
    with st.expander("Forecast of every task", type="compact"):
        number = st.column_config.NumberColumn(format="%.2f")
        st.dataframe(rows, hide_index=True, width="content", column_config=dict.fromkeys(rows.columns[1:], number))
        st.caption("Exact match or accuracy, from the model alone, without what was measured of other plans.")


def _measure_now(run: Run, chosen: dict[str, float], plan: Plan) -> None:
    """The button that measures the plan in this process, or why that is impossible."""
    reason = _not_measurable(run)
    label = "Measure it"
    st.caption("Measured")
    if st.button(label, key="measure-plan", disabled=bool(reason), help=as_markdown(reason, 300) or None):
        begin = time.perf_counter()
        try:
            with live_model(run) as live, st.spinner("Merging and scoring"):
                measure_live(live, chosen)
        except InputError as error:
            trouble.show("It was not measured:", error)
            return
        st.session_state.setdefault(_SECONDS, {})[str(run.path), plan] = time.perf_counter() - begin
        st.rerun(scope="app")


def _not_measurable(run: Run) -> str:
    try:
        check_scorable(run.store, PURPOSE)
        run.store.check_kept("a plan")
        if jobs.look(run_root(), search_job(run.path, 0).name).status == "running":
            return "The search is running."
    except InputError as error:
        return str(error)
    return missing(run)


def _search(run: Run, now: Outlook) -> None:
    """What is worth measuring next, and the job that measures as long as it is worth it."""
    root = run_root()
    spec = search_job(run.path, st.session_state.get("plan-minutes", 2.0))
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    try:
        check_scorable(run.store, PURPOSE)
        run.store.check_kept("a plan")
    except InputError as error:
        st.text(f"No plan can be measured: {error}")
        return
    found = worth(now)
    seconds = cost(run)
    words = next_words(now, found)
    if found is None:
        st.caption(as_markdown(words, 400))
        return
    price = "" if math.isnan(seconds) else f" Measuring a plan takes about {duration(max(seconds, 1))}."
    st.markdown(as_markdown(words, 400) + price)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input("Minutes", 0.5, 600.0, 2.0, step=0.5, format="%.1f", key="plan-minutes", width=130)
        job_card.start_button(root, spec, "Measure the most promising plans", obstacle=unreadable(run))


def _download(store: RunStore, chosen: dict[str, float]) -> None:
    text = plan_of(store, chosen).to_yaml()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download the plan", text, "plan.yaml", "application/yaml", on_click="ignore", type="primary"
        )
        st.caption("Run it with `gcwm-viz run --plan plan.yaml --out RUN`")
    with st.expander("The plan as YAML"):
        st.code(text, language="yaml")
