"""The part of the page Try that scores what the reader chose.

A small model scores the development split on every change, a larger one on a press; the test split is always a press.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.variant import AS_RUN, Variant
from gcwm_viz.decide.variants import Variants
from gcwm_viz.errors import InputError
from gcwm_viz.jobs.forecast import cost
from gcwm_viz.jobs.progress import duration
from gcwm_viz.linalg.threads import SMALL
from gcwm_viz.probes.values import TaskValues
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import trouble
from gcwm_viz.ui.live import key_of, live_model, missing
from gcwm_viz.ui.scoring import SPLITS
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.variant_trail import trail_of

PATIENCE_S = 5.0
"""A larger model scores by itself where it is expected to take no longer."""
REDRAW_S = 1.0
AHEAD_S = 0.5
"""Of every second."""
_FRESH, _FAILED = "try-fresh", "try-failed"
Values = Sequence[TaskValues]


def values_of(
    run: Run, variant: Variant, split: str, bar: DeltaGenerator, draw_partly: Callable[[Values], None]
) -> Values:
    """What the variant shown scores: as the run stored it, as measured before, or measured now; empty where that waits
    for a press or cannot be. ``bar``: for progress, or why. ``draw_partly``: called with the tasks scored so far."""
    trail, held = trail_of(run), _held(*key_of(run))
    for text, each in ((AS_RUN, Variant.as_run(run.store)), (trail.text, variant)):
        if (text, split) not in trail.scored and (stored := held.stored(each, split)):
            trail.scored[text, split] = stored, 0.0
    at = trail.text, split
    if at in trail.scored:
        return trail.scored[at][0]
    with bar.container():
        if reason := missing(run):
            st.text(f"The app cannot score this: {reason}")
            st.caption("The page Decide and the command `plan` merge and score as a job.")
            return []
        expected = held.expected(variant, split)
        itself = split == "dev" and (_is_small(run) or expected <= PATIENCE_S)
        if not itself and not _pressed(split, expected if math.isfinite(expected) else cost(run)):
            return []
    found: list[TaskValues] = []
    try:
        with live_model(run) as live:
            begin = drawn = time.perf_counter()

            def tell(done: int, total: int) -> None:
                bar.progress(done / total, f"Merging: {done} of {total} matrices")

            for values in held.scores(live, variant, split, tell):
                found.append(values)
                bar.progress(len(found) / held.count(split), f"Scored {as_markdown(values.name, 60)}")
                if time.perf_counter() - drawn > REDRAW_S:
                    draw_partly(found)
                    drawn = time.perf_counter()
    except InputError as error:
        with bar.container():
            trouble.show("It was not scored:", error)
        return []
    bar.empty()
    trail.scored[at] = found, time.perf_counter() - begin
    return found


def work_ahead(run: Run, variant: Variant) -> None:
    """While the reader looks at a small model's scores: load it, and merge what taking an update out would need."""
    wanted = _held(*key_of(run)).likely(variant) is not None and st.session_state.get(_FAILED) != run.path
    if wanted and _is_small(run) and not missing(run):
        st.session_state[_FRESH] = True
        _ahead(run, variant)


@st.fragment(run_every=1.0)
def _ahead(run: Run, variant: Variant) -> None:
    if st.session_state.pop(_FRESH, False):  # with the page itself, which must not wait for it
        return
    # It ends without st.rerun, which would bring the address of this drawing back over one that came meanwhile.
    held = _held(*key_of(run))
    if st.session_state.get(_FAILED) == run.path or (taken := held.likely(variant)) is None:
        return
    try:
        with live_model(run):
            held.merge_ahead(taken, AHEAD_S)
    except InputError:  # it is said where the reader scores something
        st.session_state[_FAILED] = run.path


def _pressed(split: str, expected: float) -> bool:
    price = "" if math.isnan(expected) else f", about {duration(max(expected, 1))}"
    return st.button(f"Score on the {SPLITS[split]} split{price}", type="primary", key=f"try-score-{split}")


def _is_small(run: Run) -> bool:
    return sum(key.parameters for key in run.store.keys) < SMALL


@st.cache_resource(max_entries=1, show_spinner=False)
def _held(path: str, stamp: tuple[int, ...]) -> Variants:
    """Merges of one run at a time, for all its readers."""
    del stamp
    return Variants(RunStore.open(Path(path)))
