"""Charts pinned to the talk: the button under a chart, and each pin as a screen of the talk."""

from contextlib import suppress
from functools import partial

import plotly.graph_objects as go
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.figures.about import Explained
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import pin_file, selection
from gcwm_viz.ui.loading import load_run
from gcwm_viz.ui.page import FILES
from gcwm_viz.ui.pin_file import Pin
from gcwm_viz.ui.roots import run_folder, run_names, run_root
from gcwm_viz.ui.stage import SCREEN, Screen, Stage, go_to
from gcwm_viz.ui.text import as_markdown

_UNSAVED = "talk-pins"
"""In the session: the pins of runs whose folder cannot be written, by path."""


def button(figure: go.Figure, about: Explained, key: str) -> None:
    """A button that pins the chart ``key`` of this page."""
    st.button(
        "Pin to the talk", key=f"{key}-pin", icon=":material/keep:", on_click=_pin, args=(figure, about, key),
        help="Adds this chart, as it is drawn now, to the screens of Talk.",
    )  # fmt: skip


def _pin(figure: go.Figure, about: Explained, key: str) -> None:
    try:
        run = _run()
        parameters = st.query_params.to_dict() | selection.requested() | {"run": run.path.name}
        pin = Pin(selection.page(), key, parameters, about.title, about.line, str(figure.to_json()))
        pins = pin_file.added(of(run), pin)
    except (InputError, OSError) as error:
        st.toast(as_markdown(error, 400), icon=":material/error:")
        return
    reason = _save(run, pins)
    lasts = f", for this session only: {as_markdown(reason, 300)}" if reason else ""
    st.toast(f"Pinned to the talk about {as_markdown(run.path.name, 60)}{lasts}.", icon=":material/keep:")


def _run() -> Run:
    """The run whose talk it is: the one selected last, or else the first of the root."""
    names = run_names(run_root())
    wanted = selection.requested().get("run", "")
    if not names:
        raise InputError("There is no run yet whose talk could show this chart.")
    return load_run(run_folder(wanted if wanted in names else names[0]))


def of(run: Run) -> list[Pin]:
    """The pins of a run's talk. Raises :class:`InputError` for a file of them that cannot be read."""
    unsaved: dict[str, list[Pin]] = st.session_state.get(_UNSAVED, {})
    return unsaved[str(run.path)] if str(run.path) in unsaved else pin_file.read(run.path)


def _save(run: Run, pins: list[Pin]) -> str:
    """Keep the pins, for the session where the folder cannot be written; then the reason, else an empty text."""
    unsaved: dict[str, list[Pin]] = st.session_state.setdefault(_UNSAVED, {})
    try:
        pin_file.write(run.path, pins)
    except InputError as error:
        unsaved[str(run.path)] = pins
        return str(error)
    unsaved.pop(str(run.path), None)
    return ""


def screens(run: Run) -> list[Screen]:
    """One screen a pin; of a file that cannot be read, one that says why."""
    try:
        pins = of(run)
    except InputError as error:
        reason = as_markdown(error, 600)
        return [Screen("Pins", "The pinned charts cannot be read", lambda stage: stage.say(f"{reason}."))]
    return [
        Screen(
            f"Pin {place}",
            as_markdown(pin.title, 120),
            partial(_draw, run=run, pin=pin, place=place, last=place == len(pins)),
        )
        for place, pin in enumerate(pins, start=1)
    ]


def _draw(stage: Stage, run: Run, pin: Pin, place: int, last: bool) -> None:
    stage.say(as_markdown(pin.line, 600))
    stage.plot(pin.draw(), key=f"pin-{place}", alt=f"{pin.title}. {pin.line}")
    with stage.controls:
        drawn = ", ".join(f"{name} {pin.parameters[name]}" for name in selection.NAMES if name in pin.parameters)
        st.caption(f"Snapshot of {as_markdown(pin.page)}: {as_markdown(drawn, 120)}", width="content")
        there = {name: text for name, text in pin.parameters.items() if name != SCREEN}
        selection.link(FILES[pin.page], "Open it there", **there)
        st.button("Earlier", key="pin-earlier", on_click=_move, args=(run, pin, -1), disabled=place == 1)
        st.button("Later", key="pin-later", on_click=_move, args=(run, pin, 1), disabled=last)
        st.button("Unpin", key="pin-remove", on_click=_remove, args=(run, pin))


def _remove(run: Run, pin: Pin) -> None:
    with suppress(InputError):  # which the next drawing says
        _save(run, [own for own in of(run) if not own.same_chart(pin)])


def _move(run: Run, pin: Pin, by: int) -> None:
    """Exchange it with a neighbour and stay with it. Another window may have changed the pins since."""
    with suppress(InputError):
        pins = of(run)
        at = next((place for place, own in enumerate(pins) if own.same_chart(pin)), -1)
        if at >= 0 and 0 <= at + by < len(pins):
            pins[at], pins[at + by] = pins[at + by], pins[at]
            _save(run, pins)
            go_to(int(st.session_state[SCREEN]) + by)
