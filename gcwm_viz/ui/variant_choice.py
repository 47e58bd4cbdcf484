"""The part of the page Try that chooses: updates with order and strength, η, gate, coefficients, undo and redo.

A change makes another variant. Where that did not come from a control itself, as an undo does not, the controls are new
ones that start from it: the browser loses a value set by the session where one drawing soon follows another.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import streamlit as st

from gcwm_viz.calibration.result import FITTED, FOLDER
from gcwm_viz.decide.variant import GATE, Variant, parse
from gcwm_viz.decide.variants import order_matters
from gcwm_viz.errors import InputError
from gcwm_viz.runs.tables import Run
from gcwm_viz.studies.regate import check_regatable
from gcwm_viz.ui import whatif
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.variant_trail import trail_of
from gcwm_viz.updates.strength import MOST, WHOLE

LEAST = 0.01
"""Of strengths and η in their fields."""


def show(run: Run, variant: Variant) -> None:
    """All controls; each change is a new variant, which the next drawing shows."""
    _way(run)
    _updates(run, variant)
    names = [name for name, _ in variant.updates]
    if len(names) > 1 and not order_matters(run.store):
        st.caption("Their order does not change this run's merge: all are active together, with one weight.")
    left, right = st.columns(2, vertical_alignment="bottom")
    key = trail_of(run).key("eta")
    left.number_input(
        "η", LEAST, None, float(variant.settings.continual.eta), step=0.05, format="%.3g", key=key,
        on_change=_edit, args=(run, lambda now: now.at(eta=_value(key))),
        help="The state is η times the merged update, where η is constant",
    )  # fmt: skip
    with right:
        _coefficients(run, variant)
    _gate(run, variant)


def _way(run: Run) -> None:
    """Undo, redo, and back to the run."""
    trail = trail_of(run)
    with st.container(horizontal=True, gap="small"):
        st.button("Undo", icon=":material/undo:", disabled=trail.at == 0, on_click=trail.move, args=(-1,))
        last = trail.at == len(trail.texts) - 1
        st.button("Redo", icon=":material/redo:", disabled=last, on_click=trail.move, args=(1,))
        as_run = Variant.as_run(run.store).text(run.store)
        st.button("As run", disabled=trail.text == as_run, on_click=trail.go, args=(as_run,))


def _updates(run: Run, variant: Variant) -> None:
    """A row for each update taken, and a button for each left out."""
    last = len(variant.updates) - 1
    for place, (name, strength) in enumerate(variant.updates):
        boxes = st.columns([2.6, 2.2, 0.8, 0.8, 0.8], vertical_alignment="center", gap="xsmall")
        said, key = as_markdown(name, 40), trail_of(run).key(f"strength-{run.updates.index(name)}")
        boxes[0].markdown(f"{place + 1} **{said}**")
        boxes[1].number_input(
            f"Strength of {said}", LEAST, MOST, strength, step=0.1, format="%.3g", key=key,
            label_visibility="collapsed", on_change=_edit, args=(run, partial(_strengthened, name, key)),
        )  # fmt: skip
        for box, label, by in ((boxes[2], "↑", -1), (boxes[3], "↓", 1)):
            box.button(
                label, key=f"try-{label}-{place}", help=f"Move {said} {'up' if by < 0 else 'down'}", width="stretch",
                disabled=not 0 <= place + by <= last, on_click=_change, args=(run, partial(_moved, place, by)),
            )  # fmt: skip
        boxes[4].button(
            "✕", key=f"try-out-{place}", help=f"Take {said} out of the merge", width="stretch", disabled=last == 0,
            on_click=_change, args=(run, partial(_without, name)),
        )  # fmt: skip
    taken = {name for name, _ in variant.updates}
    if left_out := [name for name in run.updates if name not in taken]:
        with st.container(horizontal=True, gap="small"):
            for name in left_out:
                st.button(
                    f"Add {as_markdown(name, 40)}", key=f"try-add-{run.updates.index(name)}", icon=":material/add:",
                    on_click=_change, args=(run, partial(_with, run, name)),
                )  # fmt: skip


def _coefficients(run: Run, variant: Variant) -> None:
    key = trail_of(run).key("calibrated")
    there = (run.path / FOLDER / FITTED).is_file()
    st.toggle(
        "Calibrated", variant.calibrated, key=key, disabled=not (there or variant.calibrated), on_change=_edit,
        args=(run, lambda now: replace(now, calibrated=bool(st.session_state[key]))),
        help="Coefficients fitted on development probes to the run as it stands, applied here to what you choose."
        if there else "This run has no calibration; the command calibrate computes one.",
    )  # fmt: skip


def _gate(run: Run, variant: Variant) -> None:
    try:
        check_regatable(run.store)
    except InputError as error:
        st.text(f"No other gate: {error}")
        return
    config = run.store.settings.gcwm
    title, switch = st.columns(2, vertical_alignment="center")
    title.markdown("**Gate**")
    boxes = [*st.columns(2), *st.columns(2), switch]
    edit = partial(_edit, run, partial(_gated, run))
    whatif.gate_settings(config, boxes, trail_of(run).key("gate"), now=variant.settings.gcwm, on_change=edit)


def _change(run: Run, change: Callable[[Variant], Variant], *, anew: bool = True) -> None:
    trail = trail_of(run)
    trail.go(change(parse(trail.text, run.store)).text(run.store), anew=anew)


def _edit(run: Run, change: Callable[[Variant], Variant]) -> None:
    """Of a control, which shows the change already."""
    _change(run, change, anew=False)


def _strengthened(name: str, key: str, now: Variant) -> Variant:
    return replace(now, updates=tuple((own, _value(key) if own == name else s) for own, s in now.updates))


def _moved(place: int, by: int, now: Variant) -> Variant:
    updates = list(now.updates)
    updates[place], updates[place + by] = updates[place + by], updates[place]
    return replace(now, updates=tuple(updates))


def _without(name: str, now: Variant) -> Variant:
    return replace(now, updates=tuple(pair for pair in now.updates if pair[0] != name))


def _with(run: Run, name: str, now: Variant) -> Variant:
    """Before the first update that the run takes after it."""
    order, updates = run.updates.index, list(now.updates)
    place = next((place for place, (other, _) in enumerate(updates) if order(other) > order(name)), len(updates))
    updates.insert(place, (name, WHOLE))
    return replace(now, updates=tuple(updates))


def _gated(run: Run, now: Variant) -> Variant:
    gate = whatif.gate_shown(run.store.settings.gcwm, trail_of(run).key("gate"))
    return now.at(**{name: getattr(gate, name) for name in GATE})


def _value(key: str) -> float:
    return float(st.session_state[key])
