"""What the parts of the page Decide share: a run's outlook, computed once, and what was measured of each update."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import streamlit as st

from gcwm_viz.decide.evidence import Candidate, candidates
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.plans import outlook_of
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import UNITS, offered
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.scoring import choose_measure

_outlooks: WeakKeyDictionary[Run, tuple[Outlook | None, str]] = WeakKeyDictionary()
"""Outlooks of the loaded runs: ticking a box must not compute them again. A run is loaded anew when its folder
changes."""


@dataclass(frozen=True)
class Decision:
    """``now``: None where there is no forecast, and ``reason`` says why. ``split`` and ``metric`` are those of what was
    measured; a forecast is always one of exact match or accuracy on the development split."""

    run: Run
    now: Outlook | None
    reason: str
    split: str
    metric: str
    candidates: list[Candidate]

    @property
    def unit(self) -> str:
        return UNITS[self.metric]


def decide(run: Run) -> Decision:
    """Controls for what was measured, and the decision."""
    scores = run.tables["scores"]
    splits = [name for name in ("dev", "test") if name in set(scores["split"])] or ["dev"]
    split, metric = choose_measure("Measured on", splits, offered(scores), splits[0], key="decide")
    now, reason = _outlook(run)
    return Decision(run, now, reason, split, metric, candidates(run.tables, split, metric))


def _outlook(run: Run) -> tuple[Outlook | None, str]:
    if run not in _outlooks:
        try:
            _outlooks[run] = outlook_of(run), ""
        except InputError as error:
            _outlooks[run] = None, str(error)
    return _outlooks[run]


def forget(run: Run) -> None:
    """Compute the outlook again: more was measured."""
    _outlooks.pop(run, None)
    st.rerun()
