"""The variants of a run that a session tried: where it is, the way back, and what each scored. The one shown stands in
the address."""

import math
from dataclasses import dataclass, field

import streamlit as st

from gcwm_viz.decide.variant import AS_RUN, Variant, parse
from gcwm_viz.errors import InputError
from gcwm_viz.probes.values import TaskValues
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import trouble

PARAMETER = "try"
_SHOWN = "try-shown"


@dataclass
class Trail:
    """``texts``: variants in the order in which they were chosen, ``at`` the place of the one shown. ``scored``: what
    was measured, by variant and split, with its seconds; 0 where the run stored it. ``drawn``: how
    often the controls were new ones."""

    texts: list[str] = field(default_factory=lambda: [AS_RUN])
    at: int = 0
    drawn: int = 0
    scored: dict[tuple[str, str], tuple[list[TaskValues], float]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.texts[self.at]

    def seconds(self, split: str) -> float:
        """That the scores of the variant shown took; NaN where it has none."""
        return self.scored.get((self.text, split), ([], math.nan))[1]

    def key(self, control: str) -> str:
        """Of a control that starts from the variant shown."""
        return f"try-{control}-{self.drawn}"

    def go(self, text: str, *, anew: bool = True) -> None:
        """Show another variant; what was undone is forgotten, as in an editor. anew: with new controls."""
        if text != self.text:
            self.texts = [*self.texts[: self.at + 1], text]
            self.at += 1
        self.drawn += anew

    def move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), len(self.texts) - 1)
        self.drawn += 1


def trail_of(run: Run) -> Trail:
    """The session's own."""
    trail: Trail = st.session_state.setdefault(f"try-trail-{run.path}", Trail())
    return trail


def current(run: Run) -> Variant:
    """The variant to show: that of the address where the reader has just come by it, else the one chosen last."""
    trail, asked, shown = trail_of(run), st.query_params.get(PARAMETER), st.session_state.get(_SHOWN)
    if asked is not None and (shown is None or (shown[0] == run.path and shown[1] != asked)):
        try:
            trail.go(parse(asked, run.store).text(run.store))
        except InputError as error:
            trouble.show("The link's variant cannot be shown:", error)
    if asked != trail.text:
        st.query_params[PARAMETER] = trail.text
    st.session_state[_SHOWN] = run.path, trail.text
    return parse(trail.text, run.store)
